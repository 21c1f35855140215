package sallyport

import (
	"context"
	"encoding/json"
	"io"
	"time"
)

// The services are what one can ask of Sallyport. They are implemented by
// engine (here) and by rpc.Client (far); api, web and cli are written against
// these interfaces alone. The first thing every method does is to ask who may.
//
// Lists are newest first and bounded: Page.Limit is at most 200 (0 means 50),
// Page.Before is the id to go on from.

// Page selects a part of a list.
type Page struct {
	Before string `json:"before,omitempty"`
	Limit  int    `json:"limit,omitempty"`
}

// Services is all of them, for the faces to hold.
type Services struct {
	Projects    Projects
	Runs        Runs
	Artifacts   Artifacts
	Gates       Gates
	Deployments Deployments
	Audit       Audit
	Access      Access
	Instance    InstanceService
	Issuers     Issuers
	Caches      Caches
	Doors       Doors
	Secrets     Secrets
	Rights      Rights
	Approvals   Approvals
	Stops       Stops
}

// Projects are the repositories with their runs.
type Projects interface {
	CreateProject(ctx context.Context, name, defaultBranch string) (Project, error)
	// Project finds by name or id.
	Project(ctx context.Context, nameOrID string) (Project, error)
	Projects(ctx context.Context) ([]Project, error)
	// Pushing judges ref updates before git carries them out; an error refuses them all.
	Pushing(ctx context.Context, p ProjectID, updates []RefUpdate) error
	// Pushed records what git carried out and starts the river; it returns the pushes.
	Pushed(ctx context.Context, p ProjectID, updates []RefUpdate) ([]Push, error)
	// Reading judges a fetch of the repository.
	Reading(ctx context.Context, p ProjectID) error
	// Deliver takes in an event of a forge other than a push: a pull request, an
	// issue, a release, a repository_dispatch. The same Key is taken in once.
	// What the payload says is untrusted; ref, commit and tier come from the repository.
	Deliver(ctx context.Context, p ProjectID, d Delivery) ([]Run, error)
}

// Delivery is an event of a forge.
type Delivery struct {
	Event   string          `json:"event"`             // GitHub's name: pull_request, issues, …
	Action  string          `json:"action,omitempty"`  // activity type; of a repository_dispatch its event_type
	Payload json.RawMessage `json:"payload,omitempty"` // as GitHub would send it
	Key     string          `json:"key,omitempty"`     // the forge's id of the delivery; "" for none
}

// RunFilter selects runs.
type RunFilter struct {
	Project ProjectID `json:"project,omitempty"`
	Push    PushID    `json:"push,omitempty"`
	Status  Status    `json:"status,omitempty"`
	Page
}

// Runs are executions of workflows.
type Runs interface {
	Runs(ctx context.Context, f RunFilter) ([]Run, error)
	Run(ctx context.Context, id RunID) (Run, []Job, error)
	Plan(ctx context.Context, id RunID) (*Plan, error)
	// Log returns encoded LogLines of a job from a byte offset, at most max bytes.
	// It waits up to wait for more when there is nothing yet; done says that
	// nothing will follow.
	Log(ctx context.Context, j JobID, offset int64, max int, wait time.Duration) (data []byte, done bool, err error)
	// Trace returns what was seen of a finished job from outside its room; CodeNotFound when
	// nothing was.
	Trace(ctx context.Context, j JobID) (Trace, error)
	// Cancel asks the run to stop; jobs whose condition holds also now, as with
	// always(), go on. A second call stops those too.
	Cancel(ctx context.Context, id RunID) error
	// Dispatch starts a workflow by hand (workflow_dispatch); inputs is a JSON object.
	Dispatch(ctx context.Context, p ProjectID, workflow, ref string, inputs []byte) ([]Run, error)
	// WaitChange returns when anything about the run may have changed, or ctx ends.
	WaitChange(ctx context.Context, id RunID) error
}

// Artifacts are what jobs made, and the evidence about it.
type Artifacts interface {
	Artifacts(ctx context.Context, id RunID) ([]Artifact, error)
	Artifact(ctx context.Context, id ArtifactID) (Artifact, error)
	// FindArtifact finds by run and name.
	FindArtifact(ctx context.Context, run RunID, name string) (Artifact, error)
	// Open returns the content; the digest is verified while it is read.
	Open(ctx context.Context, id ArtifactID) (io.ReadCloser, error)
	// Statements returns the signed claims about a digest, oldest first.
	Statements(ctx context.Context, p ProjectID, d Digest) ([]Statement, error)
	// Bundle returns one statement's Sigstore bundle.
	Bundle(ctx context.Context, id StatementID) ([]byte, error)
	// Verify checks every statement about the digest now, as a stranger would.
	Verify(ctx context.Context, p ProjectID, d Digest) ([]Checked, error)
}

// Caches are what jobs saved for later runs.
type Caches interface {
	Caches(ctx context.Context, p ProjectID, page Page) ([]CacheEntry, error)
	// CacheUses returns what the jobs of a run did with caches, oldest first.
	CacheUses(ctx context.Context, id RunID) ([]CacheUse, error)
	// DeleteCache removes an entry and its content, and returns what it was.
	DeleteCache(ctx context.Context, id CacheID) (CacheEntry, error)
}

// Doors are what jobs may reach out of their rooms, and what they did.
type Doors interface {
	// Doors returns what passed the doors of a run's jobs, in the order of the jobs: of each
	// job that started, its last attempt.
	Doors(ctx context.Context, id RunID) ([]Door, error)
	// EgressRules returns the rules as the protected branch declares them now; with
	// Broken when they cannot be read, with the installation's level and no File when there are none.
	EgressRules(ctx context.Context, p ProjectID) (EgressRules, error)
	// Learn proposes the smallest change of a rules file that would have let through what
	// the last runs of the project asked for. file is the present one; nil is the
	// protected branch's. Nothing changes: a person reviews and merges it. CodeInvalid when the file has mistakes.
	Learn(ctx context.Context, p ProjectID, runs int, file []byte) (EgressProposal, error)
}

// Secrets are lent to jobs and read by nobody.
type Secrets interface {
	// Secrets lists what a project has, by name and environment, without values.
	Secrets(ctx context.Context, p ProjectID) ([]SecretEntry, error)
	// SetSecret keeps a value in place of the one before; environment "" is every job of the project.
	SetSecret(ctx context.Context, p ProjectID, environment, name string, value Secret) (SecretEntry, error)
	DeleteSecret(ctx context.Context, p ProjectID, environment, name string) error
	// Rotations tells how the secrets of a project are rotated, by name and environment.
	Rotations(ctx context.Context, p ProjectID) ([]RotationStatus, error)
	// SetRotation has a secret rotated by the rule, of which it sets the rest. admin is the
	// credential by which the target lets others be changed; it is never lent. A rule without a rotator ends rotation.
	SetRotation(ctx context.Context, p ProjectID, environment, name string, r RotationRule, admin Secret) (RotationRule, error)
	// Rotate begins a rotation now; one that is on its way goes on at once.
	Rotate(ctx context.Context, p ProjectID, environment, name string) (Rotation, error)
	// Leak answers to a value that got out: nobody is lent it any more, jobs that hold it are
	// cancelled, it is rotated without waiting for them, and the incident tells who had it. where says where it was seen.
	Leak(ctx context.Context, p ProjectID, environment, name, where string) (Incident, error)
}

// Gates decide what may go out.
type Gates interface {
	Verdicts(ctx context.Context, p ProjectID, page Page) ([]Verdict, error)
	Verdict(ctx context.Context, id VerdictID) (Verdict, error)
	// Replay decides again from the kept inputs; policy "" is the policy it was decided with.
	Replay(ctx context.Context, id VerdictID, policy string) (Verdict, error)
	// Judge decides now whether the artifact may be deployed to the environment,
	// and keeps the verdict. It deploys nothing.
	Judge(ctx context.Context, a ArtifactID, environment string) (Verdict, error)
}

// Deployments are releases on their way to, in, or gone from an environment.
type Deployments interface {
	Deployments(ctx context.Context, p ProjectID, environment string, page Page) ([]Deployment, error)
	Deployment(ctx context.Context, id DeploymentID) (Deployment, error)
	Environments(ctx context.Context, p ProjectID) ([]Environment, error)
	// Deploy brings an artifact that is already kept to an environment, through the gate.
	Deploy(ctx context.Context, a ArtifactID, environment string) (Deployment, error)
	// Rollback deploys the last healthy release before the live one.
	Rollback(ctx context.Context, p ProjectID, environment, reason string) (Deployment, error)
	// Health returns the last checks and the traffic of a deployment.
	Health(ctx context.Context, id DeploymentID) (Health, Traffic, error)
	// Output returns the end of the release's own log, untrusted text.
	Output(ctx context.Context, id DeploymentID) ([]byte, error)
}

// AuditFilter selects records.
type AuditFilter struct {
	Actor  string `json:"actor,omitempty"`
	Action string `json:"action,omitempty"` // prefix
	Object string `json:"object,omitempty"`
	Before int64  `json:"before,omitempty"` // Seq; 0 = from the newest
	Limit  int    `json:"limit,omitempty"`
}

// Audit is the trail of all that happened.
type Audit interface {
	Records(ctx context.Context, f AuditFilter) ([]AuditRecord, error)
	// VerifyAudit recomputes every commitment and compares it with the log.
	VerifyAudit(ctx context.Context) (AuditReport, error)
}

// Token is an API token; its value is shown once.
type Token struct {
	ID        TokenID   `json:"id"`
	Name      string    `json:"name"`
	Hash      Digest    `json:"-"`    // of the value
	Kind      string    `json:"kind"` // api, login, session
	Principal Principal `json:"principal"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	UsedAt    time.Time `json:"used_at,omitzero"`
}

// Kinds of Token.
const (
	TokenAPI     = "api"     // Authorization: Bearer, or the password of a git push
	TokenLogin   = "login"   // one-time link
	TokenSession = "session" // cookie of the pages
)

// Access authenticates. Its methods that turn a credential into a principal
// are the only ones that nobody may call.
type Access interface {
	// Authenticate returns the principal of an unexpired api or session token.
	Authenticate(ctx context.Context, kind, value string) (Principal, error)
	// Login burns a login token and returns a session token.
	Login(ctx context.Context, value string) (session string, expires time.Time, err error)
	Logout(ctx context.Context, session string) error
	// CreateToken returns a new token's value, which is not kept.
	CreateToken(ctx context.Context, name, kind string, p Principal, ttl time.Duration) (value string, t Token, err error)
	Tokens(ctx context.Context) ([]Token, error)
	RevokeToken(ctx context.Context, id TokenID) error
	// Denied records a request that a face refused because its credential was bad.
	Denied(ctx context.Context, what, why string)
}

// InstanceService tells about the installation.
type InstanceService interface {
	// TrustRoot returns the Sigstore trusted root of this installation, JSON.
	TrustRoot(ctx context.Context) ([]byte, error)
	// Identity returns the issuer and the certificate identity of builds of a
	// project's workflow on a ref.
	Identity(ctx context.Context, project, workflow, ref string) (issuer, identity string, err error)
	Health(ctx context.Context) (InstanceHealth, error)
	// TokenIssuer returns the issuer that ID tokens of jobs name and the JSON Web Key
	// Set that they verify with; CodeUnavailable when there are none.
	TokenIssuer(ctx context.Context) (issuer string, keys []byte, err error)
}

// Issuers tell about the issuer of ID tokens, and rotate its keys. What others need of it
// is public, and InstanceService.TokenIssuer has it.
type Issuers interface {
	// IssuerStatus answers CodeUnavailable when no ID tokens are issued here.
	IssuerStatus(ctx context.Context) (IssuerStatus, error)
	// RotateIssuer answers CodeConflict while keys wait to sign, unless those of before
	// are compromised.
	RotateIssuer(ctx context.Context, in RotateIssuer) (IssuerStatus, error)
	// IssuedTokens returns the tokens that a job was given and refused, newest first.
	IssuedTokens(ctx context.Context, j JobID) ([]IssuedToken, error)
}

// InstanceHealth is what /readyz and the system page show.
type InstanceHealth struct {
	Ready    bool     `json:"ready"`
	Version  string   `json:"version"`
	Problems []string `json:"problems,omitempty"`
	// Alarms are what a person has to look at, and keeps nothing from being served.
	Alarms  []string       `json:"alarms,omitempty"`
	Runners []RunnerStatus `json:"runners"`
	Queues  map[string]int `json:"queues"` // unfinished work by queue
	Audit   AuditHealth    `json:"audit"`
}

// RunnerStatus is a runner that asked for work lately.
type RunnerStatus struct {
	ID        RunnerID  `json:"id"`
	Name      string    `json:"name"`
	Isolation Isolation `json:"isolation"`
	Busy      JobID     `json:"busy,omitempty"`
	SeenAt    time.Time `json:"seen_at"`
}

// AuditHealth says how far the log lags behind the trail.
type AuditHealth struct {
	Records int64  `json:"records"`
	Logged  int64  `json:"logged"`
	Halted  string `json:"halted,omitempty"` // why sequencing stopped
	// WitnessedAt is when enough witnesses cosigned the newest checkpoint that they
	// did; zero without witnesses.
	WitnessedAt time.Time `json:"witnessed_at,omitzero"`
	// Unwitnessed says what keeps witnesses from cosigning what is new; an alarm.
	Unwitnessed string `json:"unwitnessed,omitempty"`
}
