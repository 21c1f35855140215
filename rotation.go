package sallyport

import (
	"context"
	"encoding/json"
	"time"
)

// RotationID identifies one change of a secret's value at its source.
type RotationID string

// RotationState is how far a rotation is. It is saved before the effect that leads to the next
// one, so that an effect that may have happened is always known, and repeated after a crash.
type RotationState string

const (
	RotationBegun    RotationState = "begun"    // the new credential may be being made
	RotationStaged   RotationState = "staged"   // its value is kept, sealed; the target may have it
	RotationApplied  RotationState = "applied"  // the target has it
	RotationVerified RotationState = "verified" // it was used, and works
	RotationPromoted RotationState = "promoted" // jobs are lent it; those that began before hold the old one
	RotationDrained  RotationState = "drained"  // no job holds the old one; it may be being disabled
	RotationRetired  RotationState = "retired"  // the target refuses the old one; it may be being deleted
	RotationDone     RotationState = "destroyed"
	RotationUndoing  RotationState = "undoing" // it failed before it was promoted; what it made is being deleted
	RotationFailed   RotationState = "failed"  // nothing of it is left
)

// Ended reports whether nothing follows.
func (s RotationState) Ended() bool { return s == RotationDone || s == RotationFailed }

// Promoted reports whether jobs are lent the new credential.
func (s RotationState) Promoted() bool {
	switch s {
	case RotationPromoted, RotationDrained, RotationRetired, RotationDone:
		return true
	default:
		return false
	}
}

// Rotation is one change of a secret's value at its source.
type Rotation struct {
	ID          RotationID    `json:"id"`
	Project     ProjectID     `json:"project"`
	Environment string        `json:"environment,omitempty"`
	Name        string        `json:"name"`
	State       RotationState `json:"state"`
	Reason      string        `json:"reason"` // due, asked, leak
	// Urgent ends the old credential as soon as the new one is lent, whoever holds it.
	Urgent bool   `json:"urgent,omitempty"`
	By     string `json:"by"`
	// Old and New are versions of the secret, OldAccount and NewAccount whom they log in as.
	Old        SecretVersion `json:"old"`
	OldAccount string        `json:"old_account,omitempty"`
	New        SecretVersion `json:"new"`
	NewAccount string        `json:"new_account,omitempty"`
	Tries      int           `json:"tries,omitempty"` // of the present step
	LastError  string        `json:"last_error,omitempty"`
	NextAt     time.Time     `json:"next_at,omitzero"` // when it goes on
	StartedAt  time.Time     `json:"started_at"`
	PromotedAt time.Time     `json:"promoted_at,omitzero"`
	EndedAt    time.Time     `json:"ended_at,omitzero"`
	Seq        int64         `json:"-"` // counts saves
}

// RotationRule says how and when a secret is rotated.
type RotationRule struct {
	Project     ProjectID `json:"project"`
	Environment string    `json:"environment,omitempty"`
	Name        string    `json:"name"`
	Rotator     string    `json:"rotator"` // postgres, http
	// Every is the time from one rotation to the next; 0: only when somebody asks.
	Every time.Duration `json:"every,omitempty"`
	// From and To are hours of the day, UTC, within which one that is due begins; equal: at any time.
	From int `json:"from,omitempty"`
	To   int `json:"to,omitempty"`
	// Overlap is for how long the old credential goes on working at least, for who holds it besides jobs.
	Overlap time.Duration `json:"overlap,omitempty"`
	// Config is for the rotator; it holds no secret.
	Config json.RawMessage `json:"config"`
	SetAt  time.Time       `json:"set_at"`
	SetBy  string          `json:"set_by"`
	Due    time.Time       `json:"due,omitzero"` // zero: never
	// Leaked says that the next rotation answers to a leak: it is due now, at whatever hour, and urgent.
	Leaked bool `json:"leaked,omitempty"`
}

// RotationStatus is what is known of the rotation of one secret.
type RotationStatus struct {
	Rule RotationRule `json:"rule"`
	// Last is the rotation that runs, or ran last; nil when there was none.
	Last *Rotation `json:"last,omitempty"`
	// Holders are jobs that run now and were lent the version before Last's.
	Holders []SecretLease `json:"holders,omitempty"`
}

// SecretLease says that a job was lent a version of a secret.
type SecretLease struct {
	Project     ProjectID     `json:"project"`
	Environment string        `json:"environment,omitempty"`
	Name        string        `json:"name"`
	Version     SecretVersion `json:"version"`
	Run         RunID         `json:"run"`
	Job         JobID         `json:"job"`
	Attempt     int           `json:"attempt"`
	Runner      RunnerID      `json:"runner"`
	At          time.Time     `json:"at"`
}

// Login is a credential with the account that it logs in as, which is no secret.
type Login struct {
	Account string // "" where the value says it all
	Value   Secret
}

// Incident is what follows when a secret leaked: what was stopped, and who could have told it.
type Incident struct {
	Project     ProjectID     `json:"project"`
	Environment string        `json:"environment,omitempty"`
	Name        string        `json:"name"`
	Version     SecretVersion `json:"version"` // that leaked
	Where       string        `json:"where,omitempty"`
	At          time.Time     `json:"at"`
	By          string        `json:"by"`
	Stop        StopReport    `json:"stop"` // nobody is lent the secret until it is lifted
	// Rotation replaces the value; nil when no rule says how: then a person must, at the source.
	Rotation *Rotation `json:"rotation,omitempty"`
	// Leases are the attempts of jobs that were lent the version, oldest first; Hosts where they used it.
	Leases []SecretLease `json:"leases,omitempty"`
	Hosts  []string      `json:"hosts,omitempty"`
}

// RotationTask is what a Rotator works on: one rotation of one secret.
type RotationTask struct {
	ID     RotationID
	Config json.RawMessage // of the rule
	Admin  Secret          // by which the target lets credentials be changed; empty: there is none
	Old    Login
	New    Login // empty before Stage
}

// Rotator changes credentials at their source.
//
// Contract. Every method but Accepts ensures a state and does not toggle one: it may have been
// cut off anywhere, is called again with the same task, and then ends where one call would have.
// Calls for one secret never overlap. A method returns within its context's time, whatever
// the target does, and reads a bounded part of what it says. No error holds a value. A
// CodeInvalid or CodeDenied error says that repeating is in vain.
//
// Old works until Retire: nothing before it may touch Old. After Discard nothing that Stage or
// Apply made for the task's ID is left at the target, also what a Stage made whose
// result was lost.
type Rotator interface {
	// Check judges a rule's configuration without asking anybody.
	Check(config json.RawMessage) error
	// Stage returns the credential to come. Where the target makes values, it first removes
	// what an earlier Stage of the same ID made, for that value is lost.
	Stage(ctx context.Context, t RotationTask) (Login, error)
	// Apply makes the target accept New.
	Apply(ctx context.Context, t RotationTask) error
	// Accepts uses the credential as its holder would. An error says that it cannot be told.
	Accepts(ctx context.Context, t RotationTask, l Login) (bool, error)
	// Retire makes the target refuse Old and ends what runs by it.
	Retire(ctx context.Context, t RotationTask) error
	// Destroy deletes what is left of Old.
	Destroy(ctx context.Context, t RotationTask) error
	// Discard deletes what is there of New.
	Discard(ctx context.Context, t RotationTask) error
}
