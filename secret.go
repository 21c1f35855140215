package sallyport

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
	"time"
)

const redacted = "[redacted]"

// Secret holds a value that must not be printed. Every way in which Go prints
// a value prints "[redacted]" instead; Reveal is the only way out, so that all
// uses can be found by one search.
type Secret struct{ value []byte }

// NewSecret copies v into a Secret.
func NewSecret(v []byte) Secret { return Secret{append([]byte(nil), v...)} }

// Reveal returns the value. The caller must not log, store or send it in clear.
func (s Secret) Reveal() []byte { return s.value }

// Empty reports whether there is no value.
func (s Secret) Empty() bool { return len(s.value) == 0 }

// Equal compares in constant time.
func (s Secret) Equal(v []byte) bool { return subtle.ConstantTimeCompare(s.value, v) == 1 }

func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// SecretEntry is what is known of a secret that is kept for jobs. Its value goes in and,
// for the face of nobody, comes out again: it is lent at the doors of rooms.
type SecretEntry struct {
	Project     ProjectID `json:"project"`
	Environment string    `json:"environment,omitempty"` // whose jobs alone may use it; "": all of the project
	Name        string    `json:"name"`
	// Version names this value. What is sealed opens only as this version of this secret.
	Version SecretVersion `json:"version"`
	// Account is whom the value logs in as, where rotation changes that too; rules that lend it
	// use it in place of their user.
	Account string    `json:"account,omitempty"`
	SetAt   time.Time `json:"set_at"`
	SetBy   string    `json:"set_by"`
}

// SecretVersion identifies one value of a secret.
type SecretVersion string

// Bounds of a secret's value. One below MinSecret can be guessed, and what is cut from logs and
// answers to hide it would also be cut by chance. MaxSecret is GitHub's bound.
const (
	MinSecret = 8
	MaxSecret = 48 << 10
)
