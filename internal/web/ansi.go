package web

import (
	"strconv"
	"strings"
)

// segment is a piece of a log line in one style. Class names a style of the
// stylesheet, "" for plain text.
type segment struct {
	Class string
	Text  string
}

// sgr is the state of ECMA-48 "select graphic rendition", as far as it is shown.
// Colours are 1..16 for the sixteen of the terminal, 0 for none.
type sgr struct {
	fg, bg                         int
	bold, dim, italic, under, flip bool
}

// ansiSegments splits a line at its SGR sequences. Log lines hold no other control
// sequences; one that is not understood is left out. static/ansi.js does the same.
func ansiSegments(text string) []segment {
	if !strings.Contains(text, "\x1b[") {
		return []segment{{Text: text}}
	}
	var out []segment
	var st sgr
	for text != "" {
		i := strings.Index(text, "\x1b[")
		if i < 0 {
			i = len(text)
		}
		if i > 0 {
			out = append(out, segment{st.class(), text[:i]})
		}
		if text = text[i:]; text == "" {
			break
		}
		text = text[2:]
		end := strings.IndexFunc(text, func(r rune) bool { return r != ';' && r != ':' && (r < '0' || r > '9') })
		if end < 0 {
			break
		}
		if text[end] == 'm' {
			st.apply(strings.FieldsFunc(orZero(text[:end]), func(r rune) bool { return r == ';' || r == ':' }))
		}
		if text[end] >= '@' && text[end] <= '~' { // the final byte (ECMA-48, 5.4)
			end++
		}
		text = text[end:]
	}
	return out
}

func orZero(s string) string {
	if s == "" {
		return "0"
	}
	return s
}

func (s *sgr) apply(params []string) {
	for i := 0; i < len(params); i++ {
		n, _ := strconv.Atoi(params[i])
		switch {
		case n == 0:
			*s = sgr{}
		case n == 1:
			s.bold = true
		case n == 2:
			s.dim = true
		case n == 3:
			s.italic = true
		case n == 4:
			s.under = true
		case n == 7:
			s.flip = true
		case n == 22:
			s.bold, s.dim = false, false
		case n == 23:
			s.italic = false
		case n == 24:
			s.under = false
		case n == 27:
			s.flip = false
		case n >= 30 && n <= 37:
			s.fg = n - 29
		case n >= 90 && n <= 97:
			s.fg = n - 81
		case n >= 40 && n <= 47:
			s.bg = n - 39
		case n >= 100 && n <= 107:
			s.bg = n - 91
		case n == 39:
			s.fg = 0
		case n == 49:
			s.bg = 0
		case n == 38 || n == 48:
			colour, used := extended(params[i+1:])
			i += used
			if n == 38 {
				s.fg = colour
			} else {
				s.bg = colour
			}
		}
	}
}

// extended reads "5;N" or "2;R;G;B" and returns the nearest of the sixteen colours.
func extended(p []string) (colour, used int) {
	at := func(i int) int { n, _ := strconv.Atoi(p[i]); return n & 255 }
	switch {
	case len(p) >= 2 && p[0] == "5":
		switch n := at(1); {
		case n < 16:
			return n + 1, 2
		case n >= 232:
			v := (n - 232) * 10
			return nearest(v, v, v), 2
		default:
			n -= 16
			return nearest(n/36*51, n/6%6*51, n%6*51), 2
		}
	case len(p) >= 4 && p[0] == "2":
		return nearest(at(1), at(2), at(3)), 4
	default:
		return 0, len(p)
	}
}

// nearest maps a colour to one of the sixteen: a bit a channel, and brightness.
func nearest(r, g, b int) int {
	top := max(r, g, b)
	if top < 48 {
		return 1
	}
	if top-min(r, g, b) < 32 { // grey
		switch {
		case top < 140:
			return 9
		case top < 220:
			return 8
		default:
			return 16
		}
	}
	colour, half := 1, top/2
	for i, v := range []int{r, g, b} {
		if v > half {
			colour += 1 << i
		}
	}
	if top > 200 {
		colour += 8
	}
	return colour
}

func (s sgr) class() string {
	var c []string
	fg, bg := s.fg, s.bg
	if s.flip {
		fg, bg = bg, fg
		if fg == 0 && bg == 0 {
			c = append(c, "flip")
		}
	}
	if fg > 0 {
		c = append(c, "f"+strconv.Itoa(fg-1))
	}
	if bg > 0 {
		c = append(c, "b"+strconv.Itoa(bg-1))
	}
	for _, on := range []struct {
		is   bool
		name string
	}{{s.bold, "bo"}, {s.dim, "di"}, {s.italic, "it"}, {s.under, "un"}} {
		if on.is {
			c = append(c, on.name)
		}
	}
	return strings.Join(c, " ")
}
