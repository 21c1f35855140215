package witness

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// seen is the largest tree that was cosigned in a log.
type seen struct {
	known bool // false: none yet
	size  uint64
	root  []byte
}

// state keeps one small file a log: origin, size and root, a line each.
type state struct {
	root *os.Root
	lock *os.File
}

const maxStateFile = 4 << 10

func openState(dir string) (*state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	lock, err := root.OpenFile("lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another witness uses %s: %w", dir, err), lock.Close(), root.Close())
	}
	return &state{root, lock}, nil
}

func (s *state) close() error { return errors.Join(s.lock.Close(), s.root.Close()) }

// file is named by a hash: origins are foreign text.
func (s *state) file(origin string) string {
	return fmt.Sprintf("%x.seen", sha256.Sum256([]byte(origin)))
}

func (s *state) load(origin string) (seen, error) {
	f, err := s.root.Open(s.file(origin))
	if errors.Is(err, fs.ErrNotExist) {
		return seen{}, nil
	}
	if err != nil {
		return seen{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateFile))
	if err != nil {
		return seen{}, err
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) != 4 || lines[0] != origin || lines[3] != "" {
		return seen{}, fmt.Errorf("%s is broken: restore it from a backup that is not older", s.file(origin))
	}
	size, ok := decimal(lines[1])
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if !ok || err != nil || len(root) != hashSize {
		return seen{}, fmt.Errorf("%s is broken: restore it from a backup that is not older", s.file(origin))
	}
	return seen{known: true, size: size, root: root}, nil
}

// save returns when the file and its name are on the disk.
func (s *state) save(origin string, v seen) error {
	name := s.file(origin)
	f, err := s.root.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s\n%d\n%s\n", origin, v.size, base64.StdEncoding.EncodeToString(v.root))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := s.root.Rename(name+".new", name); err != nil {
		return err
	}
	dir, err := s.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
