package workflow

import (
	"math"
	"strconv"
	"strings"
)

// formatNumber prints a number as GitHub does: 15 significant digits without
// trailing zeros; from 1E+15 up and from 1E-05 down with an exponent of at
// least two digits; -0 is "0".
func formatNumber(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == 0:
		return "0"
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		return strconv.FormatInt(int64(f), 10)
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', 14, 64), "e")
	sign := ""
	if mantissa[0] == '-' {
		sign, mantissa = "-", mantissa[1:]
	}
	exp, _ := strconv.Atoi(exponent) // FormatFloat wrote it
	digits := strings.TrimRight(mantissa[:1]+mantissa[2:], "0")
	switch {
	case exp >= 15 || exp < -4:
		if len(digits) > 1 {
			digits = digits[:1] + "." + digits[1:]
		}
		esign := "+"
		if exp < 0 {
			esign, exp = "-", -exp
		}
		if exp < 10 {
			esign += "0"
		}
		return sign + digits + "E" + esign + strconv.Itoa(exp)
	case exp < 0:
		return sign + "0." + strings.Repeat("0", -exp-1) + digits
	case len(digits) <= exp+1:
		return sign + digits + strings.Repeat("0", exp+1-len(digits))
	}
	return sign + digits[:exp+1] + "." + digits[exp+1:]
}

// parseNumber coerces text to a number as GitHub does: surrounding space is
// ignored, nothing is 0; a decimal number with optional sign, fraction and
// exponent, 0x… and 0o… of 32 bits (in two's complement), Infinity; all else
// is NaN.
func parseNumber(s string) float64 {
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
