package runner

import (
	"context"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// reportEvery keeps the reports of a job with many short steps apart.
const reportEvery = 200 * time.Millisecond

// beat keeps the lease alive and obeys the orders that come back, until ctx
// ends. When the control plane has not answered for the lease's whole time to
// live, the job may have been given to another runner: it is killed.
func (j *job) beat(ctx context.Context) {
	ttl := j.lease.TTL
	if ttl <= 0 {
		ttl = defaultTTL
	}
	every, patience := beatEvery(ttl), ttl/3
	alive := time.Now()
	next := time.NewTimer(every)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-j.beatNow:
		case <-ctx.Done():
			return
		}
		next.Reset(every)
		asked := time.Now()
		call, cancel := context.WithTimeout(ctx, patience)
		order, err := j.runner.cfg.Yard.Heartbeat(call, j.lease.Ref)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			alive = asked
			j.obey(order)
		case permanent(err):
			j.slog.WarnContext(ctx, "lease was lost", "err", err)
			j.kill(errLost)
			return
		case time.Since(alive) >= ttl:
			j.slog.WarnContext(ctx, "lease ran out", "err", err)
			j.kill(errLost)
			return
		default:
			j.slog.WarnContext(ctx, "heartbeat had no answer", "err", err)
		}
	}
}

// maxBeat bounds the time between heartbeats: an order to cancel comes with the
// answer, and a person waits for it.
const maxBeat = 2 * time.Second

// beatEvery is the time between the heartbeats of a lease: two may be lost.
func beatEvery(ttl time.Duration) time.Duration { return min(ttl/3, maxBeat) }

// obey follows an order. One that it does not know could be a stop: it kills.
func (j *job) obey(order sallyport.Order) {
	switch order {
	case sallyport.OrderContinue:
	case sallyport.OrderCancel:
		j.cancel("it was cancelled", j.cleanupTime())
	default:
		j.kill(errKilled)
	}
}

// poke asks for a heartbeat at once.
func (j *job) poke() {
	select {
	case j.beatNow <- struct{}{}:
	default:
	}
}

// cleanupTime is what the steps that run after a cancellation have.
func (j *job) cleanupTime() time.Duration {
	if j.lease.Grace > 0 {
		return j.lease.Grace
	}
	return j.runner.cfg.Grace
}

// handBack leaves a job whose runner must stop, without a word: it is started again. That
// may be done with one that held no secret, since nothing of it had an effect
// outside its room; another is cancelled.
func (j *job) handBack() {
	if j.lease.Job.Lent {
		j.cancel("the runner is shutting down", j.runner.cfg.Drain)
		return
	}
	j.mu.Lock()
	cancelled := j.cancelled != ""
	j.mu.Unlock()
	if !cancelled { // what is being cancelled ends within its time
		j.kill(errBack)
	}
}

// cancel stops the job gracefully: what runs is interrupted unless its condition holds
// also now, then only steps with always() or cancelled() run. After grace
// the job is killed. Only the first call counts.
func (j *job) cancel(why string, grace time.Duration) {
	j.mu.Lock()
	first := j.cancelled == ""
	if first {
		j.cancelled = why
		j.grace = time.AfterFunc(grace, func() { j.kill(errGrace) })
		for l := range j.leaves {
			if !l.survives {
				l.stop(errCancelled)
			}
		}
	}
	j.mu.Unlock()
	if first {
		j.log.say(0, sallyport.LogError, "The job is cancelled: %s.", why)
	}
}

// begin registers what runs next, so that a cancellation can interrupt it; end
// must be called when it has ended.
func (j *job) begin(ctx context.Context, s *step, survives bool) (leafCtx context.Context, end func()) {
	leafCtx, stop := context.WithCancelCause(ctx)
	l := &leaf{lane: s.frame.lane, survives: survives, stop: stop}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leaves[l] = struct{}{}
	if l.lane.stopped && !s.cleanup {
		stop(errStopped)
	}
	if j.cancelled != "" && !survives {
		stop(errCancelled)
	}
	return leafCtx, func() {
		j.mu.Lock()
		delete(j.leaves, l)
		j.mu.Unlock()
		stop(nil)
	}
}

// update changes what is reported.
func (j *job) update(change func()) {
	j.mu.Lock()
	change()
	j.mu.Unlock()
	select {
	case j.dirty <- struct{}{}:
	default:
	}
}

// snapshot copies the steps' reports. Annotations are only ever appended to,
// so sharing them is safe.
func (j *job) snapshot() []sallyport.Step {
	out := make([]sallyport.Step, len(j.steps))
	for i, s := range j.steps {
		out[i] = s.report
	}
	return out
}

// sendReports tells the control plane how the steps stand, each time something
// changed, until ctx ends.
func (j *job) sendReports(ctx context.Context) {
	wait := newBackoff()
	for {
		select {
		case <-j.dirty:
		case <-ctx.Done():
			return
		}
		j.mu.Lock()
		report := sallyport.JobReport{Steps: j.snapshot(), Isolation: j.isolation}
		j.mu.Unlock()
		err := j.runner.cfg.Yard.Report(ctx, j.lease.Ref, report)
		switch {
		case ctx.Err() != nil:
			return
		case sallyport.ErrorCode(err) == sallyport.CodeConflict:
			j.poke() // the heartbeat finds out whether the lease is lost
		case permanent(err):
			j.slog.ErrorContext(ctx, "report was refused", "err", err)
		case err != nil:
			j.slog.WarnContext(ctx, "report was not taken", "err", err)
			j.update(func() {})
			if wait.sleep(ctx) != nil {
				return
			}
			continue
		}
		wait.reset()
		pause := time.NewTimer(reportEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}
