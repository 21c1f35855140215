package rpc

import (
	"encoding/json"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// RunAndJobs is a run with its jobs.
type RunAndJobs struct {
	Run  sallyport.Run   `json:"run"`
	Jobs []sallyport.Job `json:"jobs"`
}

// Change says whether something changed before the wait was over.
type Change struct {
	Changed bool `json:"changed"`
}

// FullChecked is a verified claim with its predicate.
type FullChecked struct {
	sallyport.Checked
	Predicate []byte `json:"predicate" doc:"JSON, base64"`
}

// NewFullChecked returns the wire form of c.
func NewFullChecked(c sallyport.Checked) FullChecked { return FullChecked{c, c.Predicate} }

// Value returns what c was made from.
func (c FullChecked) Value() sallyport.Checked {
	c.Checked.Predicate = c.Predicate
	return c.Checked
}

// FullVerdict is a verdict with all it was made from; the digests in it are of
// these very bytes.
type FullVerdict struct {
	sallyport.Verdict
	Policy []byte `json:"policy" doc:"The policy's source, base64"`
	Input  []byte `json:"input" doc:"The evidence document, canonical JSON, base64"`
}

// NewFullVerdict returns the wire form of v.
func NewFullVerdict(v sallyport.Verdict) FullVerdict { return FullVerdict{v, v.Policy, v.Input} }

// Value returns what v was made from.
func (v FullVerdict) Value() sallyport.Verdict {
	v.Verdict.Policy, v.Verdict.Input = v.Policy, v.Input
	return v.Verdict
}

// HealthAndTraffic is how a deployment does.
type HealthAndTraffic struct {
	Health  sallyport.Health  `json:"health"`
	Traffic sallyport.Traffic `json:"traffic"`
}

// Session is what a login token was burnt for.
type Session struct {
	Session string    `json:"session"`
	Expires time.Time `json:"expires"`
}

// NewToken is a token and its value, which is told this once.
type NewToken struct {
	Value string          `json:"value"`
	Token sallyport.Token `json:"token"`
}

// TokenIssuer is who signs ID tokens of jobs, with the keys as a JSON Web Key Set.
type TokenIssuer struct {
	Issuer string          `json:"issuer"`
	Keys   json.RawMessage `json:"keys"`
}

// BuildIdentity is who signs for the builds of a workflow.
type BuildIdentity struct {
	Issuer   string `json:"issuer"`
	Identity string `json:"identity"`
}
