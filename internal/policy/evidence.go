package policy

import (
	"encoding/json"

	"github.com/sallyport-ci/sallyport"
)

// Evidence is the document that a gate judges: all that is known about one
// artifact and where it is to go. Its JSON form is kept with the verdict; its
// shape is fixed by schema/evidence.json.
type Evidence struct {
	Version     int                 `json:"version"` // 1
	Now         string              `json:"now"`     // RFC 3339, of the decision
	Project     EvidenceProject     `json:"project"`
	Environment EvidenceEnvironment `json:"environment"`
	Subject     EvidenceSubject     `json:"subject"`
	Expected    EvidenceExpected    `json:"expected"`
	Run         EvidenceRun         `json:"run"`
	Statements  []EvidenceStatement `json:"statements"`
	// Approvals are what people said yes to: this very evidence, with all but these.
	Approvals []EvidenceApproval `json:"approvals,omitempty"`
}

// EvidenceApproval is the yes of one person, each of whom stands once.
type EvidenceApproval struct {
	By      string `json:"by"` // id
	At      string `json:"at"` // RFC 3339
	Request string `json:"request"`
	Digest  string `json:"digest"` // of the request
}

type EvidenceProject struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	ProtectedRef string `json:"protected_ref"`
}

type EvidenceEnvironment struct {
	Name     string `json:"name"`
	Artifact string `json:"artifact"` // the one that is deployed there
	Workflow string `json:"workflow"` // must have built the artifact
	Approval bool   `json:"approval,omitempty"`
	// Approvals is how many people must say yes where Approval is set; 0 is 1.
	Approvals int `json:"approvals,omitempty"`
	// SealedSource wants proof that the build edited no tracked file.
	SealedSource bool `json:"sealed_source,omitempty"`
}

// EvidenceSubject is the artifact. Content tells whether the kept bytes were
// read just now and have the digest.
type EvidenceSubject struct {
	Name    string         `json:"name"`
	Digest  string         `json:"digest"`
	Size    int64          `json:"size"`
	Tier    sallyport.Tier `json:"tier"`
	Content string         `json:"content"` // "verified", or what is wrong
}

// EvidenceExpected is what this installation's own signatures look like.
type EvidenceExpected struct {
	Issuer   string   `json:"issuer"`
	Identity string   `json:"identity"` // of the environment's workflow on the protected branch
	Builders []string `json:"builders"`
}

type EvidenceRun struct {
	ID         string `json:"id"`
	Conclusion string `json:"conclusion"`
	Commit     string `json:"commit"`
	Ref        string `json:"ref"`
	Event      string `json:"event"`
	Workflow   string `json:"workflow"`
	// OnProtected tells whether the commit is on the protected branch now.
	OnProtected bool `json:"on_protected"`
	// Restored are the cache entries that jobs of the run restored.
	Restored []EvidenceCache `json:"restored,omitempty"`
	// Sources are what the run's other jobs did to their source before they made artifacts, of which this one
	// may be made; none when the environment does not ask.
	Sources []EvidenceSource `json:"sources,omitempty"`
	// Network is what the run's jobs could reach, and Packages what they fetched.
	Network  *EvidenceNetwork  `json:"network,omitempty"`
	Packages *EvidencePackages `json:"packages,omitempty"`
}

// EvidenceSource is a job that made artifacts and whether it edited tracked files before. Seen is false when nothing
// was recorded of it.
type EvidenceSource struct {
	Job     string `json:"job"`
	Seen    bool   `json:"seen"`
	Changed int    `json:"changed"`
}

// EvidenceNetwork is what jobs could reach outside their rooms. Denied counts what their doors refused.
type EvidenceNetwork struct {
	Level   sallyport.EgressLevel `json:"level"`
	Observe bool                  `json:"observe"`
	Denied  int                   `json:"denied"`
}

// EvidencePackages counts the packages that jobs asked registries for.
type EvidencePackages struct {
	Fetched int `json:"fetched"`
	Denied  int `json:"denied"`
}

// EvidenceCache is a cache entry as it was restored. Tier is that of the run that saved it.
type EvidenceCache struct {
	ID     string         `json:"id"`
	Digest string         `json:"digest"`
	Tier   sallyport.Tier `json:"tier"`
	Ref    string         `json:"ref"`
}

// EvidenceStatement is one signed claim about the subject's digest.
type EvidenceStatement struct {
	ID            string `json:"id"`
	PredicateType string `json:"predicate_type"`
	Verified      bool   `json:"verified"` // signature, certificate, time stamp, log entry and subject
	Problem       string `json:"problem,omitempty"`
	Identity      string `json:"identity"`
	Issuer        string `json:"issuer"`
	Bundle        string `json:"bundle"` // digest
	// AssertedBy is "job" when the statement is what a job said, whatever its type; then
	// a predicate that is too large for the document is null.
	AssertedBy string          `json:"asserted_by,omitempty"`
	Predicate  json.RawMessage `json:"predicate"`
}

// Encode returns the document's canonical bytes (Go's encoding of the struct:
// fixed field order) and their digest.
func (e Evidence) Encode() ([]byte, sallyport.Digest, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, "", err
	}
	return b, sallyport.DigestOf(b), nil
}
