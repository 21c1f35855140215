package sallyport

import (
	"context"
	"time"
)

// Store keeps everything but blobs, logs and keys.
//
// Contract. Update runs f in one serialisable read-write transaction: all of it
// is durable when Update returns nil, none of it otherwise. f may be called again when the
// database asks for a retry, so it must have no effect outside tx. View runs f
// in a read-only snapshot. Neither nests. A Tx is used by one goroutine and
// not after f has returned.
//
// Getters answer CodeNotFound; inserts of something that exists and
// saves of something that was changed meanwhile answer CodeConflict; a full
// disk or a lost connection is CodeUnavailable. Slices are never nil-vs-empty significant.
type Store interface {
	View(ctx context.Context, f func(Tx) error) error
	Update(ctx context.Context, f func(Tx) error) error
	// Watch returns a channel that gets a value after transactions that
	// touched the topic (see Tx.Touch), possibly also without cause; signals
	// coalesce. Call stop when done. It works across processes where the database allows.
	Watch(topic string) (signal <-chan struct{}, stop func())
	// Backup writes a consistent copy of the database to the file, where supported.
	Backup(ctx context.Context, file string) error
	Close() error
}

// Tx is one transaction. The parts only group the methods by noun.
type Tx interface {
	// Touch signals the topic's watchers when the transaction has committed.
	Touch(topic string)
	Projects() ProjectTx
	Pushes() PushTx
	Runs() RunTx
	Jobs() JobTx
	Work() WorkTx
	Artifacts() ArtifactTx
	Statements() StatementTx
	Verdicts() VerdictTx
	Releases() ReleaseTx
	Deployments() DeploymentTx
	Environments() EnvironmentTx
	Audit() AuditTx
	Tokens() TokenTx
	Caches() CacheTx
	Doors() DoorTx
	Secrets() SecretTx
	Rotations() RotationTx
	Accounts() AccountTx
	Logins() LoginTx
	AccessFiles() AccessFileTx
	Requests() RequestTx
	Grants() GrantTx
	AccessEvents() AccessEventTx
	Stops() StopTx
	Issuer() IssuerTx
}

type ProjectTx interface {
	Insert(Project) error
	Get(ProjectID) (Project, error)
	ByName(string) (Project, error)
	List() ([]Project, error) // by name
	// SetRef records the commit at which intake last saw a ref; commit "" forgets the ref.
	SetRef(p ProjectID, ref, commit string) error
	Refs(ProjectID) (map[string]string, error)
	// NextNumber returns 1, 2, 3 … for each series of the project ("run", "deploy/ENV").
	NextNumber(p ProjectID, series string) (int64, error)
}

type PushTx interface {
	Insert(Push) error // CodeConflict when project and key exist
	Get(PushID) (Push, error)
	ByKey(p ProjectID, key string) (Push, error)
	// Between returns up to limit pushes of the project's git refs that came after the one
	// and up to the other, newest first; after "" is from the first.
	Between(p ProjectID, after, upto PushID, limit int) ([]Push, error)
}

type RunTx interface {
	// Insert keeps the run with its encoded plan.
	Insert(r Run, plan []byte) error
	Get(RunID) (Run, error)
	ByNumber(p ProjectID, number int64) (Run, error)
	Plan(RunID) ([]byte, error)
	Save(Run) error // replaces all but id, project, push, number, plan, created_at
	List(RunFilter) ([]Run, error)
	// InGroup returns the unfinished runs of a concurrency group, oldest first.
	InGroup(p ProjectID, group string) ([]Run, error)
	// Unfinished returns all runs that are not completed, oldest first.
	Unfinished() ([]Run, error)
}

type JobTx interface {
	Insert(Job) error
	Get(JobID) (Job, error)
	Save(Job) error // all but id, run, parent, key, index, steps, isolation, created_at
	// Report keeps what the runner says of a job: its steps and isolation.
	Report(JobID, []Step, *Isolation) error
	ByRun(RunID) ([]Job, error) // by position of insertion
	// Outline is ByRun without steps and isolation, which are most of a job's weight.
	Outline(RunID) ([]Job, error)
	// InGroup returns the outline of a project's unfinished jobs whose Group or
	// CallGroup it is, oldest first.
	InGroup(p ProjectID, group string) ([]Job, error)
}

// WorkTx is the queue. Leases are fenced: Extend, Done and Retry answer CodeConflict
// when the token is not that of the present lease.
type WorkTx interface {
	// Enqueue adds work. When unfinished work with its queue and key
	// exists, it is kept and its RunAt brought forward if ours is sooner.
	Enqueue(Work) error
	// Claim leases up to limit due pieces of a queue, oldest RunAt first: those whose
	// RunAt has come and that are not leased, or whose lease ran out before now. It sets
	// Owner, a fresh Token, LeaseUntil = until and counts the attempt. When
	// labels is not nil only work whose labels are all among them is taken.
	Claim(queue, owner string, labels []string, now, until time.Time, limit int) ([]Work, error)
	Extend(id WorkID, token string, until time.Time) error
	Done(id WorkID, token string) error // removes it
	// Retry gives it back to run at the given time.
	Retry(id WorkID, token string, at time.Time, lastError string) error
	// BySubject returns unfinished work of a queue about a noun.
	BySubject(queue, subject string) ([]Work, error)
	// Drop removes unfinished work of a queue about a noun, leased or not.
	Drop(queue, subject string) error
	// Release frees all that an owner holds, who is known to be gone.
	Release(owner string) error
	// Counts returns unfinished work by queue, and the earliest RunAt or LeaseUntil that has not come
	// yet for each queue (zero time: none).
	Counts(now time.Time) (count map[string]int, next map[string]time.Time, err error)
}

type ArtifactTx interface {
	Insert(Artifact) error // CodeConflict when run and name exist
	Get(ArtifactID) (Artifact, error)
	ByRun(RunID) ([]Artifact, error) // by name
	Find(RunID, string) (Artifact, error)
	ByDigest(ProjectID, Digest) ([]Artifact, error) // oldest first
	List(ProjectID, Page) ([]Artifact, error)
	// Delete removes what an attempt left that never ended; CodeNotFound when there is none.
	Delete(ArtifactID) error
}

type StatementTx interface {
	Insert(Statement) error
	Get(StatementID) (Statement, error)               // with Bundle
	BySubject(ProjectID, Digest) ([]Statement, error) // oldest first, with Bundle
	ByRun(RunID) ([]Statement, error)
}

type VerdictTx interface {
	Insert(Verdict) error
	Get(VerdictID) (Verdict, error) // with Policy and Input
	List(ProjectID, Page) ([]Verdict, error)
	BySubject(ProjectID, Digest) ([]Verdict, error)
}

type ReleaseTx interface {
	Insert(Release) error
	Get(ReleaseID) (Release, error)
	List(ProjectID, Page) ([]Release, error)
}

type DeploymentTx interface {
	Insert(Deployment) error
	Get(DeploymentID) (Deployment, error)
	Save(Deployment) error
	List(p ProjectID, environment string, page Page) ([]Deployment, error) // environment "" = all
	// Unfinished returns those that are pending, applying or watching, oldest first.
	Unfinished() ([]Deployment, error)
}

type EnvironmentTx interface {
	Put(Environment) error // insert or replace by project and name
	Get(ProjectID, string) (Environment, error)
	List(ProjectID) ([]Environment, error) // by name
}

type AuditTx interface {
	// Append writes the record with the next Seq, which it returns. Records of
	// one store are in commit order without gaps.
	Append(AuditRecord) (int64, error)
	// Unlogged returns up to limit records that have no LogIndex yet, by Seq.
	Unlogged(limit int) ([]AuditRecord, error)
	// SetLogged records that entry index of the audit log commits to the records from..to.
	SetLogged(from, to, index int64) error
	// Range returns up to limit records with Seq >= from, by Seq.
	Range(from int64, limit int) ([]AuditRecord, error)
	List(AuditFilter) ([]AuditRecord, error)
	// Count returns the number of records and how many are logged.
	Count() (records, logged int64, err error)
}

type TokenTx interface {
	Insert(Token) error
	ByHash(kind string, hash Digest) (Token, error)
	Get(TokenID) (Token, error)
	List() ([]Token, error)
	// Delete answers CodeNotFound when it is gone already: of two that burn one token, one wins.
	Delete(TokenID) error
	Use(id TokenID, at time.Time) error
}

// CacheMatch selects entries of one scope's ref.
type CacheMatch struct {
	Project ProjectID
	Ref     string
	Version string
	Key     string
	Prefix  bool   // Key is the beginning of the entry's key
	Tiers   []Tier // of the entry; at most four
}

type CacheTx interface {
	Insert(CacheEntry) error // CodeConflict when project, ref, tier, version and key exist
	Get(CacheID) (CacheEntry, error)
	// Match returns the newest entry that matches.
	Match(CacheMatch) (CacheEntry, error)
	List(ProjectID, Page) ([]CacheEntry, error)
	// LeastUsed returns up to limit entries of the tiers (at most four), the one that was
	// used least lately first.
	LeastUsed(p ProjectID, tiers []Tier, limit int) ([]CacheEntry, error)
	// Total returns how many entries a project has, and their bytes.
	Total(ProjectID) (entries, bytes int64, err error)
	Use(id CacheID, at time.Time) error
	Delete(CacheID) error
	// InsertUse answers CodeConflict when job, attempt, entry and outcome exist.
	InsertUse(CacheUse) error
	Uses(RunID) ([]CacheUse, error) // oldest first; without signatures
	// CountUses returns how many there are of one attempt of a job.
	CountUses(j JobID, attempt int) (int64, error)
}

type DoorTx interface {
	// Insert answers CodeConflict when job, attempt and seq exist.
	Insert(DoorEntry) error
	// Total returns how many entries there are of one attempt of a job, and their bytes.
	Total(j JobID, attempt int) (entries, bytes int64, err error)
	ByRun(RunID) ([]DoorEntry, error) // by job, attempt and seq
}

// SecretTx keeps what the engine has sealed; it never sees a value.
type SecretTx interface {
	Put(e SecretEntry, sealed []byte) error // inserts, or replaces by project, environment and name
	// Sealed returns an entry with its sealed value.
	Sealed(p ProjectID, environment, name string) (SecretEntry, []byte, error)
	List(ProjectID) ([]SecretEntry, error) // by name and environment
	Delete(p ProjectID, environment, name string) error
	// Lend records that a job was lent a version; again, it changes nothing.
	Lend(SecretLease) error
	// Lent returns which jobs that are in progress now, in the same attempt, were lent the
	// version; all: also those that ended.
	Lent(v SecretVersion, all bool) ([]SecretLease, error) // oldest first, at most 10,000
}

// RotationTx keeps rules of rotation and what is on its way. What is sealed is opaque to it.
type RotationTx interface {
	PutRule(r RotationRule, admin []byte) error // inserts, or replaces by project, environment and name
	// Rule returns a rule with its sealed credential.
	Rule(p ProjectID, environment, name string) (RotationRule, []byte, error)
	Rules(ProjectID) ([]RotationRule, error) // by name and environment
	DeleteRule(p ProjectID, environment, name string) error
	// Insert answers CodeConflict while the secret has another rotation that has not ended.
	Insert(r Rotation, old []byte) error
	// Save replaces all but id and secret, and counts Seq, which must be as it was read: CodeConflict
	// otherwise. The sealed values of a rotation that has ended are wiped.
	Save(r *Rotation, staged []byte) error
	// Last returns the rotation of a secret that began last, with the sealed old and new values.
	Last(p ProjectID, environment, name string) (r Rotation, old, staged []byte, err error)
}

type RequestTx interface {
	Insert(AccessRequest) error // CodeConflict when the id exists
	Get(RequestID) (AccessRequest, error)
	List(p ProjectID, page Page) ([]AccessRequest, error) // newest first; "" is all of the installation
	// Open returns those that no event of kind ended is about, in the order in which they came.
	Open() ([]AccessRequest, error)
	About(subject string) ([]AccessRequest, error) // newest first
	// Last returns the newest that was let through; CodeNotFound when none was.
	Last(p ProjectID, environment string, kind RequestKind) (AccessRequest, error)
}

type GrantTx interface {
	Insert(Grant) error // CodeConflict when the id or its request exists
	Get(GrantID) (Grant, error)
	List(Page) ([]Grant, error) // newest first
	// Open returns those that no event of kind closed is about, oldest first.
	Open() ([]Grant, error)
}

type AccessEventTx interface {
	// Append answers CodeConflict when subject, kind and key exist.
	Append(AccessEvent) error
	Of(subject string) ([]AccessEvent, error) // in the order in which they were added
}
