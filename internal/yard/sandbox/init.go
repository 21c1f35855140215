package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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

	"golang.org/x/sys/unix"
)

// controlFD is the room's end of the control socket, the first file after
// stderr; runc passes it through.
const controlFD = 3

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
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("room init: prctl: %w", err)
	}
	if os.Getpid() != 1 {
		return errors.New("room init: runs as pid 1 of a room only")
	}
	unix.CloseOnExec(controlFD)
	control, err := unixConn(os.NewFile(controlFD, "control"))
	if err != nil {
		return fmt.Errorf("room init: control socket: %w", err)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("room init: %w", err)
	}
	// The runtime's own standard streams are files of the host.
	for fd := range 2 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("room init: %w", err)
		}
	}
	unix.Umask(0o022)
	os.Clearenv()
	keepSignals()

	in := &pidOne{null: null, children: make(map[int]chan<- syscall.WaitStatus), death: make(chan struct{})}
	if f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0); err == nil {
		in.oom = f
	}
	if slices.Contains(args, takeFilter) {
		if err := awaitFilter(control); err != nil {
			return fmt.Errorf("room init: %w", err)
		}
	}
	go in.reap()
	if err := hello(control, slices.Contains(args, tellStarts)); err != nil {
		return fmt.Errorf("room init: %w", err)
	}
	// From here on stderr, a pipe of the host, carries only a crash of init.
	for {
		var b [1]byte
		_, files, err := readWithFiles(control, b[:])
		if err != nil {
			return nil // the host is gone, or wants the room gone
		}
		if b[0] != talkByte || len(files) != 1 {
			closeAll(files)
			continue
		}
		if talk, err := unixConn(files[0]); err == nil {
			go in.talk(talk)
		}
	}
}

// hello says that init is ready. Asked to, it hands out the listener to program starts;
// where there can be none, it says hello without.
func hello(control *net.UnixConn, starts bool) error {
	var files []byte
	if starts {
		if listener, err := listenToStarts(); err == nil {
			defer listener.Close()
			files = unix.UnixRights(int(listener.Fd()))
		}
	}
	_, _, err := control.WriteMsgUnix([]byte{helloByte}, files, nil)
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
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0) // cannot fail for these
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
func (in *pidOne) fork(req request, std [3]*os.File) (pid int, ended <-chan syscall.WaitStatus, err error) {
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
func (in *pidOne) talk(c *net.UnixConn) {
	defer c.Close()
	body, files, err := readFrame(c, maxRequest)
	if err != nil {
		return
	}
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		closeAll(files)
		return
	}
	switch req.Op {
	case opExec:
		in.exec(c, req, files)
	case opDial:
		closeAll(files)
		dialLoopback(c, req.Port)
	case opListen:
		closeAll(files)
		listenLoopback(c, req.Port)
	case opRelayDial, opRelayListen, opRelayAccept:
		closeAll(files)
		in.relays.serve(c, req)
	default:
		closeAll(files)
		_ = writeFrame(c, answer{Failed: "unknown request"})
	}
}

func (in *pidOne) exec(c *net.UnixConn, req request, files []*os.File) {
	std, rest := [3]*os.File{in.null, in.null, in.null}, files
	for i, attached := range req.Std {
		if attached && len(rest) > 0 {
			std[i], rest = rest[0], rest[1:]
		}
	}
	pid, ended, err := in.fork(req, std)
	closeAll(files)
	if err != nil {
		_ = writeFrame(c, answer{Failed: err.Error()})
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
	a := answer{Code: ws.ExitStatus()}
	if ws.Signaled() {
		a = answer{Signal: int(ws.Signal())}
	}
	_ = writeFrame(c, a)
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
func (o *order) obey(c *net.UnixConn) {
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
		if unix.Access(exe, unix.X_OK) == nil {
			return exe, nil
		}
		denied = true
	}
	if denied {
		return "", fmt.Errorf("%s: %w", name, syscall.EACCES)
	}
	return "", fmt.Errorf("%s: executable file not found in PATH", name)
}

// dialPort connects to a port on the room's loopback.
func dialPort(port int) (net.Conn, error) {
	// Bounded, so that a server that accepts nothing does not hold talks for ever.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var d net.Dialer
	var last error
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// listenPort listens on a port of the room's loopback.
func listenPort(port int) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // the host takes plain TCP sockets only
	return lc.Listen(context.Background(), "tcp4", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))
}

// dialLoopback connects to a port on the room's loopback and hands the
// connection to the host.
func dialLoopback(c *net.UnixConn, port int) {
	conn, err := dialPort(port)
	if err != nil {
		_ = writeFrame(c, answer{Failed: err.Error()})
		return
	}
	handOut(c, conn)
}

// listenLoopback makes a listening socket on the room's loopback and hands it to the
// host, which alone holds it from then on.
func listenLoopback(c *net.UnixConn, port int) {
	ln, err := listenPort(port)
	if err != nil {
		_ = writeFrame(c, answer{Failed: err.Error()})
		return
	}
	handOut(c, ln)
}

// handOut sends a socket to the host and closes it here.
func handOut(c *net.UnixConn, socket io.Closer) {
	f, err := socket.(interface{ File() (*os.File, error) }).File() // TCP connections and listeners have one
	socket.Close()
	if err != nil {
		_ = writeFrame(c, answer{Failed: err.Error()})
		return
	}
	_ = writeFrame(c, answer{}, f)
	f.Close()
}
