// Package kms holds the installation's keys behind sallyport.KMS.
//
// File keeps them in a directory of the host: signing keys as PKCS#8, the
// sealing key as a Tink keyset, one file a key, readable by the service's user
// alone. The files are deliberately not encrypted: whatever could open them
// would have to lie beside them. The directory is therefore the secret, and
// whoever can read it, or is root on the control plane, holds every key.
//
// It is used by the daemon, which hands out signers; nothing under yard/ may
// import it.
package kms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"regexp"

	"github.com/sallyport-ci/sallyport"
)

// MaxPlain bounds what Seal takes: keys and small credentials. Content is
// sealed by its own data key.
const MaxPlain = 64 << 10

// kind is the algorithm of a signing key.
type kind int

const (
	ecdsaP256 kind = iota + 1
	ed25519Key
	rsa2048
)

// signingKeys lists the signing keys of an installation and their algorithms:
// RFC 6962 and Sigstore clients want ECDSA, witnesses of logs want Ed25519.
var signingKeys = [...]struct {
	id   sallyport.KeyID
	kind kind
}{
	{sallyport.KeyCA, ecdsaP256},
	{sallyport.KeyIssuer, ecdsaP256},
	{sallyport.KeySCT, ecdsaP256},
	{sallyport.KeyTSA, ecdsaP256},
	{sallyport.KeySigLog, ed25519Key},
	{sallyport.KeyAudit, ed25519Key},
}

func generate(k kind) (crypto.Signer, error) {
	switch k {
	case ecdsaP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case rsa2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case ed25519Key:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	default:
		return nil, fmt.Errorf("unknown kind of key %d", k)
	}
}

// fits reports whether the key is of the kind that its use demands.
func (k kind) fits(s crypto.Signer) bool {
	switch key := s.(type) {
	case *ecdsa.PrivateKey:
		return k == ecdsaP256 && key.Curve == elliptic.P256()
	case *rsa.PrivateKey:
		return k == rsa2048 && key.N.BitLen() == 2048
	case ed25519.PrivateKey:
		return k == ed25519Key
	default:
		return false
	}
}

var tokenKeyID = regexp.MustCompile(`^` + sallyport.TokenKey + `[a-z0-9-]{1,60}$`)

// tokenKind is the kind of a key for ID tokens.
func tokenKind(id sallyport.KeyID, algorithm string) (kind, error) {
	if !tokenKeyID.MatchString(string(id)) {
		return 0, sallyport.Errorf(sallyport.CodeInvalid, "%.60q is not the id of a key for ID tokens", string(id))
	}
	switch algorithm {
	case sallyport.RS256:
		return rsa2048, nil
	case sallyport.ES256:
		return ecdsaP256, nil
	}
	return 0, sallyport.Errorf(sallyport.CodeInvalid, "there are no keys for %.20q", algorithm)
}
