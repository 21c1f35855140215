package workflow

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// FromJSON reads one JSON text (RFC 8259) as a value. Objects keep the order
// of the text; of names that differ at most in case the last value counts, at
// the place and in the spelling of the first. Numbers beyond the range are
// infinite.
func FromJSON(raw []byte) (Value, error) { return readJSON(string(raw), false) }

// readJSON is FromJSON; exact says whether the names of the outermost object
// are case-sensitive.
func readJSON(text string, exact bool) (Value, error) {
	r := jsonReader{text: text, exact: exact}
	return r.read()
}

// jsonReader reads one JSON text.
type jsonReader struct {
	text  string
	off   int
	exact bool // names of the outermost object are case-sensitive
	count int
	stack []Value // elements of the arrays under way
}

func (r *jsonReader) read() (Value, error) {
	v, err := r.value(0)
	if err != nil {
		return Null, err
	}
	if r.space(); r.off < len(r.text) {
		return Null, errors.New("there is more text after the value")
	}
	return v, nil
}

func (r *jsonReader) space() {
	for r.off < len(r.text) {
		switch r.text[r.off] {
		case ' ', '\t', '\n', '\r':
			r.off++
		default:
			return
		}
	}
}

// peek is the next character that is no space, 0 at the end.
func (r *jsonReader) peek() byte {
	if r.space(); r.off == len(r.text) {
		return 0
	}
	return r.text[r.off]
}

func (r *jsonReader) unexpected() error {
	if r.off >= len(r.text) {
		return errors.New("unexpected end of JSON")
	}
	c, _ := utf8.DecodeRuneInString(r.text[r.off:])
	return fmt.Errorf("unexpected character %q at %d", c, r.off+1)
}

func (r *jsonReader) value(depth int) (Value, error) {
	if r.count++; r.count > maxJSONValues {
		return Null, fmt.Errorf("more than %d values", maxJSONValues)
	}
	switch c := r.peek(); {
	case c == '"':
		s, err := r.quoted()
		return String(s), err
	case c == '-' || isDigit(c):
		return r.number()
	case c == '[' || c == '{':
		if depth >= maxJSONDepth {
			return Null, fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
		}
		if r.off++; c == '[' {
			return r.array(depth)
		}
		return r.object(depth)
	case r.word("true"):
		return Bool(true), nil
	case r.word("false"):
		return Bool(false), nil
	case r.word("null"):
		return Null, nil
	}
	return Null, r.unexpected()
}

func (r *jsonReader) word(w string) bool {
	if !strings.HasPrefix(r.text[r.off:], w) {
		return false
	}
	r.off += len(w)
	return true
}

func (r *jsonReader) number() (Value, error) {
	start := r.off
	if r.text[r.off] == '-' {
		r.off++
	}
	first := r.off
	if !r.digits() {
		return Null, r.unexpected()
	}
	if r.text[first] == '0' && r.off > first+1 {
		r.off = first + 1
		return Null, r.unexpected()
	}
	if r.word(".") && !r.digits() {
		return Null, r.unexpected()
	}
	if r.word("e") || r.word("E") {
		if !r.word("+") {
			r.word("-")
		}
		if !r.digits() {
			return Null, r.unexpected()
		}
	}
	f, _ := strconv.ParseFloat(r.text[start:r.off], 64) // out of range: an infinity
	return Number(f), nil
}

// digits consumes digits and reports whether there was one.
func (r *jsonReader) digits() bool {
	start := r.off
	r.off = skipDigits(r.text, start)
	return r.off > start
}

func (r *jsonReader) array(depth int) (Value, error) {
	a := &array{}
	v := Value{kind: KindArray, arr: a}
	if r.peek() == ']' {
		r.off++
		return v, nil
	}
	first := len(r.stack)
	for {
		x, err := r.value(depth + 1)
		if err != nil {
			return Null, err
		}
		r.stack = append(r.stack, x)
		switch r.peek() {
		case ',':
			r.off++
		case ']':
			r.off++
			a.items = slices.Clone(r.stack[first:])
			clear(r.stack[first:])
			r.stack = r.stack[:first]
			return v, nil
		default:
			return Null, r.unexpected()
		}
	}
}

func (r *jsonReader) object(depth int) (Value, error) {
	o := newObject(4, r.exact && depth == 0)
	v := Value{kind: KindObject, obj: o}
	if r.peek() == '}' {
		r.off++
		return v, nil
	}
	for {
		if r.peek() != '"' {
			return Null, r.unexpected()
		}
		k, err := r.quoted()
		if err != nil {
			return Null, err
		}
		if r.peek() != ':' {
			return Null, r.unexpected()
		}
		r.off++
		x, err := r.value(depth + 1)
		if err != nil {
			return Null, err
		}
		o.set(k, x)
		switch r.peek() {
		case ',':
			r.off++
		case '}':
			r.off++
			return v, nil
		default:
			return Null, r.unexpected()
		}
	}
}

// quoted reads a string. Surrogates that are alone, and bytes that are not
// UTF-8, become U+FFFD.
func (r *jsonReader) quoted() (string, error) {
	start, ascii := r.off+1, true
	for r.off = start; r.off < len(r.text); r.off++ {
		switch c := r.text[r.off]; {
		case c == '"':
			r.off++
			s := r.text[start : r.off-1]
			if !ascii {
				s = validUTF8(s)
			}
			return s, nil
		case c >= utf8.RuneSelf:
			ascii = false
		case c < ' ':
			return "", r.unexpected()
		case c == '\\':
			return r.escaped(start)
		}
	}
	return "", r.unexpected()
}

// validUTF8 replaces each byte that is not UTF-8 by U+FFFD.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.Map(func(r rune) rune { return r }, s)
}

// escaped reads the rest of a string that has an escape sequence here.
func (r *jsonReader) escaped(start int) (string, error) {
	buf := append(make([]byte, 0, r.off-start+32), r.text[start:r.off]...)
	for r.off < len(r.text) {
		c := r.text[r.off]
		switch {
		case c == '"':
			r.off++
			return validUTF8(string(buf)), nil
		case c < ' ':
			return "", r.unexpected()
		case c != '\\':
			buf = append(buf, c)
			r.off++
			continue
		}
		if r.off++; r.off == len(r.text) {
			break
		}
		c = r.text[r.off]
		if c == 'u' {
			u, ok := r.hex(r.off + 1)
			if !ok {
				return "", r.unexpected()
			}
			r.off += 5
			if utf16.IsSurrogate(u) {
				low, ok := rune(0), false
				if strings.HasPrefix(r.text[r.off:], `\u`) {
					low, ok = r.hex(r.off + 2)
				}
				if u = utf16.DecodeRune(u, low); ok && u != utf8.RuneError {
					r.off += 6
				}
			}
			buf = utf8.AppendRune(buf, u)
			continue
		}
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return "", r.unexpected()
		}
		buf = append(buf, "\"\\/\b\f\n\r\t"[i])
		r.off++
	}
	return "", r.unexpected()
}

// hex reads the four hexadecimal digits at off.
func (r *jsonReader) hex(off int) (rune, bool) {
	if off+4 > len(r.text) {
		return 0, false
	}
	u := rune(0)
	for _, c := range []byte(r.text[off : off+4]) {
		switch {
		case isDigit(c):
			u = u<<4 | rune(c-'0')
		case 'a' <= lowerASCII(c) && lowerASCII(c) <= 'f':
			u = u<<4 | rune(lowerASCII(c)-'a'+10)
		default:
			return 0, false
		}
	}
	return u, true
}

// JSON returns the value as toJSON prints it: two spaces of indentation,
// entries in order, nothing escaped that JSON does not demand. NaN and the
// infinities are printed as they are, which no JSON parser accepts.
func (v Value) JSON() string {
	w := jsonWriter{pretty: true, limit: math.MaxInt}
	w.value(&v, 0)
	return string(w.buf)
}

// MarshalJSON returns the value as compact JSON, with numbers exact. NaN and the
// infinities, which JSON lacks, become strings of what toJSON prints.
func (v Value) MarshalJSON() ([]byte, error) {
	w := jsonWriter{limit: math.MaxInt}
	w.value(&v, 0)
	return w.buf, nil
}

// jsonWriter writes values as JSON, up to about limit bytes.
type jsonWriter struct {
	buf    []byte
	pretty bool
	limit  int
}

// value reports false when the limit was passed.
func (w *jsonWriter) value(v *Value, depth int) bool {
	if len(w.buf) > w.limit {
		return false
	}
	switch v.kind {
	case KindBool:
		w.buf = append(w.buf, v.String()...)
	case KindNumber:
		w.number(v.num)
	case KindString:
		w.quoted(v.str)
	case KindArray:
		return w.list('[', ']', depth, len(v.arr.items), func(i int) bool {
			return w.value(&v.arr.items[i], depth+1)
		})
	case KindObject:
		return w.list('{', '}', depth, len(v.obj.keys), func(i int) bool {
			w.quoted(v.obj.keys[i])
			w.buf = append(w.buf, ':')
			if w.pretty {
				w.buf = append(w.buf, ' ')
			}
			return w.value(&v.obj.vals[i], depth+1)
		})
	default:
		w.buf = append(w.buf, "null"...)
	}
	return true
}

func (w *jsonWriter) number(f float64) {
	switch {
	case w.pretty:
		w.buf = appendNumber(w.buf, f)
	case math.IsNaN(f) || math.IsInf(f, 0):
		w.quoted(formatNumber(f))
	case f == 0: // -0 is 0
		w.buf = append(w.buf, '0')
	case math.Abs(f) < 1e-6 || math.Abs(f) >= 1e21:
		w.buf = strconv.AppendFloat(w.buf, f, 'e', -1, 64)
	default:
		w.buf = strconv.AppendFloat(w.buf, f, 'f', -1, 64)
	}
}

func (w *jsonWriter) list(open, end byte, depth, n int, item func(i int) bool) bool {
	w.buf = append(w.buf, open)
	for i := range n {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.newline(depth + 1)
		if !item(i) {
			return false
		}
	}
	if n > 0 {
		w.newline(depth)
	}
	w.buf = append(w.buf, end)
	return true
}

func (w *jsonWriter) newline(depth int) {
	if w.pretty {
		w.buf = append(w.buf, '\n')
		for range depth {
			w.buf = append(w.buf, "  "...)
		}
	}
}

// quoted writes s as a JSON string: quotes, backslashes, control characters
// and the line separators of Unicode are escaped; bytes that are not UTF-8
// become U+FFFD.
func (w *jsonWriter) quoted(s string) {
	const hex = "0123456789abcdef"
	b := append(w.buf, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, `\b`...)
			case '\f':
				b = append(b, `\f`...)
			case '\n':
				b = append(b, `\n`...)
			case '\r':
				b = append(b, `\r`...)
			case '\t':
				b = append(b, `\t`...)
			default:
				if c < ' ' {
					b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
				} else {
					b = append(b, c)
				}
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch r {
		case '\u0085', '\u2028', '\u2029':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	w.buf = append(b, '"')
}
