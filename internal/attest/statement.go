package attest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/sallyport-ci/sallyport"
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
)

// Bounds of a statement. Larger content is referred to by digest.
const (
	MaxStatement = 1 << 20
	MaxSubjects  = 1024
)

// Subject is what a statement is about: content by its digest, or a commit.
type Subject struct {
	Name   string
	Digest sallyport.Digest // exactly one of Digest and Commit is set
	Commit string           // git object id, SHA-1 or SHA-256 in hex
	// AssertedBy is who says so, when it is not the control plane by its own
	// knowledge: an annotation of the subject.
	AssertedBy string
}

// AssertedByJob is the AssertedBy of a job's word.
const AssertedByJob = "job"

func (s Subject) descriptor() (Resource, error) {
	digest := map[string]string{}
	if s.Digest != "" {
		if _, err := sallyport.ParseDigest(string(s.Digest)); err != nil {
			return Resource{}, err
		}
		digest["sha256"] = s.Digest.Hex()
	}
	if s.Commit != "" {
		if !isCommit(s.Commit) {
			return Resource{}, sallyport.Errorf(sallyport.CodeInvalid, "subject %.80q is not a commit id", s.Commit)
		}
		digest["gitCommit"] = s.Commit
	}
	if len(digest) != 1 {
		return Resource{}, sallyport.Errorf(sallyport.CodeInvalid, "subject %.80q needs a digest or a commit", s.Name)
	}
	out := Resource{Name: s.Name, Digest: digest}
	if s.AssertedBy != "" {
		out.Annotations = map[string]string{"assertedBy": s.AssertedBy}
	}
	return out, nil
}

func isCommit(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Resource is an in-toto ResourceDescriptor: something a statement refers to.
type Resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"` // algorithm ("sha256", "gitCommit") to hex
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// SHA256 returns the digest set of d.
func SHA256(d sallyport.Digest) map[string]string {
	return map[string]string{"sha256": d.Hex()}
}

// GitCommit returns the digest set of a commit.
func GitCommit(commit string) map[string]string { return map[string]string{"gitCommit": commit} }

// Statement returns an in-toto Statement v1 as JSON. Predicates of our own types
// must satisfy their schema (CodeInvalid).
func Statement(subjects []Subject, predicateType string, predicate any) ([]byte, error) {
	body, err := marshal(predicate)
	if err != nil {
		return nil, fmt.Errorf("encode predicate: %w", err)
	}
	s := statement{Type: statementType, PredicateType: predicateType, Predicate: body}
	for _, subject := range subjects {
		r, err := subject.descriptor()
		if err != nil {
			return nil, err
		}
		s.Subject = append(s.Subject, r)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	out, err := marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode statement: %w", err)
	}
	if len(out) > MaxStatement {
		return nil, tooLarge(len(out))
	}
	return out, nil
}

// statement is an in-toto Statement v1.
type statement struct {
	Type          string          `json:"_type"`
	Subject       []Resource      `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// parseStatement reads a statement that is about to be signed and refuses what
// could not be verified later.
func parseStatement(b []byte) (statement, error) {
	if len(b) > MaxStatement {
		return statement{}, tooLarge(len(b))
	}
	var s statement
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return statement{}, sallyport.Errorf(sallyport.CodeInvalid, "not an in-toto statement: %v", err)
	}
	if dec.More() {
		return statement{}, sallyport.Errorf(sallyport.CodeInvalid, "not an in-toto statement: data follows it")
	}
	return s, s.check()
}

func (s statement) check() error {
	switch {
	case s.Type != statementType:
		return sallyport.Errorf(sallyport.CodeInvalid, "statement type %.80q is not %s", s.Type, statementType)
	case s.PredicateType == "":
		return sallyport.Errorf(sallyport.CodeInvalid, "the statement has no predicate type")
	case len(s.Subject) == 0:
		return sallyport.Errorf(sallyport.CodeInvalid, "the statement is about nothing")
	case len(s.Subject) > MaxSubjects:
		return sallyport.Errorf(sallyport.CodeInvalid, "the statement has %d subjects, at most %d", len(s.Subject), MaxSubjects)
	}
	for _, r := range s.Subject {
		if len(r.Digest) == 0 {
			return sallyport.Errorf(sallyport.CodeInvalid, "subject %.80q of the statement has no digest", r.Name)
		}
	}
	return CheckPredicate(s.PredicateType, s.Predicate)
}

func tooLarge(n int) error {
	return sallyport.Errorf(sallyport.CodeInvalid, "a statement of %d bytes is too large, at most %d", n, MaxStatement).
		WithHint("keep the large part as a blob and refer to it by digest")
}

// marshal encodes v as compact JSON without escaping for HTML: URLs stay readable.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
