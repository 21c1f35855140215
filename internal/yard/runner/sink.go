package runner

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// maxLine is where an endless line is broken into several.
	maxLine = 64 << 10
	// maxSGR is the longest colour sequence that passes; real ones have about 20 bytes.
	maxSGR = 48
)

// lineSink takes a redacted stream, splits it into lines and adds them to
// the log, each cleaned of all that could act on a terminal or a page. It keeps
// at most one piece of maxLine bytes.
type lineSink struct {
	log     *jobLog
	step    int
	kind    sallyport.LogKind
	partial []byte
	scratch []byte
}

// Write never fails.
func (s *lineSink) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			s.partial = append(s.partial, p...)
			s.breakLong()
			break
		}
		line := p[:i]
		if len(s.partial) > 0 {
			s.partial = append(s.partial, line...)
			s.breakLong()
			line = s.partial
		}
		for len(line) > maxLine {
			n := cutAt(line, maxLine)
			s.emit(line[:n])
			line = line[n:]
		}
		s.emit(line)
		s.partial = s.partial[:0]
		p = p[i+1:]
	}
	return total, nil
}

// breakLong emits whole pieces of a line that has not ended.
func (s *lineSink) breakLong() {
	for len(s.partial) > maxLine {
		n := cutAt(s.partial, maxLine)
		s.emit(s.partial[:n])
		s.partial = append(s.partial[:0], s.partial[n:]...)
	}
}

// end emits the last line if it did not end.
func (s *lineSink) end() {
	if len(s.partial) > 0 {
		s.emit(s.partial)
		s.partial = s.partial[:0]
	}
}

func (s *lineSink) emit(line []byte) {
	text, escapes := clean(s.scratch[:0], line)
	s.scratch = text[:0]
	if escapes {
		// Colours in the midst of a secret must not hide it from the mask.
		if plain := withoutSGR(text); s.log.mask.Contains(plain) {
			text = []byte(s.log.mask.Text(plain))
		}
	}
	s.log.line(s.step, s.kind, text)
}

// cutAt returns the greatest position up to n at which b can be cut without
// splitting a character or a short escape sequence.
func cutAt(b []byte, n int) int {
	cut := n
	for cut > n-utf8.UTFMax && !utf8.RuneStart(b[cut]) {
		cut--
	}
	if i := bytes.LastIndexByte(b[max(0, cut-maxSGR):cut], 0x1b); i >= 0 {
		if at := max(0, cut-maxSGR) + i; at > 0 && sequenceEnd(b[at:]) > cut-at {
			cut = at
		}
	}
	return cut
}

// clean appends line to out with all that is not plain text neutralised: SGR colour
// sequences pass, other terminal sequences vanish, control characters become
// their visible symbols, and bidirectional overrides, line separators and invalid
// UTF-8 become U+FFFD. It reports whether there was any escape sequence.
func clean(out, line []byte) (text []byte, escapes bool) {
	start := 0
	for i := 0; i < len(line); {
		c := line[i]
		if c >= 0x20 && c < 0x7f || c == '\t' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(line[i:])
			if r != utf8.RuneError && !deceptive(r) || r == utf8.RuneError && n == 3 {
				i += n
				continue
			}
			out = append(append(out, line[start:i]...), "\uFFFD"...)
			i += n
			start = i
			continue
		}
		out = append(out, line[start:i]...)
		switch {
		case c == 0x1b:
			escapes = true
			n := sequenceEnd(line[i:])
			if n == 0 {
				out = append(out, "\u241B"...)
				n = 1
			} else if isSGR(line[i : i+n]) {
				out = append(out, line[i:i+n]...)
			}
			i += n
		case c == 0x7f:
			out = append(out, "\u2421"...)
			i++
		default:
			out = utf8.AppendRune(out, 0x2400+rune(c))
			i++
		}
		start = i
	}
	return append(out, line[start:]...), escapes
}

// deceptive reports whether the character changes the order or the lines of text
// around it without being seen: C1 controls, bidirectional controls, separators.
func deceptive(r rune) bool {
	switch {
	case r >= 0x80 && r <= 0x9f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return r == 0x200e || r == 0x200f || r == 0x061c || r == 0x2028 || r == 0x2029
}

// sequenceEnd returns the length of the terminal sequence that b, which begins with ESC,
// begins with (ECMA-48, 5.4 and 5.6), or 0 when there is no whole one.
func sequenceEnd(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch c := b[1]; {
	case c == '[':
		for i := 2; i < len(b); i++ {
			if b[i] >= 0x40 && b[i] <= 0x7e {
				return i + 1
			}
			if b[i] < 0x20 || b[i] > 0x3f {
				return 0
			}
		}
	case c == ']' || c == 'P' || c == '^' || c == '_' || c == 'X': // strings: up to BEL or ST
		for i := 2; i < len(b); i++ {
			if b[i] == 0x07 {
				return i + 1
			}
			if b[i] == 0x1b {
				if i+1 < len(b) && b[i+1] == '\\' {
					return i + 2
				}
				return 0
			}
		}
	case c >= 0x20 && c <= 0x2f: // such as the choice of a character set
		if len(b) > 2 && b[2] >= 0x30 && b[2] <= 0x7e {
			return 3
		}
	case c >= 0x30 && c <= 0x7e:
		return 2
	}
	return 0
}

// isSGR reports whether the whole sequence sets colours or styles.
func isSGR(seq []byte) bool {
	if len(seq) < 3 || len(seq) > maxSGR || seq[1] != '[' || seq[len(seq)-1] != 'm' {
		return false
	}
	for _, c := range seq[2 : len(seq)-1] {
		if (c < '0' || c > '9') && c != ';' && c != ':' {
			return false
		}
	}
	return true
}

// withoutSGR returns clean text without its colours.
func withoutSGR(text []byte) string {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] == 0x1b {
			i += max(1, sequenceEnd(text[i:]))
			continue
		}
		out = append(out, text[i])
		i++
	}
	return string(out)
}

// appendLine appends the JSON encoding of a LogLine and a line end. The text is clean:
// valid UTF-8 whose only control characters are tab and ESC.
func appendLine(b []byte, at int64, step int, kind sallyport.LogKind, text []byte) []byte {
	b = append(b, `{"t":`...)
	b = strconv.AppendInt(b, at, 10)
	b = append(b, `,"s":`...)
	b = strconv.AppendInt(b, int64(step), 10)
	if kind != "" {
		b = append(append(append(b, `,"k":"`...), kind...), '"')
	}
	b = append(b, `,"x":"`...)
	start := 0
	for i := range len(text) {
		var esc string
		switch text[i] {
		case '"':
			esc = `\"`
		case '\\':
			esc = `\\`
		case '\t':
			esc = `\t`
		case 0x1b:
			esc = `\u001b`
		default:
			continue
		}
		b = append(append(b, text[start:i]...), esc...)
		start = i + 1
	}
	return append(append(b, text[start:]...), "\"}\n"...)
}
