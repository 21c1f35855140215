package broker

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"
)

// messages passes on what a client of PostgreSQL sends after its start, until it ends; a
// statement that would leave the role ends it with a refusal. It returns the bytes passed on.
func messages(to io.Writer, from io.Reader) (sent int64, err error) {
	var head [5]byte
	for {
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return sent, err
		}
		n := int64(binary.BigEndian.Uint32(head[1:])) - 4
		if n < 0 || n > 1<<30 {
			return sent, refuse("the message has an impossible length", "use a client of PostgreSQL")
		}
		switch kind := head[0]; kind {
		case 'Q', 'P':
			if n > maxStatement {
				return sent, refuse("the statement is too long to be looked at", "send data by COPY or as parameters")
			}
			body := make([]byte, n)
			if _, err := io.ReadFull(from, body); err != nil {
				return sent, err
			}
			sql := body
			if kind == 'P' { // the statement's name comes first
				_, sql, _ = bytes.Cut(body, []byte{0})
			}
			sql, _, _ = bytes.Cut(sql, []byte{0})
			if what := leaves(string(sql)); what != "" {
				return sent, refuse("the statement uses "+what+", which is not lent", "do it with another role, outside the job")
			}
			if _, err := to.Write(append(head[:], body...)); err != nil {
				return sent, err
			}
		case 'B', 'E', 'D', 'C', 'H', 'S', 'd', 'c', 'f', 'X':
			if _, err := to.Write(head[:]); err != nil {
				return sent, err
			}
			if _, err := io.CopyN(to, from, n); err != nil {
				return sent, err
			}
		default: // such as a function call, which names what it calls by number
			return sent, refuse("a message of this kind is not passed on", "call functions by SELECT")
		}
		sent += 5 + n
	}
}

// leaves names what in SQL would change or leave the role, "" when there is nothing of the kind.
//
// It reads words, not meaning: SQL that is put together inside the server passes it.
// It is there so that what was not meant as an attack is told apart, and what is one
// leaves a trace. What holds is the role's own rights (checkRole).
func leaves(sql string) string {
	start := true
	list := words(sql, 0)
	for i, w := range list {
		at := func(n int) string {
			if i+n < len(list) {
				return list[i+n].text
			}
			return ""
		}
		if w.kind == wordUnicode {
			return "names or strings written as Unicode escapes"
		}
		if w.text == "update" && w.kind == wordPlain && slices.ContainsFunc(list[i+1:min(len(list), i+5)], word.isSettings) {
			return "UPDATE pg_settings"
		}
		if w.kind == wordPlain && start {
			next := at(1)
			if (w.text == "set") && (next == "local" || next == "session" && at(2) != "authorization") {
				next = at(2)
			}
			switch w.text {
			case "set":
				switch {
				case next == "role" || next == "session_authorization":
					return "SET ROLE"
				case next == "session" || next == "authorization":
					return "SET SESSION AUTHORIZATION"
				case next == "standard_conforming_strings":
					return "SET standard_conforming_strings"
				}
			case "alter", "create", "drop":
				if slices.Contains([]string{"user", "role", "group", "system"}, next) {
					return strings.ToUpper(w.text + " " + next)
				}
			case "do": // code that is not dollar-quoted is not read
				code := slices.IndexFunc(list[i:], func(w word) bool {
					return w.kind == wordBody || w.kind == wordString || w.kind == wordEscapes || w == word{wordMark, ";"}
				})
				if code >= 0 && (list[i+code].kind == wordString || list[i+code].kind == wordEscapes) {
					return "DO with code in plain quotes"
				}
			case "load":
				return "LOAD"
			case "copy":
				if slices.Contains(statement(list[i:]), word{wordPlain, "program"}) {
					return "COPY … PROGRAM"
				}
			}
		}
		if w.kind != wordString && w.kind != wordEscapes && at(1) == "(" {
			if slices.Contains([]string{"pg_read_file", "pg_read_binary_file", "pg_ls_dir", "pg_stat_file", "lo_import", "lo_export", "dblink", "dblink_connect", "dblink_exec", "pg_reload_conf"}, w.text) {
				return w.text
			}
			if w.text == "set_config" && (at(3) != "," || slices.Contains([]string{"role", "session_authorization", "standard_conforming_strings", ""}, strings.ToLower(literal(list, i+2)))) {
				return "set_config of the role"
			}
		}
		// A statement begins after these, also inside a function's body.
		start = w.kind == wordMark && w.text == ";" || w.kind == wordBody || w.kind == wordPlain && slices.Contains([]string{"begin", "then", "else", "loop", "atomic"}, w.text)
	}
	return ""
}

// statement is what of a list belongs to its first statement.
func statement(list []word) []word {
	if end := slices.Index(list, word{wordMark, ";"}); end >= 0 {
		return list[:end]
	}
	return list
}

// literal is the string at a position, "" when there is another thing, also one with escapes in it.
func literal(list []word, i int) string {
	if i < len(list) && list[i].kind == wordString {
		return list[i].text
	}
	return ""
}

type word struct {
	kind wordKind
	text string
}

// isSettings tells whether a word names the view through which settings can be changed.
func (w word) isSettings() bool {
	return (w.kind == wordPlain || w.kind == wordQuoted) && w.text == "pg_settings"
}

type wordKind int

const (
	wordPlain  wordKind = iota // a name or keyword, in lower case
	wordQuoted                 // a quoted name
	wordString
	wordEscapes // a string in which a backslash stands for something, not decoded
	wordUnicode // U&"…" or U&'…', likewise
	wordBody    // the beginning of a dollar-quoted string, whose words follow
	wordMark    // any other character
)

// maxNesting bounds dollar quotes within each other.
const maxNesting = 8

// words cuts SQL as PostgreSQL's lexer does, without comments; what is dollar-quoted
// is mostly code, and cut too.
func words(sql string, depth int) (list []word) {
	for i := 0; i < len(sql); {
		c := sql[i]
		rest := sql[i:]
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			i++
		case strings.HasPrefix(rest, "--"):
			end := strings.IndexAny(rest, "\r\n")
			if end < 0 {
				return list
			}
			i += end
		case strings.HasPrefix(rest, "/*"):
			i += comment(rest)
		case c == '\'':
			text, n := quoted(rest, '\'', false)
			list, i = append(list, word{wordString, text}), i+n
		case c == '"':
			text, n := quoted(rest, '"', false)
			list, i = append(list, word{wordQuoted, text}), i+n
		case (c == 'e' || c == 'E') && strings.HasPrefix(rest[1:], "'"):
			text, n := quoted(rest[1:], '\'', true)
			kind := wordString
			if strings.Contains(rest[1:1+n], `\`) {
				kind = wordEscapes
			}
			list, i = append(list, word{kind, text}), i+1+n
		case (c == 'u' || c == 'U') && (strings.HasPrefix(rest[1:], "&'") || strings.HasPrefix(rest[1:], `&"`)):
			text, n := quoted(rest[2:], rest[2], false)
			list, i = append(list, word{wordUnicode, text}), i+2+n
		case c == '$':
			tag, ok := dollar(rest)
			if !ok {
				list, i = append(list, word{wordMark, "$"}), i+1
				continue
			}
			body := rest[len(tag):]
			end := strings.Index(body, tag)
			if end < 0 {
				end = len(body)
			}
			list = append(list, word{kind: wordBody})
			if depth < maxNesting {
				list = append(list, words(body[:end], depth+1)...)
			}
			list = append(list, word{wordMark, ";"})
			i += min(len(rest), len(tag)+end+len(tag))
		case letter(c):
			n := 1
			for n < len(rest) && (letter(rest[n]) || rest[n] >= '0' && rest[n] <= '9' || rest[n] == '$') {
				n++
			}
			list, i = append(list, word{wordPlain, strings.ToLower(rest[:n])}), i+n
		default:
			list, i = append(list, word{wordMark, string(c)}), i+1
		}
	}
	return list
}

func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

// comment returns the length of a comment, which may hold others.
func comment(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// quoted reads a quoted piece and returns its text and length.
func quoted(s string, quote byte, escapes bool) (string, int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case escapes && s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] != quote:
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == quote:
			i++
			b.WriteByte(quote)
		default:
			return b.String(), i + 1
		}
	}
	return b.String(), len(s)
}

// dollar returns the tag with which a dollar-quoted string begins.
func dollar(s string) (string, bool) {
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '$':
			return s[:i+1], true
		case letter(c) || i > 1 && c >= '0' && c <= '9':
		default:
			return "", false
		}
	}
	return "", false
}
