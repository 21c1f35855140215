package cli

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/internal/daemon"
)

// watchPoll is how often the work tree is looked at.
const watchPoll = 500 * time.Millisecond

// watch runs again whenever a file changes, until it is interrupted. A change
// while jobs run cancels them.
func (c runCmd) watch(e *env, config daemon.LocalConfig) error {
	for {
		seen := fingerprint(e.ctx, c.Dir)
		ctx, cancel := context.WithCancel(e.ctx)
		changed := make(chan struct{})
		go func() {
			defer close(changed)
			defer cancel()
			awaitChange(e.ctx, c.Dir, seen)
		}()
		err := c.once(ctx, e, config)
		var exit exitError
		if err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
			fmt.Fprintf(e.stderr, "sallyport: %v\n", err)
		}
		if ctx.Err() == nil {
			fmt.Fprintln(e.stderr, "waiting for a change …")
		}
		<-changed
		cancel()
		if e.ctx.Err() != nil {
			return err
		}
		fmt.Fprintf(e.stderr, "\n── %s changed ──\n", time.Now().Format(time.TimeOnly))
	}
}

// awaitChange returns when the tree is another than seen and has been still for
// one look, or when ctx ends.
func awaitChange(ctx context.Context, dir string, seen uint64) {
	tick := time.NewTicker(watchPoll)
	defer tick.Stop()
	last := seen
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := fingerprint(ctx, dir)
		if now != seen && now == last {
			return
		}
		last = now
	}
}

// fingerprint sums up the names, sizes and times of the files that a run would
// take: in a git work tree those that are not ignored.
func fingerprint(ctx context.Context, dir string) uint64 {
	sum := fnv.New64a()
	add := func(path string) {
		if info, err := os.Lstat(path); err == nil && !info.IsDir() {
			fmt.Fprintln(sum, path, info.Size(), info.ModTime().UnixNano(), info.Mode())
		}
	}
	out, err := exec.CommandContext(ctx, "git", "-C", dir, "-c", "core.fsmonitor=false", "ls-files", "-z", "-co", "--exclude-standard").Output()
	if err == nil {
		for name := range strings.SplitSeq(string(out), "\x00") {
			add(filepath.Join(dir, name))
		}
		return sum.Sum64()
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			add(path)
		}
		return nil // what cannot be read is left out
	})
	return sum.Sum64()
}
