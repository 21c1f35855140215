package sallyport

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// A credential is a prefix that names its kind, 32 random bytes and the CRC-32
// of all before it, both in base32 without padding. A scanner finds an API token by
//
//	sp_[a-z2-7]{59}
//
// and can tell by the last seven characters that it is one, without asking anybody.

var credentialCode = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const (
	credentialRandom = 52 // characters for 32 bytes
	credentialCheck  = 7  // for 4
)

// NewCredential returns a new random value of a kind.
func NewCredential(prefix string) string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	value := prefix + credentialCode.EncodeToString(b)
	return value + checkOf(value)
}

// ValidCredential reports whether a value was made by NewCredential with the
// prefix, up to chance; it says nothing about whether anybody knows it.
func ValidCredential(prefix, value string) bool {
	n := len(value) - credentialCheck
	return n == len(prefix)+credentialRandom && strings.HasPrefix(value, prefix) && checkOf(value[:n]) == value[n:]
}

func checkOf(s string) string {
	return credentialCode.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(s))))
}
