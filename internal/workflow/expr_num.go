package workflow

import (
	"math"
	"strconv"
	"strings"
)

// maxNumberText is the length of the longest number: -1.23456789012345E-300.
const maxNumberText = 22

func formatNumber(f float64) string {
	var buf [maxNumberText]byte
	return string(appendNumber(buf[:0], f))
}

// appendNumber appends a number as GitHub prints it: 15 significant digits
// without trailing zeros; from 1E+15 up and from 1E-05 down with an exponent of
// at least two digits; -0 is "0".
func appendNumber(buf []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(buf, "NaN"...)
	case math.IsInf(f, 1):
		return append(buf, "Infinity"...)
	case math.IsInf(f, -1):
		return append(buf, "-Infinity"...)
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		return strconv.AppendInt(buf, int64(f), 10)
	}
	var room [24]byte
	text := strconv.AppendFloat(room[:0], math.Abs(f), 'e', 14, 64) // d.dddddddddddddde±dd
	exp, _ := strconv.Atoi(string(text[17:]))
	digits := append(text[:1], text[2:16]...)
	for digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	if f < 0 {
		buf = append(buf, '-')
	}
	switch {
	case exp >= 15 || exp < -4:
		buf = append(buf, digits[0])
		if len(digits) > 1 {
			buf = append(append(buf, '.'), digits[1:]...)
		}
		sign := byte('+')
		if exp < 0 {
			sign, exp = '-', -exp
		}
		if buf = append(buf, 'E', sign); exp < 10 {
			buf = append(buf, '0')
		}
		return strconv.AppendInt(buf, int64(exp), 10)
	case exp < 0:
		buf = append(append(buf, "0."...), "0000"[:-exp-1]...)
		return append(buf, digits...)
	case len(digits) <= exp+1:
		buf = append(buf, digits...)
		return append(buf, "000000000000000"[:exp+1-len(digits)]...)
	}
	buf = append(buf, digits[:exp+1]...)
	return append(append(buf, '.'), digits[exp+1:]...)
}

// parseNumber coerces text to a number as GitHub does: surrounding space is
// ignored, nothing is 0; a decimal number with optional sign, fraction and
// exponent, 0x… and 0o… of 32 bits (in two's complement), Infinity; all else
// is NaN.
func parseNumber(s string) float64 {
	if n := len(s); 0 < n && n < 10 && skipDigits(s, 0) == n { // nearly all
		i := 0
		for _, c := range []byte(s) {
			i = 10*i + int(c-'0')
		}
		return float64(i)
	}
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return 0
	case isDecimal(s):
		f, _ := strconv.ParseFloat(s, 64) // out of range: an infinity
		return f
	case strings.HasPrefix(s, "0x"):
		return parseInt32(s[2:], 16)
	case strings.HasPrefix(s, "0o"):
		return parseInt32(s[2:], 8)
	case s == "Infinity" || s == "+Infinity":
		return math.Inf(1)
	case s == "-Infinity":
		return math.Inf(-1)
	}
	return math.NaN()
}

func parseInt32(digits string, base int) float64 {
	if strings.HasPrefix(digits, "+") || strings.Contains(digits, "_") {
		return math.NaN()
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil {
		return math.NaN()
	}
	return float64(int32(uint32(n)))
}

// isDecimal reports whether s is [+-] digits [. digits] [e [+-] digits] with
// at least one digit before the exponent.
func isDecimal(s string) bool {
	i := 0
	if s[i] == '+' || s[i] == '-' {
		i++
	}
	start := i
	i = skipDigits(s, i)
	n := i - start
	if i < len(s) && s[i] == '.' {
		start = i + 1
		i = skipDigits(s, start)
		n += i - start
	}
	if n == 0 {
		return false
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		start = i
		if i = skipDigits(s, i); i == start {
			return false
		}
	}
	return i == len(s)
}

func skipDigits(s string, i int) int {
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return i
}
