package runner

import "strings"

// word reads a word. Within [[ ]] only white space ends it.
func (s *scanner) word(cond bool) word {
	w := word{literal: true, plain: true}
	cmd := s.command()
	cmd.plain = ""
	var text strings.Builder
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		if c == ' ' || c == '\t' || c == '\n' || !cond && strings.IndexByte(";&|<>()", c) >= 0 {
			if c == '(' && w.plain && isAssignment(cmd.plain) && strings.HasSuffix(cmd.plain, "=") {
				s.array()
				w.literal, w.plain = false, false
				text.WriteByte(dynamic)
				continue
			}
			if (c == '<' || c == '>') && s.peek(1) == '(' && text.Len() == 0 {
				s.process()
				w.literal, w.plain = false, false
				text.WriteByte(dynamic)
				continue
			}
			break
		}
		switch c {
		case hole:
			w.literal, w.plain = false, false
			text.WriteByte(dynamic)
			s.hole(fillBare)
		case '\'':
			w.plain = false
			s.single(&text)
		case '"':
			w.plain = false
			s.pos++
			if !s.double(&text, '"', fillDouble) {
				w.literal = false
			}
		case '\\':
			w.plain = false
			s.escape(&text)
		case '$':
			w.literal, w.plain = false, false
			text.WriteByte(dynamic)
			s.dollar(false)
		case '`':
			w.literal, w.plain = false, false
			text.WriteByte(dynamic)
			s.backquote()
		default:
			text.WriteByte(c)
			if w.plain && len(cmd.plain) < maxPlain {
				cmd.plain += s.src[s.pos : s.pos+1]
			}
			s.pos++
		}
	}
	w.text = text.String()
	return w
}

// escape reads a backslash and what it quotes.
func (s *scanner) escape(text *strings.Builder) {
	s.pos++
	switch {
	case s.pos >= len(s.src):
	case s.src[s.pos] == hole:
		s.forbidding("a backslash stands before it", s.skip)
	case s.src[s.pos] == '\n':
		s.pos++
	default:
		text.WriteByte(s.src[s.pos])
		s.pos++
	}
}

// single reads text in single quotes.
func (s *scanner) single(text *strings.Builder) {
	s.pos++
	for s.pos < len(s.src) && s.src[s.pos] != '\'' {
		switch c := s.src[s.pos]; {
		case c == hole:
			text.WriteByte(dynamic)
			s.hole(fillSingle)
		case c == '\n' && len(s.docs) > 0:
			s.lose("a quoted line end stands before a here-document")
		default:
			text.WriteByte(c)
			s.pos++
		}
	}
	if s.pos >= len(s.src) {
		return
	}
	s.pos++
}

// double reads text in double quotes, or, with end 0, a here-document up to
// the end of src. It reports whether all of it was literal.
func (s *scanner) double(text *strings.Builder, end byte, f filling) (literal bool) {
	literal = true
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == end && end != 0:
			s.pos++
			return literal
		case c == hole:
			literal = false
			text.WriteByte(dynamic)
			s.hole(f)
		case c == '\\':
			s.escape(text)
		case c == '$':
			literal = false
			text.WriteByte(dynamic)
			s.dollar(true)
		case c == '`':
			literal = false
			text.WriteByte(dynamic)
			s.backquote()
		case c == '\n' && len(s.docs) > 0:
			s.lose("a quoted line end stands before a here-document")
		default:
			text.WriteByte(c)
			s.pos++
		}
	}
	return literal
}

// dollar reads an expansion.
func (s *scanner) dollar(quoted bool) {
	switch c := s.peek(1); {
	case s.has("$(("):
		s.pos++
		s.arithmetic()
	case c == '(':
		s.pos += 2
		s.list(untilParen)
	case c == '{':
		s.pos += 2
		s.forbidding("it stands in ${ }", func() { s.deeper(func() { s.parameter(quoted) }) })
	case c == '[':
		s.lose("it stands after $[")
	case c == '\'' && !quoted:
		if s.posix {
			s.lose("it stands after $', which shells read differently")
			return
		}
		s.pos += 2
		s.forbidding("it stands in $' '", s.ansi)
	case c == '"' && !quoted:
		s.pos += 2
		s.forbidding(`it stands in $" "`, func() { s.double(new(strings.Builder), '"', fillDouble) })
	case c == hole:
		s.pos++
		s.forbidding("a $ stands before it", s.skip)
	case strings.IndexByte("@*#?-$!0123456789", c) >= 0:
		s.pos += 2
	default:
		s.pos++
		for isNameByte(s.peek(0)) {
			s.pos++
		}
	}
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// ansi reads the rest of $'…'.
func (s *scanner) ansi() {
	for s.pos < len(s.src) && s.src[s.pos] != '\'' {
		if s.src[s.pos] == '\\' {
			s.pos++
			if s.pos >= len(s.src) {
				return
			}
		}
		s.skip()
	}
	s.pos = min(s.pos+1, len(s.src))
}

// parameter reads the rest of ${…}.
func (s *scanner) parameter(quoted bool) {
	var drop strings.Builder
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case '}':
			s.pos++
			return
		case '\\':
			s.escape(&drop)
		case '"':
			s.pos++
			s.double(&drop, '"', fillDouble)
		case '\'':
			if quoted {
				s.lose("a single quote stands in ${ } within double quotes, which shells read differently")
				return
			}
			s.single(&drop)
		case '$':
			s.dollar(quoted)
		case '`':
			s.backquote()
		default:
			s.skip()
		}
	}
}

// arithmetic reads ((…)) from its first parenthesis.
func (s *scanner) arithmetic() {
	s.forbidding("it stands in an arithmetic expression", func() {
		open := 0
		for s.pos < len(s.src) {
			switch s.src[s.pos] {
			case '(':
				open++
			case ')':
				if open--; open == 0 {
					s.pos++
					return
				}
				if open == 1 && s.peek(1) != ')' {
					s.lose("(( is not closed by ))")
					return
				}
			case '\'', '"', '`', '\\':
				s.lose("it stands after an arithmetic expression with quotes")
				return
			}
			s.skip()
		}
	})
}

func (s *scanner) backquote() {
	s.pos++
	s.forbidding("it stands in backquotes", func() {
		for s.pos < len(s.src) && s.src[s.pos] != '`' {
			if s.src[s.pos] == '\\' && s.pos+1 < len(s.src) {
				s.pos++
			}
			s.skip()
		}
	})
	s.pos = min(s.pos+1, len(s.src))
}

// array reads the values of an array from their parenthesis.
func (s *scanner) array() {
	s.pos++
	defer func(c *command, plain string) { c.plain = plain }(s.command(), s.command().plain)
	s.forbidding("it is assigned to an array", func() {
		for s.gap(); s.pos < len(s.src) && s.src[s.pos] != ')'; s.gap() {
			before := s.pos
			s.word(false)
			if s.pos == before {
				s.lose("the values of an array could not be understood")
			}
		}
	})
	s.pos = min(s.pos+1, len(s.src))
}

// process reads a process substitution.
func (s *scanner) process() {
	if s.posix {
		s.lose("it stands after a process substitution, which not every sh has")
		return
	}
	s.pos += 2
	s.list(untilParen)
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
