package advisory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Bounds of an entry. The largest of the public dumps are a tenth of them.
const (
	maxEntry    = 4 << 20
	maxAffected = 10_000
	maxVersions = 100_000 // of one affected package
	maxName     = 512
)

// entry is what is kept of an OSV entry for one package.
type entry struct {
	id       string
	versions []string // sorted; with ranges: these and those of the ranges
	ranges   []span
}

// span is a range of versions. An empty from is the beginning, an empty to is no end.
type span struct {
	from, to  string
	inclusive bool // to is the last one, not the first good one
}

// osv is the part of the OSV schema that is read (ossf.github.io/osv-schema).
type osv struct {
	ID        string     `json:"id"`
	Aliases   []string   `json:"aliases"`
	Withdrawn *time.Time `json:"withdrawn"`
	Affected  []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
		} `json:"package"`
		Versions []string `json:"versions"`
		Ranges   []struct {
			Type   string              `json:"type"`
			Events []map[string]string `json:"events"`
		} `json:"ranges"`
		Specific struct {
			CWEs []struct {
				ID string `json:"cweId"`
			} `json:"cwes"`
		} `json:"database_specific"`
	} `json:"affected"`
	Specific struct {
		CWEs []string `json:"cwe_ids"`
	} `json:"database_specific"`
}

// embedded is the weakness "embedded malicious code".
const embedded = "CWE-506"

// hinted reports whether raw may be of a malicious package, to spare decoding the rest.
func hinted(raw []byte) bool {
	return bytes.Contains(raw, []byte("MAL-")) || bytes.Contains(raw, []byte(embedded))
}

// malicious reports whether o says that its packages do harm on purpose.
func (o *osv) malicious() bool {
	if strings.HasPrefix(o.ID, "MAL-") || slices.Contains(o.Specific.CWEs, embedded) {
		return true
	}
	return slices.ContainsFunc(o.Aliases, func(a string) bool { return strings.HasPrefix(a, "MAL-") })
}

// parse reads one entry into add, which is called for each package that it says is malicious.
func parse(raw []byte, add func(ecosystem, name string, e entry)) error {
	if len(raw) > maxEntry {
		return fmt.Errorf("it has more than %d bytes", maxEntry)
	}
	if !hinted(raw) {
		return nil
	}
	var o osv
	if err := json.Unmarshal(raw, &o); err != nil {
		return fmt.Errorf("it is no OSV entry: %w", err)
	}
	if o.ID == "" || len(o.ID) > maxName {
		return fmt.Errorf("it has no id")
	}
	if o.Withdrawn != nil || !o.malicious() {
		return nil
	}
	if len(o.Affected) > maxAffected {
		return fmt.Errorf("it affects more than %d packages", maxAffected)
	}
	for _, a := range o.Affected {
		name := a.Package.Name
		if name == "" || len(name) > maxName || a.Package.Ecosystem == "" || len(a.Package.Ecosystem) > maxName {
			return fmt.Errorf("a package in it has no name")
		}
		e := entry{id: o.ID}
		if len(a.Versions) > maxVersions {
			return fmt.Errorf("it names more than %d versions of %.80q", maxVersions, name)
		}
		e.versions = slices.Clone(a.Versions)
		for _, r := range a.Ranges {
			if r.Type == "GIT" { // commits, which no registry serves
				continue
			}
			spans, err := spansOf(r.Events)
			if err != nil {
				return err
			}
			e.ranges = append(e.ranges, spans...)
		}
		if len(e.versions) == 0 && len(e.ranges) == 0 { // no word about versions: all of them
			e.ranges = []span{{}}
		}
		slices.Sort(e.versions)
		add(a.Package.Ecosystem, name, e)
	}
	return nil
}

// spansOf pairs the events of a range.
func spansOf(events []map[string]string) ([]span, error) {
	if len(events) > maxVersions {
		return nil, fmt.Errorf("a range in it has more than %d events", maxVersions)
	}
	var out []span
	open := false
	for _, e := range events {
		for kind, v := range e {
			switch kind {
			case "introduced":
				if v == "0" {
					v = ""
				}
				out, open = append(out, span{from: v}), true
			case "fixed", "last_affected":
				if !open {
					return nil, fmt.Errorf("a range in it ends before it begins")
				}
				out[len(out)-1].to, out[len(out)-1].inclusive, open = v, kind == "last_affected", false
			case "limit":
			default:
				return nil, fmt.Errorf("a range in it has the unknown event %.40q", kind)
			}
		}
	}
	return out, nil
}

// covers reports whether e is about version. A version whose order is not known is
// taken to be inside: what cannot be ordered cannot be cleared.
func (e entry) covers(version string) bool {
	if _, ok := slices.BinarySearch(e.versions, version); ok {
		return true
	}
	if bare, ok := strings.CutPrefix(version, "v"); ok {
		if _, ok := slices.BinarySearch(e.versions, bare); ok {
			return true
		}
	}
	return slices.ContainsFunc(e.ranges, func(s span) bool { return s.covers(version) })
}

func (s span) covers(version string) bool {
	if s.from != "" {
		if c, ok := compare(version, s.from); ok && c < 0 {
			return false
		}
	}
	if s.to != "" {
		if c, ok := compare(version, s.to); ok && (c > 0 || c == 0 && !s.inclusive) {
			return false
		}
	}
	return true
}

// compare orders two semantic versions; ok is false when one of them is not one.
func compare(a, b string) (c int, ok bool) {
	a, b = "v"+strings.TrimPrefix(a, "v"), "v"+strings.TrimPrefix(b, "v")
	if !semver.IsValid(a) || !semver.IsValid(b) {
		return 0, false
	}
	return semver.Compare(a, b), true
}
