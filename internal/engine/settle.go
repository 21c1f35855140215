package engine

import (
	"fmt"
	"slices"

	"github.com/sallyport-ci/sallyport"
)

// settlement is the thinking about one run inside one transaction: which jobs
// are set free, which are skipped, whether the run is over. It is called after
// every change of a job or of the run's Cancel, and is idempotent: what is
// settled stays. The run's workflow and those it calls are frames (frame.go),
// settled in the same way, each inside the job that calls it.
type settlement struct {
	c      *change
	e      *Engine
	p      sallyport.Project
	push   sallyport.Push
	run    sallyport.Run
	plan   *sallyport.Plan
	jobs   map[sallyport.JobID]*sallyport.Job
	below  map[sallyport.JobID][]*sallyport.Job // the jobs of a called workflow, by the cell that calls it; "": the run's own
	frames map[sallyport.JobID]*frame           // by the same
	// others are runs that may go on because this one let go of a group, or must
	// stop because it needs one.
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

// maxSettled bounds how many runs one change can set in motion: each settles
// once for each thing that lets it go on.
const maxSettled = 1000

// settleFrom is settle for a run that is loaded.
func (e *Engine) settleFrom(s *settlement) error {
	var todo []sallyport.RunID
	for range maxSettled {
		if err := s.settle(); err != nil {
			return err
		}
		for _, o := range s.others {
			if !slices.Contains(todo, o) {
				todo = append(todo, o)
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
	s := &settlement{c: c, e: e, jobs: make(map[sallyport.JobID]*sallyport.Job),
		below: make(map[sallyport.JobID][]*sallyport.Job), frames: make(map[sallyport.JobID]*frame)}
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
	jobs, err := c.Jobs().Outline(id)
	if err != nil {
		return nil, err
	}
	for i := range jobs {
		s.keep(&jobs[i])
	}
	return s, nil
}

// keep makes a job known to the settlement, before its frame is opened.
func (s *settlement) keep(j *sallyport.Job) {
	s.jobs[j.ID] = j
	s.below[j.Parent] = append(s.below[j.Parent], j)
}

func (s *settlement) settle() error {
	switch {
	case s.run.Status == sallyport.StatusCompleted:
		return nil
	case s.run.Status == sallyport.StatusWaiting && s.run.Cancel != "":
		if err := s.abandon(s.run.Cancel); err != nil { // it never began, so that nothing of it must be tidied up
			return err
		}
	case s.run.Status == sallyport.StatusWaiting:
		if free, err := s.admitRun(); err != nil || !free {
			return err
		}
	}
	f, err := s.root()
	if err != nil {
		return err
	}
	if err := f.settle(); err != nil {
		return err
	}
	return s.conclude(f)
}

// abandon ends every job that no runner has and asks the runners of the others,
// whatever the jobs' conditions say.
func (s *settlement) abandon(why string) error {
	for _, j := range s.jobs {
		if err := s.cancelJob(j, why); err != nil {
			return err
		}
	}
	return nil
}

// conclude completes the run when all its jobs are, and else keeps its status true.
func (s *settlement) conclude(f *frame) error {
	all := f.all()
	s.c.Touch(topicRun(s.run.ID))
	if !done(all) {
		started := slices.ContainsFunc(all, func(j *sallyport.Job) bool { return !j.StartedAt.IsZero() })
		if started && s.run.Status.CanBecome(sallyport.StatusInProgress) {
			s.run.Status, s.run.StartedAt = sallyport.StatusInProgress, s.c.now
			return s.c.Runs().Save(s.run)
		}
		return nil
	}
	how, why := conclusion(all)
	if s.run.Cancel != "" && how != sallyport.Failure {
		how, why = sallyport.Cancelled, s.run.Cancel
	}
	if err := s.c.completeRun(&s.run, how, why); err != nil {
		return err
	}
	if s.plan.Rules != nil {
		for _, r := range s.plan.Rules.Environments {
			if !r.Holds() {
				continue
			}
			if err := s.c.withdraw(entrySubject(s.run.ID, r.Name), sallyport.RequestWithdrawn, "the run is over"); err != nil {
				return err
			}
		}
	}
	if err := s.e.afterRun(s.c, s.p, s.run); err != nil {
		return err
	}
	return s.left(s.run.Group)
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

// conclusion of a workflow whose jobs are all completed, and the cause of one
// that did not succeed. One whose jobs were all skipped is skipped.
func conclusion(jobs []*sallyport.Job) (sallyport.Conclusion, string) {
	how := result(jobs)
	for _, j := range jobs {
		if j.Conclusion != how || how == sallyport.Failure && j.Tolerated {
			continue
		}
		switch {
		case how == sallyport.Cancelled, how == sallyport.Failure && j.Uses != "" && j.Cause != "": // it names the job itself
			return how, orUnknown(j.Cause)
		case how == sallyport.Failure:
			return how, clip(fmt.Sprintf("job %s failed: %s", j.Name, orUnknown(j.Cause)), 1000)
		}
	}
	return how, ""
}

func orUnknown(s string) string {
	if s == "" {
		return "no cause was reported"
	}
	return s
}

// cancelRun asks the run to stop: jobs end unless their condition holds also now.
func (e *Engine) cancelRun(c *change, id sallyport.RunID, why string) error {
	if err := c.markCancelled(id, why); err != nil {
		return err
	}
	return e.settle(c, id)
}

// markCancelled says why the run must stop, once. It must be settled then.
func (c *change) markCancelled(id sallyport.RunID, why string) error {
	r, err := c.Runs().Get(id)
	if err != nil || r.Status == sallyport.StatusCompleted || r.Cancel != "" {
		return err
	}
	r.Cancel = why
	if err := c.Runs().Save(r); err != nil {
		return err
	}
	return c.record("run.cancelling", "run/"+string(id), map[string]string{"why": why})
}

// forceCancel ends a run that was cancelled and goes on because conditions such as
// always() hold: every job stops.
func (e *Engine) forceCancel(c *change, id sallyport.RunID, why string) error {
	s, err := e.loadSettlement(c, id)
	if err != nil {
		return err
	}
	if err := c.record("run.forced", "run/"+string(id), map[string]string{"why": why}); err != nil {
		return err
	}
	if err := s.abandon(why); err != nil {
		return err
	}
	return e.settleFrom(s)
}

// transit moves a status along its state machine.
func transit(s *sallyport.Status, next sallyport.Status) error {
	if !s.CanBecome(next) {
		return sallyport.Errorf(sallyport.CodeConflict, "a %q thing cannot become %q", *s, next)
	}
	*s = next
	return nil
}
