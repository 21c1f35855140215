package sallyport

import "time"

// Decision of a gate. There is no fourth value: what cannot be judged is denied.
type Decision string

const (
	Allow Decision = "allow"
	Deny  Decision = "deny"
	Ask   Decision = "ask" // a person must say yes
)

// Verdict is a gate's decision about a digest, with all it was made from, so
// that it can be replayed.
type Verdict struct {
	ID           VerdictID `json:"id"`
	Project      ProjectID `json:"project"`
	Run          RunID     `json:"run,omitempty"`
	Gate         string    `json:"gate"`
	Environment  string    `json:"environment,omitempty"`
	Subject      Digest    `json:"subject"`
	Artifact     string    `json:"artifact,omitempty"` // its name, for people
	Decision     Decision  `json:"decision"`
	Reasons      []string  `json:"reasons"` // never empty
	PolicyDigest Digest    `json:"policy_digest"`
	InputDigest  Digest    `json:"input_digest"`
	Policy       []byte    `json:"-"` // the policy's source
	Input        []byte    `json:"-"` // the evidence document, canonical JSON
	At           time.Time `json:"at"`
}
