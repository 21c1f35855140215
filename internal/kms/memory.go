package kms

import (
	"context"
	"crypto"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sallyport-ci/sallyport"
)

// Memory seals under a key that ends with the process, and signs nothing: for
// runs on a laptop, which keep nothing and vouch for nothing.
type Memory struct{ seal tink.AEAD }

var _ sallyport.KMS = (*Memory)(nil)

// NewMemory makes the key.
func NewMemory() (*Memory, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make sealing key: %w", err)
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("use sealing key: %w", err)
	}
	return &Memory{a}, nil
}

// Signer answers CodeNotFound: there are no signing keys.
func (m *Memory) Signer(_ context.Context, id sallyport.KeyID) (crypto.Signer, error) {
	return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no key %s here", id)
}

// Create does nothing: the one key is there.
func (m *Memory) Create(context.Context) error { return nil }

// AddSigner refuses: it signs nothing.
func (m *Memory) AddSigner(_ context.Context, id sallyport.KeyID, _ string) error {
	return sallyport.Errorf(sallyport.CodeUnavailable, "there can be no key %s here", id)
}

// RemoveSigner does nothing.
func (m *Memory) RemoveSigner(context.Context, sallyport.KeyID) error { return nil }

// Seal encrypts a small value.
func (m *Memory) Seal(_ context.Context, plain, aad []byte) ([]byte, error) {
	return m.seal.Encrypt(plain, aad)
}

// Open decrypts it; CodeInvalid when aad is not the same.
func (m *Memory) Open(_ context.Context, sealed, aad []byte) ([]byte, error) {
	plain, err := m.seal.Decrypt(sealed, aad)
	if err != nil {
		return nil, &sallyport.Error{Code: sallyport.CodeInvalid, Message: "the sealed value does not open", Err: err}
	}
	return plain, nil
}
