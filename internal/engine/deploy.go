package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

// deployments implements sallyport.Deployments: the outer door.
type deployments struct{ e *Engine }

const watchAttempts = 1 << 30 // watching ends by decision, not by count

// newDeployment records a deployment. One that is pending replaces those that
// wait before it, and starts when no other is under way in its environment.
func (c *change) newDeployment(rel sallyport.Release, spec sallyport.EnvironmentSpec, state sallyport.DeploymentState, cause string, rollbackOf sallyport.DeploymentID) (sallyport.Deployment, error) {
	number, err := c.Projects().NextNumber(rel.Project, "deploy/"+spec.Name)
	if err != nil {
		return sallyport.Deployment{}, err
	}
	d := sallyport.Deployment{
		ID: newID[sallyport.DeploymentID](c), Project: rel.Project, Environment: spec.Name, Release: rel.ID,
		Digest: rel.Digest, Commit: rel.Commit, Number: number, State: state, Cause: cause, RollbackOf: rollbackOf,
		Actor: c.actor, Spec: spec, CreatedAt: c.now,
	}
	if state.Final() {
		d.FinishedAt = c.now
	}
	if err := c.Deployments().Insert(d); err != nil {
		return d, err
	}
	if err := c.record("deployment."+string(state), "deployment/"+string(d.ID), map[string]any{
		"environment": spec.Name, "number": number, "digest": d.Digest, "release": rel.ID, "rollback_of": rollbackOf,
	}); err != nil {
		return d, err
	}
	c.Touch(topicRun(rel.Run))
	if state != sallyport.DeployPending {
		return d, nil
	}
	return d, c.startNext(d.Project, d.Environment)
}

// startNext enqueues the newest pending deployment of an environment when none
// is under way; older pending ones are superseded, for their content is in it or was rolled back.
func (c *change) startNext(p sallyport.ProjectID, env string) error {
	pending, err := unfinished(c, p, env)
	if err != nil || slices.ContainsFunc(pending, func(d sallyport.Deployment) bool { return d.State != sallyport.DeployPending }) {
		return err
	}
	for i, d := range pending {
		if i == len(pending)-1 {
			return c.enqueue(sallyport.QueueDeploy, string(d.ID), nil, c.now, stageAttempts)
		}
		if err := c.moveDeployment(&d, sallyport.DeploySuperseded, fmt.Sprintf("#%d came after it", pending[len(pending)-1].Number)); err != nil {
			return err
		}
	}
	return nil
}

// unfinished returns the deployments of an environment that are pending, applying or watching, oldest first.
func unfinished(tx sallyport.Tx, p sallyport.ProjectID, env string) ([]sallyport.Deployment, error) {
	all, err := tx.Deployments().Unfinished()
	return slices.DeleteFunc(all, func(d sallyport.Deployment) bool { return d.Project != p || d.Environment != env }), err
}

// advance moves a deployment as it is now: what a stage loaded before may have
// been superseded, and a transaction may be played twice.
func (c *change) advance(id sallyport.DeploymentID, next sallyport.DeploymentState, cause string) (sallyport.Deployment, error) {
	d, err := c.Deployments().Get(id)
	if err != nil {
		return d, err
	}
	err = c.moveDeployment(&d, next, cause)
	return d, err
}

// moveDeployment is the one place where a deployment's state changes.
func (c *change) moveDeployment(d *sallyport.Deployment, next sallyport.DeploymentState, cause string) error {
	if !d.State.CanBecome(next) {
		return sallyport.Errorf(sallyport.CodeConflict, "a deployment that is %s cannot become %s", d.State, next)
	}
	from := d.State
	d.State = next
	if cause != "" {
		d.Cause = clip(cause, 1000)
	}
	switch next {
	case sallyport.DeployApplying:
		d.StartedAt = c.now
	case sallyport.DeployWatching:
		d.Weight = 100
	case sallyport.DeployLive:
		d.FinishedAt = c.now
	default:
		d.Weight, d.FinishedAt = 0, c.now
	}
	if err := c.Deployments().Save(*d); err != nil {
		return err
	}
	return c.record("deployment."+string(next), "deployment/"+string(d.ID), map[string]any{
		"environment": d.Environment, "number": d.Number, "digest": d.Digest, "from": from,
	})
}

// deploy is the stage that brings a release up beside what runs, after
// verifying its signature and verdict again: a check far away is a rumour.
// It also takes down what nothing points to any more.
func (e *Engine) deploy(ctx context.Context, w sallyport.Work) error {
	d, _, err := e.loadDeployment(ctx, sallyport.DeploymentID(w.Subject))
	if err != nil {
		return err
	}
	if d.State == sallyport.DeployPending || d.State == sallyport.DeployApplying { // also when a crash came between
		if err := e.verifyAgain(ctx, d); err != nil {
			if sallyport.ErrorCode(err) == sallyport.CodeUnavailable {
				return err
			}
			how := sallyport.DeployRefused
			if d.State == sallyport.DeployApplying {
				how = sallyport.DeployFailed // something may have been started
			}
			return e.endDeployment(ctx, w, d, how, "verified again before deployment: "+userText(err))
		}
	}
	if d.State == sallyport.DeployPending {
		// Journal first: from here on the instance may exist.
		if err := e.update(ctx, func(c *change) (err error) {
			d, err = c.advance(d.ID, sallyport.DeployApplying, "")
			return err
		}); err != nil {
			return err
		}
	}
	switch d.State {
	case sallyport.DeployApplying:
		return e.bringUp(ctx, w, d)
	case sallyport.DeployFailed, sallyport.DeployRolledBack, sallyport.DeploySuperseded:
		if err := e.target.Remove(ctx, d); err != nil {
			return err
		}
		return e.finish(ctx, w, func(c *change) error {
			return c.record("deployment.removed", "deployment/"+string(d.ID), map[string]any{"environment": d.Environment, "number": d.Number})
		})
	default:
		return e.finish(ctx, w, func(*change) error { return nil })
	}
}

func (e *Engine) deployFailed(ctx context.Context, w sallyport.Work, cause error) error {
	d, _, err := e.loadDeployment(ctx, sallyport.DeploymentID(w.Subject))
	if err != nil {
		return err
	}
	next := sallyport.DeployFailed
	if !d.State.CanBecome(next) { // it was being taken down
		return e.finish(ctx, w, func(c *change) error {
			return c.record("deployment.not_removed", "deployment/"+string(d.ID), map[string]string{"cause": userText(cause)})
		})
	}
	return e.endDeployment(ctx, w, d, next, userText(cause))
}

func (e *Engine) loadDeployment(ctx context.Context, id sallyport.DeploymentID) (sallyport.Deployment, sallyport.Environment, error) {
	var d sallyport.Deployment
	var env sallyport.Environment
	err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if d, err = tx.Deployments().Get(id); err != nil {
			return err
		}
		env, err = tx.Environments().Get(d.Project, d.Environment)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			env, err = sallyport.Environment{Project: d.Project, Name: d.Environment}, nil
		}
		return err
	})
	return d, env, err
}

// verifyAgain checks right before use what the gate checked before: the
// verdict allows this digest here, its statement and the provenance verify, the bytes are the same.
func (e *Engine) verifyAgain(ctx context.Context, d sallyport.Deployment) error {
	var rel sallyport.Release
	var v sallyport.Verdict
	var a sallyport.Artifact
	var p sallyport.Project
	var statements []sallyport.Statement
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if p, err = tx.Projects().Get(d.Project); err != nil {
			return err
		}
		if rel, err = tx.Releases().Get(d.Release); err != nil {
			return err
		}
		if v, err = tx.Verdicts().Get(rel.Verdict); err != nil {
			return err
		}
		if a, err = tx.Artifacts().Get(rel.ArtifactID); err != nil {
			return err
		}
		statements, err = tx.Statements().BySubject(d.Project, d.Digest)
		return err
	}); err != nil {
		return err
	}
	switch {
	case v.Decision != sallyport.Allow:
		return sallyport.Errorf(sallyport.CodeDenied, "the verdict is %s", v.Decision)
	case v.Subject != d.Digest || a.Digest != d.Digest || rel.Digest != d.Digest:
		return sallyport.Errorf(sallyport.CodeDenied, "the verdict is about another digest")
	case v.Environment != d.Environment:
		return sallyport.Errorf(sallyport.CodeDenied, "the verdict is about environment %s", v.Environment)
	}
	provenance, summary := false, false
	builder := e.instance.BuildIdentity(p.Name, d.Spec.Workflow, p.DefaultRef())
	for _, st := range weighed(statements, rel.Run) {
		c, err := e.check(st, d.Digest)
		if err != nil {
			return sallyport.Errorf(sallyport.CodeDenied, "statement %s does not verify: %s", st.ID, userText(err))
		}
		switch st.PredicateType {
		case sallyport.PredicateProvenance:
			provenance = provenance || st.Identity == builder
		case sallyport.PredicateVSA:
			summary = summary || st.Identity == e.instance.GateIdentity() && e.summarises(c.Predicate, v)
		}
	}
	if !provenance || !summary {
		return sallyport.Errorf(sallyport.CodeDenied, "its provenance or its verdict is not signed")
	}
	return e.readContent(ctx, a)
}

// bringUp starts the release beside what runs and waits until it is healthy.
func (e *Engine) bringUp(ctx context.Context, w sallyport.Work, d sallyport.Deployment) error {
	a, err := e.deployedArtifact(ctx, d)
	if err != nil {
		return err
	}
	if err := e.apply(ctx, d, a); err != nil {
		if permanent(err) {
			return e.endDeployment(ctx, w, d, sallyport.DeployFailed, userText(err))
		}
		return err
	}
	h := d.Spec.Health
	deadline := e.now().Add(h.Startup)
	for row := 0; row < h.Healthy; {
		got, err := e.target.Check(ctx, d)
		switch {
		case err != nil:
			return err
		case got.OK:
			row++
		default:
			row = 0
		}
		if row >= h.Healthy {
			break
		}
		if e.now().After(deadline) {
			return e.endDeployment(ctx, w, d, sallyport.DeployFailed, fmt.Sprintf("not healthy within %s: %s", h.Startup, orUnknown(got.Why)))
		}
		if err := sleep(ctx, h.Interval); err != nil {
			return err
		}
	}
	return e.finish(ctx, w, func(c *change) error {
		if _, err := c.advance(d.ID, sallyport.DeployWatching, ""); err != nil {
			return err
		}
		return c.enqueue(sallyport.QueueWatch, string(d.ID), nil, c.now, watchAttempts)
	})
}

func (e *Engine) deployedArtifact(ctx context.Context, d sallyport.Deployment) (sallyport.Artifact, error) {
	var a sallyport.Artifact
	err := e.view(ctx, func(tx sallyport.Tx) error {
		rel, err := tx.Releases().Get(d.Release)
		if err != nil {
			return err
		}
		a, err = tx.Artifacts().Get(rel.ArtifactID)
		return err
	})
	return a, err
}

// endDeployment records how a deployment ended before it took traffic, and has its instance taken down.
func (e *Engine) endDeployment(ctx context.Context, w sallyport.Work, d sallyport.Deployment, how sallyport.DeploymentState, why string) error {
	return e.finish(ctx, w, func(c *change) error {
		if _, err := c.advance(d.ID, how, why); err != nil {
			return err
		}
		if err := c.startNext(d.Project, d.Environment); err != nil {
			return err
		}
		if how == sallyport.DeployRefused {
			return nil
		}
		return c.takeDown(d.ID)
	})
}

// takeDown enqueues the removal of an instance. Its key differs from that of the work that may be ending now.
func (c *change) takeDown(id sallyport.DeploymentID) error {
	c.Touch(topicWork(sallyport.QueueDeploy))
	return c.Work().Enqueue(sallyport.Work{
		ID: newID[sallyport.WorkID](c), Queue: sallyport.QueueDeploy, Key: "remove/" + string(id), Subject: string(id),
		RunAt: c.now, MaxAttempts: stageAttempts, CreatedAt: c.now,
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// signDeployment has the deployment's outcome signed.
func (e *Engine) signDeployment(ctx context.Context, d sallyport.Deployment, verdict sallyport.VerdictID, a sallyport.Artifact) (sallyport.Statement, error) {
	statement, err := attest.DeploymentStatement([]attest.Subject{{Name: a.Filename, Digest: d.Digest}}, attest.DeploymentPredicate{
		Project: string(d.Project), Environment: d.Environment, Deployment: d.ID, Number: d.Number, Release: d.Release, Commit: d.Commit,
		Verdict: verdict, State: d.State, Cause: d.Cause, RollbackOf: d.RollbackOf, Actor: d.Actor, Strategy: "blue-green", Weight: d.Weight,
		StartedAt: d.StartedAt, FinishedAt: d.FinishedAt,
	})
	if err != nil {
		return sallyport.Statement{}, err
	}
	return e.sign(ctx, e.gateSigner(), statement, sallyport.Statement{
		Project: d.Project, Run: a.Run, PredicateType: sallyport.PredicateDeployment, Subjects: []sallyport.Digest{d.Digest},
	})
}
