package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// Room is one room. Prepare makes it.
type Room struct {
	s         *Sandbox
	id        string
	group     string // name of its cgroups
	limits    sallyport.Limits
	isolation sallyport.Isolation
	writable  []string // host directories bound writable

	lock    *os.File // held as long as the room's process lives
	ids     *idRange
	loop    *os.File
	control *net.UnixConn
	keeper  *keeper
	init    int // pidfd of the room's init, 0 when there is none yet
	groups  roomGroups

	// Of a room that waits, or has waited.
	shape   shape
	sight   sight
	since   time.Time
	enforce controllers

	told []*os.File      // what init handed out with its hello; until somebody took it
	link *sallyport.Link // of the uplink; until somebody took it
	used bool            // Prepare returned it

	forwards []*forwarder
	starts   *starts // nil when nobody is told

	destroy sync.Once
	err     error         // of Destroy
	gone    chan struct{} // closed when Destroy begins
}

var _ sallyport.Room = (*Room)(nil)

// dir is the room's directory on the host. The keeper covers it with the stage in its own
// mount namespace; elsewhere it holds the lock file alone.
func (r *Room) dir() string { return filepath.Join(r.s.roomsDir(), r.id) }

// lockFile of a room's directory is locked as long as the room's process lives, and
// holds the paths of the room's cgroups, one a line.
const lockFile = "lock"

// claim makes the room's directory, locks it, and notes where its cgroups will be,
// so that Sweep finds them should we die. On a busy file system each new file can cost
// a millisecond, so there are two.
func (r *Room) claim(c cgroups) error {
	home := r.dir()
	r.s.claims.Lock()
	defer r.s.claims.Unlock()
	if err := os.Mkdir(home, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return sallyport.Errorf(sallyport.CodeConflict, "there is a room %s already", r.id)
		}
		return fmt.Errorf("make the room's directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(home, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the room: %w", err)
	}
	r.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock the room: %w", err)
	}
	var dirs strings.Builder
	for _, p := range c.parents() {
		dir := filepath.Join(p, r.group)
		r.groups.dirs = append(r.groups.dirs, dir) // until findInit knows which they are
		fmt.Fprintln(&dirs, dir)
	}
	if _, err := lock.WriteString(dirs.String()); err != nil {
		return fmt.Errorf("note the room's cgroups: %w", err)
	}
	return nil
}

// sweepRoom removes what a dead process left of a room.
func (s *Sandbox) sweepRoom(ctx context.Context, id string) error {
	home := filepath.Join(s.roomsDir(), id)
	s.claims.Lock()
	lock, err := os.OpenFile(filepath.Join(home, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	var lives error
	if err == nil {
		lives = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	s.claims.Unlock()
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil // gone meanwhile
		}
		return fmt.Errorf("sweep room %s: %w", id, err)
	}
	defer lock.Close()
	if lives != nil {
		return nil
	}
	b, err := io.ReadAll(lock)
	if err != nil {
		return fmt.Errorf("sweep room %s: %w", id, err)
	}
	var g roomGroups
	for line := range bytes.Lines(b) {
		dir := string(bytes.TrimSpace(line))
		if filepath.IsAbs(dir) && strings.HasPrefix(filepath.Base(dir), s.prefix) { // a room that waited had another id then
			g.dirs = append(g.dirs, dir)
		}
	}
	if err := g.remove(ctx); err != nil {
		return fmt.Errorf("sweep room %s: %w", id, err)
	}
	if err := os.RemoveAll(home); err != nil {
		return fmt.Errorf("sweep room %s: %w", id, err)
	}
	s.log.InfoContext(ctx, "swept a room of a dead process", "room", id)
	return nil
}

// findInit learns which process of the host the room's init is: the runtime's
// child that is pid 1 of another pid namespace.
func (r *Room) findInit(c cgroups) (pid int, err error) {
	if pid, err = roomInitPID(r.keeper.process.Pid); err != nil {
		return 0, err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, fmt.Errorf("open the room's init: %w", err)
	}
	r.init = fd
	r.groups, err = c.of(pid, r.group)
	return pid, err
}

// roomInitPID reads the children of the runtime.
func roomInitPID(parent int) (int, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", parent))
	if err != nil {
		return 0, fmt.Errorf("find the room's init: %w", err)
	}
	for _, t := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", parent, t.Name()))
		if err != nil {
			continue // a thread that ended
		}
		for _, child := range strings.Fields(string(b)) {
			status, err := os.ReadFile("/proc/" + child + "/status")
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(status)) {
				if ns, ok := strings.CutPrefix(line, "NSpid:"); ok {
					f := strings.Fields(ns)
					if len(f) > 1 && f[len(f)-1] == "1" {
						return strconv.Atoi(child)
					}
				}
			}
		}
	}
	return 0, errors.New("the room's init is not where it should be")
}

// Isolation implements sallyport.Room.
func (r *Room) Isolation() sallyport.Isolation { return r.isolation }

// endTimeout bounds the end of a room. The kernel kills its processes at once; a
// disk with much unwritten data takes a second or two.
const endTimeout = 30 * time.Second

// Destroy implements sallyport.Room.
func (r *Room) Destroy(ctx context.Context) error {
	r.destroy.Do(func() { r.err = r.end(ctx) })
	return r.err
}

func (r *Room) end(ctx context.Context) error {
	close(r.gone)
	// Not the caller's patience decides whether a room ends.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	var errs []error
	for _, f := range r.forwards {
		f.close()
	}
	if r.init != 0 {
		// The kernel kills all of a pid namespace with its init.
		_ = unix.PidfdSendSignal(r.init, unix.SIGKILL, nil, 0) // it may be dead
		unix.Close(r.init)
	}
	if r.control != nil {
		r.control.Close()
	}
	if r.starts != nil {
		r.starts.close()
	}
	pidone.CloseAll(r.told)
	if r.link != nil {
		r.link.File.Close()
	}
	if r.keeper != nil {
		select {
		case <-r.keeper.gone:
		case <-time.After(endTimeout / 3):
			r.keeper.kill() // the runtime hangs; we clean up for it
			select {
			case <-r.keeper.gone:
			case <-ctx.Done():
				errs = append(errs, errors.New("the runtime cannot be killed"))
			}
		}
	}
	if r.loop != nil {
		r.loop.Close()
	}
	if err := r.groups.remove(ctx); err != nil {
		errs = append(errs, err)
	}
	if r.s.rootless {
		if err := r.s.users.settle(r.s.initExe, r.writable); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 { // else Sweep shall find it
		if err := os.RemoveAll(r.dir()); err != nil {
			errs = append(errs, err)
		}
		if r.ids != nil {
			r.s.ranges.put(r.ids)
		}
	}
	if r.lock != nil {
		r.lock.Close()
	}
	if r.used {
		r.s.pool.ended()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("destroy room %s: %w", r.id, err)
	}
	return nil
}
