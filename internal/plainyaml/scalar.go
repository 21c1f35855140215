package plainyaml

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// scalar reads a plain or quoted scalar. A plain one goes on in lines that are
// indented deeper than the parent.
func (r *reader) scalar(parent int, flow bool) *yaml.Node {
	switch c := r.src[r.pos]; {
	case c == '\'':
		return r.singleQuoted()
	case c == '"':
		return r.doubleQuoted()
	case plainStart[c], c == '-' && !r.blank(r.pos+1), (c == '?' || c == ':') && !flow && !r.blank(r.pos+1):
		return r.plain(parent, flow)
	}
	return nil
}

// plainStart are the characters that a plain scalar can begin with whatever follows.
var plainStart = func() (start [256]bool) {
	for c := range start {
		start[c] = c > ' ' && c != 0x7f && strings.IndexByte("-?:,[]{}#&*!|>'\"%@`", byte(c)) < 0
	}
	return start
}()

// plainEnd are the characters that may end a plain scalar or its line.
var plainEnd = func() (end [256]bool) {
	for _, c := range []byte("\n:#,?[]{}") {
		end[c] = true
	}
	return end
}()

// plainLine returns where the text of a plain scalar ends in this line, without
// the blanks at its end, and what ends it: ':', '#', '\n' (or the end of the
// source), or an indicator of a flow collection.
func (r *reader) plainLine(flow bool) (end int, by byte) {
	i := r.pos
	by = '\n'
scan:
	for ; i < len(r.src); i++ {
		c := r.src[i]
		if !plainEnd[c] {
			continue
		}
		switch {
		case c == '\n':
			break scan
		case c == ':':
			if r.blank(i + 1) {
				by = c
				break scan
			}
		case c == '#':
			if r.blank(i - 1) {
				by = c
				break scan
			}
		case flow:
			by = c
			break scan
		}
	}
	for i > r.pos && r.blank(i-1) {
		i--
	}
	return i, by
}

func (r *reader) plain(parent int, flow bool) *yaml.Node {
	n := r.node(yaml.ScalarNode, 0)
	start := r.pos
	end, by := r.plainLine(flow)
	n.Value = r.src[start:end]
	r.pos = end
	if by != '\n' {
		return n
	}
	text := r.buf[:0]
	for {
		// What is the next line with something in it?
		breaks, at := 0, r.lineEnd(r.pos)
		bol := at
		for at < len(r.src) && r.src[at] == '\n' {
			breaks++
			bol = at + 1
			for at = bol; at < len(r.src) && r.src[at] == ' '; {
				at++
			}
		}
		switch {
		case at < len(r.src) && r.src[at] == '\t':
			return nil
		case at == len(r.src), r.src[at] == '#', !flow && at-bol <= parent:
		case !flow:
			if len(text) == 0 {
				text = append(text, n.Value...)
			}
			if breaks == 1 {
				text = append(text, ' ')
			}
			for ; breaks > 1; breaks-- {
				text = append(text, '\n')
			}
			r.line += strings.Count(r.src[r.pos:at], "\n")
			r.pos, r.bol = at, bol
			if end, by = r.plainLine(false); by == ':' {
				return nil
			}
			text = append(text, r.src[at:end]...)
			if r.pos = end; by == '\n' {
				continue
			}
		case strings.IndexByte(",]}", r.src[at]) < 0:
			return nil // goes on, which is seldom in a flow collection
		}
		break
	}
	if len(text) > 0 {
		n.Value = string(text)
	}
	r.buf = text
	return n
}

// fold appends what the blanks and line ends here stand for in a quoted scalar,
// and goes on after them. Of an escaped line end, nothing is left.
func (r *reader) fold(text []byte, escaped bool) ([]byte, bool) {
	start, breaks := r.pos, 0
	for !r.end() {
		switch r.src[r.pos] {
		case ' ', '\t':
			r.pos++
			continue
		case '\n':
			r.newline()
			if breaks++; r.marker() {
				return text, false
			}
			continue
		}
		break
	}
	switch {
	case breaks == 0 && !escaped:
		text = append(text, r.src[start:r.pos]...)
	case breaks == 1 && !escaped:
		text = append(text, ' ')
	case !escaped:
		breaks--
		fallthrough
	default:
		for ; breaks > 0; breaks-- {
			text = append(text, '\n')
		}
	}
	return text, true
}

func (r *reader) singleQuoted() *yaml.Node {
	n := r.node(yaml.ScalarNode, yaml.SingleQuotedStyle)
	r.pos++
	text, start, ok := r.buf[:0], r.pos, true
	for ; !r.end(); r.pos++ {
		switch r.src[r.pos] {
		case '\'':
			if r.pos+1 < len(r.src) && r.src[r.pos+1] == '\'' {
				text = append(text, r.src[start:r.pos+1]...)
				r.pos++
				start = r.pos + 1
				continue
			}
			if n.Value = r.src[start:r.pos]; len(text) > 0 {
				text = append(text, n.Value...)
				n.Value = string(text)
			}
			r.pos++
			r.buf = text
			return n
		case '\n':
			end := r.pos
			for end > start && r.blank(end-1) {
				end--
			}
			text = append(text, r.src[start:end]...)
			r.pos = end
			if text, ok = r.fold(text, false); !ok {
				return nil
			}
			start = r.pos
			r.pos--
		}
	}
	return nil
}

// escapes are what a character after a backslash stands for.
var escapes = map[byte]string{
	'0': "\x00", 'a': "\a", 'b': "\b", 't': "\t", '\t': "\t", 'n': "\n", 'v': "\v", 'f': "\f", 'r': "\r", 'e': "\x1b",
	' ': " ", '"': `"`, '\'': "'", '\\': `\`, 'N': "\u0085", '_': "\u00a0", 'L': "\u2028", 'P': "\u2029",
}

func (r *reader) doubleQuoted() *yaml.Node {
	n := r.node(yaml.ScalarNode, yaml.DoubleQuotedStyle)
	r.pos++
	if i := strings.IndexAny(r.src[r.pos:], "\"\\\n"); i >= 0 && r.src[r.pos+i] == '"' {
		n.Value = r.src[r.pos : r.pos+i]
		r.pos += i + 1
		return n
	}
	text, ok := r.buf[:0], true
	for ok && !r.end() {
		switch c := r.src[r.pos]; c {
		case '"':
			n.Value = string(text)
			r.pos++
			r.buf = text
			return n
		case ' ', '\t', '\n':
			text, ok = r.fold(text, false)
		case '\\':
			text, ok = r.escape(text)
		default:
			text = append(text, c)
			r.pos++
		}
	}
	return nil
}

// escape appends what the escape sequence here stands for.
func (r *reader) escape(text []byte) ([]byte, bool) {
	if r.pos++; r.end() {
		return text, false
	}
	c := r.src[r.pos]
	if r.pos++; c == '\n' {
		r.pos--
		r.newline()
		if r.marker() {
			return text, false
		}
		return r.fold(text, true)
	}
	digits := 0
	switch c {
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		is, ok := escapes[c]
		return append(text, is...), ok
	}
	if r.pos+digits > len(r.src) {
		return text, false
	}
	u, err := strconv.ParseUint(r.src[r.pos:r.pos+digits], 16, 32)
	if err != nil || u > utf8.MaxRune || !utf8.ValidRune(rune(u)) {
		return text, false
	}
	r.pos += digits
	return utf8.AppendRune(text, rune(u)), true
}

// blockScalar reads a literal or folded scalar in a collection of an indent. It
// stops in the line after it, before the first character that is no space.
func (r *reader) blockScalar(parent int) *yaml.Node {
	n := r.node(yaml.ScalarNode, yaml.LiteralStyle)
	folded := r.src[r.pos] == '>'
	if folded {
		n.Style = yaml.FoldedStyle
	}
	header := strings.TrimRight(r.src[r.pos+1:r.lineEnd(r.pos)], " \t")
	if i := strings.IndexByte(header, '#'); i > 0 && (header[i-1] == ' ' || header[i-1] == '\t') {
		header = strings.TrimRight(header[:i], " \t")
	}
	indent, chomp, ok := blockHeader(header, parent)
	if r.pos = r.lineEnd(r.pos); !ok || r.end() {
		return nil
	}
	r.newline()
	var breaks int // empty lines before this one
	if breaks, ok = r.blockIndent(&indent, parent); !ok {
		return nil
	}
	first, asIs := r.pos, breaks == 0
	text := r.buf[:0]
	ended := false // the line before this one by a line end
	blank := false // it began with a blank
	lines := 0
	for ; r.indent() == indent && !r.end(); lines++ {
		blankNow := r.src[r.pos] == ' ' || r.src[r.pos] == '\t'
		switch {
		case !ended:
		case folded && !blank && !blankNow:
			if breaks == 0 {
				text = append(text, ' ')
			}
		default:
			text = append(text, '\n')
		}
		for ; breaks > 0; breaks-- {
			text = append(text, '\n')
		}
		blank = blankNow
		end := r.lineEnd(r.pos)
		text = append(text, r.src[r.pos:end]...)
		r.pos = end
		if ended = !r.end(); ended {
			r.newline()
		}
		if breaks, ok = r.blockIndent(&indent, parent); !ok {
			return nil
		}
	}
	content := len(text)
	if chomp != '-' && ended {
		text = append(text, '\n')
	}
	if chomp == '+' {
		for ; breaks > 0; breaks-- {
			text = append(text, '\n')
		}
	}
	r.buf = text
	if asIs && lines == 1 && len(text)-content <= 1 {
		n.Value = r.src[first : first+len(text)]
	} else {
		n.Value = string(text)
	}
	return n
}

// blockHeader reads the indicators after | or >. The indent is 0 if it is not given.
func blockHeader(header string, parent int) (indent int, chomp byte, ok bool) {
	for _, c := range []byte(header) {
		switch {
		case (c == '+' || c == '-') && chomp == 0:
			chomp = c
		case '1' <= c && c <= '9' && indent == 0:
			indent = max(parent, 0) + int(c-'0')
		default:
			return 0, 0, false
		}
	}
	return indent, chomp, true
}

// blockIndent goes over empty lines and the indentation of a line of a block
// scalar, and returns how many empty ones there were. An indent of 0 becomes that
// of the first line with something in it.
func (r *reader) blockIndent(indent *int, parent int) (breaks int, ok bool) {
	deepest := 0
	for ; ; breaks++ {
		for !r.end() && r.src[r.pos] == ' ' && (*indent == 0 || r.indent() < *indent) {
			r.pos++
		}
		deepest = max(deepest, r.indent())
		if !r.end() && r.src[r.pos] == '\t' && (*indent == 0 || r.indent() < *indent) {
			return 0, false
		}
		if r.end() || r.src[r.pos] != '\n' {
			break
		}
		r.newline()
	}
	if *indent == 0 {
		*indent = max(deepest, parent+1, 1)
	}
	return breaks, true
}
