// Package engine decides: it owns every state change of Sallyport.
//
// A push flows through it in one direction; stages.go lists the river, and
// each stage is one file: load → think → save, with the next stage enqueued in
// the transaction that makes it necessary. The engine also implements the
// services that the faces (api, web, cli) are written against; the first thing
// each service method does is to ask allow (allow.go).
//
// It runs no foreign code, opens no file and no connection: all effects go
// through the seams it is given.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/actions"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/policy"
)

// Notary signs statements with an identity of this installation and enters
// them in the signature log.
type Notary interface {
	Sign(ctx context.Context, now time.Time, id attest.Identity, statement []byte) (bundle []byte, logIndex int64, err error)
}

// Verifier checks bundles as a stranger would: with the trusted root alone.
type Verifier interface {
	Verify(bundle []byte, subject sallyport.Digest, identity, issuer string) (sallyport.Checked, error)
}

// Trail is the audit log as far as the engine needs it.
type Trail interface {
	Verify(ctx context.Context) (sallyport.AuditReport, error)
	Status() sallyport.AuditHealth
}

// Config is what an engine is made of.
type Config struct {
	Store        sallyport.Store
	Repositories sallyport.Repositories
	Blobs        sallyport.Blobs
	Logs         sallyport.Logs
	Gates        *policy.Gates

	// Notary and Verifier make and check evidence. Without a Notary jobs leave
	// no evidence and nothing can be deployed: that is how runs on a laptop are.
	Notary   Notary
	Verifier Verifier
	Tokens   TokenIssuer      // nil: jobs get no ID tokens
	Images   sallyport.Images // nil: jobs have no images
	Trail    Trail            // nil: there is no audit log
	Target   sallyport.Target // nil: there is nowhere to deploy to

	Instance  attest.Instance // its name in identities
	BaseURL   string          // where people find the pages
	TrustRoot []byte
	Version   string
	Clock     func() time.Time
	Log       *slog.Logger

	LeaseTTL time.Duration // of jobs; 0 = 30 s
	// Sealer seals the secrets that are kept for jobs; nil: none can be kept.
	Sealer Sealer
	// Rotators change secrets at their source, by the name that rules give.
	Rotators map[string]sallyport.Rotator
	// Lend returns the secrets of a job in place of those that are kept; nil: these.
	Lend func(ctx context.Context, run sallyport.Run, job sallyport.Job) (map[string]string, error)
	// Trouble names what keeps the host from serving, one line each; nil: nobody looks.
	Trouble func() []string
	// Vars is the vars context; nil is empty.
	Vars map[string]string
	// Repository is what github.repository calls the project, OWNER/NAME, where there is one
	// project alone; "": projects have the names that they have here.
	Repository string
	// Issuer is what ID tokens name as their issuer, a URL below which its documents are
	// found; "": BaseURL.
	Issuer string
	// Actions says how actions of other repositories are taken in.
	Actions ActionsConfig
	// Untrusted is where jobs of runs of tier untrusted are done; the zero value is StrangersStrong.
	Untrusted Strangers
	// Egress is the level of projects that declare none; the zero value is none.
	Egress sallyport.EgressLevel
	// OwnEgress takes the rules from the commit that a run is of, not from the protected
	// branch: whoever runs a work tree by hand has no other branch that could decide.
	OwnEgress bool
	// Revokers take back what was handed out under grants and is kept elsewhere, by kind.
	Revokers map[string]Revoker
	// Assertions checks what people sign with keys of their own when they vote; nil: no signature is taken.
	Assertions AssertionVerifier
	// Logins say whom logins at the company's provider let in; nil: nobody.
	Logins *LoginRules
	// Known are principals that have neither an account nor a token: who comes through
	// the control socket, the runners of this host.
	Known []sallyport.Principal
}

// Engine is the decider. Make it with New, start it with Run.
type Engine struct {
	store    sallyport.Store
	repos    sallyport.Repositories
	blobs    sallyport.Blobs
	logs     sallyport.Logs
	gates    *policy.Gates
	notary   Notary
	verifier Verifier
	tokens   TokenIssuer
	issuer   string // "": baseURL
	renewing sync.Mutex
	images   sallyport.Images
	trail    Trail
	target   sallyport.Target

	instance  attest.Instance
	baseURL   string
	trustRoot []byte
	version   string
	trouble   func() []string
	clock     func() time.Time
	log       *slog.Logger
	leaseTTL  time.Duration
	sealer    Sealer
	rotators  map[string]sallyport.Rotator
	rotating  keyed // secrets whose rotation is in hand
	// rotationCall bounds one call of a rotator.
	rotationCall time.Duration
	lend         func(context.Context, sallyport.Run, sallyport.Job) (map[string]string, error)
	vars         map[string]string
	repository   string // "": each project's own name
	caches       cacheBounds
	actions      ActionsConfig
	untrusted    Strangers
	egress       sallyport.EgressLevel
	ownEgress    bool
	locks        locks

	queue *waiters  // runners that wait for work
	seen  *presence // runners that asked lately
	heads heads     // of default branches: what waits for runs

	resolved resolved // images of runs

	strangers denials

	assertions AssertionVerifier
	revokers   map[string]Revoker
	revokeTime time.Duration

	laws   laws                  // who may do what
	logins *LoginRules           // whom a provider lets in; nil: nobody
	known  []sallyport.Principal // without an account
}

// New checks the configuration.
func New(c Config) (*Engine, error) {
	if c.Store == nil || c.Repositories == nil || c.Blobs == nil || c.Logs == nil || c.Gates == nil || c.Clock == nil || c.Log == nil {
		return nil, errors.New("engine: store, repositories, blobs, logs, gates, clock and log are needed")
	}
	if c.Notary != nil && c.Verifier == nil {
		return nil, errors.New("engine: whoever signs must be able to verify")
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = 30 * time.Second
	}
	if c.Actions.Quarantine == 0 {
		c.Actions.Quarantine = actions.DefaultQuarantine
	}
	c.Actions.Quarantine = max(c.Actions.Quarantine, 0)
	switch c.Egress {
	case "":
		c.Egress = sallyport.EgressNone
	case sallyport.EgressNone, sallyport.EgressListed, sallyport.EgressRegistries:
	default:
		return nil, fmt.Errorf("engine: %q is not a level of egress", c.Egress)
	}
	return &Engine{
		store: c.Store, repos: c.Repositories, blobs: c.Blobs, logs: c.Logs, gates: c.Gates,
		notary: c.Notary, verifier: c.Verifier, tokens: c.Tokens, issuer: strings.TrimRight(c.Issuer, "/"), images: c.Images, trail: c.Trail, target: c.Target,
		instance: c.Instance, baseURL: c.BaseURL, trustRoot: c.TrustRoot, version: c.Version,
		clock: c.Clock, log: c.Log, trouble: c.Trouble, leaseTTL: c.LeaseTTL, sealer: c.Sealer, rotators: c.Rotators, rotationCall: rotationCall, lend: c.Lend, vars: c.Vars, repository: c.Repository, actions: c.Actions, untrusted: c.Untrusted, egress: c.Egress, ownEgress: c.OwnEgress,
		queue: newWaiters(), seen: newPresence(), caches: defaultCacheBounds(), heads: heads{by: map[sallyport.ProjectID]tip{}},
		known: slices.Clone(c.Known), logins: c.Logins, assertions: c.Assertions, revokers: maps.Clone(c.Revokers), revokeTime: revokeTime,
		resolved: resolved{runs: map[sallyport.RunID]map[string]sallyport.Image{}},
	}, nil
}

// Services returns what the faces may ask.
func (e *Engine) Services() sallyport.Services {
	return sallyport.Services{
		Projects: projects{e}, Runs: runs{e}, Artifacts: artifacts{e}, Gates: gates{e},
		Deployments: deployments{e}, Audit: audit{e}, Access: access{e}, Instance: instance{e}, Caches: caches{e}, Doors: doors{e}, Secrets: secrets{e}, Rights: accounts{e}, Approvals: approvals{e}, Stops: stops{e}, Issuers: issuers{e},
	}
}

// Yard returns what runners may ask.
func (e *Engine) Yard() sallyport.Yard { return yard{e} }

// Run works the river until ctx ends, and returns when every worker has stopped.
func (e *Engine) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range e.river() {
		wg.Go(func() { e.work(ctx, s) })
	}
	wg.Go(func() { e.wakeRunners(ctx) })
	wg.Go(func() { e.tendIssuer(ctx) })
	wg.Wait()
	return context.Cause(ctx)
}

func (e *Engine) now() time.Time { return e.clock().UTC().Truncate(time.Microsecond) }

// system is the principal of the engine's own stages.
func system(ctx context.Context, name string) context.Context {
	return sallyport.WithPrincipal(ctx, sallyport.Principal{Kind: sallyport.System, ID: "engine", Name: name})
}

// change is one transaction of the engine. Whatever changes a state records
// it in the same change.
type change struct {
	sallyport.Tx
	now   time.Time
	actor string
	who   sallyport.Party // the same, to be kept
	ids   int             // given out
	law   bool            // who may do what is another thing after it
}

// newID returns an id that sorts after those given out in the change before.
func newID[T ~string](c *change) T {
	c.ids++
	return sallyport.NewID[T](c.now.Add(time.Duration(c.ids) * time.Microsecond))
}

func (e *Engine) update(ctx context.Context, f func(c *change) error) error {
	who := sallyport.PrincipalFrom(ctx)
	var last *change
	err := e.store.Update(ctx, func(tx sallyport.Tx) error {
		last = &change{Tx: tx, now: e.now(), actor: who.String(), who: sallyport.PartyOf(who)}
		return f(last)
	})
	if last != nil && last.law {
		e.laws.drop() // also after an error: a commit may be in doubt
	}
	return err
}

func (e *Engine) view(ctx context.Context, f func(tx sallyport.Tx) error) error {
	return e.store.View(ctx, f)
}

// Topics that watchers of the store wait on.
const topicAudit = "audit"

func topicRun(id sallyport.RunID) string { return "run/" + string(id) }
func topicLog(id sallyport.JobID) string { return "log/" + string(id) }
func topicWork(queue string) string      { return "work/" + queue }

// record writes the audit record of the change. Detail must not hold a secret
// or free text of a job.
func (c *change) record(action, object string, detail any) error {
	var raw json.RawMessage
	if detail != nil {
		b, err := json.Marshal(detail)
		if err != nil {
			return err
		}
		raw = b
	}
	c.Touch(topicAudit)
	_, err := c.Audit().Append(sallyport.AuditRecord{
		At: c.now, Actor: c.actor, Action: action, Object: object, Detail: raw, Salt: newSalt(), LogIndex: -1,
	})
	return err
}

// enqueue adds work about a subject, to be done from at on.
func (c *change) enqueue(queue, subject string, labels []string, at time.Time, attempts int) error {
	return c.enqueueAs(queue, subject, subject, labels, at, attempts)
}

// enqueueAs is enqueue with a key of its own, for work that may be wanted while other
// work about the subject ends.
func (c *change) enqueueAs(queue, key, subject string, labels []string, at time.Time, attempts int) error {
	c.Touch(topicWork(queue))
	return c.Work().Enqueue(sallyport.Work{
		ID: newID[sallyport.WorkID](c), Queue: queue, Key: key, Subject: subject, Labels: labels,
		RunAt: at, MaxAttempts: attempts, CreatedAt: c.now,
	})
}
