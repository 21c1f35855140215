package runner

import (
	"context"
	"math/rand/v2"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	firstWait = 100 * time.Millisecond
	maxWait   = 15 * time.Second
)

// backoff waits longer after each failure in a row, with jitter, so that
// many runners do not return to a restarted control plane at the same moment.
type backoff struct{ next time.Duration }

func newBackoff() *backoff { return &backoff{next: firstWait} }

func (b *backoff) reset() { b.next = firstWait }

// sleep waits between half and all of the present wait; it returns ctx's
// cause when ctx ends first.
func (b *backoff) sleep(ctx context.Context) error {
	d := b.next/2 + rand.N(b.next/2)
	b.next = min(2*b.next, maxWait)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// permanent reports whether repeating the call cannot help.
func permanent(err error) bool {
	switch sallyport.ErrorCode(err) {
	case sallyport.CodeInvalid, sallyport.CodeDenied, sallyport.CodeNotFound, sallyport.CodeConflict:
		return true
	}
	return false
}

// retry repeats f until it succeeds, fails for good, or ctx ends.
func retry(ctx context.Context, f func() error) error {
	for wait := newBackoff(); ; {
		err := f()
		if err == nil || permanent(err) || ctx.Err() != nil {
			return err
		}
		if wait.sleep(ctx) != nil {
			return err
		}
	}
}
