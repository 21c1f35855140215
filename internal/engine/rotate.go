package engine

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/redact"
)

// Bounds of rotation.
const (
	rotationCall     = 30 * time.Second // of one call of a rotator
	rotationTries    = 6                // of a step before the new credential is lent; then it is undone
	rotationPauseMax = 10 * time.Minute
	drainLook        = time.Minute // how often it is looked whether jobs still hold the old one
)

// secretKey names a secret in queues.
func secretKey(p sallyport.ProjectID, environment, name string) string {
	return string(p) + " " + name + " " + environment
}

func parseSecretKey(s string) (p sallyport.ProjectID, environment, name string, err error) {
	f := strings.SplitN(s, " ", 3)
	if len(f) != 3 {
		return "", "", "", sallyport.Errorf(sallyport.CodeInvalid, "%.100q names no secret", s)
	}
	return sallyport.ProjectID(f[0]), f[2], f[1], nil
}

// enqueueRotate has a secret's rotation looked at. Each time has a key of its own, for the
// work in hand has one too.
func (c *change) enqueueRotate(p sallyport.ProjectID, environment, name string, at time.Time) error {
	c.Touch(topicWork(sallyport.QueueRotate))
	subject := secretKey(p, environment, name)
	return c.Work().Enqueue(sallyport.Work{
		ID: newID[sallyport.WorkID](c), Queue: sallyport.QueueRotate, Key: fmt.Sprintf("%s/%d", subject, at.UnixMicro()), Subject: subject,
		RunAt: at, MaxAttempts: stageAttempts, CreatedAt: c.now,
	})
}

// turn is one rotation in hand: what the store says, opened.
type turn struct {
	rule   sallyport.RotationRule
	r      sallyport.Rotation
	staged []byte // sealed
	rot    sallyport.Rotator
	task   sallyport.RotationTask
}

// rotate is the stage that takes a secret's rotation as far as it goes now. One secret has one
// worker, whatever the number of pieces of work.
func (e *Engine) rotate(ctx context.Context, w sallyport.Work) error {
	p, environment, name, err := parseSecretKey(w.Subject)
	if err != nil {
		return err
	}
	defer e.rotating.lock(w.Subject)()
	for {
		next, err := e.rotateStep(ctx, p, environment, name)
		if err != nil {
			return err
		}
		if next.Equal(atOnce) {
			continue
		}
		return e.finish(ctx, w, func(c *change) error {
			if next.IsZero() {
				return nil
			}
			return c.enqueueRotate(p, environment, name, latest(next, c.now.Add(time.Millisecond)))
		})
	}
}

// atOnce is the time of a step that follows without a pause.
var atOnce = time.Unix(1, 0)

// rotateStep does one step. It returns when the next is due; zero for never.
func (e *Engine) rotateStep(ctx context.Context, p sallyport.ProjectID, environment, name string) (time.Time, error) {
	t, next, err := e.loadTurn(ctx, p, environment, name)
	if t == nil || err != nil {
		return next, err
	}
	if e.now().Before(t.r.NextAt) {
		return t.r.NextAt, nil
	}
	err = e.advance(ctx, t)
	if err == nil {
		if t.r.State.Ended() { // the next one is due when the rule says
			return atOnce, nil
		}
		if t.r.NextAt.After(e.now()) {
			return t.r.NextAt, nil
		}
		return atOnce, nil
	}
	var failed *stepError
	if !errors.As(err, &failed) {
		return time.Time{}, err // the store's: the stage tries again
	}
	return e.stepFailed(ctx, t, failed)
}

// loadTurn reads the rotation that is on its way, or begins the one that is due.
func (e *Engine) loadTurn(ctx context.Context, p sallyport.ProjectID, environment, name string) (*turn, time.Time, error) {
	t := &turn{}
	var admin, old []byte
	missing := false
	load := func(tx sallyport.Tx) (err error) {
		t.rule, admin, err = tx.Rotations().Rule(p, environment, name)
		if missing = sallyport.ErrorCode(err) == sallyport.CodeNotFound; missing {
			return nil
		}
		if err != nil {
			return err
		}
		t.r, old, t.staged, err = tx.Rotations().Last(p, environment, name)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			t.r.State = sallyport.RotationDone
			err = nil
		}
		return err
	}
	if err := e.view(ctx, load); err != nil || missing {
		return nil, time.Time{}, err
	}
	if t.r.State.Ended() {
		now := e.now()
		at := opens(t.rule, now)
		if at.IsZero() || at.After(now) {
			return nil, at, nil
		}
		err := e.update(ctx, func(c *change) error {
			_, err := c.beginRotation(t.rule, admin, "due")
			return err
		})
		return nil, atOnce, err
	}
	t.rot = e.rotators[t.rule.Rotator]
	if t.rot == nil {
		return nil, time.Time{}, sallyport.Errorf(sallyport.CodeInvalid, "there is no rotator %q", t.rule.Rotator)
	}
	t.task = sallyport.RotationTask{ID: t.r.ID, Config: t.rule.Config, Old: sallyport.Login{Account: t.r.OldAccount}, New: sallyport.Login{Account: t.r.NewAccount}}
	for _, v := range []struct {
		to     *sallyport.Secret
		sealed []byte
		aad    []byte
	}{
		{&t.task.Admin, admin, adminAAD(t.rule)},
		{&t.task.Old.Value, old, secretAAD(entryOf(t.r, t.r.Old))},
		{&t.task.New.Value, t.staged, secretAAD(entryOf(t.r, t.r.New))},
	} {
		if len(v.sealed) == 0 {
			continue
		}
		plain, err := e.sealer.Open(ctx, v.sealed, v.aad)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("open what rotation %s needs: %w", t.r.ID, err)
		}
		*v.to = sallyport.NewSecret(plain)
	}
	return t, time.Time{}, nil
}

// opens returns when the next rotation by a rule begins: when it is due, at an hour that the rule admits.
func opens(r sallyport.RotationRule, now time.Time) time.Time {
	if r.Leaked || r.Due.IsZero() || r.From == r.To {
		return r.Due
	}
	at := latest(r.Due, now).UTC()
	for range 24 {
		h := at.Hour()
		if r.From < r.To && h >= r.From && h < r.To || r.From > r.To && (h >= r.From || h < r.To) {
			return at
		}
		at = at.Truncate(time.Hour).Add(time.Hour)
	}
	return at
}

// beginRotation keeps a rotation that makes a new version of the secret; nothing has happened outside yet.
func (c *change) beginRotation(rule sallyport.RotationRule, admin []byte, why string) (sallyport.Rotation, error) {
	entry, old, err := c.Secrets().Sealed(rule.Project, rule.Environment, rule.Name)
	if err != nil {
		return sallyport.Rotation{}, err
	}
	r := sallyport.Rotation{
		ID: newID[sallyport.RotationID](c), Project: rule.Project, Environment: rule.Environment, Name: rule.Name, State: sallyport.RotationBegun,
		Reason: why, By: c.actor, Old: entry.Version, OldAccount: entry.Account, New: newID[sallyport.SecretVersion](c), StartedAt: c.now,
	}
	if rule.Leaked {
		r.Reason, r.Urgent, rule.Leaked = "leak", true, false
	}
	if err := c.Rotations().Insert(r, old); err != nil {
		return r, err
	}
	if rule.Due = (time.Time{}); rule.Every > 0 {
		rule.Due = c.now.Add(rule.Every)
	}
	if err := c.Rotations().PutRule(rule, admin); err != nil {
		return r, err
	}
	return r, c.record("rotation.begun", "project/"+string(r.Project), rotationDetail(r))
}

func entryOf(r sallyport.Rotation, v sallyport.SecretVersion) sallyport.SecretEntry {
	return sallyport.SecretEntry{Project: r.Project, Environment: r.Environment, Name: r.Name, Version: v}
}

// rotationDetail is what the trail says of a rotation.
func rotationDetail(r sallyport.Rotation) map[string]any {
	d := map[string]any{"rotation": r.ID, "name": r.Name, "old": r.Old, "new": r.New, "reason": r.Reason}
	if r.Environment != "" {
		d["environment"] = r.Environment
	}
	return d
}

// stepError is the failure of a step at the target; any other is the store's.
type stepError struct{ err error }

func (s *stepError) Error() string { return s.err.Error() }
func (s *stepError) Unwrap() error { return s.err }

// advance takes one step: an effect at the target, and what it led to. Every state was saved before
// the effect that follows it, so that a crash repeats an effect and never forgets one.
func (e *Engine) advance(ctx context.Context, t *turn) error {
	call := func(f func(context.Context, sallyport.RotationTask) error) error {
		ctx, cancel := context.WithTimeout(ctx, e.rotationCall)
		defer cancel()
		if err := f(ctx, t.task); err != nil {
			return &stepError{err}
		}
		return nil
	}
	switch t.r.State {
	case sallyport.RotationBegun:
		return e.stage(ctx, t)
	case sallyport.RotationStaged:
		if err := call(t.rot.Apply); err != nil {
			return err
		}
		return e.rotationTo(ctx, t, sallyport.RotationApplied, nil)
	case sallyport.RotationApplied:
		// A target that takes anything proves nothing by taking the new value.
		if err := e.expect(ctx, t, sallyport.Login{Account: t.r.NewAccount, Value: randomSecret()}, false, "the target accepts a value that nobody gave it"); err != nil {
			return err
		}
		if err := e.expect(ctx, t, t.task.New, true, "the target took the new credential and refuses it"); err != nil {
			return err
		}
		return e.rotationTo(ctx, t, sallyport.RotationVerified, nil)
	case sallyport.RotationVerified:
		return e.promoteVersion(ctx, t)
	case sallyport.RotationPromoted:
		until, err := e.drained(ctx, t)
		if err != nil {
			return err
		}
		if t.r.NextAt = until; until.After(e.now()) {
			return nil
		}
		return e.rotationTo(ctx, t, sallyport.RotationDrained, nil)
	case sallyport.RotationDrained:
		// The old one is the way back until here.
		if err := e.expect(ctx, t, t.task.New, true, "the target refuses the credential that jobs are lent; the old one is left alone"); err != nil {
			return err
		}
		if err := call(t.rot.Retire); err != nil {
			return err
		}
		if err := e.expect(ctx, t, t.task.Old, false, "the target says that it disabled the old credential and accepts it"); err != nil {
			return err
		}
		return e.rotationTo(ctx, t, sallyport.RotationRetired, nil)
	case sallyport.RotationRetired:
		if err := call(t.rot.Destroy); err != nil {
			return err
		}
		return e.rotationTo(ctx, t, sallyport.RotationDone, nil)
	case sallyport.RotationUndoing:
		if err := call(t.rot.Discard); err != nil {
			return err
		}
		if !t.task.New.Value.Empty() {
			if err := e.expect(ctx, t, t.task.New, false, "the target says that it deleted the new credential and accepts it"); err != nil {
				return err
			}
		}
		return e.rotationTo(ctx, t, sallyport.RotationFailed, nil)
	default:
		return sallyport.Errorf(sallyport.CodeInternal, "a rotation cannot be %q", t.r.State)
	}
}

// expect fails unless the target accepts, or refuses, a credential.
func (e *Engine) expect(ctx context.Context, t *turn, l sallyport.Login, want bool, otherwise string) error {
	ctx, cancel := context.WithTimeout(ctx, e.rotationCall)
	defer cancel()
	got, err := t.rot.Accepts(ctx, t.task, l)
	if err != nil {
		return &stepError{err}
	}
	if got != want {
		return &stepError{sallyport.Errorf(sallyport.CodeUnavailable, "%s", otherwise)}
	}
	return nil
}

func randomSecret() sallyport.Secret {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	return sallyport.NewSecret([]byte(base64.RawURLEncoding.EncodeToString(b)))
}

// stage has the new credential made, and keeps its value before anything uses it.
func (e *Engine) stage(ctx context.Context, t *turn) error {
	bounded, cancel := context.WithTimeout(ctx, e.rotationCall)
	defer cancel()
	login, err := t.rot.Stage(bounded, t.task)
	if err != nil {
		return &stepError{err}
	}
	if len(login.Account) > 255 || !plainASCII(login.Account) {
		return &stepError{sallyport.Errorf(sallyport.CodeInvalid, "the target named an account that cannot be one")}
	}
	if err := checkSecret(t.r.Environment, t.r.Name, login.Value); err != nil {
		return &stepError{err}
	}
	if login.Value.Equal(t.task.Old.Value.Reveal()) {
		return &stepError{sallyport.Errorf(sallyport.CodeInvalid, "the target gave out the old value as a new one")}
	}
	sealed, err := e.sealer.Seal(ctx, login.Value.Reveal(), secretAAD(entryOf(t.r, t.r.New)))
	if err != nil {
		return fmt.Errorf("seal the new value: %w", err)
	}
	t.r.NewAccount, t.staged = login.Account, sealed
	return e.rotationTo(ctx, t, sallyport.RotationStaged, nil)
}

// promoteVersion has jobs lent the new version from this transaction on.
func (e *Engine) promoteVersion(ctx context.Context, t *turn) error {
	return e.rotationTo(ctx, t, sallyport.RotationPromoted, func(c *change, r *sallyport.Rotation) error {
		entry, _, err := c.Secrets().Sealed(r.Project, r.Environment, r.Name)
		if err != nil {
			return err
		}
		if entry.Version != r.Old {
			return sallyport.Errorf(sallyport.CodeConflict, "the secret was set meanwhile")
		}
		entry.Version, entry.Account, entry.SetAt, entry.SetBy = r.New, r.NewAccount, c.now, "rotation:"+string(r.ID)
		r.PromotedAt = c.now
		return c.Secrets().Put(entry, t.staged)
	})
}

// drained returns from when nobody needs the old version, or when to look again.
func (e *Engine) drained(ctx context.Context, t *turn) (time.Time, error) {
	if t.r.Urgent {
		return t.r.PromotedAt, nil
	}
	until := t.r.PromotedAt.Add(t.rule.Overlap)
	if until.After(e.now()) {
		return until, nil
	}
	var holders []sallyport.SecretLease
	err := e.view(ctx, func(tx sallyport.Tx) (err error) {
		holders, err = tx.Secrets().Lent(t.r.Old, false)
		return err
	})
	if len(holders) > 0 {
		until = e.now().Add(drainLook)
	}
	return until, err
}

// rotationTo saves the next state with what belongs to it.
func (e *Engine) rotationTo(ctx context.Context, t *turn, state sallyport.RotationState, also func(*change, *sallyport.Rotation) error) error {
	var saved sallyport.Rotation
	err := e.update(ctx, func(c *change) error {
		r := t.r
		r.State, r.Tries, r.LastError, r.NextAt = state, 0, "", time.Time{}
		if state == sallyport.RotationUndoing || state == sallyport.RotationFailed {
			r.LastError = t.r.LastError // why
		}
		if state.Ended() {
			r.EndedAt = c.now
		}
		if also != nil {
			if err := also(c, &r); err != nil {
				return err
			}
		}
		if err := c.Rotations().Save(&r, t.staged); err != nil {
			return err
		}
		saved = r
		return c.record("rotation."+string(state), "project/"+string(r.Project), rotationDetail(r))
	})
	if err == nil {
		t.r = saved
	}
	return err
}

// stepFailed counts a failure. Before the new credential is lent, too many or one that repeating
// cannot mend undo the rotation; after that there is no way back, and it is tried for ever.
func (e *Engine) stepFailed(ctx context.Context, t *turn, cause *stepError) (time.Time, error) {
	mask := redact.New(redact.Config{})
	for _, v := range []sallyport.Secret{t.task.Admin, t.task.Old.Value, t.task.New.Value} {
		if !v.Empty() {
			_ = mask.Add(string(v.Reveal())) // what is too short to hide was refused when it was set
		}
	}
	t.r.Tries++
	why := clip(mask.Text(cause.Error()), 500)
	if t.r.State != sallyport.RotationUndoing {
		t.r.LastError = why
	}
	e.log.WarnContext(ctx, "rotation step failed", "rotation", t.r.ID, "state", t.r.State, "try", t.r.Tries, "error", why)
	back := !t.r.State.Promoted() && t.r.State != sallyport.RotationUndoing
	if back && (t.r.Tries >= rotationTries || permanent(cause)) {
		if err := e.rotationTo(ctx, t, sallyport.RotationUndoing, nil); err != nil {
			return time.Time{}, err
		}
		return atOnce, nil
	}
	err := e.update(ctx, func(c *change) error {
		r := t.r
		r.NextAt = c.now.Add(min(time.Second<<min(r.Tries-1, 12), rotationPauseMax))
		if err := c.Rotations().Save(&r, t.staged); err != nil {
			return err
		}
		t.r.NextAt = r.NextAt
		if r.Tries != 1 && r.Tries != rotationTries {
			return nil
		}
		action := "rotation.failing"
		if r.Tries == rotationTries { // a person must look at the target
			action = "rotation.stuck"
		}
		detail := rotationDetail(r)
		detail["state"] = r.State
		return c.record(action, "project/"+string(r.Project), detail)
	})
	return t.r.NextAt, err
}

// rotateFailed gives up on a look, not on a rotation.
func (e *Engine) rotateFailed(ctx context.Context, w sallyport.Work, _ error) error {
	p, environment, name, err := parseSecretKey(w.Subject)
	return e.finish(ctx, w, func(c *change) error {
		if err != nil {
			return nil
		}
		return c.enqueueRotate(p, environment, name, c.now.Add(time.Hour))
	})
}

// adminAAD binds a rule's credential to its secret; no secret's version is like it.
func adminAAD(r sallyport.RotationRule) []byte {
	return append([]byte("rotation admin\x00"), secretAAD(sallyport.SecretEntry{Project: r.Project, Environment: r.Environment, Name: r.Name})...)
}

// keyed is a lock for each key.
type keyed struct {
	mu sync.Mutex
	by map[string]*keyLock
}

type keyLock struct {
	sync.Mutex
	users int
}

// lock waits for a key and returns what frees it.
func (k *keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.by == nil {
		k.by = map[string]*keyLock{}
	}
	l := k.by[key]
	if l == nil {
		l = &keyLock{}
		k.by[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.by, key)
		}
	}
}
