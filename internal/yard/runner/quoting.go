package runner

import (
	"strings"
)

// filling is how the value of a variable is written into a script at one place
// so that it is one piece of data there, whatever it holds.
type filling int

const (
	fillBare   filling = iota // ${V} outside of quotes: split into words, as text pasted there is
	fillQuoted                // "${V}" outside of quotes, where splitting has another meaning
	fillDouble                // ${V} within double quotes or in a here-document
	fillSingle                // within single quotes, which are left and entered again
)

func (f filling) text(name string) string {
	switch f {
	case fillQuoted:
		return `"${` + name + `}"`
	case fillSingle:
		return `'"${` + name + `}"'`
	}
	return `${` + name + `}`
}

const (
	// hole stands for a value in a script that is scanned. No script can hold
	// this byte: the kernel and every shell end a string at it.
	hole = '\x00'
	// maxScanned bounds a script that is scanned, maxScanDepth how deep
	// substitutions and groups in it are nested, maxHoles, maxWords and maxDocs what is
	// kept of it: together they bound the work.
	maxScanned   = 1 << 20
	maxScanDepth = 50
	maxHoles     = 1000
	maxWords     = 1000
	maxDocs      = 100
	// maxPlain is what is kept of a word to tell an assignment.
	maxPlain = 256
	// dynamic stands in the text of a word for what is not known in advance.
	dynamic = '\x01'
)

// scanner reads a script for sh or bash as far as is needed to say how each
// hole in it is quoted, and to which command it goes. What it does not know for sure
// it does not guess: every hole from there on is refused. It follows POSIX
// (Shell Command Language, 2.2 to 2.10) and the reference manual of bash.
type scanner struct {
	src   string
	pos   int
	posix bool // for sh, which may not know what bash adds

	fills []filling // of the holes so far
	first int       // where the first accepted hole is; -1 for none
	bad   int       // the hole that was refused; -1 for none
	why   string

	forbid   string     // why no hole may stand here; "" if one may
	integers bool       // variables were declared that are evaluated when assigned to
	commands []*command // those around the present place, outermost first
	docs     []heredoc  // announced in this line
	depth    int
}

// command is a simple command as far as it was read.
type command struct {
	name    string   // its first word; "" if that is not known in advance
	named   bool     // that word was read
	words   []string // those after it
	plain   string   // of the present word what stands before any quote or expansion
	target  bool     // the present word is the target of a redirection
	cond    bool     // within [[ ]]
	unknown bool     // the name is not known in advance
}

// heredoc is a here-document whose body begins in the next line.
type heredoc struct {
	at        int // of its operator
	delimiter string
	quoted    bool
	tabs      bool // leading tabs are removed
	commands  []*command
}

// word is a word of a command.
type word struct {
	text    string // without quotes; dynamic for each expansion
	literal bool   // all of it
	plain   bool   // all of it, and without quotes
}

// scan returns how the holes of a script are to be filled. When one cannot be, bad
// is its number from 0, and why says what stands against it.
func scan(src string, posix bool) (fills []filling, bad int, why string) {
	s := &scanner{src: src, posix: posix, first: -1, bad: -1}
	if len(src) > maxScanned || strings.IndexByte(src, dynamic) >= 0 || strings.Count(src, string(hole)) > maxHoles {
		s.lose("the script is too long to be looked through")
	}
	s.list(untilEnd)
	if s.pos < len(s.src) {
		s.lose("the script could not be understood up to here")
	}
	if s.bad < 0 && s.first >= 0 && pipesIntoInterpreter.MatchString(s.src[s.first:]) {
		s.bad, s.why = 0, "the script pipes into an interpreter, which would run what comes"
	}
	return s.fills, s.bad, s.why
}

// refuse refuses the hole at the present place.
func (s *scanner) refuse(why string) {
	if s.bad < 0 {
		s.bad, s.why = len(s.fills), why
	}
	s.fills = append(s.fills, fillQuoted)
}

// lose gives up: all holes from here on are refused.
func (s *scanner) lose(why string) {
	for ; s.pos < len(s.src); s.pos++ {
		if s.src[s.pos] == hole {
			s.refuse(why)
		}
	}
}

// hole takes the hole at the present place.
func (s *scanner) hole(f filling) {
	why := s.forbid
	for i := 0; why == "" && i < len(s.commands); i++ {
		why = s.commands[i].objection()
	}
	switch cmd := s.command(); {
	case why != "" || !isAssignment(cmd.plain):
	case s.integers:
		why = "the script declares variables that are evaluated when they are assigned to"
	case s.posix && strings.Contains(cmd.plain, "+="):
		why = "not every sh has +="
	}
	if why != "" {
		s.refuse(why)
	} else {
		if s.first < 0 {
			s.first = s.pos
		}
		if f == fillBare && s.command().oneWord() {
			f = fillQuoted
		}
		s.fills = append(s.fills, f)
	}
	s.pos++
}

func (s *scanner) command() *command { return s.commands[len(s.commands)-1] }

// peek returns the byte n after the present one, 1 beyond the end.
func (s *scanner) peek(n int) byte {
	if s.pos+n < len(s.src) {
		return s.src[s.pos+n]
	}
	return 1
}

func (s *scanner) has(prefix string) bool { return strings.HasPrefix(s.src[s.pos:], prefix) }

// forbidding runs f while holes are refused for the given reason.
func (s *scanner) forbidding(why string, f func()) {
	before := s.forbid
	if s.forbid == "" {
		s.forbid = why
	}
	f()
	s.forbid = before
}

// deeper runs f one level deeper, unless that is too deep.
func (s *scanner) deeper(f func()) {
	if s.depth++; s.depth > maxScanDepth {
		s.lose("it is nested too deep")
	} else {
		f()
	}
	s.depth--
}

// ending is what ends a list of commands.
type ending int

const (
	untilEnd   ending = iota
	untilParen        // )
	untilCase         // ;; or esac
)

// list reads commands up to what ends them, which is read too. It reports
// whether esac was it.
func (s *scanner) list(end ending) (esac bool) {
	s.deeper(func() { esac = s.commandsUntil(end) })
	return esac
}

func (s *scanner) commandsUntil(end ending) (esac bool) {
	s.commands = append(s.commands, &command{})
	top := len(s.commands) - 1
	defer func() { s.commands = s.commands[:top] }()
	next := func() { s.commands[top] = &command{} }
	for s.pos < len(s.src) {
		cmd := s.commands[top]
		switch c := s.src[s.pos]; c {
		case ' ', '\t':
			s.pos++
		case '\n':
			s.newline()
			next()
		case '#':
			s.comment()
		case ')':
			if end != untilParen {
				s.lose("a ) has no ( before it")
				return false
			}
			s.pos++
			return false
		case ';', '|', '&':
			if c == '&' && s.peek(1) == '>' {
				s.pos++
				continue
			}
			if c == ';' && (s.peek(1) == ';' || s.peek(1) == '&') {
				for s.pos < len(s.src) && strings.IndexByte(";&", s.src[s.pos]) >= 0 {
					s.pos++
				}
				if end == untilCase {
					return false
				}
			} else {
				s.pos++
			}
			next()
		case '<', '>':
			s.redirection(cmd)
		case '(':
			s.paren(cmd, next)
		case '\\':
			if s.peek(1) == '\n' {
				s.pos += 2
				continue
			}
			fallthrough
		default:
			if s.wordOf(cmd, next, end) {
				return true
			}
		}
	}
	if end != untilEnd {
		s.lose("a ( has no ) after it")
	}
	return false
}

// wordOf reads a word of cmd and does what it means as a keyword. It reports
// whether it was the esac that ends a case.
func (s *scanner) wordOf(cmd *command, next func(), end ending) (esac bool) {
	w := s.word(false)
	switch {
	case w.plain && digits(w.text) && (s.peek(0) == '<' || s.peek(0) == '>'):
		return false // the number of a file to redirect
	case cmd.named:
		cmd.add(w)
		s.integers = s.integers || cmd.integers()
		return false
	case w.plain && end == untilCase && w.text == "esac":
		return true
	case w.plain:
		switch w.text {
		case "if", "then", "else", "elif", "do", "while", "until", "!", "{", "time":
			return false // a command follows
		case "for", "select", "fi", "done", "}":
			cmd.named, cmd.name = true, w.text
			return false
		case "function":
			if s.posix {
				s.lose("not every sh has function")
				return false
			}
			s.blank()
			name := s.word(false)
			s.blank()
			if s.peek(0) == '(' {
				s.emptyParens()
			}
			s.define(name.text)
			next()
			return false
		case "case":
			cmd.named, cmd.name = true, w.text
			s.caseClause()
			return false
		case "coproc":
			s.lose("it stands in a coprocess")
			return false
		case "[[":
			if s.posix {
				s.lose("not every sh has [[ ]]")
				return false
			}
			cmd.named, cmd.name, cmd.cond = true, w.text, true
			s.condition(cmd)
			return false
		}
	}
	if !isAssignment(cmd.plain) {
		cmd.call(w)
	}
	return false
}

// paren deals with an open parenthesis between words.
func (s *scanner) paren(cmd *command, next func()) {
	switch {
	case s.peek(1) == '(' && (!cmd.named || cmd.name == "for"):
		s.arithmetic()
		cmd.named, cmd.name = true, "(("
	case !cmd.named:
		s.pos++
		cmd.named, cmd.name = true, "("
		s.list(untilParen)
	case len(cmd.words) == 0 && !cmd.unknown:
		s.emptyParens()
		s.define(cmd.name)
		next() // the body of a function
	default:
		s.lose("a ( stands where it is not expected")
	}
}

func (s *scanner) emptyParens() {
	s.pos++
	s.blank()
	if s.peek(0) != ')' {
		s.lose("a ( stands where it is not expected")
		return
	}
	s.pos++
}

// define deals with the definition of a function: one that hides a command of which
// we know what it does makes that unknown.
func (s *scanner) define(name string) {
	if data[name] || declarations[name] || name == "echo" || name == "printf" || name == "test" || name == "[" {
		s.lose("the script defines a command " + name + " of its own")
	}
}

func (s *scanner) blank() {
	for s.peek(0) == ' ' || s.peek(0) == '\t' || s.has("\\\n") {
		if s.src[s.pos] == '\\' {
			s.pos++
		}
		s.pos++
	}
}

// gap is blank with line ends and comments.
func (s *scanner) gap() {
	for {
		s.blank()
		switch s.peek(0) {
		case '\n':
			s.newline()
		case '#':
			s.comment()
		default:
			return
		}
	}
}

func (s *scanner) comment() {
	s.forbidding("it stands in a comment", func() {
		for s.pos < len(s.src) && s.src[s.pos] != '\n' {
			s.skip()
		}
	})
}

// skip passes over one byte in which nothing has a meaning but a hole.
func (s *scanner) skip() {
	if s.src[s.pos] == hole {
		s.hole(fillQuoted)
		return
	}
	s.pos++
}
