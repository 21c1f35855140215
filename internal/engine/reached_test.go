package engine

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/egress"
)

// What a job reached and fetched is in its provenance and before its gate, which refuses
// what was built in observe mode.
func TestEvidenceOfTheDoor(t *testing.T) {
	t.Parallel()
	digest := sallyport.DigestOf([]byte("left-pad"))
	const rules = "network: registries\nallow:\n  - host: a.example.com\n"
	for _, observe := range []bool{false, true} {
		s := newSite(t)
		file := rules
		if observe {
			file += "observe: true\n"
		}
		push := s.push("main", files{workflowFile: deployWorkflow, ".sallyport/deploy.yaml": deployFile, egress.File: file})
		l := s.lease()
		check(t, s.y.Record(s.runner, l.Ref, 1, sallyport.DoorRecord{
			Flows: []sallyport.Flow{{Protocol: "dns", Host: "evil.example.com", Decision: sallyport.EgressDenied, Count: 3}},
			Packages: []sallyport.PackageFetch{
				{PURL: "pkg:npm/left-pad@1.3.0", Digest: digest, Source: "https://packages.example.com/", Decision: sallyport.EgressAllowed},
				{PURL: "pkg:npm/left-pad@1.3.0", Digest: digest, Source: "https://packages.example.com/", Decision: sallyport.EgressAllowed, Cached: true},
				{PURL: "pkg:npm/worm@6.6.6", Source: "https://packages.example.com/", Decision: sallyport.EgressDenied, Reason: "known malicious"},
			},
			Uses: []sallyport.CredentialUse{{Credential: "publish", Decision: sallyport.EgressAllowed}, {Credential: "shown", Method: sallyport.MethodExpose, Decision: sallyport.EgressAllowed}, {Credential: "other", Decision: sallyport.EgressDenied}},
		}))
		a, err := s.y.PutArtifact(s.runner, l.Ref, "app", bytes.NewReader(tarOf(t, tarFile{"app", "x", 0o755})))
		check(t, err)
		check(t, s.y.Finish(s.runner, l.Ref, sallyport.JobResult{Conclusion: sallyport.Success, Isolation: &sallyport.Isolation{Level: "standard"}}))
		s.work()

		statements, err := s.s.Artifacts.Statements(s.admin, s.p.ID, a.Digest)
		check(t, err)
		var b openBundle
		var st struct {
			Predicate struct {
				BuildDefinition struct {
					InternalParameters   attest.InternalParameters
					ResolvedDependencies []attest.Resource
				}
			}
		}
		i := slices.IndexFunc(statements, func(st sallyport.Statement) bool { return st.PredicateType == sallyport.PredicateProvenance })
		check(t, json.Unmarshal(statements[i].Bundle, &b))
		check(t, json.Unmarshal(b.Statement, &st))
		def := st.Predicate.BuildDefinition
		n := def.InternalParameters.Network
		if n == nil || n.Level != sallyport.EgressRegistries || n.Observe != observe || n.Rules["sha256"] != sallyport.DigestOf([]byte(file)).Hex() ||
			n.RulesCommit != push.Commit || strings.Join(n.Credentials, " ") != "publish" || strings.Join(n.Exposed, " ") != "shown" || n.Denied != 4 || n.Packages != 1 || n.Unnamed != 0 {
			t.Errorf("got network %+v", n)
		}
		var named []attest.Resource
		for _, d := range def.ResolvedDependencies {
			if d.Name == "package" {
				named = append(named, d)
			}
		}
		if len(named) != 1 || named[0].URI != "pkg:npm/left-pad@1.3.0" || named[0].Digest["sha256"] != digest.Hex() || named[0].Annotations["source"] != "https://packages.example.com/" {
			t.Errorf("got packages %+v", named)
		}
		verdicts, err := s.s.Gates.Verdicts(s.admin, s.p.ID, sallyport.Page{})
		check(t, err)
		if len(verdicts) != 1 {
			t.Fatalf("got %d verdicts", len(verdicts))
		}
		v, err := s.s.Gates.Verdict(s.admin, verdicts[0].ID)
		check(t, err)
		reasons := strings.Join(v.Reasons, "\n")
		want := sallyport.Allow
		if observe {
			want = sallyport.Deny
		}
		if v.Decision != want || strings.Contains(reasons, "the run was in observe mode") != observe || strings.Contains(reasons, "the provenance says that the job was in observe mode") != observe {
			t.Errorf("observe %v: got %s: %s", observe, v.Decision, reasons)
		}
		if doc := string(v.Input); !strings.Contains(doc, `"packages":{"fetched":2,"denied":1}`) || !strings.Contains(doc, `"level":"registries"`) || !strings.Contains(doc, `"denied":4}`) {
			t.Errorf("the gate saw %s", doc)
		}
	}
}
