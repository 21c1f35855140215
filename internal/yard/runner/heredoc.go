package runner

import "strings"

// redirection reads a redirection, with its target.
func (s *scanner) redirection(cmd *command) {
	if s.peek(1) == '(' {
		cmd.readWord(s)
		return
	}
	at := s.pos
	for strings.IndexByte("<>&|-", s.peek(0)) >= 0 {
		if s.src[s.pos] == '-' && s.src[at:s.pos] != "<<" {
			break
		}
		s.pos++
	}
	op := s.src[at:s.pos]
	s.blank()
	if op == "<<" || op == "<<-" {
		s.announce(at, op == "<<-")
		return
	}
	cmd.target = true
	before := s.pos
	s.word(false)
	cmd.target = false
	if s.pos == before && s.pos < len(s.src) {
		s.lose("a redirection has no target")
	}
}

// readWord reads a word that is an argument.
func (c *command) readWord(s *scanner) {
	w := s.word(false)
	if c.named {
		c.add(w)
		return
	}
	c.call(w)
}

// announce reads the delimiter of a here-document.
func (s *scanner) announce(at int, tabs bool) {
	d := heredoc{at: at, tabs: tabs}
	for s.pos < len(s.src) && strings.IndexByte(" \t\n;&|<>()", s.src[s.pos]) < 0 {
		switch c := s.src[s.pos]; c {
		case '\'', '"':
			end := strings.IndexByte(s.src[s.pos+1:], c)
			if end < 0 {
				s.lose("the delimiter of a here-document is not closed")
				return
			}
			d.quoted = true
			d.delimiter += s.src[s.pos+1 : s.pos+1+end]
			s.pos += end + 2
		case '\\', '$', '`', hole:
			s.lose("the delimiter of a here-document is not a plain word")
			return
		default:
			d.delimiter += string(c)
			s.pos++
		}
	}
	if d.delimiter == "" || strings.ContainsAny(d.delimiter, "\n\\\x00") {
		s.lose("the delimiter of a here-document is not a plain word")
		return
	}
	if len(s.docs) == maxDocs {
		s.lose("too many here-documents begin in one line")
		return
	}
	// A copy: the commands go on, the document stays with those of this line.
	d.commands = append(d.commands, s.commands...)
	s.docs = append(s.docs, d)
}

// newline reads a line end and the here-documents that begin after it.
func (s *scanner) newline() {
	line := s.pos
	s.pos++
	docs := s.docs
	s.docs = nil
	for _, d := range docs {
		if len(d.commands) != len(s.commands) {
			s.lose("a here-document begins within a substitution")
			return
		}
		s.body(d, line)
	}
}

// body reads a here-document, whose operator stands in the line that ends at line.
func (s *scanner) body(d heredoc, line int) {
	start := s.pos
	end, after := start, len(s.src)
	for closed := false; !closed; {
		if end >= len(s.src) {
			s.lose("a here-document does not end")
			return
		}
		text, _, more := strings.Cut(s.src[end:], "\n")
		plain := text
		if d.tabs {
			plain = strings.TrimLeft(text, "\t")
		}
		if closed = plain == d.delimiter; closed {
			after = end + len(text)
			break
		}
		if !d.quoted && strings.HasSuffix(text, `\`) {
			s.lose("a line of a here-document ends with a backslash")
			return
		}
		end += len(text)
		if more {
			end++
		}
	}
	why := ""
	switch {
	case d.quoted:
		why = "it stands in a here-document with a quoted delimiter"
	case pipesIntoInterpreter.MatchString(s.src[d.at:line]), strings.HasSuffix(strings.TrimSpace(s.src[d.at:line]), "|"):
		why = "the here-document is piped into an interpreter, which would run it"
	}
	whole, around := s.src, s.commands
	s.src, s.commands = s.src[:end], d.commands
	d.commands[len(d.commands)-1].target = true
	read := func() { s.double(new(strings.Builder), 0, fillDouble) }
	switch {
	case d.quoted:
		s.forbidding(why, func() {
			for s.pos < len(s.src) {
				s.skip()
			}
		})
	case why != "":
		s.forbidding(why, read)
	default:
		read()
	}
	d.commands[len(d.commands)-1].target = false
	s.src, s.commands, s.docs = whole, around, nil
	s.pos = after
}

// caseClause reads what follows the word case, up to its esac.
func (s *scanner) caseClause() {
	s.blank()
	s.word(false)
	s.gap()
	if w := s.word(false); !w.plain || w.text != "in" {
		s.lose("a case could not be understood")
		return
	}
	for s.pos < len(s.src) {
		s.gap()
		if s.has("esac") && strings.IndexByte(" \t\n;&|)\x01", s.peek(4)) >= 0 {
			s.pos += len("esac")
			return
		}
		if s.peek(0) == '(' {
			s.pos++
		}
		s.forbidding("it is part of a pattern", func() {
			for s.pos < len(s.src) && s.src[s.pos] != ')' {
				before := s.pos
				s.blank()
				if s.peek(0) == '|' {
					s.pos++
				} else {
					s.word(false)
				}
				if s.pos == before {
					s.lose("a pattern could not be understood")
				}
			}
		})
		s.pos = min(s.pos+1, len(s.src))
		if s.list(untilCase) {
			return
		}
	}
}

// condition reads the rest of [[ … ]]. Some of its operators evaluate what they
// compare, so the holes in it are judged when all of it is known.
func (s *scanner) condition(cmd *command) {
	first, evaluates := len(s.fills), false
	for {
		for strings.IndexByte(" \t\n", s.peek(0)) >= 0 {
			s.pos++
		}
		if s.pos >= len(s.src) {
			break
		}
		if s.src[s.pos] == '#' {
			s.lose("a comment stands in [[ ]]")
			return
		}
		if s.has("]]") && strings.IndexByte(" \t\n;&|()<>\x01", s.peek(2)) >= 0 {
			s.pos += 2
			break
		}
		w := s.word(true)
		evaluates = evaluates || evaluatingOperators[w.text]
	}
	cmd.cond = false
	if evaluates && len(s.fills) > first && s.bad < 0 {
		s.bad, s.why = first, "[[ ]] compares numbers or variables there, and evaluates them"
	}
}
