package engine

import (
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/policy"
)

// maxNamedPackages is how many fetched packages a provenance names; large installs have some
// 1,500, and a gate must be able to read it.
const maxNamedPackages = 3000

// network is what a job could reach, for its provenance, and the packages that went in.
func (in collected) network() (attest.Network, []attest.Resource) {
	rules := planEgress(in.plan)
	n := attest.Network{Level: rules.Level, Observe: rules.Observe, Denied: denied(in.door)}
	if rules.File.Digest != "" {
		n.Rules, n.RulesCommit = attest.SHA256(rules.File.Digest), rules.Commit
	}
	for _, u := range in.door.Uses {
		list := &n.Credentials
		if u.Method == sallyport.MethodExpose {
			list = &n.Exposed
		}
		if u.Decision != sallyport.EgressDenied && !slices.Contains(*list, u.Credential) {
			*list = append(*list, u.Credential)
		}
	}
	slices.Sort(n.Credentials)
	slices.Sort(n.Exposed)
	type pkg struct {
		purl, source string
		digest       sallyport.Digest
	}
	seen := make(map[pkg]bool)
	var out []attest.Resource
	for _, f := range in.door.Packages {
		p := pkg{f.PURL, f.Source, f.Digest}
		if f.Decision == sallyport.EgressDenied || f.Digest == "" || seen[p] { // without a digest nothing reached the job
			continue
		}
		seen[p] = true
		if n.Packages++; n.Packages > maxNamedPackages {
			n.Unnamed++
			continue
		}
		out = append(out, attest.Resource{Name: "package", URI: f.PURL, Digest: attest.SHA256(f.Digest), Annotations: map[string]string{"source": f.Source}})
	}
	slices.SortStableFunc(out, func(a, b attest.Resource) int { return strings.Compare(a.URI, b.URI) })
	return n, out
}

// denied counts what a door refused.
func denied(r sallyport.DoorRecord) (n int) {
	for _, f := range r.Flows {
		if f.Decision == sallyport.EgressDenied {
			n += f.Count
		}
	}
	for _, u := range r.Uses {
		if u.Decision == sallyport.EgressDenied {
			n++
		}
	}
	return n
}

// reached is what the jobs of a run could reach and fetched, for a gate.
func reached(plan *sallyport.Plan, doors []sallyport.Door) (*policy.EvidenceNetwork, *policy.EvidencePackages) {
	rules := planEgress(plan)
	n, p := &policy.EvidenceNetwork{Level: rules.Level, Observe: rules.Observe}, &policy.EvidencePackages{}
	for _, d := range doors {
		n.Denied += denied(d.Record)
		for _, f := range d.Record.Packages {
			if f.Decision == sallyport.EgressDenied {
				p.Denied++
			} else {
				p.Fetched++
			}
		}
	}
	return n, p
}
