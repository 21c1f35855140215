// Package issuer signs ID tokens of jobs: JSON Web Tokens (RFC 7519) by RS256 or ES256, with
// keys that never leave a sallyport.KMS. Which key signs when is for sallyport.IssuerKeys to
// say, and what a token claims for the engine, which calls it.
package issuer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport-ci/sallyport"
)

// Issuer is safe for use by several goroutines.
type Issuer struct{ kms sallyport.KMS }

// New makes an issuer whose keys are in kms.
func New(kms sallyport.KMS) *Issuer { return &Issuer{kms} }

// Make makes a key, and returns its thumbprint.
func (i *Issuer) Make(ctx context.Context, id sallyport.KeyID, algorithm string) (kid string, err error) {
	if err := i.kms.AddSigner(ctx, id, algorithm); err != nil {
		return "", fmt.Errorf("make a key of ID tokens: %w", err)
	}
	k, err := i.key(ctx, sallyport.IssuerKey{ID: id, Algorithm: algorithm})
	if err != nil {
		return "", err
	}
	return thumbprint(k.signer.Public())
}

// Drop destroys a key.
func (i *Issuer) Drop(ctx context.Context, id sallyport.KeyID) error {
	return i.kms.RemoveSigner(ctx, id)
}

// Sign returns the token with these claims, a JSON object.
func (i *Issuer) Sign(ctx context.Context, key sallyport.IssuerKey, claims []byte) (string, error) {
	if c := bytes.TrimSpace(claims); !json.Valid(c) || c[0] != '{' {
		return "", errors.New("sign an ID token: the claims are no JSON object")
	}
	k, err := i.key(ctx, key)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.algorithm, Key: k}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("sign an ID token: %w", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("sign an ID token: %w", err)
	}
	return signed.CompactSerialize()
}

// KeySet returns the JSON Web Key Set (RFC 7517) of the keys' public halves.
func (i *Issuer) KeySet(ctx context.Context, keys sallyport.IssuerKeys) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, key := range keys {
		k, err := i.key(ctx, key)
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, *k.Public())
	}
	return json.Marshal(set)
}

func (i *Issuer) key(ctx context.Context, key sallyport.IssuerKey) (held, error) {
	signer, err := i.kms.Signer(ctx, key.ID)
	if err != nil {
		return held{}, fmt.Errorf("use a key of ID tokens: %w", err)
	}
	h := held{signer: signer, algorithm: jose.SignatureAlgorithm(key.Algorithm), kid: key.Kid}
	switch signer.Public().(type) {
	case *rsa.PublicKey:
		err = h.must(jose.RS256)
	case *ecdsa.PublicKey:
		err = h.must(jose.ES256)
	default:
		err = fmt.Errorf("a %T signs no ID tokens", signer.Public())
	}
	return h, err
}

// held is a key that is elsewhere, as jose uses one.
type held struct {
	signer    crypto.Signer
	algorithm jose.SignatureAlgorithm
	kid       string
}

var _ jose.OpaqueSigner = held{}

func (h held) must(want jose.SignatureAlgorithm) error {
	if h.algorithm != want {
		return fmt.Errorf("a key for %s is said to be for %q", want, h.algorithm)
	}
	return nil
}

// Public returns the public half, as it stands in the key set.
func (h held) Public() *jose.JSONWebKey {
	return &jose.JSONWebKey{Key: h.signer.Public(), KeyID: h.kid, Algorithm: string(h.algorithm), Use: "sig"}
}

// Algs returns the one algorithm of the key.
func (h held) Algs() []jose.SignatureAlgorithm { return []jose.SignatureAlgorithm{h.algorithm} }

// SignPayload signs as RFC 7518, sections 3.3 and 3.4 say.
func (h held) SignPayload(payload []byte, algorithm jose.SignatureAlgorithm) ([]byte, error) {
	if err := h.must(algorithm); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(payload)
	sig, err := h.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil || algorithm == jose.RS256 {
		return sig, err
	}
	var pair struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(sig, &pair); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the key made no ECDSA signature: %w", err)
	}
	return append(pair.R.FillBytes(make([]byte, 32)), pair.S.FillBytes(make([]byte, 32))...), nil // both in full length
}

func thumbprint(public crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}
