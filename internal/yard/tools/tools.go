// Package tools keeps the toolchains that an operator gives to a runner beside
// those of its host, laid out as actions/tool-cache does (NAME/VERSION/ARCH beside
// ARCH.complete), each pinned by the digest of its files in a lock.
//
// It fetches nothing and knows no publisher: which file is the right one is what the
// operator's digest says. The cli adds to it; the runner lists, verifies and shows
// it to rooms, which cannot write it.
package tools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	lockName = "tools.lock"
	// maxLock and maxTools bound the lock, which the runner reads at each use.
	maxLock  = 1 << 20
	maxTools = 500
)

// Tool is one version of a toolchain.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"` // three numbers, perhaps with a suffix
	Arch    string `json:"arch"`
	// Archive is the digest of the file that it was added from; "" for a directory.
	Archive sallyport.Digest `json:"archive,omitempty"`
	Tree    sallyport.Digest `json:"tree"` // of its files, as Digest says
	Files   int              `json:"files"`
	Bytes   int64            `json:"bytes"`
	AddedAt time.Time        `json:"added_at"`
}

// Dir is the tool's directory in the cache.
func (t Tool) Dir() string { return path.Join(t.Name, t.Version, t.Arch) }

func (t Tool) same(o Tool) bool {
	return t.Name == o.Name && t.Version == o.Version && t.Arch == o.Arch
}

// Cache is a directory of tools. The zero Cache is empty.
type Cache struct {
	dir string

	mu       sync.Mutex
	verified map[Tool]error
}

// Open returns the cache in a directory, which need not be there yet.
func Open(dir string) *Cache { return &Cache{dir: dir, verified: map[Tool]error{}} }

// Path is where the cache lies on this host.
func (c *Cache) Path() string { return c.dir }

// Arch is how tool caches call this architecture.
func Arch() string {
	return map[string]string{"amd64": "x64", "arm64": "arm64", "386": "x86", "arm": "arm"}[runtime.GOARCH]
}

// lock is what is written down of the cache.
type lock struct {
	Version int    `json:"version"`
	Tools   []Tool `json:"tools"`
}

// List returns the tools by name, version and architecture; none when there is no cache.
func (c *Cache) List() ([]Tool, error) {
	if c.dir == "" {
		return nil, nil
	}
	f, err := os.Open(filepath.Join(c.dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the lock of the tool cache: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var l lock
	if info.Size() > maxLock {
		err = fmt.Errorf("it has more than %d bytes", maxLock)
	} else {
		err = json.NewDecoder(f).Decode(&l)
	}
	if err == nil && l.Version != 1 {
		err = fmt.Errorf("it is of version %d", l.Version)
	}
	if err == nil {
		err = l.check()
	}
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the lock of the tool cache cannot be used: %v", err).WithHint("restore it, or remove the cache and add its tools again")
	}
	return l.Tools, nil
}

func (l lock) check() error {
	if len(l.Tools) > maxTools {
		return fmt.Errorf("it names more than %d tools", maxTools)
	}
	for i, t := range l.Tools {
		if err := t.check(); err != nil {
			return err
		}
		if _, err := sallyport.ParseDigest(string(t.Tree)); err != nil {
			return err
		}
		if slices.ContainsFunc(l.Tools[:i], t.same) {
			return fmt.Errorf("it names %s twice", t.Dir())
		}
	}
	return nil
}

var (
	toolName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	toolVersion = regexp.MustCompile(`^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}(?:[-+][0-9A-Za-z.-]{1,64})?$`)
	toolArch    = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,15}$`)
)

func (t Tool) check() error {
	switch {
	case !toolName.MatchString(t.Name):
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not the name of a tool", t.Name).WithHint("as go, node or python")
	case !toolVersion.MatchString(t.Version) || strings.Contains(t.Version, ".."):
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not a version of three numbers", t.Version).WithHint("as 1.26.0")
	case !toolArch.MatchString(t.Arch):
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not an architecture", t.Arch).WithHint("as x64 or arm64")
	}
	return nil
}

// names are other names of tools, and those under which actions look for them.
var names = map[string]string{"python": "Python", "pypy": "PyPy", "golang": "go", "nodejs": "node", "node.js": "node", "go": "go", "node": "node"}

// CanonicalName is the name that a tool has in caches, whatever people call it.
func CanonicalName(name string) string {
	if n, ok := names[strings.ToLower(name)]; ok {
		return n
	}
	return name
}

// Verify compares the files of a tool with its digest. What it found holds as long as
// the Cache lives: rooms cannot write what they see of it.
func (c *Cache) Verify(ctx context.Context, t Tool) error {
	c.mu.Lock()
	defer c.mu.Unlock() // two jobs that want the same tool need it read once
	if err, known := c.verified[t]; known {
		return err
	}
	err := c.verify(ctx, t)
	if ctx.Err() == nil {
		c.verified[t] = err
	}
	return err
}

func (c *Cache) verify(ctx context.Context, t Tool) error {
	if _, err := os.Stat(filepath.Join(c.dir, filepath.FromSlash(t.Dir())+".complete")); err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "%s %s of the tool cache is not complete", t.Name, t.Version).WithHint("remove it and add it again")
	}
	root, err := os.OpenRoot(filepath.Join(c.dir, filepath.FromSlash(t.Dir())))
	if err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "%s %s is not in the tool cache any more", t.Name, t.Version).WithHint("remove it with sallyport tools remove and add it again")
	}
	defer root.Close()
	got, err := measure(ctx, root)
	if err != nil {
		return fmt.Errorf("read %s %s of the tool cache: %w", t.Name, t.Version, err)
	}
	if got.Tree != t.Tree {
		return sallyport.Errorf(sallyport.CodeInvalid, "%s %s of the tool cache is not what was added: its files have digest %s, the lock has %s", t.Name, t.Version, got.Tree.Short(), t.Tree.Short()).
			WithHint("find out who changed it; then remove it with sallyport tools remove and add it again")
	}
	return nil
}

// Remove takes a tool out of the cache.
func (c *Cache) Remove(name, version, arch string) error {
	want := Tool{Name: CanonicalName(name), Version: version, Arch: arch}
	if err := want.check(); err != nil {
		return err
	}
	return c.change(func(list []Tool) ([]Tool, error) {
		i := slices.IndexFunc(list, want.same)
		if i < 0 {
			return nil, sallyport.Errorf(sallyport.CodeNotFound, "the tool cache has no %s", want.Dir()).WithHint("list it with: sallyport tools list")
		}
		at := filepath.Join(c.dir, filepath.FromSlash(want.Dir()))
		if err := os.Remove(at + ".complete"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err := os.RemoveAll(at); err != nil {
			return nil, err
		}
		_ = os.Remove(filepath.Dir(at)) // when it was the last of its kind
		return slices.Delete(list, i, i+1), nil
	})
}

// change rewrites the lock while no other process does.
func (c *Cache) change(f func([]Tool) ([]Tool, error)) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	guard, err := os.OpenFile(filepath.Join(c.dir, ".guard"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer guard.Close()
	if err := syscall.Flock(int(guard.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	list, err := c.List()
	if err != nil {
		return err
	}
	if list, err = f(list); err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b Tool) int { return strings.Compare(a.Dir(), b.Dir()) })
	b, err := json.MarshalIndent(lock{1, list}, "", "  ")
	if err != nil {
		return err
	}
	next := filepath.Join(c.dir, "."+lockName)
	if err := os.WriteFile(next, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(c.dir, lockName))
}
