package sallyport

import (
	"encoding/json"
	"strings"
	"time"
)

// Predicate types of the statements Sallyport makes or reads.
const (
	PredicateProvenance = "https://slsa.dev/provenance/v1"
	PredicateTrace      = "https://in-toto.io/attestation/runtime-trace/v0.2"
	PredicateVSA        = "https://slsa.dev/verification_summary/v1"
	predicateOwn        = "https://github.com/sallyport-ci/sallyport/attestation/"
	PredicatePush       = predicateOwn + "push/v1"
	PredicatePlan       = predicateOwn + "plan/v1"
	PredicateDeployment = predicateOwn + "deployment/v1"
	PredicateHealth     = predicateOwn + "health/v1"
	PredicateCache      = predicateOwn + "cache/v1"
)

// OwnPredicate reports whether a predicate type is one that only the control plane
// may use: what it says of itself, and verdicts.
func OwnPredicate(t string) bool { return strings.HasPrefix(t, predicateOwn) || t == PredicateVSA }

// Statement is a signed and logged claim about a digest: an in-toto Statement
// in a Sigstore bundle. It is immutable.
type Statement struct {
	ID            StatementID `json:"id"`
	Project       ProjectID   `json:"project"`
	Run           RunID       `json:"run,omitempty"`
	Subjects      []Digest    `json:"subjects"`
	PredicateType string      `json:"predicate_type"`
	Identity      string      `json:"identity"` // SAN of the signing certificate
	LogIndex      int64       `json:"log_index"`
	Bundle        []byte      `json:"-"` // Sigstore bundle v0.3, JSON
	BundleDigest  Digest      `json:"bundle_digest"`
	CreatedAt     time.Time   `json:"created_at"`
}

// AssertedByJob reports whether the statement carries a job's word: such have an
// identity of their own, beneath /jobs/ of the installation (attest.Instance.JobIdentity).
func (s Statement) AssertedByJob() bool {
	_, rest, _ := strings.Cut(s.Identity, "://")
	_, path, _ := strings.Cut(rest, "/")
	return strings.HasPrefix(path, "jobs/")
}

// Claim is what a job wants said about content: its own word, whatever it says.
type Claim struct {
	Subjects []ClaimSubject `json:"subjects"`
	// PredicateType and Predicate are what the job says of them. Without a type it is
	// how they were made: that the control plane writes itself, as far as it knows it.
	PredicateType string          `json:"predicate_type,omitempty"`
	Predicate     json.RawMessage `json:"predicate,omitempty"` // a JSON object
}

// ClaimSubject is content that a job speaks of.
type ClaimSubject struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// Checked is the outcome of verifying one bundle against one file or digest.
type Checked struct {
	Subject       Digest    `json:"subject"`
	Identity      string    `json:"identity"`
	Issuer        string    `json:"issuer"`
	PredicateType string    `json:"predicate_type"`
	Predicate     []byte    `json:"-"` // JSON
	LogIndex      int64     `json:"log_index"`
	SignedAt      time.Time `json:"signed_at"` // the timestamp authority's word
}
