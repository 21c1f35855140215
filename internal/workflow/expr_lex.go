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

var operators = []struct {
	text string
	kind tokenKind
}{ // longer ones first
	{"==", tokEqual}, {"!=", tokUnequal}, {"<=", tokLessEqual}, {">=", tokGreaterEqual},
	{"&&", tokAnd}, {"||", tokOr},
	{"!", tokNot}, {"<", tokLess}, {">", tokGreater},
	{"(", tokOpen}, {")", tokClose}, {"[", tokIndex}, {"]", tokUnindex}, {",", tokComma}, {"*", tokStar},
}

// next returns the next token; at the end of the source its kind is tokEnd.
func (l *lexer) next() (token, *exprError) {
	l.skipSpace()
	if l.off == len(l.src) {
		return token{kind: tokEnd, pos: l.off}, nil
	}
	t, err := l.scan()
	l.last = t.kind
	return t, err
}

func (l *lexer) skipSpace() {
	for l.off < len(l.src) {
		if c := l.src[l.off]; '!' <= c && c <= '~' {
			return
		}
		r, n := utf8.DecodeRuneInString(l.src[l.off:])
		if !unicode.IsSpace(r) {
			return
		}
		l.off += n
	}
}

func (l *lexer) scan() (token, *exprError) {
	start, rest := l.off, l.src[l.off:]
	switch c := rest[0]; {
	case 'a' <= c && c <= 'z':
		return l.word()
	case c == '\'':
		return l.quoted()
	case c == '.' && l.mayDereference():
		l.off++
		return token{kind: tokDot, pos: start, text: "."}, nil
	case c == '+' || c == '-' || c == '.' || '0' <= c && c <= '9':
		return l.number()
	}
	for _, op := range operators {
		if strings.HasPrefix(rest, op.text) {
			l.off += len(op.text)
			return token{kind: op.kind, pos: start, text: op.text}, nil
		}
	}
	return l.word()
}

// mayDereference reports whether a dot here follows something with properties.
func (l *lexer) mayDereference() bool {
	switch l.last {
	case tokName, tokClose, tokUnindex, tokStar:
		return true
	}
	return false
}

// quoted scans a string in single quotes; two quotes stand for one.
func (l *lexer) quoted() (token, *exprError) {
	start := l.off
	doubled := false
	for i := start + 1; i < len(l.src); i++ {
		if l.src[i] != '\'' {
			continue
		}
		if i+1 < len(l.src) && l.src[i+1] == '\'' {
			doubled = true
			i++
			continue
		}
		l.off = i + 1
		s := l.src[start+1 : i]
		if doubled {
			s = strings.ReplaceAll(s, "''", "'")
		}
		return token{kind: tokLiteral, pos: start, text: l.src[start:l.off], val: String(s)}, nil
	}
	return token{}, exprErrorf(start, "the string %s is not closed: add a single quote at its end (a quote within it is written twice)", quote(l.src[start:]))
}

func (l *lexer) number() (token, *exprError) {
	start := l.off
	text := l.extent(func(c byte) bool { return c == '.' })
	f := parseNumber(text)
	if math.IsNaN(f) {
		return token{}, exprErrorf(start, "unexpected symbol %s: it is not a number", quote(text))
	}
	return token{kind: tokLiteral, pos: start, text: text, val: Number(f)}, nil
}

func (l *lexer) word() (token, *exprError) {
	start := l.off
	afterDot := l.last == tokDot
	text := l.extent(func(byte) bool { return false })
	if !isIdentifier(text) {
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
		return token{}, exprErrorf(start, "unexpected symbol %s%s", quote(text), hint)
	}
	t := token{kind: tokLiteral, pos: start, text: text}
	switch {
	case afterDot:
		t.kind = tokName
	case text == "true":
		t.val = Bool(true)
	case text == "false":
		t.val = Bool(false)
	case text == "null":
		t.val = Null
	case text == "NaN":
		t.val = Number(math.NaN())
	case text == "Infinity":
		t.val = Number(math.Inf(1))
	default:
		t.kind = tokName
	}
	return t, nil
}

// extent consumes at least one character and then all up to the next
// boundary, boundaries that also allows excepted.
func (l *lexer) extent(also func(c byte) bool) string {
	start := l.off
	_, n := utf8.DecodeRuneInString(l.src[l.off:])
	l.off += n
	for l.off < len(l.src) {
		if c := l.src[l.off]; c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			l.off++
			continue
		}
		r, n := utf8.DecodeRuneInString(l.src[l.off:])
		if r < utf8.RuneSelf && also(byte(r)) {
			l.off += n
			continue
		}
		if unicode.IsSpace(r) || r < utf8.RuneSelf && strings.IndexByte("()[],.!<>=&|", byte(r)) >= 0 {
			break
		}
		l.off += n
	}
	return l.src[start:l.off]
}

func isIdentifier(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_':
		case i > 0 && ('0' <= c && c <= '9' || c == '-'):
		default:
			return false
		}
	}
	return s != ""
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
