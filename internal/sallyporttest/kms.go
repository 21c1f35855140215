package sallyporttest

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"sync"

	"github.com/sallyport-ci/sallyport"
)

// KMS is a sallyport.KMS whose keys live in memory and end with the test.
type KMS struct {
	mu   sync.Mutex
	aead cipher.AEAD
	keys map[sallyport.KeyID]crypto.Signer
}

var _ sallyport.KMS = (*KMS)(nil)

// NewKMS returns a key service that can seal; its signers are missing until Create.
func NewKMS() *KMS {
	key := make([]byte, 32)
	_, _ = rand.Read(key)           // never fails
	block, _ := aes.NewCipher(key)  // the size is right
	aead, _ := cipher.NewGCM(block) // so is the block's
	return &KMS{aead: aead, keys: make(map[sallyport.KeyID]crypto.Signer)}
}

// Create makes the missing signing keys.
func (k *KMS) Create(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range []sallyport.KeyID{sallyport.KeyCA, sallyport.KeyIssuer, sallyport.KeySCT, sallyport.KeyTSA, sallyport.KeySigLog, sallyport.KeyAudit} {
		if k.keys[id] != nil {
			continue
		}
		if id == sallyport.KeySigLog || id == sallyport.KeyAudit {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return err
			}
			k.keys[id] = key
			continue
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		k.keys[id] = key
	}
	return nil
}

// Signer returns a key that Create made.
func (k *KMS) Signer(_ context.Context, id sallyport.KeyID) (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.keys[id]; key != nil {
		return key, nil
	}
	return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no key %s", id)
}

// AddSigner makes a key for RS256 or ES256.
func (k *KMS) AddSigner(_ context.Context, id sallyport.KeyID, algorithm string) error {
	if n := len(id) - len(sallyport.TokenKey); n < 1 || n > 60 {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not the id of a key for ID tokens", string(id))
	}
	var key crypto.Signer
	var err error
	if algorithm == sallyport.RS256 {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[id] != nil {
		return sallyport.Errorf(sallyport.CodeConflict, "key %s exists", id)
	}
	k.keys[id] = key
	return err
}

// RemoveSigner forgets the key.
func (k *KMS) RemoveSigner(_ context.Context, id sallyport.KeyID) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, id)
	return nil
}

// Seal encrypts under a random nonce, which goes before the ciphertext.
func (k *KMS) Seal(_ context.Context, plain, aad []byte) ([]byte, error) {
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return k.aead.Seal(nonce, nonce, plain, aad), nil
}

// Open answers CodeInvalid when sealed or aad is not as it was.
func (k *KMS) Open(_ context.Context, sealed, aad []byte) ([]byte, error) {
	n := k.aead.NonceSize()
	if len(sealed) < n {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the sealed value is too short")
	}
	plain, err := k.aead.Open(nil, sealed[:n], sealed[n:], aad)
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the sealed value does not open")
	}
	return plain, nil
}
