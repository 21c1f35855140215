package sallyporttest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// RotationTarget is what a Rotator works on, as a conformance suite sees it.
type RotationTarget struct {
	Rotator sallyport.Rotator
	Config  json.RawMessage
	Admin   sallyport.Secret
	Old     sallyport.Login // that works now
	// Live returns how many credentials work at the target, without the administrator's; nil: it cannot be told.
	Live func() int
}

// Rotator checks the contract of sallyport.Rotator: a rotation and one that is undone, in which
// each call is made twice, as after a crash.
func Rotator(t *testing.T, open func(t *testing.T) RotationTarget) {
	for name, undo := range map[string]bool{"rotate": false, "undo": true} {
		t.Run(name, func(t *testing.T) {
			target := open(t)
			r := target.Rotator
			task := sallyport.RotationTask{ID: "0190c0de-0000-7000-8000-000000000001", Config: target.Config, Admin: target.Admin, Old: target.Old}
			twice := func(what string, f func(context.Context, sallyport.RotationTask) error) {
				t.Helper()
				for range 2 {
					if err := f(t.Context(), task); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
				}
			}
			accepts := func(what string, l sallyport.Login, want bool) {
				t.Helper()
				if got, err := r.Accepts(t.Context(), task, l); err != nil || got != want {
					t.Fatalf("%s: accepted %v, %v; want %v", what, got, err, want)
				}
			}
			live := func(what string, want int) {
				t.Helper()
				if target.Live == nil {
					return
				}
				if got := target.Live(); got != want {
					t.Fatalf("%s: %d credentials work, want %d", what, got, want)
				}
			}
			if err := r.Check(target.Config); err != nil {
				t.Fatal(err)
			}
			if err := r.Check([]byte(`{"surprise":1}`)); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
				t.Errorf("a configuration of unknown keys: %v", err)
			}
			accepts("the old one", target.Old, true)
			accepts("nonsense", sallyport.Login{Account: target.Old.Account, Value: sallyport.NewSecret([]byte("nobody-gave-this-out"))}, false)
			twice("discard of nothing", r.Discard)
			for range 2 { // the first answer is lost
				login, err := r.Stage(t.Context(), task)
				if err != nil {
					t.Fatal(err)
				}
				task.New = login
			}
			if task.New.Value.Equal(target.Old.Value.Reveal()) || len(task.New.Value.Reveal()) < sallyport.MinSecret {
				t.Fatal("the new value is the old one, or too short")
			}
			twice("apply", r.Apply)
			accepts("the new one", task.New, true)
			accepts("the old one beside it", target.Old, true)
			live("both", 2)
			if undo {
				twice("discard", r.Discard)
				accepts("the discarded one", task.New, false)
				accepts("the old one after all", target.Old, true)
			} else {
				twice("retire", r.Retire)
				accepts("the retired one", target.Old, false)
				accepts("the new one alone", task.New, true)
				twice("destroy", r.Destroy)
				accepts("the new one at the end", task.New, true)
			}
			live("the end", 1)

			ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
			defer cancel()
			if _, err := r.Accepts(ctx, task, task.New); err == nil {
				t.Error("a call without time told something")
			}
		})
	}
}

// Safe is a target in memory that changes credentials itself, and its own Rotator.
type Safe struct {
	// Mints says that the target makes values; else it is given them.
	Mints bool
	// Before and After are called around each call that changes something, with its name; After only
	// when it did. Their errors are the call's.
	Before, After func(ctx context.Context, step string) error
	// AcceptsAll and AcceptsNone have it lie about credentials; Keeps have Retire and Discard do nothing.
	AcceptsAll, AcceptsNone, Keeps bool

	mu    sync.Mutex
	live  map[string]string // by account
	by    map[string]string // account → rotation that made it
	count int
}

var _ sallyport.Rotator = (*Safe)(nil)

// Put has it accept a credential.
func (s *Safe) Put(l sallyport.Login) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		s.live, s.by = map[string]string{}, map[string]string{}
	}
	s.live[l.Account] = string(l.Value.Reveal())
}

// Live returns what it accepts.
func (s *Safe) Live() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.live)
}

func (s *Safe) do(ctx context.Context, step string, f func() error) error {
	if s.Before != nil {
		if err := s.Before(ctx, step); err != nil {
			return err
		}
	}
	s.mu.Lock()
	err := f()
	s.mu.Unlock()
	if err == nil && s.After != nil {
		err = s.After(ctx, step)
	}
	return err
}

// Check takes a configuration that is empty.
func (s *Safe) Check(raw json.RawMessage) error {
	if string(raw) != "{}" {
		return sallyport.Errorf(sallyport.CodeInvalid, "there is nothing to configure")
	}
	return nil
}

func (s *Safe) fresh() sallyport.Login {
	s.count++
	return sallyport.Login{Account: fmt.Sprintf("account-%d", s.count), Value: sallyport.NewSecret(fmt.Appendf(nil, "value-number-%06d", s.count))}
}

func (s *Safe) Stage(ctx context.Context, t sallyport.RotationTask) (l sallyport.Login, err error) {
	err = s.do(ctx, "stage", func() error {
		if l = s.fresh(); !s.Mints {
			return nil
		}
		s.drop(string(t.ID))
		s.live[l.Account], s.by[l.Account] = string(l.Value.Reveal()), string(t.ID)
		return nil
	})
	return l, err
}

func (s *Safe) drop(rotation string) {
	for a, r := range s.by {
		if r == rotation {
			delete(s.live, a)
			delete(s.by, a)
		}
	}
}

func (s *Safe) Apply(ctx context.Context, t sallyport.RotationTask) error {
	return s.do(ctx, "apply", func() error {
		if !s.Mints {
			s.live[t.New.Account], s.by[t.New.Account] = string(t.New.Value.Reveal()), string(t.ID)
		}
		return nil
	})
}

func (s *Safe) Accepts(ctx context.Context, _ sallyport.RotationTask, l sallyport.Login) (bool, error) {
	if ctx.Err() != nil {
		return false, sallyport.Errorf(sallyport.CodeUnavailable, "no time")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.live[l.Account]
	return (s.AcceptsAll || ok && l.Value.Equal([]byte(v))) && !s.AcceptsNone, nil
}

func (s *Safe) Retire(ctx context.Context, t sallyport.RotationTask) error {
	return s.do(ctx, "retire", func() error {
		if !s.Keeps {
			delete(s.live, t.Old.Account)
			delete(s.by, t.Old.Account)
		}
		return nil
	})
}

func (s *Safe) Destroy(ctx context.Context, _ sallyport.RotationTask) error {
	return s.do(ctx, "destroy", func() error { return nil })
}

func (s *Safe) Discard(ctx context.Context, t sallyport.RotationTask) error {
	return s.do(ctx, "discard", func() error {
		if !s.Keeps {
			s.drop(string(t.ID))
		}
		return nil
	})
}
