package sallyport

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Yard is what a runner may ask of the control plane. Every call but Lease is
// fenced by the lease's token: once the lease is lost, all of them answer
// CodeConflict, and the runner must destroy the room and forget the job.
// Every call may be repeated with the same arguments. The parts only group the
// calls by noun.
type Yard interface {
	YardJobs
	YardSources
	YardArtifacts
	YardCaches
	YardImages
	YardClaims
	YardDoor
}

// YardJobs takes jobs and hands in how they stand and end.
type YardJobs interface {
	// Lease waits for a job that the runner can take, at most about 50 s; nil
	// without an error means there was none.
	Lease(ctx context.Context, ask LeaseRequest) (*Lease, error)
	// Heartbeat extends the lease by its TTL and returns what to do.
	Heartbeat(ctx context.Context, l LeaseRef) (Order, error)
	// AppendLog adds encoded LogLines at a byte offset; it returns the log's end,
	// with CodeConflict when offset is beyond it.
	AppendLog(ctx context.Context, l LeaseRef, offset int64, data []byte) (end int64, err error)
	// Report tells how the steps stand; the last word counts.
	Report(ctx context.Context, l LeaseRef, r JobReport) error
	// Finish hands in the result and ends the lease.
	Finish(ctx context.Context, l LeaseRef, r JobResult) error
}

// YardSources hands out what a job is made of.
type YardSources interface {
	// Source returns a tar of a bare repository holding the run's commit; with depth 0
	// all of its history, and all branches and tags in packed-refs.
	Source(ctx context.Context, l LeaseRef, depth int) (io.ReadCloser, error)
	// Action returns the tree of an action that the job's plan uses, as Actions.Open does.
	Action(ctx context.Context, l LeaseRef, tree Digest) (io.ReadCloser, error)
}

// YardArtifacts takes and hands out the artifacts of a run.
type YardArtifacts interface {
	// PutArtifact stores the content (a tar as archive/tar writes it, made by the runner);
	// the control plane computes every digest itself.
	PutArtifact(ctx context.Context, l LeaseRef, name string, content io.Reader) (Artifact, error)
	// GetArtifact returns an artifact and its content, as a tar of its files. It is one of the
	// same run, or of another run of the project that is named; CodeDenied when a run of lower
	// tier made it, or the job may not read those of other runs.
	GetArtifact(ctx context.Context, l LeaseRef, run RunID, name string) (Artifact, io.ReadCloser, error)
	// Artifacts lists those that GetArtifact would give, by name and without their files.
	Artifacts(ctx context.Context, l LeaseRef, run RunID) ([]Artifact, error)
	// DeleteArtifact removes an artifact of the same run, so that its name is free again.
	DeleteArtifact(ctx context.Context, l LeaseRef, name string) (Artifact, error)
}

// YardCaches takes and hands out caches.
type YardCaches interface {
	// FindCache finds the entry that the job would restore; CodeNotFound when there is
	// none that it may.
	FindCache(ctx context.Context, l LeaseRef, q CacheQuery) (CacheEntry, error)
	// GetCache returns an entry that FindCache named, and its content. It counts as restored.
	GetCache(ctx context.Context, l LeaseRef, id CacheID) (CacheEntry, io.ReadCloser, error)
	// PutCache saves the content in the run's own scope; CodeConflict when the key and
	// version are there, CodeDenied when the run may not save.
	PutCache(ctx context.Context, l LeaseRef, key, version string, content io.Reader) (CacheEntry, error)
}

// YardImages hands out images.
type YardImages interface {
	// Image finds what an image reference names, the same for all jobs of the run.
	Image(ctx context.Context, l LeaseRef, reference string) (Image, error)
	// ImageLayer returns a layer of an image that Image returned for the reference.
	ImageLayer(ctx context.Context, l LeaseRef, reference string, d Digest) (io.ReadCloser, error)
}

// YardClaims vouches for a job.
type YardClaims interface {
	// IDToken returns a short-lived JSON Web Token that says to the audience which job
	// asks; CodeDenied when the job may have none. An empty audience is the default one.
	IDToken(ctx context.Context, l LeaseRef, audience string) (string, error)
	// Attest signs a claim of the job as the job's word and returns the statement with its
	// bundle; CodeDenied when the job may not make any. Asked again, it signs again.
	Attest(ctx context.Context, l LeaseRef, c Claim) (Statement, error)
}

// YardDoor takes what the door of a job's room has seen.
type YardDoor interface {
	// Record hands in what the door saw since the record before; seq counts them from 1. A
	// seq that was taken in before is not looked at again. What is beyond bounds is
	// counted and not kept; that is no error. A record that came in before Finish is in the provenance.
	Record(ctx context.Context, l LeaseRef, seq int, r DoorRecord) error
}

// LeaseRequest is a runner asking for work.
type LeaseRequest struct {
	Runner    RunnerID  `json:"runner"`
	Name      string    `json:"name"`
	Labels    []string  `json:"labels"`
	Isolation Isolation `json:"isolation"`
}

// LeaseRef proves that the caller holds a lease.
type LeaseRef struct {
	Job   JobID  `json:"job"`
	Token string `json:"token"`
}

// Order is the answer to a heartbeat.
type Order string

const (
	OrderContinue Order = "continue"
	OrderCancel   Order = "cancel" // stop gracefully: steps with always() or cancelled() still run
	OrderKill     Order = "kill"   // destroy the room now
)

// Lease is one job handed to one runner, with all it needs: the runner asks
// the repository nothing and holds no key.
type Lease struct {
	Ref     LeaseRef      `json:"ref"`
	TTL     time.Duration `json:"ttl"`
	Project string        `json:"project"` // name
	Run     Run           `json:"run"`
	Job     Job           `json:"job"`
	Plan    *Plan         `json:"plan"`
	Timeout time.Duration `json:"timeout"` // of the whole job
	Grace   time.Duration `json:"grace"`   // for what still runs after a cancellation
	// Contexts are the values known before the job starts, by context name
	// (github, inputs, vars, needs, matrix, strategy, and of job where it is defined), each a JSON object.
	Contexts map[string]json.RawMessage `json:"contexts"`
	// Tainted are the paths in Contexts of values that came from someone who need not be
	// trusted, such as {"needs", "build", "outputs", "title"}; what is below them is tainted too.
	Tainted [][]string `json:"tainted,omitempty"`
	// Secrets are lent to this job for its time; each is masked in its log. Of one that a
	// credential rule names it is the placeholder of Lent, unless the rule exposes the value; without
	// a rule that lends it to this job it is not there.
	Secrets map[string]string `json:"secrets,omitempty"`
	// Egress is what this job may reach: the rules and credentials that are its own.
	Egress EgressRules `json:"egress,omitzero"`
	// Lent are the values of the secrets that Egress.Credentials name, for the door alone. A
	// credential whose secret is not among them has no value and cannot be used.
	Lent []LentSecret `json:"lent,omitempty"`
}

// String names the job. A lease holds what is lent: it never prints as a whole, nor logs.
func (l Lease) String() string { return "lease of job " + string(l.Ref.Job) }

// Format implements fmt.Formatter, for every verb.
func (l Lease) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, l.String()) }

// LogValue implements slog.LogValuer.
func (l Lease) LogValue() slog.Value { return slog.StringValue(l.String()) }

// LentSecret is the value of a secret that the job uses at its door and does not hold.
type LentSecret struct {
	Secret      string `json:"secret"`
	Value       string `json:"value"`
	Placeholder string `json:"placeholder"` // that the job holds instead
}

// String names the secret; the value never prints, nor logs.
func (l LentSecret) String() string { return "secret " + l.Secret }

// Format implements fmt.Formatter, for every verb.
func (l LentSecret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, l.String()) }

// LogValue implements slog.LogValuer.
func (l LentSecret) LogValue() slog.Value { return slog.StringValue(l.String()) }

// JobReport is a snapshot of the steps while the job runs.
type JobReport struct {
	Steps     []Step     `json:"steps"`
	Isolation *Isolation `json:"isolation,omitempty"`
}

// JobResult is how a job ended, in the job's own word. Bounded by the runner
// and again by the engine.
type JobResult struct {
	Conclusion Conclusion        `json:"conclusion"`
	Cause      string            `json:"cause,omitempty"`
	Outputs    map[string]string `json:"outputs,omitempty"`
	// Tainted names the outputs that were derived from untrusted values.
	Tainted []string `json:"tainted,omitempty"`
	// EnvironmentURL is environment.url, evaluated when the steps had ended.
	EnvironmentURL string     `json:"environment_url,omitempty"`
	Steps          []Step     `json:"steps"`
	Isolation      *Isolation `json:"isolation,omitempty"`
	LogEnd         int64      `json:"log_end"`
	// Trace is the runner's own word on what the job did.
	Trace *Trace `json:"trace,omitempty"`
}
