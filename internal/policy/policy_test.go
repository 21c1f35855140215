package policy

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func evidence() Evidence {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	digest := string(sallyport.DigestOf([]byte("artifact")))
	predicate := `{"buildDefinition":{"externalParameters":{"workflow":{"path":".github/workflows/ci.yml","ref":"refs/heads/main"}},
		"resolvedDependencies":[{"uri":"git+https://ci/hello","digest":{"gitCommit":"` + commit + `"}}]},
		"runDetails":{"builder":{"id":"https://ci/builders/standard/v1"}}}`
	return Evidence{
		Version: 1, Now: "2026-01-02T03:04:05Z",
		Project:     EvidenceProject{ID: "p", Name: "hello", ProtectedRef: "refs/heads/main"},
		Environment: EvidenceEnvironment{Name: "production", Artifact: "hello", Workflow: ".github/workflows/ci.yml"},
		Subject:     EvidenceSubject{Name: "hello", Digest: digest, Size: 8, Tier: sallyport.TierProtected, Content: "verified"},
		Expected:    EvidenceExpected{Issuer: "https://ci", Identity: "https://ci/hello/.github/workflows/ci.yml@refs/heads/main", Builders: []string{"https://ci/builders/standard/v1"}},
		Run:         EvidenceRun{ID: "r", Conclusion: "success", Commit: commit, Ref: "refs/heads/main", Event: "push", Workflow: ".github/workflows/ci.yml", OnProtected: true},
		Statements: []EvidenceStatement{{ID: "s", PredicateType: sallyport.PredicateProvenance, Verified: true, Issuer: "https://ci",
			Identity: "https://ci/hello/.github/workflows/ci.yml@refs/heads/main", Bundle: digest, Predicate: json.RawMessage(predicate)}},
	}
}

func restored(tiers ...sallyport.Tier) (out []EvidenceCache) {
	for _, tier := range tiers {
		out = append(out, EvidenceCache{ID: "c", Digest: string(sallyport.DigestOf([]byte("cache"))), Tier: tier, Ref: "refs/heads/main"})
	}
	return out
}

// named adds a cache entry to what the provenance says went in.
func named(e *Evidence, fields string) {
	s := &e.Statements[0]
	s.Predicate = json.RawMessage(strings.Replace(string(s.Predicate), `"resolvedDependencies":[`,
		`"resolvedDependencies":[{"name":"cache","uri":"https://ci/caches/1","digest":{"sha256":"00"}`+fields+`},`, 1))
}

// reached says in the provenance what the job could reach.
func reached(e *Evidence, network string) {
	s := &e.Statements[0]
	s.Predicate = json.RawMessage(strings.Replace(string(s.Predicate), `"resolvedDependencies":[`, `"internalParameters":{"network":`+network+`},"resolvedDependencies":[`, 1))
}

// traced adds a runtime trace with the source in the given state.
func traced(e *Evidence, source string) {
	s := e.Statements[0]
	s.ID, s.PredicateType = "t", sallyport.PredicateTrace
	s.Predicate = json.RawMessage(`{"monitorLog":{"process":[],"fileAccess":[{"name":"b.go"},{"name":"a.go"}]},"sallyportSource":` + source + `}`)
	e.Statements = append(e.Statements, s)
}

func TestDefaultGate(t *testing.T) {
	t.Parallel()
	gates, err := New()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		change func(*Evidence)
		want   sallyport.Decision
		reason string // part of one of the reasons
	}{
		{"all there", func(*Evidence) {}, sallyport.Allow, "provenance by https://ci/builders/standard/v1"},
		{"approval", func(e *Evidence) { e.Environment.Approval = true }, sallyport.Ask, "asks for the approval of 1, and 0 gave it"},
		{"approved", func(e *Evidence) { e.Environment.Approval, e.Approvals = true, approvedBy("a") }, sallyport.Allow, "approved by a"},
		{"approved by one of two", func(e *Evidence) {
			e.Environment.Approval, e.Environment.Approvals, e.Approvals = true, 2, approvedBy("a")
		}, sallyport.Ask, "of 2, and 1 gave it"},
		{"by one person twice", func(e *Evidence) {
			e.Environment.Approval, e.Environment.Approvals, e.Approvals = true, 2, approvedBy("a", "a")
		}, sallyport.Ask, "of 2, and 1 gave it"},
		{"by more", func(e *Evidence) {
			e.Environment.Approval, e.Environment.Approvals, e.Approvals = true, 2, approvedBy("a", "b", "c")
		}, sallyport.Allow, "approved by c"},
		{"approved and not proven", func(e *Evidence) {
			e.Environment.Approval, e.Approvals, e.Subject.Content = true, approvedBy("a"), "other bytes"
		}, sallyport.Deny, "the kept content"},
		{"release tier", func(e *Evidence) { e.Subject.Tier = sallyport.TierRelease }, sallyport.Allow, "provenance by"},
		{"no statement", func(e *Evidence) { e.Statements = []EvidenceStatement{} }, sallyport.Deny, "no provenance for"},
		{"not verified", func(e *Evidence) { e.Statements[0].Verified = false; e.Statements[0].Problem = "bad signature" }, sallyport.Deny, "bad signature"},
		{"other identity", func(e *Evidence) { e.Statements[0].Identity += "x" }, sallyport.Deny, "no provenance for"},
		{"other issuer", func(e *Evidence) { e.Statements[0].Issuer += "x" }, sallyport.Deny, "no provenance for"},
		{"other builder", func(e *Evidence) { e.Expected.Builders = []string{"https://other"} }, sallyport.Deny, "does not name this builder"},
		{"other commit", func(e *Evidence) { e.Run.Commit = strings.Repeat("f", 40) }, sallyport.Deny, "does not name this builder"},
		{"predicate is null", func(e *Evidence) { e.Statements[0].Predicate = json.RawMessage("null") }, sallyport.Deny, "does not name this builder"},
		{"a second statement is bad", func(e *Evidence) {
			s := e.Statements[0]
			s.ID, s.PredicateType, s.Verified, s.Problem = "s2", sallyport.PredicateVSA, false, "no log entry"
			e.Statements = append(e.Statements, s)
		}, sallyport.Deny, "no log entry"},
		{"content altered", func(e *Evidence) { e.Subject.Content = "digest differs" }, sallyport.Deny, "digest differs"},
		{"run failed", func(e *Evidence) { e.Run.Conclusion = "failure" }, sallyport.Deny, "not success"},
		{"other workflow", func(e *Evidence) { e.Run.Workflow = ".github/workflows/evil.yml" }, sallyport.Deny, "the environment wants"},
		{"other artifact", func(e *Evidence) { e.Subject.Name = "coverage" }, sallyport.Deny, `it is artifact "coverage", the environment wants "hello"`},
		{"no artifact named", func(e *Evidence) { e.Environment.Artifact = "" }, sallyport.Deny, `the environment wants ""`},
		{"off the protected branch", func(e *Evidence) { e.Run.OnProtected = false }, sallyport.Deny, "is not on refs/heads/main"},
		{"member tier", func(e *Evidence) { e.Subject.Tier = sallyport.TierMember }, sallyport.Deny, "trust tier"},
		{"listed hosts", func(e *Evidence) { e.Run.Network = &EvidenceNetwork{Level: sallyport.EgressListed, Denied: 3} }, sallyport.Allow, "provenance by"},
		{"observe mode", func(e *Evidence) { e.Run.Network = &EvidenceNetwork{Level: sallyport.EgressListed, Observe: true} }, sallyport.Deny, "the run was in observe mode"},
		{"observe mode by the provenance", func(e *Evidence) { reached(e, `{"level":"listed","observe":true}`) }, sallyport.Deny, "the provenance says that the job was in observe mode"},
		{"listed hosts by the provenance", func(e *Evidence) { reached(e, `{"level":"listed"}`) }, sallyport.Allow, "provenance by"},
		{"restored from its own tier", func(e *Evidence) { e.Run.Restored = restored(sallyport.TierProtected) }, sallyport.Allow, "provenance by"},
		{"restored from a higher tier", func(e *Evidence) { e.Run.Restored = restored(sallyport.TierRelease) }, sallyport.Allow, "provenance by"},
		{"restored from a lower tier", func(e *Evidence) { e.Run.Restored = restored(sallyport.TierRelease, sallyport.TierMember) }, sallyport.Deny, `a run of tier "member" saved`},
		{"restored from no tier", func(e *Evidence) { e.Run.Restored = restored("") }, sallyport.Deny, `a run of tier "" saved`},
		{"provenance names a cache of its tier", func(e *Evidence) { named(e, `,"annotations":{"tier":"protected"}`) }, sallyport.Allow, "provenance by"},
		{"provenance names a cache of a lower tier", func(e *Evidence) { named(e, `,"annotations":{"tier":"untrusted"}`) }, sallyport.Deny, `of tier "untrusted"`},
		{"provenance names a cache of no tier", func(e *Evidence) { named(e, "") }, sallyport.Deny, "names cache entry https://ci/caches/1 of tier"},
		{"a job's own provenance", func(e *Evidence) { e.Statements[0].AssertedBy = "job" }, sallyport.Deny, "no provenance for"},
		{"malformed: asserted by whom", func(e *Evidence) { e.Statements[0].AssertedBy = "me" }, sallyport.Deny, "malformed"},
		{"source as committed", func(e *Evidence) { traced(e, `{"matchesCommit":true,"changed":0,"commit":"`+e.Run.Commit+`"}`) }, sallyport.Allow, "provenance by"},
		{"source of another tree", func(e *Evidence) { traced(e, `{"matchesCommit":false,"changed":0,"commit":"c0"}`) }, sallyport.Deny, "is not the tree of commit c0"},
		{"source of a tree that nobody compared", func(e *Evidence) { traced(e, `{"changed":0,"commit":"c0"}`) }, sallyport.Deny, "is not the tree of commit c0"},
		{"source edited", func(e *Evidence) { traced(e, `{"matchesCommit":true,"changed":2,"commit":"`+e.Run.Commit+`"}`) }, sallyport.Allow, "provenance by"},
		{"source edited where it must not be", func(e *Evidence) {
			e.Environment.SealedSource = true
			traced(e, `{"matchesCommit":true,"changed":2,"commit":"`+e.Run.Commit+`"}`)
		}, sallyport.Deny, "edited 2 tracked files, and the environment wants them unchanged: a.go, b.go"},
		{"source sealed", func(e *Evidence) {
			e.Environment.SealedSource = true
			traced(e, `{"matchesCommit":true,"changed":0,"commit":"`+e.Run.Commit+`"}`)
		}, sallyport.Allow, "provenance by"},
		{"source sealed, of another commit", func(e *Evidence) {
			e.Environment.SealedSource = true
			traced(e, `{"matchesCommit":true,"changed":0,"commit":"c0"}`)
		}, sallyport.Deny, "nothing shows that the source was not edited"},
		{"source sealed, and another job's edited", func(e *Evidence) {
			e.Environment.SealedSource = true
			traced(e, `{"matchesCommit":true,"changed":0,"commit":"`+e.Run.Commit+`"}`)
			e.Run.Sources = []EvidenceSource{{Job: "lint", Seen: true}, {Job: "compile", Seen: true, Changed: 2}}
		}, sallyport.Deny, "job compile edited 2 tracked files"},
		{"source sealed, and another job's not seen", func(e *Evidence) {
			e.Environment.SealedSource = true
			traced(e, `{"matchesCommit":true,"changed":0,"commit":"`+e.Run.Commit+`"}`)
			e.Run.Sources = []EvidenceSource{{Job: "compile"}}
		}, sallyport.Deny, "nothing shows that job compile did not edit"},
		{"source sealed, and another job's clean", func(e *Evidence) {
			e.Environment.SealedSource = true
			traced(e, `{"matchesCommit":true,"changed":0,"commit":"`+e.Run.Commit+`"}`)
			e.Run.Sources = []EvidenceSource{{Job: "compile", Seen: true}}
		}, sallyport.Allow, "provenance by"},
		{"source sealed, and nobody looked", func(e *Evidence) { e.Environment.SealedSource = true }, sallyport.Deny, "nothing shows that the source was not edited"},
		{"malformed: unknown tier", func(e *Evidence) { e.Subject.Tier = "root" }, sallyport.Deny, "malformed"},
		{"malformed: no builders", func(e *Evidence) { e.Expected.Builders = nil }, sallyport.Deny, "malformed"},
		{"malformed: version", func(e *Evidence) { e.Version = 2 }, sallyport.Deny, "malformed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := evidence()
			c.change(&e)
			doc, _, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := gates.Judge(t.Context(), DefaultGate(), doc)
			if err != nil {
				t.Fatal(err)
			}
			if got.Decision != c.want || !strings.Contains(strings.Join(got.Reasons, "\n"), c.reason) {
				t.Errorf("got %s %q, want %s because %q", got.Decision, got.Reasons, c.want, c.reason)
			}
			again, err := gates.Judge(t.Context(), DefaultGate(), doc)
			if err != nil || strings.Join(again.Reasons, "\n") != strings.Join(got.Reasons, "\n") {
				t.Errorf("a replay gave %q, %v; want the same as %q", again.Reasons, err, got.Reasons)
			}
		})
	}
}

func TestGatesFailClosed(t *testing.T) {
	t.Parallel()
	gates, err := New()
	if err != nil {
		t.Fatal(err)
	}
	doc, _, _ := evidence().Encode()
	cases := []struct {
		name, source string
		invalid      bool
		want         sallyport.Decision
	}{
		{"says nothing", "package sallyport.gate\nx := 1", false, sallyport.Deny},
		{"another package", "package other\nallow := true", false, sallyport.Deny},
		{"allow is text", "package sallyport.gate\nallow := \"yes\"", false, sallyport.Deny},
		{"conflicting rules", "package sallyport.gate\nallow := true\nallow := false if input.version == 1\nreasons := {\"r\"}", false, sallyport.Deny},
		{"reasons are numbers", "package sallyport.gate\nallow := true\nreasons := {1}", false, sallyport.Deny},
		{"built-in fails", "package sallyport.gate\nallow if to_number(\"x\") == 1\nreasons := {\"r\"}", false, sallyport.Deny},
		{"asks", "package sallyport.gate\nallow := true\nask := true\nreasons := {\"r\"}", false, sallyport.Ask},
		{"allows", "package sallyport.gate\nallow := true\nreasons := {\"r\"}", false, sallyport.Allow},
		{"syntax", "package sallyport.gate\nallow if", true, ""},
		{"network", "package sallyport.gate\nallow if http.send({\"method\":\"GET\",\"url\":\"http://127.0.0.1\"}).status_code == 200", true, ""},
		{"clock", "package sallyport.gate\nallow if time.now_ns() > 0", true, ""},
		{"too large", "package sallyport.gate\n#" + strings.Repeat("x", maxPolicyBytes), true, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := gates.Judge(t.Context(), []byte(c.source), doc)
			if c.invalid {
				if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
					t.Fatalf("got %+v, %v; want an invalid gate", got, err)
				}
				return
			}
			if err != nil || got.Decision != c.want || len(got.Reasons) == 0 {
				t.Errorf("got %+v, %v; want %s with a reason", got, err, c.want)
			}
		})
	}
}

func FuzzJudge(f *testing.F) {
	gates, err := New()
	if err != nil {
		f.Fatal(err)
	}
	doc, _, _ := evidence().Encode()
	f.Add(doc)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, document []byte) {
		got, err := gates.Judge(t.Context(), DefaultGate(), document)
		if err != nil {
			t.Fatal(err)
		}
		if got.Decision == sallyport.Allow && !strings.Contains(string(document), "runDetails") {
			t.Fatalf("allowed without provenance: %q", document)
		}
	})
}

func BenchmarkDefaultGate(b *testing.B) {
	gates, err := New()
	if err != nil {
		b.Fatal(err)
	}
	doc, _, _ := evidence().Encode()
	for b.Loop() {
		if got, _ := gates.Judge(b.Context(), DefaultGate(), doc); got.Decision != sallyport.Allow {
			b.Fatal(got.Reasons)
		}
	}
}

// Who is told to stop has not judged: a shutdown must not be kept as a denial.
func TestCancelledJudgementIsNoVerdict(t *testing.T) {
	t.Parallel()
	gates, err := New()
	if err != nil {
		t.Fatal(err)
	}
	document, _, err := evidence().Encode()
	if err != nil {
		t.Fatal(err)
	}
	// Long enough for the evaluation to look at its context.
	slow := []byte("package sallyport.gate\nallow if count([x | some x in numbers.range(1, 3000000); x % 7 == 0]) > 0\n")
	if err := gates.Check(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if o, err := gates.Judge(ctx, slow, document); err == nil {
		t.Errorf("got %+v, want an error", o)
	}
}

func approvedBy(who ...string) (out []EvidenceApproval) {
	for _, by := range who {
		out = append(out, EvidenceApproval{By: by, At: "2026-11-28T12:00:00Z", Request: "r", Digest: "sha256:" + strings.Repeat("0", 64)})
	}
	return out
}
