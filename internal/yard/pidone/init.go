package pidone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// ControlFD is the room's end of the control socket, the first file after
// stderr; runc passes it through.
const ControlFD = 3

// oomStep is added to the badness of every process but init, so that a job that
// meets its memory limit loses a process of its own and not the room.
const oomStep = "500"

// roomInit is pid 1 of a room. It holds nothing but the control socket, answers
// talks until the host's end closes, and then ends, which ends the room.
//
// Steps run with its user id but cannot reach into it: it is not dumpable (no
// ptrace, no /proc/1/fd, no /proc/1/mem), all its files are close-on-exec, and the
// kernel drops every signal to pid 1 that would kill it.
func roomInit(args []string) error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		return fmt.Errorf("room init: prctl: %w", errno)
	}
	if os.Getpid() != 1 {
		return errors.New("room init: runs as pid 1 of a room only")
	}
	syscall.CloseOnExec(ControlFD)
	control, err := streamOf(os.NewFile(ControlFD, "control"))
	if err != nil {
		return fmt.Errorf("room init: control socket: %w", err)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("room init: %w", err)
	}
	// The runtime's own standard streams are files of the host.
	for fd := range 2 {
		if err := syscall.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("room init: %w", err)
		}
	}
	syscall.Umask(0o022)
	os.Clearenv()
	keepSignals()

	in := &pidOne{null: null, children: make(map[int]chan<- syscall.WaitStatus), death: make(chan struct{})}
	if f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0); err == nil {
		in.oom = f
	}
	if slices.Contains(args, TakeFilter) {
		if err := awaitFilter(control); err != nil {
			return fmt.Errorf("room init: %w", err)
		}
	}
	go in.reap()
	if err := hello(control, slices.Contains(args, TellStarts)); err != nil {
		return fmt.Errorf("room init: %w", err)
	}
	// From here on stderr, a pipe of the host, carries only a crash of init.
	for {
		var b [1]byte
		_, files, err := ReadWithFiles(control, b[:])
		if err != nil {
			return nil // the host is gone, or wants the room gone
		}
		if b[0] != TalkByte || len(files) != 1 {
			CloseAll(files)
			continue
		}
		if talk, err := streamOf(files[0]); err == nil {
			go in.talk(talk)
		}
	}
}

// hello says that init is ready. Asked to, it hands out the listener to program starts;
// where there can be none, it says hello without.
func hello(control *stream, starts bool) error {
	var files []byte
	if starts {
		if listener, err := listenToStarts(); err == nil {
			defer listener.Close()
			files = syscall.UnixRights(int(listener.Fd()))
		}
	}
	_, err := control.WriteMsg([]byte{HelloByte}, files)
	return err
}

// keepSignals gives every signal a handler that does nothing. The kernel already
// keeps unhandled signals from pid 1, but the Go runtime installs handlers that
// would end the process. Handlers, unlike SIG_IGN, are not inherited by steps.
func keepSignals() {
	drop := make(chan os.Signal, 1) // full: dropped by the runtime, as wished
	for s := syscall.Signal(1); s < 32; s++ {
		switch s {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG: // SIGURG is the scheduler's
		default:
			signal.Notify(drop, s)
		}
	}
	// The runtime leaves the others alone, so what our parents ignored would be ignored in every step.
	var byDefault [4]uint64 // struct sigaction: SIG_DFL is 0
	for s := uintptr(32); s <= 64; s++ {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0) // cannot fail for these
	}
}

// pidOne is the state of pid 1.
type pidOne struct {
	null *os.File
	oom  *os.File // nil when there is no such file

	relays relays

	mu       sync.Mutex // held from fork until the child is known, so that reap meets no stranger
	children map[int]chan<- syscall.WaitStatus
	death    chan struct{} // closed at the next death
}

// nextDeath returns a channel that is closed when the next child is reaped.
func (in *pidOne) nextDeath() <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.death
}

// reap waits for every child of pid 1, orphans included, and tells those who
// wait for one.
func (in *pidOne) reap() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	for {
		dead := false
		in.mu.Lock()
		for {
			var ws syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
			if ended, ok := in.children[pid]; ok {
				delete(in.children, pid)
				ended <- ws // buffered
			}
			dead = true
		}
		if dead {
			close(in.death)
			in.death = make(chan struct{})
		}
		in.mu.Unlock()
		<-died
	}
}

// fork starts a step in a session and process group of its own.
func (in *pidOne) fork(req Request, std [3]*os.File) (pid int, ended <-chan syscall.WaitStatus, err error) {
	if len(req.Argv) == 0 {
		return 0, nil, errors.New("no command")
	}
	dir := string(req.Dir)
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return 0, nil, fmt.Errorf("working directory %s: no such directory", dir)
	}
	exe, err := lookPath(req.Argv[0], dir, req.Env)
	if err != nil {
		return 0, nil, err
	}
	attr := &syscall.ProcAttr{
		Dir:   dir,
		Env:   req.Env,
		Files: []uintptr{std[0].Fd(), std[1].Fd(), std[2].Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if req.User != "" {
		if attr.Sys.Credential, err = credential(req.User); err != nil {
			return 0, nil, err
		}
	}
	end := make(chan syscall.WaitStatus, 1)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.badness(oomStep)
	pid, err = syscall.ForkExec(exe, req.Argv, attr)
	in.badness("0")
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", req.Argv[0], err)
	}
	in.children[pid] = end
	return pid, end, nil
}

// badness sets our own oom_score_adj, which a child inherits.
func (in *pidOne) badness(adj string) {
	if in.oom != nil {
		_, _ = in.oom.WriteAt([]byte(adj), 0) // best effort: without it init is merely as likely a victim as a step
	}
}

// talk serves one request.
func (in *pidOne) talk(c *stream) {
	defer c.Close()
	body, files, err := ReadFrame(c, MaxRequest)
	if err != nil {
		return
	}
	var req Request
	if err := json.Unmarshal(body, &req); err != nil {
		CloseAll(files)
		return
	}
	switch req.Op {
	case OpExec:
		in.exec(c, req, files)
	case OpDial:
		CloseAll(files)
		dialLoopback(c, req.Port)
	case OpListen:
		CloseAll(files)
		listenLoopback(c, req.Port)
	case OpRelayDial, OpRelayListen, OpRelayAccept:
		CloseAll(files)
		in.relays.serve(c, req)
	default:
		CloseAll(files)
		_ = WriteFrame(c, Answer{Failed: "unknown request"})
	}
}

func (in *pidOne) exec(c *stream, req Request, files []*os.File) {
	std, rest := [3]*os.File{in.null, in.null, in.null}, files
	for i, attached := range req.Std {
		if attached && len(rest) > 0 {
			std[i], rest = rest[0], rest[1:]
		}
	}
	pid, ended, err := in.fork(req, std)
	CloseAll(files)
	if err != nil {
		_ = WriteFrame(c, Answer{Failed: err.Error()})
		return
	}
	o := &order{pid: pid, killed: make(chan struct{})}
	go o.obey(c)
	ws := <-ended
	// Once a signal was asked for, the talk is over when the whole group is gone
	// or was killed, not when its leader is: a shell dies before its children.
	if o.signalled.Load() {
		if syscall.Signal(o.last.Load()) == syscall.SIGINT {
			_ = syscall.Kill(-pid, syscall.SIGTERM) // to what a shell shields from interrupts: its background jobs
		}
		in.awaitGroup(pid, o.killed)
	}
	o.over.Store(true)
	a := Answer{Code: ws.ExitStatus()}
	if ws.Signaled() {
		a = Answer{Signal: int(ws.Signal())}
	}
	_ = WriteFrame(c, a)
}

// reapTimeout bounds the wait for a killed group: a dead member whose parent
// left the group and does not wait for it stays in the process table.
const reapTimeout = time.Second

// awaitGroup waits until a process group has no member, or until a while after
// it was killed.
func (in *pidOne) awaitGroup(pgid int, killed <-chan struct{}) {
	var timeout <-chan time.Time
	for {
		death := in.nextDeath()
		if syscall.Kill(-pgid, 0) != nil {
			return
		}
		select {
		case <-death:
		case <-killed:
			killed, timeout = nil, time.After(reapTimeout)
		case <-timeout:
			return
		}
	}
}

// order passes the host's signals on to one step's process group.
type order struct {
	pid       int
	signalled atomic.Bool
	last      atomic.Int32  // the last signal
	over      atomic.Bool   // the group is not ours to signal any more
	killed    chan struct{} // closed after SIGKILL
}

// obey reads signals until the talk ends. The host going away before the step
// ended means SIGKILL.
func (o *order) obey(c *stream) {
	for {
		var b [1]byte
		sig := syscall.SIGKILL
		if _, err := io.ReadFull(c, b[:]); err == nil {
			sig = syscall.Signal(b[0])
		}
		if o.over.Load() {
			return
		}
		o.last.Store(int32(sig))
		o.signalled.Store(true)
		_ = syscall.Kill(-o.pid, sig)
		if sig == syscall.SIGKILL {
			close(o.killed)
			return
		}
	}
}

// lookPath finds a command as execvp would, by the PATH of the step's own
// environment.
func lookPath(name, dir string, env []string) (string, error) {
	inDir := func(p string) string {
		if path.IsAbs(p) {
			return p
		}
		return path.Join(dir, p)
	}
	if strings.Contains(name, "/") {
		return inDir(name), nil
	}
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	denied := false
	for _, p := range strings.Split(search, ":") {
		exe := path.Join(inDir(p), name)
		fi, err := os.Stat(exe)
		if err != nil || fi.IsDir() {
			continue
		}
		if syscall.Access(exe, 1) == nil {
			return exe, nil
		}
		denied = true
	}
	if denied {
		return "", fmt.Errorf("%s: %w", name, syscall.EACCES)
	}
	return "", fmt.Errorf("%s: executable file not found in PATH", name)
}

// dialLoopback connects to a port on the room's loopback and hands the
// connection to the host.
func dialLoopback(c *stream, port int) {
	conn, err := dialPort(port)
	if err != nil {
		_ = WriteFrame(c, Answer{Failed: err.Error()})
		return
	}
	handOut(c, conn)
}

// listenLoopback makes a listening socket on the room's loopback and hands it to the
// host, which alone holds it from then on.
func listenLoopback(c *stream, port int) {
	ln, err := listenPort(port)
	if err != nil {
		_ = WriteFrame(c, Answer{Failed: err.Error()})
		return
	}
	handOut(c, ln)
}

// handOut sends a socket to the host and closes it here.
func handOut(c, socket *stream) {
	defer socket.Close()
	_ = WriteFrame(c, Answer{}, socket.File) // or nobody waits any more
}
