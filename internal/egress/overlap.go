package egress

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// overlaps refuses rules that let through what another lets through already: a
// reader would take them for the limit that they are not.
func (r *reader) overlaps(rules sallyport.EgressRules) {
	for j, b := range rules.Rules {
		for i, a := range rules.Rules {
			if i == j || !wider(a, b) || i > j && wider(b, a) { // of two that are the same the later is at fault
				continue
			}
			var both []string
			for _, p := range rulePorts(b) {
				if slices.Contains(rulePorts(a), p) {
					both = append(both, strconv.Itoa(p))
				}
			}
			switch {
			case len(both) == len(rulePorts(b)):
				r.failAt(b.Pos, "%s lets through nothing that line %d (%s) does not; take it out, or narrow line %d", b.Host, a.Pos.Line, a.Host, a.Pos.Line)
			case len(both) > 0:
				r.failAt(b.Pos, "%s at port %s is let through by line %d (%s) already; leave the port out here, or narrow line %d",
					b.Host, strings.Join(both, ", "), a.Pos.Line, a.Host, a.Pos.Line)
			}
		}
	}
	for j, b := range rules.Credentials {
		for i, a := range rules.Credentials {
			if i < j && sameUse(a, b) {
				r.failAt(b.Pos, "credential %s lends the same secret for the same use as %s in line %d; take one out", b.Name, a.Name, a.Pos.Line)
			}
		}
	}
}

// wider reports whether a lets through, at the ports that both have, all that b does.
func wider(a, b sallyport.EgressRule) bool {
	return hostCovers(a.Host, b.Host) && covers(a.Methods, b.Methods, equal) && covers(a.Jobs, b.Jobs, equal) && covers(a.Paths, b.Paths, hasPath) &&
		slices.ContainsFunc(rulePorts(b), func(p int) bool { return slices.Contains(rulePorts(a), p) })
}

// hostCovers reports whether pattern a stands for every name that b does.
func hostCovers(a, b string) bool {
	if suffix, wild := strings.CutPrefix(a, "*"); wild && strings.HasPrefix(b, "*.") {
		return strings.HasSuffix(b[1:], suffix)
	}
	return below(a, b)
}

// covers reports whether every word of b is covered by one of a; no words are all.
func covers(a, b []string, one func(a, b string) bool) bool {
	if len(a) == 0 {
		return true
	}
	if len(b) == 0 {
		return false
	}
	for _, w := range b {
		if !slices.ContainsFunc(a, func(v string) bool { return one(v, w) }) {
			return false
		}
	}
	return true
}

func equal(a, b string) bool { return a == b }

func rulePorts(r sallyport.EgressRule) []int {
	if len(r.Ports) == 0 {
		return []int{443}
	}
	return r.Ports
}

// sameUse reports whether everything that b may be used for is a use of a.
func sameUse(a, b sallyport.CredentialRule) bool {
	x, y := a, b
	x.Name, x.Pos, y.Name, y.Pos = "", sallyport.Pos{}, "", sallyport.Pos{}
	return x.Secret == y.Secret && x.Kind == y.Kind && x.User == y.User && x.Header == y.Header && x.Host == y.Host &&
		CredentialPort(a) == CredentialPort(b) && x.Region == y.Region && x.Service == y.Service && x.Database == y.Database && x.Role == y.Role &&
		x.Expose == y.Expose && covers(CredentialAsks(a).Methods, CredentialAsks(b).Methods, equal) && covers(x.Paths, y.Paths, hasPath) &&
		covers(x.Jobs, y.Jobs, equal) && covers(x.Environments, y.Environments, strings.EqualFold)
}
