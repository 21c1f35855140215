package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/policy"
)

// Admission: what may enter an environment only when people, a timer or its hours
// let it. Jobs wait in their run (rules.go), releases as a deployment that waits.

// admit is the stage that opens requests, and looks at them again when people
// voted or their time has come. Its subjects are "run/ID/ENVIRONMENT" and
// "deployment/ID", for which a request is to be opened, and "request/ID".
func (e *Engine) admit(ctx context.Context, w sallyport.Work) error {
	noun, id, _ := strings.Cut(w.Subject, "/")
	switch noun {
	case "run":
		run, environment, _ := strings.Cut(id, "/")
		return e.askForJobs(ctx, w, sallyport.RunID(run), environment)
	case "deployment":
		return e.askAgain(ctx, w, sallyport.DeploymentID(id))
	case "request":
		return e.reconsider(ctx, w, sallyport.RequestID(id))
	}
	return sallyport.Errorf(sallyport.CodeInvalid, "%.80q cannot be admitted", w.Subject)
}

// admitFailed ends what cannot be asked for: it does not wait for ever, and does not enter.
func (e *Engine) admitFailed(ctx context.Context, w sallyport.Work, cause error) error {
	noun, id, _ := strings.Cut(w.Subject, "/")
	why := "no approval can be asked for: " + userText(cause)
	return e.finish(ctx, w, func(c *change) error {
		switch noun {
		case "run":
			run, environment, _ := strings.Cut(id, "/")
			s, err := e.loadSettlement(c, sallyport.RunID(run))
			if err != nil {
				return err
			}
			for _, j := range s.held(environment) {
				if err := s.complete(j, sallyport.Failure, clip(why, 1000)); err != nil {
					return err
				}
			}
			return e.settleFrom(s)
		case "deployment":
			return e.refuseWaiting(c, sallyport.DeploymentID(id), why)
		case "request":
			st, err := c.status(sallyport.RequestID(id))
			if err != nil || !st.State.Open() || st.Request.Kind != sallyport.RequestRelease {
				return err
			}
			return e.refuseRelease(c, st.Request, sallyport.RequestVoid, why)
		}
		return c.record("approval.failed", w.Subject, map[string]string{"cause": why})
	})
}

// entrySubject is what the jobs of a run that name an environment wait as.
func entrySubject(r sallyport.RunID, environment string) string {
	return "run/" + string(r) + "/" + strings.ToLower(environment)
}

func ruleOf(plan *sallyport.Plan, environment string) *sallyport.PlanEnvironmentRule {
	if plan.Rules == nil {
		return nil
	}
	all := plan.Rules.Environments
	i := slices.IndexFunc(all, func(r sallyport.PlanEnvironmentRule) bool { return strings.EqualFold(r.Name, environment) })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// held returns the jobs that wait before an environment.
func (s *settlement) held(environment string) (out []*sallyport.Job) {
	for _, j := range s.jobs {
		if j.AwaitsApproval() && j.Environment != nil && strings.EqualFold(j.Environment.Name, environment) {
			out = append(out, j)
		}
	}
	return out
}

// bound is what jobs of the run would bring into an environment now: what was made,
// and what is attested of it.
func (s *settlement) bound(rule *sallyport.PlanEnvironmentRule) (sallyport.Bound, error) {
	b := sallyport.Bound{Commit: s.run.Commit, Plan: s.run.PlanDigest}
	last, err := s.c.Requests().Last(s.p.ID, rule.Name, sallyport.RequestJob)
	switch {
	case err == nil && last.Run == s.run.ID:
		b.Base = last.Bound.Base // it is this run's own
	case err == nil:
		b.Base = last.Bound.Commit
	case sallyport.ErrorCode(err) != sallyport.CodeNotFound:
		return b, err
	}
	made, err := s.c.Artifacts().ByRun(s.run.ID)
	if err != nil {
		return b, err
	}
	var artifacts, evidence []string
	for _, a := range made {
		artifacts = append(artifacts, a.Name+" "+string(a.Digest))
	}
	statements, err := s.c.Statements().ByRun(s.run.ID)
	if err != nil {
		return b, err
	}
	for _, st := range statements {
		evidence = append(evidence, string(st.BundleDigest))
	}
	slices.Sort(artifacts)
	slices.Sort(evidence)
	b.Artifact, b.Evidence, b.Policy = digestOf(artifacts), digestOf(evidence), digestOf(rule)
	return b, nil
}

func digestOf(v any) sallyport.Digest {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of plain fields
	}
	return sallyport.DigestOf(b)
}

// admission says whether a job may enter its environment now. One that may not keeps
// waiting, or is completed.
func (f *frame) admission(j *sallyport.Job) (bool, error) {
	r := f.rule(j)
	if r == nil || !r.Holds() {
		return true, nil
	}
	subject := entrySubject(f.s.run.ID, r.Name)
	st, err := f.s.c.current(subject)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return false, f.ask(j, r, "")
	}
	if err != nil {
		return false, err
	}
	switch st.State {
	case sallyport.RequestVoid:
		return false, f.ask(j, r, st.Request.ID)
	case sallyport.RequestRejected, sallyport.RequestExpired, sallyport.RequestWithdrawn:
		if st.Request.Run == f.s.run.ID {
			if err := f.s.c.endIfOpen(st); err != nil {
				return false, err
			}
		}
		return false, f.s.complete(j, sallyport.Failure, clip(fmt.Sprintf("it may not enter environment %s: %s", r.Name, orUnknown(st.Why)), 1000))
	}
	now, err := f.s.bound(r)
	if err != nil {
		return false, err
	}
	if what := st.Request.Bound.Differs(now); what != "" {
		if st.State.Open() {
			if err := f.s.c.endRequest(st.Request, sallyport.RequestVoid, what+" changed", ""); err != nil {
				return false, err
			}
		}
		return false, f.ask(j, r, st.Request.ID)
	}
	switch {
	case st.State == sallyport.RequestDone && r.Hours.Cover(f.s.c.now):
		return true, nil // with others of this run
	case st.State == sallyport.RequestDone: // their hours are over; it waits for the next
		return false, f.rest(j, st)
	case st.State == sallyport.RequestApproved:
		if opens := st.Request.Opens(f.s.c.now); opens.IsZero() || opens.After(f.s.c.now) {
			return false, f.rest(j, st)
		}
		if err := f.s.c.endRequest(st.Request, sallyport.RequestDone, "let through", ""); err != nil {
			return false, err
		}
		return true, nil
	}
	return false, f.hold(j, waitingFor(st))
}

// endIfOpen records the end that only the clock or a vote has made so far.
func (c *change) endIfOpen(st sallyport.RequestStatus) error {
	events, err := c.AccessEvents().Of(subjectOf("request", st.Request.ID))
	if err != nil || slices.ContainsFunc(events, func(e sallyport.AccessEvent) bool { return e.Kind == sallyport.EventEnded }) {
		return err
	}
	return c.endRequest(st.Request, st.State, st.Why, "")
}

// rest keeps a job that was approved until its environment is open.
func (f *frame) rest(j *sallyport.Job, st sallyport.RequestStatus) error {
	opens := st.Request.Opens(f.s.c.now)
	if opens.IsZero() {
		return f.s.complete(j, sallyport.Failure, fmt.Sprintf("environment %s has no hours in which it may enter", j.Environment.Name))
	}
	if err := f.s.c.again(st.Request, "opens/"+opens.Format(time.RFC3339), opens); err != nil {
		return err
	}
	return f.hold(j, fmt.Sprintf("waits until %s, when environment %s may be entered", opens.Format("2006-01-02 15:04 MST"), j.Environment.Name))
}

// ask has a request opened after the one before. What it is about is looked up
// outside of the transaction.
func (f *frame) ask(j *sallyport.Job, r *sallyport.PlanEnvironmentRule, before sallyport.RequestID) error {
	subject := entrySubject(f.s.run.ID, r.Name)
	if err := f.s.c.enqueueAs(sallyport.QueueAdmit, subject+"/"+string(before), subject, nil, f.s.c.now, admitAttempts); err != nil {
		return err
	}
	return f.hold(j, fmt.Sprintf("waits for approval of environment %s, which is being asked for", r.Name))
}

func (f *frame) hold(j *sallyport.Job, why string) error {
	j.Cause = why
	f.s.c.Touch(topicRun(j.Run))
	return f.s.c.Jobs().Save(*j)
}

// askForJobs opens the request for all jobs of a run that wait before an environment.
func (e *Engine) askForJobs(ctx context.Context, w sallyport.Work, id sallyport.RunID, environment string) error {
	var run sallyport.Run
	var push sallyport.Push
	var base string
	var after sallyport.PushID
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if run, err = tx.Runs().Get(id); err != nil {
			return err
		}
		if push, err = tx.Pushes().Get(run.Push); err != nil {
			return err
		}
		encoded, err := tx.Runs().Plan(id)
		if err != nil {
			return err
		}
		plan, err := decodePlan(encoded)
		if err != nil {
			return err
		}
		rule := ruleOf(plan, environment)
		if rule == nil {
			return nil
		}
		last, err := tx.Requests().Last(run.Project, rule.Name, sallyport.RequestJob)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound || err == nil && last.Run == id {
			base = last.Bound.Base
			return nil
		}
		if err != nil {
			return err
		}
		base = last.Bound.Commit
		before, err := tx.Runs().Get(last.Run)
		after = before.Push
		return err
	}); err != nil {
		return err
	}
	who, err := e.involved(ctx, push, base, after)
	if err != nil {
		return err
	}
	return e.finish(ctx, w, func(c *change) error {
		s, err := e.loadSettlement(c, id)
		if err != nil {
			return err
		}
		rule := ruleOf(s.plan, environment)
		st, err := c.current(entrySubject(id, environment))
		if err == nil && st.State.Open() || err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			return err
		}
		if rule == nil || len(s.held(environment)) == 0 {
			return nil
		}
		now, err := s.bound(rule)
		if err != nil {
			return err
		}
		if now.Base != base { // another was let in meanwhile: its commits are looked at again
			return sallyport.Errorf(sallyport.CodeUnavailable, "what is in the environment changed meanwhile")
		}
		r := sallyport.AccessRequest{
			Kind: sallyport.RequestJob, Project: s.p.ID, Environment: rule.Name, Subject: entrySubject(id, environment), Run: id,
			By: sallyport.PartyOf(push.Actor), Why: clip(s.run.Title, 200), Bound: now, Involved: who,
		}
		if _, err := c.openRequest(under(r, rule.EntryRules, c.now)); err != nil {
			return err
		}
		return e.settleFrom(s)
	})
}

// under puts an environment's rules into a request.
func under(r sallyport.AccessRequest, rules sallyport.EntryRules, now time.Time) sallyport.AccessRequest {
	r.Needed, r.Reviewers, r.Hours = rules.Votes(), rules.Reviewers, rules.Hours
	if rules.Wait > 0 {
		r.NotBefore = now.Add(rules.Wait)
	}
	return r
}

// askFor prepares the request of a release that its gate does not let through by itself.
func (e *Engine) askFor(ctx context.Context, j judgement, bound sallyport.Bound) (*sallyport.AccessRequest, error) {
	var push sallyport.Push
	var after sallyport.PushID
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if push, err = tx.Pushes().Get(j.run.Push); err != nil {
			return err
		}
		bound.Base, after, err = liveCommit(tx, j.artifact.Project, j.spec.Name)
		return err
	}); err != nil {
		return nil, err
	}
	who, err := e.involved(ctx, push, bound.Base, after)
	if err != nil {
		return nil, err
	}
	bound.Plan = j.run.PlanDigest
	return &sallyport.AccessRequest{
		Kind: sallyport.RequestRelease, Project: j.artifact.Project, Environment: j.spec.Name, Run: j.run.ID,
		By: sallyport.PartyOf(push.Actor), Why: clip(j.run.Title, 200), Bound: bound, Involved: who,
	}, nil
}

// holdRelease keeps a release as a deployment that waits, with the request that it
// waits for. It takes the place of those that wait before it.
func (c *change) holdRelease(rel sallyport.Release, j judgement) (sallyport.Deployment, error) {
	d, err := c.newDeployment(rel, j.spec, sallyport.DeployWaiting, waitingCause(j.spec), "")
	if err != nil {
		return d, err
	}
	open, err := c.Requests().Open()
	if err != nil {
		return d, err
	}
	for _, r := range open {
		if r.Kind != sallyport.RequestRelease || r.Project != d.Project || r.Environment != d.Environment {
			continue
		}
		why := fmt.Sprintf("#%d came after it", d.Number)
		if err := c.endRequest(r, sallyport.RequestWithdrawn, why, ""); err != nil {
			return d, err
		}
		_, id, _ := strings.Cut(r.Subject, "/")
		if _, err := c.advance(sallyport.DeploymentID(id), sallyport.DeploySuperseded, why); err != nil {
			return d, err
		}
	}
	return d, c.askRelease(d, *j.ask)
}

func waitingCause(spec sallyport.EnvironmentSpec) string {
	if spec.Approval {
		return fmt.Sprintf("waits for %d to approve", spec.Votes())
	}
	return "waits for the time at which the environment is entered"
}

// askRelease opens the request of a deployment that waits. Who deploys by hand asks.
func (c *change) askRelease(d sallyport.Deployment, r sallyport.AccessRequest) error {
	r.Subject = subjectOf("deployment", d.ID)
	if c.who.Kind != sallyport.System && c.who.ID != r.By.ID {
		// Who pushed stays among those involved.
		r.By = c.who
		sponsors, err := sponsorsOf(c.Tx)
		if err != nil {
			return err
		}
		if s := sponsors[c.who.ID]; s != "" {
			r.Involved = append(r.Involved, sallyport.Involved{ID: s, How: "sponsors " + c.who.String() + ", which asks"})
		}
	}
	r = under(r, d.Spec.EntryRules, c.now)
	_, err := c.openRequest(r)
	return err
}

// askAgain opens a new request for a release that still waits: the one before is void.
func (e *Engine) askAgain(ctx context.Context, w sallyport.Work, id sallyport.DeploymentID) error {
	d, _, err := e.loadDeployment(ctx, id)
	if err != nil {
		return err
	}
	if d.State != sallyport.DeployWaiting {
		return e.finish(ctx, w, func(*change) error { return nil })
	}
	a, err := e.deployedArtifact(ctx, d)
	if err != nil {
		return err
	}
	j, err := e.judge(ctx, a, d.Spec)
	if err != nil {
		return err
	}
	return e.finish(ctx, w, func(c *change) error {
		if d, err = c.Deployments().Get(id); err != nil || d.State != sallyport.DeployWaiting {
			return err
		}
		last, err := c.current(subjectOf("deployment", id))
		if err != nil || last.State.Open() {
			return err
		}
		if err := c.keepVerdict(j); err != nil {
			return err
		}
		if j.ask == nil {
			return e.refuseWaiting(c, id, fmt.Sprintf("the gate said %s: %s", j.verdict.Decision, j.verdict.Reasons[0]))
		}
		if err := c.swapVerdict(&d, j.verdict.ID); err != nil {
			return err
		}
		c.who = last.Request.By // who asked asks still
		return c.askRelease(d, *j.ask)
	})
}

// swapVerdict gives a deployment that waits the release with a newer verdict.
func (c *change) swapVerdict(d *sallyport.Deployment, v sallyport.VerdictID) error {
	rel, err := c.Releases().Get(d.Release)
	if err != nil {
		return err
	}
	rel.ID, rel.Verdict, rel.CreatedAt = newID[sallyport.ReleaseID](c), v, c.now
	if err := c.Releases().Insert(rel); err != nil {
		return err
	}
	d.Release = rel.ID
	return c.Deployments().Save(*d)
}

// reconsider looks at a request when its time has come, or enough people voted.
func (e *Engine) reconsider(ctx context.Context, w sallyport.Work, id sallyport.RequestID) error {
	var st sallyport.RequestStatus
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		r, err := tx.Requests().Get(id)
		if err != nil {
			return err
		}
		st, err = standing(tx, r, e.now())
		return err
	}); err != nil {
		return err
	}
	r := st.Request
	if r.Kind == sallyport.RequestRelease && st.State == sallyport.RequestApproved {
		return e.admitRelease(ctx, w, st)
	}
	return e.finish(ctx, w, func(c *change) error {
		st, err := c.status(id)
		if err != nil {
			return err
		}
		if r.Kind == sallyport.RequestJob {
			if st.State == sallyport.RequestDone || st.State.Open() || st.State == sallyport.RequestExpired {
				return e.settle(c, r.Run)
			}
			return nil
		}
		switch {
		case r.Kind == sallyport.RequestReview && st.State.Open() && !c.now.Before(r.ExpiresAt):
			return e.unreviewed(c, st)
		case st.State != sallyport.RequestExpired:
			return nil
		case r.Kind == sallyport.RequestRelease:
			return e.refuseRelease(c, r, sallyport.RequestExpired, st.Why)
		}
		return c.endIfOpen(st)
	})
}

// refuseRelease ends the request of a release, and the deployment that waits.
func (e *Engine) refuseRelease(c *change, r sallyport.AccessRequest, how sallyport.RequestState, why string) error {
	st, err := c.status(r.ID)
	if err != nil {
		return err
	}
	st.State, st.Why = how, why
	if err := c.endIfOpen(st); err != nil {
		return err
	}
	_, id, _ := strings.Cut(r.Subject, "/")
	return e.refuseWaiting(c, sallyport.DeploymentID(id), why)
}

func (e *Engine) refuseWaiting(c *change, id sallyport.DeploymentID, why string) error {
	d, err := c.Deployments().Get(id)
	if err != nil || d.State != sallyport.DeployWaiting {
		return err
	}
	return c.moveDeployment(&d, sallyport.DeployRefused, why)
}

// admitRelease judges again, with what people said, and sends the release on its way
// when its evidence is what they saw.
func (e *Engine) admitRelease(ctx context.Context, w sallyport.Work, st sallyport.RequestStatus) error {
	r := st.Request
	now := e.now()
	if opens := r.Opens(now); opens.IsZero() || opens.After(now) {
		return e.finish(ctx, w, func(c *change) error {
			if opens.IsZero() {
				return e.refuseRelease(c, r, sallyport.RequestVoid, "the environment has no hours in which it may enter")
			}
			return c.again(r, "opens/"+opens.Format(time.RFC3339), opens)
		})
	}
	_, id, _ := strings.Cut(r.Subject, "/")
	d, _, err := e.loadDeployment(ctx, sallyport.DeploymentID(id))
	if err != nil {
		return err
	}
	a, err := e.deployedArtifact(ctx, d)
	if err != nil {
		return err
	}
	rules, err := e.rulesNow(ctx, r)
	if err != nil {
		return err
	}
	probe := judgement{artifact: a, spec: d.Spec}
	doc, err := e.evidence(ctx, &probe)
	if err != nil {
		return err
	}
	bound, err := boundOf(doc)
	if err != nil {
		return err
	}
	bound.Plan = probe.run.PlanDigest
	j, err := e.judgeWith(ctx, a, d.Spec, approvalsOf(st))
	if err != nil {
		return err
	}
	return e.finish(ctx, w, func(c *change) error {
		st, err := c.status(r.ID)
		if err != nil || st.State != sallyport.RequestApproved {
			return err
		}
		d, err := c.Deployments().Get(d.ID)
		if err != nil {
			return err
		}
		if d.State != sallyport.DeployWaiting {
			return c.endRequest(r, sallyport.RequestWithdrawn, "the deployment is "+string(d.State), "")
		}
		if bound.Base, _, err = c.baseOf(r.Project, r.Environment); err != nil {
			return err
		}
		if !rules {
			return e.outdated(c, r)
		}
		if what := r.Bound.Differs(bound); what != "" {
			return e.void(c, r, what+" changed")
		}
		p, err := c.Projects().Get(r.Project)
		if err != nil {
			return err
		}
		if err := unstopped(c.Tx, sallyport.StopProject, p.Name); err != nil {
			return err
		}
		if j.overtaken, err = c.overtaken(j); err != nil {
			return err
		}
		if j.overtaken != "" && strings.HasPrefix(d.Actor, string(sallyport.System)+":") {
			if err := c.endRequest(r, sallyport.RequestWithdrawn, j.overtaken, ""); err != nil {
				return err
			}
			return c.moveDeployment(&d, sallyport.DeploySuperseded, j.overtaken)
		}
		if err := c.keepVerdict(j); err != nil {
			return err
		}
		if j.verdict.Decision != sallyport.Allow {
			return e.refuseRelease(c, r, sallyport.RequestVoid, fmt.Sprintf("the gate said %s: %s", j.verdict.Decision, j.verdict.Reasons[0]))
		}
		if err := c.endRequest(r, sallyport.RequestDone, "let through", ""); err != nil {
			return err
		}
		if err := c.swapVerdict(&d, j.verdict.ID); err != nil {
			return err
		}
		if err := c.moveDeployment(&d, sallyport.DeployPending, ""); err != nil {
			return err
		}
		return c.startNext(d.Project, d.Environment)
	})
}

// approvalsOf are the votes as a gate sees them; never nil.
func approvalsOf(st sallyport.RequestStatus) []policy.EvidenceApproval {
	out := []policy.EvidenceApproval{}
	for _, v := range st.Votes {
		if v.Word == sallyport.WordApprove {
			out = append(out, policy.EvidenceApproval{By: v.By.ID, At: v.At.Format(time.RFC3339), Request: string(st.Request.ID), Digest: string(st.Digest)})
		}
	}
	return out
}
