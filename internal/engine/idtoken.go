package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport"
)

const (
	maxAudience = 512
	// maxIDTokens bounds the records that a job may cause by asking.
	maxIDTokens = 200
)

// IDToken says who a job is, to those outside who trust this installation. Every
// answer and every refusal is recorded.
func (y yard) IDToken(ctx context.Context, l sallyport.LeaseRef, audience string) (string, error) {
	e := y.e
	if err := e.allow(ctx, actYard, ""); err != nil {
		return "", err
	}
	if len(audience) > maxAudience || !utf8.ValidString(audience) || strings.ContainsFunc(audience, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "the audience is not text of at most %d bytes", maxAudience)
	}
	var claims map[string]any
	var to sallyport.Audience
	var refused error
	err := e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		claims, refused = nil, nil
		if err := unstopped(c.Tx, sallyport.StopKey, sallyport.KeyIDToken); err != nil {
			return err
		}
		asked, err := c.Audit().List(sallyport.AuditFilter{Action: "idtoken.", Object: "job/" + string(j.ID), Limit: maxIDTokens})
		if err != nil {
			return err
		}
		if len(asked) >= maxIDTokens {
			return sallyport.Errorf(sallyport.CodeInvalid, "the job asked for %d ID tokens", maxIDTokens).WithHint("ask once for each audience and keep the token while it is good")
		}
		if claims, to, refused, err = e.idClaims(c, j, audience); err != nil || refused == nil {
			return err
		}
		return c.record("idtoken.refused", "job/"+string(j.ID), issuedDetail{Run: j.Run, Audience: audience, Why: refused.Error(), Step: runningStep(j)})
	})
	if err != nil {
		return "", err
	}
	if refused != nil {
		return "", refused
	}
	encoded, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	keys, err := e.issuerKeys(ctx)
	if err != nil {
		return "", err
	}
	algorithm := cmp.Or(to.Algorithm, sallyport.RS256)
	key, ok := keys.Signing(algorithm, e.now())
	if !ok {
		return "", sallyport.Errorf(sallyport.CodeUnavailable, "no key signs ID tokens by %s now", algorithm)
	}
	token, err := e.tokens.Sign(ctx, key, encoded)
	if err != nil {
		return "", err
	}
	// Recorded before it is handed out, by the lease that asked.
	err = e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		return c.record("idtoken.issued", "job/"+string(j.ID), issuedDetail{
			Run: j.Run, Attempt: j.Attempt, Step: runningStep(j), Audience: to.Name, Subject: claims["sub"].(string),
			ID: claims["jti"].(string), Kid: key.Kid, Expires: claims["exp"].(int64),
		})
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// idClaims returns what the job's token says, in GitHub's names and grammar, or
// why it gets none.
func (e *Engine) idClaims(c *change, job sallyport.Job, audience string) (claims map[string]any, to sallyport.Audience, refused, err error) {
	s, err := e.loadSettlement(c, job.Run)
	if err != nil {
		return nil, to, nil, err
	}
	f, pj, err := s.home(job.ID)
	if err != nil {
		return nil, to, nil, err
	}
	granted, err := f.grants(pj, "id-token", "write")
	if err != nil {
		return nil, to, nil, err
	}
	switch {
	case e.tokens == nil:
		return nil, to, sallyport.Errorf(sallyport.CodeDenied, "there is no issuer of ID tokens here").WithHint("run the workflow on an installation"), nil
	case !granted:
		return nil, to, sallyport.Errorf(sallyport.CodeDenied, "the job may not have ID tokens").
			WithHint("add id-token: write to the permissions of the job and of the jobs that call its workflow"), nil
	}
	if refused := s.speaksFor(job, "ID tokens"); refused != nil {
		return nil, to, refused, nil
	}

	var g map[string]any
	if err := json.Unmarshal(e.githubContext(s.p, s.push, s.run), &g); err != nil {
		return nil, to, nil, err
	}
	to, refused = f.audience(job, audience, e.tokenIssuer()+"/"+ownerOf(s.p.Name))
	if refused != nil {
		return nil, to, refused, nil
	}
	var in string
	if job.Environment != nil {
		in = job.Environment.Name
		if r := f.rule(&job); r != nil {
			in = r.Name // as it is declared; a job may write it in other case
		}
	}
	sub, refused := subject(s.p, s.run, in)
	if refused != nil {
		return nil, to, refused, nil
	}
	now := c.now
	claims = map[string]any{
		"iss": e.tokenIssuer(), "sub": sub, "aud": to.Name, "jti": string(sallyport.NewID[sallyport.TokenID](now)),
		"iat": now.Unix(), "nbf": now.Add(-sallyport.IDTokenSkew).Unix(), "exp": now.Add(sallyport.IDTokenLife).Unix(),
		"run_attempt": "1", "job_workflow_ref": f.workflowRef(), "job_workflow_sha": f.workflowCommit(),
		"runner_environment": "self-hosted", "repository_visibility": "private",
		// Beyond GitHub's: how far the run is trusted, and which job of it asks.
		"tier": s.run.Tier, "job": job.Key, "job_id": job.ID, "plan_digest": s.run.PlanDigest,
		"actor_type": actorType(s.push.Actor.Kind),
		// An owner is no more than a name here, which passes with its project.
		"repository_owner_id": s.p.ID,
	}
	for _, key := range []string{
		"actor", "actor_id", "base_ref", "event_name", "head_ref", "ref", "ref_type", "repository", "repository_id", "repository_owner",
		"run_id", "run_number", "sha", "workflow", "workflow_ref", "workflow_sha",
	} {
		claims[key] = g[key]
	}
	claims["ref_protected"] = "false"
	if g["ref_protected"] == true {
		claims["ref_protected"] = "true"
	}
	if in != "" {
		claims["environment"], claims["environment_tier"] = in, s.run.Tier
		if r := f.rule(&job); r != nil && r.Votes() > 0 {
			claims["environment_tier"] = sallyport.TierRelease // somebody let it in
		}
	}
	if s.push.Actor.Kind == sallyport.Agent {
		switch a, err := c.Accounts().Get(s.push.Actor.ID); {
		case err == nil:
			claims["on_behalf_of"] = a.Sponsor
		case sallyport.ErrorCode(err) != sallyport.CodeNotFound:
			return nil, to, nil, err
		}
	}
	if tagged(to.Name) {
		claims[awsTags] = sessionTags(claims)
	}
	return claims, to, nil, nil
}

// actorType says what caused the run.
func actorType(k sallyport.PrincipalKind) string {
	switch k {
	case sallyport.Person:
		return "human"
	case sallyport.Bot, sallyport.Agent, sallyport.System:
		return string(k)
	}
	return "unknown"
}

// runningStep is the number of the step that the runner last said was running, 0 for
// none: the runner's word, for people who read the trail.
func runningStep(j sallyport.Job) int {
	for i := len(j.Steps) - 1; i >= 0; i-- {
		if s := j.Steps[i]; s.Status == sallyport.StatusInProgress {
			return s.Number
		}
	}
	return 0
}

// speaksFor returns why a job gets nothing signed (what) that says where it comes from; nil
// when it may.
func (s *settlement) speaksFor(job sallyport.Job, what string) error {
	deny := func(hint, format string, args ...any) error {
		return sallyport.Errorf(sallyport.CodeDenied, format, args...).WithHint("%s", hint)
	}
	switch {
	case s.run.Tier == sallyport.TierUntrusted:
		return deny("let somebody who may push start the run", "a run that somebody outside caused gets no %s", what)
	case s.run.Event != "pull_request" && s.belowItsRef():
		return deny("start the workflow by a push or by hand", "the run has the code of %s and is trusted less: %s would speak for that ref", s.run.Ref, what)
	case s.run.Event == "pull_request_target" && job.Environment == nil:
		return deny("name an environment in the job", "a run of pull_request_target gets %s in an environment only", what)
	}
	return nil
}

// grants tells whether the job's token has a permission, and those of all jobs above
// it that call: a called workflow never has more than its caller.
func (f *frame) grants(pj *sallyport.PlanJob, scope, access string) (bool, error) {
	for {
		permissions := pj.Permissions
		if permissions == nil && f.call != nil {
			permissions = f.call.Permissions
		} else if permissions == nil {
			permissions = f.s.plan.Permissions
		}
		if permissions[scope] != access {
			return false, nil
		}
		if f.caller == nil {
			return true, nil
		}
		var err error
		if f, pj, err = f.s.home(f.caller.ID); err != nil {
			return false, err
		}
	}
}

// workflowRef names the workflow file that the frame's jobs are in.
func (f *frame) workflowRef() string {
	path := f.s.plan.Workflow.Path
	if f.call != nil {
		path = f.call.Workflow.Path
	}
	if from := f.source(); from != nil {
		return from.Repository + "/" + path + "@" + from.Ref
	}
	return f.s.p.Name + "/" + path + "@" + f.s.push.Ref
}

// workflowCommit is the commit of that file.
func (f *frame) workflowCommit() string {
	if from := f.source(); from != nil {
		return from.Commit
	}
	return f.s.push.Commit
}

// source is the other repository that the frame's workflow came from: that which its
// call names, or that of whoever called it by a local path.
func (f *frame) source() *sallyport.PlanSource {
	for g := f; g != nil; g = g.above {
		if g.call != nil && g.call.Source != nil {
			return g.call.Source
		}
	}
	return nil
}
