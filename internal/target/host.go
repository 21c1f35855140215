package target

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport"
)

const (
	// mount is where a release finds its files in its room, read-only.
	mount     = "/srv/release"
	roomPath  = mount + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	maxState  = 1 << 20 // a state with its isolation is below 8 KiB
	maxOwnLog = 1 << 20 // our own processes' log; it begins anew at the next start beyond
)

// socket is where the instance answers; the name is short and the same each time.
func (p *Process) socket(id sallyport.DeploymentID) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(p.cfg.Dir, socketsDir, hex.EncodeToString(sum[:])[:socketName])
}

// describe says how the release unpacked in root is to be run.
func (p *Process) describe(d sallyport.Deployment, a sallyport.Artifact, root string) (sallyport.ReleaseSpec, error) {
	argv := d.Spec.Command
	switch {
	case len(argv) == 0 && isArchive(a):
		return sallyport.ReleaseSpec{}, sallyport.Errorf(sallyport.CodeInvalid, "artifact %s has several files, and environment %s does not say which is to be run", a.Name, d.Environment).
			WithHint("declare command in .sallyport/deploy.yaml")
	case len(argv) == 0:
		argv = []string{path.Join(mount, singleName(a))}
	case strings.Contains(argv[0], "/") && !path.IsAbs(argv[0]):
		argv = append([]string{path.Join(mount, argv[0])}, argv[1:]...)
	}
	if err := makeExecutable(root, argv[0]); err != nil {
		return sallyport.ReleaseSpec{}, err
	}
	return sallyport.ReleaseSpec{
		Deployment: d.ID,
		Room: sallyport.RoomSpec{
			ID: "release-" + string(d.ID)[:min(len(d.ID), 40)], Hostname: "release",
			Binds:    []sallyport.Bind{{Source: filepath.Join(p.home(d.ID), rootDir), Target: mount, ReadOnly: true}},
			Dial:     p.socket(d.ID),
			DialPort: d.Spec.Port,
		},
		Argv: argv, Env: environ(d.Spec), Dir: mount, Grace: graceTime,
	}, nil
}

// makeExecutable lets the command be run when it is a file of the release:
// uploads commonly lose the permission.
func makeExecutable(root, command string) error {
	name, ok := strings.CutPrefix(path.Clean(command), mount+"/")
	if !ok {
		return nil
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return diskError("open instance", err)
	}
	defer r.Close()
	if fi, err := r.Lstat(name); err != nil || !fi.Mode().IsRegular() {
		return sallyport.Errorf(sallyport.CodeInvalid, "the command %.100q is not a file of the artifact", name).
			WithHint("declare as command a file that the artifact has")
	}
	if err := r.Chmod(name, 0o755); err != nil {
		return diskError("make command executable", err)
	}
	return nil
}

// environ is the whole environment of the release: each name once, for not
// every program takes the last of two.
func environ(spec sallyport.EnvironmentSpec) []sallyport.EnvVar {
	env := []sallyport.EnvVar{
		{Name: "PATH", Value: roomPath}, {Name: "HOME", Value: "/tmp"}, {Name: "LANG", Value: "C.UTF-8"},
		{Name: "SALLYPORT_ENVIRONMENT", Value: spec.Name},
	}
	set := func(v sallyport.EnvVar) {
		for i := range env {
			if env[i].Name == v.Name {
				env[i] = v
				return
			}
		}
		env = append(env, v)
	}
	for _, v := range spec.Env {
		set(v)
	}
	set(sallyport.EnvVar{Name: "PORT", Value: strconv.Itoa(spec.Port)})
	return env
}

// writeSpec hands the release to the host that is about to be started; what
// an earlier host said is no longer true.
func writeSpec(home string, spec sallyport.ReleaseSpec) error {
	err := os.Remove(filepath.Join(home, sallyport.ReleaseStateFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove old state", err)
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode release spec: %w", err)
	}
	file := filepath.Join(home, sallyport.ReleaseSpecFile)
	if err := os.WriteFile(file+".tmp", b, 0o600); err != nil {
		return diskError("write release spec", err)
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		return diskError("write release spec", err)
	}
	return nil
}

// readState returns what the host last said; fs.ErrNotExist when it said nothing yet.
func readState(home string) (sallyport.ReleaseState, error) {
	var s sallyport.ReleaseState
	f, err := os.Open(filepath.Join(home, sallyport.ReleaseStateFile))
	if err != nil {
		return s, fmt.Errorf("open release state: %w", err)
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxState)).Decode(&s); err != nil {
		return s, fmt.Errorf("decode release state: %w", err)
	}
	return s, nil
}

// hostAlive asks whether a process holds the lock, without taking it.
func hostAlive(home string) (bool, error) {
	f, err := os.Open(filepath.Join(home, sallyport.ReleaseLockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open release lock: %w", err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, fmt.Errorf("ask for release lock: %w", err)
	}
	return lock.Type != unix.F_UNLCK, nil
}

// child is a process that we started. It is ours to reap while we live.
type child struct {
	pid   int
	ended chan struct{} // closed once it was reaped
}

// spawn starts our binary in a session of its own, with an environment that
// holds nothing of ours, and its log appended to logFile.
func (p *Process) spawn(args []string, logFile string) (*child, error) {
	if fi, err := os.Stat(logFile); err == nil && fi.Size() > maxOwnLog {
		if err := os.Truncate(logFile, 0); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, diskError("open log", err)
	}
	defer log.Close()
	cmd := exec.Command(p.cfg.Exe, args...)
	cmd.Dir = "/" // keeps no file system busy
	cmd.Stdout, cmd.Stderr = log, log
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Env = append(cmd.Env, p.cfg.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.cfg.Confine != nil {
		p.cfg.Confine(cmd)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{pid: cmd.Process.Pid, ended: make(chan struct{})}
	go func() { // ends with the child, or with us
		defer close(c.ended)
		_ = cmd.Wait()
	}()
	return c, nil
}

// done is closed when the child ended, and never for none.
func (c *child) done() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.ended
}

// awaitStart returns when the host says that the release was started, or why not.
func (p *Process) awaitStart(ctx context.Context, id sallyport.DeploymentID, proc *child) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime,
		sallyport.Errorf(sallyport.CodeUnavailable, "deployment %s was not started within %s", id, startTime).
			WithHint("the host may be overloaded; it will be looked at again"))
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	home := p.home(id)
	for {
		// Asked before the state is read: a host's last word comes before its end.
		ended := false
		select {
		case <-proc.done():
			ended = true
		default:
			if alive, err := hostAlive(home); proc == nil && (err != nil || !alive) {
				ended = true
			}
		}
		state, err := readState(home)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case state.Phase == sallyport.ReleaseRunning:
			return nil
		case state.Phase == sallyport.ReleaseEnded && state.Code == "":
			return nil // it was started; that it ended is for Check and List to say
		case state.Phase == sallyport.ReleaseEnded:
			return &sallyport.Error{
				Code: state.Code, Message: "the release could not be started: " + state.Exit, Hint: state.Hint,
				Err: hostLog(home),
			}
		case ended:
			return fmt.Errorf("release host of deployment %s ended before its release was started: %w", id, hostLog(home))
		}
		select {
		case <-tick.C:
		case <-proc.done():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hostLog is the end of what one of our own processes logged, for operators.
func hostLog(dir string) error {
	log, err := tail(filepath.Join(dir, hostLogFile), 2000)
	if err != nil {
		return err
	}
	return fmt.Errorf("it logged: %s", bytes.TrimSpace(log))
}

// stopHost tells the host to stop its release and waits until it is gone.
func (p *Process) stopHost(ctx context.Context, id sallyport.DeploymentID) error {
	home := p.home(id)
	signal, deadline := syscall.SIGTERM, time.NewTimer(graceTime+stopTime)
	defer deadline.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	sent := false
	for {
		alive, err := hostAlive(home)
		if err != nil || !alive {
			return err
		}
		if !sent {
			if sent, err = signalHost(home, signal); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			p.log.ErrorContext(ctx, "release host killed: it did not stop", "deployment", id)
			signal, sent = syscall.SIGKILL, false
		}
	}
}

// signalHost signals the process that holds the instance's lock. It reports
// false when the host did not say yet who it is.
func signalHost(home string, signal syscall.Signal) (bool, error) {
	state, err := readState(home)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	proc, err := os.FindProcess(state.PID) // a pidfd: it keeps naming the same process
	if err != nil {
		return false, fmt.Errorf("find release host: %w", err)
	}
	defer proc.Release()
	// Only the holder of the lock writes the state. If it is held, and still in that
	// process's name, the process lived when it was found: its number was not reused.
	alive, err := hostAlive(home)
	if err != nil || !alive {
		return false, err
	}
	if again, err := readState(home); err != nil || again.PID != state.PID {
		return false, err
	}
	if err := proc.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return false, fmt.Errorf("signal release host: %w", err)
	}
	return true, nil
}

// sweep removes the room of a host that was killed: a host without a spec does
// just that.
func (p *Process) sweep(ctx context.Context, id sallyport.DeploymentID) error {
	home := p.home(id)
	state, err := readState(home)
	if errors.Is(err, fs.ErrNotExist) || err == nil && state.Phase == sallyport.ReleaseEnded {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(home, sallyport.ReleaseSpecFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove release spec: %w", err)
	}
	proc, err := p.spawn(p.cfg.ReleaseArgs(home), filepath.Join(home, hostLogFile))
	if err != nil {
		return fmt.Errorf("start release host: %w", err)
	}
	select {
	case <-proc.done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
