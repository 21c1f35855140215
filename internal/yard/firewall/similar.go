package firewall

import (
	_ "embed"
	"strings"
)

// The lists are of names that are installed most, and so imitated most. They are ours, kept
// by hand and short: a name that few know is no bait.
var (
	//go:embed names/npm.txt
	namesNPM string
	//go:embed names/pypi.txt
	namesPyPI string
	//go:embed names/cargo.txt
	namesCargo string
	//go:embed names/go.txt
	namesGo string
)

// lookalikes finds the well-known name that another could be taken for. It does not change.
type lookalikes struct {
	kind    Kind
	names   map[string]bool
	looks   map[string]string // by squeeze and by shape
	ordered []string
}

func newLookalikes() map[Kind]*lookalikes {
	out := map[Kind]*lookalikes{}
	for kind, names := range map[Kind]string{KindNPM: namesNPM, KindPyPI: namesPyPI, KindCargo: namesCargo, KindGo: namesGo} {
		l := &lookalikes{kind: kind, names: map[string]bool{}, looks: map[string]string{}, ordered: strings.Fields(names)}
		for _, n := range l.ordered {
			l.names[n] = true
			if len(n) >= 4 && kind != KindGo && n[0] != '@' {
				l.looks[squeeze(n)], l.looks[shape(n)] = n, n
			}
		}
		out[kind] = l
	}
	return out
}

// of returns the well-known name that name could be taken for, "" if none.
func (l *lookalikes) of(name string) string {
	if l == nil || l.names[name] {
		return ""
	}
	scoped := strings.HasPrefix(name, "@")
	if l.kind != KindGo && !scoped {
		for _, look := range []string{squeeze(name), shape(name)} {
			if known := l.looks[look]; known != "" {
				return known
			}
		}
	}
	for _, known := range l.ordered {
		if d := len(known) - len(name); l.kind != KindGo && !scoped && (d > 1 || d < -1) && known[0] != '@' {
			continue
		}
		if alike(l.kind, name, known) {
			return known
		}
	}
	return ""
}

// shortest is the length from which one slip of a finger makes a name be taken for another.
// Among shorter ones nearly all neighbours are honest.
const shortest = 5

// alike reports whether name could be taken for the well-known name known, which it is not.
func alike(kind Kind, name, known string) bool {
	if kind == KindGo {
		return alikeModules(name, known)
	}
	if kind == KindNPM {
		scope, bare, scoped := strings.Cut(strings.TrimPrefix(name, "@"), "/")
		if strings.HasPrefix(name, "@") && scoped {
			knownScope, knownBare, ok := strings.Cut(strings.TrimPrefix(known, "@"), "/")
			if !strings.HasPrefix(known, "@") || !ok {
				return false // @types/node is not a try at node
			}
			return bare == knownBare && scope != knownScope && near(scope, knownScope)
		}
		if strings.HasPrefix(known, "@") { // @babel/core as babel-core was a name once; the other way of writing it is not
			return name == strings.ReplaceAll(strings.TrimPrefix(known, "@"), "/", "") && len(name) >= shortest
		}
	}
	return near(name, known)
}

// alikeModules compares module paths of a code host: the same repository of an owner who looks the same, or
// a repository that looks the same.
func alikeModules(name, known string) bool {
	a, b := strings.Split(name, "/"), strings.Split(known, "/")
	if len(a) < 3 || len(b) < 3 || a[0] != b[0] {
		return false
	}
	if a[1] == b[1] { // the same owner has all its repositories
		return false
	}
	return a[2] == b[2] && (near(a[1], b[1]) || strings.TrimRight(a[1], "-_0123456789") == b[1])
}

// near reports whether two names differ by what the eye or the finger misses.
func near(a, b string) bool {
	if a == b || len(b) < 4 {
		return false
	}
	if squeeze(a) == squeeze(b) || shape(a) == shape(b) {
		return true
	}
	return len(b) >= shortest && oneSlip(a, b)
}

var (
	separators = strings.NewReplacer("-", "", "_", "", ".", "")
	// twins maps letters and pairs that look alike to one of them.
	twins = strings.NewReplacer("rn", "m", "vv", "w", "0", "o", "1", "l", "i", "l", "5", "s", "-", "", "_", "", ".", "")
)

func squeeze(s string) string { return separators.Replace(s) }
func shape(s string) string   { return twins.Replace(s) }

// oneSlip reports whether a becomes b by one letter too many or too few, two that changed places, or
// one that was hit instead of its neighbour on the keyboard. Other letters in place of one make other words.
func oneSlip(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 1:
		if i == len(a) { // at the end: a plural and a version are words of their own
			return len(b) > 1 && b[len(b)-1] == b[len(b)-2]
		}
		return a[i:] == b[i+1:]
	case 0:
		if i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:] {
			return true
		}
		return a[i+1:] == b[i+1:] && neighbours(a[i], b[i])
	}
	return false
}

// rows are those of the keyboard.
var rows = [...]string{"qwertyuiop", "asdfghjkl", "zxcvbnm"}

func neighbours(a, b byte) bool {
	for r, row := range rows {
		i := strings.IndexByte(row, a)
		if i < 0 {
			continue
		}
		for d := -1; d <= 1; d++ {
			k := strings.IndexByte(rows[max(0, min(len(rows)-1, r+d))], b)
			if k >= 0 && k-i <= 1 && i-k <= 1 {
				return true
			}
		}
	}
	return false
}
