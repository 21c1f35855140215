package workflow

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// upper is the simple upper case of r. The dotless i stays itself, so that it
// does not become equal to an ASCII i.
func upper(r rune) rune {
	if r < utf8.RuneSelf {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}
	if r == 'ı' {
		return r
	}
	return unicode.ToUpper(r)
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
		r = upper(r)
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// equalFold reports whether a and b differ in case alone.
func equalFold(a, b string) bool { return a == b || foldCase(a) == foldCase(b) }

// compareFold orders a and b by their upper-case forms, UTF-16 code unit by
// code unit, as GitHub's ordinal comparison without case does.
func compareFold(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		a, b = a[na:], b[nb:]
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
