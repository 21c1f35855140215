package attest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

func deploymentPredicate() attest.DeploymentPredicate {
	return attest.DeploymentPredicate{
		Project: "widget", Environment: "production", Deployment: "d", Number: 1, Release: "r", Commit: commit, Verdict: "v",
		State: sallyport.DeployLive, Actor: "system:deploy", Strategy: "blue-green", Weight: 100,
		StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
	}
}

var moment = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func cacheStatement(t *testing.T) []byte {
	t.Helper()
	b, err := attest.CacheStatement(sallyport.DigestOf(artifact), attest.CachePredicate{
		Entry: "c", Project: "p", Key: "npm-é", Version: "v1", Ref: ref, Tier: sallyport.TierMember, Size: 1, Run: "r", Job: "j", At: moment,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOwnPredicatesFitTheirSchemas(t *testing.T) {
	t.Parallel()
	subjects := []attest.Subject{{Digest: sallyport.DigestOf(artifact)}}
	for name, make := range map[string]func() ([]byte, error){
		"push": func() ([]byte, error) {
			return attest.PushStatement(commit, attest.PushPredicate{
				Project: "widget", Repository: testInstance.Repository("widget"), Ref: ref, Event: "push", Actor: "person:ann",
				Tier: sallyport.TierProtected, Protected: true, Checks: []string{"fast-forward"}, At: moment,
			})
		},
		"plan": func() ([]byte, error) {
			return attest.PlanStatement(sallyport.DigestOf([]byte("plan")), attest.PlanPredicate{
				Project: "widget", Workflow: provenanceInput().External.Workflow, Commit: commit, Event: "push",
				Actions: []attest.PlanAction{{Uses: "actions/checkout@v4", Kind: sallyport.ActionIntrinsic}}, At: moment,
			})
		},
		"deployment": func() ([]byte, error) { return attest.DeploymentStatement(subjects, deploymentPredicate()) },
		"cache":      func() ([]byte, error) { return cacheStatement(t), nil },
		"health": func() ([]byte, error) {
			return attest.HealthStatement(subjects, attest.HealthPredicate{
				Project: "widget", Environment: "production", Deployment: "d", From: moment, To: moment.Add(time.Minute), Checks: 10, Failed: 3, Cause: "5xx",
			})
		},
	} {
		b, err := make()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := make()
		if err != nil || string(again) != string(b) {
			t.Errorf("%s: not deterministic", name)
		}
	}
}

func TestOwnPredicatesRefused(t *testing.T) {
	t.Parallel()
	valid, err := json.Marshal(deploymentPredicate())
	if err != nil {
		t.Fatal(err)
	}
	if err := attest.CheckPredicate(sallyport.PredicateDeployment, valid); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string]any){
		"missing field":  func(m map[string]any) { delete(m, "verdict") },
		"unknown field":  func(m map[string]any) { m["note"] = "x" },
		"unknown state":  func(m map[string]any) { m["state"] = "fine" },
		"weight":         func(m map[string]any) { m["weight"] = 101 },
		"not a commit":   func(m map[string]any) { m["commit"] = "main" },
		"not a time":     func(m map[string]any) { m["startedAt"] = "yesterday" },
		"long text":      func(m map[string]any) { m["cause"] = strings.Repeat("x", 5000) },
		"another type":   func(m map[string]any) { m["number"] = "1" },
		"fractional":     func(m map[string]any) { m["number"] = 1.5 },
		"empty identity": func(m map[string]any) { m["deployment"] = "" },
	} {
		var m map[string]any
		if err := json.Unmarshal(valid, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := attest.CheckPredicate(sallyport.PredicateDeployment, b); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProvenanceIsComplete(t *testing.T) {
	t.Parallel()
	subjects := []attest.Subject{{Name: "artifact", Digest: sallyport.DigestOf(artifact)}}
	for name, spoil := range map[string]func(*attest.ProvenanceInput){
		"builder":   func(in *attest.ProvenanceInput) { in.Builder = "" },
		"path":      func(in *attest.ProvenanceInput) { in.External.Workflow.Path = "" },
		"digest":    func(in *attest.ProvenanceInput) { in.External.Workflow.Digest = nil },
		"event":     func(in *attest.ProvenanceInput) { in.External.Event = "" },
		"plan":      func(in *attest.ProvenanceInput) { in.Internal.Plan = nil },
		"isolation": func(in *attest.ProvenanceInput) { in.Internal.Isolation = sallyport.Isolation{} },
		"commit":    func(in *attest.ProvenanceInput) { in.Dependencies = nil },
		"times":     func(in *attest.ProvenanceInput) { in.Finished = time.Time{} },
	} {
		in := provenanceInput()
		spoil(&in)
		if _, err := attest.Provenance(subjects, in); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for name, s := range map[string][]attest.Subject{
		"none":         nil,
		"empty":        {{Name: "x"}},
		"both":         {{Digest: sallyport.DigestOf(nil), Commit: commit}},
		"bad digest":   {{Digest: "sha256:00"}},
		"bad commit":   {{Commit: "HEAD"}},
		"far too many": make([]attest.Subject, attest.MaxSubjects+1),
	} {
		if _, err := attest.Provenance(s, provenanceInput()); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("subjects %s: %v", name, err)
		}
	}
}
