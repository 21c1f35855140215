package egress

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport"
)

const maxAgeHours = 365 * 24 // older than that is everything that somebody keeps up

var age = regexp.MustCompile(`^(0|[1-9][0-9]{0,4}[hd])$`)

func (r *reader) packages(n *yaml.Node) sallyport.PackageRules {
	var p sallyport.PackageRules
	r.fields(n, "packages", fields{
		"min_age": func(n *yaml.Node) { p.MinAgeHours = r.age(n) },
		"allow":   func(n *yaml.Node) { p.Allow = r.packageAllows(n) },
	})
	return p
}

func (r *reader) age(n *yaml.Node) *int {
	v := r.word(n, "min_age", age, "write hours or days, such as 72h or 3d, or 0 for none")
	if v == "" {
		return nil
	}
	hours, _ := strconv.Atoi(strings.TrimRight(v, "hd"))
	if strings.HasSuffix(v, "d") {
		hours *= 24
	}
	if hours > maxAgeHours {
		r.fail(n, "min_age: %s is more than a year; write at most 365d", quote(n))
		return nil
	}
	return &hours
}

func (r *reader) packageAllows(n *yaml.Node) []sallyport.PackageAllow {
	var out []sallyport.PackageAllow
	for _, item := range r.list(n, "allow", maxAllows) {
		a := sallyport.PackageAllow{Pos: place(item)}
		ok := r.fields(item, "an allowed package", fields{
			"purl":   func(n *yaml.Node) { a.PURL = r.purl(n) },
			"reason": func(n *yaml.Node) { a.Reason = r.text(n, "reason") },
			"until":  func(n *yaml.Node) { a.Until = r.day(n) },
		}, "purl", "reason")
		if !ok {
			continue
		}
		if i := slices.IndexFunc(out, func(o sallyport.PackageAllow) bool { return o.PURL == a.PURL }); i >= 0 {
			r.fail(item, "%s is allowed in line %d already; keep one", a.PURL, out[i].Pos.Line)
			continue
		}
		out = append(out, a)
	}
	return out
}

// day reads a date; the allowance ends when that day has ended in UTC.
func (r *reader) day(n *yaml.Node) time.Time {
	d, err := time.Parse(time.DateOnly, n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		r.fail(n, "until: %s is not a date; write the last day, such as 2027-06-30", quote(n))
		return time.Time{}
	}
	return d.AddDate(0, 0, 1)
}

var purl = regexp.MustCompile(`^pkg:([a-z]+)/([A-Za-z0-9._~%+!-]+(?:/[A-Za-z0-9._~%+!-]+)*)(/\*)?(?:@([A-Za-z0-9._~%+!:-]{1,256}))?$`)

// purl reads a package URL without qualifiers: of one version, of all versions,
// or with "/*" of all packages below a path.
func (r *reader) purl(n *yaml.Node) string {
	v := r.text(n, "purl")
	if v == "" {
		return ""
	}
	m := purl.FindStringSubmatch(v)
	switch {
	case strings.Contains(v, "/@"):
		r.fail(n, "purl: %s: write the @ of a scope as %%40", quote(n))
	case strings.ContainsAny(v, "?#"):
		r.fail(n, "purl: %s: leave out what begins with ? or #", quote(n))
	case m == nil:
		r.fail(n, "purl: %s is no package URL; write it as in pkg:npm/%%40scope/name@1.2.3 or pkg:golang/example.com/module", quote(n))
	case !slices.Contains([]string{"golang", "npm", "pypi", "cargo", "deb"}, m[1]):
		r.fail(n, "purl: the firewall knows no packages of type %s; write golang, npm, pypi, cargo or deb", m[1])
	case m[3] != "" && m[4] != "":
		r.fail(n, "purl: %s: a version belongs to one package; leave the version or the star out", quote(n))
	default:
		return v
	}
	return ""
}
