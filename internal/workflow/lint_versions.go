package workflow

import (
	"regexp"
	"strconv"
	"strings"
)

var versionText = regexp.MustCompile(`^v?(\d{1,6})(?:\.(\d{1,6}))?(?:\.(\d{1,6}))?$`)

// version is a version of an action; parts that are not written are -1.
type version [3]int

// parseVersion reads v1, v1.2 or v1.2.3, with or without the v.
func parseVersion(text string) (v version, ok bool) {
	m := versionText.FindStringSubmatch(text)
	if m == nil {
		return v, false
	}
	for i := range v {
		v[i] = -1
		if m[i+1] != "" {
			v[i], _ = strconv.Atoi(m[i+1]) // six digits
		}
	}
	return v, true
}

// before reports whether every version that v can stand for is before w. v4
// stands for the newest of its line, so it is before v5 and not before v4.1.
func (v version) before(w version) bool {
	for i := range v {
		if v[i] != w[i] {
			return v[i] >= 0 && v[i] < w[i]
		}
	}
	return false
}

// major is the first part of a ref that is a version, 0 of one that is none.
func major(ref string) int {
	if v, ok := parseVersion(ref); ok {
		return v[0]
	}
	return 0
}

// actionRepository is the owner/repository of an action's name.
func actionRepository(name string) string {
	parts := strings.SplitN(name, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// usedVersion is the version of a step's action: its ref, or the comment
// behind its commit id.
func (s *subject) usedVersion(st *stepView) (version, bool) {
	if st.name == "" {
		return version{}, false
	}
	if v, ok := parseVersion(st.ref); ok {
		return v, true
	}
	return parseVersion(s.versionOf(st))
}
