package attest

import (
	"crypto/x509"
	"fmt"
	"time"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	prototrust "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const trustedRootMediaType = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"

// TrustedRoot returns trusted_root.json: all that a stranger needs to verify what
// this installation signed and logged in the given log.
func (a *Authority) TrustedRoot(log LogKey) ([]byte, error) {
	logID, err := log.id()
	if err != nil {
		return nil, fmt.Errorf("make trusted root: %w", err)
	}
	logKey, err := x509.MarshalPKIXPublicKey(log.Public)
	if err != nil {
		return nil, fmt.Errorf("make trusted root: %w", err)
	}
	sctKey, err := x509.MarshalPKIXPublicKey(a.sct.Public())
	if err != nil {
		return nil, fmt.Errorf("make trusted root: %w", err)
	}
	since := func(t time.Time) *protocommon.TimeRange {
		return &protocommon.TimeRange{Start: timestamppb.New(t)}
	}
	start := a.certs.root.NotBefore
	return marshalProto(&prototrust.TrustedRoot{
		MediaType: trustedRootMediaType,
		Tlogs: []*prototrust.TransparencyLogInstance{{
			BaseUrl:       "https://" + log.Origin, // its host name must be the origin
			HashAlgorithm: protocommon.HashAlgorithm_SHA2_256,
			PublicKey:     &protocommon.PublicKey{RawBytes: logKey, KeyDetails: protocommon.PublicKeyDetails_PKIX_ED25519, ValidFor: since(start)},
			LogId:         &protocommon.LogId{KeyId: logID},
		}},
		CertificateAuthorities: []*prototrust.CertificateAuthority{{
			Subject:   distinguishedName(a.certs.root),
			Uri:       a.instance.Issuer(),
			CertChain: chain(a.certs.issuer, a.certs.root), // issuer first, root last
			ValidFor:  since(start),
		}},
		Ctlogs: []*prototrust.TransparencyLogInstance{{
			BaseUrl:       "https://ct." + string(a.instance),
			HashAlgorithm: protocommon.HashAlgorithm_SHA2_256,
			PublicKey:     &protocommon.PublicKey{RawBytes: sctKey, KeyDetails: protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, ValidFor: since(start)},
			LogId:         &protocommon.LogId{KeyId: a.sctLogID[:]},
		}},
		TimestampAuthorities: []*prototrust.CertificateAuthority{{
			Subject:   distinguishedName(a.certs.tsa),
			Uri:       "https://tsa." + string(a.instance),
			CertChain: chain(a.certs.tsa, a.certs.tsaRoot),
			ValidFor:  since(start),
		}},
	})
}

func distinguishedName(c *x509.Certificate) *protocommon.DistinguishedName {
	return &protocommon.DistinguishedName{Organization: c.Subject.Organization[0], CommonName: c.Subject.CommonName}
}

func chain(certs ...*x509.Certificate) *protocommon.X509CertificateChain {
	out := &protocommon.X509CertificateChain{}
	for _, c := range certs {
		out.Certificates = append(out.Certificates, &protocommon.X509Certificate{RawBytes: c.Raw})
	}
	return out
}
