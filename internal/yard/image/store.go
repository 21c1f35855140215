package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Bounds of what a store keeps for the next jobs; what was used longest ago goes first. What
// is in use stays, whatever it takes.
const (
	maxKeptImages = 100
	maxKeptBytes  = 64 << 30 // four of the largest toolchain images
)

// Store keeps unpacked images by digest. Its methods may be called at the same time.
type Store struct {
	dir       string
	maxImages int
	maxBytes  int64

	mu    sync.Mutex
	busy  map[sallyport.Digest]chan struct{} // being unpacked; closed when done
	users map[string]int                     // of a directory
}

// Open readies a store in a directory that is the runner's own. What an earlier
// process left half unpacked is removed.
func Open(dir string) (*Store, error) {
	if !filepath.IsAbs(dir) {
		return nil, errors.New("image: an absolute directory is needed")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the image store: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "new-*"))
	if err != nil {
		return nil, err
	}
	for _, l := range left {
		if err := os.RemoveAll(l); err != nil {
			return nil, fmt.Errorf("clean the image store: %w", err)
		}
	}
	s := &Store{dir: dir, maxImages: maxKeptImages, maxBytes: maxKeptBytes, busy: map[sallyport.Digest]chan struct{}{}, users: map[string]int{}}
	s.evict()
	return s, nil
}

// Layers opens a layer of the image that is unpacked.
type Layers func(ctx context.Context, d sallyport.Digest) (io.ReadCloser, error)

// Root returns the directory of an image's root file system, which nobody may
// change, and unpacks it first if need be. It is there until release is called. CodeInvalid for
// a hostile or broken image.
func (s *Store) Root(ctx context.Context, i sallyport.Image, layers Layers) (root string, release func(), err error) {
	if _, err := sallyport.ParseDigest(string(i.Digest)); err != nil {
		return "", nil, err
	}
	dir := filepath.Join(s.dir, strings.TrimPrefix(string(i.Digest), "sha256:"))
	for {
		s.mu.Lock()
		if _, err := os.Lstat(dir); err == nil {
			root, release := s.use(dir)
			s.mu.Unlock()
			return root, release, nil
		}
		wait, busy := s.busy[i.Digest]
		if !busy {
			break
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		}
	}
	done := make(chan struct{})
	s.busy[i.Digest] = done
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.busy, i.Digest)
		close(done)
	}()
	if err := s.unpack(ctx, dir, i, layers); err != nil {
		return "", nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	root, release = s.use(dir)
	return root, release, nil
}

// use counts a use of a directory; s.mu is held.
func (s *Store) use(dir string) (root string, release func()) {
	s.users[dir]++
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // an image that seems older goes earlier, no more
	return filepath.Join(dir, "root"), sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users[dir]--; s.users[dir] == 0 {
			delete(s.users, dir)
		}
		s.evict()
	})
}

// evict makes room; s.mu is held, or nobody else has the store. What it cannot do now the next
// use tries again.
func (s *Store) evict() {
	type kept struct {
		dir  string
		used time.Time
		size int64
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	var all []kept
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || strings.HasPrefix(e.Name(), "new-") {
			continue
		}
		dir := filepath.Join(s.dir, e.Name())
		b, _ := os.ReadFile(filepath.Join(dir, sizeFile))
		size, err := strconv.ParseInt(string(b), 10, 64)
		if err != nil || size < 0 { // of an earlier version
			size = 1 << 30
		}
		all, total = append(all, kept{dir, info.ModTime(), size}), total+size
	}
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	n := len(all)
	for _, k := range all {
		if n <= s.maxImages && total <= s.maxBytes {
			return
		}
		if s.users[k.dir] > 0 {
			continue
		}
		// Its name goes at once: what is left of it is removed at the next start.
		gone := filepath.Join(s.dir, "new-gone-"+filepath.Base(k.dir))
		if os.Rename(k.dir, gone) != nil {
			continue
		}
		_ = os.RemoveAll(gone)
		n, total = n-1, total-k.size
	}
}

// sizeFile holds the bytes of an image, beside its root.
const sizeFile = "size"

func (s *Store) unpack(ctx context.Context, dir string, i sallyport.Image, layers Layers) (err error) {
	tmp, err := os.MkdirTemp(s.dir, "new-")
	if err != nil {
		return fmt.Errorf("unpack an image: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	top := filepath.Join(tmp, "root")
	if err := os.Mkdir(top, 0o755); err != nil {
		return fmt.Errorf("unpack an image: %w", err)
	}
	if err := os.Chmod(top, 0o755); err != nil {
		return fmt.Errorf("unpack an image: %w", err)
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return fmt.Errorf("unpack an image: %w", err)
	}
	defer root.Close()
	t := &tree{root: root, own: os.Geteuid() == 0}
	for _, l := range i.Layers {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		blob, err := layers(ctx, l.Digest)
		if err != nil {
			return err
		}
		err = t.lay(ctx, l, blob)
		if err = errors.Join(err, blob.Close()); err != nil {
			return fmt.Errorf("layer %s of %.200q: %w", l.Digest.Short(), i.Reference, err)
		}
	}
	if err := os.WriteFile(filepath.Join(tmp, sizeFile), strconv.AppendInt(nil, t.bytes, 10), 0o600); err != nil {
		return fmt.Errorf("unpack an image: %w", err)
	}
	return os.Rename(tmp, dir)
}
