// Package redact masks secrets in a stream of bytes: every occurrence of a
// registered value, in clear or in one of the encodings that tools commonly print
// it in, becomes "***", wherever the stream happens to be split.
//
// It is a seat belt for logs, not a boundary: who may choose the form in which a
// secret is printed can always choose one that nobody knows. The boundary is that
// a job does not get a secret it need not hold.
//
// The runner feeds every log line through a Writer before it leaves the process.
// The package knows nothing of jobs or of the domain.
package redact

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
)

// Mask is what a masked run of bytes is replaced with.
const Mask = "***"

// Bounds of what can be registered. A value is registered whole or refused.
const (
	// MinValue is the least length of a value, in bytes without surrounding white
	// space. Shorter ones occur by chance in every log ("1", "on", "abc"): to mask
	// them would make logs unreadable and, by what is missing, reveal the value.
	MinValue = 4
	// MaxValue is more than any forge or vault allows for a secret (48 KiB to 64 KiB).
	MaxValue = 64 << 10
	// DefaultMaxValues and DefaultMaxBytes bound the memory that a job can
	// claim by add-mask; each byte of a value costs about 40 bytes of patterns.
	DefaultMaxValues = 4096
	DefaultMaxBytes  = 2 << 20
)

// Reasons why Add refuses a value.
var (
	ErrShort = fmt.Errorf("a value of fewer than %d bytes cannot be masked", MinValue)
	ErrLong  = fmt.Errorf("a value of more than %d bytes cannot be masked", MaxValue)
	ErrFull  = errors.New("too many values to mask")
)

// Config sets the bounds of a Set; zero means the default.
type Config struct {
	MaxValues int
	MaxBytes  int // of all values together
}

// Set is a growing set of secret values. All methods may be called from
// several goroutines and while Writers of the set are at work.
type Set struct {
	cfg Config

	mu     sync.Mutex
	values map[string]struct{}
	bytes  int
	forms  map[string]struct{}
	stale  atomic.Bool // forms were added since current was built

	current atomic.Pointer[matcher]
}

// New returns an empty set.
func New(cfg Config) *Set {
	if cfg.MaxValues == 0 {
		cfg.MaxValues = DefaultMaxValues
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	s := &Set{cfg: cfg, values: map[string]struct{}{}, forms: map[string]struct{}{}}
	s.current.Store(newMatcher(nil))
	return s
}

// Add registers a value: it and its encodings are masked in all that a Writer
// of this set has not released yet. It returns ErrShort, ErrLong or ErrFull
// when the value is refused, and nil when it is known already.
func (s *Set) Add(value string) error {
	v := strings.TrimSpace(value)
	switch {
	case len(v) < MinValue:
		return ErrShort
	case len(v) > MaxValue:
		return ErrLong
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.values[v]; known {
		return nil
	}
	if len(s.values) >= s.cfg.MaxValues || s.bytes+len(v) > s.cfg.MaxBytes {
		return ErrFull
	}
	s.values[v] = struct{}{}
	s.bytes += len(v)
	for f := range forms(v) {
		if len(f) >= MinValue && strings.Trim(f, "*") != "" {
			s.forms[f] = struct{}{}
		}
	}
	s.stale.Store(true)
	return nil
}

// matcher returns the matcher of all values added so far. It is built on
// first use after Add, so that a batch of additions costs one build.
func (s *Set) matcher() *matcher {
	if !s.stale.Load() {
		return s.current.Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale.Load() {
		s.current.Store(newMatcher(s.forms))
		s.stale.Store(false)
	}
	return s.current.Load()
}

// Contains reports whether text holds a registered value in any of its forms.
func (s *Set) Contains(text string) bool {
	start, _ := s.matcher().find([]byte(text), 0)
	return start >= 0
}

// Text returns text with every registered value masked.
func (s *Set) Text(text string) string {
	b := []byte(text)
	m := s.matcher()
	if start, _ := m.find(b, 0); start < 0 {
		return text
	}
	var r releaser
	return string(r.release(m, b, len(b), nil))
}
