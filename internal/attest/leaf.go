package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport"
)

// maxClaim bounds one claim of an identity; ref names end near 1 KiB.
const maxClaim = 2 << 10

// Identity is who signs, as the certificate will say it. The issuer is always
// the instance's.
type Identity struct {
	SAN string // Instance.BuildIdentity, JobIdentity, GateIdentity or CacheIdentity
	// Claims about the run that led to the statement, for verifiers that look at
	// them (1.3.6.1.4.1.57264.1.N); "" leaves one out.
	BuildSigner       string // N=9, URI of what signs: the builder, or the gate
	RunnerEnvironment string // 11
	SourceRepository  string // 12, URI
	SourceDigest      string // 13, commit
	SourceRef         string // 14
	BuildConfig       string // 18, URI of the workflow at its ref
	BuildConfigDigest string // 19, commit of the workflow
	Trigger           string // 20, event
	RunInvocation     string // 21, URI of the run
}

// extensions returns the claims as certificate extensions. Those from 8 on are
// DER strings; number 1 holds the same issuer as raw bytes, for old clients.
func (id Identity) extensions(issuer string) ([]pkix.Extension, error) {
	oid := func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n} }
	out := []pkix.Extension{{Id: oid(1), Value: []byte(issuer)}}
	for _, claim := range [...]struct {
		n     int
		value string
	}{
		{8, issuer}, {9, id.BuildSigner}, {11, id.RunnerEnvironment}, {12, id.SourceRepository}, {13, id.SourceDigest}, {14, id.SourceRef},
		{18, id.BuildConfig}, {19, id.BuildConfigDigest}, {20, id.Trigger}, {21, id.RunInvocation},
	} {
		if claim.value == "" {
			continue
		}
		if len(claim.value) > maxClaim || !utf8.ValidString(claim.value) {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "claim %d of the identity is too long or not UTF-8", claim.n)
		}
		value, err := asn1.MarshalWithParams(claim.value, "utf8")
		if err != nil {
			return nil, fmt.Errorf("encode claim %d: %w", claim.n, err)
		}
		out = append(out, pkix.Extension{Id: oid(claim.n), Value: value})
	}
	return out, nil
}

// checkSAN refuses an identity outside the instance, and one that a verifier
// would read differently than we wrote it.
func (i Instance) checkSAN(san string) (*url.URL, error) {
	u, err := url.Parse(san)
	if err != nil || u.String() != san || !strings.HasPrefix(san, i.Issuer()+"/") || len(san) > maxClaim {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not an identity of %s", san, i).
			WithHint("make identities with Instance.BuildIdentity or Instance.GateIdentity")
	}
	return u, nil
}

// issueLeaf makes a key and its certificate for one statement.
func (a *Authority) issueLeaf(now time.Time, id Identity) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	san, err := a.instance.checkSAN(id.SAN)
	if err != nil {
		return nil, nil, err
	}
	extensions, err := id.extensions(a.instance.Issuer())
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make signing key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:    serial(),
		NotBefore:       now.Add(-backdate).Truncate(time.Second),
		NotAfter:        now.Add(leafLife).Truncate(time.Second),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		URIs:            []*url.URL{san}, // critical, because the subject is empty
		ExtraExtensions: extensions,
	}
	// The certificate timestamp signs the certificate without itself (RFC 6962,
	// 3.2), so the certificate is made twice.
	pre, err := createCertificate(template, a.certs.issuer, key.Public(), a.issuer)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate: %w", err)
	}
	sct, err := a.certificateTimestamp(pre.RawTBSCertificate, now)
	if err != nil {
		return nil, nil, fmt.Errorf("sign certificate timestamp: %w", err)
	}
	template.ExtraExtensions = append(template.ExtraExtensions, sct)
	leaf, err := createCertificate(template, a.certs.issuer, key.Public(), a.issuer)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate: %w", err)
	}
	return key, leaf, nil
}

// certificateTimestamp returns the extension with the list of one signed
// certificate timestamp over a certificate's to-be-signed part (RFC 6962, 3.2
// and 3.3). It promises that the certificate is logged; Notary keeps that
// promise before it returns a bundle, since its log entries hold the
// certificate.
func (a *Authority) certificateTimestamp(tbs []byte, now time.Time) (pkix.Extension, error) {
	const (
		v1                  = 0
		certificateTime     = 0
		precertEntry        = 1
		sha256WithECDSA     = 0x0403
		noExtensions        = 0
		logIDAndFixedFields = 1 + sha256.Size + 8 + 2 + 2 + 2
	)
	ms := uint64(now.UnixMilli())

	signed := []byte{v1, certificateTime}
	signed = binary.BigEndian.AppendUint64(signed, ms)
	signed = binary.BigEndian.AppendUint16(signed, precertEntry)
	signed = append(signed, a.issuerKey[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(signed, tbs...)
	signed = binary.BigEndian.AppendUint16(signed, noExtensions)
	sum := sha256.Sum256(signed)
	sig, err := a.sct.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return pkix.Extension{}, err
	}

	size := uint16(logIDAndFixedFields + len(sig))
	list := binary.BigEndian.AppendUint16(nil, size+2)
	list = binary.BigEndian.AppendUint16(list, size)
	list = append(list, v1)
	list = append(list, a.sctLogID[:]...)
	list = binary.BigEndian.AppendUint64(list, ms)
	list = binary.BigEndian.AppendUint16(list, noExtensions)
	list = binary.BigEndian.AppendUint16(list, sha256WithECDSA)
	list = binary.BigEndian.AppendUint16(list, uint16(len(sig)))
	list = append(list, sig...)
	value, err := asn1.Marshal(list)
	if err != nil {
		return pkix.Extension{}, err
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value}, nil
}
