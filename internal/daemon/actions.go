package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/actions"
	"github.com/sallyport-ci/sallyport/internal/blobstore"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/forge"
)

// ActionsConfig says how actions of other repositories are taken in.
type ActionsConfig struct {
	Servers    []string      // addresses with {owner} and {repo}; empty: forge.DefaultActionServer
	Quarantine time.Duration // how long new content rests; 0 = none
}

// engine is the configuration as the engine wants it.
func (c ActionsConfig) engine(from sallyport.Actions) engine.ActionsConfig {
	out := engine.ActionsConfig{From: from, Quarantine: c.Quarantine}
	if c.Quarantine <= 0 {
		out.Quarantine = -1
	}
	return out
}

// actionCache keeps trees for a user without an installation. They are public
// or the user's own, and are compared with their digest whenever they are used.
func actionCache(fallback string) sallyport.Blobs {
	dir, err := os.UserCacheDir()
	if err != nil {
		return blobstore.NewPlain(filepath.Join(fallback, "actions"))
	}
	return blobstore.NewPlain(filepath.Join(dir, "sallyport", "actions"))
}

// WorkTree is a repository in which locks are made, without an installation.
type WorkTree struct {
	Locker actions.Locker
	root   *os.Root
	tmp    string
}

// OpenWorkTree opens the repository around a directory, as a local run takes it.
func OpenWorkTree(ctx context.Context, dir string, c ActionsConfig, log *slog.Logger) (_ *WorkTree, err error) {
	top, err := forge.Top(dir)
	if err != nil {
		return nil, err
	}
	w := &WorkTree{}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if w.tmp, err = os.MkdirTemp("", "sallyport-actions-"); err != nil {
		return nil, err
	}
	if w.root, err = os.OpenRoot(top); err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s cannot be read", dir).WithHint("name a repository with -C")
	}
	git, err := forge.New(ctx, forge.Config{Dir: filepath.Join(w.tmp, "repos"), Log: log})
	if err != nil {
		return nil, err
	}
	from, err := git.Actions(forge.ActionsConfig{Servers: c.Servers, Blobs: actionCache(w.tmp)})
	if err != nil {
		return nil, err
	}
	w.Locker = actions.Locker{Repo: files{w.root}, From: from, Quarantine: c.Quarantine, Now: time.Now()}
	return w, nil
}

// Close removes what was made for the time being.
func (w *WorkTree) Close() {
	if w.root != nil {
		_ = w.root.Close()
	}
	_ = os.RemoveAll(w.tmp)
}

// Lock reads the repository's lock; that of one without is empty.
func (w *WorkTree) Lock() (actions.Lock, error) {
	b, err := files{w.root}.read(actions.LockPath, actions.MaxLockBytes)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return actions.Lock{}, nil
	}
	if err != nil {
		return actions.Lock{}, err
	}
	return actions.Parse(b)
}

// SetLock writes the lock, all of it or nothing, and reports whether it has changed.
func (w *WorkTree) SetLock(l actions.Lock) (bool, error) {
	content := l.Encode()
	old, err := files{w.root}.read(actions.LockPath, actions.MaxLockBytes)
	if err == nil && bytes.Equal(old, content) || err != nil && len(l.Actions) == 0 {
		return false, nil
	}
	if _, err := actions.Parse(content); err != nil { // nobody could read it
		return false, err
	}
	if err := w.root.Mkdir(path.Dir(actions.LockPath), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	tmp := path.Dir(actions.LockPath) + "/.actions.lock-" + hex.EncodeToString(id[:])
	f, err := w.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = w.root.Rename(tmp, actions.LockPath)
	}
	if err != nil {
		_ = w.root.Remove(tmp)
	}
	return err == nil, err
}

// files is a directory as an actions.Repository. Links do not lead out of it.
type files struct{ root *os.Root }

// maxWorkflow bounds a file that is read to see what it uses, as the engine does.
const maxWorkflow = 1 << 20

func (d files) ReadFile(name string) ([]byte, error) { return d.read(name, maxWorkflow) }

func (d files) read(name string, limit int64) ([]byte, error) {
	notFound := sallyport.Errorf(sallyport.CodeNotFound, "there is no file %.200q", name)
	info, err := d.root.Stat(filepath.FromSlash(name))
	if err != nil {
		return nil, notFound
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not a file of at most %d bytes", name, limit)
	}
	f, err := d.root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, notFound
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func (d files) Workflows() ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), ".github/workflows")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if ext := path.Ext(e.Name()); ext == ".yml" || ext == ".yaml" {
			out = append(out, ".github/workflows/"+e.Name())
		}
	}
	return out, nil
}
