package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// runsOf returns "WORKFLOW EVENT REF TIER" of all runs but those of pushes, oldest first.
func (h *house) runsOf() []string {
	h.t.Helper()
	list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Page: sallyport.Page{Limit: 200}})
	check(h.t, err)
	slices.SortFunc(list, func(a, b sallyport.Run) int { return int(a.Number - b.Number) })
	var out []string
	for _, r := range list {
		if r.Event != "push" {
			out = append(out, strings.Join([]string{r.Name, r.Event, shortRef(r.Ref), string(r.Tier)}, " "))
		}
	}
	return out
}

func named(name, on string) string {
	return "name: " + name + "\non:\n" + on + "jobs:\n  a:\n" + step("true")
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	h := newHouse(t) // at 03:04:05
	nightly := named("nightly", "  schedule:\n    - cron: '30 3 * * *'\n    - cron: '0 12 * * *'\n      timezone: Asia/Tokyo\n")
	h.push("feature", files{".github/workflows/f.yml": strings.ReplaceAll(nightly, "nightly", "feature")})
	h.push("main", files{".github/workflows/n.yml": nightly, ".github/workflows/p.yml": named("other", "  push:\n")})
	h.wantRuns(nil)
	h.pass(26 * time.Minute) // 03:30:05
	h.work()
	h.work() // nothing more
	h.wantRuns([]string{"nightly schedule main protected"})
	h.lease() // of the push
	l := h.lease()
	var github struct{ Event struct{ Schedule string } }
	check(t, json.Unmarshal(l.Contexts["github"], &github))
	if github.Event.Schedule != "30 3 * * *" {
		t.Errorf("github.event.schedule = %q", github.Event.Schedule)
	}
	h.pass(23*time.Hour + 33*time.Minute) // 03:03 of the next day: noon in Tokyo is past
	h.work()
	h.wantRuns([]string{"nightly schedule main protected", "nightly schedule main protected"})
	h.pass(72 * time.Hour) // away: one late start for what was due first, not six
	h.work()
	if n := len(h.runsOf()); n != 3 {
		t.Errorf("%d runs after a long time away, want 3", n)
	}
	h.push("main", files{".github/workflows/p.yml": named("other", "  push:\n")})
	h.pass(48 * time.Hour)
	h.work()
	if n := len(h.runsOf()); n != 3 {
		t.Errorf("%d runs after the schedule was removed, want 3", n)
	}
}

// wantRuns compares the runs that no push started.
func (h *house) wantRuns(want []string) {
	h.t.Helper()
	if got := h.runsOf(); !slices.Equal(got, want) {
		h.t.Errorf("got runs %q, want %q", got, want)
	}
}

func TestScheduleKeepsItsDistance(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.push("main", files{".github/workflows/n.yml": named("often", "  schedule: [{cron: '* * * * *'}]\n")})
	for range 30 {
		h.pass(time.Minute)
		h.work()
	}
	if n := len(h.runsOf()); n < 5 || n > 7 {
		t.Errorf("%d starts in half an hour, want one every five minutes", n)
	}
}

func TestWorkflowRun(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	after := func(name, of string) string {
		return named(name, "  workflow_run:\n    workflows: ["+of+"]\n    types: [completed]\n")
	}
	h.push("main", files{
		".github/workflows/ci.yml": named("CI", "  push:\n"), ".github/workflows/a.yml": after("A", "CI"), ".github/workflows/b.yml": after("B", "A"),
		".github/workflows/c.yml": after("C", "B"), ".github/workflows/d.yml": after("D", "C"), ".github/workflows/x.yml": after("X", "Other"),
	})
	for range 10 {
		if l := h.lease(); l != nil {
			h.finish(l, sallyport.Success, nil)
		}
	}
	h.wantRuns([]string{"A workflow_run main protected", "B workflow_run main protected", "C workflow_run main protected"})
	// What a lower run causes is not trusted more than that.
	h.push("feature", files{".github/workflows/ci.yml": named("CI", "  push:\n")})
	h.finish(h.lease(), sallyport.Failure, nil)
	if got := h.runsOf(); got[len(got)-1] != "A workflow_run main member" {
		t.Errorf("got %q", got)
	}
	var github struct {
		Event struct {
			Run struct{ Conclusion, Name string } `json:"workflow_run"`
		}
	}
	l := h.lease()
	check(t, json.Unmarshal(l.Contexts["github"], &github))
	if github.Event.Run.Conclusion != "failure" || github.Event.Run.Name != "CI" {
		t.Errorf("event %+v", github.Event)
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	all := files{}
	for _, event := range []string{"pull_request", "pull_request_target", "issues", "issue_comment", "repository_dispatch", "release"} {
		all[".github/workflows/"+event+".yml"] = named(event, "  "+event+":\n")
	}
	h.push("main", all)
	feature := h.push("feature", all)
	deliver := func(event, payload, key string) error {
		_, err := h.s.Projects.Deliver(h.admin, h.p.ID, sallyport.Delivery{Event: event, Payload: json.RawMessage(payload), Key: key})
		return err
	}
	pull := func(branch, sha string) string {
		return fmt.Sprintf(`{"action":"opened","number":7,"pull_request":{"base":{"ref":"main"},"head":{"ref":%q,"sha":%q,"repo":{"full_name":"demo"}}}}`, branch, sha)
	}
	check(t, deliver("pull_request", pull("feature", feature.Commit), ""))
	// A fork's branch may stand where ours does, under the same name: the payload may lower the trust.
	check(t, deliver("pull_request", strings.Replace(pull("feature", feature.Commit), `"full_name":"demo"`, `"full_name":"stranger/demo"`, 1), ""))
	// A fork may call its branch as it likes: what no branch of ours stands at is untrusted.
	h.push("feature", files{"other": "x"})
	check(t, deliver("pull_request", pull("feature", feature.Commit), ""))
	check(t, deliver("pull_request_target", pull("feature", feature.Commit), ""))
	check(t, deliver("issues", `{"action":"opened","issue":{"title":"x"}}`, ""))
	check(t, deliver("issue_comment", `{"action":"created"}`, "k1"))
	check(t, deliver("issue_comment", `{"action":"created"}`, "k1")) // delivered twice
	check(t, deliver("repository_dispatch", `{"action":"go"}`, ""))
	h.wantRuns([]string{
		"pull_request pull_request refs/pull/7/merge member", "pull_request pull_request refs/pull/7/merge untrusted",
		"pull_request pull_request refs/pull/7/merge untrusted",
		"pull_request_target pull_request_target main untrusted", "issues issues main untrusted", "issue_comment issue_comment main untrusted",
		"repository_dispatch repository_dispatch main protected",
	})
	for name, c := range map[string]struct{ event, payload string }{
		"push": {"push", `{}`}, "unknown": {"pushed", `{}`}, "no object": {"issues", `[]`}, "no head": {"pull_request", `{"number":1}`},
		"workflow_run": {"workflow_run", `{}`},
	} {
		if err := deliver(c.event, c.payload, ""); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: got %v, want %s", name, err, sallyport.CodeInvalid)
		}
	}
	for name, c := range map[string]struct{ event, payload string }{
		"release of no tag": {"release", `{"action":"published","release":{"tag_name":"v1"}}`}, "head elsewhere": {"pull_request", pull("x", strings.Repeat("1", 40))},
	} {
		if err := deliver(c.event, c.payload, ""); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			t.Errorf("%s: got %v, want %s", name, err, sallyport.CodeNotFound)
		}
	}
}

func TestSkipMarks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.says = "Fix a comma [skip ci]"
	push := h.push("main", files{workflowFile: named("CI", "  push:\n  workflow_dispatch:\n")})
	list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Push: push.ID})
	if err != nil || len(list) != 0 {
		t.Errorf("a commit that asks to skip started %d runs, %v", len(list), err)
	}
	if _, err := h.s.Runs.Dispatch(h.admin, h.p.ID, workflowFile, "", nil); err != nil {
		t.Errorf("dispatch: %v", err)
	}
	h.wantRuns([]string{"CI workflow_dispatch main protected"})
}

// A workflow that is invalid or cannot be read is a run that failed; the others run, unless it was named.
func TestTriggerBesideInvalidWorkflows(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const bad, huge = ".github/workflows/bad.yml", ".github/workflows/huge.yml"
	pushed := h.push("main", files{
		workflowFile: head + "  a:\n" + step("a"), bad: "on: push\njobs: nothing\n", huge: "# " + strings.Repeat("x", maxWorkflowBytes),
	})
	push := sallyport.Push{Project: h.p.ID, Event: "push", Ref: "refs/heads/main", Commit: pushed.Commit, Tier: sallyport.TierMember}
	runs, err := h.e.Trigger(h.admin, push, Selection{})
	check(t, err)
	got := map[string]sallyport.Conclusion{}
	for _, r := range runs {
		got[r.Workflow] = r.Conclusion
		if r.Conclusion == sallyport.Failure && !strings.HasPrefix(r.Cause, r.Workflow+":") {
			t.Errorf("the run of %s has the cause %q, want its place", r.Workflow, r.Cause)
		}
	}
	if want := map[string]sallyport.Conclusion{workflowFile: "", bad: sallyport.Failure, huge: sallyport.Failure}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var invalid *InvalidWorkflow
	for _, sel := range []Selection{{Workflows: []string{bad, workflowFile}}, {Workflows: []string{bad}}} {
		if runs, err := h.e.Trigger(h.admin, push, sel); !errors.As(err, &invalid) || runs != nil {
			t.Errorf("%v: got %v and %d runs, want an invalid workflow and none", sel.Workflows, err, len(runs))
		}
	}
}
