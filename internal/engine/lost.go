package engine

import (
	"context"
	"fmt"

	"github.com/sallyport-ci/sallyport"
)

// lost decides about a job whose runner died. It is tried again when nothing
// of it can have had an effect outside its room: it could reach package registries at
// most, and had no secret. Otherwise it fails.
func (e *Engine) lost(c *change, j *sallyport.Job) error {
	why := fmt.Sprintf("runner %s was lost during attempt %d", j.Runner, j.Attempt)
	encoded, err := c.Runs().Plan(j.Run)
	if err != nil {
		return err
	}
	plan, err := decodePlan(encoded)
	if err != nil {
		return err
	}
	reaches := reachesOut(ofJob(planEgress(plan), *j))
	retry := j.Attempt < maxJobAttempts && !j.Lent && !reaches && j.Cancel == ""
	detail := map[string]any{"run": j.Run, "runner": j.Runner, "attempt": j.Attempt, "retry": retry}
	if err := c.record("job.lost", "job/"+string(j.ID), detail); err != nil {
		return err
	}
	if retry {
		if err := c.dropArtifacts(j); err != nil {
			return err
		}
		j.Status, j.Cause = sallyport.StatusQueued, why+"; it was started again"
		return c.Jobs().Save(*j)
	}
	how := sallyport.Failure
	if j.Cancel != "" {
		how, why = sallyport.Cancelled, j.Cancel
	} else if j.Lent {
		why += "; a job that held secrets is not started again"
	} else if reaches {
		why += "; a job that may reach hosts outside is not started again"
	}
	return e.jobEnded(c, j, how, why)
}

// dropArtifacts removes what a lost attempt had kept, so that the next can keep
// its own under the same names. Nothing vouches for it yet: that comes when a job has finished.
func (c *change) dropArtifacts(j *sallyport.Job) error {
	all, err := c.Artifacts().ByRun(j.Run)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Job != j.ID {
			continue
		}
		if err := c.Artifacts().Delete(a.ID); err != nil {
			return err
		}
		detail := map[string]any{"run": a.Run, "job": a.Job, "name": a.Name, "digest": a.Digest, "attempt": j.Attempt}
		if err := c.record("artifact.dropped", "artifact/"+string(a.ID), detail); err != nil {
			return err
		}
	}
	return nil
}

// RunnerGone gives back what a runner had leased, at once: the daemon calls it
// for its own runner when it starts one anew, instead of waiting for leases to run out.
func (e *Engine) RunnerGone(ctx context.Context, id sallyport.RunnerID) error {
	return e.update(system(ctx, "runner-gone"), func(c *change) error {
		unfinished, err := c.Runs().Unfinished()
		if err != nil {
			return err
		}
		for _, r := range unfinished {
			jobs, err := c.Jobs().Outline(r.ID)
			if err != nil {
				return err
			}
			for _, j := range jobs {
				if j.Status != sallyport.StatusInProgress || j.Runner != id {
					continue
				}
				if err := e.giveBack(c, j); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (e *Engine) giveBack(c *change, j sallyport.Job) error {
	if err := e.lost(c, &j); err != nil {
		return err
	}
	if j.Status == sallyport.StatusCompleted {
		return c.Work().Drop(sallyport.QueueRunner, string(j.ID))
	}
	work, err := c.Work().BySubject(sallyport.QueueRunner, string(j.ID))
	if err != nil {
		return err
	}
	for _, w := range work {
		c.Touch(topicWork(sallyport.QueueRunner))
		if err := c.Work().Retry(w.ID, w.Token, c.now, "runner lost"); err != nil {
			return err
		}
	}
	return nil
}
