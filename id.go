package sallyport

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// Ids are UUIDs of version 7 (RFC 9562, 5.7) as text: they sort by time of
// creation on every database. Each noun has its own type, so that one cannot
// be handed in where another is meant.
type (
	ProjectID    string
	PushID       string
	RunID        string
	JobID        string
	ArtifactID   string
	StatementID  string
	VerdictID    string
	ReleaseID    string
	DeploymentID string
	WorkID       string
	RunnerID     string
	TokenID      string
	CacheID      string
	RequestID    string
	GrantID      string
	StopID       string
)

// NewID returns a new id whose time part is now. The twelve bits after the
// milliseconds hold their fraction (RFC 9562, 6.2, method 3), so that ids of
// times a microsecond apart are in order.
func NewID[T ~string](now time.Time) T {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails (Go 1.24)
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	fraction := now.Nanosecond() % 1e6 << 12 / 1e6
	b[6], b[7] = 0x70|byte(fraction>>8), byte(fraction)
	b[8] = b[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], b[0:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:36], b[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return T(out[:])
}
