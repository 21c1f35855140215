package advisory

import (
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"
)

// lookEvery is how often a Store looks whether its dump changed: often enough to be of use in
// an outbreak, seldom enough to cost nothing.
const lookEvery = 30 * time.Second

// Store keeps the Index of a directory that changes now and then. Its methods may be
// called by many at once.
type Store struct {
	dir fs.FS
	now func() time.Time
	log *slog.Logger

	mu      sync.Mutex
	index   *Index
	state   string
	looked  time.Time
	reading bool
}

// Open reads the dump in dir. It fails when the dump cannot be read whole.
func Open(dir fs.FS, now func() time.Time, log *slog.Logger) (*Store, error) {
	if dir == nil || now == nil || log == nil {
		return nil, errors.New("advisory: a directory, a clock and a logger are needed")
	}
	s := &Store{dir: dir, now: now, log: log, looked: now()}
	var err error
	if s.state, err = state(dir); err != nil {
		return nil, err
	}
	if s.index, err = Read(dir); err != nil {
		return nil, err
	}
	return s, nil
}

// Index returns the newest Index that could be read. When the files changed it is read
// anew beside, and the one that was good stays until that is done: a dump which is being written is no reason
// to know nothing. A nil Store has a nil Index.
func (s *Store) Index() *Index {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); !s.reading && now.Sub(s.looked) >= lookEvery {
		s.looked, s.reading = now, true
		go s.Reload()
	}
	return s.index
}

// Reload reads the dump if its files changed. Index calls it; who cannot wait for that may, too.
func (s *Store) Reload() {
	index, next, err := (*Index)(nil), "", error(nil)
	if next, err = state(s.dir); err == nil {
		s.mu.Lock()
		same := next == s.state
		s.mu.Unlock()
		if !same {
			index, err = Read(s.dir)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = false
	switch {
	case err != nil:
		s.log.Warn("advisories could not be read again; the earlier ones stay in use", "err", err)
	case index != nil:
		s.index, s.state = index, next
		s.log.Info("advisories were read again", "malicious", index.Len())
	}
}
