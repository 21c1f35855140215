package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// fake answers the services from memory. Every call that would change
// something is written down in calls.
type fake struct {
	mu          sync.Mutex
	calls       []string
	changed     chan struct{} // closed and replaced at every change of a run or a log
	stale       bool          // votes need a fresh login
	denied      bool          // every question is answered with CodeDenied
	projects    []sallyport.Project
	runs        []sallyport.Run // newest first
	jobs        map[sallyport.RunID][]sallyport.Job
	plan        *sallyport.Plan
	logs        map[sallyport.JobID]*fakeLog
	artifacts   []sallyport.Artifact
	content     map[sallyport.ArtifactID]string
	statements  []sallyport.Statement
	checked     []sallyport.Checked
	verdicts    []sallyport.Verdict
	envs        []sallyport.Environment
	deployments []sallyport.Deployment // newest first
	health      map[sallyport.DeploymentID]sallyport.Health
	traffic     map[sallyport.DeploymentID]sallyport.Traffic
	records     []sallyport.AuditRecord
	report      sallyport.AuditReport
	tokens      []sallyport.Token
	accounts    []sallyport.Account
	rules       sallyport.AccessRules
	holders     []sallyport.Holder
	caches      []sallyport.CacheEntry
	trace       sallyport.Trace
	doors       map[sallyport.RunID][]sallyport.Door
	secrets     []sallyport.SecretEntry
	rotations   []sallyport.RotationStatus
	cacheUses   []sallyport.CacheUse
	requests    []sallyport.RequestStatus
	grants      []sallyport.GrantStatus
	instance    sallyport.InstanceHealth
	issuer      sallyport.IssuerStatus
	issued      map[sallyport.JobID][]sallyport.IssuedToken
	verifyErr   error
}

type fakeLog struct {
	data []byte
	done bool
}

func (f *fake) services() sallyport.Services {
	return sallyport.Services{Projects: f, Runs: f, Artifacts: f, Gates: f, Deployments: f, Audit: f, Access: f, Instance: fakeInstance{f}, Caches: f, Doors: fakeDoors{f}, Secrets: f, Rights: fakeRights{f}, Approvals: fakeApprovals{f}, Stops: fakeStops{f}, Issuers: fakeIssuers{f}}
}

func (f *fake) did(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fake) done() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// ask is the first line of every method, as it is the engine's.
func (f *fake) ask(ctx context.Context) error {
	if f.denied || sallyport.PrincipalFrom(ctx).Kind == sallyport.Nobody {
		return sallyport.Errorf(sallyport.CodeDenied, "you may not do this").WithHint("ask an administrator of this installation")
	}
	return nil
}

func missingThing(what string) error {
	return sallyport.Errorf(sallyport.CodeNotFound, "there is no such %s", what)
}

func find[T any](ctx context.Context, f *fake, what string, all []T, is func(T) bool) (T, error) {
	var zero T
	if err := f.ask(ctx); err != nil {
		return zero, err
	}
	for _, v := range all {
		if is(v) {
			return v, nil
		}
	}
	return zero, missingThing(what)
}

func page[T any](all []T, p sallyport.Page, id func(T) string) []T {
	if p.Before != "" {
		for i, v := range all {
			if id(v) == p.Before {
				all = all[i+1:]
				break
			}
		}
	}
	limit := p.Limit
	if limit == 0 {
		limit = 50
	}
	return append([]T(nil), all[:min(len(all), limit)]...)
}

func (f *fake) CreateProject(ctx context.Context, name, branch string) (sallyport.Project, error) {
	f.did("CreateProject %s %s", name, branch)
	return sallyport.Project{Name: name, DefaultBranch: branch}, sallyport.ValidName("project", name)
}
func (f *fake) Project(ctx context.Context, nameOrID string) (sallyport.Project, error) {
	return find(ctx, f, "project", f.projects, func(p sallyport.Project) bool { return p.Name == nameOrID || string(p.ID) == nameOrID })
}
func (f *fake) Projects(ctx context.Context) ([]sallyport.Project, error) {
	return f.projects, f.ask(ctx)
}
func (f *fake) Pushing(context.Context, sallyport.ProjectID, []sallyport.RefUpdate) error { return nil }
func (f *fake) Pushed(context.Context, sallyport.ProjectID, []sallyport.RefUpdate) ([]sallyport.Push, error) {
	return nil, nil
}
func (f *fake) Reading(context.Context, sallyport.ProjectID) error { return nil }
func (f *fake) Deliver(context.Context, sallyport.ProjectID, sallyport.Delivery) ([]sallyport.Run, error) {
	return nil, nil
}

func (f *fake) Runs(ctx context.Context, q sallyport.RunFilter) ([]sallyport.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []sallyport.Run
	for _, r := range f.runs {
		if (q.Project == "" || r.Project == q.Project) && (q.Status == "" || r.Status == q.Status) {
			out = append(out, r)
		}
	}
	return page(out, q.Page, func(r sallyport.Run) string { return string(r.ID) }), f.ask(ctx)
}
func (f *fake) Run(ctx context.Context, id sallyport.RunID) (sallyport.Run, []sallyport.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := find(ctx, f, "run", f.runs, func(r sallyport.Run) bool { return r.ID == id })
	return r, append([]sallyport.Job(nil), f.jobs[id]...), err
}
func (f *fake) Plan(ctx context.Context, id sallyport.RunID) (*sallyport.Plan, error) {
	return f.plan, f.ask(ctx)
}
func (f *fake) Trace(ctx context.Context, j sallyport.JobID) (sallyport.Trace, error) {
	return f.trace, f.ask(ctx)
}
func (f *fake) Log(ctx context.Context, j sallyport.JobID, offset int64, n int, wait time.Duration) ([]byte, bool, error) {
	if err := f.ask(ctx); err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		f.mu.Lock()
		l, changed := f.logs[j], f.changed
		if l == nil {
			l = &fakeLog{done: true}
		}
		var data []byte
		if offset < int64(len(l.data)) {
			data = bytes.Clone(l.data[offset:min(int64(len(l.data)), offset+int64(n))])
		}
		done := l.done && offset+int64(len(data)) >= int64(len(l.data))
		f.mu.Unlock()
		if len(data) > 0 || done || wait == 0 {
			return data, done && len(data) == 0, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false, nil
		}
	}
}
func (f *fake) Cancel(ctx context.Context, id sallyport.RunID) error {
	f.did("Cancel %s", id)
	return f.ask(ctx)
}
func (f *fake) Dispatch(ctx context.Context, p sallyport.ProjectID, workflow, ref string, inputs []byte) ([]sallyport.Run, error) {
	f.did("Dispatch %s %s %s", workflow, ref, inputs)
	return f.runs[:1], f.ask(ctx)
}
func (f *fake) WaitChange(ctx context.Context, id sallyport.RunID) error {
	f.mu.Lock()
	changed := f.changed
	f.mu.Unlock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// change applies an edit and wakes those who wait.
func (f *fake) change(edit func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) Artifacts(ctx context.Context, id sallyport.RunID) ([]sallyport.Artifact, error) {
	var out []sallyport.Artifact
	for _, a := range f.artifacts {
		if a.Run == id {
			out = append(out, a)
		}
	}
	return out, f.ask(ctx)
}
func (f *fake) Artifact(ctx context.Context, id sallyport.ArtifactID) (sallyport.Artifact, error) {
	return find(ctx, f, "artifact", f.artifacts, func(a sallyport.Artifact) bool { return a.ID == id })
}
func (f *fake) FindArtifact(ctx context.Context, run sallyport.RunID, name string) (sallyport.Artifact, error) {
	return find(ctx, f, "artifact", f.artifacts, func(a sallyport.Artifact) bool { return a.Run == run && a.Name == name })
}
func (f *fake) Open(ctx context.Context, id sallyport.ArtifactID) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f.content[id])), f.ask(ctx)
}
func (f *fake) Statements(ctx context.Context, p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Statement, error) {
	var out []sallyport.Statement
	for _, s := range f.statements {
		if s.Subjects[0] == d {
			out = append(out, s)
		}
	}
	return out, f.ask(ctx)
}
func (f *fake) Bundle(ctx context.Context, id sallyport.StatementID) ([]byte, error) {
	s, err := find(ctx, f, "statement", f.statements, func(s sallyport.Statement) bool { return s.ID == id })
	return s.Bundle, err
}
func (f *fake) Verify(ctx context.Context, p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Checked, error) {
	var out []sallyport.Checked
	for _, c := range f.checked {
		if c.Subject == d {
			out = append(out, c)
		}
	}
	if f.verifyErr != nil {
		return nil, f.verifyErr
	}
	return out, f.ask(ctx)
}

func (f *fake) Verdicts(ctx context.Context, p sallyport.ProjectID, q sallyport.Page) ([]sallyport.Verdict, error) {
	var out []sallyport.Verdict
	for _, v := range f.verdicts {
		if v.Project == p {
			out = append(out, v)
		}
	}
	return page(out, q, func(v sallyport.Verdict) string { return string(v.ID) }), f.ask(ctx)
}
func (f *fake) Verdict(ctx context.Context, id sallyport.VerdictID) (sallyport.Verdict, error) {
	return find(ctx, f, "verdict", f.verdicts, func(v sallyport.Verdict) bool { return v.ID == id })
}
func (f *fake) Replay(ctx context.Context, id sallyport.VerdictID, policy string) (sallyport.Verdict, error) {
	f.did("Replay %s %q", id, policy)
	v, err := f.Verdict(ctx, id)
	if policy != "" {
		v.Decision, v.Reasons = sallyport.Allow, []string{"this policy allows everything"}
	}
	return v, err
}
func (f *fake) Judge(ctx context.Context, a sallyport.ArtifactID, environment string) (sallyport.Verdict, error) {
	f.did("Judge %s %s", a, environment)
	return f.verdicts[0], f.ask(ctx)
}

func (f *fake) Deployments(ctx context.Context, p sallyport.ProjectID, env string, q sallyport.Page) ([]sallyport.Deployment, error) {
	var out []sallyport.Deployment
	for _, d := range f.deployments {
		if d.Project == p && (env == "" || d.Environment == env) {
			out = append(out, d)
		}
	}
	return page(out, q, func(d sallyport.Deployment) string { return string(d.ID) }), f.ask(ctx)
}
func (f *fake) Deployment(ctx context.Context, id sallyport.DeploymentID) (sallyport.Deployment, error) {
	return find(ctx, f, "deployment", f.deployments, func(d sallyport.Deployment) bool { return d.ID == id })
}
func (f *fake) Environments(ctx context.Context, p sallyport.ProjectID) ([]sallyport.Environment, error) {
	var out []sallyport.Environment
	for _, e := range f.envs {
		if e.Project == p {
			out = append(out, e)
		}
	}
	return out, f.ask(ctx)
}
func (f *fake) Deploy(ctx context.Context, a sallyport.ArtifactID, env string) (sallyport.Deployment, error) {
	f.did("Deploy %s %s", a, env)
	return f.deployments[0], f.ask(ctx)
}
func (f *fake) Rollback(ctx context.Context, p sallyport.ProjectID, env, reason string) (sallyport.Deployment, error) {
	f.did("Rollback %s %q", env, reason)
	return f.deployments[0], f.ask(ctx)
}
func (f *fake) Health(ctx context.Context, id sallyport.DeploymentID) (sallyport.Health, sallyport.Traffic, error) {
	return f.health[id], f.traffic[id], f.ask(ctx)
}
func (f *fake) Output(ctx context.Context, id sallyport.DeploymentID) ([]byte, error) {
	return []byte("listening on :8080\nGET / 200 1.2ms\n<script>alert(1)</script>\n"), f.ask(ctx)
}

func (f *fake) Records(ctx context.Context, q sallyport.AuditFilter) ([]sallyport.AuditRecord, error) {
	var out []sallyport.AuditRecord
	for _, r := range f.records {
		if (q.Before == 0 || r.Seq < q.Before) && strings.HasPrefix(r.Action, q.Action) &&
			(q.Actor == "" || r.Actor == q.Actor) && (q.Object == "" || r.Object == q.Object) {
			out = append(out, r)
		}
	}
	return out[:min(len(out), q.Limit)], f.ask(ctx)
}
func (f *fake) VerifyAudit(ctx context.Context) (sallyport.AuditReport, error) {
	return f.report, f.ask(ctx)
}

func (f *fake) Authenticate(ctx context.Context, kind, value string) (sallyport.Principal, error) {
	if kind != sallyport.TokenSession || value != "good" {
		return sallyport.Principal{}, sallyport.Errorf(sallyport.CodeDenied, "no such session")
	}
	return sallyport.Principal{Kind: sallyport.Person, ID: "anna", Name: "anna", Admin: true}, nil
}
func (f *fake) Login(ctx context.Context, value string) (string, time.Time, error) {
	f.did("Login %s", value)
	if value != "once" {
		return "", time.Time{}, sallyport.Errorf(sallyport.CodeDenied, "wrong token")
	}
	return "good", sampleNow.Add(time.Hour), nil
}
func (f *fake) Logout(ctx context.Context, session string) error {
	f.did("Logout %s", session)
	return f.ask(ctx)
}
func (f *fake) CreateToken(ctx context.Context, name, kind string, p sallyport.Principal, ttl time.Duration) (string, sallyport.Token, error) {
	f.did("CreateToken %s %s %s %s", name, kind, p, ttl)
	return "sap_f3Kq0sNn1mYw8bGZ2vXc7RtLdJ4uHe6A", sallyport.Token{Name: name}, f.ask(ctx)
}
func (f *fake) Tokens(ctx context.Context) ([]sallyport.Token, error) { return f.tokens, f.ask(ctx) }
func (f *fake) RevokeToken(ctx context.Context, id sallyport.TokenID) error {
	f.did("RevokeToken %s", id)
	return f.ask(ctx)
}
func (f *fake) Denied(ctx context.Context, what, why string) { f.did("Denied %s", what) }

type fakeInstance struct{ f *fake }

func (i fakeInstance) TrustRoot(ctx context.Context) ([]byte, error) {
	return []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`), i.f.ask(ctx)
}
func (i fakeInstance) Identity(ctx context.Context, project, workflow, ref string) (string, string, error) {
	return sampleIssuer, sampleIdentity, i.f.ask(ctx)
}
func (i fakeInstance) TokenIssuer(ctx context.Context) (string, []byte, error) {
	return sampleIssuer, []byte(`{"keys":[]}`), i.f.ask(ctx)
}

type fakeIssuers struct{ f *fake }

func (i fakeIssuers) IssuerStatus(ctx context.Context) (sallyport.IssuerStatus, error) {
	return i.f.issuer, i.f.ask(ctx)
}
func (i fakeIssuers) RotateIssuer(ctx context.Context, in sallyport.RotateIssuer) (sallyport.IssuerStatus, error) {
	i.f.did("RotateIssuer %v", in)
	return i.f.issuer, i.f.ask(ctx)
}
func (i fakeIssuers) IssuedTokens(ctx context.Context, j sallyport.JobID) ([]sallyport.IssuedToken, error) {
	return i.f.issued[j], i.f.ask(ctx)
}
func (i fakeInstance) Health(ctx context.Context) (sallyport.InstanceHealth, error) {
	return i.f.instance, i.f.ask(ctx)
}

func (f *fake) Caches(ctx context.Context, p sallyport.ProjectID, _ sallyport.Page) ([]sallyport.CacheEntry, error) {
	var out []sallyport.CacheEntry
	for _, c := range f.caches {
		if c.Project == p {
			out = append(out, c)
		}
	}
	return out, f.ask(ctx)
}

func (f *fake) CacheUses(ctx context.Context, id sallyport.RunID) ([]sallyport.CacheUse, error) {
	var out []sallyport.CacheUse
	for _, u := range f.cacheUses {
		if u.Run == id {
			out = append(out, u)
		}
	}
	return out, f.ask(ctx)
}

type fakeDoors struct{ f *fake }

func (d fakeDoors) Doors(ctx context.Context, id sallyport.RunID) ([]sallyport.Door, error) {
	return d.f.doors[id], d.f.ask(ctx)
}

func (d fakeDoors) EgressRules(ctx context.Context, _ sallyport.ProjectID) (sallyport.EgressRules, error) {
	return sallyport.EgressRules{Level: sallyport.EgressRegistries}, d.f.ask(ctx)
}

func (d fakeDoors) Learn(ctx context.Context, _ sallyport.ProjectID, _ int, _ []byte) (sallyport.EgressProposal, error) {
	return sallyport.EgressProposal{}, d.f.ask(ctx)
}

func (f *fake) DeleteCache(ctx context.Context, id sallyport.CacheID) (sallyport.CacheEntry, error) {
	c, err := find(ctx, f, "cache entry", f.caches, func(c sallyport.CacheEntry) bool { return c.ID == id })
	if err == nil {
		f.did("DeleteCache %s", id)
	}
	return c, err
}

func (f *fake) Secrets(ctx context.Context, p sallyport.ProjectID) ([]sallyport.SecretEntry, error) {
	var out []sallyport.SecretEntry
	for _, e := range f.secrets {
		if e.Project == p {
			out = append(out, e)
		}
	}
	return out, f.ask(ctx)
}

func (f *fake) Rotations(ctx context.Context, p sallyport.ProjectID) ([]sallyport.RotationStatus, error) {
	var out []sallyport.RotationStatus
	for _, r := range f.rotations {
		if r.Rule.Project == p {
			out = append(out, r)
		}
	}
	return out, f.ask(ctx)
}

func (f *fake) SetRotation(ctx context.Context, _ sallyport.ProjectID, _, _ string, r sallyport.RotationRule, _ sallyport.Secret) (sallyport.RotationRule, error) {
	return r, f.ask(ctx)
}

func (f *fake) Leak(ctx context.Context, _ sallyport.ProjectID, _, _, _ string) (sallyport.Incident, error) {
	return sallyport.Incident{}, f.ask(ctx)
}

func (f *fake) Rotate(ctx context.Context, p sallyport.ProjectID, environment, name string) (sallyport.Rotation, error) {
	r, err := find(ctx, f, "rotation", f.rotations, func(r sallyport.RotationStatus) bool {
		return r.Rule.Project == p && r.Rule.Environment == environment && r.Rule.Name == name
	})
	if err != nil {
		return sallyport.Rotation{}, err
	}
	f.did("Rotate %s %q %s", p, environment, name)
	return *r.Last, nil
}

func (f *fake) SetSecret(ctx context.Context, p sallyport.ProjectID, environment, name string, value sallyport.Secret) (sallyport.SecretEntry, error) {
	if err := f.ask(ctx); err != nil {
		return sallyport.SecretEntry{}, err
	}
	f.did("SetSecret %s %q %s %s", p, environment, name, sallyport.DigestOf(value.Reveal()).Short())
	return sallyport.SecretEntry{}, nil
}

func (f *fake) DeleteSecret(ctx context.Context, p sallyport.ProjectID, environment, name string) error {
	_, err := find(ctx, f, "secret", f.secrets, func(e sallyport.SecretEntry) bool {
		return e.Project == p && e.Environment == environment && e.Name == name
	})
	if err == nil {
		f.did("DeleteSecret %s %q %s", p, environment, name)
	}
	return err
}

// fakeRights answers what the page of access asks; nothing else is asked.
type fakeRights struct{ *fake }

func (f fakeRights) Accounts(ctx context.Context) ([]sallyport.Account, error) {
	return f.accounts, f.ask(ctx)
}
func (f fakeRights) AddAccount(ctx context.Context, a sallyport.Account) (sallyport.Account, error) {
	f.did("AddAccount")
	return a, f.ask(ctx)
}
func (f fakeRights) LinkLogin(ctx context.Context, id, subject string) error {
	f.did("LinkLogin")
	return f.ask(ctx)
}
func (f fakeRights) RemoveAccount(ctx context.Context, id string) error {
	f.did("RemoveAccount")
	return f.ask(ctx)
}
func (f fakeRights) AccessRules(ctx context.Context) (sallyport.AccessRules, error) {
	return f.rules, f.ask(ctx)
}
func (f fakeRights) WhoCan(ctx context.Context, action, resource string) ([]sallyport.Holder, error) {
	if !strings.Contains(resource, "::") {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%q names no entity", resource)
	}
	return f.holders, f.ask(ctx)
}
func (f fakeRights) CompareRules(ctx context.Context, source string) (sallyport.AccessChange, error) {
	f.did("CompareRules")
	return sallyport.AccessChange{}, f.ask(ctx)
}
func (f fakeRights) SetRules(ctx context.Context, source string) (sallyport.AccessChange, error) {
	f.did("SetRules")
	return sallyport.AccessChange{}, f.ask(ctx)
}

type fakeApprovals struct{ *fake }

func (f fakeApprovals) Ask(ctx context.Context, a sallyport.AccessAsk) (sallyport.RequestStatus, error) {
	f.did("Ask %s", a.Action)
	return sallyport.RequestStatus{}, f.ask(ctx)
}
func (f fakeApprovals) Requests(ctx context.Context, p sallyport.ProjectID, open bool, page sallyport.Page) (out []sallyport.RequestStatus, err error) {
	for _, r := range f.requests {
		if !open || r.State.Open() {
			out = append(out, r)
		}
	}
	return out, f.ask(ctx)
}
func (f fakeApprovals) Request(ctx context.Context, id sallyport.RequestID) (sallyport.RequestStatus, error) {
	for _, r := range f.requests {
		if r.Request.ID == id {
			return r, f.ask(ctx)
		}
	}
	return sallyport.RequestStatus{}, sallyport.Errorf(sallyport.CodeNotFound, "there is no such request")
}
func (f fakeApprovals) Vote(ctx context.Context, id sallyport.RequestID, v sallyport.Vote) (sallyport.RequestStatus, error) {
	f.did("Vote %s %s %s %s", id, v.Word, v.Note, v.Digest)
	if f.stale {
		return sallyport.RequestStatus{}, &sallyport.Error{Code: sallyport.CodeDenied, Message: "log in again", Err: sallyport.ErrLoginAgain}
	}
	return sallyport.RequestStatus{}, f.ask(ctx)
}
func (f fakeApprovals) Withdraw(ctx context.Context, id sallyport.RequestID) error {
	f.did("Withdraw %s", id)
	return f.ask(ctx)
}
func (f fakeApprovals) Activate(ctx context.Context, id sallyport.RequestID) (sallyport.GrantStatus, error) {
	f.did("Activate %s", id)
	return sallyport.GrantStatus{}, f.ask(ctx)
}
func (f fakeApprovals) Grants(ctx context.Context, page sallyport.Page) ([]sallyport.GrantStatus, error) {
	return f.grants, f.ask(ctx)
}
func (f fakeApprovals) Revoke(ctx context.Context, id sallyport.GrantID, why string) error {
	f.did("Revoke %s %s", id, why)
	return f.ask(ctx)
}

type fakeStops struct{ *fake }

func (f fakeStops) Stop(ctx context.Context, kind sallyport.StopKind, name, why string) (sallyport.StopReport, error) {
	f.did("Stop %s %s %s", kind, name, why)
	return sallyport.StopReport{Stop: sallyport.Stop{Kind: kind, Name: name}, Stopped: []sallyport.Stopped{{What: "token", Text: "laptop of person:ben"}},
		Left: []sallyport.Stopped{{What: "id-token", Text: "for sts.example; credentials that it was exchanged for live on"}}}, f.ask(ctx)
}
func (f fakeStops) Lift(ctx context.Context, kind sallyport.StopKind, name, why string) (sallyport.Stop, error) {
	f.did("Lift %s %s %s", kind, name, why)
	return sallyport.Stop{Kind: kind, Name: name}, f.ask(ctx)
}
func (f fakeStops) Stops(ctx context.Context) ([]sallyport.Stop, error) {
	return []sallyport.Stop{{ID: "5100", Kind: sallyport.StopRunner, Name: "yard-7", Why: "it reached a host that it should not know", By: sallyport.Party{Kind: sallyport.Person, ID: "person/anna", Name: "anna"}, At: ago(4 * time.Minute)}}, f.ask(ctx)
}
