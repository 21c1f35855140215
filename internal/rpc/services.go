package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// The largest Sigstore bundle, trusted root and service output that are read.
	maxDocument = 16 << 20
	// What Log asks for when the caller does not say.
	defaultLogChunk = 1 << 20
)

// Services returns the services of the server.
func (c *Client) Services() sallyport.Services {
	return sallyport.Services{
		Projects: projects{c}, Runs: runs{c}, Artifacts: artifacts{c}, Gates: gates{c},
		Deployments: deployments{c}, Audit: audit{c}, Access: access{c}, Instance: instance{c}, Caches: caches{c}, Doors: doors{c}, Secrets: secrets{c}, Rights: rights{c}, Approvals: approvals{c}, Stops: stops{c}, Issuers: issuers{c},
	}
}

func byProject[T ~string](p T) ByProject { return ByProject{Project: string(p)} }

func paged(p sallyport.Page) Paged { return Paged{Before: p.Before, Limit: p.Limit} }

// list makes a call that answers a list.
func list[In, T any](ctx context.Context, c *Client, call Call[In, List[T]], in In) ([]T, error) {
	out, err := do(ctx, c, call, in)
	return out.Items, err
}

// tell makes a call that answers nothing.
func tell[In any](ctx context.Context, c *Client, call Call[In, None], in In) error {
	_, err := do(ctx, c, call, in)
	return err
}

type projects struct{ c *Client }

func (s projects) CreateProject(ctx context.Context, name, defaultBranch string) (sallyport.Project, error) {
	var in CreateProjectIn
	in.Body.Name, in.Body.DefaultBranch = name, defaultBranch
	return do(ctx, s.c, CreateProject, in)
}

func (s projects) Project(ctx context.Context, nameOrID string) (sallyport.Project, error) {
	return do(ctx, s.c, GetProject, byProject(nameOrID))
}

func (s projects) Projects(ctx context.Context) ([]sallyport.Project, error) {
	return list(ctx, s.c, ListProjects, Nothing{})
}

func (s projects) Pushing(ctx context.Context, p sallyport.ProjectID, updates []sallyport.RefUpdate) error {
	in := UpdatesIn{ByProject: byProject(p)}
	in.Body.Updates = updates
	return tell(ctx, s.c, Pushing, in)
}

func (s projects) Pushed(ctx context.Context, p sallyport.ProjectID, updates []sallyport.RefUpdate) ([]sallyport.Push, error) {
	in := UpdatesIn{ByProject: byProject(p)}
	in.Body.Updates = updates
	return list(ctx, s.c, Pushed, in)
}

func (s projects) Reading(ctx context.Context, p sallyport.ProjectID) error {
	return tell(ctx, s.c, Reading, byProject(p))
}

func (s projects) Deliver(ctx context.Context, p sallyport.ProjectID, d sallyport.Delivery) ([]sallyport.Run, error) {
	return list(ctx, s.c, Deliver, DeliverIn{ByProject: byProject(p), Body: d})
}

type runs struct{ c *Client }

func (s runs) Runs(ctx context.Context, f sallyport.RunFilter) ([]sallyport.Run, error) {
	return list(ctx, s.c, ListRuns, RunsIn{Project: f.Project, Push: f.Push, Status: f.Status, Paged: paged(f.Page)})
}

func (s runs) Run(ctx context.Context, id sallyport.RunID) (sallyport.Run, []sallyport.Job, error) {
	out, err := do(ctx, s.c, GetRun, ByRun{id})
	return out.Run, out.Jobs, err
}

func (s runs) Plan(ctx context.Context, id sallyport.RunID) (*sallyport.Plan, error) {
	plan, err := do(ctx, s.c, GetPlan, ByRun{id})
	if err != nil {
		return nil, err
	}
	return &plan, nil
}

func (s runs) Trace(ctx context.Context, j sallyport.JobID) (sallyport.Trace, error) {
	return do(ctx, s.c, GetTrace, ByJob{j})
}

// Log waits at most MaxWait, however long wait is.
func (s runs) Log(ctx context.Context, j sallyport.JobID, offset int64, max int, wait time.Duration) ([]byte, bool, error) {
	if max <= 0 {
		max = defaultLogChunk
	}
	max = min(max, MaxLogChunk)
	in := LogIn{Job: j, Offset: offset, Max: max, Wait: min(wait, MaxWait).Milliseconds()}
	data, header, err := read(ctx, s.c, ReadLog, in, int64(max))
	if err != nil {
		return nil, false, err
	}
	done, err := strconv.ParseBool(header.Get(HeaderDone))
	return data, done, err
}

func (s runs) Cancel(ctx context.Context, id sallyport.RunID) error {
	return tell(ctx, s.c, CancelRun, ByRun{id})
}

func (s runs) Dispatch(ctx context.Context, p sallyport.ProjectID, workflow, ref string, inputs []byte) ([]sallyport.Run, error) {
	in := DispatchIn{ByProject: byProject(p)}
	in.Body.Workflow, in.Body.Ref, in.Body.Inputs = workflow, ref, json.RawMessage(inputs)
	if len(inputs) > 0 && !json.Valid(inputs) {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the inputs are not JSON").WithHint("write them as an object")
	}
	return list(ctx, s.c, Dispatch, in)
}

// WaitChange also returns after MaxWait: what changed between two calls
// would be missed if it went on to wait.
func (s runs) WaitChange(ctx context.Context, id sallyport.RunID) error {
	_, err := do(ctx, s.c, WaitRun, ByRun{id})
	return err
}

type artifacts struct{ c *Client }

func (s artifacts) Artifacts(ctx context.Context, id sallyport.RunID) ([]sallyport.Artifact, error) {
	return list(ctx, s.c, ListArtifacts, ByRun{id})
}

func (s artifacts) Artifact(ctx context.Context, id sallyport.ArtifactID) (sallyport.Artifact, error) {
	return do(ctx, s.c, GetArtifact, ByArtifact{id})
}

func (s artifacts) FindArtifact(ctx context.Context, run sallyport.RunID, name string) (sallyport.Artifact, error) {
	return do(ctx, s.c, FindArtifact, FindArtifactIn{ByRun: ByRun{run}, Name: name})
}

func (s artifacts) Open(ctx context.Context, id sallyport.ArtifactID) (io.ReadCloser, error) {
	return open(ctx, s.c, OpenContent, ByArtifact{id})
}

func (s artifacts) Statements(ctx context.Context, p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Statement, error) {
	return list(ctx, s.c, ListStatements, ByDigest{byProject(p), d})
}

func (s artifacts) Bundle(ctx context.Context, id sallyport.StatementID) ([]byte, error) {
	b, _, err := read(ctx, s.c, GetBundle, ByStatement{id}, maxDocument)
	return b, err
}

func (s artifacts) Verify(ctx context.Context, p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Checked, error) {
	items, err := list(ctx, s.c, Verify, ByDigest{byProject(p), d})
	out := make([]sallyport.Checked, len(items))
	for i, item := range items {
		out[i] = item.Value()
	}
	return out, err
}

type gates struct{ c *Client }

func (s gates) Verdicts(ctx context.Context, p sallyport.ProjectID, page sallyport.Page) ([]sallyport.Verdict, error) {
	return list(ctx, s.c, ListVerdicts, ProjectPageIn{byProject(p), paged(page)})
}

func (s gates) Verdict(ctx context.Context, id sallyport.VerdictID) (sallyport.Verdict, error) {
	v, err := do(ctx, s.c, GetVerdict, ByVerdict{id})
	return v.Value(), err
}

func (s gates) Replay(ctx context.Context, id sallyport.VerdictID, policy string) (sallyport.Verdict, error) {
	in := ReplayIn{ByVerdict: ByVerdict{id}}
	in.Body.Policy = policy
	v, err := do(ctx, s.c, Replay, in)
	return v.Value(), err
}

func (s gates) Judge(ctx context.Context, a sallyport.ArtifactID, environment string) (sallyport.Verdict, error) {
	v, err := do(ctx, s.c, Judge, toEnvironment(a, environment))
	return v.Value(), err
}

func toEnvironment(a sallyport.ArtifactID, environment string) ToEnvironmentIn {
	in := ToEnvironmentIn{ByArtifact: ByArtifact{a}}
	in.Body.Environment = environment
	return in
}

type deployments struct{ c *Client }

func (s deployments) Deployments(ctx context.Context, p sallyport.ProjectID, environment string, page sallyport.Page) ([]sallyport.Deployment, error) {
	return list(ctx, s.c, ListDeployments, DeploymentsIn{byProject(p), environment, paged(page)})
}

func (s deployments) Deployment(ctx context.Context, id sallyport.DeploymentID) (sallyport.Deployment, error) {
	return do(ctx, s.c, GetDeployment, ByDeployment{id})
}

func (s deployments) Environments(ctx context.Context, p sallyport.ProjectID) ([]sallyport.Environment, error) {
	return list(ctx, s.c, ListEnvironments, byProject(p))
}

func (s deployments) Deploy(ctx context.Context, a sallyport.ArtifactID, environment string) (sallyport.Deployment, error) {
	return do(ctx, s.c, Deploy, toEnvironment(a, environment))
}

func (s deployments) Rollback(ctx context.Context, p sallyport.ProjectID, environment, reason string) (sallyport.Deployment, error) {
	in := RollbackIn{ByProject: byProject(p)}
	in.Body.Environment, in.Body.Reason = environment, reason
	return do(ctx, s.c, Rollback, in)
}

func (s deployments) Health(ctx context.Context, id sallyport.DeploymentID) (sallyport.Health, sallyport.Traffic, error) {
	out, err := do(ctx, s.c, DeploymentHealth, ByDeployment{id})
	return out.Health, out.Traffic, err
}

func (s deployments) Output(ctx context.Context, id sallyport.DeploymentID) ([]byte, error) {
	b, _, err := read(ctx, s.c, GetOutput, ByDeployment{id}, maxDocument)
	return b, err
}

type caches struct{ c *Client }

func (s caches) Caches(ctx context.Context, p sallyport.ProjectID, page sallyport.Page) ([]sallyport.CacheEntry, error) {
	return list(ctx, s.c, ListCaches, ProjectPageIn{byProject(p), paged(page)})
}

func (s caches) CacheUses(ctx context.Context, id sallyport.RunID) ([]sallyport.CacheUse, error) {
	return list(ctx, s.c, CacheUses, ByRun{id})
}

func (s caches) DeleteCache(ctx context.Context, id sallyport.CacheID) (sallyport.CacheEntry, error) {
	return do(ctx, s.c, DeleteCache, ByCache{id})
}

type secrets struct{ c *Client }

func (s secrets) Secrets(ctx context.Context, p sallyport.ProjectID) ([]sallyport.SecretEntry, error) {
	return list(ctx, s.c, ListSecrets, byProject(p))
}

func (s secrets) SetSecret(ctx context.Context, p sallyport.ProjectID, environment, name string, value sallyport.Secret) (sallyport.SecretEntry, error) {
	in := SetSecretIn{BySecret: BySecret{byProject(p), name, environment}}
	in.Body.Value = string(value.Reveal())
	return do(ctx, s.c, SetSecret, in)
}

func (s secrets) DeleteSecret(ctx context.Context, p sallyport.ProjectID, environment, name string) error {
	return tell(ctx, s.c, DeleteSecret, BySecret{byProject(p), name, environment})
}

func (s secrets) Rotations(ctx context.Context, p sallyport.ProjectID) ([]sallyport.RotationStatus, error) {
	return list(ctx, s.c, ListRotations, byProject(p))
}

func (s secrets) SetRotation(ctx context.Context, p sallyport.ProjectID, environment, name string, r sallyport.RotationRule, admin sallyport.Secret) (sallyport.RotationRule, error) {
	in := SetRotationIn{BySecret: BySecret{byProject(p), name, environment}}
	in.Body.Rule, in.Body.Admin = r, string(admin.Reveal())
	return do(ctx, s.c, SetRotation, in)
}

func (s secrets) Rotate(ctx context.Context, p sallyport.ProjectID, environment, name string) (sallyport.Rotation, error) {
	return do(ctx, s.c, Rotate, BySecret{byProject(p), name, environment})
}

func (s secrets) Leak(ctx context.Context, p sallyport.ProjectID, environment, name, where string) (sallyport.Incident, error) {
	in := LeakIn{BySecret: BySecret{byProject(p), name, environment}}
	in.Body.Where = where
	return do(ctx, s.c, Leak, in)
}

type audit struct{ c *Client }

func (s audit) Records(ctx context.Context, f sallyport.AuditFilter) ([]sallyport.AuditRecord, error) {
	return list(ctx, s.c, ListRecords, RecordsIn(f))
}

func (s audit) VerifyAudit(ctx context.Context) (sallyport.AuditReport, error) {
	return do(ctx, s.c, VerifyAudit, Nothing{})
}

type access struct{ c *Client }

func credential(kind, value string) CredentialIn {
	var in CredentialIn
	in.Body.Kind, in.Body.Value = kind, value
	return in
}

func (s access) Authenticate(ctx context.Context, kind, value string) (sallyport.Principal, error) {
	return do(ctx, s.c, Authenticate, credential(kind, value))
}

func (s access) Login(ctx context.Context, value string) (string, time.Time, error) {
	out, err := do(ctx, s.c, Login, credential("", value))
	return out.Session, out.Expires, err
}

func (s access) Logout(ctx context.Context, session string) error {
	return tell(ctx, s.c, Logout, credential("", session))
}

func (s access) CreateToken(ctx context.Context, name, kind string, p sallyport.Principal, ttl time.Duration) (string, sallyport.Token, error) {
	var in CreateTokenIn
	in.Body.Name, in.Body.Kind, in.Body.Principal, in.Body.TTLSeconds = name, kind, p, int64(ttl/time.Second)
	out, err := do(ctx, s.c, CreateToken, in)
	return out.Value, out.Token, err
}

func (s access) Tokens(ctx context.Context) ([]sallyport.Token, error) {
	return list(ctx, s.c, ListTokens, Nothing{})
}

func (s access) RevokeToken(ctx context.Context, id sallyport.TokenID) error {
	return tell(ctx, s.c, RevokeToken, ByToken{id})
}

// Denied has no error to return; a record that cannot be sent is lost, and the
// server has its own of the connection's failure.
func (s access) Denied(ctx context.Context, what, why string) {
	var in DeniedIn
	in.Body.What, in.Body.Why = what, why
	_ = tell(ctx, s.c, Denied, in)
}

type instance struct{ c *Client }

func (s instance) TrustRoot(ctx context.Context) ([]byte, error) {
	b, _, err := read(ctx, s.c, TrustRoot, Nothing{}, maxDocument)
	return b, err
}

func (s instance) Identity(ctx context.Context, project, workflow, ref string) (issuer, identity string, err error) {
	out, err := do(ctx, s.c, Identity, IdentityIn{Project: project, Workflow: workflow, Ref: ref})
	return out.Issuer, out.Identity, err
}

func (s instance) Health(ctx context.Context) (sallyport.InstanceHealth, error) {
	return do(ctx, s.c, InstanceHealth, Nothing{})
}

func (s instance) TokenIssuer(ctx context.Context) (string, []byte, error) {
	out, err := do(ctx, s.c, ShowTokenIssuer, Nothing{})
	return out.Issuer, out.Keys, err
}

type issuers struct{ c *Client }

func (s issuers) IssuerStatus(ctx context.Context) (sallyport.IssuerStatus, error) {
	return do(ctx, s.c, IssuerStatus, Nothing{})
}

func (s issuers) RotateIssuer(ctx context.Context, in sallyport.RotateIssuer) (sallyport.IssuerStatus, error) {
	return do(ctx, s.c, RotateIssuer, RotateIssuerIn{Body: in})
}

func (s issuers) IssuedTokens(ctx context.Context, j sallyport.JobID) ([]sallyport.IssuedToken, error) {
	out, err := do(ctx, s.c, IssuedTokens, ByJob{j})
	return out.Items, err
}

// open makes a call that answers a stream, which the caller closes.
func open[In any](ctx context.Context, c *Client, call Call[In, Bytes], in In) (io.ReadCloser, error) {
	resp, err := send(ctx, c, call, in, nil)
	if err != nil {
		return nil, err
	}
	return &stream{ctx: ctx, c: c, r: resp.Body, Closer: resp.Body}, nil
}

// stream says in our words when it breaks off.
type stream struct {
	ctx context.Context // of the call whose answer it is
	c   *Client
	r   io.Reader
	io.Closer
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.c.broken(s.ctx, err)
	}
	return n, err
}

type doors struct{ c *Client }

func (s doors) Doors(ctx context.Context, id sallyport.RunID) ([]sallyport.Door, error) {
	return list(ctx, s.c, ListDoors, ByRun{id})
}

func (s doors) EgressRules(ctx context.Context, p sallyport.ProjectID) (sallyport.EgressRules, error) {
	return do(ctx, s.c, ShowEgress, byProject(p))
}

func (s doors) Learn(ctx context.Context, p sallyport.ProjectID, runs int, file []byte) (sallyport.EgressProposal, error) {
	in := LearnIn{ByProject: byProject(p)}
	in.Body.Runs = runs
	if file != nil {
		text := string(file)
		in.Body.File = &text
	}
	return do(ctx, s.c, Learn, in)
}
