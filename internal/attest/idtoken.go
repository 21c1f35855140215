package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// TokenIssuer signs ID tokens of jobs: JSON Web Tokens (RFC 7519) by ES256, the one
// algorithm it knows. What they claim is for the caller to decide.
type TokenIssuer struct {
	signer crypto.Signer
	header string // encoded
	keys   []byte
}

// NewTokenIssuer takes an ECDSA P-256 key.
func NewTokenIssuer(signer crypto.Signer) (*TokenIssuer, error) {
	key, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("ID tokens are signed by an ECDSA P-256 key")
	}
	point, err := key.Bytes() // 4, x, y
	if err != nil {
		return nil, fmt.Errorf("key of ID tokens: %w", err)
	}
	x, y := encodePart(point[1:33]), encodePart(point[33:])
	// The key's id is its thumbprint (RFC 7638).
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	id := encodePart(sum[:])
	t := &TokenIssuer{signer: signer}
	if t.keys, err = json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "kid": id},
	}}); err != nil {
		return nil, err
	}
	header, err := json.Marshal(map[string]string{"typ": "JWT", "alg": "ES256", "kid": id})
	t.header = encodePart(header)
	return t, err
}

func encodePart(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Sign returns the token with these claims, a JSON object.
func (t *TokenIssuer) Sign(claims []byte) (string, error) {
	signed := t.header + "." + encodePart(claims)
	sum := sha256.Sum256([]byte(signed))
	der, err := t.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("sign an ID token: %w", err)
	}
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("sign an ID token: the key made no ECDSA signature: %w", err)
	}
	// RFC 7518, section 3.4: both numbers in full length.
	return signed + "." + encodePart(append(sig.R.FillBytes(make([]byte, 32)), sig.S.FillBytes(make([]byte, 32))...)), nil
}

// KeySet returns the JSON Web Key Set that the tokens verify with.
func (t *TokenIssuer) KeySet() []byte { return t.keys }
