package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// maxBackground is how many background steps of a job run at the same time
	// (GitHub's limit); more of them wait for their turn.
	maxBackground = 10
	// cancelGrace is what a cancel step gives an action to clean up: the steps of
	// a composite one that run always (GitHub: 7.5 s).
	cancelGrace = 7500 * time.Millisecond
)

// entry is one of the job's steps as it is listed and reported.
type entry struct {
	plan   *sallyport.PlanStep
	top    *topStep
	number int
	key    string   // see step
	joins  []*entry // of the wait at the end of a group of parallel steps: its steps
}

// listed returns the steps in order. The steps of a parallel group are background
// steps, with a wait for them behind.
func listed(steps []sallyport.PlanStep) []*entry {
	var out []*entry
	for i := range steps {
		p := &steps[i]
		if len(p.Parallel) == 0 {
			out = append(out, &entry{plan: p})
			continue
		}
		wait := *p
		wait.Parallel = nil
		if wait.Name.IsZero() {
			wait.Name.Text = "Wait for the parallel steps"
		}
		join := &entry{plan: &wait}
		for k := range p.Parallel {
			member := p.Parallel[k]
			member.Background = true
			join.joins = append(join.joins, &entry{plan: &member})
		}
		out = append(append(out, join.joins...), join)
	}
	return out
}

// enlist adds an entry to the reported steps.
func (j *job) enlist(e *entry) {
	e.top = &topStep{}
	name := j.plainText(stepName(e.plan, e.plan.Name.Text), maxName)
	j.update(func() {
		e.number = len(j.steps) + 1
		e.top.report = sallyport.Step{Number: e.number, ID: e.plan.ID, Name: name, Status: sallyport.StatusQueued}
		j.steps = append(j.steps, e.top)
	})
}

// task is a background step. Its fields belong to the goroutine that runs the job's
// own steps; end and err are set before done is closed.
type task struct {
	entry   *entry
	step    *step
	hard    context.CancelCauseFunc // ends it, without cleaning up
	settled bool                    // what it changed has reached the job
	judged  bool                    // its failure was a wait's
	stopped bool                    // a cancel step named it

	done chan struct{}
	end  stepEnd
	err  error // the job cannot go on
}

// crew are the background steps of a job.
type crew struct {
	tasks []*task // in the order of the job; of the goroutine that runs the job's own steps
	wg    sync.WaitGroup

	mu      sync.Mutex
	running int
	queue   []*task
	launch  map[*task]func()
}

// start prepares a background step as it would be now and lets it run.
func (j *job) start(ctx context.Context, e *entry) error {
	side := j.main.fork()
	ctx, hard := context.WithCancelCause(ctx)
	s := &step{job: j, frame: side.root, plan: e.plan, top: e.top, number: e.number, key: e.key}
	t := &task{entry: e, step: s, hard: hard, done: make(chan struct{})}
	j.crew.tasks = append(j.crew.tasks, t)
	s.out = newOutput(s)
	run, survives, err := s.prepare()
	if err == nil && !run {
		defer hard(nil)
		t.end, _ = s.finish(ctx, false, false, nil)
		s.out.close()
		j.completed(e.top, t.end)
		close(t.done)
		t.judged = true // nothing to wait for
		return j.settle(t)
	}
	j.crew.admit(t, func() {
		defer hard(nil)
		defer close(t.done)
		defer func() {
			if p := recover(); p != nil {
				j.slog.ErrorContext(ctx, "runner panicked", "panic", p, "stack", string(debug.Stack()))
				t.end = stepEnd{sallyport.Failure, sallyport.Failure, "the runner could not go on"}
				t.err = errors.New("a background step made the runner panic")
			}
			s.out.close()
			j.completed(e.top, t.end)
		}()
		t.end, t.err = s.finish(ctx, true, survives, err)
	})
	return nil
}

// admit runs a task at once, or when one of those that run has ended.
func (c *crew) admit(t *task, run func()) {
	work := func() {
		run()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running--; len(c.queue) > 0 {
			next := c.queue[0]
			c.queue = c.queue[1:]
			c.goLocked(next)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.launch == nil {
		c.launch = map[*task]func(){}
	}
	c.launch[t] = work
	if c.running < maxBackground {
		c.goLocked(t)
	} else {
		c.queue = append(c.queue, t)
	}
}

func (c *crew) goLocked(t *task) {
	work := c.launch[t]
	delete(c.launch, t)
	c.running++
	c.wg.Go(work)
}

// hurry lets a task that waits for its turn run now: it has little left to do.
func (c *crew) hurry(t *task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, q := range c.queue {
		if q == t {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			c.goLocked(t)
			return
		}
	}
}

// open are the tasks that no step has waited for or cancelled.
func (c *crew) open() []*task {
	var out []*task
	for _, t := range c.tasks {
		if !t.judged && !t.stopped {
			out = append(out, t)
		}
	}
	return out
}

// rest are the tasks of which the job must still hear at its end: the open ones, and
// those that had failed when they were cancelled.
func (c *crew) rest() []*task {
	var out []*task
	for _, t := range c.tasks {
		if !t.judged && (!t.stopped || t.end.conclusion == sallyport.Failure) {
			out = append(out, t)
		}
	}
	return out
}

// among are the tasks of the given entries.
func (c *crew) among(entries []*entry) []*task {
	var out []*task
	for _, t := range c.tasks {
		for _, e := range entries {
			if t.entry == e {
				out = append(out, t)
			}
		}
	}
	return out
}

// find returns the background step with the id. Ids are compared without regard to
// case, like all names of a workflow.
func (j *job) find(id string) (*task, error) {
	for _, t := range j.crew.tasks {
		if strings.EqualFold(t.entry.plan.ID, id) {
			return t, nil
		}
	}
	return nil, sallyport.Errorf(sallyport.CodeInvalid, "no background step before this one has the id %.80q", id).
		WithHint("name the id of a step with background: true that stands above")
}

// waitFor is what a wait step does.
func waitFor(ctx context.Context, s *step) error {
	var tasks []*task
	for _, id := range s.plan.Wait {
		t, err := s.job.find(id)
		if err != nil {
			return err
		}
		tasks = append(tasks, t)
	}
	return s.join(ctx, tasks, false)
}

// join waits for tasks and makes what they changed the job's. It fails when one of them
// failed.
func (s *step) join(ctx context.Context, tasks []*task, all bool) error {
	if len(tasks) == 0 {
		s.out.print(sallyport.LogSystem, "No background step is left to wait for.")
		return nil
	}
	what := "Waiting for"
	if all {
		what = "Waiting for all background steps:"
	}
	s.out.print(sallyport.LogSystem, what+" "+s.job.names(tasks)+".")
	var failed []*task
	cancelled := false
	for _, t := range tasks {
		select {
		case <-t.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := s.job.settle(t); err != nil {
			return err
		}
		t.judged = true
		s.out.print(sallyport.LogSystem, fmt.Sprintf("%s: %s.", s.job.names([]*task{t}), t.end.outcome))
		switch {
		case t.end.conclusion == sallyport.Failure:
			failed = append(failed, t)
		case t.end.conclusion == sallyport.Cancelled && !t.stopped:
			cancelled = true
		}
	}
	switch {
	case len(failed) > 0:
		return &failure{message: "A background step failed: " + s.job.names(failed) + "."}
	case cancelled:
		return errCancelled
	}
	return nil
}

// stopOne is what a cancel step does: the process of the step is asked to end, and is
// killed when it does not. That it was cancelled is nobody's failure.
func stopOne(ctx context.Context, s *step) error {
	j := s.job
	t, err := j.find(s.plan.Cancel)
	if err != nil {
		return err
	}
	s.out.print(sallyport.LogSystem, "Cancelling "+j.names([]*task{t})+".")
	t.stopped = true
	lane := t.step.frame.lane
	j.mu.Lock()
	lane.stopped = true
	for l := range j.leaves {
		if l.lane == lane {
			l.stop(errStopped)
		}
	}
	j.mu.Unlock()
	j.crew.hurry(t)
	last := time.AfterFunc(cancelGrace, func() { t.hard(errStopped) })
	defer last.Stop()
	select {
	case <-t.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.out.print(sallyport.LogSystem, fmt.Sprintf("%s: %s.", j.names([]*task{t}), t.end.outcome))
	return j.settle(t)
}

// settle makes what a task has changed the job's, once: its entry in the steps context,
// variables and PATH. The error is not nil when the job cannot go on, or a limit of
// the job is reached.
func (j *job) settle(t *task) error {
	if t.err != nil {
		return t.err
	}
	if t.settled {
		return nil
	}
	t.settled = true
	j.main.root.record(t.step, t.end)
	return j.main.merge(t.step.frame.lane)
}

// waitForRest is the wait at the end of the job's own steps, before the post steps.
func (j *job) waitForRest(ctx context.Context) error {
	rest := j.crew.rest()
	if len(rest) == 0 {
		return nil
	}
	e := &entry{plan: &sallyport.PlanStep{WaitAll: true}}
	j.enlist(e)
	_, err := j.runTop(ctx, &step{job: j, frame: j.main.root, plan: e.plan, top: e.top, number: e.number,
		control: func(ctx context.Context, s *step) error { return s.join(ctx, rest, true) }})
	return err
}

// names lists background steps for the log.
func (j *job) names(tasks []*task) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	names := make([]string, len(tasks))
	for i, t := range tasks {
		names[i] = t.entry.top.report.Name
		if r := []rune(names[i]); len(r) > 60 {
			names[i] = string(r[:60]) + "…"
		}
	}
	return strings.Join(names, ", ")
}
