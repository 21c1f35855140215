package tlog

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

const hashSize = sha256.Size

// algEd25519 is the algorithm byte of an Ed25519 key in a signed note (C2SP
// signed-note).
const algEd25519 = 1

// noteSigner signs checkpoints with a key that it cannot read.
type noteSigner struct {
	name   string
	hash   uint32
	key    crypto.Signer
	public ed25519.PublicKey
}

var _ note.Signer = (*noteSigner)(nil)

func newNoteSigner(name string, key crypto.Signer) (*noteSigner, error) {
	if key == nil {
		return nil, errors.New("no signer")
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("checkpoints are signed with Ed25519, not with a %T", key.Public())
	}
	return &noteSigner{name: name, hash: keyHash(name, pub), key: key, public: pub}, nil
}

func (s *noteSigner) Name() string    { return s.name }
func (s *noteSigner) KeyHash() uint32 { return s.hash }

func (s *noteSigner) Sign(msg []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, msg, crypto.Hash(0))
}

// keyHash is the hint by which a signature line names its key: the first four
// bytes of SHA-256(name, newline, algorithm, key).
func keyHash(name string, pub ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', algEd25519})
	h.Write(pub)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

func newNoteVerifier(name string, pub ed25519.PublicKey) (note.Verifier, error) {
	if len(pub) != ed25519.PublicKeySize {
		return nil, errors.New("not an Ed25519 public key")
	}
	vkey, err := note.NewEd25519VerifierKey(name, pub)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(vkey)
}
