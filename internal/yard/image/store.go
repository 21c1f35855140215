package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Store keeps unpacked images by digest. Its methods may be called at the same time.
type Store struct {
	dir string

	mu   sync.Mutex
	busy map[sallyport.Digest]chan struct{} // being unpacked; closed when done
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
	return &Store{dir: dir, busy: map[sallyport.Digest]chan struct{}{}}, nil
}

// Layers opens a layer of the image that is unpacked.
type Layers func(ctx context.Context, d sallyport.Digest) (io.ReadCloser, error)

// Root returns the directory of an image's root file system, which nobody may
// change, and unpacks it first if need be. CodeInvalid for a hostile or broken image.
func (s *Store) Root(ctx context.Context, i sallyport.Image, layers Layers) (string, error) {
	if _, err := sallyport.ParseDigest(string(i.Digest)); err != nil {
		return "", err
	}
	dir := filepath.Join(s.dir, strings.TrimPrefix(string(i.Digest), "sha256:"))
	for {
		s.mu.Lock()
		if _, err := os.Lstat(dir); err == nil {
			s.mu.Unlock()
			return filepath.Join(dir, "root"), nil
		}
		wait, busy := s.busy[i.Digest]
		if !busy {
			break
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return "", context.Cause(ctx)
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
		return "", err
	}
	return filepath.Join(dir, "root"), nil
}

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
	return os.Rename(tmp, dir)
}
