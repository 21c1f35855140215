package sallyport

import (
	"context"
	"time"
)

// StopKind says what a stop is about.
type StopKind string

const (
	StopPerson  StopKind = "person"
	StopBot     StopKind = "bot"
	StopAgent   StopKind = "agent"
	StopRunner  StopKind = "runner"
	StopProject StopKind = "project"
	StopKey     StopKind = "key"
	StopSecret  StopKind = "secret"
)

// Keys that can be stopped.
const (
	KeySigning = "signing"  // of attestations: nothing is signed, so nothing new is deployed
	KeyIDToken = "id-token" // of ID tokens: none is issued
	KeySecrets = "secrets"  // that seals secrets: none is lent
)

// Stop is the kill switch, thrown on one thing. It holds until it is lifted.
type Stop struct {
	ID   StopID   `json:"id"`
	Kind StopKind `json:"kind"`
	// Name is an account's id, a runner's id or name, a project's name, one of the keys,
	// PROJECT/NAME or PROJECT/ENVIRONMENT/NAME of a secret.
	Name    string    `json:"name"`
	Project ProjectID `json:"project,omitempty"` // of a project and of a secret
	Why     string    `json:"why,omitempty"`
	By      Party     `json:"by"`
	At      time.Time `json:"at"`
}

// StopReport is what a stop did, and what it could not undo.
type StopReport struct {
	Stop    Stop      `json:"stop"`
	Stopped []Stopped `json:"stopped,omitempty"`
	// Left is what nobody can take back from here, with what to do about it.
	Left []Stopped `json:"left,omitempty"`
}

// Stopped is one thing of a report.
type Stopped struct {
	What string `json:"what"` // job, run, token, grant, request, deployment, secret, …
	ID   string `json:"id,omitempty"`
	Text string `json:"text"`
}

// Stops throw the kill switch and put it back.
type Stops interface {
	// Stop stops at once what it names. CodeConflict when it is stopped already.
	Stop(ctx context.Context, kind StopKind, name, why string) (StopReport, error)
	// Lift ends a stop. Nothing that was cancelled, burnt or revoked comes back.
	Lift(ctx context.Context, kind StopKind, name, why string) (Stop, error)
	// Stops returns those that hold, newest first.
	Stops(ctx context.Context) ([]Stop, error)
}

type StopTx interface {
	Insert(Stop) error // CodeConflict when the id exists
	// Standing returns those that no event of kind ended is about, newest first.
	Standing() ([]Stop, error)
}
