package engine

import (
	"fmt"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// Concurrency groups: of runs, by the workflow's setting, and of jobs. At most
// one member of a group is in progress and one waits; the newest waiter stays.

// enterGroup places a new run in the workflow's concurrency group: it waits
// while another one is in progress, and replaces the one that waited before.
func (e *Engine) enterGroup(c *change, scope *workflow.Scope, r *sallyport.Run, plan *sallyport.Plan) error {
	if plan.Concurrency == nil {
		return nil
	}
	group, cancel, err := scope.Concurrency(plan.Concurrency)
	if err != nil {
		return err
	}
	r.Group, r.CancelInProgress = strings.ToLower(clip(group, maxSummary)), cancel
	if r.Group == "" {
		return nil
	}
	others, err := c.Runs().InGroup(r.Project, r.Group)
	if err != nil {
		return err
	}
	why := fmt.Sprintf("run #%d of concurrency group %s came after it", r.Number, r.Group)
	for _, o := range others {
		waiting := o.Status == sallyport.StatusWaiting && plan.Concurrency.Queue != "max"
		if !waiting && !cancel {
			r.Status = sallyport.StatusWaiting
			continue
		}
		if err := e.cancelRun(c, o.ID, why); err != nil {
			return err
		}
		after, err := c.Runs().Get(o.ID)
		if err != nil {
			return err
		}
		if after.Status != sallyport.StatusCompleted {
			r.Status = sallyport.StatusWaiting
		}
	}
	return nil
}

// leaveGroup starts the oldest run that waited for this one.
func (s *settlement) leaveGroup() error {
	if s.run.Group == "" {
		return nil
	}
	others, err := s.c.Runs().InGroup(s.p.ID, s.run.Group)
	if err != nil || len(others) == 0 {
		return err
	}
	for _, o := range others {
		if o.Status != sallyport.StatusWaiting {
			return nil // one is in progress
		}
	}
	next := others[0]
	next.Status = sallyport.StatusQueued
	if err := s.c.Runs().Save(next); err != nil {
		return err
	}
	s.others = append(s.others, next.ID)
	return s.c.record("run.released", "run/"+string(next.ID), map[string]string{"group": next.Group})
}

// enterJobGroup makes room in a job's concurrency group: the newest waiting
// job stays, the one in progress goes on unless it is to be cancelled.
func (s *settlement) enterJobGroup(job *sallyport.Job, cancelInProgress bool) error {
	others, err := s.c.Jobs().InGroup(s.p.ID, job.Group)
	if err != nil {
		return err
	}
	why := "another job of concurrency group " + job.Group + " came after it"
	for _, o := range others {
		if o.ID == job.ID || !o.Expanded {
			continue
		}
		switch {
		case o.Status == sallyport.StatusWaiting:
			if err := s.cancelOther(o, why); err != nil {
				return err
			}
		case cancelInProgress:
			if err := s.cancelOther(o, why); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *settlement) groupFree(j *sallyport.Job) (bool, error) {
	if j.Group == "" {
		return true, nil
	}
	others, err := s.c.Jobs().InGroup(s.p.ID, j.Group)
	if err != nil {
		return false, err
	}
	for _, o := range others {
		if o.ID != j.ID && o.Status != sallyport.StatusWaiting && o.Status != sallyport.StatusCompleted {
			return false, nil
		}
	}
	return true, nil
}

// leaveJobGroup lets the runs go on whose jobs waited for this one.
func (s *settlement) leaveJobGroup(j *sallyport.Job) error {
	if j.Group == "" {
		return nil
	}
	others, err := s.c.Jobs().InGroup(s.p.ID, j.Group)
	if err != nil {
		return err
	}
	for _, o := range others {
		s.others = append(s.others, o.Run)
	}
	return nil
}

// cancelOther cancels a job, of this run or another.
func (s *settlement) cancelOther(o sallyport.Job, why string) error {
	target := &o
	if o.Run == s.run.ID {
		for _, c := range s.cells[o.Key] {
			if c.ID == o.ID {
				target = c
			}
		}
	} else {
		s.others = append(s.others, o.Run)
	}
	return s.cancelJob(target, why)
}
