package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/egress"
)

func (o *office) stop(kind sallyport.StopKind, name string) sallyport.StopReport {
	o.t.Helper()
	r, err := o.s.Stops.Stop(o.people["root"], kind, name, "it looks wrong")
	check(o.t, err)
	o.work()
	return r
}

func told(list []sallyport.Stopped) string {
	var out []string
	for _, s := range list {
		out = append(out, s.What+" "+s.Text)
	}
	return strings.Join(out, "\n")
}

func wantTold(t *testing.T, what string, list []sallyport.Stopped, want ...string) {
	t.Helper()
	text := told(list)
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not tell of %q:\n%s", what, w, text)
		}
	}
}

func TestStopAPerson(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.e.revokers = map[string]Revoker{"credential": &shelf{has: map[string]bool{"c1": true}}}
	g := o.granted("carl", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo})
	check(t, o.e.update(o.people["carl"], func(c *change) error { return c.lend(g.Grant.ID, "credential", "c1") }))
	check(t, o.e.update(o.people["carl"], func(c *change) error { return c.lend(g.Grant.ID, "badge", "b1") }))
	asked := o.ask("carl", sallyport.AccessAsk{Action: "admin", Resource: `Instance::"instance"`})
	// A run that carl's agent started is with a runner; another waits for people, one of whom carl is.
	o.pusher = o.people["fix"]
	first := o.push("side", files{workflowFile: head + "  a:\n" + step("a") + "  b:\n    if: always()\n    needs: a\n" + step("b")})
	runs, err := o.s.Runs.Runs(o.admin, sallyport.RunFilter{Push: first.ID})
	check(t, err)
	lease := o.lease()
	o.pusher = o.people["eve"]
	held, r := o.heldJob()
	check(t, o.vote("carl", "approve", r))

	report := o.stop(sallyport.StopPerson, "carl")
	wantTold(t, "what was stopped", report.Stopped, "agent it may do nothing", "api of carl of person:carl", "grant person:carl may not secrets", "request access of person:carl is withdrawn", "run #", "job a", "request job of person:eve is void")
	wantTold(t, "what is left", report.Left, "badge nobody here can take it back", "credential being taken back")
	o.want(runs[0].ID, "a=cancelled b=cancelled run=cancelled")
	if order, err := o.y.Heartbeat(o.runner, lease.Ref); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("the runner goes on: %v, %v", order, err)
	}
	for _, who := range []string{"carl", "fix"} {
		for _, a := range []action{actRead, actPush, actSecrets} {
			if o.may(who, a, "") {
				t.Errorf("%s may %s", who, a)
			}
		}
	}
	// A new token changes nothing, nor does asking again or what was approved before.
	o.people["carl"] = o.holder(sallyport.Principal{Kind: sallyport.Person, ID: "person/carl", Name: "carl", Whole: true})
	if o.may("carl", actRead, "") {
		t.Error("a new token lets again")
	}
	if err := o.vote("root", "approve", asked); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("what carl asked for was approved: %v", err)
	}
	again := o.request()
	if again.Request.ID == r.Request.ID || len(again.Votes) != 0 {
		t.Errorf("carl's vote counts: %+v", again)
	}
	o.want(held, "a=waiting run=queued")
	if list, err := o.s.Stops.Stops(o.people["dora"]); err != nil || len(list) != 1 || list[0].Why != "it looks wrong" {
		t.Errorf("dora sees %v, %v", list, err)
	}
	if _, err := o.s.Stops.Stop(o.people["root"], sallyport.StopPerson, "person/carl", ""); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("stopped twice: %v", err)
	}
	// To lift is a right of its own, and brings nothing back.
	for _, who := range []string{"anna", "carl", "ci"} {
		if _, err := o.s.Stops.Lift(o.people[who], sallyport.StopPerson, "carl", ""); sallyport.ErrorCode(err) != sallyport.CodeDenied {
			t.Errorf("%s lifted it: %v", who, err)
		}
	}
	_, err = o.s.Stops.Lift(o.people["root"], sallyport.StopPerson, "carl", "it was right")
	check(t, err)
	if !o.may("carl", actRead, "") || o.may("carl", actSecrets, "") {
		t.Error("after it was lifted carl may what policies say, and has no grant")
	}
	o.stop(sallyport.StopPerson, "carl") // and again
	if n := len(o.records("stop.thrown")); n != 2 {
		t.Errorf("%d stops are recorded, want 2", n)
	}
}

func TestStopTheOnlyAdministrator(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.stop(sallyport.StopPerson, "u1") // the operator: root is left
	if _, err := o.s.Stops.Stop(o.people["root"], sallyport.StopPerson, "root", ""); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("nobody is left to lift it: %v", err)
	}
	if !o.may("root", actAdmin, "") && o.e.allow(o.people["root"], actAdmin, "") != nil {
		t.Error("root is stopped after all")
	}
}

func TestStopWhatIsNotThere(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for kind, name := range map[sallyport.StopKind]string{"person": "nobody", "bot": "person/anna", "agent": "x", "runner": "r9", "project": "none", "key": "master", "secret": "demo/NONE", "planet": "mars", "": "x"} {
		if _, err := o.s.Stops.Stop(o.people["root"], kind, name, ""); err == nil {
			t.Errorf("%s %s was stopped", kind, name)
		}
		if _, err := o.s.Stops.Lift(o.people["root"], kind, name, ""); err == nil {
			t.Errorf("%s %s was lifted", kind, name)
		}
	}
	for _, who := range []string{"anna", "fix", "ci", "dora"} {
		if _, err := o.s.Stops.Stop(o.people[who], sallyport.StopProject, "demo", ""); sallyport.ErrorCode(err) != sallyport.CodeDenied {
			t.Errorf("%s threw the kill switch: %v", who, err)
		}
	}
}

func TestStopARunner(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := o.run(head + "  a:\n" + step("a") + "  b:\n" + step("b"))
	l := o.lease()
	report := o.stop(sallyport.StopRunner, "r1")
	wantTold(t, "what was stopped", report.Stopped, "job "+l.Job.Name)
	wantTold(t, "what is left", report.Left, "runner its process")
	if err := o.y.Finish(o.runner, l.Ref, sallyport.JobResult{Conclusion: sallyport.Success}); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("its job ended well: %v", err)
	}
	if o.lease() != nil {
		t.Error("it got another job")
	}
	_, err := o.s.Stops.Lift(o.people["root"], sallyport.StopRunner, "r1", "")
	check(t, err)
	o.finish(o.lease(), sallyport.Success, nil)
	if got := o.states(id); !strings.Contains(got, "success") || !strings.Contains(got, "cancelled") {
		t.Errorf("the jobs are %s", got)
	}
}

func TestStopAProject(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.deploys = deployFile
	o.build("one")
	o.settled()
	o.standing(1, live)
	o.deploys = heldDeploy
	o.build("two")
	o.granted("dora", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo})
	waiting := o.request()
	running := o.run(head + "  a:\n" + step("a"))
	l := o.lease()
	report := o.stop(sallyport.StopProject, "demo")
	wantTold(t, "what was stopped", report.Stopped, "run #", "request release of person:eve is withdrawn", "grant person:dora")
	wantTold(t, "what is left", report.Left, "what is live in production goes on running")
	o.want(running, "a=cancelled run=cancelled")
	o.standing(1, live, refused)
	if err := o.vote("anna", "approve", waiting); err == nil {
		t.Error("a release of a project that is stopped was approved")
	}
	if _, err := o.y.Heartbeat(o.runner, l.Ref); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("the runner goes on: %v", err)
	}
	for _, a := range []action{actPush, actOperate, actDeploy} {
		if o.may("eve", a, "") || o.e.allowIn(o.people["root"], a, o.p.ID, "production") == nil {
			t.Errorf("%s is let", a)
		}
	}
	if !o.may("eve", actRead, "") {
		t.Error("nobody can look at it")
	}
	// What comes from within starts nothing either: schedules, and what was pushed before.
	check(t, o.e.update(system(t.Context(), "test"), func(c *change) error {
		got, err := o.e.start(c, sallyport.Push{Project: o.p.ID, Event: "schedule"}, []Planned{{Plan: &sallyport.Plan{}}})
		if len(got) > 0 {
			err = fmt.Errorf("%d runs were started", len(got))
		}
		return err
	}))
	if n := len(o.records("run.stopped")); n != 1 {
		t.Errorf("%d records of what was not started, want 1", n)
	}
	_, err := o.s.Stops.Lift(o.people["root"], sallyport.StopProject, "demo", "")
	check(t, err)
	o.pass(time.Second)
	if got := o.run(head + "  a:\n" + step("a")); o.lease() == nil {
		t.Errorf("after it was lifted nothing runs: %s", o.states(got))
	}
}

func TestStopSecretsAndKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealing, withTokens(t))
	root := h.account(sallyport.Account{Kind: sallyport.Person, Name: "root", Admin: true})
	throw := func(kind sallyport.StopKind, name string) sallyport.StopReport {
		t.Helper()
		r, err := h.s.Stops.Stop(root, kind, name, "")
		check(t, err)
		h.work()
		return r
	}
	lift := func(kind sallyport.StopKind, name string) {
		t.Helper()
		_, err := h.s.Stops.Lift(root, kind, name, "")
		check(t, err)
	}
	h.set("", "TOKEN", secretCanary)
	flow := "on: push\npermissions: {id-token: write}\njobs:\n  a:\n" + step("a") + "  b:\n" + step("b")
	start := func() (a, b *sallyport.Lease) {
		t.Helper()
		h.pass(time.Second)
		h.push("main", files{workflowFile: flow, egress.File: lendingRules, "salt": h.clock().String()})
		for range 3 { // asking once may end a job and give none
			switch l := h.lease(); {
			case l == nil:
			case l.Job.Key == "a":
				a = l
			default:
				b = l
			}
		}
		return a, b
	}
	gone := func(l *sallyport.Lease) bool {
		_, err := h.y.Heartbeat(h.runner, l.Ref)
		return sallyport.ErrorCode(err) == sallyport.CodeConflict
	}
	a, b := start()
	_, err := h.y.IDToken(h.runner, a.Ref, "")
	check(t, err)
	report := throw(sallyport.StopSecret, "demo/TOKEN")
	wantTold(t, "what was stopped", report.Stopped, "secret it is lent to no job", "job a")
	wantTold(t, "what is left", report.Left, "job a on runner r1 was lent it", "id-token for https://ci.example/", "change the value where it came from")
	if !gone(a) || gone(b) {
		t.Error("the job that held it goes on, or another does not")
	}
	if strings.Contains(told(report.Left)+told(report.Stopped), secretCanary) {
		t.Error("the report tells the value")
	}
	h.finish(b, sallyport.Success, nil)
	a, b = start()
	if a != nil || b == nil {
		t.Error("a job was let go on without the secret that it is lent, or another was not")
	}
	h.finish(b, sallyport.Success, nil)
	lift(sallyport.StopSecret, "demo/TOKEN")

	a, b = start()
	if a == nil {
		t.Fatal("after it was lifted nothing is lent")
	}
	throw(sallyport.StopKey, sallyport.KeySecrets)
	if !gone(a) || gone(b) {
		t.Error("what was lent by the key goes on")
	}
	if _, err := h.s.Secrets.SetSecret(h.admin, h.p.ID, "", "OTHER", sallyport.NewSecret([]byte("a-value-of-it"))); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("a secret was sealed by a key that is stopped: %v", err)
	}
	lift(sallyport.StopKey, sallyport.KeySecrets)

	report = throw(sallyport.StopKey, sallyport.KeyIDToken)
	wantTold(t, "what is left", report.Left, "others trust the key until they fetch the key set")
	if _, err := h.y.IDToken(h.runner, b.Ref, ""); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("an ID token was issued: %v", err)
	}
	lift(sallyport.StopKey, sallyport.KeyIDToken)
	_, err = h.y.IDToken(h.runner, b.Ref, "")
	check(t, err)
}

func TestStopTheSigningKey(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.deploys = deployFile
	o.stop(sallyport.StopKey, sallyport.KeySigning)
	o.build("one")
	o.settled()
	if n := len(o.deployments()); n != 0 {
		t.Errorf("%d deployments without a signature", n)
	}
}

// A stop that dies at any write stops nothing, and one that does not stops all.
func TestStopsAreWhole(t *testing.T) {
	t.Parallel()
	b := &brittle{}
	h := newHouse(t, func(c *Config) { b.Store = c.Store; c.Store = b })
	root := h.account(sallyport.Account{Kind: sallyport.Person, Name: "root", Admin: true})
	eve := h.account(sallyport.Account{Kind: sallyport.Person, Name: "eve", Projects: []sallyport.ProjectID{h.p.ID}})
	h.pusher = eve
	id := h.run(head + "  a:\n" + step("a") + "  b:\n" + step("b"))
	l := h.lease()
	look := func() string {
		t.Helper()
		var n int
		check(t, h.store.View(t.Context(), func(tx sallyport.Tx) error {
			all, err := tx.Stops().Standing()
			if err != nil {
				return err
			}
			tokens, err := tx.Tokens().List()
			n = len(all)*100 + len(tokens)
			return err
		}))
		ok := h.e.allow(eve, actRead, h.p.ID) == nil
		order, err := h.y.Heartbeat(h.runner, l.Ref)
		return fmt.Sprint(n, ok, order, err != nil, h.states(id))
	}
	before := look()
	died := 0
	for point := int64(1); ; point++ {
		b.left.Store(point)
		_, err := h.s.Stops.Stop(root, sallyport.StopPerson, "eve", "")
		crashed := b.dead.Swap(false)
		b.left.Store(0)
		h.e.laws.drop()
		if !crashed {
			check(t, err)
			break
		}
		died++
		if now := look(); now != before {
			if point < 5 || !strings.Contains(now, "run=cancelled") { // after the commit: all of it
				t.Fatalf("after it died at write %d:\n%s\nbefore\n%s", point, now, before)
			}
			before = ""
			break
		}
	}
	if died < 8 {
		t.Errorf("it died %d times only", died)
	}
	if now := look(); !strings.Contains(now, "false") || !strings.Contains(now, "a=cancelled b=cancelled run=cancelled") {
		t.Errorf("in the end: %s", now)
	}
}
