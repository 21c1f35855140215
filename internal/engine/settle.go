package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// settlement is the thinking about one run inside one transaction: which jobs
// are set free, which are skipped, whether the run is over. It is called after
// every change of a job or of the run's Cancel, and is idempotent: what is
// settled stays.
type settlement struct {
	c     *change
	e     *Engine
	p     sallyport.Project
	push  sallyport.Push
	run   sallyport.Run
	plan  *sallyport.Plan
	cells map[string][]*sallyport.Job // by key, in order of index
	// others are runs that may go on because a job of this one let go of a group.
	others []sallyport.RunID
}

// settle moves everything of the run that can move. Runs that waited for
// something this one let go are settled too.
func (e *Engine) settle(c *change, id sallyport.RunID) error {
	s, err := e.loadSettlement(c, id)
	if err != nil {
		return err
	}
	return e.settleFrom(s)
}

// settleFrom is settle for a run that is loaded.
func (e *Engine) settleFrom(s *settlement) error {
	var todo []sallyport.RunID
	for n := 0; n < 1000; n++ {
		if s.run.Status != sallyport.StatusCompleted && (s.run.Status != sallyport.StatusWaiting || s.run.Cancel != "") {
			if err := s.settle(); err != nil {
				return err
			}
			for _, o := range s.others {
				if !slices.Contains(todo, o) {
					todo = append(todo, o)
				}
			}
		}
		if len(todo) == 0 {
			return nil
		}
		var err error
		if s, err = e.loadSettlement(s.c, todo[0]); err != nil {
			return err
		}
		todo = todo[1:]
	}
	return nil
}

func (e *Engine) loadSettlement(c *change, id sallyport.RunID) (*settlement, error) {
	s := &settlement{c: c, e: e, cells: make(map[string][]*sallyport.Job)}
	var err error
	if s.run, err = c.Runs().Get(id); err != nil {
		return nil, err
	}
	if s.p, err = c.Projects().Get(s.run.Project); err != nil {
		return nil, err
	}
	if s.push, err = c.Pushes().Get(s.run.Push); err != nil {
		return nil, err
	}
	encoded, err := c.Runs().Plan(id)
	if err != nil {
		return nil, err
	}
	if s.plan, err = decodePlan(encoded); err != nil {
		return nil, err
	}
	jobs, err := c.Jobs().ByRun(id)
	if err != nil {
		return nil, err
	}
	for i := range jobs {
		s.cells[jobs[i].Key] = append(s.cells[jobs[i].Key], &jobs[i])
	}
	return s, nil
}

func (s *settlement) settle() error {
	for i := range s.plan.Jobs { // needs stand before their users
		j := &s.plan.Jobs[i]
		if err := s.expand(j); err != nil {
			return err
		}
		if err := s.failFast(j); err != nil {
			return err
		}
		if err := s.release(j); err != nil {
			return err
		}
	}
	return s.conclude()
}

func done(cells []*sallyport.Job) bool {
	for _, c := range cells {
		if c.Status != sallyport.StatusCompleted {
			return false
		}
	}
	return true
}

// status is what the status functions see in a job: success means that every
// job it depends on, however far, succeeded; failure that one of them failed.
func (s *settlement) status(j *sallyport.PlanJob) workflow.Status {
	st := workflow.Status{Success: s.run.Cancel == "", Cancelled: s.run.Cancel != ""}
	seen := make(map[string]bool)
	todo := slices.Clone(j.Needs)
	for len(todo) > 0 {
		key := todo[0]
		todo = todo[1:]
		if seen[key] {
			continue
		}
		seen[key] = true
		switch result(s.cells[key]) {
		case sallyport.Success:
		case sallyport.Failure:
			st.Success, st.Failure = false, true
		default:
			st.Success = false
		}
		if need := s.plan.Job(key); need != nil {
			todo = append(todo, need.Needs...)
		}
	}
	return st
}

func (s *settlement) scope(j *sallyport.PlanJob) (*workflow.Scope, error) {
	contexts := s.e.runContexts(s.p, s.push, s.run, s.plan)
	contexts["needs"] = needsContext(j, s.cells)
	scope, err := workflow.NewScope(contexts)
	if err != nil {
		return nil, err
	}
	for _, path := range taintedNeeds(j, s.cells) {
		scope.Taint(path...)
	}
	scope.SetStatus(s.status(j))
	return scope, nil
}

// expand evaluates a job whose needs are complete: it is skipped, or its cells become jobs.
func (s *settlement) expand(j *sallyport.PlanJob) error {
	cells := s.cells[j.Key]
	if len(cells) != 1 || cells[0].Expanded || cells[0].Status == sallyport.StatusCompleted {
		return nil
	}
	for _, need := range j.Needs {
		if !done(s.cells[need]) {
			return nil
		}
	}
	first := cells[0]
	scope, err := s.scope(j)
	if err != nil {
		return err
	}
	x, err := workflow.Expand(s.plan, j, scope)
	switch {
	case err != nil:
		return s.complete(first, sallyport.Failure, clip(err.Error(), 1000))
	case !x.Run && s.run.Cancel != "":
		return s.complete(first, sallyport.Cancelled, s.run.Cancel)
	case !x.Run:
		return s.complete(first, sallyport.Skipped, "its condition was false")
	case len(x.Cells) == 0:
		return s.complete(first, sallyport.Skipped, "its matrix has no cells")
	}
	for i, cell := range x.Cells {
		job := first
		if i > 0 {
			job = &sallyport.Job{ID: newID[sallyport.JobID](s.c), Run: s.run.ID, Key: j.Key, Index: cell.Index,
				Needs: j.Needs, Status: sallyport.StatusWaiting, CreatedAt: s.c.now}
		}
		job.Name, job.Matrix, job.Labels, job.Tolerated = cell.Name, cell.Matrix, cell.Labels, cell.Tolerated
		job.Group, job.Expanded = strings.ToLower(cell.Group), true
		if i > 0 {
			if err := s.c.Jobs().Insert(*job); err != nil {
				return err
			}
			s.cells[j.Key] = append(s.cells[j.Key], job)
		} else if err := s.c.Jobs().Save(*job); err != nil {
			return err
		}
		if job.Group != "" {
			if err := s.enterJobGroup(job, cell.CancelInProgress); err != nil {
				return err
			}
		}
	}
	return nil
}

// cancelJob ends a job that no runner has, and asks the runner of one that is in progress.
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

// failFast cancels the other cells of a matrix in which one failed.
func (s *settlement) failFast(j *sallyport.PlanJob) error {
	cells := s.cells[j.Key]
	if len(cells) < 2 || done(cells) {
		return nil
	}
	failed := slices.ContainsFunc(cells, func(c *sallyport.Job) bool {
		return c.Conclusion == sallyport.Failure && !c.Tolerated
	})
	if !failed {
		return nil
	}
	scope, err := s.scope(j)
	if err != nil {
		return err
	}
	if on, err := scope.Bool(j.Strategy.FailFast, true); err != nil || !on {
		return nil // an expression that fails now was refused when the job was expanded
	}
	for _, c := range cells {
		if err := s.cancelJob(c, "another cell of its matrix failed (fail-fast)"); err != nil {
			return err
		}
	}
	return nil
}

// release queues the expanded jobs that max-parallel and their concurrency group allow.
func (s *settlement) release(j *sallyport.PlanJob) error {
	cells := s.cells[j.Key]
	if len(cells) == 0 || !cells[0].Expanded {
		return nil
	}
	if s.run.Cancel != "" {
		return s.releaseCancelled(j)
	}
	limit, active := len(cells), 0
	if !j.Strategy.MaxParallel.IsZero() {
		scope, err := s.scope(j)
		if err != nil {
			return err
		}
		if n, err := scope.Number(j.Strategy.MaxParallel, float64(limit)); err == nil && n >= 1 {
			limit = int(min(n, float64(limit)))
		}
	}
	for _, c := range cells {
		if c.Status == sallyport.StatusQueued || c.Status == sallyport.StatusInProgress {
			active++
		}
	}
	for _, c := range cells {
		if c.Status != sallyport.StatusWaiting || active >= limit {
			continue
		}
		free, err := s.groupFree(c)
		if err != nil {
			return err
		}
		if !free {
			continue
		}
		active++
		if err := s.queue(c); err != nil {
			return err
		}
	}
	return nil
}

// releaseCancelled deals with a cancelled run: jobs whose condition said that
// they run nevertheless (always(), cancelled()) are queued, cells that were
// expanded before the cancellation end.
func (s *settlement) releaseCancelled(j *sallyport.PlanJob) error {
	for _, c := range s.cells[j.Key] {
		if c.Status != sallyport.StatusWaiting {
			continue
		}
		scope, err := s.scope(j)
		if err != nil {
			return err
		}
		if run, err := scope.Condition(j.If); err == nil && run {
			if err := s.queue(c); err != nil {
				return err
			}
			continue
		}
		if err := s.complete(c, sallyport.Cancelled, s.run.Cancel); err != nil {
			return err
		}
	}
	return nil
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

// complete ends a job that is not with a runner.
func (s *settlement) complete(j *sallyport.Job, how sallyport.Conclusion, why string) error {
	if err := s.c.Work().Drop(sallyport.QueueRunner, string(j.ID)); err != nil {
		return err
	}
	if err := s.c.completeJob(j, how, why); err != nil {
		return err
	}
	return s.leaveJobGroup(j)
}

func (c *change) completeJob(j *sallyport.Job, how sallyport.Conclusion, why string) error {
	if err := transit(&j.Status, sallyport.StatusCompleted); err != nil {
		return err
	}
	j.Conclusion, j.FinishedAt = how, c.now
	if why != "" && j.Cause == "" && how != sallyport.Success {
		j.Cause = why
	}
	if err := c.Jobs().Save(*j); err != nil {
		return err
	}
	c.Touch(topicRun(j.Run))
	c.Touch(topicLog(j.ID))
	return c.record("job.completed", "job/"+string(j.ID), map[string]any{"run": j.Run, "name": j.Key, "conclusion": how, "attempt": j.Attempt})
}

// conclude completes the run when all its jobs are, and else keeps its status true.
func (s *settlement) conclude() error {
	var all []*sallyport.Job
	started := false
	for _, j := range s.plan.Jobs {
		all = append(all, s.cells[j.Key]...)
	}
	for _, j := range all {
		started = started || !j.StartedAt.IsZero()
		if j.Group != "" && j.Status == sallyport.StatusCompleted {
			if err := s.leaveJobGroup(j); err != nil {
				return err
			}
		}
	}
	s.c.Touch(topicRun(s.run.ID))
	if !done(all) {
		if started && s.run.Status.CanBecome(sallyport.StatusInProgress) {
			s.run.Status, s.run.StartedAt = sallyport.StatusInProgress, s.c.now
			return s.c.Runs().Save(s.run)
		}
		return nil
	}
	how, why := conclusion(s.run, all)
	if err := s.c.completeRun(&s.run, how, why); err != nil {
		return err
	}
	if err := s.e.afterRun(s.c, s.p, s.run); err != nil {
		return err
	}
	return s.leaveGroup()
}

func (c *change) completeRun(r *sallyport.Run, how sallyport.Conclusion, why string) error {
	if err := transit(&r.Status, sallyport.StatusCompleted); err != nil {
		return err
	}
	r.Conclusion, r.Cause, r.FinishedAt = how, why, c.now
	if r.StartedAt.IsZero() {
		r.StartedAt = c.now
	}
	if err := c.Runs().Save(*r); err != nil {
		return err
	}
	c.Touch(topicRun(r.ID))
	return c.record("run.completed", "run/"+string(r.ID), map[string]any{"number": r.Number, "conclusion": how})
}

// conclusion of a run whose jobs are all completed, and the cause of one that did not succeed.
func conclusion(r sallyport.Run, jobs []*sallyport.Job) (sallyport.Conclusion, string) {
	how, why := sallyport.Success, ""
	for _, j := range jobs {
		switch {
		case j.Conclusion == sallyport.Failure && !j.Tolerated:
			if how != sallyport.Failure {
				how, why = sallyport.Failure, clip(fmt.Sprintf("job %s failed: %s", j.Name, orUnknown(j.Cause)), 1000)
			}
		case j.Conclusion == sallyport.Cancelled && how == sallyport.Success:
			how, why = sallyport.Cancelled, orUnknown(j.Cause)
		}
	}
	if r.Cancel != "" && how != sallyport.Failure {
		return sallyport.Cancelled, r.Cancel
	}
	return how, why
}

func orUnknown(s string) string {
	if s == "" {
		return "no cause was reported"
	}
	return s
}

// cancelRun asks every job of the run to stop, and ends those no runner has.
func (e *Engine) cancelRun(c *change, id sallyport.RunID, why string) error {
	r, err := c.Runs().Get(id)
	if err != nil {
		return err
	}
	if r.Status == sallyport.StatusCompleted || r.Cancel != "" {
		return nil
	}
	r.Cancel = why
	if err := c.Runs().Save(r); err != nil {
		return err
	}
	if err := c.record("run.cancelling", "run/"+string(id), map[string]string{"why": why}); err != nil {
		return err
	}
	s, err := e.loadSettlement(c, id)
	if err != nil {
		return err
	}
	for _, cells := range s.cells {
		for _, j := range cells {
			if j.Expanded {
				if err := s.cancelJob(j, why); err != nil {
					return err
				}
			}
		}
	}
	return e.settle(c, id)
}

// transit moves a status along its state machine.
func transit(s *sallyport.Status, next sallyport.Status) error {
	if !s.CanBecome(next) {
		return sallyport.Errorf(sallyport.CodeConflict, "a %q thing cannot become %q", *s, next)
	}
	*s = next
	return nil
}
