package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

func TestTokenIssuer(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := NewTokenIssuer(key)
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []struct{ Kty, Crv, X, Y, Alg, Kid string }
	}
	if err := json.Unmarshal(issuer.KeySet(), &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("key set %s, %v", issuer.KeySet(), err)
	}
	jwk := set.Keys[0]
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// The key as a stranger reads it from the set.
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, append(decode(jwk.X), decode(jwk.Y)...)...))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // a short number must be filled up
		token, err := issuer.Sign([]byte(`{"sub":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(token, ".")
		if len(parts) != 3 || string(decode(parts[1])) != `{"sub":"x"}` {
			t.Fatalf("token %s", token)
		}
		var header struct{ Alg, Kid, Typ string }
		if err := json.Unmarshal(decode(parts[0]), &header); err != nil || header.Alg != "ES256" || header.Kid != jwk.Kid || header.Typ != "JWT" {
			t.Errorf("header %+v, %v", header, err)
		}
		sig := decode(parts[2])
		if len(sig) != 64 {
			t.Fatalf("a signature of %d bytes", len(sig))
		}
		sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
			t.Error("the signature does not verify")
		}
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewTokenIssuer(other); err == nil {
		t.Error("another kind of key was taken")
	}
}
