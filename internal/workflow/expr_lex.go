package workflow

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenKind is the kind of a token of an expression.
type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokLiteral
	tokName
	tokOpen    // (
	tokClose   // )
	tokIndex   // [
	tokUnindex // ]
	tokComma
	tokDot
	tokProperty // a dot and a name
	tokStar
	tokNot
	tokEqual
	tokUnequal
	tokLess
	tokLessEqual
	tokGreater
	tokGreaterEqual
	tokAnd
	tokOr
)

// token is one token; text is as written, val the value of a literal.
type token struct {
	kind tokenKind
	pos  int // byte offset in the expression
	text string
	val  Value
}

// exprError is an error at a byte offset of an expression.
type exprError struct {
	pos int
	msg string
}

func (e *exprError) Error() string { return e.msg }

func exprErrorf(pos int, format string, args ...any) *exprError {
	return &exprError{pos: pos, msg: fmt.Sprintf(format, args...)}
}

// lexer splits an expression into tokens.
type lexer struct {
	src  string
	off  int
	last tokenKind // of the token before, tokEnd at the start
}

// next reads the next token into t; at the end of the source its kind is tokEnd.
func (l *lexer) next(t *token) *exprError {
	if l.off < len(l.src) && l.src[l.off] == ' ' {
		l.off++
	}
	if l.off < len(l.src) && classOf[l.src[l.off]] == classOther {
		l.skipSpace()
	}
	t.pos = l.off
	if l.off == len(l.src) {
		t.kind, t.text = tokEnd, ""
		return nil
	}
	switch c := l.src[l.off]; {
	case classOf[c] == classLetter:
		return l.word(t)
	case c == '\'':
		return l.quoted(t)
	case c == '.' && l.mayDereference():
		if name := l.name(l.off + 1); name != "" {
			t.kind, t.text = tokProperty, l.src[l.off:l.off+1+len(name)]
			l.off += 1 + len(name)
			l.last = tokName
			return nil
		}
		return l.operator(t, tokDot, 1)
	case c == '+' || c == '-' || c == '.' || isDigit(c):
		return l.number(t)
	default:
		if k, n := l.symbol(c); n > 0 {
			return l.operator(t, k, n)
		}
	}
	return l.word(t)
}

func (l *lexer) operator(t *token, k tokenKind, n int) *exprError {
	t.kind, t.text = k, l.src[l.off:l.off+n]
	l.off += n
	l.last = k
	return nil
}

// symbol is the operator that begins with c here, and its length; 0 if there is none.
func (l *lexer) symbol(c byte) (k tokenKind, n int) {
	then := byte(0)
	if l.off+1 < len(l.src) {
		then = l.src[l.off+1]
	}
	switch c {
	case '(':
		return tokOpen, 1
	case ')':
		return tokClose, 1
	case '[':
		return tokIndex, 1
	case ']':
		return tokUnindex, 1
	case ',':
		return tokComma, 1
	case '*':
		return tokStar, 1
	case '!':
		if then == '=' {
			return tokUnequal, 2
		}
		return tokNot, 1
	case '<':
		if then == '=' {
			return tokLessEqual, 2
		}
		return tokLess, 1
	case '>':
		if then == '=' {
			return tokGreaterEqual, 2
		}
		return tokGreater, 1
	case '=', '&', '|':
		switch {
		case then != c:
		case c == '=':
			return tokEqual, 2
		case c == '&':
			return tokAnd, 2
		default:
			return tokOr, 2
		}
	}
	return tokEnd, 0
}

func (l *lexer) skipSpace() {
	for l.off < len(l.src) {
		c := l.src[l.off]
		if '!' <= c && c <= '~' {
			return
		}
		r, n := rune(c), 1
		if c >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(l.src[l.off:])
		}
		if !unicode.IsSpace(r) {
			return
		}
		l.off += n
	}
}

// mayDereference reports whether a dot here follows something with properties.
func (l *lexer) mayDereference() bool {
	switch l.last {
	case tokName, tokClose, tokUnindex, tokStar:
		return true
	}
	return false
}

// literal makes t a literal of the source from t.pos up to here.
func (l *lexer) literal(t *token, v Value) *exprError {
	t.kind, t.text, t.val = tokLiteral, l.src[t.pos:l.off], v
	l.last = tokLiteral
	return nil
}

// quoted scans a string in single quotes; two quotes stand for one.
func (l *lexer) quoted(t *token) *exprError {
	doubled := false
	for i := t.pos + 1; ; i++ {
		n := strings.IndexByte(l.src[i:], '\'')
		if n < 0 {
			return exprErrorf(t.pos, "the string %s is not closed: add a single quote at its end (a quote within it is written twice)", quote(l.src[t.pos:]))
		}
		if i += n; i+1 < len(l.src) && l.src[i+1] == '\'' {
			doubled = true
			i++
			continue
		}
		l.off = i + 1
		break
	}
	s := l.src[t.pos+1 : l.off-1]
	if doubled {
		s = strings.ReplaceAll(s, "''", "'")
	}
	return l.literal(t, String(s))
}

func (l *lexer) number(t *token) *exprError {
	text := l.extent(true)
	f := parseNumber(text)
	if math.IsNaN(f) {
		return exprErrorf(t.pos, "unexpected symbol %s: it is not a number", quote(text))
	}
	return l.literal(t, Number(f))
}

// name is the name that begins at off, "" if there is none, or what ends it is
// no ordinary end.
func (l *lexer) name(off int) string {
	if off == len(l.src) || classOf[l.src[off]] != classLetter {
		return ""
	}
	i := off + 1
	for i < len(l.src) && classOf[l.src[i]] <= classDigit {
		i++
	}
	if i < len(l.src) && l.src[i] != ' ' && classOf[l.src[i]] != classBoundary {
		return ""
	}
	return l.src[off:i]
}

func (l *lexer) word(t *token) *exprError {
	text := l.name(l.off)
	if text != "" {
		l.off += len(text)
	} else if text = l.extent(false); !isIdentifier(text) {
		hint := ""
		switch text[0] {
		case '"':
			hint = ": strings are written in single quotes"
		case '=':
			hint = ": equality is written =="
		case '&':
			hint = ": and is written &&"
		case '|':
			hint = ": or is written ||"
		}
		return exprErrorf(t.pos, "unexpected symbol %s%s", quote(text), hint)
	}
	if l.last != tokDot {
		switch text {
		case "true":
			return l.literal(t, Bool(true))
		case "false":
			return l.literal(t, Bool(false))
		case "null":
			return l.literal(t, Null)
		case "NaN":
			return l.literal(t, Number(math.NaN()))
		case "Infinity":
			return l.literal(t, Number(math.Inf(1)))
		}
	}
	t.kind, t.text = tokName, text
	l.last = tokName
	return nil
}

// extent consumes at least one character and then all up to the next space or
// operator; a dot is no operator within a number.
func (l *lexer) extent(number bool) string {
	start := l.off
	_, n := utf8.DecodeRuneInString(l.src[l.off:])
	i := l.off + n
	for ; i < len(l.src); i++ {
		c := l.src[i]
		if classOf[c] <= classDigit || c == '.' && number {
			continue
		}
		if classOf[c] == classBoundary {
			break
		}
		r, n := utf8.DecodeRuneInString(l.src[i:])
		if unicode.IsSpace(r) {
			break
		}
		i += n - 1
	}
	l.off = i
	return l.src[start:i]
}

// Classes of bytes.
const (
	classLetter   = iota // and _
	classDigit           // and -, which may follow a letter in a name
	classBoundary        // ends a name or number
	classPlain           // other visible characters of ASCII
	classOther           // may be a space, or begin one
)

var classOf = func() (class [256]uint8) {
	for c := range class {
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_':
			class[c] = classLetter
		case '0' <= c && c <= '9' || c == '-':
			class[c] = classDigit
		case strings.IndexByte("()[],.!<>=&|", byte(c)) >= 0:
			class[c] = classBoundary
		case '!' <= c && c <= '~':
			class[c] = classPlain
		default:
			class[c] = classOther
		}
	}
	return class
}()

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isIdentifier(s string) bool {
	if s == "" || classOf[s[0]] != classLetter {
		return false
	}
	for i := 1; i < len(s); i++ {
		if classOf[s[i]] > classDigit {
			return false
		}
	}
	return true
}

// quote returns s in quotes, shortened, for a message.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return fmt.Sprintf("%q", s)
}
