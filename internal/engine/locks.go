package engine

import (
	"context"
	"path"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/lockfile"
)

const (
	// maxLocked bounds the locked packages that a lease carries: some 150 bytes each.
	maxLocked = 10_000
	// keptLocks is of how many commits the lock files are kept parsed: each job of a run asks for the same.
	keptLocks = 32
)

// locks keeps what lock files of commits name. The zero value is ready for use.
type locks struct {
	mu    sync.Mutex
	known *simplelru.LRU[string, []sallyport.LockedPackage]
}

// locked reads which package versions the lock files at the root of a commit name. What cannot be read is left out: the
// versions are judged like any other then.
func (e *Engine) locked(ctx context.Context, p sallyport.ProjectID, commit string) []sallyport.LockedPackage {
	key := string(p) + " " + commit
	e.locks.mu.Lock()
	if e.locks.known == nil {
		e.locks.known, _ = simplelru.NewLRU[string, []sallyport.LockedPackage](keptLocks, nil) // fails for a size below one
	}
	got, ok := e.locks.known.Get(key)
	e.locks.mu.Unlock()
	if ok {
		return got
	}
	files, err := e.repos.ListFiles(ctx, p, commit, "")
	if err != nil {
		e.log.WarnContext(ctx, "lock files could not be looked for", "project", p, "err", err)
		return nil
	}
	var out []sallyport.LockedPackage
	for _, file := range files {
		if !slices.Contains(lockfile.Names(), path.Base(file)) {
			continue
		}
		raw, err := e.repos.ReadFile(ctx, p, commit, file, lockfile.MaxBytes)
		var some []sallyport.LockedPackage
		if err == nil {
			some, err = lockfile.Parse(file, raw)
		}
		if err != nil {
			e.log.WarnContext(ctx, "a lock file could not be read", "project", p, "file", file, "err", err)
			continue
		}
		out = append(out, some...)
	}
	if len(out) > maxLocked {
		out = out[:maxLocked]
	}
	e.locks.mu.Lock()
	e.locks.known.Add(key, out)
	e.locks.mu.Unlock()
	return out
}
