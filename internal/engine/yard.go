package engine

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport"
)

// yard implements sallyport.Yard: dispatch, as runners see it. All that comes
// in through it is a job's word and is bounded here, whatever the runner did before.
type yard struct{ e *Engine }

const (
	longPoll       = 50 * time.Second // below the idle time-outs of common proxies
	maxJobAttempts = 3
	maxLabels      = 50
	maxOutputs     = 1 << 20 // bytes of all outputs of a job, GitHub's bound
	maxSteps       = 1000
	maxJobLog      = 1 << 30
	maxLogAppend   = 4 << 20
	maxArtifacts   = 500 // of one job, GitHub's bound

	defaultCancelMinutes = 5.0           // for what still runs after a cancellation, GitHub's default
	maxCancelMinutes     = 35 * 24 * 60. // no run is longer
)

// Lease hands the runner a job. It holds no transaction while it waits.
func (y yard) Lease(ctx context.Context, ask sallyport.LeaseRequest) (*sallyport.Lease, error) {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return nil, err
	}
	if ask.Runner == "" || len(ask.Labels) > maxLabels {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "a runner needs an id and at most %d labels", maxLabels)
	}
	y.e.seen.saw(ask, y.e.now())
	deadline := time.NewTimer(longPoll)
	defer deadline.Stop()
	for {
		wait := y.e.queue.enter(ask.Labels)
		lease, err := y.tryLease(ctx, ask)
		if err != nil || lease != nil {
			y.e.queue.leave(wait)
			if lease != nil {
				y.e.queue.wakeOne(ask.Labels) // there may be more
			}
			return lease, err
		}
		select {
		case <-wait.woken:
		case <-deadline.C:
			y.e.queue.leave(wait)
			return nil, nil
		case <-ctx.Done():
			y.e.queue.leave(wait)
			return nil, context.Cause(ctx)
		}
	}
}

// tryLease takes one job if there is one. A job whose lease ran out comes back
// here: it is tried again or failed by rule, and says so.
func (y yard) tryLease(ctx context.Context, ask sallyport.LeaseRequest) (*sallyport.Lease, error) {
	var lease *sallyport.Lease
	var from *frame
	var kept []keptSecret
	err := y.e.update(ctx, func(c *change) error {
		lease, from, kept = nil, nil, nil
		if stop, err := stopped(c.Tx, sallyport.StopRunner, string(ask.Runner), ask.Name, sallyport.PrincipalFrom(ctx).ID, sallyport.PrincipalFrom(ctx).Name); err != nil || stop != nil {
			return err // it gets nothing, and may ask again
		}
		labels := ask.Labels
		if labels == nil {
			labels = []string{}
		}
		got, err := c.Work().Claim(sallyport.QueueRunner, string(ask.Runner), labels, c.now, c.now.Add(y.e.leaseTTL), 1)
		if err != nil || len(got) == 0 {
			return err
		}
		lease, from, kept, err = y.e.lease(c, got[0], ask)
		return err
	})
	if err != nil || lease == nil {
		return nil, err
	}
	if lease.Egress.Level == sallyport.EgressRegistries && lease.Egress.Commit != "" { // git is asked outside of the transaction
		lease.Egress.Packages.Locked = y.e.locked(ctx, lease.Run.Project, lease.Egress.Commit)
	}
	if !lease.Job.Lent {
		return lease, nil
	}
	// Lending reaches outside the store, so it stands after the transaction that
	// recorded that it would.
	var secrets map[string]string
	if y.e.lend != nil {
		secrets, err = y.e.lend(ctx, lease.Run, lease.Job)
		secrets = maps.Clone(secrets)
	} else {
		secrets, err = y.e.values(ctx, kept)
	}
	if err != nil {
		return nil, err
	}
	lease.Lent = exchange(secrets, planEgress(from.s.plan).Credentials, lease.Egress.Credentials)
	if lease.Secrets, err = from.secrets(secrets); err != nil {
		return nil, err
	}
	if from.caller != nil { // of a called workflow what was handed over to it
		lease.Lent = slices.DeleteFunc(lease.Lent, func(l sallyport.LentSecret) bool { return !holds(lease.Secrets, l) })
	}
	return lease, nil
}

// lease makes the lease of claimed work, or settles what forbids it. The frame is
// that of the job, the secrets those that are kept and lent to it.
func (e *Engine) lease(c *change, w sallyport.Work, ask sallyport.LeaseRequest) (*sallyport.Lease, *frame, []keptSecret, error) {
	job, err := c.Jobs().Get(sallyport.JobID(w.Subject))
	if err != nil {
		return nil, nil, nil, err
	}
	if job.Status == sallyport.StatusInProgress { // its runner died
		if err := e.lost(c, &job); err != nil {
			return nil, nil, nil, err
		}
	}
	if job.Status != sallyport.StatusQueued {
		return nil, nil, nil, c.Work().Drop(sallyport.QueueRunner, w.Subject)
	}
	s, err := e.loadSettlement(c, job.Run)
	if err != nil {
		return nil, nil, nil, err
	}
	if stop, err := stopped(c.Tx, sallyport.StopProject, s.p.Name); err != nil || stop != nil {
		if err == nil {
			err = s.complete(s.jobs[job.ID], sallyport.Cancelled, "project "+s.p.Name+" is stopped")
		}
		if err == nil {
			err = e.settleFrom(s)
		}
		return nil, nil, nil, err
	}
	f, pj, err := s.home(job.ID)
	if err != nil {
		return nil, nil, nil, err
	}
	j := s.jobs[job.ID]
	lease := &sallyport.Lease{
		Ref: sallyport.LeaseRef{Job: job.ID, Token: w.Token}, TTL: e.leaseTTL, Project: s.p.Name, Plan: f.planOf(pj),
	}
	if err := f.fill(lease, pj, j); err != nil {
		if err := s.complete(j, sallyport.Failure, clip(err.Error(), 1000)); err != nil {
			return nil, nil, nil, err
		}
		return nil, nil, nil, e.settleFrom(s)
	}
	if err := transit(&j.Status, sallyport.StatusInProgress); err != nil {
		return nil, nil, nil, err
	}
	j.Attempt++
	lease.Egress = f.egress(j)
	var kept []keptSecret
	if e.lend == nil && e.sealer != nil {
		if kept, err = c.keptFor(lease, s.run, *j); err != nil {
			return nil, nil, nil, err
		}
		if err := c.lendable(s.p, kept); err != nil { // nothing falls back to going without
			if err := s.complete(j, sallyport.Failure, clip(err.Error(), 1000)); err != nil {
				return nil, nil, nil, err
			}
			return nil, nil, nil, e.settleFrom(s)
		}
	}
	j.Runner, j.StartedAt, j.Lent = ask.Runner, c.now, f.lends() && (e.lend != nil || len(kept) > 0)
	if err := c.Jobs().Save(*j); err != nil {
		return nil, nil, nil, err
	}
	if err := c.Jobs().Report(j.ID, nil, nil); err != nil { // what an attempt before said
		return nil, nil, nil, err
	}
	detail := map[string]any{"run": j.Run, "runner": ask.Runner, "attempt": j.Attempt}
	if j.Lent {
		lentDetail(detail, lease.Egress.Credentials)
		if len(kept) > 0 {
			detail["secrets"] = lentVersions(kept)
			if err := c.lendTo(lease, s.run.Project, *j, kept); err != nil {
				return nil, nil, nil, err
			}
		}
	}
	if err := c.record("job.leased", "job/"+string(j.ID), detail); err != nil {
		return nil, nil, nil, err
	}
	c.Touch(topicRun(j.Run))
	if err := e.settleFrom(s); err != nil { // the run is in progress now
		return nil, nil, nil, err
	}
	lease.Run, lease.Job = s.run, *j
	return lease, f, kept, nil
}

// planOf is the plan as one job sees it: of itself alone, in the workflow that it belongs to.
func (f *frame) planOf(pj *sallyport.PlanJob) *sallyport.Plan {
	plan := *f.s.plan
	plan.Jobs, plan.Rules = []sallyport.PlanJob{*pj}, nil
	if f.call != nil {
		plan.Workflow, plan.Env, plan.Defaults, plan.Permissions = f.call.Workflow, f.call.Env, f.call.Defaults, f.call.Permissions
	}
	return &plan
}

// fill gives a lease the contexts of its cell, which values in them are tainted,
// and its time-outs.
func (f *frame) fill(l *sallyport.Lease, pj *sallyport.PlanJob, job *sallyport.Job) error {
	cell, err := f.cell(pj, job)
	if err != nil {
		return err
	}
	l.Timeout = cell.Timeout
	scope, err := f.cellScope(pj, cell)
	if err != nil {
		return err
	}
	minutes, err := scope.Number(pj.CancelTimeoutMinutes, defaultCancelMinutes)
	if err != nil {
		return err
	}
	if !(minutes > 0) {
		return sallyport.Errorf(sallyport.CodeInvalid, "line %d, column %d: cancel-timeout-minutes must be greater than 0", pj.CancelTimeoutMinutes.Pos.Line, pj.CancelTimeoutMinutes.Pos.Col)
	}
	l.Grace = time.Duration(min(minutes, maxCancelMinutes) * float64(time.Minute))
	l.Contexts = f.s.e.runContexts(f.s.p, f.s.push, f.s.run, f.s.plan)
	if l.Contexts["github"], err = f.githubContext(l.Contexts["github"]); err != nil {
		return err
	}
	l.Contexts["needs"], l.Contexts["job"] = f.needs(pj), f.jobContext()
	l.Contexts["matrix"], l.Contexts["strategy"] = orNull(cell.Matrix), orNull(cell.Strategy)
	l.Tainted = f.taintedNeeds(pj)
	if f.caller != nil {
		l.Contexts["inputs"] = orEmptyObject(f.caller.Inputs)
		for _, name := range f.caller.TaintedInputs {
			l.Tainted = append(l.Tainted, []string{"inputs", name})
		}
	}
	if cell.Tainted {
		l.Tainted = append(l.Tainted, []string{"matrix"})
	}
	_, err = f.secrets(nil) // an expression in what is handed over that fails does so here, where the job can fail by it
	return err
}

// held returns the work and the job of a lease that is still held; CodeConflict otherwise.
func (c *change) held(l sallyport.LeaseRef) (sallyport.Work, sallyport.Job, error) {
	work, err := c.Work().BySubject(sallyport.QueueRunner, string(l.Job))
	if err != nil {
		return sallyport.Work{}, sallyport.Job{}, err
	}
	for _, w := range work {
		if w.Token != "" && sallyport.NewSecret([]byte(w.Token)).Equal([]byte(l.Token)) && w.LeaseUntil.After(c.now) {
			j, err := c.Jobs().Get(l.Job)
			return w, j, err
		}
	}
	return sallyport.Work{}, sallyport.Job{}, sallyport.Errorf(sallyport.CodeConflict, "the lease of job %s is not held any more", l.Job).
		WithHint("destroy the room and forget the job")
}

// holding runs f in a transaction in which the lease is held.
func (e *Engine) holding(ctx context.Context, l sallyport.LeaseRef, f func(c *change, w sallyport.Work, j sallyport.Job) error) error {
	return e.update(ctx, func(c *change) error {
		w, j, err := c.held(l)
		if err != nil {
			return err
		}
		return f(c, w, j)
	})
}

// peek checks the lease without writing.
func (e *Engine) peek(ctx context.Context, l sallyport.LeaseRef) (sallyport.Job, sallyport.Run, error) {
	var j sallyport.Job
	var r sallyport.Run
	err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if _, j, err = (&change{Tx: tx, now: e.now()}).held(l); err != nil {
			return err
		}
		r, err = tx.Runs().Get(j.Run)
		return err
	})
	return j, r, err
}

func (y yard) Heartbeat(ctx context.Context, l sallyport.LeaseRef) (sallyport.Order, error) {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return sallyport.OrderKill, err
	}
	order := sallyport.OrderContinue
	err := y.e.holding(ctx, l, func(c *change, w sallyport.Work, j sallyport.Job) error {
		if j.Cancel != "" {
			order = sallyport.OrderCancel
		}
		return c.Work().Extend(w.ID, w.Token, c.now.Add(y.e.leaseTTL))
	})
	return order, err
}

// attemptLog is the log of one attempt: a job that is tried again begins a new one.
func attemptLog(j sallyport.Job) sallyport.JobID {
	if j.Attempt <= 1 {
		return j.ID
	}
	return sallyport.JobID(fmt.Sprintf("%s.%d", j.ID, j.Attempt))
}

func (y yard) AppendLog(ctx context.Context, l sallyport.LeaseRef, offset int64, data []byte) (int64, error) {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return 0, err
	}
	if offset < 0 || len(data) > maxLogAppend || offset+int64(len(data)) > maxJobLog {
		return 0, sallyport.Errorf(sallyport.CodeInvalid, "a log holds at most %d bytes, appended in pieces of at most %d", maxJobLog, maxLogAppend)
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return 0, sallyport.Errorf(sallyport.CodeInvalid, "a piece of log must end with a line end")
	}
	j, _, err := y.e.peek(ctx, l)
	if err != nil {
		return 0, err
	}
	end, err := y.e.logs.Append(ctx, attemptLog(j), offset, data)
	if err == nil {
		y.e.queue.touch(topicLog(j.ID))
	}
	return end, err
}

func (y yard) Report(ctx context.Context, l sallyport.LeaseRef, r sallyport.JobReport) error {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return err
	}
	return y.e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		steps, err := boundSteps(r.Steps)
		if err != nil {
			return err
		}
		c.Touch(topicRun(j.Run))
		return c.reportJob(j, steps, r.Isolation)
	})
}

// reportJob keeps what a runner says of its job; a word that it gave on the isolation stays.
func (c *change) reportJob(j sallyport.Job, steps []sallyport.Step, i *sallyport.Isolation) error {
	if i == nil {
		i = j.Isolation
	}
	return c.Jobs().Report(j.ID, steps, i)
}

func (y yard) Source(ctx context.Context, l sallyport.LeaseRef, depth int) (io.ReadCloser, error) {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return nil, err
	}
	_, r, err := y.e.peek(ctx, l)
	if err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(y.e.repos.Bundle(ctx, r.Project, r.Commit, max(0, depth), pw)) }()
	return pr, nil
}

// Finish takes the result, frees the runner and enqueues collect.
func (y yard) Finish(ctx context.Context, l sallyport.LeaseRef, r sallyport.JobResult) error {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return err
	}
	leased, run, err := y.e.peek(ctx, l)
	if err != nil {
		return err
	}
	record, err := y.e.keepTrace(ctx, leased, run.Project, r.Trace)
	if err != nil {
		return err
	}
	return y.e.holding(ctx, l, func(c *change, w sallyport.Work, j sallyport.Job) error {
		steps, err := boundSteps(r.Steps)
		if err != nil {
			return err
		}
		if err := c.reportJob(j, steps, r.Isolation); err != nil {
			return err
		}
		j.Trace = record
		j.Outputs = boundOutputs(r.Outputs)
		j.Tainted = slices.DeleteFunc(slices.Clone(r.Tainted), func(name string) bool { _, ok := j.Outputs[name]; return !ok })
		j.Cause = clip(r.Cause, 1000)
		if j.Environment != nil {
			j.Environment.URL = environmentURL(r.EnvironmentURL)
		}
		switch r.Conclusion {
		case sallyport.Success, sallyport.Failure, sallyport.Cancelled:
			j.Conclusion = r.Conclusion
		default: // an unknown word is not a success
			j.Conclusion, j.Cause = sallyport.Failure, fmt.Sprintf("the runner reported the unknown conclusion %.40q", r.Conclusion)
		}
		if err := transit(&j.Status, sallyport.StatusCollecting); err != nil {
			return err
		}
		if err := c.Jobs().Save(j); err != nil {
			return err
		}
		if err := c.record("job.finished", "job/"+string(j.ID), map[string]any{"run": j.Run, "conclusion": j.Conclusion, "log_bytes": r.LogEnd}); err != nil {
			return err
		}
		if err := c.Work().Done(w.ID, w.Token); err != nil {
			return err
		}
		c.Touch(topicRun(j.Run))
		c.Touch(topicLog(j.ID)) // when it is committed
		return c.enqueue(sallyport.QueueCollect, string(j.ID), nil, c.now, stageAttempts)
	})
}

// boundSteps checks what a job says of its steps.
func boundSteps(steps []sallyport.Step) ([]sallyport.Step, error) {
	if len(steps) > maxSteps {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "a job reports more than %d steps", maxSteps)
	}
	out := slices.Clone(steps)
	for i := range out {
		s := &out[i]
		s.Name, s.Cause, s.ID = text(s.Name, 500), text(s.Cause, 1000), text(s.ID, 200)
		s.Summary = text(s.Summary, 1<<20)
		s.Annotations = slices.Clone(s.Annotations[:min(len(s.Annotations), 50)])
		for k := range s.Annotations {
			a := &s.Annotations[k]
			a.Message, a.Title, a.File = text(a.Message, 4096), text(a.Title, 500), text(a.File, 1000)
		}
	}
	return out, nil
}

func text(s string, n int) string {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	return clip(s, n)
}

// boundOutputs keeps outputs up to GitHub's bound, in a fixed order.
func boundOutputs(out map[string]string) map[string]string {
	names := make([]string, 0, len(out))
	for n := range out {
		names = append(names, n)
	}
	slices.Sort(names)
	kept, total := make(map[string]string), 0
	for _, n := range names {
		if total += len(n) + len(out[n]); total > maxOutputs {
			break
		}
		kept[n] = text(out[n], maxOutputs)
	}
	return kept
}
