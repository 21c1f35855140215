package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/egress"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

// crash is the panic of a process that ends.
type crash struct{}

// crashes counts the points at which a process could end, and ends it at the chosen ones.
type crashes struct {
	n  int
	at []int // the points, counted from the crash before
}

func (c *crashes) point() {
	c.n++
	if len(c.at) > 0 && c.n == c.at[0] {
		c.n, c.at = 0, c.at[1:]
		panic(crash{})
	}
}

// mortal is a store whose process may end before and after each commit.
type mortal struct {
	sallyport.Store
	*crashes
}

func (m mortal) Update(ctx context.Context, f func(sallyport.Tx) error) error {
	m.point()
	err := m.Store.Update(ctx, f)
	m.point()
	return err
}

// rotating is a house with one rotator that works on a target in memory.
type rotating struct {
	*house
	safe *sallyporttest.Safe
	die  *crashes
}

func newRotating(t *testing.T) *rotating {
	r := &rotating{safe: &sallyporttest.Safe{}, die: &crashes{}}
	r.house = newHouse(t, sealing, func(c *Config) {
		c.Store = mortal{c.Store, r.die}
		c.Rotators = map[string]sallyport.Rotator{"safe": r.safe}
	})
	point := func(context.Context, string) error { r.die.point(); return nil }
	r.safe.Before, r.safe.After = point, point
	return r
}

// begin sets a secret that the target accepts, and asks for its rotation.
func (h *rotating) begin(name string, rule sallyport.RotationRule) sallyport.Rotation {
	h.t.Helper()
	initial := "initial-value-of-" + name
	h.safe.Put(sallyport.Login{Value: sallyport.NewSecret([]byte(initial))})
	h.set("", name, initial)
	rule.Rotator, rule.Config = "safe", []byte("{}")
	_, err := h.s.Secrets.SetRotation(h.admin, h.p.ID, "", name, rule, sallyport.NewSecret([]byte("administrator")))
	check(h.t, err)
	r, err := h.s.Secrets.Rotate(h.admin, h.p.ID, "", name)
	check(h.t, err)
	return r
}

// drive rotates until nothing is due, through the ends of the process, and lets waits pass.
func (h *rotating) drive(name string, each func()) (ends int) {
	h.t.Helper()
	step := func() (next time.Time, died bool) {
		defer func() {
			switch p := recover(); p.(type) {
			case nil:
			case crash:
				died = true
			default:
				panic(p)
			}
		}()
		defer h.e.rotating.lock(name)()
		next, err := h.e.rotateStep(system(h.t.Context(), "rotate"), h.p.ID, "", name)
		if err != nil {
			h.t.Fatalf("%s: %v", name, err)
		}
		return next, false
	}
	for range 10_000 {
		next, died := step()
		if died {
			ends++
		}
		each()
		switch {
		case died || next.Equal(atOnce):
		case next.IsZero():
			return ends
		default:
			h.pass(max(0, next.Sub(h.clock())))
		}
	}
	h.t.Fatalf("%s does not end", name)
	return ends
}

// value is what a job would be lent now.
func (h *rotating) value(name string) sallyport.Login {
	h.t.Helper()
	var l sallyport.Login
	check(h.t, h.e.view(h.t.Context(), func(tx sallyport.Tx) error {
		entry, sealed, err := tx.Secrets().Sealed(h.p.ID, "", name)
		if err != nil {
			return err
		}
		plain, err := h.e.sealer.Open(h.t.Context(), sealed, secretAAD(entry))
		l = sallyport.Login{Account: entry.Account, Value: sallyport.NewSecret(plain)}
		return err
	}))
	return l
}

// last returns the rotation of a secret, and how many bytes it keeps sealed.
func (h *rotating) last(name string) (r sallyport.Rotation, sealed int) {
	h.t.Helper()
	check(h.t, h.e.view(h.t.Context(), func(tx sallyport.Tx) (err error) {
		var old, staged []byte
		r, old, staged, err = tx.Rotations().Last(h.p.ID, "", name)
		sealed = len(old) + len(staged)
		return err
	}))
	return r, sealed
}

// TestRotationSurvivesEveryCrash ends the process before and after each effect and each commit of a
// rotation, alone and then again at each point of the recovery: what jobs are lent always works, and in
// the end one credential works and nothing is left of the other.
func TestRotationSurvivesEveryCrash(t *testing.T) {
	t.Parallel()
	const points = 40 // more than a rotation has
	total := 0
	for _, mode := range []struct {
		name        string
		mints, undo bool
		want        sallyport.RotationState
	}{
		{"the target is given values", false, false, sallyport.RotationDone},
		{"the target makes values", true, false, sallyport.RotationDone},
		{"it is undone", true, true, sallyport.RotationFailed},
	} {
		h := newRotating(t)
		h.safe.Mints = mode.mints
		n := 0
		run := func(at ...int) (ends int) {
			n++
			name := fmt.Sprintf("S%d", n)
			h.begin(name, sallyport.RotationRule{Overlap: time.Minute})
			before := h.value(name)
			h.safe.Before = func(_ context.Context, step string) error {
				h.die.point()
				if mode.undo && step == "apply" {
					return sallyport.Errorf(sallyport.CodeInvalid, "not with me")
				}
				return nil
			}
			h.die.n, h.die.at = 0, at
			ends = h.drive(name, func() {
				lent := h.value(name)
				if got, ok := h.safe.Live()[lent.Account]; !ok || !lent.Value.Equal([]byte(got)) {
					t.Fatalf("%s, ends at %v: what jobs are lent does not work", mode.name, at)
				}
				if len(h.safe.Live()) > 2 {
					t.Fatalf("%s, ends at %v: %d credentials work", mode.name, at, len(h.safe.Live()))
				}
			})
			h.die.at = nil
			r, sealed := h.last(name)
			after := h.value(name)
			if r.State != mode.want || sealed != 0 || len(h.safe.Live()) != 1 {
				t.Fatalf("%s, ends at %v: it is %s with %d sealed bytes, %d credentials work", mode.name, at, r.State, sealed, len(h.safe.Live()))
			}
			if kept := after.Value.Equal(before.Value.Reveal()); kept != mode.undo {
				t.Fatalf("%s, ends at %v: the value was kept: %v", mode.name, at, kept)
			}
			h.safe.Before = nil
			check(t, h.s.Secrets.DeleteSecret(h.admin, h.p.ID, "", name))
			for a := range h.safe.Live() {
				check(t, h.safe.Retire(t.Context(), sallyport.RotationTask{Old: sallyport.Login{Account: a}}))
			}
			return ends
		}
		for first := 1; first <= points; first++ {
			ends := run(first)
			if total += ends; ends == 0 {
				break // the rotation has fewer points
			}
			for second := 1; ends > 0 && second <= points; second++ {
				if ends = run(first, second); ends < 2 {
					break
				}
				total += ends
			}
		}
	}
	t.Logf("%d ends of the process", total)
	if total < 1000 {
		t.Errorf("the process ended %d times only", total)
	}
}

// TestTargetsThatLie: each lie is noticed, before the promotion it undoes the rotation, and after it the
// rotation says that it is stuck and goes on when the target mends.
func TestTargetsThatLie(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return errors.New("late, with initial-value-of-S and administrator in its text")
	}
	for name, c := range map[string]struct {
		lie  func(*sallyporttest.Safe)
		want sallyport.RotationState
		why  string
	}{
		"accepts nothing":    {func(s *sallyporttest.Safe) { s.AcceptsNone = true }, sallyport.RotationFailed, "took the new credential and refuses it"},
		"accepts everything": {func(s *sallyporttest.Safe) { s.AcceptsAll = true }, sallyport.RotationUndoing, "accepts a value that nobody gave it"},
		"keeps the old one":  {func(s *sallyporttest.Safe) { s.Keeps = true }, sallyport.RotationDrained, "disabled the old credential and accepts it"},
		"hangs":              {func(s *sallyporttest.Safe) { s.Before = hang }, sallyport.RotationUndoing, "late"},
		"half applies": {func(s *sallyporttest.Safe) {
			s.After = func(_ context.Context, step string) error {
				if step == "apply" {
					return errors.New("broke off")
				}
				return nil
			}
		}, sallyport.RotationFailed, "broke off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newRotating(t)
			h.e.rotationCall = time.Millisecond
			h.begin("S", sallyport.RotationRule{})
			before := h.value("S")
			c.lie(h.safe)
			for range 60 { // what cannot end is tried for ever
				next, err := h.e.rotateStep(system(t.Context(), "rotate"), h.p.ID, "", "S")
				check(t, err)
				if next.IsZero() {
					break
				}
				if !next.Equal(atOnce) {
					h.pass(max(0, next.Sub(h.clock())))
				}
			}
			r, _ := h.last("S")
			if r.State != c.want || !strings.Contains(r.LastError, c.why) {
				t.Errorf("it is %s: %q", r.State, r.LastError)
			}
			if strings.Contains(r.LastError, "initial-value-of-S") || strings.Contains(r.LastError, "administrator") {
				t.Errorf("a value is in %q", r.LastError)
			}
			if !r.State.Promoted() && !h.value("S").Value.Equal(before.Value.Reveal()) {
				t.Error("the value was changed")
			}
			if !r.State.Ended() {
				if got := h.actions("rotation.stuck"); got["rotation.stuck"] != 1 {
					t.Errorf("recorded %v", got)
				}
			}
			*h.safe = sallyporttest.Safe{} // it mends, and has forgotten all
			h.safe.Put(h.value("S"))
			h.drive("S", func() {})
			if r, sealed := h.last("S"); !r.State.Ended() || sealed != 0 {
				t.Errorf("after the target mended it is %s", r.State)
			}
		})
	}
}

// TestOldVersionsLiveAsLongAsTheirJobs rotates while a job holds the old version.
func TestOldVersionsLiveAsLongAsTheirJobs(t *testing.T) {
	t.Parallel()
	h := newRotating(t)
	h.begin("TOKEN", sallyport.RotationRule{})
	old := h.value("TOKEN")
	h.push("main", files{workflowFile: head + "  a:\n" + step("a"), egress.File: "network: listed\ncredentials:\n  - {name: api, secret: TOKEN, kind: basic, user: ci, host: api.example.com}\n"})
	// The push did the rotation's work too; ask again, with a job in hand.
	old = h.value("TOKEN")
	l := h.lease()
	if l == nil || len(l.Lent) != 1 || l.Lent[0].Value != string(old.Value.Reveal()) || l.Egress.Credentials[0].User != old.Account || old.Account == "" {
		t.Fatalf("lent %+v, want account %s", l.Lent, old.Account)
	}
	h.pass(time.Second)
	if _, err := h.s.Secrets.Rotate(h.admin, h.p.ID, "", "TOKEN"); err != nil {
		t.Fatal(err)
	}
	h.work()
	for range 100 {
		check(t, h.y.(yard).e.holding(h.runner, l.Ref, func(c *change, w sallyport.Work, _ sallyport.Job) error {
			return c.Work().Extend(w.ID, w.Token, c.now.Add(time.Hour))
		}))
		h.pass(time.Minute)
		h.work()
	}
	list, err := h.s.Secrets.Rotations(h.admin, h.p.ID)
	check(t, err)
	if len(list) != 1 || list[0].Last.State != sallyport.RotationPromoted || len(list[0].Holders) != 1 || list[0].Holders[0].Job != l.Job.ID {
		t.Fatalf("while the job runs: %+v %+v", list, list[0].Last)
	}
	if v, ok := h.safe.Live()[old.Account]; !ok || !old.Value.Equal([]byte(v)) {
		t.Fatal("the credential of a running job was ended")
	}
	if err := h.s.Secrets.DeleteSecret(h.admin, h.p.ID, "", "TOKEN"); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("deleted meanwhile: %v", err)
	}
	h.finish(l, sallyport.Success, nil)
	h.pass(2 * drainLook)
	h.work()
	if r, _ := h.last("TOKEN"); r.State != sallyport.RotationDone || len(h.safe.Live()) != 1 {
		t.Errorf("after the job it is %s, %d credentials work", r.State, len(h.safe.Live()))
	}
}

// TestRotationIsDue lets time pass.
func TestRotationIsDue(t *testing.T) {
	t.Parallel()
	h := newRotating(t)
	h.begin("S", sallyport.RotationRule{Every: 24 * time.Hour, From: 1, To: 3})
	h.work()
	seen := map[sallyport.SecretVersion]bool{}
	for range 24 * 5 {
		h.pass(time.Hour)
		h.work()
		r, _ := h.last("S")
		seen[r.New] = true
		if hour := r.StartedAt.Hour(); r.Reason == "due" && (hour < 1 || hour > 2) {
			t.Errorf("it began at %v", r.StartedAt)
		}
	}
	if len(seen) < 4 || len(seen) > 6 {
		t.Errorf("%d rotations in five days", len(seen))
	}
}

// TestLeak has a secret leak while a job holds it: the job is cancelled, no other is lent it, the value
// is replaced without waiting, and the incident names the job and where it used it.
func TestLeak(t *testing.T) {
	t.Parallel()
	h := newRotating(t)
	h.begin("TOKEN", sallyport.RotationRule{Overlap: 24 * time.Hour})
	h.skip = sallyport.QueueRotate
	flow := files{workflowFile: head + "  a:\n" + step("a"), egress.File: "network: listed\ncredentials:\n  - {name: api, secret: TOKEN, kind: bearer, host: api.example.com}\n"}
	h.push("main", flow)
	h.skip = ""
	h.drive("TOKEN", func() {}) // the rotation that begin asked for
	old := h.value("TOKEN")
	l := h.lease()
	if l == nil || len(l.Lent) != 1 {
		t.Fatalf("lent %+v", l)
	}
	check(t, h.y.Record(h.runner, l.Ref, 1, sallyport.DoorRecord{Uses: []sallyport.CredentialUse{{Credential: "api", Host: "api.example.com", Method: "GET", Decision: sallyport.EgressAllowed, At: h.clock()}}}))
	in, err := h.s.Secrets.Leak(h.admin, h.p.ID, "", "TOKEN", "a paste")
	check(t, err)
	if len(in.Leases) != 1 || in.Leases[0].Job != l.Job.ID || in.Leases[0].Runner != "r1" || fmt.Sprint(in.Hosts) != "[api.example.com]" {
		t.Errorf("the incident names %+v, hosts %v", in.Leases, in.Hosts)
	}
	if in.Rotation == nil || in.Rotation.Reason != "leak" || len(in.Stop.Stopped) == 0 {
		t.Errorf("the incident did %+v, %+v", in.Stop, in.Rotation)
	}
	if order, err := h.y.Heartbeat(h.runner, l.Ref); err == nil && order == sallyport.OrderContinue {
		t.Error("the job that holds it goes on")
	}
	h.work() // an overlap of a day does not hold it up
	if _, ok := h.safe.Live()[old.Account]; ok || len(h.safe.Live()) != 1 {
		t.Errorf("what leaked still works: %d credentials do", len(h.safe.Live()))
	}
	if got := h.actions("secret.leaked"); got["secret.leaked"] != 1 {
		t.Errorf("recorded %v", got)
	}
	h.pass(time.Second)
	if again, err := h.s.Secrets.Leak(h.admin, h.p.ID, "", "TOKEN", ""); err != nil || again.Stop.Stop.ID != in.Stop.Stop.ID || again.Version == in.Version {
		t.Errorf("again: %+v, %v", again.Stop, err)
	}
}

// TestLeakOfWhatWasJustPromoted: the old value is let go, and another rotation follows at whatever hour.
func TestLeakOfWhatWasJustPromoted(t *testing.T) {
	t.Parallel()
	h := newRotating(t)
	h.begin("S", sallyport.RotationRule{Overlap: 24 * time.Hour, Every: 48 * time.Hour, From: 20, To: 21}) // it is three in the morning
	h.work()
	leaked := h.value("S")
	if r, _ := h.last("S"); r.State != sallyport.RotationPromoted || len(h.safe.Live()) != 2 {
		t.Fatalf("it is %s", r.State)
	}
	h.pass(time.Second)
	_, err := h.s.Secrets.Leak(h.admin, h.p.ID, "", "S", "")
	check(t, err)
	h.work()
	r, _ := h.last("S")
	if _, ok := h.safe.Live()[leaked.Account]; ok || len(h.safe.Live()) != 1 || r.State != sallyport.RotationDone || r.Reason != "leak" {
		t.Errorf("%d credentials work, the last rotation is %s for %s", len(h.safe.Live()), r.State, r.Reason)
	}
	list, err := h.s.Secrets.Rotations(h.admin, h.p.ID)
	check(t, err)
	if rule := list[0].Rule; rule.Leaked || rule.From != 20 || !rule.Due.Equal(r.StartedAt.Add(48*time.Hour)) {
		t.Errorf("the rule is %+v", rule)
	}
}
