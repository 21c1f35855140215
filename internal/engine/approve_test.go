package engine

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const heldDeploy = deployFile + "    approvals: 2\n    reviewers: [team/ops, person/root, person/eve, person/ada]\n"

const heldJobs = "environments:\n  production: {approvals: 2, reviewers: [team/ops, person/root, person/eve, person/ada]}\n"

// office is a site with people.
type office struct {
	*site
	people map[string]context.Context
}

// newOffice has a project with people: eve pushes, ada writes the commits, the others are
// reviewers; fix is an agent of eve's.
func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{site: newSite(t), people: map[string]context.Context{}}
	all := []sallyport.ProjectID{o.p.ID}
	for _, a := range []sallyport.Account{
		{Name: "anna", Teams: []string{"ops"}, Projects: all}, {Name: "ben", Teams: []string{"ops"}, Projects: all}, {Name: "carl", Teams: []string{"ops"}, Projects: all},
		{Name: "eve", Projects: all}, {Name: "ada", Projects: all}, {Name: "root", Admin: true}, {Name: "dora", Projects: all}, {Name: "otto", Teams: []string{"ops"}},
	} {
		a.Kind = sallyport.Person
		o.people[a.Name] = o.account(a)
	}
	o.people["fix"] = o.account(sallyport.Account{Kind: sallyport.Agent, Name: "fix", Sponsor: "person/carl", Projects: all})
	o.people["ci"] = o.account(sallyport.Account{Kind: sallyport.Bot, Name: "ci", Projects: all})
	o.people["operator"] = o.admin
	o.pusher = o.people["eve"]
	o.pass(time.Second)
	return o
}

// request returns the newest that is open.
func (o *office) request() sallyport.RequestStatus {
	o.t.Helper()
	list, err := o.s.Approvals.Requests(o.people["root"], "", true, sallyport.Page{})
	check(o.t, err)
	if len(list) == 0 {
		o.t.Fatal("there is no open request")
	}
	return list[0]
}

func (o *office) vote(who, word string, r sallyport.RequestStatus) error {
	_, err := o.s.Approvals.Vote(o.people[who], r.Request.ID, sallyport.Vote{Word: word, Note: "as the test says", Digest: r.Digest})
	o.work()
	return err
}

// heldJob pushes a workflow whose job waits before production.
func (o *office) heldJob() (sallyport.RunID, sallyport.RequestStatus) {
	o.t.Helper()
	o.push("main", files{".sallyport/deploy.yaml": heldJobs})
	o.pass(time.Second)
	push := o.push("main", files{".sallyport/deploy.yaml": heldJobs, workflowFile: head + "  a:\n    environment: production\n" + step("a")})
	list, err := o.s.Runs.Runs(o.admin, sallyport.RunFilter{Push: push.ID})
	check(o.t, err)
	return list[0].ID, o.request()
}

func (o *office) heldRelease() sallyport.RequestStatus {
	o.t.Helper()
	o.deploys = heldDeploy
	o.build("one")
	o.standing(0, sallyport.DeployWaiting)
	return o.request()
}

// records returns what the trail says of an action, newest first.
func (h *house) records(action string) (out []sallyport.AuditRecord) {
	h.t.Helper()
	check(h.t, h.store.View(h.t.Context(), func(tx sallyport.Tx) (err error) {
		out, err = tx.Audit().List(sallyport.AuditFilter{Action: action, Limit: 200})
		return err
	}))
	return out
}

func TestJobWaitsForTwoPeople(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run, r := o.heldJob()
	o.want(run, "a=waiting run=queued")
	if r.Request.Needed != 2 || r.Request.By.ID != "person/eve" || r.Request.Bound.Commit == "" || r.Request.Bound.Plan == "" {
		t.Fatalf("the request is %+v", r.Request)
	}
	check(t, o.vote("anna", "approve", r))
	o.want(run, "a=waiting run=queued")
	if o.lease() != nil {
		t.Fatal("it was leased with one approval of two")
	}
	if err := o.vote("anna", "approve", r); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("anna counted twice: %v", err)
	}
	check(t, o.vote("ben", "approve", r))
	o.want(run, "a=queued run=queued")
	if o.lease() == nil {
		t.Fatal("it is not to be had")
	}
	if got := len(o.records("approval.")); got != 4 { // requested, two votes, done
		t.Errorf("%d records of the approval, want 4: %+v", got, o.records("approval."))
	}
}

func TestReleaseWaitsForTwoPeople(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	r := o.heldRelease()
	st, err := o.s.Approvals.Request(o.people["anna"], r.Request.ID)
	check(t, err)
	if st.Objection != "" || fmt.Sprint(st.MayVote) != "[person/anna person/ben person/carl person/root]" {
		t.Errorf("anna is told %q, may vote: %v", st.Objection, st.MayVote)
	}
	if e := st.Effect; e.Decision != sallyport.Ask || e.To == "" || len(e.Changed) == 0 || len(e.Reasons) == 0 {
		t.Errorf("the effect is %+v", e)
	}
	check(t, o.vote("anna", "approve", r))
	o.standing(0, sallyport.DeployWaiting)
	check(t, o.vote("ben", "approve", r))
	o.settled()
	o.standing(1, live)
	d := o.number(1)
	rel := sallyport.Release{}
	check(t, o.store.View(t.Context(), func(tx sallyport.Tx) (err error) { rel, err = tx.Releases().Get(d.Release); return err }))
	v, err := o.s.Gates.Verdict(o.admin, rel.Verdict)
	check(t, err)
	if v.Decision != sallyport.Allow || !strings.Contains(strings.Join(v.Reasons, " "), "approved by person/anna") || !bytes.Contains(v.Input, []byte(`"by":"person/ben"`)) {
		t.Errorf("the verdict is %s: %q", v.Decision, v.Reasons)
	}
	// The next is asked for anew, against what is live now.
	o.build("two")
	if next := o.request(); next.Request.Bound.Base != d.Commit {
		t.Errorf("the base is %q, want %q", next.Request.Bound.Base, d.Commit)
	}
}

// Nobody approves what they had a hand in, whatever else they may do.
func TestSeparationOfDuties(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(o *office) sallyport.RequestStatus{
		"job":     func(o *office) sallyport.RequestStatus { _, r := o.heldJob(); return r },
		"release": func(o *office) sallyport.RequestStatus { return o.heldRelease() },
		"access": func(o *office) sallyport.RequestStatus {
			o.push("main", files{".sallyport/deploy.yaml": heldJobs})
			r, err := o.s.Approvals.Ask(o.people["eve"], sallyport.AccessAsk{Action: "secrets", Resource: `Environment::"demo/production"`, For: time.Hour, Why: "rotate"})
			check(o.t, err)
			return r
		},
		"access of an agent": func(o *office) sallyport.RequestStatus {
			r, err := o.s.Approvals.Ask(o.people["fix"], sallyport.AccessAsk{Action: "secrets", Resource: `Project::"demo"`, For: time.Hour, Why: "rotate"})
			check(o.t, err)
			return r
		},
		"a push of an agent": func(o *office) sallyport.RequestStatus {
			o.pusher = o.people["fix"]
			return o.heldRelease()
		},
		"review": func(o *office) sallyport.RequestStatus {
			o.people["eve"] = o.people["root"] // who acts in the emergency
			_, err := o.s.Rights.SetRules(o.admin, `permit (principal == Person::"person/anna", action == Action::"emergency", resource == Project::"demo");`)
			check(o.t, err)
			_, err = o.s.Approvals.Ask(o.people["anna"], sallyport.AccessAsk{Action: "secrets", Resource: `Project::"demo"`, For: time.Hour, Why: "it burns", Emergency: true})
			check(o.t, err)
			return o.request()
		},
	}
	for _, c := range []struct{ kind, who, want string }{
		{"job", "eve", "whoever asks"},
		{"job", "ada", "wrote commits"},
		{"job", "dora", "not among the reviewers"},
		{"job", "otto", ""}, // in the team, and no policy lets them
		{"job", "fix", ""},
		{"job", "ci", ""},
		{"job", "operator", "an account"},
		{"release", "eve", "whoever asks"},
		{"release", "ada", "wrote commits"},
		{"release", "dora", "not among the reviewers"},
		{"release", "otto", ""},
		{"release", "fix", ""},
		{"release", "ci", ""},
		{"release", "operator", "an account"},
		{"access", "eve", "whoever asks"},
		{"access", "dora", "not among the reviewers"},
		{"access", "otto", ""},
		{"access", "fix", ""},
		{"access", "ci", ""},
		{"access", "operator", "an account"},
		{"access of an agent", "fix", ""},
		{"access of an agent", "carl", "sponsors agent:fix"},
		{"a push of an agent", "carl", "sponsors agent:fix"},
		{"a push of an agent", "fix", ""},
		{"a push of an agent", "ada", "wrote commits"},
		{"review", "anna", "whoever asks"},
		{"review", "operator", "an account"},
		{"review", "ci", ""},
	} {
		t.Run(c.kind+" by "+c.who, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			r := kinds[c.kind](o)
			err := o.vote(c.who, "approve", r)
			if sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a denial: %s", err, c.want)
			}
			if again := o.request(); len(again.Votes) != 0 || again.State != sallyport.RequestPending {
				t.Errorf("it counted: %+v", again)
			}
			// The control: somebody who has nothing to do with it may.
			free := map[string]string{"access of an agent": "anna", "review": "ben"}[c.kind]
			if free == "" {
				free = "ben"
			}
			check(t, o.vote(free, "approve", r))
		})
	}
}

// Not even administrators are excepted.
func TestAdministratorsAreNotExcepted(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.pusher = o.people["root"]
	r := o.heldRelease()
	if err := o.vote("root", "approve", r); sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(err.Error(), "whoever asks") {
		t.Errorf("an administrator approved their own push: %v", err)
	}
	// Nor does one make a second self once the request is there.
	o.pass(time.Second)
	o.people["root2"] = o.account(sallyport.Account{Kind: sallyport.Person, Name: "root2", Teams: []string{"ops"}, Admin: true})
	if err := o.vote("root2", "approve", r); sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(err.Error(), "younger") {
		t.Errorf("an account that was made for it approved: %v", err)
	}
	// Who deploys by hand asks, and who pushed stays out.
	check(t, o.vote("anna", "reject", r))
	list, err := o.s.Artifacts.Artifacts(o.admin, r.Request.Run)
	check(t, err)
	o.pass(time.Second)
	_, err = o.s.Deployments.Deploy(o.people["anna"], list[0].ID, "production")
	check(t, err)
	again := o.request()
	for _, who := range []string{"anna", "root"} {
		if err := o.vote(who, "approve", again); sallyport.ErrorCode(err) != sallyport.CodeDenied {
			t.Errorf("%s approved: %v", who, err)
		}
	}
	check(t, o.vote("ben", "approve", again))
}

func TestOneNoStops(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run, r := o.heldJob()
	check(t, o.vote("anna", "approve", r))
	check(t, o.vote("ben", "reject", r))
	o.want(run, "a=failure run=failure")
	if err := o.vote("carl", "approve", r); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("it was approved after a no: %v", err)
	}
	o2 := newOffice(t)
	rel := o2.heldRelease()
	check(t, o2.vote("anna", "approve", rel))
	check(t, o2.vote("ben", "reject", rel))
	o2.standing(0, refused)
	if err := o2.vote("carl", "approve", rel); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("it was approved after a no: %v", err)
	}
}

func TestRequestsExpire(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run, r := o.heldJob()
	check(t, o.vote("anna", "approve", r))
	o.pass(requestLife)
	// The clock decides, before anything has run.
	if _, err := o.s.Approvals.Vote(o.people["ben"], r.Request.ID, sallyport.Vote{Word: "approve", Digest: r.Digest}); err == nil {
		t.Error("it was approved too late")
	}
	o.work()
	o.want(run, "a=failure run=failure")
	// And a clock that goes back brings nothing back.
	o.pass(-requestLife)
	if err := o.vote("ben", "approve", r); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("it was approved when the clock went back: %v", err)
	}
	o2 := newOffice(t)
	o2.heldRelease()
	o2.pass(requestLife)
	o2.work()
	o2.standing(0, refused)
}

// Each part of what an approval is bound to voids it by changing.
func TestAChangeVoids(t *testing.T) {
	t.Parallel()
	base := sallyport.Bound{Base: "0", Commit: "1", Plan: "2", Artifact: "3", Evidence: "4", Policy: "5"}
	for what, alter := range map[string]func(b *sallyport.Bound){
		"the commit": func(b *sallyport.Bound) { b.Commit = "x" }, "the plan": func(b *sallyport.Bound) { b.Plan = "x" },
		"the artifact": func(b *sallyport.Bound) { b.Artifact = "x" }, "the evidence": func(b *sallyport.Bound) { b.Evidence = "x" },
		"the policy": func(b *sallyport.Bound) { b.Policy = "x" }, "what is deployed now": func(b *sallyport.Bound) { b.Base = "x" },
	} {
		other := base
		alter(&other)
		if got := base.Differs(other); got != what {
			t.Errorf("%s: told as %q", what, got)
		}
		a, b := sallyport.AccessRequest{ID: "r", Bound: base}, sallyport.AccessRequest{ID: "r", Bound: other}
		if a.Digest() == b.Digest() {
			t.Errorf("%s is not in the digest that people sign", what)
		}
		// A vote for one counts nothing for the other.
		now := time.Unix(1, 0)
		a.Needed, b.Needed, a.ExpiresAt, b.ExpiresAt = 1, 1, time.Unix(9, 0), time.Unix(9, 0)
		vote := []sallyport.AccessEvent{{Kind: sallyport.EventVote, Word: "approve", Digest: a.Digest(), By: sallyport.Party{ID: "p"}, At: now}}
		if a.Fold(vote, now).State != sallyport.RequestApproved || b.Fold(vote, now).State != sallyport.RequestPending {
			t.Errorf("%s: a vote counts for what it was not given for", what)
		}
	}

	t.Run("an artifact that is made meanwhile", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		o.push("main", files{".sallyport/deploy.yaml": heldJobs})
		o.pass(time.Second)
		push := o.push("main", files{".sallyport/deploy.yaml": heldJobs, workflowFile: head + "  a:\n    environment: production\n" + step("a") + "  b:\n" + step("b")})
		list, err := o.s.Runs.Runs(o.admin, sallyport.RunFilter{Push: push.ID})
		check(t, err)
		first := o.request()
		check(t, o.vote("anna", "approve", first))
		l := o.lease()
		_, err = o.y.PutArtifact(o.runner, l.Ref, "app", bytes.NewReader(tarOf(t, tarFile{"app", "x", 0o755})))
		check(t, err)
		// Approve while it is voided: the vote finds that it is for something else.
		if err := o.vote("ben", "approve", first); sallyport.ErrorCode(err) != sallyport.CodeConflict {
			t.Errorf("ben approved what it was before: %v", err)
		}
		o.want(list[0].ID, "a=waiting b=in_progress run=in_progress")
		second := o.request()
		if second.Request.ID == first.Request.ID || len(second.Votes) != 0 || second.Request.Bound.Artifact == first.Request.Bound.Artifact {
			t.Fatalf("the request is still %+v", second)
		}
		o.finish(l, sallyport.Success, nil) // leaves evidence
		third := o.request()
		if third.Request.ID == second.Request.ID {
			t.Error("the evidence changed and the request did not")
		}
		check(t, o.vote("anna", "approve", third))
		check(t, o.vote("ben", "approve", third))
		o.want(list[0].ID, "a=queued b=success run=in_progress")
	})
	t.Run("evidence of a release", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		r := o.heldRelease()
		check(t, o.vote("anna", "approve", r))
		// A statement about the artifact comes in before the last vote.
		check(t, o.store.Update(t.Context(), func(tx sallyport.Tx) error {
			all, err := tx.Statements().ByRun(r.Request.Run)
			if err != nil {
				return err
			}
			more := all[slices.IndexFunc(all, func(s sallyport.Statement) bool { return s.PredicateType == sallyport.PredicateProvenance })]
			more.ID, more.Bundle = sallyport.NewID[sallyport.StatementID](o.now), bytes.Replace(more.Bundle, []byte(`"index":`), []byte(`"index":9`), 1)
			more.BundleDigest = sallyport.DigestOf(more.Bundle)
			return tx.Statements().Insert(more)
		}))
		check(t, o.vote("ben", "approve", r))
		o.standing(0, sallyport.DeployWaiting)
		again := o.request()
		if again.Request.ID == r.Request.ID || len(again.Votes) != 0 || again.Request.By.ID != "person/eve" {
			t.Fatalf("the request is %+v", again)
		}
		check(t, o.vote("anna", "approve", again))
		check(t, o.vote("ben", "approve", again))
		o.settled()
		o.standing(1, live)
	})
	t.Run("content of a release", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		r := o.heldRelease()
		check(t, o.vote("anna", "approve", r))
		o.spoilBlobs()
		_ = o.vote("ben", "approve", r)
		o.settled()
		for _, d := range o.deployments() {
			if d.State == live || d.State == watching {
				t.Errorf("bytes that nobody approved are %s", d.State)
			}
		}
	})
	t.Run("the rules of the environment", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		r := o.heldRelease()
		check(t, o.vote("anna", "approve", r))
		o.push("main", files{".sallyport/deploy.yaml": strings.Replace(heldDeploy, "approvals: 2", "approvals: 3", 1)})
		if err := o.vote("ben", "approve", r); sallyport.ErrorCode(err) != sallyport.CodeConflict || !strings.Contains(err.Error(), "rules") {
			t.Errorf("ben approved under rules of before: %v", err)
		}
		o.standing(0, refused)
		o2 := newOffice(t)
		run, r2 := o2.heldJob()
		o2.push("main", files{".sallyport/deploy.yaml": strings.Replace(heldJobs, "approvals: 2", "approvals: 3", 1)})
		if err := o2.vote("ben", "approve", r2); sallyport.ErrorCode(err) != sallyport.CodeConflict {
			t.Errorf("ben approved under rules of before: %v", err)
		}
		o2.want(run, "a=failure run=failure")
	})
	t.Run("what somebody saw before", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		r := o.heldRelease()
		r.Digest = sallyport.DigestOf([]byte("another page"))
		if err := o.vote("anna", "approve", r); sallyport.ErrorCode(err) != sallyport.CodeConflict {
			t.Errorf("a vote for something else was taken: %v", err)
		}
	})
}

// Pushes since the last that was let in count, not the last alone.
func TestWhoPushedBeforeIsInvolved(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.says = "by hand"
	r := o.heldRelease()
	check(t, o.vote("anna", "approve", r))
	check(t, o.vote("ben", "approve", r))
	o.settled()
	o.standing(1, live)
	o.pusher = o.people["anna"] // who pushes something that is not let in
	o.build("two")
	o.pusher = o.people["eve"]
	o.build("three")
	r = o.request()
	if err := o.vote("anna", "approve", r); sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(err.Error(), "pushed") {
		t.Errorf("anna approved what she pushed: %v", err)
	}
	check(t, o.vote("ben", "approve", r))
}

// Who pushed what another starts by hand had a hand in it, and the history before has not.
func TestWhoPushedWhatAnotherStarts(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	const flow = "on: workflow_dispatch\njobs:\n  a:\n    environment: production\n"
	o.pusher = o.people["anna"]
	o.push("main", files{".sallyport/deploy.yaml": heldJobs, workflowFile: flow + step("a")})
	o.pass(time.Second)
	o.pusher = o.people["ben"]
	o.push("side", files{".sallyport/deploy.yaml": heldJobs, workflowFile: flow + step("a"), "x": "of ben"})
	o.pass(time.Second)
	_, err := o.s.Runs.Dispatch(o.people["eve"], o.p.ID, workflowFile, "refs/heads/side", nil)
	check(t, err)
	o.work()
	r := o.request()
	for _, who := range []string{"eve", "ben", "ada"} {
		if err := o.vote(who, "approve", r); sallyport.ErrorCode(err) != sallyport.CodeDenied {
			t.Errorf("%s approved: %v", who, err)
		}
	}
	check(t, o.vote("anna", "approve", r)) // pushed what was there before
}

func TestManyVoteAtOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run, r := o.heldJob()
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	for range 6 {
		for _, who := range []string{"anna", "eve", "ada"} {
			wg.Go(func() {
				_, err := o.s.Approvals.Vote(o.people[who], r.Request.ID, sallyport.Vote{Word: "approve", Digest: r.Digest})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won[who]++
				}
			})
		}
	}
	wg.Wait()
	o.work()
	if fmt.Sprint(won) != "map[anna:1]" {
		t.Errorf("votes that were taken: %v", won)
	}
	o.want(run, "a=waiting run=queued")
}

func TestTimersAndHours(t *testing.T) {
	t.Parallel()
	const job = head + "  a:\n    environment: production\n"
	start := func(t *testing.T, rules string) (*office, sallyport.RunID) {
		o := newOffice(t)
		deploy := "environments:\n  production: " + rules + "\n"
		o.push("main", files{".sallyport/deploy.yaml": deploy})
		o.pass(time.Second)
		push := o.push("main", files{".sallyport/deploy.yaml": deploy, workflowFile: job + step("a")})
		list, err := o.s.Runs.Runs(o.admin, sallyport.RunFilter{Push: push.ID})
		check(t, err)
		return o, list[0].ID
	}
	t.Run("a timer", func(t *testing.T) {
		t.Parallel()
		o, run := start(t, "{wait-timer: 10m}")
		o.want(run, "a=waiting run=queued")
		o.pass(10*time.Minute - time.Second)
		o.work()
		o.want(run, "a=waiting run=queued")
		o.pass(-time.Hour) // a clock that goes back only makes it longer
		o.work()
		o.want(run, "a=waiting run=queued")
		o.pass(time.Hour + time.Second)
		o.work()
		o.want(run, "a=queued run=queued")
	})
	t.Run("a timer and a person", func(t *testing.T) {
		t.Parallel()
		o, run := start(t, "{wait-timer: 10m, reviewers: [person/anna]}")
		check(t, o.vote("anna", "approve", o.request()))
		o.want(run, "a=waiting run=queued")
		o.pass(10 * time.Minute)
		o.work()
		o.want(run, "a=queued run=queued")
	})
	t.Run("hours", func(t *testing.T) {
		t.Parallel()
		o, run := start(t, "{hours: [fri 09:00-10:00 UTC]}") // it is Friday, 03:04
		o.want(run, "a=waiting run=queued")
		o.pass(6 * time.Hour)
		o.work()
		o.want(run, "a=queued run=queued")
	})
	t.Run("hours that a vote misses", func(t *testing.T) {
		t.Parallel()
		o, run := start(t, "{hours: [fri 09:00-10:00 UTC], reviewers: [person/anna]}")
		o.pass(8 * time.Hour)
		check(t, o.vote("anna", "approve", o.request()))
		o.want(run, "a=waiting run=queued")
		o.pass(6*24*time.Hour + 22*time.Hour)
		o.work()
		o.want(run, "a=queued run=queued")
	})
	t.Run("a release", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		o.deploys = deployFile + "    wait-timer: 10m\n"
		o.build("one")
		o.standing(0, sallyport.DeployWaiting)
		o.pass(10 * time.Minute)
		o.settled()
		o.standing(1, live)
	})
}

// A signature that nobody here can check is not kept as if somebody had.
func TestSignaturesAreCheckedOrRefused(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	_, r := o.heldJob()
	v := sallyport.Vote{Word: "approve", Digest: r.Digest, Assertion: []byte(`{}`)}
	if _, err := o.s.Approvals.Vote(o.people["anna"], r.Request.ID, v); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("a signature was taken: %v", err)
	}
	o.e.assertions = checkAssertion(func(person string, challenge sallyport.Digest, assertion []byte) error {
		if person == "person/anna" && challenge == r.Digest && string(assertion) == "{}" {
			return nil
		}
		return sallyport.Errorf(sallyport.CodeDenied, "the signature is not of %s", person)
	})
	if _, err := o.s.Approvals.Vote(o.people["ben"], r.Request.ID, v); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("the signature of another was taken: %v", err)
	}
	st, err := o.s.Approvals.Vote(o.people["anna"], r.Request.ID, v)
	if err != nil || string(st.Votes[0].Assertion) != "{}" {
		t.Errorf("got %+v, %v", st.Votes, err)
	}
}

type checkAssertion func(person string, challenge sallyport.Digest, assertion []byte) error

func (f checkAssertion) VerifyAssertion(_ context.Context, person string, challenge sallyport.Digest, assertion []byte) error {
	return f(person, challenge, assertion)
}

// spoilBlobs changes a byte in everything that is kept on the disk.
func (h *house) spoilBlobs() {
	h.t.Helper()
	check(h.t, filepath.WalkDir(filepath.Join(h.dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return err
		}
		b[len(b)-1] ^= 1
		_ = os.Chmod(path, 0o600)
		return os.WriteFile(path, b, 0o600)
	}))
}
