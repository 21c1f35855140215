package engine

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

const mayAttest = "permissions: {id-token: write, attestations: write}\n"

func claimOf(content string) sallyport.Claim {
	return sallyport.Claim{Subjects: []sallyport.ClaimSubject{{Name: "app", Digest: sallyport.DigestOf([]byte(content))}}}
}

// TestClaim has a job say how its artifact was made before the control plane does.
// The builder's provenance is made all the same, and the gate judges by that one.
func TestClaim(t *testing.T) {
	t.Parallel()
	h := newSite(t)
	h.pass(time.Second)
	push := h.push("main", files{workflowFile: mayAttest + deployWorkflow, ".sallyport/deploy.yaml": h.deploys})
	l := h.lease()
	st, err := h.y.Attest(h.runner, l.Ref, claimOf("app v1"))
	check(t, err)
	if st.Identity != "https://ci.example/jobs/demo/.github/workflows/ci.yml@refs/heads/main" || !st.AssertedByJob() || st.PredicateType != sallyport.PredicateProvenance {
		t.Errorf("got %+v", st)
	}
	for _, mark := range []string{`"assertedBy":"job"`, `"id":"https://ci.example/builders/job/v1"`, `"annotations":{"assertedBy":"job"}`, push.Commit} {
		if !strings.Contains(string(st.Bundle), mark) {
			t.Errorf("the statement lacks %s: %s", mark, st.Bundle)
		}
	}
	_, err = h.y.PutArtifact(h.runner, l.Ref, "app", bytes.NewReader(tarOf(t, tarFile{"app", "app v1", 0o755})))
	check(t, err)
	check(t, h.y.Finish(h.runner, l.Ref, sallyport.JobResult{Conclusion: sallyport.Success, Isolation: &sallyport.Isolation{Level: "standard"}}))
	h.work()
	all, err := h.s.Artifacts.Statements(h.admin, h.p.ID, claimOf("app v1").Subjects[0].Digest)
	check(t, err)
	identities := map[string]int{}
	for _, st := range all {
		if st.PredicateType == sallyport.PredicateProvenance {
			identities[st.Identity]++
		}
	}
	if identities["https://ci.example/demo/.github/workflows/ci.yml@refs/heads/main"] != 1 || identities[st.Identity] != 1 {
		t.Errorf("provenance by %v", identities)
	}
	verdicts, err := h.s.Gates.Verdicts(h.admin, h.p.ID, sallyport.Page{})
	check(t, err)
	if len(verdicts) != 1 || verdicts[0].Decision != sallyport.Allow || len(verdicts[0].Reasons) != 1 {
		t.Fatalf("got %+v", verdicts)
	}
	v, err := h.s.Gates.Verdict(h.admin, verdicts[0].ID)
	check(t, err)
	if !strings.Contains(string(v.Input), `"asserted_by":"job"`) {
		t.Errorf("the gate did not see the job's word: %s", v.Input)
	}
}

// TestClaimAlone deploys what only a job vouches for: the gate knows the difference.
func TestClaimAlone(t *testing.T) {
	t.Parallel()
	h := newSite(t)
	h.push("main", files{workflowFile: mayAttest + deployWorkflow, ".sallyport/deploy.yaml": h.deploys})
	l := h.lease()
	a, err := h.y.PutArtifact(h.runner, l.Ref, "app", bytes.NewReader(tarOf(t, tarFile{"app", "app v1", 0o755})))
	check(t, err)
	_, err = h.y.Attest(h.runner, l.Ref, claimOf("app v1"))
	check(t, err)
	h.finish(l, sallyport.Failure, nil) // no provenance is made of what a failed job left
	v, err := h.s.Gates.Judge(h.admin, a.ID, "production")
	check(t, err)
	if v.Decision != sallyport.Deny || !strings.Contains(strings.Join(v.Reasons, "\n"), "no provenance for "+string(a.Digest)) {
		t.Errorf("got %s: %q", v.Decision, v.Reasons)
	}
}

func TestClaimRefused(t *testing.T) {
	t.Parallel()
	n := &openNotary{}
	h := newHouse(t, func(c *Config) { c.Notary, c.Verifier, c.LeaseTTL = n, n, 1000*time.Hour })
	const called = mayAttest + "on: push\njobs:\n  inner: {runs-on: ubuntu-latest, steps: [{run: make}]}\n"
	h.begin(calls(compiled(t, `on: push
permissions: {id-token: write, attestations: write}
jobs:
  may: {runs-on: ubuntu-latest, steps: [{run: make}]}
  noAttest: {runs-on: ubuntu-latest, permissions: {id-token: write}, steps: [{run: make}]}
  noToken: {runs-on: ubuntu-latest, permissions: {attestations: write}, steps: [{run: make}]}
  reads: {runs-on: ubuntu-latest, permissions: {id-token: write, attestations: read}, steps: [{run: make}]}
  callNarrow: {runs-on: ubuntu-latest, permissions: {id-token: write}, steps: [{run: make}]}
`), map[string]*sallyport.PlanCall{"callNarrow": callee(t, called)}))
	leases := map[string]*sallyport.Lease{}
	for l := h.lease(); l != nil; l = h.lease() {
		leases[l.Job.Key] = l
	}
	for job, lacks := range map[string]string{
		"noAttest": "it lacks attestations: write", "noToken": "it lacks id-token: write", "reads": "it lacks attestations: write", "callNarrow/inner": "it lacks attestations: write",
	} {
		if _, err := h.y.Attest(h.runner, leases[job].Ref, claimOf("x")); sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(err.Error(), lacks) {
			t.Errorf("%s: got %v, want %s", job, err, lacks)
		}
	}
	may := leases["may"].Ref
	digest := claimOf("x").Subjects[0].Digest
	own := func(kind, predicate string) sallyport.Claim {
		c := claimOf("x")
		c.PredicateType, c.Predicate = kind, json.RawMessage(predicate)
		return c
	}
	for name, c := range map[string]struct {
		claim sallyport.Claim
		want  sallyport.Code
	}{
		"nothing":             {sallyport.Claim{}, sallyport.CodeInvalid},
		"too many":            {sallyport.Claim{Subjects: make([]sallyport.ClaimSubject, attest.MaxSubjects+1)}, sallyport.CodeInvalid},
		"no digest":           {sallyport.Claim{Subjects: []sallyport.ClaimSubject{{Name: "x", Digest: "sha256:00"}}}, sallyport.CodeInvalid},
		"no name":             {sallyport.Claim{Subjects: []sallyport.ClaimSubject{{Digest: digest}}}, sallyport.CodeInvalid},
		"lines in a name":     {sallyport.Claim{Subjects: []sallyport.ClaimSubject{{Name: "a\nb", Digest: digest}}}, sallyport.CodeInvalid},
		"no type":             {own("", `{}`), sallyport.CodeInvalid},
		"type is no URI":      {own("tested", `{}`), sallyport.CodeInvalid},
		"predicate is a list": {own("https://example.com/x", `[]`), sallyport.CodeInvalid},
		"no predicate":        {own("https://example.com/x", ``), sallyport.CodeInvalid},
		"too large":           {own("https://example.com/x", `{"a":"`+strings.Repeat("x", attest.MaxStatement)+`"}`), sallyport.CodeInvalid},
		"own provenance":      {own(sallyport.PredicateProvenance, `{}`), sallyport.CodeDenied},
		"verdict":             {own(sallyport.PredicateVSA, `{}`), sallyport.CodeDenied},
		"deployment":          {own(sallyport.PredicateDeployment, `{}`), sallyport.CodeDenied},
	} {
		if _, err := h.y.Attest(h.runner, may, c.claim); sallyport.ErrorCode(err) != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	for range maxClaims {
		_, err := h.y.Attest(h.runner, may, own("https://example.com/tested", `{"ok":true}`))
		check(t, err)
	}
	if _, err := h.y.Attest(h.runner, may, claimOf("x")); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("claim %d: %v", maxClaims+1, err)
	}
	if got := h.trail("claim."); got["claim.signed"] != maxClaims || got["claim.refused"] != 4 {
		t.Errorf("recorded %v", got)
	}
	h.finish(leases["may"], sallyport.Success, nil)
	if _, err := h.y.Attest(h.runner, may, claimOf("x")); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("after the job: %v", err)
	}
}

// TestSpeaksForItsRef asks for what would speak for a ref in runs that different people and
// events cause: ID tokens and attestations alike.
func TestSpeaksForItsRef(t *testing.T) {
	t.Parallel()
	h := newCaching(t, withTokens(t))
	const flow = "on: [push, pull_request, pull_request_target, issue_comment]\n" + mayAttest + "jobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: make}]\n"
	h.commit = h.push("main", files{workflowFile: flow, ".sallyport/deploy.yaml": "audiences: [x]\n"}).Commit
	h.finish(h.house.lease(), sallyport.Success, nil)
	belowMain := release
	belowMain.tier = sallyport.TierMember // as a workflow_run that a member's branch caused
	for name, c := range map[string]struct {
		origin cacheRun
		why    string // "" when it may
	}{
		"branch": {branch, ""}, "main": {release, ""}, "own pull request": {ownPull, ""},
		"main, caused by a member": {belowMain, "is trusted less"}, "fork": {fork, "somebody outside"}, "comment": {stranger, "somebody outside"},
	} {
		l := h.lend(c.origin)
		_, tokenErr := h.y.IDToken(h.runner, l.Ref, "x")
		_, claimErr := h.y.Attest(h.runner, l.Ref, claimOf(name))
		for what, err := range map[string]error{"ID token": tokenErr, "attestation": claimErr} {
			if c.why == "" && err != nil || c.why != "" && (sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(err.Error(), c.why)) {
				t.Errorf("%s, %s: got %v, want %q", name, what, err, c.why)
			}
		}
	}
}

func TestClaimWithoutNotary(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.begin(compiled(t, "on: push\n"+mayAttest+"jobs:\n  a: {runs-on: ubuntu-latest, steps: [{run: make}]}\n"))
	if _, err := h.y.Attest(h.runner, h.lease().Ref, claimOf("x")); sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(err.Error(), "nothing here to sign with") {
		t.Errorf("got %v", err)
	}
}
