package engine

import (
	"fmt"

	"github.com/sallyport-ci/sallyport"
)

// The way of a job within its workflow: it waits for what it needs, is expanded
// into its cells, each is let through by max-parallel and lines up in its
// concurrency groups, and then goes to a runner or calls its workflow.

// maxRunJobs bounds the jobs of one run, those of the workflows it calls
// included: a matrix that calls a matrix multiplies.
const maxRunJobs = 2000

// settle moves everything of the frame that can move.
func (f *frame) settle() error {
	for i := range f.jobs { // needs stand before their users
		if err := f.settleJob(&f.jobs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (f *frame) settleJob(j *sallyport.PlanJob) error {
	if done(f.cells[j.Key]) {
		return nil
	}
	if err := f.expand(j); err != nil {
		return err
	}
	if cells := f.cells[j.Key]; len(cells) == 0 || !cells[0].Expanded {
		return nil
	}
	for {
		for _, part := range []func(*sallyport.PlanJob) error{f.stop, f.failFast, f.release} {
			if err := part(j); err != nil {
				return err
			}
		}
		if ended, err := f.settleCalls(j); err != nil || !ended {
			return err
		}
	}
}

// expand evaluates a job whose needs are complete: it is skipped, or its cells become jobs.
func (f *frame) expand(j *sallyport.PlanJob) error {
	cells := f.cells[j.Key]
	if len(cells) != 1 || cells[0].Expanded || cells[0].Status == sallyport.StatusCompleted {
		return nil
	}
	for _, need := range j.Needs {
		if !done(f.cells[need]) {
			return nil
		}
	}
	first := cells[0]
	x, err := f.judge(j)
	switch {
	case err != nil:
		return f.s.complete(first, sallyport.Failure, clip(err.Error(), 1000))
	case !x.Run && f.cancelled() != "":
		return f.s.complete(first, sallyport.Cancelled, f.cancelled())
	case !x.Run:
		return f.s.complete(first, sallyport.Skipped, "its condition was false")
	case len(x.Cells) == 0:
		return f.s.complete(first, sallyport.Skipped, "its matrix has no cells")
	case len(f.s.jobs)+len(x.Cells)-1 > maxRunJobs:
		return f.s.complete(first, sallyport.Failure, tooMany)
	}
	for i, cell := range x.Cells {
		job := *first
		if i > 0 {
			job = sallyport.Job{ID: newID[sallyport.JobID](f.s.c), Run: first.Run, Parent: first.Parent, Key: first.Key, Index: cell.Index,
				Needs: first.Needs, Uses: first.Uses, Status: sallyport.StatusWaiting, CreatedAt: f.s.c.now}
		}
		job.Name, job.Matrix, job.Labels, job.Tolerated, job.Expanded = f.name(cell.Name), cell.Matrix, cell.Labels, cell.Tolerated, true
		if j.Call == nil {
			if job.Labels, err = f.s.e.strangersLabels(f.s.run.Tier, job.Labels); err != nil {
				return f.s.complete(first, sallyport.Failure, clip(err.Error(), 1000)) // of the first cell: none was made
			}
		}
		if job.Environment, err = f.environment(j, cell); err == nil && cell.Steered {
			err = f.steered("runner", j.RunsOn.Pos)
		}
		if err != nil {
			return f.s.complete(first, sallyport.Failure, clip(err.Error(), 1000)) // of the first cell: none was made
		}
		if i > 0 {
			err = f.insert(j, &job)
		} else {
			*first = job
			err = f.s.c.Jobs().Save(job)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var tooMany = fmt.Sprintf("the run has more than %d jobs: make its matrices smaller", maxRunJobs)

// stop ends the jobs of a workflow that was cancelled, unless their condition
// holds also now, as always() and cancelled() do.
func (f *frame) stop(j *sallyport.PlanJob) error {
	why := f.cancelled()
	if why == "" {
		return nil
	}
	scope, err := f.scope(j)
	if err != nil {
		return err
	}
	if run, err := scope.Condition(j.If); err == nil && run {
		return nil
	}
	for _, c := range f.cells[j.Key] {
		if err := f.s.cancelJob(c, why); err != nil {
			return err
		}
	}
	return nil
}

// failFast cancels the other cells of a matrix in which one failed.
func (f *frame) failFast(j *sallyport.PlanJob) error {
	cells := f.cells[j.Key]
	failed := false
	for _, c := range cells {
		failed = failed || c.Conclusion == sallyport.Failure && !c.Tolerated
	}
	if !failed || done(cells) {
		return nil
	}
	scope, err := f.scope(j)
	if err != nil {
		return err
	}
	if on, err := scope.Bool(j.Strategy.FailFast, true); err != nil || !on {
		return nil // an expression that fails now was refused when the job was expanded
	}
	for _, c := range cells {
		if err := f.s.cancelJob(c, "another cell of its matrix failed (fail-fast)"); err != nil {
			return err
		}
	}
	return nil
}

// release lets cells through as far as max-parallel allows, and starts those that
// have their place in their concurrency groups.
func (f *frame) release(j *sallyport.PlanJob) error {
	cells := f.cells[j.Key]
	limit, active, waiting := len(cells), 0, false
	for _, c := range cells {
		waiting = waiting || c.Status == sallyport.StatusWaiting
		if !c.ReadyAt.IsZero() && c.Status != sallyport.StatusCompleted {
			active++
		}
	}
	if !waiting {
		return nil
	}
	if x, err := f.expansion(j); err == nil && x.MaxParallel > 0 { // an error now was one when it was expanded
		limit = x.MaxParallel
	}
	for _, c := range cells {
		if c.Status != sallyport.StatusWaiting {
			continue
		}
		if c.ReadyAt.IsZero() {
			if active >= limit {
				continue
			}
			if err := f.lineUp(j, c); err != nil {
				return err
			}
			if c.Status == sallyport.StatusCompleted {
				continue // refused
			}
			active++
		}
		if err := f.start(j, c); err != nil {
			return err
		}
	}
	return nil
}

// lineUp makes a cell ready: what it hands to a workflow it calls is settled, and
// it stands in its concurrency groups from now on.
func (f *frame) lineUp(j *sallyport.PlanJob, job *sallyport.Job) error {
	cell, err := f.cell(j, job)
	if err == nil {
		err = f.refusal(job)
	}
	if err == nil && j.Call != nil {
		err = f.handOver(j, job, cell)
	}
	if err != nil {
		return f.s.complete(job, sallyport.Failure, clip(err.Error(), 1000))
	}
	job.ReadyAt = f.s.c.now
	return f.enterGroups(j, job, cell)
}

// start sends a ready cell on its way once it has its place in its groups.
func (f *frame) start(j *sallyport.PlanJob, job *sallyport.Job) error {
	if !job.Admitted {
		free, err := f.s.free(job)
		if err != nil || !free {
			return err
		}
		job.Admitted, job.Cause = true, ""
	}
	if enters, err := f.admission(job); err != nil || !enters {
		return err
	}
	job.Cause = ""
	if j.Call != nil {
		return f.begin(j, job)
	}
	return f.s.queue(job)
}

func (s *settlement) queue(j *sallyport.Job) error {
	if err := transit(&j.Status, sallyport.StatusQueued); err != nil {
		return err
	}
	if err := s.c.Jobs().Save(*j); err != nil {
		return err
	}
	if err := s.c.record("job.queued", "job/"+string(j.ID), map[string]any{"run": s.run.ID, "name": j.Key, "labels": j.Labels}); err != nil {
		return err
	}
	return s.c.enqueue(sallyport.QueueRunner, string(j.ID), j.Labels, s.c.now, maxJobAttempts)
}

// cancelJob ends a job that no runner has, and asks the runner of one that is in
// progress; a call stops by what its jobs do.
func (s *settlement) cancelJob(j *sallyport.Job, why string) error {
	switch j.Status {
	case sallyport.StatusWaiting, sallyport.StatusQueued:
		return s.complete(j, sallyport.Cancelled, why)
	case sallyport.StatusInProgress:
		if j.Cancel != "" {
			return nil
		}
		j.Cancel = why
		if err := s.c.Jobs().Save(*j); err != nil {
			return err
		}
		s.c.Touch(topicRun(j.Run))
		return s.c.record("job.cancelling", "job/"+string(j.ID), map[string]string{"why": why})
	default:
		return nil
	}
}

// complete ends a job that is not with a runner.
func (s *settlement) complete(j *sallyport.Job, how sallyport.Conclusion, why string) error {
	if j.Uses == "" {
		if err := s.c.Work().Drop(sallyport.QueueRunner, string(j.ID)); err != nil {
			return err
		}
	}
	if err := s.c.completeJob(j, how, why); err != nil {
		return err
	}
	return s.leftBy(j)
}

// jobEnded completes a job that a runner had, and settles what that sets free.
func (e *Engine) jobEnded(c *change, j *sallyport.Job, how sallyport.Conclusion, why string) error {
	if err := c.completeJob(j, how, why); err != nil {
		return err
	}
	s, err := e.loadSettlement(c, j.Run)
	if err != nil {
		return err
	}
	if err := s.leftBy(j); err != nil {
		return err
	}
	return e.settleFrom(s)
}

func (c *change) completeJob(j *sallyport.Job, how sallyport.Conclusion, why string) error {
	if err := transit(&j.Status, sallyport.StatusCompleted); err != nil {
		return err
	}
	j.Conclusion, j.FinishedAt = how, c.now
	if why != "" && how != sallyport.Success {
		j.Cause = why
	}
	if err := c.Jobs().Save(*j); err != nil {
		return err
	}
	c.Touch(topicRun(j.Run))
	c.Touch(topicLog(j.ID))
	return c.record("job.completed", "job/"+string(j.ID), map[string]any{"run": j.Run, "name": j.Key, "conclusion": how, "attempt": j.Attempt})
}
