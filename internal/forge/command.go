package forge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// The largest answer of a query that is kept in memory: 100,000 refs of 200 bytes fit.
	maxOutput = 32 << 20
	// What is kept of git's complaints, for the operator's log.
	maxStderr = 4 << 10
	// How long a killed process may hold its pipes open.
	killDelay = 5 * time.Second
)

// errTooLong says that git said more than the caller wanted to hear.
var errTooLong = errors.New("output is too long")

// command is one call of git.
type command struct {
	repo    string   // --git-dir; "" for none
	dir     string   // working directory; "" for the empty home
	config  []string // name=value
	env     []string
	args    []string
	stdin   io.Reader
	timeout time.Duration // 0 = queryTimeout
}

// prepare returns the process of a command, not started yet: no environment
// but ours, a process group of its own, killed as a whole when ctx ends.
func (g *Git) prepare(ctx context.Context, c command) *exec.Cmd {
	args := []string{
		"-c", "core.hooksPath=/dev/null",
		"-c", "core.fsmonitor=false",
		"-c", "protocol.allow=never",
		"-c", "transfer.fsckObjects=true",
		"-c", "gc.auto=0", // see Maintain
		// Blobs above this are streamed instead of being held in memory.
		"-c", "core.bigFileThreshold=16m",
		"-c", "pack.threads=1",
		"-c", "pack.windowMemory=64m",
		"-c", "core.quotePath=false",
		// The directories are ours; their owner may still differ from the user in a container.
		"-c", "safe.directory=*",
	}
	for _, kv := range c.config {
		args = append(args, "-c", kv)
	}
	args = append(args, "--no-replace-objects", "--literal-pathspecs")
	if c.repo != "" {
		args = append(args, "--git-dir="+c.repo)
	}
	cmd := exec.CommandContext(ctx, g.git, append(args, c.args...)...)
	cmd.Dir = g.home
	if c.dir != "" {
		cmd.Dir = c.dir
	}
	cmd.Env = append([]string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"HOME=" + g.home,
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_ASKPASS=/bin/false",
		"GIT_OPTIONAL_LOCKS=0",
		"GIT_NO_REPLACE_OBJECTS=1",
		"GIT_NO_LAZY_FETCH=1",
		"GIT_ADVICE=0",
		"GIT_CEILING_DIRECTORIES=" + g.home,
	}, c.env...)
	cmd.Stdin = c.stdin
	// A git that outlived us could move a ref after the next process has looked
	// for what was missed: that push would be stored and never run.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	return cmd
}

// slot waits until one more process may run.
func (g *Git) slot(ctx context.Context) (release func(), err error) {
	select {
	case g.processes <- struct{}{}:
		return func() { <-g.processes }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to run git: %w", context.Cause(ctx))
	}
}

// startHeld starts a command on a thread that lives until ended is closed. The parent whose
// death ends the process is a thread and not a process (prctl(2), PR_SET_PDEATHSIG), and threads end: of a
// process that makes rooms too, in which some are given to one room and go with it.
func startHeld(cmd *exec.Cmd, ended <-chan struct{}) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			<-ended
		}
	}()
	return <-started
}

// stream runs a command and hands its output to read while it runs. When read
// returns an error the process is killed and that error returned.
func (g *Git) stream(ctx context.Context, c command, read func(io.Reader) error) error {
	return g.talk(ctx, c, func(_ io.WriteCloser, out io.Reader) error { return read(out) })
}

// talk is stream for a command that is also written to: in is its standard
// input when c.stdin is nil. The command sees its end when f returns at the latest.
func (g *Git) talk(ctx context.Context, c command, f func(in io.WriteCloser, out io.Reader) error) error {
	release, err := g.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, c.limit())
	defer cancel()
	cmd := g.prepare(ctx, c)
	var stderr tail
	cmd.Stderr = &stderr
	var in io.WriteCloser
	if c.stdin == nil {
		if in, err = cmd.StdinPipe(); err != nil {
			return err
		}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	if err := startHeld(cmd, ended); err != nil {
		return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "git cannot be run",
			Hint: "look into the log of the control plane", Err: err}
	}
	talkErr := f(in, out)
	if in != nil {
		in.Close()
	}
	if talkErr != nil {
		cancel()
	}
	err = cmd.Wait()
	switch {
	case talkErr != nil:
		return talkErr
	case err != nil:
		return fullDisk(&gitError{args: c.args, err: cause(ctx, err), stderr: stderr.String()})
	}
	return nil
}

// output runs a command and returns its output.
func (g *Git) output(ctx context.Context, c command) ([]byte, error) {
	var out bytes.Buffer
	err := g.stream(ctx, c, func(r io.Reader) error {
		n, err := io.Copy(&out, io.LimitReader(r, maxOutput+1))
		if err == nil && n > maxOutput {
			err = errTooLong
		}
		return err
	})
	return out.Bytes(), err
}

func (c command) limit() time.Duration {
	if c.timeout > 0 {
		return c.timeout
	}
	return queryTimeout
}

// cause prefers the reason why ctx ended over the signal that it led to.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// gitError is a git command that did not succeed. Its text is for operators.
type gitError struct {
	args   []string
	err    error
	stderr string
}

func (e *gitError) Error() string {
	name := "git"
	if len(e.args) > 0 {
		name += " " + e.args[0]
	}
	if e.stderr == "" {
		return fmt.Sprintf("%s: %v", name, e.err)
	}
	return fmt.Sprintf("%s: %v: %s", name, e.err, e.stderr)
}

func (e *gitError) Unwrap() error { return e.err }

// fullDisk turns an error that came of a full disk, our own or git's in the words
// of the C locale, into one that says so; others stay as they are.
func fullDisk(err error) error {
	var git *gitError
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.As(err, &git) && strings.Contains(strings.ToLower(git.stderr), syscall.ENOSPC.Error())
	if !full {
		return err
	}
	return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the disk of the server is full",
		Hint: "make room and try again; nothing was stored", Err: err}
}

// exitCode returns how a command ended, -1 when it did not end by itself.
func exitCode(err error) int {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return -1
}

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - maxStderr; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.ToValidUTF8(strings.TrimSpace(string(t.b)), "?") }
