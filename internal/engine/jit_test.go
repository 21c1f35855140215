package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// ask has somebody ask for access, and fails the test when they may not.
func (o *office) ask(who string, a sallyport.AccessAsk) sallyport.RequestStatus {
	o.t.Helper()
	if a.Why == "" {
		a.Why = "the test needs it"
	}
	if a.For == 0 {
		a.For = time.Hour
	}
	r, err := o.s.Approvals.Ask(o.people[who], a)
	check(o.t, err)
	return r
}

// granted asks, has carl approve and activates.
func (o *office) granted(who string, a sallyport.AccessAsk) sallyport.GrantStatus {
	o.t.Helper()
	r := o.ask(who, a)
	check(o.t, o.vote("root", "approve", r))
	g, err := o.s.Approvals.Activate(o.people[who], r.Request.ID)
	check(o.t, err)
	return g
}

func (o *office) may(who string, a action, environment string) bool {
	o.t.Helper()
	err := o.e.allowIn(o.people[who], a, o.p.ID, environment)
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeDenied {
		o.t.Fatal(err)
	}
	return err == nil
}

const secretsOfDemo = `Project::"demo"`

func TestGrantsBeginAndEnd(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	if o.may("dora", actSecrets, "") {
		t.Fatal("dora may without a grant")
	}
	r := o.ask("dora", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo})
	if _, err := o.s.Approvals.Activate(o.people["dora"], r.Request.ID); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("it was activated without a yes: %v", err)
	}
	check(t, o.vote("anna", "approve", r))
	if o.may("dora", actSecrets, "") {
		t.Error("an approval lets before it is activated")
	}
	if _, err := o.s.Approvals.Activate(o.people["anna"], r.Request.ID); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("another activated it: %v", err)
	}
	o.pass(5 * time.Hour) // its time has not begun
	g, err := o.s.Approvals.Activate(o.people["dora"], r.Request.ID)
	check(t, err)
	if _, err := o.s.Approvals.Activate(o.people["dora"], r.Request.ID); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("it was activated twice: %v", err)
	}
	if want := o.now.Add(time.Hour); !g.Grant.EndsAt.Equal(want) {
		t.Errorf("it ends at %s, want %s", g.Grant.EndsAt, want)
	}
	for _, c := range []struct {
		who  string
		a    action
		env  string
		want bool
	}{{"dora", actSecrets, "", true}, {"dora", actSecrets, "production", true}, {"eve", actSecrets, "", false}, {"ci", actSecrets, "", false}, {"dora", actAdmin, "", false}} {
		if got := o.may(c.who, c.a, c.env); got != c.want {
			t.Errorf("%s may %s: %v", c.who, c.a, got)
		}
	}
	if err := o.e.allow(o.people["dora"], actSecrets, "other"); err == nil {
		t.Error("the grant lets elsewhere")
	}
	// No role: who can shows one exact policy, which depends on the circumstances.
	holders, err := o.s.Rights.WhoCan(o.admin, "secrets", secretsOfDemo)
	check(t, err)
	if !strings.Contains(fmt.Sprint(holders), `{Person::"person/dora" false}`) {
		t.Errorf("who can: %v", holders)
	}
	if n := len(o.records("grant.used")); n != 2 {
		t.Errorf("%d uses are recorded, want 2", n)
	}
	// The clock ends it, though nothing has run.
	o.pass(time.Hour - time.Microsecond)
	if !o.may("dora", actSecrets, "") {
		t.Error("it ended early")
	}
	o.pass(time.Microsecond)
	if o.may("dora", actSecrets, "") {
		t.Error("it outlives its time")
	}
	o.work()
	if n := len(o.records("grant.closed")); n != 1 {
		t.Errorf("%d grants are closed, want 1", n)
	}
	// What was closed does not come back with the clock.
	o.pass(-30 * time.Minute)
	o.e.laws.drop()
	if o.may("dora", actSecrets, "") {
		t.Error("a clock that went back brought a grant back")
	}
}

// A clock that jumps gives no more time than was granted, nor an earlier beginning.
func TestGrantsAndClocksThatJump(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.granted("dora", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo})
	o.pass(-time.Minute)
	if o.may("dora", actSecrets, "") {
		t.Error("it lets before it began")
	}
	o.pass(time.Minute + 2*time.Hour) // forward, and the work ran
	o.work()
	o.pass(-2 * time.Hour)
	if o.may("dora", actSecrets, "") {
		t.Error("it lets again after it was closed")
	}
	// Work that comes too early does not end one.
	g := o.granted("eve", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo})
	check(t, o.e.update(system(t.Context(), "test"), func(c *change) error { return c.revokeAt(g.Grant.ID, "early", c.now) }))
	o.work()
	if !o.may("eve", actSecrets, "") {
		t.Error("work that came too early ended it")
	}
	o.pass(time.Hour)
	o.work()
	if len(o.records("grant.closed")) != 2 {
		t.Error("and then nothing closed it")
	}
}

func TestGrantsOfHours(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	r := o.ask("dora", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo, For: 12 * time.Hour, Hours: sallyport.Windows{"fri 09:00-10:00 UTC"}})
	check(t, o.vote("anna", "approve", r))
	if _, err := o.s.Approvals.Activate(o.people["dora"], r.Request.ID); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("it was activated outside its hours: %v", err) // it is Friday, 03:04
	}
	o.pass(6 * time.Hour)
	_, err := o.s.Approvals.Activate(o.people["dora"], r.Request.ID)
	check(t, err)
	if !o.may("dora", actSecrets, "") {
		t.Error("it does not let in its hours")
	}
	o.pass(time.Hour)
	if o.may("dora", actSecrets, "") {
		t.Error("it lets outside its hours")
	}
}

// Of many who use up a grant at once, one does.
func TestSingleUseInParallel(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	g := o.granted("dora", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo, Once: true})
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 16 {
		wg.Go(func() {
			if o.e.allow(o.people["dora"], actSecrets, o.p.ID) == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d of 16 were let by one use", won)
	}
	list, err := o.s.Approvals.Grants(o.people["dora"], sallyport.Page{})
	check(t, err)
	if len(list) != 1 || list[0].Grant.ID != g.Grant.ID || list[0].State != sallyport.GrantUsed || list[0].Uses != 1 {
		t.Errorf("grants are %+v", list)
	}
	// Looking at lists uses nothing up.
	g = o.granted("otto", sallyport.AccessAsk{Action: "read", Resource: secretsOfDemo, Once: true})
	_, err = o.s.Projects.Projects(o.people["otto"])
	check(t, err)
	if !o.may("otto", actRead, "") || o.may("otto", actRead, "") {
		t.Error("a use was spent otherwise than by the one decision")
	}
}

func TestWhatCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for name, a := range map[string]sallyport.AccessAsk{
		"to approve":              {Action: "approve", Resource: secretsOfDemo},
		"to act in an emergency":  {Action: "emergency", Resource: secretsOfDemo},
		"to ask":                  {Action: "request", Resource: `Instance::"instance"`},
		"the yard":                {Action: "yard", Resource: `Instance::"instance"`},
		"no action":               {Action: "fly", Resource: secretsOfDemo},
		"a team":                  {Action: "read", Resource: `Team::"ops"`},
		"another instance":        {Action: "read", Resource: `Instance::"other"`},
		"no project":              {Action: "read", Resource: `Project::"none"`},
		"a project with a slash":  {Action: "read", Resource: `Project::"demo/x"`},
		"an environment of none":  {Action: "read", Resource: `Environment::"demo"`},
		"letters that differ":     {Action: "read", Resource: `Environment::"demo/Production"`},
		"a policy":                {Action: "read", Resource: `Project::"demo"; permit (principal`},
		"to administer a project": {Action: "admin", Resource: secretsOfDemo},
		"for a day":               {Action: "secrets", Resource: secretsOfDemo, For: 24 * time.Hour},
		"for no time":             {Action: "secrets", Resource: secretsOfDemo, For: time.Second},
		"for ever":                {Action: "secrets", Resource: secretsOfDemo, For: -time.Hour},
		"in no hours":             {Action: "secrets", Resource: secretsOfDemo, Hours: sallyport.Windows{"soon"}},
		"what one has":            {Action: "push", Resource: secretsOfDemo},
	} {
		if a.For == 0 {
			a.For = time.Hour
		}
		a.Why = "x"
		if r, err := o.s.Approvals.Ask(o.people["dora"], a); err == nil {
			t.Errorf("%s was asked for: %+v", name, r)
		}
	}
	if _, err := o.s.Approvals.Ask(o.people["dora"], sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo, For: time.Hour}); err == nil {
		t.Error("nobody needs to know why")
	}
	// The same asked for again is the same request; a grant that is active is used instead.
	first, second := o.ask("dora", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo}), o.ask("dora", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo})
	if first.Request.ID != second.Request.ID {
		t.Error("it was asked for twice")
	}
	check(t, o.vote("anna", "approve", first))
	_, err := o.s.Approvals.Activate(o.people["dora"], first.Request.ID)
	check(t, err)
	if _, err := o.s.Approvals.Ask(o.people["dora"], sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo, For: time.Hour, Why: "x"}); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("a second grant beside one that is active: %v", err)
	}
	// An agent gets nothing that its sponsor has not.
	o.granted("fix", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo})
	if o.may("fix", actSecrets, "") {
		t.Error("an agent has more than its sponsor")
	}
	// A forbid beats a grant.
	_, err = o.s.Rights.SetRules(o.admin, `forbid (principal == Person::"person/dora", action == Action::"secrets", resource);`)
	check(t, err)
	if o.may("dora", actSecrets, "") {
		t.Error("a grant beats a forbid")
	}
}

// The operator's policies are part of what was approved.
func TestPoliciesVoidAccess(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	r := o.ask("dora", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo})
	st, err := o.s.Approvals.Request(o.people["anna"], r.Request.ID)
	check(t, err)
	if a := st.Effect.Access; a == nil || !strings.Contains(fmt.Sprint(a.Gained), `Person::"person/dora" secrets Project::"demo"`) {
		t.Errorf("the effect is %+v", a)
	}
	check(t, o.vote("anna", "approve", r))
	_, err = o.s.Rights.SetRules(o.admin, `forbid (principal == Person::"person/ben", action == Action::"push", resource);`)
	check(t, err)
	if _, err := o.s.Approvals.Activate(o.people["dora"], r.Request.ID); sallyport.ErrorCode(err) != sallyport.CodeConflict || !strings.Contains(err.Error(), "void") {
		t.Errorf("what was approved under other policies was activated: %v", err)
	}
	if _, err := o.s.Approvals.Activate(o.people["dora"], r.Request.ID); err == nil {
		t.Error("or afterwards")
	}
}

func TestRevokedGrants(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	g := o.granted("dora", sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo})
	if err := o.s.Approvals.Revoke(o.people["anna"], g.Grant.ID, ""); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("another revoked it: %v", err)
	}
	check(t, o.s.Approvals.Revoke(o.people["dora"], g.Grant.ID, "done"))
	if o.may("dora", actSecrets, "") {
		t.Error("a revoked grant lets")
	}
	if err := o.s.Approvals.Revoke(o.people["root"], g.Grant.ID, ""); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("it was revoked twice: %v", err)
	}
}

// shelf keeps what was lent elsewhere, and loses its temper.
type shelf struct {
	mu    sync.Mutex
	has   map[string]bool
	fails int  // so often it says no
	lies  bool // it does it and says no
	hangs bool
	calls int
}

func (s *shelf) Revoke(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.hangs {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return ctx.Err()
	}
	if s.fails > 0 {
		s.fails--
		if s.lies {
			delete(s.has, id)
		}
		return errors.New("not now")
	}
	delete(s.has, id)
	return nil
}

// What was handed out under a grant ends with it, is asked for until it does, and
// somebody hears of it.
func TestWhatWasLentIsTakenBack(t *testing.T) {
	t.Parallel()
	s := &shelf{has: map[string]bool{"c1": true}, fails: 4}
	o := newOffice(t)
	o.e.revokers = map[string]Revoker{"credential": s}
	g := o.granted("dora", sallyport.AccessAsk{Action: "admin", Resource: `Instance::"instance"`})
	value, _, err := o.s.Access.CreateToken(o.people["dora"], "mine", sallyport.TokenAPI, sallyport.Principal{Kind: sallyport.Bot, ID: "bot/x", Name: "x", Admin: true}, 100*time.Hour)
	check(t, err)
	_, err = o.s.Access.Authenticate(t.Context(), sallyport.TokenAPI, value)
	check(t, err)
	check(t, o.e.update(o.people["dora"], func(c *change) error { return c.lend(g.Grant.ID, "credential", "c1") }))
	o.pass(time.Hour)
	for range 3 {
		o.work()
		o.pass(maxPause)
	}
	if _, err := o.s.Access.Authenticate(t.Context(), sallyport.TokenAPI, value); err == nil {
		t.Error("a token outlives the grant under which it was made")
	}
	if len(o.records("alert.not_taken_back")) != 1 {
		t.Errorf("alerts: %+v", o.records("alert."))
	}
	if h, err := o.s.Instance.Health(o.admin); err != nil || len(h.Alarms) != 1 || !strings.Contains(h.Alarms[0], "credential c1") {
		t.Errorf("the alarms are %q, %v", h.Alarms, err)
	}
	for range 3 {
		o.work()
		o.pass(maxPause)
	}
	if s.has["c1"] || len(o.records("grant.closed")) != 1 {
		t.Errorf("it is still there after %d calls", s.calls)
	}
	if h, _ := o.s.Instance.Health(o.admin); len(h.Alarms) != 0 {
		t.Errorf("the alarms are %q", h.Alarms)
	}
}

// Who keeps what was lent and never answers keeps nothing else from ending.
func TestWhoeverHangsIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := &shelf{has: map[string]bool{"c1": true}, hangs: true}
	o := newOffice(t)
	o.e.revokers, o.e.revokeTime = map[string]Revoker{"credential": s}, time.Millisecond
	g := o.granted("dora", sallyport.AccessAsk{Action: "admin", Resource: `Instance::"instance"`})
	value, _, err := o.s.Access.CreateToken(o.people["dora"], "mine", sallyport.TokenAPI, sallyport.Principal{Kind: sallyport.Bot, ID: "bot/x", Name: "x", Admin: true}, 100*time.Hour)
	check(t, err)
	check(t, o.e.update(o.people["dora"], func(c *change) error { return c.lend(g.Grant.ID, "credential", "c1") }))
	o.pass(time.Hour)
	o.work()
	if _, err := o.s.Access.Authenticate(t.Context(), sallyport.TokenAPI, value); err == nil {
		t.Error("a token waits for somebody else to answer")
	}
	list, err := o.s.Approvals.Grants(o.people["dora"], sallyport.Page{})
	check(t, err)
	if l := list[0].Lent; len(l) != 2 || !l[0].Taken || l[1].Taken || l[1].Missed != 1 {
		t.Errorf("lent: %+v", l)
	}
	s.mu.Lock()
	s.hangs = false
	s.mu.Unlock()
	o.pass(maxPause)
	o.work()
	if s.has["c1"] || len(o.records("grant.closed")) != 1 {
		t.Error("it was not asked again")
	}
}

func TestEmergency(t *testing.T) {
	t.Parallel()
	emergency := sallyport.AccessAsk{Action: "secrets", Resource: secretsOfDemo, Emergency: true, For: time.Hour}
	allowAnna := func(o *office) {
		_, err := o.s.Rights.SetRules(o.admin, `permit (principal == Person::"person/anna", action == Action::"emergency", resource == Project::"demo");`)
		check(t, err)
	}
	t.Run("who may", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		for _, who := range []string{"anna", "ci", "fix", "operator"} {
			a := emergency
			a.Why = "it burns"
			if _, err := o.s.Approvals.Ask(o.people[who], a); err == nil {
				t.Errorf("%s broke the glass", who)
			}
		}
	})
	t.Run("reviewed", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		allowAnna(o)
		r := o.ask("anna", emergency)
		if r.Grant == "" || !o.may("anna", actSecrets, "") {
			t.Fatalf("it is not there at once: %+v", r)
		}
		if n := len(o.records("alert.break_glass")); n != 1 {
			t.Errorf("%d alerts, want 1", n)
		}
		review := o.request()
		if review.Request.Kind != sallyport.RequestReview {
			t.Fatalf("the open request is %+v", review)
		}
		check(t, o.vote("ben", "approve", review))
		o.pass(reviewLife)
		o.work()
		if n := len(o.records("alert.break_glass")); n != 1 {
			t.Errorf("%d alerts, want 1", n)
		}
	})
	t.Run("rejected", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		allowAnna(o)
		o.ask("anna", emergency)
		check(t, o.vote("ben", "reject", o.request()))
		if o.may("anna", actSecrets, "") {
			t.Error("it lets on after somebody said no")
		}
		if n := len(o.records("alert.break_glass_rejected")); n != 1 {
			t.Errorf("%d alerts, want 1", n)
		}
	})
	t.Run("not looked at", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		allowAnna(o)
		o.ask("anna", emergency)
		o.pass(reviewLife)
		o.work()
		o.work()
		if n := len(o.records("alert.break_glass_unreviewed")); n != 1 {
			t.Errorf("%d alerts, want 1", n)
		}
		if h, err := o.s.Instance.Health(o.admin); err != nil || len(h.Alarms) != 1 || !h.Ready {
			t.Errorf("health is %+v, %v", h, err)
		}
		a := emergency
		a.Why = "again"
		if _, err := o.s.Approvals.Ask(o.people["anna"], a); sallyport.ErrorCode(err) != sallyport.CodeDenied {
			t.Errorf("the glass was broken again: %v", err)
		}
		check(t, o.vote("ben", "approve", o.request())) // late, and it ends
		o.ask("anna", emergency)
	})
}
