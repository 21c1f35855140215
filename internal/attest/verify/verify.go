// Package verify checks Sigstore bundles as a stranger would: given nothing but
// the bundle, what it is about, who must have signed it, and a trusted root.
//
// The cryptography is sigstore-go's. This package fixes what must hold, which
// is what cosign demands by default: one certificate of the trusted issuer with
// a certificate timestamp, one signed timestamp within the certificate's life,
// one entry in the transparency log with its proof, exactly one identity. Beyond
// that it refuses bundles whose redundant fields contradict the proven ones.
//
// Gates, `sallyport verify` and the pages use it. It needs no network and no
// clock, and links no signer.
package verify

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/sallyport-ci/sallyport"
)

const (
	// MaxBundle bounds a bundle before it is parsed. Ours are 8 KB to 1.5 MB.
	MaxBundle = 4 << 20
	// MaxTrustedRoot bounds a trusted root; ours are 5 KB.
	MaxTrustedRoot = 1 << 20
)

// Verifier verifies bundles against one trusted root. It is safe for use by
// several goroutines.
type Verifier struct {
	trusted  *root.TrustedRoot
	verifier *sigstore.Verifier
}

// New returns a Verifier for a trusted root in JSON. CodeInvalid when it is
// none.
func New(trustedRoot []byte) (*Verifier, error) {
	if len(trustedRoot) > MaxTrustedRoot {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "a trusted root of %d bytes is too large, at most %d", len(trustedRoot), MaxTrustedRoot)
	}
	trusted, err := root.NewTrustedRootFromJSON(trustedRoot)
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "not a trusted root: %v", err).
			WithHint("get it with `sallyport trust-root`")
	}
	verifier, err := sigstore.NewVerifier(trusted,
		sigstore.WithSignedCertificateTimestamps(1),
		sigstore.WithSignedTimestamps(1),
		sigstore.WithTransparencyLog(1),
		sigstore.WithoutStatementPredicate())
	if err != nil {
		return nil, fmt.Errorf("configure verifier: %w", err)
	}
	return &Verifier{trusted: trusted, verifier: verifier}, nil
}

// Verify checks that the bundle holds a statement about subject, signed by
// exactly identity (the certificate's URI) of issuer. The error says which
// check failed: CodeInvalid for input that is no bundle or no digest,
// CodeDenied for a bundle that does not prove what was asked.
func (v *Verifier) Verify(bundleJSON []byte, subject sallyport.Digest, identity, issuer string) (sallyport.Checked, error) {
	if _, err := sallyport.ParseDigest(string(subject)); err != nil {
		return sallyport.Checked{}, err
	}
	if identity == "" || issuer == "" {
		return sallyport.Checked{}, sallyport.Errorf(sallyport.CodeInvalid, "a signature proves nothing without the identity and issuer that must have made it").
			WithHint("name both")
	}
	b, err := parse(bundleJSON)
	if err != nil {
		return sallyport.Checked{}, err
	}
	// Claims are compared first, for the clear message; nothing is believed until
	// the cryptography below holds, which checks them again.
	if err := claims(b, identity, issuer); err != nil {
		return sallyport.Checked{}, err
	}
	statement, err := readStatement(b)
	if err != nil {
		return sallyport.Checked{}, err
	}
	if !statement.about(subject) {
		return sallyport.Checked{}, denied("subject", "the statement is about other content than %s", subject).
			WithHint("the file was altered, or the bundle belongs to another file")
	}
	signedBy, err := sigstore.NewShortCertificateIdentity(issuer, "", identity, "")
	if err != nil {
		return sallyport.Checked{}, sallyport.Errorf(sallyport.CodeInvalid, "identity: %v", err)
	}
	raw, err := hex.DecodeString(subject.Hex())
	if err != nil {
		return sallyport.Checked{}, fmt.Errorf("decode digest: %w", err)
	}
	result, err := v.verifier.Verify(b, sigstore.NewPolicy(sigstore.WithArtifactDigest("sha256", raw), sigstore.WithCertificateIdentity(signedBy)))
	if err != nil {
		return sallyport.Checked{}, explain(err)
	}
	if err := consistent(b, v.trusted); err != nil {
		return sallyport.Checked{}, err
	}
	return sallyport.Checked{
		Subject:       subject,
		Identity:      result.Signature.Certificate.SubjectAlternativeName,
		Issuer:        result.Signature.Certificate.Issuer,
		PredicateType: statement.PredicateType,
		Predicate:     statement.Predicate,
		LogIndex:      b.VerificationMaterial.TlogEntries[0].LogIndex,
		SignedAt:      result.VerifiedTimestamps[0].Timestamp,
	}, nil
}

// VerifyFile reads content to its end and verifies the bundle about its digest.
func (v *Verifier) VerifyFile(content io.Reader, bundleJSON []byte, identity, issuer string) (sallyport.Checked, error) {
	d, _, err := sallyport.DigestReader(content)
	if err != nil {
		return sallyport.Checked{}, fmt.Errorf("read file: %w", err)
	}
	return v.Verify(bundleJSON, d, identity, issuer)
}

func parse(b []byte) (*bundle.Bundle, error) {
	if len(b) > MaxBundle {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "a bundle of %d bytes is too large, at most %d", len(b), MaxBundle)
	}
	var out bundle.Bundle
	if err := out.UnmarshalJSON(b); err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "not a Sigstore bundle: %v", err)
	}
	return &out, shape(&out)
}

// claims compares what the certificate says with what is demanded.
func claims(b *bundle.Bundle, identity, issuer string) error {
	gotIdentity, gotIssuer, err := certificateClaims(b)
	if err != nil {
		return err
	}
	if gotIdentity != identity {
		return denied("identity", "signed by %.300q, not by %.300q", gotIdentity, identity)
	}
	if gotIssuer != issuer {
		return denied("issuer", "signed under issuer %.300q, not %.300q", gotIssuer, issuer)
	}
	return nil
}

// statement is the in-toto Statement v1 of a bundle.
type statement struct {
	Type    string `json:"_type"`
	Subject []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

func readStatement(b *bundle.Bundle) (statement, error) {
	var s statement
	if err := json.Unmarshal(b.GetDsseEnvelope().GetPayload(), &s); err != nil {
		return s, sallyport.Errorf(sallyport.CodeInvalid, "the bundle's payload is not an in-toto statement: %v", err)
	}
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType == "" {
		return s, sallyport.Errorf(sallyport.CodeInvalid, "the bundle's payload is not an in-toto statement v1")
	}
	return s, nil
}

func (s statement) about(d sallyport.Digest) bool {
	for _, subject := range s.Subject {
		if subject.Digest["sha256"] == d.Hex() {
			return true
		}
	}
	return false
}

// denied is the error of a check that failed.
func denied(check, format string, args ...any) *sallyport.Error {
	return sallyport.Errorf(sallyport.CodeDenied, "%s: "+format, append([]any{check}, args...)...)
}

// explain names the check behind an error of sigstore-go. Only the wording
// depends on its text.
func explain(err error) error {
	text := err.Error()
	for _, stage := range [...]struct{ prefix, check, what string }{
		{"failed to verify log inclusion", "transparency log", "the signature is not proven to be in the trusted log"},
		{"failed to verify timestamps", "timestamp", "the signature has no timestamp of the trusted authority"},
		{"failed to verify leaf certificate", "certificate", "the certificate is not of the trusted issuer, or was not valid when it signed"},
		{"failed to verify signed certificate timestamp", "certificate timestamp", "the certificate has no timestamp of the trusted log"},
		{"failed to verify signature", "signature", "the signature does not fit the statement"},
		{"failed to verify certificate identity", "identity", "the certificate is another identity's"},
	} {
		if strings.HasPrefix(text, stage.prefix) {
			e := denied(stage.check, "%s", stage.what)
			e.Err = err
			return e
		}
	}
	return &sallyport.Error{Code: sallyport.CodeDenied, Message: "the bundle does not verify", Err: err}
}
