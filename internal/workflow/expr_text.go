package workflow

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Texts are compared by the simple upper case of their characters, as .NET's
// ordinal comparison without case does: one character for one, in no language.
// Its two exceptions are here too: no character outside of ASCII has one of
// ASCII as its upper case.

// upper is the simple upper case of r.
func upper(r rune) rune {
	switch {
	case r < utf8.RuneSelf:
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	case r == 'ı' || r == 'ſ':
		return r
	}
	return unicode.ToUpper(r)
}

func lowerASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// foldCase maps texts that differ in case alone to the same text. ASCII is
// mapped to lower case, which leaves most names as they are.
func foldCase(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r = upper(r); r < utf8.RuneSelf {
			r = rune(lowerASCII(byte(r)))
		}
		return r
	}, s)
}

// foldASCII appends the folded form of s to buf if s is ASCII and has room there.
func foldASCII(buf []byte, s string) (folded []byte, ok bool) {
	if len(s) > cap(buf)-len(buf) {
		return buf, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return buf, false
		}
		buf = append(buf, lowerASCII(s[i]))
	}
	return buf, true
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// equalFold reports whether a and b differ in case alone.
func equalFold(a, b string) bool {
	if len(a) == len(b) {
		if a == b {
			return true
		}
		i := 0
		for i < len(a) && lowerASCII(a[i]) == lowerASCII(b[i]) {
			i++
		}
		if i == len(a) {
			return true
		}
		if a[i] < utf8.RuneSelf || b[i] < utf8.RuneSelf {
			return false // all before is the same, so a character begins here in both
		}
	} else if isASCII(a) || isASCII(b) {
		return false
	}
	return compareFold(a, b) == 0
}

// hasPrefixFold and hasSuffixFold report whether s begins or ends with affix,
// and containsFold whether it is in s, all without regard to case.
func hasPrefixFold(s, affix string) bool {
	if isASCII(affix) {
		return len(s) >= len(affix) && equalFold(s[:len(affix)], affix)
	}
	return strings.HasPrefix(foldCase(s), foldCase(affix))
}

func hasSuffixFold(s, affix string) bool {
	if isASCII(affix) {
		return len(s) >= len(affix) && equalFold(s[len(s)-len(affix):], affix)
	}
	return strings.HasSuffix(foldCase(s), foldCase(affix))
}

func containsFold(s, sub string) bool {
	if len(s)*len(sub) > 1<<12 || !isASCII(sub) {
		return strings.Contains(foldCase(s), foldCase(sub)) // in linear time
	}
	if sub == "" {
		return true
	}
	first := lowerASCII(sub[0])
	for i := 0; i+len(sub) <= len(s); i++ {
		if lowerASCII(s[i]) == first && equalFold(s[i:i+len(sub)], sub) {
			return true
		}
	}
	return false
}

// compareFold orders a and b by their upper-case forms, UTF-16 code unit by
// code unit.
func compareFold(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		a, b = a[na:], b[nb:]
		if ra == rb {
			continue
		}
		if ra, rb = upper(ra), upper(rb); ra != rb {
			if utf16Rank(ra) < utf16Rank(rb) {
				return -1
			}
			return 1
		}
	}
	switch {
	case a != "":
		return 1
	case b != "":
		return -1
	}
	return 0
}

// utf16Rank maps a rune to a number in the order of UTF-16 encodings: those
// beyond the basic plane come before U+E000.
func utf16Rank(r rune) rune {
	switch {
	case r >= 0x10000:
		return r - 0x10000 + 0xD800
	case r >= 0xE000:
		return r + 0x110000
	}
	return r
}

// utf16Len is the length of s as GitHub measures texts, in UTF-16 code units.
func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x10000 {
			n++
		}
	}
	return n
}
