package sallyport

import "time"

// Predicate types of the statements Sallyport makes or reads.
const (
	PredicateProvenance = "https://slsa.dev/provenance/v1"
	PredicateVSA        = "https://slsa.dev/verification_summary/v1"
	predicateOwn        = "https://github.com/sallyport-ci/sallyport/attestation/"
	PredicatePush       = predicateOwn + "push/v1"
	PredicatePlan       = predicateOwn + "plan/v1"
	PredicateDeployment = predicateOwn + "deployment/v1"
	PredicateHealth     = predicateOwn + "health/v1"
	PredicateCache      = predicateOwn + "cache/v1"
)

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
