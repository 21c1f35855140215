package kms_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestTokenKeys makes keys that come and go, and tries to make and remove others that way.
func TestTokenKeys(t *testing.T) {
	t.Parallel()
	f, dir := created(t)
	for id, algorithm := range map[sallyport.KeyID]string{"tokens-01a22481-f9f0-777c-bab2-e9d1562ebccc-rs256": sallyport.RS256, "tokens-1-es256": sallyport.ES256} {
		if err := f.AddSigner(t.Context(), id, algorithm); err != nil {
			t.Fatal(err)
		}
		if err := f.AddSigner(t.Context(), id, algorithm); sallyport.ErrorCode(err) != sallyport.CodeConflict {
			t.Errorf("again: %v", err)
		}
		s, err := open(t, dir).Signer(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		switch key := s.Public().(type) {
		case *rsa.PublicKey:
			if algorithm != sallyport.RS256 || key.N.BitLen() != 2048 {
				t.Errorf("%s: RSA of %d bits", id, key.N.BitLen())
			}
		case *ecdsa.PublicKey:
			if algorithm != sallyport.ES256 {
				t.Errorf("%s: ECDSA", id)
			}
		}
		info, err := os.Stat(filepath.Join(dir, string(id)+".pem"))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		for range 2 {
			if err := f.RemoveSigner(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		if _, err := f.Signer(t.Context(), id); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			t.Errorf("after its removal: %v", err)
		}
	}
	for _, id := range []sallyport.KeyID{"ca", "tokens-", "tokens-../ca", "tokens-A", "tokens-a/b", "tokens-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "seal", ""} {
		if err := f.AddSigner(t.Context(), id, sallyport.RS256); err == nil {
			t.Errorf("made %q", id)
		}
		if err := f.RemoveSigner(t.Context(), id); err == nil {
			t.Errorf("removed %q", id)
		}
	}
	if err := f.AddSigner(t.Context(), "tokens-2", "HS256"); err == nil {
		t.Error("made a key for HS256")
	}
	if _, err := f.Signer(t.Context(), sallyport.KeyCA); err != nil {
		t.Error(err)
	}
}
