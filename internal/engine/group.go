package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// Concurrency groups. Runs, jobs and calls of a project share one space of names, in
// which case does not matter. One member of a group is on its way; the others
// line up: with the default queue the newest alone, which drops the one before it,
// with queue: max up to maxPending of them, in the order in which they came.

// maxPending is GitHub's bound of a group with queue: max.
const maxPending = 100

func groupName(s string) string { return strings.ToLower(clip(s, maxSummary)) }

// member is a run, or a job of one, in a concurrency group.
type member struct {
	run   sallyport.RunID
	job   sallyport.JobID // "" of the run itself
	name  string
	since time.Time
	holds bool // is on its way; else it lines up
}

// members returns a group's members in the order in which they came.
func (c *change) members(p sallyport.ProjectID, group string) ([]member, error) {
	runs, err := c.Runs().InGroup(p, group)
	if err != nil {
		return nil, err
	}
	jobs, err := c.Jobs().InGroup(p, group)
	if err != nil {
		return nil, err
	}
	var out []member
	for _, r := range runs {
		out = append(out, member{run: r.ID, name: fmt.Sprintf("run #%d", r.Number), since: r.CreatedAt, holds: r.Status != sallyport.StatusWaiting})
	}
	for _, j := range jobs {
		if !j.ReadyAt.IsZero() {
			out = append(out, member{run: j.Run, job: j.ID, name: "job " + j.Name, since: j.ReadyAt, holds: j.Admitted})
		}
	}
	slices.SortStableFunc(out, func(a, b member) int { return a.since.Compare(b.since) })
	return out, nil
}

// enter makes room in a group for self, who is new in it: it cancels who must give way.
// It returns why self may not even line up, "" if it may.
func (s *settlement) enter(group string, self member, set workflow.Concurrency) (string, error) {
	members, err := s.c.members(s.p.ID, group)
	if err != nil {
		return "", err
	}
	pending := 0
	why := fmt.Sprintf("%s of concurrency group %s came after it", self.name, group)
	for _, m := range members {
		if m.run == self.run && m.job == self.job {
			continue
		}
		if !m.holds {
			pending++
		}
		if m.holds && set.CancelInProgress || !m.holds && set.Queue != "max" {
			if err := s.giveWay(m, why); err != nil {
				return "", err
			}
		}
	}
	if set.Queue == "max" && pending >= maxPending {
		return fmt.Sprintf("%d wait in concurrency group %s already, and there is no place for more", pending, group), nil
	}
	return "", nil
}

// giveWay cancels a member of a group, of this run or another.
func (s *settlement) giveWay(m member, why string) error {
	if m.run != s.run.ID {
		s.others = append(s.others, m.run)
	}
	if m.job == "" {
		return s.c.markCancelled(m.run, why)
	}
	if j := s.jobs[m.job]; j != nil {
		s.others = append(s.others, m.run) // what was settled before may go on
		return s.cancelJob(j, why)
	}
	j, err := s.c.Jobs().Get(m.job)
	if err != nil {
		return err
	}
	return s.cancelJob(&j, why)
}

// first reports whether self may go on its way: nobody else is, and nobody came before it.
func (s *settlement) first(group string, self member) (bool, error) {
	if group == "" {
		return true, nil
	}
	members, err := s.c.members(s.p.ID, group)
	if err != nil {
		return false, err
	}
	before := true
	for _, m := range members {
		if m.run == self.run && m.job == self.job {
			before = false
			continue
		}
		if m.holds || before {
			return false, nil
		}
	}
	return true, nil
}

// left sets in motion those who line up in a group that somebody left.
func (s *settlement) left(group string) error {
	if group == "" {
		return nil
	}
	members, err := s.c.members(s.p.ID, group)
	if err != nil {
		return err
	}
	for _, m := range members {
		if !m.holds {
			s.others = append(s.others, m.run)
		}
	}
	return nil
}

func (s *settlement) leftBy(j *sallyport.Job) error {
	if j.ReadyAt.IsZero() {
		return nil
	}
	if err := s.left(j.Group); err != nil {
		return err
	}
	return s.left(j.CallGroup)
}

// enterRun places a new run in its workflow's concurrency group.
func (s *settlement) enterRun(set workflow.Concurrency) error {
	refused, err := s.enter(s.run.Group, s.self(), set)
	if err != nil || refused == "" {
		return err
	}
	s.run.Cancel = refused
	return s.c.Runs().Save(s.run)
}

func (s *settlement) self() member {
	return member{run: s.run.ID, name: fmt.Sprintf("run #%d", s.run.Number)}
}

// admitRun lets a run that waited for its group begin, when its turn has come.
func (s *settlement) admitRun() (bool, error) {
	free, err := s.first(s.run.Group, s.self())
	if err != nil || !free {
		return false, err
	}
	s.run.Status = sallyport.StatusQueued
	if err := s.c.Runs().Save(s.run); err != nil {
		return false, err
	}
	return true, s.c.record("run.released", "run/"+string(s.run.ID), map[string]string{"group": s.run.Group})
}

// enterGroups places a ready cell in its own concurrency group and in that of
// the workflow it calls.
func (f *frame) enterGroups(j *sallyport.PlanJob, job *sallyport.Job, cell workflow.Cell) error {
	job.Group = groupName(cell.Group)
	self := member{run: job.Run, job: job.ID, name: "job " + job.Name}
	enter := func(group string, set workflow.Concurrency) (string, error) {
		if group == "" {
			return "", nil
		}
		if part := f.partOf(group); part != "" {
			return fmt.Sprintf("it would wait for itself: concurrency group %s is that of %s, which it is part of", group, part), nil
		}
		return f.s.enter(group, self, set)
	}
	refused, err := enter(job.Group, cell.Concurrency)
	if err == nil && refused == "" && job.CallGroup != "" {
		if job.CallGroup == job.Group {
			refused = fmt.Sprintf("it would wait for itself: concurrency group %s is its own and that of the workflow it calls", job.Group)
		} else {
			refused, err = f.enterCallGroup(j, job, enter)
		}
	}
	switch {
	case err != nil:
		return err
	case refused != "":
		return f.s.complete(job, sallyport.Cancelled, refused)
	case job.Group != "" || job.CallGroup != "":
		job.Cause = "waits for its turn in concurrency group " + strings.Join(slices.DeleteFunc([]string{job.Group, job.CallGroup}, func(g string) bool { return g == "" }), " and ")
	}
	return f.s.c.Jobs().Save(*job)
}

func (f *frame) enterCallGroup(j *sallyport.PlanJob, job *sallyport.Job, enter func(string, workflow.Concurrency) (string, error)) (string, error) {
	g, err := f.callee(j, job)
	if err != nil {
		return "", err
	}
	set, err := g.base.Concurrency(j.Call.Concurrency)
	if err != nil {
		return "", err
	}
	return enter(job.CallGroup, set)
}

// partOf names what the frame's jobs are part of and holds the group; "" for nothing.
// To wait for it would be to wait for ever.
func (f *frame) partOf(group string) string {
	if f.caller == nil {
		if f.s.run.Group == group {
			return "the workflow"
		}
		return ""
	}
	if f.caller.Group == group || f.caller.CallGroup == group {
		return "job " + f.caller.Name
	}
	return f.above.partOf(group)
}

// free reports whether a ready cell may go on its way in all its groups, so that none is
// held while another is waited for.
func (s *settlement) free(j *sallyport.Job) (bool, error) {
	self := member{run: j.Run, job: j.ID}
	ok, err := s.first(j.Group, self)
	if err != nil || !ok {
		return false, err
	}
	return s.first(j.CallGroup, self)
}
