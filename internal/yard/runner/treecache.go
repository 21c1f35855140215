package runner

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Bounds of the trees that a runner keeps unpacked for its next jobs. What is in
// use is never removed.
const (
	treesDir     = "trees" // in the work directory
	maxTrees     = 100
	maxKeptBytes = 4 << 30
)

// trees are unpacked actions, which the rooms of all jobs see read-only. They live as long
// as the runner's process: nothing of an earlier one is believed.
type trees struct {
	dir string

	mu    sync.Mutex
	known map[sallyport.Digest]*tree
	order []sallyport.Digest // used longest ago first
	bytes int64
}

// tree is one of them. size and err are set before ready is closed.
type tree struct {
	dir   string
	ready chan struct{}
	size  int64
	err   error
	users int // guarded by trees.mu
}

// get returns the directory of a tree, which is there until release is called.
// fill unpacks it when it is not there yet.
func (t *trees) get(ctx context.Context, digest sallyport.Digest, fill func(dir string) (size int64, err error)) (dir string, release func(), err error) {
	t.mu.Lock()
	x, ok := t.known[digest]
	if !ok {
		x = &tree{dir: filepath.Join(t.dir, digest.Hex()), ready: make(chan struct{})}
		if t.known == nil {
			t.known = map[sallyport.Digest]*tree{}
		}
		t.known[digest] = x
	}
	x.users++
	t.mu.Unlock()
	if !ok {
		t.fill(digest, x, fill)
	}
	select {
	case <-x.ready:
	case <-ctx.Done():
		t.leave(digest, x)
		return "", nil, context.Cause(ctx)
	}
	if x.err != nil {
		t.leave(digest, x)
		return "", nil, x.err
	}
	return x.dir, sync.OnceFunc(func() { t.leave(digest, x) }), nil
}

func (t *trees) fill(digest sallyport.Digest, x *tree, fill func(dir string) (int64, error)) {
	defer close(x.ready)
	if x.err = os.MkdirAll(t.dir, 0o700); x.err == nil {
		x.err = os.Mkdir(x.dir, 0o755)
	}
	if x.err == nil {
		if x.err = os.Chmod(x.dir, 0o755); x.err == nil { // the umask may have taken bits away
			x.size, x.err = fill(x.dir)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.err != nil { // the next job may have more luck
		delete(t.known, digest)
		_ = os.RemoveAll(x.dir) // swept at the next start otherwise
		return
	}
	t.bytes += x.size
	t.order = append(t.order, digest)
}

// leave ends a use of a tree, and makes room.
func (t *trees) leave(digest sallyport.Digest, x *tree) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.users--
	for i, d := range t.order {
		if d == digest {
			t.order = append(append(t.order[:i:i], t.order[i+1:]...), digest)
			break
		}
	}
	for i := 0; i < len(t.order) && (len(t.order) > maxTrees || t.bytes > maxKeptBytes); {
		old := t.known[t.order[i]]
		if old.users > 0 {
			i++
			continue
		}
		t.bytes -= old.size
		delete(t.known, t.order[i])
		t.order = append(t.order[:i:i], t.order[i+1:]...)
		_ = os.RemoveAll(old.dir) // likewise
	}
}
