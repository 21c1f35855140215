package workflow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// FromJSON reads one JSON text as a value. Objects keep the order of the text;
// a repeated name replaces the value of the one before.
func FromJSON(raw []byte) (Value, error) { return readJSON(raw, false) }

// readJSON is FromJSON; exact says whether the names of the outermost object
// are case-sensitive.
func readJSON(raw []byte, exact bool) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	r := jsonReader{dec: d, exact: exact}
	v, err := r.value(0)
	if err != nil {
		return Null, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Null, errors.New("there is more text after the value")
	}
	return v, nil
}

type jsonReader struct {
	dec   *json.Decoder
	exact bool // names of the outermost object are case-sensitive
	count int
}

func (r *jsonReader) value(depth int) (Value, error) {
	t, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		return Null, io.ErrUnexpectedEOF
	}
	if err != nil {
		return Null, err
	}
	return r.from(t, depth)
}

func (r *jsonReader) from(t json.Token, depth int) (Value, error) {
	if r.count++; r.count > maxJSONValues {
		return Null, fmt.Errorf("more than %d values", maxJSONValues)
	}
	if depth > maxJSONDepth {
		return Null, fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
	}
	switch t := t.(type) {
	case nil:
		return Null, nil
	case bool:
		return Bool(t), nil
	case string:
		return String(t), nil
	case json.Number:
		f, err := t.Float64()
		if err != nil && math.IsInf(f, 0) {
			err = nil // beyond the range: an infinity
		}
		return Number(f), err
	case json.Delim:
		if t == '[' {
			return r.array(depth)
		}
		if t == '{' {
			return r.object(depth)
		}
	}
	return Null, fmt.Errorf("unexpected %v", t)
}

func (r *jsonReader) array(depth int) (Value, error) {
	a := &array{}
	for r.dec.More() {
		v, err := r.value(depth + 1)
		if err != nil {
			return Null, err
		}
		a.items = append(a.items, v)
	}
	_, err := r.dec.Token()
	return Value{kind: KindArray, arr: a}, eofUnexpected(err)
}

func (r *jsonReader) object(depth int) (Value, error) {
	o := newObject(0, r.exact && depth == 0)
	for r.dec.More() {
		k, err := r.dec.Token()
		if err != nil {
			return Null, eofUnexpected(err)
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return Null, err
		}
		o.set(k.(string), v) // the decoder accepts no other name
	}
	_, err := r.dec.Token()
	return Value{kind: KindObject, obj: o}, eofUnexpected(err)
}

func eofUnexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// JSON returns the value as toJSON prints it: two spaces of indentation,
// entries in order, nothing escaped that JSON does not demand. NaN and the
// infinities are printed as they are, which no JSON parser accepts.
func (v Value) JSON() string {
	w := jsonWriter{pretty: true, limit: math.MaxInt}
	w.value(v, 0)
	return string(w.buf)
}

// MarshalJSON returns the value as compact JSON. NaN and the infinities, which
// JSON lacks, become strings.
func (v Value) MarshalJSON() ([]byte, error) {
	w := jsonWriter{limit: math.MaxInt}
	w.value(v, 0)
	return w.buf, nil
}

// jsonWriter writes values as JSON, up to about limit bytes.
type jsonWriter struct {
	buf    []byte
	pretty bool
	limit  int
}

// value reports false when the limit was passed.
func (w *jsonWriter) value(v Value, depth int) bool {
	if len(w.buf) > w.limit {
		return false
	}
	switch v.kind {
	case KindBool:
		w.buf = append(w.buf, v.String()...)
	case KindNumber:
		if !w.pretty && (math.IsNaN(v.num) || math.IsInf(v.num, 0)) {
			w.quoted(v.String())
		} else {
			w.buf = append(w.buf, v.String()...)
		}
	case KindString:
		w.quoted(v.str)
	case KindArray:
		return w.list('[', ']', depth, len(v.arr.items), func(i int) bool {
			return w.value(v.arr.items[i], depth+1)
		})
	case KindObject:
		return w.list('{', '}', depth, len(v.obj.keys), func(i int) bool {
			w.quoted(v.obj.keys[i])
			w.buf = append(w.buf, ':')
			if w.pretty {
				w.buf = append(w.buf, ' ')
			}
			return w.value(v.obj.vals[i], depth+1)
		})
	default:
		w.buf = append(w.buf, "null"...)
	}
	return true
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
		w.buf = append(w.buf, strings.Repeat("  ", depth)...)
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
