package engine

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const liveInterval = 2 * time.Second // between checks after the trial, at least

// watch is the stage that gives a deployment its traffic and looks at its
// health: on trial for Health.Watch, then for as long as it is live. What is
// unhealthy is rolled back to the last healthy release.
func (e *Engine) watch(ctx context.Context, w sallyport.Work) error {
	d, env, err := e.loadDeployment(ctx, sallyport.DeploymentID(w.Subject))
	if err != nil {
		return err
	}
	if d.State != sallyport.DeployWatching && d.State != sallyport.DeployLive {
		return e.finish(ctx, w, func(*change) error { return nil })
	}
	url, err := e.takeTraffic(ctx, d)
	if err != nil {
		return err
	}
	if url != "" && env.URL != url {
		if err := e.update(ctx, func(c *change) error { return c.served(d, url) }); err != nil {
			return err
		}
	}
	trial := e.now().Add(d.Spec.Health.Watch)
	failed := 0
	for {
		bad, err := e.look(ctx, d, &failed)
		switch {
		case err != nil:
			return err
		case bad != "":
			return e.rollBack(ctx, w, d, bad)
		}
		if failed == 0 && d.State == sallyport.DeployLive && strings.HasPrefix(d.Cause, unhealthyMark) {
			if err := e.update(ctx, func(c *change) (err error) {
				d, err = c.recovered(d.ID)
				return err
			}); err != nil {
				return err
			}
		}
		if d.State == sallyport.DeployWatching && !e.now().Before(trial) {
			if d, err = e.promote(ctx, d); err != nil {
				return err
			}
		}
		interval := d.Spec.Health.Interval
		if d.State == sallyport.DeployLive {
			interval = max(interval, liveInterval)
		}
		if err := sleep(ctx, interval); err != nil {
			return err
		}
		if d.State == sallyport.DeployLive { // until another takes over
			now, _, err := e.loadDeployment(ctx, d.ID)
			if err != nil {
				return err
			}
			if now.State != sallyport.DeployLive {
				return e.finish(ctx, w, func(*change) error { return nil })
			}
		}
	}
}

func (e *Engine) watchFailed(ctx context.Context, w sallyport.Work, cause error) error {
	d, _, err := e.loadDeployment(ctx, sallyport.DeploymentID(w.Subject))
	if err != nil {
		return err
	}
	return e.rollBack(ctx, w, d, "it could not be watched: "+userText(cause))
}

// takeTraffic makes sure that the instance runs (the host may have been
// restarted) and has the traffic, and returns where it is served. What is live
// leaves the traffic to one that is on trial: then it returns "".
func (e *Engine) takeTraffic(ctx context.Context, d sallyport.Deployment) (string, error) {
	if d.State == sallyport.DeployLive {
		a, err := e.deployedArtifact(ctx, d)
		if err != nil {
			return "", err
		}
		if err := e.apply(ctx, d, a); err != nil {
			return "", err
		}
		if on, err := e.trial(ctx, d); err != nil || on {
			return "", err
		}
	}
	return e.shift(ctx, d)
}

// trial tells whether another deployment is on trial in d's environment.
func (e *Engine) trial(ctx context.Context, d sallyport.Deployment) (on bool, err error) {
	err = e.view(ctx, func(tx sallyport.Tx) error {
		rivals, err := unfinished(tx, d.Project, d.Environment)
		on = slices.ContainsFunc(rivals, func(r sallyport.Deployment) bool { return r.ID != d.ID && r.State == sallyport.DeployWatching })
		return err
	})
	return on, err
}

// shift gives d all traffic of its environment.
func (e *Engine) shift(ctx context.Context, d sallyport.Deployment) (string, error) {
	return e.target.Shift(ctx, d.Project, d.Spec, map[sallyport.DeploymentID]int{d.ID: 100})
}

func (c *change) served(d sallyport.Deployment, url string) error {
	env, err := c.Environments().Get(d.Project, d.Environment)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		env, err = sallyport.Environment{Project: d.Project, Name: d.Environment}, nil
	}
	if err != nil {
		return err
	}
	env.URL, env.At = url, c.now
	if err := c.Environments().Put(env); err != nil {
		return err
	}
	return c.record("environment.served", "environment/"+string(d.Project)+"/"+d.Environment, map[string]string{"url": url})
}

// look checks once; it returns why the deployment counts as unhealthy, "" while it does not.
func (e *Engine) look(ctx context.Context, d sallyport.Deployment, failed *int) (string, error) {
	h, err := e.target.Check(ctx, d)
	if err != nil {
		return "", err
	}
	if h.OK {
		*failed = 0
	} else {
		*failed++
	}
	limit := d.Spec.Health.MaxErrors
	if *failed >= limit {
		return fmt.Sprintf("%d health checks in a row failed: %s", *failed, orUnknown(h.Why)), nil
	}
	t, err := e.target.Traffic(ctx, d.ID)
	if err != nil {
		return "", err
	}
	if t.ErrorsInARow >= int64(limit) && t.Requests > 0 {
		return fmt.Sprintf("%d requests in a row failed (%d of %d in all)", t.ErrorsInARow, t.Errors, t.Requests), nil
	}
	return "", nil
}

// promote ends the trial: the deployment is live, the one before it is taken down.
func (e *Engine) promote(ctx context.Context, d sallyport.Deployment) (sallyport.Deployment, error) {
	statement, err := e.outcome(ctx, d, sallyport.DeployLive, "")
	if err != nil {
		return d, err
	}
	if _, err := e.shift(ctx, d); err != nil { // what had it before is taken down now
		return d, err
	}
	err = e.update(ctx, func(c *change) error {
		env, err := c.Environments().Get(d.Project, d.Environment)
		if err != nil {
			return err
		}
		if d, err = c.advance(d.ID, sallyport.DeployLive, ""); err != nil {
			return err
		}
		if err := c.keepStatement(statement); err != nil {
			return err
		}
		if err := c.retire(env, d); err != nil {
			return err
		}
		previous := env.Live
		if d.RollbackOf != "" { // what it replaces was not healthy
			previous = ""
		}
		env.Live, env.Previous, env.At = d.ID, previous, c.now
		if err := c.Environments().Put(env); err != nil {
			return err
		}
		return c.startNext(d.Project, d.Environment)
	})
	return d, err
}

// retire takes down what was live before d. A rollback of it that still waits has become pointless.
func (c *change) retire(env sallyport.Environment, d sallyport.Deployment) error {
	if env.Live == "" || env.Live == d.ID {
		return nil
	}
	waiting, err := unfinished(c, d.Project, d.Environment)
	if err != nil {
		return err
	}
	for _, r := range waiting {
		if r.State == sallyport.DeployPending && r.RollbackOf == env.Live {
			if err := c.moveDeployment(&r, sallyport.DeploySuperseded, fmt.Sprintf("#%d took over", d.Number)); err != nil {
				return err
			}
		}
	}
	old, err := c.Deployments().Get(env.Live)
	if err != nil {
		return err
	}
	if old.State == sallyport.DeployLive {
		if err := c.moveDeployment(&old, sallyport.DeploySuperseded, fmt.Sprintf("#%d took over", d.Number)); err != nil {
			return err
		}
	}
	return c.takeDown(old.ID)
}

// outcome signs a statement about how the deployment will have ended.
func (e *Engine) outcome(ctx context.Context, d sallyport.Deployment, state sallyport.DeploymentState, why string) (sallyport.Statement, error) {
	a, err := e.deployedArtifact(ctx, d)
	if err != nil {
		return sallyport.Statement{}, err
	}
	var rel sallyport.Release
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		rel, err = tx.Releases().Get(d.Release)
		return err
	}); err != nil {
		return sallyport.Statement{}, err
	}
	d.State, d.FinishedAt, d.Cause = state, e.now(), why
	return e.signDeployment(ctx, d, rel.Verdict, a)
}

// retreat says where to go from an unhealthy deployment: back is what still runs
// and takes the traffic again, good is the deployment whose release is brought back.
// Either has no ID where there is none. A rollback that fails too is not
// rolled back again: that would be a storm, and a person has to look.
func retreat(tx sallyport.Tx, d sallyport.Deployment) (back, good sallyport.Deployment, err error) {
	env, err := tx.Environments().Get(d.Project, d.Environment)
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		return back, good, err
	}
	healthy := env.Previous
	if d.State == sallyport.DeployWatching && env.Live != "" {
		if back, err = tx.Deployments().Get(env.Live); err != nil {
			return back, good, err
		}
		if back.State == sallyport.DeployLive { // else it was unhealthy itself
			healthy = env.Live
		}
	}
	if healthy == "" || d.RollbackOf != "" {
		return back, good, nil
	}
	good, err = tx.Deployments().Get(healthy)
	return back, good, err
}

// rollBack gives the traffic back to what was live before, records that the
// deployment was unhealthy, and starts a forward deployment of the last healthy
// release. On trial a deployment that waits already goes next instead.
func (e *Engine) rollBack(ctx context.Context, w sallyport.Work, d sallyport.Deployment, why string) error {
	e.log.WarnContext(ctx, "deployment was unhealthy", "deployment", d.ID, "environment", d.Environment, "why", why)
	var back, good sallyport.Deployment
	if err := e.view(ctx, func(tx sallyport.Tx) (err error) {
		back, good, err = retreat(tx, d)
		return err
	}); err != nil {
		return err
	}
	live := d.State == sallyport.DeployLive
	if live && good.ID == "" {
		return e.finish(ctx, w, func(c *change) error { return c.unhealthy(d.ID, why) })
	}
	if back.ID != "" {
		if _, err := e.shift(ctx, back); permanent(err) {
			e.log.ErrorContext(ctx, "traffic could not be given back", "deployment", back.ID, "error", err)
		} else if err != nil {
			return err
		}
	}
	if good.ID == "" {
		why += "; there is no healthy release to roll back to"
	}
	statement, err := e.outcome(ctx, d, sallyport.DeployRolledBack, why)
	if err != nil {
		return err
	}
	return e.finish(ctx, w, func(c *change) error {
		d, err := c.advance(d.ID, sallyport.DeployRolledBack, why)
		if err != nil {
			return err
		}
		if err := c.keepStatement(statement); err != nil {
			return err
		}
		waiting, err := unfinished(c, d.Project, d.Environment)
		if err != nil {
			return err
		}
		if good.ID == "" || !live && len(waiting) > 0 {
			err = c.startNext(d.Project, d.Environment)
		} else {
			err = c.bringBack(good, d, why)
		}
		if err != nil || live { // it serves until the good one takes over, which retires it
			return err
		}
		return c.takeDown(d.ID)
	})
}

// bringBack starts a forward deployment of a healthy release in place of d.
func (c *change) bringBack(good, d sallyport.Deployment, why string) error {
	rel, err := c.Releases().Get(good.Release)
	if err != nil {
		return err
	}
	_, err = c.newDeployment(rel, good.Spec, sallyport.DeployPending, fmt.Sprintf("rolls back #%d: %s", d.Number, why), d.ID)
	return err
}

// unhealthyMark begins the cause of a live deployment that is unhealthy and has nothing to be replaced by.
const unhealthyMark = "unhealthy: "

// unhealthy records that a live deployment is unhealthy and there is nothing to
// roll back to, once until it recovers, and has it looked at again later.
func (c *change) unhealthy(id sallyport.DeploymentID, why string) error {
	d, err := c.Deployments().Get(id)
	if err != nil || d.State != sallyport.DeployLive {
		return err
	}
	if !strings.HasPrefix(d.Cause, unhealthyMark) {
		d.Cause = clip(unhealthyMark+why+"; there is no healthy release to roll back to", 1000)
		if err := c.Deployments().Save(d); err != nil {
			return err
		}
		if err := c.record("deployment.unhealthy", "deployment/"+string(d.ID), map[string]string{"why": why}); err != nil {
			return err
		}
	}
	return c.Work().Enqueue(sallyport.Work{ // the key is free because this work ends now
		ID: newID[sallyport.WorkID](c), Queue: sallyport.QueueWatch, Key: "again/" + string(d.ID) + "/" + c.now.Format(time.RFC3339Nano),
		Subject: string(d.ID), RunAt: c.now.Add(30 * time.Second), MaxAttempts: watchAttempts, CreatedAt: c.now,
	})
}

// recovered takes the mark off a live deployment that is healthy again.
func (c *change) recovered(id sallyport.DeploymentID) (sallyport.Deployment, error) {
	d, err := c.Deployments().Get(id)
	if err != nil || d.State != sallyport.DeployLive {
		return d, err
	}
	d.Cause = ""
	if err := c.Deployments().Save(d); err != nil {
		return d, err
	}
	return d, c.record("deployment.recovered", "deployment/"+string(d.ID), nil)
}

// apply has the target start the instance from the kept content.
func (e *Engine) apply(ctx context.Context, d sallyport.Deployment, a sallyport.Artifact) error {
	return e.target.Apply(ctx, d, a, func() (io.ReadCloser, error) { return e.blobs.Get(ctx, a.Scope(), a.Digest) })
}

func (s deployments) Deployments(ctx context.Context, p sallyport.ProjectID, env string, page sallyport.Page) ([]sallyport.Deployment, error) {
	if err := s.e.allow(ctx, actRead, p); err != nil {
		return nil, err
	}
	var out []sallyport.Deployment
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		out, err = tx.Deployments().List(p, env, bound(page))
		return err
	})
	return out, err
}

func (s deployments) deployment(ctx context.Context, id sallyport.DeploymentID) (sallyport.Deployment, error) {
	return load(ctx, s.e, actRead, func(tx sallyport.Tx) (sallyport.Deployment, sallyport.ProjectID, error) {
		d, err := tx.Deployments().Get(id)
		return d, d.Project, err
	})
}

func (s deployments) Deployment(ctx context.Context, id sallyport.DeploymentID) (sallyport.Deployment, error) {
	return s.deployment(ctx, id)
}

func (s deployments) Environments(ctx context.Context, p sallyport.ProjectID) ([]sallyport.Environment, error) {
	if err := s.e.allow(ctx, actRead, p); err != nil {
		return nil, err
	}
	var out []sallyport.Environment
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		out, err = tx.Environments().List(p)
		return err
	})
	return out, err
}

// Deploy judges and deploys an artifact that is kept already. A refusal is a
// deployment too, in state refused, so that it is seen.
func (s deployments) Deploy(ctx context.Context, id sallyport.ArtifactID, env string) (sallyport.Deployment, error) {
	a, spec, err := s.e.destination(ctx, id, env)
	if err != nil {
		return sallyport.Deployment{}, err
	}
	if s.e.target == nil {
		return sallyport.Deployment{}, sallyport.Errorf(sallyport.CodeUnavailable, "this instance deploys nowhere")
	}
	j, err := s.e.judge(ctx, a, spec)
	if err != nil {
		return sallyport.Deployment{}, err
	}
	var d sallyport.Deployment
	err = s.e.update(ctx, func(c *change) error {
		d, err = c.keepJudgement(j)
		return err
	})
	return d, err
}

// Rollback deploys the last healthy release before the live one.
func (s deployments) Rollback(ctx context.Context, p sallyport.ProjectID, env, reason string) (sallyport.Deployment, error) {
	if err := s.e.allowIn(ctx, actDeploy, p, env); err != nil {
		return sallyport.Deployment{}, err
	}
	if reason == "" || len(reason) > 500 {
		return sallyport.Deployment{}, sallyport.Errorf(sallyport.CodeInvalid, "a rollback needs a reason of at most 500 bytes")
	}
	var d sallyport.Deployment
	err := s.e.update(ctx, func(c *change) error {
		e, err := c.Environments().Get(p, env)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			return sallyport.Errorf(sallyport.CodeNotFound, "nothing was ever deployed to %.80q", env)
		}
		if err != nil {
			return err
		}
		if e.Live == "" || e.Previous == "" {
			return sallyport.Errorf(sallyport.CodeConflict, "there is no healthy release before the live one in %s", env).WithHint("push a commit that reverts the change")
		}
		good, err := c.Deployments().Get(e.Previous)
		if err != nil {
			return err
		}
		rel, err := c.Releases().Get(good.Release)
		if err != nil {
			return err
		}
		d, err = c.newDeployment(rel, good.Spec, sallyport.DeployPending, "rolled back by hand: "+reason, e.Live)
		return err
	})
	return d, err
}

func (s deployments) Health(ctx context.Context, id sallyport.DeploymentID) (sallyport.Health, sallyport.Traffic, error) {
	d, err := s.deployment(ctx, id)
	if err != nil {
		return sallyport.Health{}, sallyport.Traffic{}, err
	}
	if s.e.target == nil || d.State.Final() && d.State != sallyport.DeployLive || d.State == sallyport.DeployPending {
		return sallyport.Health{Why: "it does not run", At: s.e.now()}, sallyport.Traffic{}, nil
	}
	h, err := s.e.target.Check(ctx, d)
	if err != nil {
		return h, sallyport.Traffic{}, err
	}
	t, err := s.e.target.Traffic(ctx, id)
	return h, t, err
}

func (s deployments) Output(ctx context.Context, id sallyport.DeploymentID) ([]byte, error) {
	d, err := s.deployment(ctx, id)
	if err != nil || s.e.target == nil {
		return nil, err
	}
	return s.e.target.Log(ctx, d.ID, 64<<10)
}
