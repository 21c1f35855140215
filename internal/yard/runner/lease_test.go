package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

const soon = 60 * time.Millisecond // TTL of a lease whose heartbeats a test waits for

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, yaml string
		order      sallyport.Order
		config     func(*Config)
		timeout    time.Duration
		outcomes   string
		text       string
		cause      string
	}{
		{name: "what runs is interrupted", yaml: `
- run: echo begun; sleep 100
- run: echo no
- if: success()
  run: echo no
- if: failure()
  run: echo no
- if: cancelled()
  run: echo cancelled ${{ job.status }}
- if: always()
  run: echo always
`, order: sallyport.OrderCancel, outcomes: "cancelled skipped skipped skipped success success", text: "begun\ncancelled cancelled\nalways\n", cause: "it was cancelled"},
		{name: "a step with always() goes on", yaml: `
- if: always()
  run: |
    echo begun
    until [ -e "$RUNNER_TEMP/../../go" ]; do sleep 0.01; done
    echo done
- run: echo no
`, order: sallyport.OrderCancel, outcomes: "success skipped", text: "begun\ndone\n", cause: "it was cancelled"},
		{name: "inside a composite action", yaml: "- uses: ./act\n- if: always()\n  run: echo outer", order: sallyport.OrderCancel,
			outcomes: "cancelled success", text: "begun\ninner cleanup\nouter\n", cause: "it was cancelled"},
		{name: "grace is over", yaml: "- run: echo begun; sleep 100\n- if: always()\n  run: sleep 100", order: sallyport.OrderCancel,
			config: func(c *Config) { c.Grace = 200 * time.Millisecond }, outcomes: "cancelled cancelled", text: "begun\n", cause: errGrace.Error()},
		{name: "kill", yaml: "- run: echo begun; sleep 100\n- if: always()\n  run: echo no", order: sallyport.OrderKill, outcomes: "cancelled skipped", text: "begun\n", cause: errKilled.Error()},
		{name: "an order that nobody knows", yaml: "- run: echo begun; sleep 100", order: "dance", outcomes: "cancelled", text: "begun\n", cause: errKilled.Error()},
		{name: "time of the job is over", yaml: "- run: echo begun; sleep 100\n- if: always()\n  run: echo always", timeout: 300 * time.Millisecond,
			outcomes: "cancelled success", text: "begun\nalways\n", cause: "it ran longer than 300ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			yard := newFakeYard()
			begun, cancelled := yard.await(`"x":"begun"`), yard.await("The job is cancelled")
			var dir string
			e := trial{yaml: steps(c.yaml), yard: yard, ttl: soon, timeout: c.timeout,
				files: map[string]string{"act/action.yml": `
name: act
description: d
runs:
  using: composite
  steps:
    - { run: "echo begun; sleep 100", shell: bash }
    - { run: "echo no", shell: bash }
    - { if: always(), run: "echo inner cleanup", shell: bash }
`},
				config: func(cfg *Config) {
					dir = cfg.WorkDir
					if c.config != nil {
						c.config(cfg)
					}
				},
				during: func(y *fakeYard) {
					<-begun
					if c.order != "" {
						y.setOrder(c.order, nil)
					}
					if !strings.Contains(c.yaml, "_TEMP/../../go") {
						return
					}
					<-cancelled
					jobs, _ := filepath.Glob(filepath.Join(dir, "job-*"))
					for _, j := range jobs {
						_ = os.WriteFile(filepath.Join(j, "go"), nil, 0o644)
					}
				}}.try(t)
			if e.Conclusion != sallyport.Cancelled || e.Cause != c.cause {
				t.Errorf("conclusion %s, %q, want %q", e.Conclusion, e.Cause, c.cause)
			}
			if got := outcomes(e.Steps); got != c.outcomes {
				t.Errorf("outcomes %q, want %q", got, c.outcomes)
			}
			if e.text() != c.text {
				t.Errorf("output %q, want %q\n%s", e.text(), c.text, e.all())
			}
		})
	}
}

// TestLeaseLost checks that a job whose lease is gone is dropped without a word.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
	}{
		{"fenced", sallyport.Errorf(sallyport.CodeConflict, "the lease is another's")},
		{"control plane away for the whole time to live", sallyport.Errorf(sallyport.CodeUnavailable, "away")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			yard, box := newFakeYard(), &hostSandbox{}
			begun := yard.await(`"x":"begun"`)
			r := newTestRunner(t, yard, box, nil)
			tr := trial{yaml: steps("- run: echo begun; sleep 100\n- if: always()\n  run: echo no"), ttl: soon}
			yard.leases <- tr.lease(t)
			go func() {
				<-begun
				yard.setOrder(sallyport.OrderContinue, c.err)
			}()
			r.do(t.Context(), <-yard.leases)
			if len(yard.result) != 0 {
				t.Error("a result was handed in")
			}
			if box.alive != 0 {
				t.Error("the room is alive")
			}
			if left, _ := os.ReadDir(r.cfg.WorkDir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestRunDrains(t *testing.T) {
	t.Parallel()
	rooms := make(chan struct{}, 3)
	yard, box := newFakeYard(), &hostSandbox{prepare: func() error { rooms <- struct{}{}; return nil }}
	r := newTestRunner(t, yard, box, func(c *Config) { c.Capacity = 3 })
	tr := trial{yaml: steps("- run: echo begun-${{ vars.V }}; sleep 100\n- if: always()\n  run: echo cleanup")}
	for i := range 3 {
		tr.contexts = map[string]string{"vars": fmt.Sprintf(`{"V":"%d"}`, i)}
		l := tr.lease(t)
		l.Job.Lent = i > 0 // the first one's job can be started again
		yard.leases <- l
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	for range 3 {
		<-rooms
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if e := <-yard.result; e.Conclusion != sallyport.Cancelled || e.Cause != "the runner is shutting down" {
			t.Errorf("%s, %q", e.Conclusion, e.Cause)
		}
	}
	if len(yard.result) != 0 {
		t.Errorf("the job that is started again handed in %+v", <-yard.result)
	}
	if box.alive != 0 {
		t.Errorf("%d rooms are alive", box.alive)
	}
}

// awayYard gives no answer to the first calls.
type awayYard struct {
	*fakeYard
	calls atomic.Int32
}

func (y *awayYard) Lease(ctx context.Context, r sallyport.LeaseRequest) (*sallyport.Lease, error) {
	if y.calls.Add(1) <= 2 {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "away")
	}
	return y.fakeYard.Lease(ctx, r)
}

func (y *awayYard) Finish(ctx context.Context, l sallyport.LeaseRef, r sallyport.JobResult) error {
	if y.calls.Add(1) <= 5 {
		return sallyport.Errorf(sallyport.CodeUnavailable, "away")
	}
	return y.fakeYard.Finish(ctx, l, r)
}

func TestControlPlaneAway(t *testing.T) {
	t.Parallel()
	yard := &awayYard{fakeYard: newFakeYard()}
	r := newTestRunner(t, yard, &hostSandbox{}, nil)
	tr := trial{yaml: steps("- run: echo ok"), ttl: time.Minute}
	yard.leases <- tr.lease(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	if e := <-yard.result; e.Conclusion != sallyport.Success {
		t.Errorf("%s, %s", e.Conclusion, e.Cause)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type deniedYard struct{ *fakeYard }

func (deniedYard) Lease(context.Context, sallyport.LeaseRequest) (*sallyport.Lease, error) {
	return nil, sallyport.Errorf(sallyport.CodeDenied, "not enrolled")
}

type blindSandbox struct{ *hostSandbox }

func (blindSandbox) Check(context.Context) (sallyport.Isolation, error) {
	return sallyport.Isolation{}, sallyport.Errorf(sallyport.CodeUnavailable, "user namespaces are off")
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	if err := newTestRunner(t, deniedYard{newFakeYard()}, &hostSandbox{}, nil).Run(t.Context()); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("denied: %v", err)
	}
	if err := newTestRunner(t, newFakeYard(), blindSandbox{&hostSandbox{}}, nil).Run(t.Context()); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("no isolation: %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an empty config was taken")
	}
}

func TestRunSweepsItsDirectory(t *testing.T) {
	t.Parallel()
	r := newTestRunner(t, newFakeYard(), &hostSandbox{}, nil)
	old := filepath.Join(r.cfg.WorkDir, "job-old")
	if err := os.MkdirAll(filepath.Join(old, "work/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("old job directory: %v", err)
	}
}

func TestJobThatCannotStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		tr   trial
		want string
	}{
		{"no room", trial{yaml: steps("- run: echo"), box: &hostSandbox{prepare: func() error {
			return sallyport.Errorf(sallyport.CodeUnavailable, "memory limits are not available").WithHint("delegate the controller")
		}}}, "memory limits are not available"},
		{"panic", trial{yaml: steps("- run: echo"), box: &hostSandbox{prepare: func() error { panic("boom") }}}, "internal error in the runner"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := c.tr.try(t)
			if e.Conclusion != sallyport.Failure || !strings.Contains(e.Cause, c.want) {
				t.Errorf("%s, %q", e.Conclusion, e.Cause)
			}
			if got := outcomes(e.Steps); got != "skipped" && got != "" {
				t.Errorf("outcomes %q", got)
			}
		})
	}
}
