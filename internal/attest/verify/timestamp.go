package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// The wrapping of an RFC 3161 response is not signed, and the library that
// verifies it is lenient about it. So the response is read a second time, in its
// one canonical encoding, and every unsigned field must be what it has to be
// (RFC 3161 section 2.4.2, RFC 5652 section 5).

type timestampResponse struct {
	Status struct{ Status int }
	Token  struct {
		Type asn1.ObjectIdentifier
		Data signedData `asn1:"explicit,tag:0"`
	}
}

type signedData struct {
	Version int
	Digests []pkix.AlgorithmIdentifier `asn1:"set"`
	Encap   struct {
		Type    asn1.ObjectIdentifier
		Content []byte `asn1:"explicit,tag:0"`
	}
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	Signers      []signerInfo  `asn1:"set"`
}

type signerInfo struct {
	Version int
	Signer  struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	Digest     pkix.AlgorithmIdentifier
	Attributes asn1.RawValue `asn1:"tag:0"`
	Algorithm  pkix.AlgorithmIdentifier
	Signature  []byte
}

var (
	oidSignedData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidTSTInfo         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidSHA256          = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// strictTimestamp refuses a response that differs in any byte from the one that
// its authority made; whether its content is right was verified before.
func strictTimestamp(der []byte, authorities []root.TimestampingAuthority) error {
	malformed := denied("timestamp", "the timestamp's wrapping was altered")
	var r timestampResponse
	if rest, err := asn1.Unmarshal(der, &r); err != nil || len(rest) != 0 {
		return malformed
	}
	// Unmarshal does not compare the length of an explicit tag with what is in it.
	if again, err := asn1.Marshal(r); err != nil || !bytes.Equal(again, der) {
		return malformed
	}
	d := r.Token.Data
	ok := r.Status.Status == 0 && r.Token.Type.Equal(oidSignedData) && d.Version == 3 && d.Encap.Type.Equal(oidTSTInfo) &&
		len(d.Digests) == 1 && d.Digests[0].Algorithm.Equal(oidSHA256) && len(d.Certificates.Bytes) == 0 && len(d.Signers) == 1
	if !ok {
		return malformed
	}
	s := d.Signers[0]
	if s.Version != 1 || !s.Digest.Algorithm.Equal(oidSHA256) || !s.Algorithm.Algorithm.Equal(oidECDSAWithSHA256) {
		return malformed
	}
	// The signature is over the attributes as a SET OF, not as the tagged field in
	// which they travel.
	signed := bytes.Clone(s.Attributes.FullBytes)
	signed[0] = asn1.TagSet | 0x20
	sum := sha256.Sum256(signed)
	for _, authority := range authorities {
		leaf := leafOf(authority)
		if leaf == nil || !bytes.Equal(leaf.RawIssuer, s.Signer.Issuer.FullBytes) || leaf.SerialNumber.Cmp(s.Signer.Serial) != 0 {
			continue
		}
		if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); ok && ecdsa.VerifyASN1(key, sum[:], s.Signature) {
			return nil
		}
	}
	return malformed
}

func leafOf(a root.TimestampingAuthority) *x509.Certificate {
	if s, ok := a.(*root.SigstoreTimestampingAuthority); ok {
		return s.Leaf
	}
	return nil
}
