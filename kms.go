package sallyport

import (
	"context"
	"crypto"
)

// KeyID names a key of the installation by its use.
type KeyID string

const (
	KeyCA     KeyID = "ca"     // root of signing certificates
	KeyIssuer KeyID = "issuer" // intermediate that issues them
	KeySCT    KeyID = "sct"    // signed certificate timestamps
	KeyTSA    KeyID = "tsa"    // RFC 3161 timestamps
	KeySigLog KeyID = "siglog" // checkpoints of the signature log
	KeyAudit  KeyID = "audit"  // checkpoints of the audit log
	KeySeal   KeyID = "seal"   // key-encryption key of blobs and logs
)

// TokenKey is the beginning of the ids of keys that sign ID tokens of jobs. They come and go,
// by AddSigner and RemoveSigner; what follows are at most 60 of a-z, 0-9 and '-'.
const TokenKey = "tokens-"

// KMS holds the installation's keys. Private keys never leave it. It lives in
// the control plane; nothing under yard/ can import an implementation.
type KMS interface {
	// Signer returns the signer of a key that Create or AddSigner made: ECDSA P-256 for
	// ca, issuer, sct and tsa; Ed25519 for siglog and audit. CodeNotFound else.
	Signer(ctx context.Context, id KeyID) (crypto.Signer, error)
	// Create makes the keys that are missing; it never replaces one.
	Create(ctx context.Context) error
	// AddSigner makes a key whose id begins with TokenKey, for RS256 (of 2048 bits) or ES256.
	// CodeConflict when there is one of the id.
	AddSigner(ctx context.Context, id KeyID, algorithm string) error
	// RemoveSigner destroys a key that AddSigner made; none is no error.
	RemoveSigner(ctx context.Context, id KeyID) error
	// Seal encrypts a small value (at most 64 KiB) under KeySeal; aad must be
	// given again to Open. CodeInvalid when the two do not match.
	Seal(ctx context.Context, plain, aad []byte) ([]byte, error)
	Open(ctx context.Context, sealed, aad []byte) ([]byte, error)
}
