package sallyporttest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// HostRooms is a Sandbox without walls: it runs commands on the host, with
// paths below a bind's target turned into its source, and with a free port in
// $PORT in place of the room's own. It is for tests of what is around a
// sandbox, on programs of our own.
type HostRooms struct{}

var _ sallyport.Sandbox = HostRooms{}

// Check reports that nothing is enforced.
func (HostRooms) Check(context.Context) (sallyport.Isolation, error) {
	return sallyport.Isolation{Level: "none", Runtime: "host", Network: "host"}, nil
}

// Volume has nothing to bound a directory with.
func (HostRooms) Volume(context.Context, sallyport.Limits) (sallyport.Volume, error) {
	return nil, sallyport.Errorf(sallyport.CodeUnavailable, "rooms on the host have no volumes")
}

// Sweep has nothing to do: rooms leave nothing.
func (HostRooms) Sweep(context.Context) error { return nil }

// Prepare serves spec.Dial.
func (HostRooms) Prepare(_ context.Context, spec sallyport.RoomSpec) (sallyport.Room, error) {
	r := &hostRoom{spec: spec, conns: make(map[net.Conn]bool), groups: make(map[int]bool)}
	if spec.Image != "" || len(spec.Peers) > 0 {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "rooms on the host have no images and no peers")
	}
	if spec.Serve != "" {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "rooms on the host have no loopback of their own to serve on")
	}
	if spec.Dial == "" {
		return r, nil
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r.port = free.Addr().(*net.TCPAddr).Port
	free.Close()
	if err := os.Remove(spec.Dial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if r.listener, err = net.Listen("unix", spec.Dial); err != nil {
		return nil, err
	}
	r.work.Go(r.accept)
	return r, nil
}

type hostRoom struct {
	spec     sallyport.RoomSpec
	port     int
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	groups map[int]bool // of commands that run
	gone   bool
}

func (r *hostRoom) Isolation() sallyport.Isolation {
	i, _ := HostRooms{}.Check(context.Background())
	return i
}

func (r *hostRoom) accept() {
	for {
		outer, err := r.listener.Accept()
		if err != nil {
			return
		}
		inner, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)))
		if err != nil || !r.keep(outer, inner) {
			outer.Close() // as a room does in which nothing listens
			continue
		}
		r.work.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { _, _ = io.Copy(inner, outer); _ = inner.(*net.TCPConn).CloseWrite() })
			both.Go(func() { _, _ = io.Copy(outer, inner); _ = outer.(*net.UnixConn).CloseWrite() })
			both.Wait()
			r.drop(outer, inner)
		})
	}
}

func (r *hostRoom) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		if r.gone {
			c.Close()
		} else {
			r.conns[c] = true
		}
	}
	return !r.gone
}

func (r *hostRoom) drop(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(r.conns, c)
	}
}

// onHost turns a path of the room into the one on the host.
func (r *hostRoom) onHost(path string) string {
	for _, b := range r.spec.Binds {
		if path == b.Target || strings.HasPrefix(path, b.Target+"/") {
			return filepath.Join(b.Source, strings.TrimPrefix(path, b.Target))
		}
	}
	return path
}

func (r *hostRoom) Exec(ctx context.Context, spec sallyport.ExecSpec) (sallyport.ExecResult, error) {
	cmd := exec.Command(r.onHost(spec.Argv[0]), spec.Argv[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = r.onHost(spec.Dir), spec.Stdin, spec.Stdout, spec.Stderr
	for _, v := range spec.Env {
		if v.Name == "PORT" && r.port != 0 {
			v.Value = strconv.Itoa(r.port)
		}
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	// The processes of a room die with the process that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return sallyport.ExecResult{}, sallyport.Errorf(sallyport.CodeInvalid, "%s cannot be run", spec.Argv[0])
	}
	r.running(cmd.Process.Pid, true)
	ended := make(chan struct{})
	r.work.Go(func() { r.stopWith(ctx, cmd.Process.Pid, spec, ended) })
	err := cmd.Wait()
	r.running(cmd.Process.Pid, false)
	close(ended)
	if ctx.Err() != nil {
		return sallyport.ExecResult{}, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return sallyport.ExecResult{}, err
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return sallyport.ExecResult{ExitCode: 128 + int(status.Signal()), Signal: status.Signal().String()}, nil
	}
	return sallyport.ExecResult{ExitCode: status.ExitStatus()}, nil
}

func (r *hostRoom) running(group int, yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if yes {
		r.groups[group] = true
	} else {
		delete(r.groups, group)
	}
}

// stopWith ends the command's group when ctx does, unless it ended before.
func (r *hostRoom) stopWith(ctx context.Context, group int, spec sallyport.ExecSpec, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	grace := spec.Grace
	if grace == 0 {
		grace = 7500 * time.Millisecond
	}
	if spec.Interrupt != nil && spec.Interrupt(context.Cause(ctx)) {
		_ = syscall.Kill(-group, syscall.SIGINT)
		select {
		case <-ended:
		case <-time.After(grace):
		}
	}
	_ = syscall.Kill(-group, syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(grace):
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
}

func (r *hostRoom) Destroy(context.Context) error {
	r.mu.Lock()
	r.gone = true
	for g := range r.groups {
		_ = syscall.Kill(-g, syscall.SIGKILL)
	}
	for c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	if r.listener != nil {
		_ = r.listener.Close()
	}
	r.work.Wait()
	return nil
}
