package firewall

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/advisory"
)

// defaultMinAge is how old a version must be when the project says nothing. Most of the
// malicious versions of well-known packages were found within a day or two.
const defaultMinAge = 72 * time.Hour

// youngName is how long a package must have existed for its name not to matter. A name that is like a well-known
// one is often honest; one that is not is found sooner.
const youngName = 365 * 24 * time.Hour

// version is what a registry says of a package version.
type version struct {
	kind      Kind
	name      string // as the registry spells it
	version   string
	arch      string    // of Debian
	published time.Time // zero: the registry does not say
	// created asks when the package first appeared, zero if nobody says. It may cost a request.
	created   func() time.Time
	withdrawn string // why its makers or its registry took it back; "" if they did not
	locked    bool   // a lock file of the protected branch names it
}

// ecosystems and types are the names that OSV and package URLs have for the kinds.
var (
	ecosystems = map[Kind]string{KindGo: advisory.Go, KindNPM: advisory.NPM, KindPyPI: advisory.PyPI, KindCargo: advisory.Crates, KindDebian: advisory.Debian}
	types      = map[Kind]string{KindGo: "golang", KindNPM: "npm", KindPyPI: "pypi", KindCargo: "cargo", KindDebian: "deb"}
)

// purl is the package URL of v (the purl specification), with the name in the registry's own case.
func (v version) purl() string {
	name := v.name
	switch v.kind {
	case KindPyPI:
		name = advisory.Normal(name)
	case KindDebian:
		name = "debian/" + name
	}
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = strings.NewReplacer("@", "%40", "+", "%2B").Replace(url.PathEscape(p))
	}
	out := "pkg:" + types[v.kind] + "/" + strings.Join(parts, "/")
	if v.version != "" {
		out += "@" + strings.ReplaceAll(url.PathEscape(v.version), "+", "%2B")
	}
	if v.arch != "" {
		out += "?arch=" + url.QueryEscape(v.arch)
	}
	return out
}

// refusal is why a package version does not reach a job.
type refusal struct {
	of    version
	words string
}

func (r *refusal) Error() string {
	what := r.of.name
	if r.of.version != "" {
		what += "@" + r.of.version
	}
	return fmt.Sprintf("%s package %s is refused: %s", r.of.kind, what, r.words)
}

// judge says why v must not reach the job, nil if it may. What is known of v may grow between two
// calls; a version without a version number stands for the whole package.
func (j *Job) judge(v version) *refusal {
	if r := j.known(v); r != nil {
		return r
	}
	named, exact := j.allowed(v)
	if named || exact || v.locked {
		return nil
	}
	if v.kind == KindDebian { // its archive is curated, and signed as a whole
		return nil
	}
	if known := j.f.lookalikes[v.kind].of(v.name); known != "" {
		made := time.Time{}
		if v.created != nil {
			made = v.created()
		}
		if made.IsZero() || j.f.now().Sub(made) < youngName {
			return &refusal{v, fmt.Sprintf("its name is like that of the well-known %s, and the package is not a year old; if it is meant, %s", known, allowHint(v, false))}
		}
	}
	if v.version == "" {
		return nil
	}
	if v.withdrawn != "" {
		return &refusal{v, fmt.Sprintf("it was withdrawn: %s; take another version, or %s", printable(v.withdrawn, 200), allowHint(v, true))}
	}
	return j.young(v)
}

// known says why v is known to be malicious, nil if it is not.
func (j *Job) known(v version) *refusal {
	id := ""
	if v.version == "" {
		id = j.advisories().MaliciousName(ecosystems[v.kind], v.name)
	} else {
		id = j.advisories().Malicious(ecosystems[v.kind], v.name, v.version)
	}
	if id == "" {
		return nil
	}
	if _, exact := j.allowed(v); exact || v.version == "" && j.allowsOne(v) {
		return nil
	}
	return &refusal{v, fmt.Sprintf("it is known to be malicious (%s)", id)}
}

// gone says why a package that a registry no longer has was taken away, if that is known; else it is err.
func (j *Job) gone(v version, err error) error {
	if id := j.advisories().Any(ecosystems[v.kind], v.name); id != "" && absent(err) {
		return &refusal{v, fmt.Sprintf("it is known to be malicious in some versions (%s), and its registry has it no longer", id)}
	}
	return err
}

// young says why v is too young, nil if it is old enough. A version whose age nobody tells is
// too young: an attacker's registry would tell none.
func (j *Job) young(v version) *refusal {
	if j.minAge == 0 {
		return nil
	}
	if v.published.IsZero() {
		return &refusal{v, "its registry does not say when it was published, so its age is not known; " + allowHint(v, true)}
	}
	age := j.f.now().Sub(v.published)
	if age >= j.minAge {
		return nil
	}
	return &refusal{v, fmt.Sprintf("it was published %s ago, and versions are taken from an age of %s; wait, take an older one, or %s", hours(max(0, age)), hours(j.minAge), allowHint(v, true))}
}

// tooYoung reports whether a version of a package need not be offered at all.
func (j *Job) tooYoung(v version) bool {
	if v.published.IsZero() || j.young(v) == nil || j.isLocked(v) {
		return false
	}
	named, exact := j.allowed(v)
	return !named && !exact
}

func hours(d time.Duration) string {
	switch h := int(d.Hours()); {
	case d < time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case h == 1:
		return "1 hour"
	default:
		return fmt.Sprintf("%d hours", h)
	}
}

func allowHint(v version, exact bool) string {
	v.arch = ""
	if !exact {
		v.version = ""
	}
	return fmt.Sprintf("allow %s under packages in .sallyport/egress.yaml", v.purl())
}

// allowed reports whether a rule names the package of v, and whether one names the very version.
func (j *Job) allowed(v version) (named, exact bool) {
	v.arch = ""
	whole := plain(v.purl())
	v.version = ""
	bare := plain(v.purl())
	now := j.f.now()
	for _, a := range j.allow {
		if !a.Until.IsZero() && !now.Before(a.Until) {
			continue
		}
		switch below, wild := strings.CutSuffix(a.PURL, "/*"); {
		case a.PURL == whole:
			exact = true
		case a.PURL == bare, wild && strings.Count(below, "/") > 0 && strings.HasPrefix(bare, below+"/"):
			named = true
		}
	}
	return named, exact
}

// allowsOne reports whether a rule names a version of the package: each of them is judged by itself then.
func (j *Job) allowsOne(v version) bool {
	bare := plain(v.purl()) + "@"
	for _, a := range j.allow {
		if strings.HasPrefix(a.PURL, bare) && (a.Until.IsZero() || j.f.now().Before(a.Until)) {
			return true
		}
	}
	return false
}

// plain undoes the escaping of a package URL, in which people and programs differ.
func plain(purl string) string {
	if p, err := url.PathUnescape(purl); err == nil {
		return p
	}
	return purl
}

// isLocked reports whether a lock file of the protected branch names v.
func (j *Job) isLocked(v version) bool {
	_, ok := j.locked[plain(v.purl())]
	return ok
}

// lockSums are the checksums of v in lock files, by algorithm, of those that are computed here.
func (j *Job) lockSums(v version) map[string][]string {
	out := map[string][]string{}
	for _, sum := range j.locked[plain(v.purl())] {
		algorithm, _, _ := strings.Cut(strings.Replace(sum, "-", ":", 1), ":")
		if spelled(sum) != "" && slices.Contains(strength, algorithm) && algorithm != "sha384" && (algorithm != "sha1" || v.kind == KindNPM) {
			out[algorithm] = append(out[algorithm], spelled(sum))
		}
	}
	return out
}

// fits compares the checksums of v in lock files with those of its bytes. Only algorithms that both
// sides know are compared; without one the lock file says nothing about the bytes.
func (j *Job) fits(v version, have map[string]string) *refusal {
	for algorithm, sums := range j.lockSums(v) {
		if sum, ok := have[algorithm]; ok && !slices.Contains(sums, sum) {
			return &refusal{v, "its checksum is not the one in the lock file of the protected branch"}
		}
	}
	return nil
}

var _ error = (*refusal)(nil)

// minAgeOf is how old a version must be.
func minAgeOf(r sallyport.PackageRules) time.Duration {
	if r.MinAgeHours == nil {
		return defaultMinAge
	}
	return time.Duration(max(0, *r.MinAgeHours)) * time.Hour
}
