package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// keeper holds one room's namespaces and its runtime process. With root it is an
// OS thread of ours that never runs anything else and ends with the room; without,
// a process.
type keeper struct {
	process *os.Process
	gone    chan struct{} // closed when the runtime ended and the mounts are let go

	exit int           // the runtime's exit code; valid when gone is closed
	said chan struct{} // closed when nobody can write to stderr any more
	mu   sync.Mutex
	last tail // what the runtime and init wrote to stderr
}

// kill ends the runtime's own process; init, which lost its peer, ends too.
func (k *keeper) kill() { _ = k.process.Kill() } // it may have ended

// words returns the last of what the runtime said, for operators.
func (k *keeper) words() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(k.last.buf.String()), "?")
}

// Write takes the runtime's stderr.
func (k *keeper) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last.Write(p)
}

// runtimeArgs start the room in the foreground: the runtime stays its parent,
// and removes cgroups and state when it ends.
func runtimeArgs(l *layout, id string) []string {
	if l.Strong {
		return runscArgs(l, id)
	}
	return []string{"runc", "--root", stageRun, "run", "--preserve-fds", "1", "--bundle", stageBundle, id}
}

// One processor makes the runtime's start cheaper, not slower: most of it waits
// for the kernel.
var runtimeEnv = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=1"}

// launch builds the room and starts the runtime in it, with control as init's
// end of the control socket. It returns when the runtime was started; that
// init says hello is for the caller to wait for.
func (s *Sandbox) launch(l *layout, id string, control *os.File) (*keeper, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	errs, errsW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer errsW.Close()
	k := &keeper{gone: make(chan struct{}), said: make(chan struct{})}
	started := make(chan error, 1)
	files := []*os.File{null, null, errsW, control}
	go func() {
		defer close(k.gone)
		// Never unlocked: the thread, whose root is the stage, ends with this goroutine.
		// It must live as long as the runtime, whose parent-death signal is tied to it.
		runtime.LockOSThread()
		var err error
		if s.rootless {
			k.process, err = s.startProcessKeeper(l, id, files)
		} else {
			k.process, err = s.startThreadKeeper(l, id, files)
		}
		started <- err
		if err != nil {
			return
		}
		if state, err := k.process.Wait(); err == nil {
			k.exit = state.ExitCode()
		}
		if !s.rootless {
			// The namespace dies with the thread; this waits for the disk to be let go.
			_ = unix.Unmount(stageRoom, unix.MNT_DETACH)
			_ = unix.Unmount(stageDisk, unix.MNT_DETACH)
		}
	}()
	if err := <-started; err != nil {
		errs.Close()
		<-k.gone
		return nil, err
	}
	go func() {
		defer close(k.said)
		defer errs.Close() // all who hold the pipe are gone, the room's init last
		buf := make([]byte, maxTail)
		for {
			n, err := errs.Read(buf)
			_, _ = k.Write(buf[:n]) // never fails
			if err != nil {
				return
			}
		}
	}()
	return k, nil
}

// startThreadKeeper makes the calling thread the keeper.
func (s *Sandbox) startThreadKeeper(l *layout, id string, files []*os.File) (*os.Process, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "this process may not make namespaces: %v", err).
			WithHint("run the runner with CAP_SYS_ADMIN, or as an ordinary user")
	}
	if err := l.build(); err != nil {
		return nil, err
	}
	spare, err := dupAbove(s.runtime.exe, files[0])
	if err != nil {
		return nil, err
	}
	defer spare.Close()
	files = append([]*os.File{spare}, files[1:]...)
	return os.StartProcess(procFD(s.runtime.exe), runtimeArgs(l, id), &os.ProcAttr{
		Env:   runtimeEnv,
		Files: files,
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true},
	})
}

// keeperJob is what a keeper process is told.
type keeperJob struct {
	Layout layout
	ID     string
	Parent int
}

// Files of a keeper process, after the standard three and pidone.ControlFD.
const (
	keeperSync    = 4 // one byte when the ids are mapped
	keeperJobFile = 5
	keeperRuntime = 6
	keeperLink    = 7 // a socket for the far end of the uplink, when there is one
)

// startProcessKeeper starts our own binary as the keeper, which then becomes the
// runtime.
func (s *Sandbox) startProcessKeeper(l *layout, id string, files []*os.File) (*os.Process, error) {
	job, err := memFile(keeperJob{Layout: *l, ID: id, Parent: os.Getpid()})
	if err != nil {
		return nil, err
	}
	defer job.Close()
	extra := []*os.File{s.runtime.exe}
	var links *net.UnixConn
	if l.Uplink != nil {
		ours, theirs, err := socketpair(unix.SOCK_STREAM)
		if err != nil {
			return nil, err
		}
		defer ours.Close()
		defer theirs.Close()
		links, extra = ours, append(extra, theirs)
	}
	p, err := s.users.start(s.initExe, markKeeper, unix.CLONE_NEWNS|unix.CLONE_NEWNET, files, job, extra...)
	if err != nil || links == nil {
		return p, err
	}
	extra[1].Close()
	l.link = receiveLink(links) // nil: the keeper says why when it is waited for
	return p, nil
}

// roomKeeper is a keeper process, root of its own user namespace.
func roomKeeper([]string) error {
	if err := awaitRoot(); err != nil {
		return fmt.Errorf("room keeper: %w", err)
	}
	var job keeperJob
	if err := readJob(keeperJobFile, &job); err != nil {
		return fmt.Errorf("room keeper: read the job: %w", err)
	}
	// A change of credentials cleared what the parent had set.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("room keeper: prctl: %w", err)
	}
	runtime.LockOSThread()
	job.Layout.viewMap, job.Layout.bindMap = -1, -1
	if err := job.Layout.build(); err != nil {
		return err
	}
	if link := job.Layout.link; link != nil {
		if err := sendLink(keeperLink, link); err != nil {
			return fmt.Errorf("room keeper: hand out the network: %w", err)
		}
	}
	unix.CloseOnExec(keeperRuntime)
	err := syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", keeperRuntime), runtimeArgs(&job.Layout, job.ID), runtimeEnv)
	return fmt.Errorf("room keeper: start the runtime: %w", err)
}

// memFile returns a file with the JSON of v.
func memFile(v any) (*os.File, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("job", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "job")
	if _, err := bytes.NewReader(b).WriteTo(f); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.Seek(0, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
