package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/sallyport-ci/sallyport"
)

// mediaType is the only bundle format that is accepted.
const mediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// shape demands the one form of bundle that Sallyport makes. Fewer forms are
// fewer ways to be misled: an in-toto statement in a DSSE envelope with one
// signature, one certificate, one log entry of kind hashedrekord 0.0.2, one
// timestamp.
func shape(b *bundle.Bundle) error {
	wrong := func(what string) error {
		return sallyport.Errorf(sallyport.CodeInvalid, "the bundle is not of the expected form: %s", what)
	}
	material := b.GetVerificationMaterial()
	envelope := b.GetDsseEnvelope()
	switch {
	case b.GetMediaType() != mediaType:
		return wrong("media type")
	case envelope == nil:
		return wrong("it carries no statement")
	case envelope.GetPayloadType() != "application/vnd.in-toto+json":
		return wrong("payload type")
	case len(envelope.GetSignatures()) != 1 || envelope.GetSignatures()[0].GetKeyid() != "":
		return wrong("it must have one signature without a key id")
	case material.GetCertificate() == nil:
		return wrong("it must have one certificate")
	case len(material.GetTimestampVerificationData().GetRfc3161Timestamps()) != 1:
		return wrong("it must have one signed timestamp")
	case len(material.GetTlogEntries()) != 1:
		return wrong("it must have one log entry")
	}
	entry := material.GetTlogEntries()[0]
	switch {
	case entry.GetKindVersion().GetKind() != "hashedrekord" || entry.GetKindVersion().GetVersion() != "0.0.2":
		return wrong("kind of log entry")
	case entry.GetIntegratedTime() != 0 || entry.GetInclusionPromise() != nil:
		return wrong("the log entry must carry a proof, not a promise")
	case entry.GetInclusionProof().GetCheckpoint() == nil || len(entry.GetCanonicalizedBody()) == 0:
		return wrong("the log entry has no proof")
	}
	return nil
}

// consistent compares the fields that the verification did not need, because
// it recomputed them, with what it proved: a reader of the bundle may believe
// them.
func consistent(b *bundle.Bundle, trusted *root.TrustedRoot) error {
	material := b.GetVerificationMaterial()
	stamp := material.GetTimestampVerificationData().GetRfc3161Timestamps()[0]
	if err := strictTimestamp(stamp.GetSignedTimestamp(), trusted.TimestampingAuthorities()); err != nil {
		return err
	}
	entry := material.GetTlogEntries()[0]
	p := entry.GetInclusionProof()
	var head log.Checkpoint
	lines, err := head.Unmarshal([]byte(p.GetCheckpoint().GetEnvelope()))
	if err != nil || !strictSignatures(string(lines)) {
		return denied("transparency log", "malformed checkpoint")
	}
	if p.GetLogIndex() != entry.GetLogIndex() || p.GetTreeSize() < 0 || uint64(p.GetTreeSize()) != head.Size || !bytes.Equal(p.GetRootHash(), head.Hash) {
		return denied("transparency log", "the entry's index, size or root contradict its checkpoint")
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(entry.GetCanonicalizedBody())
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(entry.GetLogIndex()), head.Size, leaf, p.GetHashes(), head.Hash); err != nil {
		return denied("transparency log", "the entry's body is not what was logged")
	}
	return nil
}

// strictSignatures refuses signature lines of a checkpoint that could be written
// in another way and mean the same.
func strictSignatures(lines string) bool {
	body, ok := strings.CutPrefix(lines, "\n")
	if !ok || !strings.HasSuffix(body, "\n") {
		return false
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(body, "\n"), "\n") {
		name, sig, _ := strings.Cut(strings.TrimPrefix(line, "— "), " ")
		raw, err := base64.StdEncoding.DecodeString(sig)
		if err != nil || line != "— "+name+" "+base64.StdEncoding.EncodeToString(raw) {
			return false
		}
	}
	return true
}

// oidIssuer is Fulcio's issuer extension, a DER UTF8String.
var oidIssuer = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}

// certificateClaims reads identity and issuer from the bundle's certificate,
// which is not trusted yet.
func certificateClaims(b *bundle.Bundle) (identity, issuer string, err error) {
	cert, err := x509.ParseCertificate(b.GetVerificationMaterial().GetCertificate().GetRawBytes())
	if err != nil {
		return "", "", sallyport.Errorf(sallyport.CodeInvalid, "the bundle's certificate is malformed: %v", err)
	}
	if len(cert.URIs) != 1 || len(cert.DNSNames)+len(cert.EmailAddresses)+len(cert.IPAddresses) != 0 {
		return "", "", denied("identity", "the certificate must name exactly one URI")
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidIssuer) {
			if rest, err := asn1.UnmarshalWithParams(e.Value, &issuer, "utf8"); err != nil || len(rest) != 0 {
				return "", "", denied("issuer", "the certificate's issuer is malformed")
			}
		}
	}
	return cert.URIs[0].String(), issuer, nil
}
