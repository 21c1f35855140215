package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// As root, every room has a range of user and group ids of its own: ids 0 to
// 65535 inside are base to base+65535 on the host, where nobody else has them.
const (
	rangeSize = 65536
	// rangeBase is far above what user databases and /etc/subuid hand out (they
	// start at 100000 and grow by 65536 a user).
	rangeBase = 0x5A110000
	// maxRanges bounds the rooms of one process; the last range ends below 2^31,
	// which some tools take for the highest id.
	maxRanges = 4096
)

// idRange is one such range with the user namespaces by which mounts are
// translated into it. They hold no process.
type idRange struct {
	base int
	// view shows host ids 0-65535 as the room's: the host's root owns a system
	// file, so the room's root does.
	view *os.File
	// bind shows the runner's uid as the room's root, and keeps all other ids of
	// the room in its own range on disk: a file that the room made for another
	// user belongs to no user of the host.
	bind *os.File
}

// ranges hands out ranges. A range is made at its first use and used again
// after its room is gone.
type ranges struct {
	mu   sync.Mutex
	free []*idRange
	made int
}

// take returns a free range; exe is our own binary, or another that imports this package.
func (r *ranges) take(exe string) (*idRange, error) {
	r.mu.Lock()
	if n := len(r.free); n > 0 {
		got := r.free[n-1]
		r.free = r.free[:n-1]
		r.mu.Unlock()
		return got, nil
	}
	r.mu.Unlock()
	return r.make(exe)
}

// make makes a range that nobody has yet.
func (r *ranges) make(exe string) (*idRange, error) {
	r.mu.Lock()
	if r.made == maxRanges {
		r.mu.Unlock()
		return nil, fmt.Errorf("all %d id ranges are in use", maxRanges)
	}
	n := r.made
	r.made++
	r.mu.Unlock()

	base := rangeBase + n*rangeSize
	var made idRange
	var viewErr, bindErr error
	var both sync.WaitGroup
	both.Go(func() {
		made.view, viewErr = newUserNS(exe, []syscall.SysProcIDMap{{ContainerID: 0, HostID: base, Size: rangeSize}})
	})
	uid := os.Geteuid()
	made.bind, bindErr = newUserNS(exe, []syscall.SysProcIDMap{
		{ContainerID: uid, HostID: base, Size: 1},
		{ContainerID: base + 1, HostID: base + 1, Size: rangeSize - 1},
	})
	both.Wait()
	if err := errors.Join(viewErr, bindErr); err != nil {
		for _, f := range []*os.File{made.view, made.bind} {
			if f != nil {
				f.Close()
			}
		}
		return nil, err
	}
	made.base = base
	return &made, nil
}

// ready makes ranges ahead until there are n. Whoever asks for a user namespace is forked, and
// a fork copies what the parent's memory is listed in: half a millisecond of processor time now, three and
// more once this process has worked for a while. What fails is left to take.
func (r *ranges) ready(ctx context.Context, n int, exe string) {
	for ctx.Err() == nil {
		r.mu.Lock()
		enough := r.made >= min(n, maxRanges)
		r.mu.Unlock()
		if enough {
			return
		}
		made, err := r.make(exe)
		if err != nil {
			return
		}
		r.put(made)
	}
}

func (r *ranges) put(used *idRange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, used)
}

func (r *ranges) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, used := range r.free {
		used.view.Close()
		used.bind.Close()
	}
	r.free = nil
}

// newUserNS makes a user namespace that nobody lives in. A namespace needs a
// process to be born, so one is started, which does nothing, and killed.
func newUserNS(exe string, maps []syscall.SysProcIDMap) (*os.File, error) {
	wait, waitW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer wait.Close()
	defer waitW.Close()
	p, err := os.StartProcess(exe, []string{"sallyport", pidone.MarkNamespace}, &os.ProcAttr{
		Env:   []string{"GOMAXPROCS=1"},
		Files: []*os.File{wait},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: maps,
			GidMappings: maps,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	defer func() {
		_ = p.Kill()
		_, _ = p.Wait()
	}()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
	if err != nil {
		return nil, fmt.Errorf("open a user namespace: %w", err)
	}
	return f, nil
}
