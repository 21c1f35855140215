package redact

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"unicode/utf8"
)

const (
	// minLine is the least length of a line of a multi-line value that is masked by
	// itself. Shorter ones are often structure ("metadata:", "}").
	minLine = 16
	// minPart is the least length of a part that PowerShell's error view cuts
	// from a value at an ampersand.
	minPart = 6
)

// forms yields the ways in which a value is likely to appear in a log. Forms
// may repeat and may be too short to be of use.
func forms(v string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, f := range texts(v) {
			if !yield(f) {
				return
			}
		}
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for _, f := range append(aligned(enc, v), tails(enc, v)...) {
				if !yield(f) {
					return
				}
			}
		}
		for _, inner := range aligned(base64.RawStdEncoding, v) {
			// An encoded value is often encoded once more.
			for _, f := range aligned(base64.RawStdEncoding, inner) {
				if !yield(f) {
					return
				}
			}
		}
		for _, f := range wrapped(v) {
			if !yield(f) {
				return
			}
		}
		h := hex.EncodeToString([]byte(v))
		if !yield(h) {
			return
		}
		yield(strings.ToUpper(h))
	}
}

// texts are the forms that keep the value's letters.
func texts(v string) []string {
	unix := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(v)
	list := []string{v, unix, strings.ReplaceAll(unix, "\n", "\r\n")}
	if strings.Contains(unix, "\n") {
		for line := range strings.SplitSeq(unix, "\n") {
			line = strings.TrimSpace(line)
			if len(line) >= minLine && !armour(line) {
				list = append(list, escapes(line)...)
			}
		}
	}
	list = append(list, escapes(v)...)
	if q := strings.Trim(v, `"`); q != v {
		list = append(list, q)
	}
	// PowerShell's error view breaks a value at an ampersand and colours the parts.
	if i, j := strings.IndexByte(v, '&'), strings.LastIndexByte(v, '&'); i >= 0 {
		for _, part := range []string{v[:i], v[:j], v[i+1:], v[j+1:]} {
			if len(part) >= minPart {
				list = append(list, part)
			}
		}
	}
	return list
}

// escapes are the forms in which shells and text formats write a string.
func escapes(v string) []string {
	list := []string{v}
	// JSON: as Go writes it, without HTML escapes, in ASCII only, with \/ as PHP writes it.
	plain := jsonText(v, false)
	list = append(list, plain, jsonText(v, true), asciiOnly(plain), strings.ReplaceAll(plain, "/", `\/`))
	// A string that was escaped once is often part of another.
	list = append(list, jsonText(plain, false))
	// URL: query, path, RFC 3986 unreserved only, and that in lower case; encodeURIComponent.
	component := percent(v, "-_.~")
	list = append(list, url.QueryEscape(v), url.PathEscape(v), component, lowerPercent(component), percent(v, "-_.~!*'()"))
	// XML and HTML.
	var x strings.Builder
	_ = xml.EscapeText(&x, []byte(v)) // a strings.Builder does not fail
	list = append(list, x.String(),
		strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;").Replace(v),
		strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace(v),
		strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;").Replace(v),
		strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(v))
	// Shells: inside single and double quotes, printf %q, set -x ($'…'), PowerShell, a C-style argument.
	list = append(list,
		strings.ReplaceAll(v, "'", `'\''`),
		strings.ReplaceAll(v, "'", `'"'"'`),
		strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(v),
		backslashed(v),
		ansiC(v),
		strings.ReplaceAll(v, "'", "''"),
		strings.ReplaceAll(v, `"`, `\"`),
		strings.NewReplacer("`", "``", `"`, "`\"", "$", "`$").Replace(v))
	return list
}

// aligned returns the three base64 forms of v as part of a longer text, one
// for each position in a group of three bytes, without the characters that
// depend on what stands before and after.
func aligned(enc *base64.Encoding, v string) []string {
	var list []string
	for before := range 3 {
		s, skip := encodeAt(enc, v, before)
		if whole := (before + len(v)) * 8 / 6; skip < whole {
			list = append(list, s[skip:whole])
		}
	}
	return list
}

// tails returns the same for v at the end of the encoded text, where there are more
// characters that depend on v alone: with and without padding.
func tails(enc *base64.Encoding, v string) []string {
	var list []string
	for before := range 3 {
		if s, skip := encodeAt(enc, v, before); len(s)%4 != 0 {
			list = append(list, s[skip:], s[skip:]+"=="[:4-len(s)%4])
		}
	}
	return list
}

// encodeAt encodes v after so many other bytes; the first skip characters
// depend on those.
func encodeAt(enc *base64.Encoding, v string, before int) (s string, skip int) {
	b := append(make([]byte, before, before+len(v)), v...)
	return enc.EncodeToString(b), (before*8 + 5) / 6
}

// wrapped returns the lines of v's base64 form as base64 and openssl break it.
func wrapped(v string) []string {
	s := base64.StdEncoding.EncodeToString([]byte(v))
	var list []string
	for _, width := range []int{64, 76} {
		if len(s) <= width {
			continue
		}
		for rest := s; len(rest) >= minLine; rest = rest[min(width, len(rest)):] {
			list = append(list, rest[:min(width, len(rest))])
		}
	}
	return list
}

// armour reports whether the line is a PEM boundary, which is no secret.
func armour(line string) bool {
	return strings.HasPrefix(line, "-----BEGIN ") || strings.HasPrefix(line, "-----END ")
}

func jsonText(v string, html bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if e.Encode(v) != nil {
		return v
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

// asciiOnly writes what is not ASCII as \uXXXX, in UTF-16.
func asciiOnly(v string) string {
	var b strings.Builder
	for _, r := range v {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// percent writes all but letters, digits and the bytes of keep as %XX.
func percent(v, keep string) string {
	var b strings.Builder
	for i := range len(v) {
		if c := v[i]; alnum(c) || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// lowerPercent turns %XX into %xx.
func lowerPercent(v string) string {
	b := []byte(v)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], strings.ToLower(string(b[i+1:i+3])))
			i += 2
		}
	}
	return string(b)
}

// backslashed is what printf %q of a shell writes for printable text.
func backslashed(v string) string {
	var b strings.Builder
	for i := range len(v) {
		c := v[i]
		if !alnum(c) && c < utf8.RuneSelf && strings.IndexByte("-_./:=@%+", c) < 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// ansiC is the inside of $'…', which shells use where the text has control characters.
func ansiC(v string) string {
	return strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\t", `\t`, "\r", `\r`, "\x1b", `\E`).Replace(v)
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
