package engine

import (
	"context"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// stage is one reach of the river: it takes work from its queue, and what it
// saves enqueues the next stage.
type stage struct {
	queue   string
	workers int // pieces of work at the same time
	// run does the work. It is called at least once per piece, so that it looks
	// at what is already done; it ends with finish, which saves and removes the work at once.
	run func(ctx context.Context, w sallyport.Work) error
	// giveUp records that the work cannot be done, and removes it.
	giveUp func(ctx context.Context, w sallyport.Work, cause error) error
}

// river lists the stages in the order in which a push flows. Before them is
// intake (intake.go), which is a service call; dispatch is done by the runners
// that lease jobs (yard.go); settle (settle.go) decides inside each transaction
// what a finished job sets free.
func (e *Engine) river() []stage {
	return []stage{
		{sallyport.QueueSchedule, 1, e.schedule, e.scheduleFailed},
		{sallyport.QueueFollow, 1, e.follow, e.followFailed},
		{sallyport.QueuePlan, 2, e.plan, e.planFailed},
		{sallyport.QueueCollect, 4, e.collect, e.collectFailed},
		{sallyport.QueueGate, 2, e.gate, e.gateFailed},
		{sallyport.QueueAdmit, 2, e.admit, e.admitFailed},
		{sallyport.QueueDeploy, 4, e.deploy, e.deployFailed},
		{sallyport.QueueRevoke, 2, e.revoke, e.revokeFailed},
		{sallyport.QueueRotate, 4, e.rotate, e.rotateFailed},
		{sallyport.QueueForget, 1, e.forget, e.forgetFailed},
		{sallyport.QueueWatch, maxWatched, e.watch, e.watchFailed},
	}
}

// workOwner holds the leases of the river's work. There is one engine to a store.
const workOwner = "engine"

// maxWatched is how many environments are watched: one watch lasts for as long as
// its deployment is live, and sleeps nearly all of that time.
const maxWatched = 2000

const (
	stageLease    = 10 * time.Second // after a crash the work waits this long
	stageAttempts = 5
	idleSweep     = 5 * time.Second // how late a lost signal is made good
	maxPause      = 30 * time.Second
)

// work serves one stage until ctx ends.
func (e *Engine) work(ctx context.Context, s stage) {
	signal, stop := e.store.Watch(topicWork(s.queue))
	defer stop()
	ctx = system(ctx, s.queue)
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, s.workers)
	for range s.workers {
		free <- struct{}{}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-free:
		}
		w, wait, err := e.claim(ctx, s.queue)
		if err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "work could not be claimed", "queue", s.queue, "error", err)
		}
		if w == nil {
			free <- struct{}{}
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-signal:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		wg.Go(func() {
			defer func() { free <- struct{}{} }()
			e.do(ctx, s, *w)
		})
	}
}

// claim takes one piece of work, or says how long there will be none.
func (e *Engine) claim(ctx context.Context, queue string) (*sallyport.Work, time.Duration, error) {
	var got []sallyport.Work
	wait := idleSweep
	// Looking first keeps an idle stage from writing.
	err := e.view(ctx, func(tx sallyport.Tx) error {
		now := e.now()
		count, next, err := tx.Work().Counts(now)
		if err != nil {
			return err
		}
		if at := next[queue]; !at.IsZero() && at.After(now) {
			wait = min(wait, at.Sub(now))
		}
		if count[queue] == 0 {
			return errNothing
		}
		return nil
	})
	if err != nil {
		if err == errNothing {
			err = nil
		}
		return nil, wait, err
	}
	err = e.store.Update(ctx, func(tx sallyport.Tx) error {
		var err error
		now := e.now()
		got, err = tx.Work().Claim(queue, workOwner, nil, now, now.Add(stageLease), 1)
		return err
	})
	if err != nil || len(got) == 0 {
		return nil, wait, err
	}
	return &got[0], 0, nil
}

// do runs one piece of work under its lease, and tries again or gives up.
func (e *Engine) do(ctx context.Context, s stage, w sallyport.Work) {
	log := e.log.With("queue", s.queue, "subject", w.Subject, "attempt", w.Attempt)
	shutdown := ctx.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		e.keep(ctx, cancel, w)
	}()
	err := e.guard(ctx, s, w)
	cancel()
	<-kept
	ctx = context.WithoutCancel(ctx)
	switch {
	case err == nil:
		return
	case ended(shutdown): // whoever runs the river next goes on with it
		e.giveBackWork(ctx, w, e.now(), "interrupted")
	case w.Attempt >= max(1, w.MaxAttempts) || permanent(err):
		log.ErrorContext(ctx, "stage gave up", "error", err)
		if err := s.giveUp(ctx, w, err); err != nil {
			log.ErrorContext(ctx, "giving up was not recorded", "error", err)
		}
	default:
		log.WarnContext(ctx, "stage will be tried again", "error", err)
		pause := min(time.Duration(w.Attempt*w.Attempt)*200*time.Millisecond, maxPause)
		e.giveBackWork(ctx, w, e.now().Add(pause), clip(err.Error(), 1000))
	}
}

// giveBackWork ends the lease; the work is done again from at on.
func (e *Engine) giveBackWork(ctx context.Context, w sallyport.Work, at time.Time, why string) {
	err := e.store.Update(ctx, func(tx sallyport.Tx) error { return tx.Work().Retry(w.ID, w.Token, at, why) })
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeConflict { // the lease ran out: it is back already
		e.log.ErrorContext(ctx, "work was not given back", "queue", w.Queue, "subject", w.Subject, "error", err)
	}
}

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// guard turns a panic of a stage into its failure: one bad push must not stop the river.
func (e *Engine) guard(ctx context.Context, s stage, w sallyport.Work) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, stack()}
		}
	}()
	return s.run(ctx, w)
}

// permanent tells failures that trying again cannot mend.
func permanent(err error) bool {
	switch sallyport.ErrorCode(err) {
	case sallyport.CodeInvalid, sallyport.CodeDenied, sallyport.CodeNotFound:
		return true
	default:
		return false
	}
}

// keep extends the lease while the work is done; when the lease is lost it stops the work.
func (e *Engine) keep(ctx context.Context, lost context.CancelFunc, w sallyport.Work) {
	tick := time.NewTicker(stageLease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			err := e.store.Update(ctx, func(tx sallyport.Tx) error {
				return tx.Work().Extend(w.ID, w.Token, e.now().Add(stageLease))
			})
			if sallyport.ErrorCode(err) == sallyport.CodeConflict {
				lost()
				return
			}
		}
	}
}

// finish saves the outcome of a piece of work and removes the work, in one
// transaction; a lost lease saves nothing.
func (e *Engine) finish(ctx context.Context, w sallyport.Work, f func(c *change) error) error {
	return e.update(ctx, func(c *change) error {
		if err := f(c); err != nil {
			return err
		}
		return c.Work().Done(w.ID, w.Token)
	})
}
