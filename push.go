package sallyport

import "time"

// Push is one accepted change of one ref: what intake hands to plan.
type Push struct {
	ID      PushID    `json:"id"`
	Project ProjectID `json:"project"`
	Event   string    `json:"event"`            // push, pull_request, workflow_dispatch, …
	Action  string    `json:"action,omitempty"` // the event's activity type
	Ref     string    `json:"ref"`              // full name
	Before  string    `json:"before,omitempty"` // commit, "" for a new ref
	Commit  string    `json:"commit"`
	Actor   Principal `json:"actor"`
	Tier    Tier      `json:"tier"`
	Payload []byte    `json:"payload,omitempty"` // the event as JSON; everything in it is untrusted text
	Inputs  []byte    `json:"inputs,omitempty"`  // workflow_dispatch inputs as a JSON object
	// Key makes a delivery idempotent: a second push with the same key is the first.
	Key string    `json:"key"`
	At  time.Time `json:"at"`
}

// RefUpdate is one line of a git push: Old and New are commit ids, all zeros
// for "does not exist".
type RefUpdate struct {
	Ref string `json:"ref"`
	Old string `json:"old"`
	New string `json:"new"`
}

// ZeroCommit stands for "no commit" in the git protocol.
const ZeroCommit = "0000000000000000000000000000000000000000"
