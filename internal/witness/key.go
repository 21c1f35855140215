package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// MakeKey makes the key of a witness: signer is to be kept secret.
func MakeKey(name string) (signer string, err error) {
	signer, _, err = note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", fmt.Errorf("make the key of a witness: %w", err)
	}
	_, err = VerifierKey(signer)
	return signer, err
}

// VerifierKey returns what others need to check the cosignatures of a key
// (C2SP signed-note, type 4).
func VerifierKey(signer string) (string, error) {
	s, err := fnote.NewSignerForCosignatureV1(signer)
	if err != nil {
		return "", fmt.Errorf("signer key of a witness: %w", err)
	}
	parts := strings.SplitN(signer, "+", 5) // PRIVATE+KEY+name+hash+key
	v, err := note.NewSigner(signer)
	if err != nil {
		return "", fmt.Errorf("signer key of a witness: %w", err)
	}
	pub, err := publicOf(parts[4])
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s+%08x+%s", v.Name(), s.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{4}, pub...))), nil
}

func publicOf(encoded string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return nil, errors.New("the key of a witness is an Ed25519 key")
	}
	return ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey), nil
}
