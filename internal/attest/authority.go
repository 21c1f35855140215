package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// leafLife is how long a signing certificate is valid: time enough to sign one
	// statement, too little to be worth stealing.
	leafLife = 10 * time.Minute
	// backdate allows for clocks of verifiers and databases that run behind ours.
	backdate = 5 * time.Second
	// authorityLife is that of the certificates which sign others. A bundle is
	// verified at the time of its timestamp, so old bundles outlive it.
	authorityLife = 20 * 365 * 24 * time.Hour
	// pemCertificate is the type of every block of AuthorityConfig.Certificates.
	pemCertificate = "CERTIFICATE"
)

// Authority issues what makes a signature checkable by strangers: certificates
// with certificate timestamps, and timestamps of signatures. It is safe for
// use by several goroutines.
//
// All its keys lie in one KMS, hence in one domain of trust: they protect
// statements from tenants, database administrators and the network, not from
// whoever controls the control plane. Only witnesses elsewhere could.
type Authority struct {
	instance  Instance
	certs     certificates
	issuer    crypto.Signer
	sct       crypto.Signer
	sctLogID  [sha256.Size]byte
	tsa       crypto.Signer
	issuerKey [sha256.Size]byte // hash of the issuer's public key, for certificate timestamps
}

// certificates are the long-lived ones, in the order in which they are kept.
type certificates struct {
	root, issuer, tsaRoot, tsa *x509.Certificate
}

// AuthorityConfig opens an Authority.
type AuthorityConfig struct {
	KMS      sallyport.KMS // with its keys created
	Instance Instance
	// Certificates is what Authority.Certificates returned when the installation
	// was made; nil makes new ones, which the caller must keep.
	Certificates []byte
	Now          time.Time // used for new certificates only
}

// NewAuthority opens the authority. It refuses certificates that do not belong
// to the KMS's keys or to the instance (CodeConflict): signatures under them
// would not verify, or would verify under another name.
func NewAuthority(ctx context.Context, cfg AuthorityConfig) (*Authority, error) {
	if _, err := ParseInstance(string(cfg.Instance)); err != nil {
		return nil, err
	}
	keys := map[sallyport.KeyID]crypto.Signer{}
	for _, id := range []sallyport.KeyID{sallyport.KeyCA, sallyport.KeyIssuer, sallyport.KeySCT, sallyport.KeyTSA} {
		s, err := cfg.KMS.Signer(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("open authority: %w", err)
		}
		if pub, ok := s.Public().(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P256() {
			return nil, fmt.Errorf("open authority: key %s is not ECDSA P-256", id)
		}
		keys[id] = s
	}
	var certs certificates
	var err error
	if cfg.Certificates == nil {
		certs, err = newCertificates(cfg.Instance, keys, cfg.Now)
	} else {
		certs, err = parseCertificates(cfg.Certificates)
	}
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	if err := certs.belong(cfg.Instance, keys); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(keys[sallyport.KeySCT].Public())
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	return &Authority{
		instance:  cfg.Instance,
		certs:     certs,
		issuer:    keys[sallyport.KeyIssuer],
		sct:       keys[sallyport.KeySCT],
		sctLogID:  sha256.Sum256(spki),
		tsa:       keys[sallyport.KeyTSA],
		issuerKey: sha256.Sum256(certs.issuer.RawSubjectPublicKeyInfo),
	}, nil
}

// Instance returns the name under which the authority signs.
func (a *Authority) Instance() Instance { return a.instance }

// Certificates returns the authority's certificates as PEM, to be kept and given
// to the next NewAuthority. They are public.
func (a *Authority) Certificates() []byte {
	var buf bytes.Buffer
	for _, c := range a.certs.list() {
		_ = pem.Encode(&buf, &pem.Block{Type: pemCertificate, Bytes: c.Raw}) // a Buffer does not fail
	}
	return buf.Bytes()
}

func (c certificates) list() []*x509.Certificate {
	return []*x509.Certificate{c.root, c.issuer, c.tsaRoot, c.tsa}
}

func parseCertificates(b []byte) (certificates, error) {
	var list []*x509.Certificate
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return certificates{}, fmt.Errorf("parse certificate %d: %w", len(list)+1, err)
		}
		list, b = append(list, cert), rest
	}
	if len(list) != 4 || len(bytes.TrimSpace(b)) != 0 {
		return certificates{}, errors.New("the file of certificates is damaged: it must hold four")
	}
	return certificates{root: list[0], issuer: list[1], tsaRoot: list[2], tsa: list[3]}, nil
}

// belong checks that the certificates are of these keys, of this instance, and
// of each other.
func (c certificates) belong(instance Instance, keys map[sallyport.KeyID]crypto.Signer) error {
	for id, cert := range map[sallyport.KeyID]*x509.Certificate{
		sallyport.KeyCA: c.root, sallyport.KeyIssuer: c.issuer, sallyport.KeyTSA: c.tsa,
	} {
		if !keys[id].Public().(*ecdsa.PublicKey).Equal(cert.PublicKey) {
			return sallyport.Errorf(sallyport.CodeConflict, "the certificate of key %s belongs to another key", id).
				WithHint("restore the key directory and the certificates from one backup")
		}
	}
	for _, cert := range c.list() {
		if names := cert.Subject.Organization; len(names) != 1 || names[0] != string(instance) {
			return sallyport.Errorf(sallyport.CodeConflict, "the certificates were made for %q, not for %q", names, instance).
				WithHint("start with the host name of the installation, or make a new installation for the new name")
		}
	}
	for _, link := range [...]struct{ cert, parent *x509.Certificate }{
		{c.root, c.root}, {c.issuer, c.root}, {c.tsaRoot, c.tsaRoot}, {c.tsa, c.tsaRoot},
	} {
		if err := link.cert.CheckSignatureFrom(link.parent); err != nil {
			return sallyport.Errorf(sallyport.CodeConflict, "the certificate %q was not signed by %q", link.cert.Subject, link.parent.Subject).
				WithHint("restore the key directory and the certificates from one backup")
		}
	}
	return nil
}

// newCertificates makes the root, the issuer that it signs, and the timestamp
// certificate. The latter has a root of its own, whose private key is
// forgotten once it has signed that one certificate.
func newCertificates(instance Instance, keys map[sallyport.KeyID]crypto.Signer, now time.Time) (certificates, error) {
	if now.IsZero() {
		return certificates{}, errors.New("AuthorityConfig.Now is zero")
	}
	tsaRootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificates{}, err
	}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber:          serial(),
			Subject:               pkix.Name{Organization: []string{string(instance)}, CommonName: name},
			NotBefore:             now.Add(-backdate).Truncate(time.Second),
			NotAfter:              now.Add(authorityLife).Truncate(time.Second),
			BasicConstraintsValid: true,
		}
	}
	ca := func(name string, usages ...x509.ExtKeyUsage) *x509.Certificate {
		t := template(name)
		t.IsCA = true
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		t.ExtKeyUsage = usages
		return t
	}
	issuerTemplate := ca("sallyport issuer", x509.ExtKeyUsageCodeSigning)
	issuerTemplate.MaxPathLenZero = true
	tsaTemplate := template("sallyport timestamps")
	tsaTemplate.KeyUsage = x509.KeyUsageDigitalSignature
	tsaTemplate.ExtraExtensions = []pkix.Extension{criticalTimestamping}

	var c certificates
	sign := func(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
		if err != nil {
			return nil
		}
		if parent == nil {
			parent = t
		}
		var cert *x509.Certificate
		cert, err = createCertificate(t, parent, pub, key)
		return cert
	}
	caKey := keys[sallyport.KeyCA]
	c.root = sign(ca("sallyport root"), nil, caKey.Public(), caKey)
	c.issuer = sign(issuerTemplate, c.root, keys[sallyport.KeyIssuer].Public(), caKey)
	c.tsaRoot = sign(ca("sallyport timestamp root"), nil, tsaRootKey.Public(), tsaRootKey)
	c.tsa = sign(tsaTemplate, c.tsaRoot, keys[sallyport.KeyTSA].Public(), tsaRootKey)
	return c, err
}

// criticalTimestamping is the extended key usage of a timestamp certificate:
// RFC 3161 section 2.3 wants it alone and critical, which crypto/x509 does not
// write by itself.
var criticalTimestamping = pkix.Extension{
	Id:       asn1.ObjectIdentifier{2, 5, 29, 37},
	Critical: true,
	Value:    []byte{0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08}, // SEQUENCE { id-kp-timeStamping }
}

func createCertificate(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serial returns a random positive serial number of 127 bits.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}
