package advisory

import (
	"strings"
)

// Ecosystems, as OSV names them.
const (
	Go     = "Go"
	NPM    = "npm"
	PyPI   = "PyPI"
	Crates = "crates.io"
	Debian = "Debian"
)

// Index finds entries by package. It does not change once it is read, and may be
// asked by many at once. A nil Index knows nothing.
type Index struct {
	entries map[string][]entry // by key
	n       int
}

// Len returns how many entries about malicious packages there are.
func (x *Index) Len() int {
	if x == nil {
		return 0
	}
	return x.n
}

// Malicious returns the id of an entry that says that this version of the package is
// malicious, "" when none does.
func (x *Index) Malicious(ecosystem, name, version string) string {
	if x == nil {
		return ""
	}
	for _, e := range x.entries[key(ecosystem, name)] {
		if e.covers(version) {
			return e.id
		}
	}
	return ""
}

// MaliciousName returns the id of an entry that says that every version of the package
// is malicious, "" when none does.
func (x *Index) MaliciousName(ecosystem, name string) string {
	if x == nil {
		return ""
	}
	for _, e := range x.entries[key(ecosystem, name)] {
		for _, s := range e.ranges {
			if s == (span{}) {
				return e.id
			}
		}
	}
	return ""
}

// Any returns the id of an entry that says that some version of the package is malicious, "" when none does.
func (x *Index) Any(ecosystem, name string) string {
	if x == nil {
		return ""
	}
	if all := x.entries[key(ecosystem, name)]; len(all) > 0 {
		return all[0].id
	}
	return ""
}

func (x *Index) add(ecosystem, name string, e entry) {
	if x.entries == nil {
		x.entries = map[string][]entry{}
	}
	k := key(ecosystem, name)
	x.entries[k] = append(x.entries[k], e)
	x.n++
}

// key is how a package is found: ecosystems carry a release after a colon ("Debian:12"),
// and some registries take several spellings of a name for one.
func key(ecosystem, name string) string {
	ecosystem, _, _ = strings.Cut(ecosystem, ":")
	switch ecosystem {
	case PyPI:
		name = Normal(name)
	case Crates:
		name = strings.ReplaceAll(strings.ToLower(name), "-", "_")
	case NPM:
		name = strings.ToLower(name)
	}
	return ecosystem + "\x00" + name
}

// Normal is a Python project's name as registries compare it (PEP 503): in lower
// case, with one hyphen for each run of hyphens, dots and underscores.
func Normal(name string) string {
	var b strings.Builder
	gap := false
	for _, c := range []byte(strings.ToLower(name)) {
		if c == '-' || c == '_' || c == '.' {
			gap = true
			continue
		}
		if gap {
			b.WriteByte('-')
			gap = false
		}
		b.WriteByte(c)
	}
	if gap {
		b.WriteByte('-')
	}
	return b.String()
}
