package engine

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/egress"
)

func registries(c *Config) { c.Egress = sallyport.EgressRegistries }

// jobs of branches are held to what the protected branch says, from when it says so on.
func TestEgressOfTheProtectedBranch(t *testing.T) {
	t.Parallel()
	h := newHouse(t, registries)
	flow := head + "  a:\n" + step("a")
	mine := "network: listed\nallow:\n  - host: mine.example.com\n"
	leased := func(branch string, f files) sallyport.EgressRules {
		t.Helper()
		h.push(branch, f)
		l := h.lease()
		h.finish(l, sallyport.Success, nil)
		return l.Egress
	}
	hosts := func(r sallyport.EgressRules) string {
		var out []string
		for _, e := range r.Rules {
			out = append(out, e.Host)
		}
		return string(r.Level) + " " + strings.Join(out, " ")
	}

	if got := leased("main", files{workflowFile: flow}); hosts(got) != "registries " || got.File.Path != "" || got.Commit == "" {
		t.Errorf("a project that declares nothing: got %+v", got)
	}
	if got := leased("side", files{workflowFile: flow, egress.File: mine}); hosts(got) != "registries " {
		t.Errorf("a branch that declares for itself: got %+v", got)
	}
	got := leased("main", files{workflowFile: flow, egress.File: mine}) // the control: merged, it counts
	if hosts(got) != "listed mine.example.com" || got.File.Digest != sallyport.DigestOf([]byte(mine)) || got.Rules[0].Pos.Line != 3 {
		t.Errorf("the protected branch: got %+v", got)
	}
	if got := leased("side", files{workflowFile: flow}); hosts(got) != "listed mine.example.com" {
		t.Errorf("a branch that declares nothing: got %+v", got)
	}
	if got := leased("side", files{workflowFile: flow, egress.File: "network: listed\nallow:\n  - host: evil.example.com\n"}); hosts(got) != "listed mine.example.com" {
		t.Errorf("a branch that adds a host: got %+v", got)
	}
	records, err := h.s.Audit.Records(h.admin, sallyport.AuditFilter{Action: "egress."})
	check(t, err)
	if len(records) != 1 || !strings.Contains(string(records[0].Detail), `"level":"listed"`) {
		t.Errorf("got records %+v, want one of the change that was merged", records)
	}
}

func TestEgressOfAWorkTree(t *testing.T) {
	t.Parallel()
	h := newHouse(t, registries, func(c *Config) { c.OwnEgress = true })
	h.push("side", files{workflowFile: head + "  a:\n" + step("a"), egress.File: "network: none\n"})
	if l := h.lease(); l.Egress.Level != sallyport.EgressNone || l.Egress.File.Path == "" {
		t.Errorf("got %+v", l.Egress)
	}
}

// Rules that cannot be read let nothing through, and say so.
func TestEgressBroken(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]string{"mistake": "network: listed\nallow:\n  - host: '*.com'\n", "too large": "network: listed\n#" + strings.Repeat("x", egress.MaxBytes)} {
		h := newHouse(t, registries)
		id := h.run(head + "  a:\n" + step("a"))
		h.finish(h.lease(), sallyport.Success, nil)
		push := h.push("main", files{workflowFile: head + "  a:\n" + step("a"), egress.File: src})
		l := h.lease()
		if e := l.Egress; e.Level != sallyport.EgressNone || !strings.HasPrefix(e.Broken, egress.File) || len(e.Rules) > 0 {
			t.Errorf("%s: got %+v", name, e)
		}
		list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Push: push.ID})
		check(t, err)
		plan, err := h.s.Runs.Plan(h.admin, list[0].ID)
		check(t, err)
		if w := plan.Warnings; len(w) == 0 || !strings.Contains(w[len(w)-1].Message, "reach nothing outside their rooms") {
			t.Errorf("%s: got warnings %v", name, w)
		}
		if plan, err = h.s.Runs.Plan(h.admin, id); err != nil || plan.Rules.Egress.Level != sallyport.EgressRegistries {
			t.Errorf("%s: the run before: %+v, %v", name, plan.Rules.Egress, err)
		}
	}
}

const credentials = `network: listed
allow:
  - host: api.example.com
    jobs: [a]
  - host: other.example.com
    jobs: [b]
credentials:
  - {name: use, secret: USE, kind: bearer, host: use.example.com}
  - {name: show, secret: SHOW, kind: bearer, host: show.example.com, expose: true}
  - {name: only-b, secret: ONLY_B, kind: bearer, host: b.example.com, jobs: [b]}
  - {name: prod, secret: PROD, kind: bearer, host: prod.example.com, environments: [production]}
`

// A job holds placeholders for what its door lends, and nothing of what is lent to others.
func TestCredentialsAreForTheDoor(t *testing.T) {
	t.Parallel()
	lend := map[string]string{"USE": "value-of-use", "SHOW": "value-of-show", "ONLY_B": "value-of-b", "PROD": "value-of-prod", "PLAIN": "value-of-plain"}
	newLender := func(t *testing.T) *house {
		return newHouse(t, func(c *Config) {
			c.Lend = func(context.Context, sallyport.Run, sallyport.Job) (map[string]string, error) { return lend, nil }
		})
	}
	flow := func(env string) string { return head + "  a:\n" + env + step("a") }
	names := func(l *sallyport.Lease) string {
		var out []string
		for _, c := range l.Egress.Credentials {
			out = append(out, c.Name)
		}
		return strings.Join(out, " ")
	}
	t.Run("of the protected branch", func(t *testing.T) {
		t.Parallel()
		h := newLender(t)
		h.push("main", files{workflowFile: flow(""), egress.File: credentials})
		l := h.lease()
		if names(l) != "use show" || len(l.Egress.Rules) != 1 || l.Egress.Rules[0].Host != "api.example.com" {
			t.Errorf("got %+v", l.Egress)
		}
		if len(l.Lent) != 2 || l.Lent[0].Secret != "USE" || l.Lent[0].Value != "value-of-use" || l.Lent[0].Placeholder == "" || l.Lent[0].Placeholder == l.Lent[1].Placeholder {
			t.Fatalf("got %+v", l.Lent)
		}
		want := map[string]string{"PLAIN": "value-of-plain", "SHOW": "value-of-show", "USE": l.Lent[0].Placeholder}
		if !reflect.DeepEqual(l.Secrets, want) {
			t.Errorf("got secrets %v, want %v", l.Secrets, want)
		}
		if lend["USE"] != "value-of-use" || lend["PROD"] == "" {
			t.Error("the lender's own map was changed")
		}
		records, err := h.s.Audit.Records(h.admin, sallyport.AuditFilter{Action: "job.leased"})
		check(t, err)
		if d := string(records[0].Detail); !strings.Contains(d, `"credentials":["use","show"]`) || !strings.Contains(d, `"exposed":["show"]`) || strings.Contains(d, "value-of") {
			t.Errorf("got record %s", d)
		}
	})
	t.Run("of another branch", func(t *testing.T) {
		t.Parallel()
		h := newLender(t)
		h.push("main", files{egress.File: credentials})
		h.push("side", files{workflowFile: flow("    environment: production\n")})
		l := h.lease()
		if names(l) != "" || len(l.Lent) != 0 || !reflect.DeepEqual(l.Secrets, map[string]string{"PLAIN": "value-of-plain"}) {
			t.Errorf("got %s, %v, %v", names(l), l.Lent, l.Secrets)
		}
	})
	t.Run("of a branch that may enter the environment", func(t *testing.T) {
		t.Parallel()
		h := newLender(t)
		h.push("main", files{egress.File: credentials, ".sallyport/deploy.yaml": "environments:\n  production: {refs: [main, side]}\n"})
		h.push("side", files{workflowFile: flow("    environment: Production\n")})
		if l := h.lease(); names(l) != "prod" || len(l.Lent) != 1 || l.Lent[0].Value != "value-of-prod" {
			t.Errorf("got %s, %v", names(l), l.Lent)
		}
	})
	t.Run("of a called workflow", func(t *testing.T) {
		t.Parallel()
		h := newLender(t)
		called := "on: {workflow_call: {secrets: {TOKEN: {}}}}\njobs:\n  a:\n" + step("a")
		h.push("main", files{egress.File: credentials, ".github/workflows/called.yml": called,
			workflowFile: head + "  b:\n    uses: ./.github/workflows/called.yml\n    secrets: {TOKEN: '${{ secrets.ONLY_B }}'}\n"})
		l := h.lease()
		if names(l) != "use show only-b" || len(l.Lent) != 1 || l.Lent[0].Secret != "ONLY_B" || l.Secrets["TOKEN"] != l.Lent[0].Placeholder || len(l.Secrets) != 1 {
			t.Errorf("got %s, %v, %v: it is known as what calls it, and holds what is handed over", names(l), l.Lent, l.Secrets)
		}
		if len(l.Egress.Rules) != 1 || l.Egress.Rules[0].Host != "other.example.com" {
			t.Errorf("got %+v", l.Egress.Rules)
		}
	})
}

// A job that may reach hosts outside is not started again when its runner is lost; one
// that reaches registries at most is.
func TestLostWithADoor(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]string{
		"network: registries\n": "a=queued run=in_progress",
		"network: none\n":       "a=queued run=in_progress",
		"network: listed\nallow:\n  - {host: a.example.com, jobs: [b]}\n": "a=queued run=in_progress",
		"network: listed\nallow:\n  - {host: a.example.com, jobs: [a]}\n": "a=failure run=failure",
		"network: registries\nobserve: true\n":                            "a=failure run=failure",
	} {
		h := newHouse(t)
		push := h.push("main", files{workflowFile: head + "  a:\n" + step("a"), egress.File: rules})
		list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Push: push.ID})
		check(t, err)
		h.lease()
		check(t, h.e.RunnerGone(t.Context(), "r1"))
		if got := h.states(list[0].ID); got != want {
			t.Errorf("%q: got %s, want %s", rules, got, want)
		}
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	h := newHouse(t, registries)
	id := h.run(head + "  a:\n" + step("a"))
	l := h.lease()
	h.pass(time.Second)
	now := h.clock()
	flow := sallyport.Flow{Protocol: "tls", Host: "a.example.com", Port: 443, Decision: sallyport.EgressDenied, Reason: egress.ReasonHost, Count: 2, First: now, Last: now}
	check(t, h.y.Record(h.runner, l.Ref, 1, sallyport.DoorRecord{Flows: []sallyport.Flow{flow}}))
	check(t, h.y.Record(h.runner, l.Ref, 1, sallyport.DoorRecord{Flows: []sallyport.Flow{flow}, Lost: 5})) // again
	check(t, h.y.Record(h.runner, l.Ref, 2, sallyport.DoorRecord{
		Flows:    []sallyport.Flow{flow, {Protocol: "tls\n", Host: strings.Repeat("h", 999), Decision: "maybe", Count: -1, Sent: -1, Port: 1 << 20, Step: -3, First: now.Add(time.Hour)}},
		Packages: []sallyport.PackageFetch{{PURL: "pkg:npm/a@1", Digest: "md5:x", Decision: sallyport.EgressAllowed, At: now}},
		Uses:     []sallyport.CredentialUse{{Credential: "c", Host: "a.example.com", Decision: sallyport.EgressAllowed, At: now}},
	}))
	doors, err := h.s.Doors.Doors(h.admin, id)
	check(t, err)
	if len(doors) != 1 || doors[0].Key != "a" || doors[0].Rules.Level != sallyport.EgressRegistries || doors[0].Attempt != 1 {
		t.Fatalf("got %+v", doors)
	}
	r := doors[0].Record
	if len(r.Flows) != 2 || r.Flows[0].Count != 4 || r.Lost != 0 || len(r.Packages) != 1 || len(r.Uses) != 1 {
		t.Errorf("got %+v", r)
	}
	if f := r.Flows[1]; f.Protocol != "tls " || len(f.Host) > 270 || f.Decision != sallyport.EgressDenied || f.Count != 1 || f.Sent != 0 || f.Port != 65535 || f.Step != 0 || !f.First.Equal(now) {
		t.Errorf("unbounded: %+v", f)
	}
	if r.Packages[0].Digest != "" {
		t.Errorf("got digest %q", r.Packages[0].Digest)
	}
	if err := h.y.Record(h.runner, l.Ref, 0, r); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("seq 0: got %v", err)
	}
	if err := h.y.Record(h.runner, sallyport.LeaseRef{Job: l.Job.ID, Token: "other"}, 3, r); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("another's lease: got %v", err)
	}
	h.finish(l, sallyport.Success, nil)
	if err := h.y.Record(h.runner, l.Ref, 3, r); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("after the end: got %v", err)
	}
}

// A flood is counted and not kept, and is no error.
func TestRecordFlood(t *testing.T) {
	t.Parallel()
	h := newHouse(t, registries)
	id := h.run(head + "  a:\n" + step("a"))
	l := h.lease()
	var many sallyport.DoorRecord
	for i := range maxDoorItems + 10 {
		many.Flows = append(many.Flows, sallyport.Flow{Protocol: "dns", Host: fmt.Sprintf("h%d.example.com", i), Decision: sallyport.EgressDenied, Count: 1})
	}
	check(t, h.y.Record(h.runner, l.Ref, 1, many))
	for seq := 2; seq <= maxDoorEntries+20; seq++ {
		check(t, h.y.Record(h.runner, l.Ref, seq, sallyport.DoorRecord{Flows: many.Flows[:1]}))
	}
	doors, err := h.s.Doors.Doors(h.admin, id)
	check(t, err)
	if r := doors[0].Record; len(r.Flows) != maxDoorItems || r.Lost != 10+1 || r.Flows[0].Count != maxDoorEntries-1 {
		t.Errorf("got %d flows, %d lost, the first %d times", len(r.Flows), r.Lost, r.Flows[0].Count)
	}
}

func TestLearnFromRuns(t *testing.T) {
	t.Parallel()
	h := newHouse(t, registries)
	flow := head + "  a:\n" + step("a")
	h.push("main", files{workflowFile: flow, egress.File: "network: listed # as little as we can\n"})
	l := h.lease()
	check(t, h.y.Record(h.runner, l.Ref, 1, sallyport.DoorRecord{Flows: []sallyport.Flow{
		{Protocol: "dns", Host: "new.example.com", Decision: sallyport.EgressDenied, Reason: egress.ReasonHost, Count: 1}}}))
	h.finish(l, sallyport.Success, nil)
	p, err := h.s.Doors.Learn(h.admin, h.p.ID, 10, nil)
	check(t, err)
	if p.Runs != 1 || !strings.Contains(p.Diff, "+  - host: new.example.com") || !strings.HasPrefix(p.File, "network: listed # as little as we can\nallow:\n") {
		t.Errorf("got %+v", p)
	}
	if p, err = h.s.Doors.Learn(h.admin, h.p.ID, 10, []byte{}); err != nil || !strings.HasPrefix(p.File, "network: registries\nallow:\n") {
		t.Errorf("from nothing: got %+v, %v", p, err)
	}
	if _, err := h.s.Doors.Learn(h.admin, h.p.ID, 0, nil); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("no runs: got %v", err)
	}
	rules, err := h.s.Doors.EgressRules(h.admin, h.p.ID)
	if err != nil || rules.Level != sallyport.EgressListed || rules.File.Path != egress.File {
		t.Errorf("got %+v, %v", rules, err)
	}
}
