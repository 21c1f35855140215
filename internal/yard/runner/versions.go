package runner

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// version is a released version: major, minor, patch.
type version [3]int

func (v version) String() string {
	return strconv.Itoa(v[0]) + "." + strconv.Itoa(v[1]) + "." + strconv.Itoa(v[2])
}

func (v version) less(o version) bool {
	for i := range v {
		if v[i] != o[i] {
			return v[i] < o[i]
		}
	}
	return false
}

// next returns the first version after all that agree with v in the parts up to i.
func (v version) next(i int) version {
	v[i]++
	for i++; i < len(v); i++ {
		v[i] = 0
	}
	return v
}

// span is a range of versions, from low to below high.
type span struct{ low, high version }

func (s span) holds(v version) bool { return !v.less(s.low) && v.less(s.high) }

var endOfVersions = version{math.MaxInt32}

var comparator = regexp.MustCompile(`^(>=|<=|>|<|=|\^|~)?\s*v?(x|X|\*|[0-9]{1,9})(?:\.(x|X|\*|[0-9]{1,9}))?(?:\.(x|X|\*|[0-9]{1,9}))?$`)

// maxRange bounds the text of a range of versions.
const maxRange = 500

// satisfies reports whether a version is in a range as npm writes them
// (node-semver, "Ranges"), which setup actions of every language use; ok is false for what
// is no such range. Pre-releases are none.
func (v version) satisfies(text string) (in, ok bool) {
	if len(text) > maxRange {
		return false, false
	}
	for set := range strings.SplitSeq(text, "||") {
		all := true
		for _, c := range comparators(set) {
			s, ok := parseComparator(c)
			if !ok {
				return false, false
			}
			all = all && s.holds(v)
		}
		in = in || all
	}
	return in, true
}

// comparators splits a set at white space, with its operators; "a - b" becomes two.
func comparators(set string) []string {
	var out []string
	operator, upTo := "", false
	for _, f := range strings.Fields(set) {
		switch {
		case f == "-" && len(out) > 0:
			out[len(out)-1], upTo = ">="+out[len(out)-1], true
		case strings.Trim(f, "<>=^~") == "":
			operator = f
		default:
			if upTo {
				operator = "<="
			}
			out = append(out, operator+f)
			operator, upTo = "", false
		}
	}
	if operator != "" || upTo {
		out = append(out, operator) // which is no comparator
	}
	if out == nil {
		out = []string{"*"}
	}
	return out
}

func parseComparator(text string) (span, bool) {
	m := comparator.FindStringSubmatch(text)
	if m == nil {
		return span{}, false
	}
	var v version
	given := 0
	for i, part := range m[2:] {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		v[i], given = n, i+1
	}
	if given == 0 {
		return span{high: endOfVersions}, true
	}
	whole := span{v, v.next(given - 1)}
	switch m[1] {
	case ">=":
		return span{v, endOfVersions}, true
	case ">":
		return span{whole.high, endOfVersions}, true
	case "<":
		return span{high: v}, true
	case "<=":
		return span{high: whole.high}, true
	case "~":
		return span{v, v.next(min(given-1, 1))}, true
	case "^":
		i := 0
		for i < given-1 && v[i] == 0 {
			i++
		}
		return span{v, v.next(i)}, true
	}
	return whole, true
}

var versionInText = regexp.MustCompile(`([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?`)

// findVersion returns the first version in what a tool prints.
func findVersion(text string) (version, bool) {
	m := versionInText.FindStringSubmatch(text)
	if m == nil {
		return version{}, false
	}
	var v version
	for i, part := range m[1:] {
		v[i], _ = strconv.Atoi(part) // "" is 0
	}
	return v, true
}
