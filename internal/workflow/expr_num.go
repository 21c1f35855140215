package workflow

import (
	"math"
	"strconv"
	"strings"
	"unicode"
)

// formatNumber prints a number as GitHub does: at most 15 significant digits,
// no trailing zeros, -0 as "-0" is printed "0".
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
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// parseNumber coerces text to a number; NaN if it is none.
func parseNumber(s string) float64 {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

// foldCase maps text so that two texts which differ in case alone become equal.
func foldCase(s string) string {
	return strings.Map(unicode.ToUpper, s)
}
