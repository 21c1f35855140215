// Package service is the release host: it keeps one release running in a room
// of its own until it is told to stop.
//
// It runs as a process of its own for each release ("sallyport release"),
// detached from the control plane, so that releases outlive its restarts. It
// decides nothing and restarts nothing: how the release ended is written
// down, and whoever watches it decides. It holds no key and never interprets
// what the release says; output goes into a file of bounded size.
//
// The target writes the ReleaseSpec and reads state and output; the files are
// named in the root. Called by the cli (Run), which hands in the Sandbox.
package service

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport"
)

const (
	maxSpec     = 1 << 20          // environment variables and a command
	destroyTime = 30 * time.Second // for the room to go away
	maxExit     = 500              // of the line that says how it ended
)

// Config of a release host; all fields are needed.
type Config struct {
	Dir     string // of the release, holds its spec
	Sandbox sallyport.Sandbox
	Log     *slog.Logger
}

// Run runs the release that Dir's spec describes and returns nil when it has
// ended, however it did: that is in the state. It stops the release when ctx
// ends or the process gets SIGTERM. Without a spec it only removes what dead
// hosts left behind. It returns CodeConflict when a host runs for Dir already.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Dir == "" || cfg.Sandbox == nil || cfg.Log == nil {
		return errors.New("service: Dir, Sandbox and Log are needed")
	}
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer cancel()
	lock, err := takeLock(filepath.Join(cfg.Dir, sallyport.ReleaseLockFile))
	if err != nil {
		return err
	}
	defer lock.Close() // last of all: until then the state is ours

	if err := cfg.Sandbox.Sweep(ctx); err != nil {
		return fmt.Errorf("sweep rooms of dead hosts: %w", err)
	}
	spec, err := readSpec(filepath.Join(cfg.Dir, sallyport.ReleaseSpecFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	h := host{
		dir: cfg.Dir, sandbox: cfg.Sandbox, log: cfg.Log.With("deployment", spec.Deployment), spec: spec,
		state: sallyport.ReleaseState{Phase: sallyport.ReleaseStarting, PID: os.Getpid(), StartedAt: time.Now().UTC()},
	}
	return h.run(ctx)
}

type host struct {
	dir     string
	sandbox sallyport.Sandbox
	log     *slog.Logger
	spec    sallyport.ReleaseSpec
	state   sallyport.ReleaseState
}

func (h *host) run(ctx context.Context) error {
	if err := h.save(); err != nil {
		return err
	}
	output, err := openOutput(filepath.Join(h.dir, sallyport.ReleaseOutputFile), maxOutput)
	if err != nil {
		return h.end("its output cannot be written", fmt.Errorf("open output: %w", err))
	}
	defer output.Close()

	room := h.spec.Room
	room.ID = roomID(room.ID)
	r, err := h.sandbox.Prepare(ctx, room)
	switch {
	case err != nil && ctx.Err() != nil:
		return h.end("stopped before it was started", nil)
	case err != nil:
		return h.end("no room could be made", err)
	}
	h.state.Phase, h.state.Isolation = sallyport.ReleaseRunning, r.Isolation()
	if err := h.save(); err != nil {
		return errors.Join(err, h.destroy(ctx, r))
	}
	h.log.InfoContext(ctx, "release started", "room", room.ID)
	exit, err := h.exec(ctx, r, output)
	if err := h.destroy(ctx, r); err != nil {
		h.log.ErrorContext(ctx, "room not destroyed", "room", room.ID, "err", err)
	}
	return h.end(exit, err)
}

// exec runs the command to its end and says in one line how it ended. Only a
// command that could not be started is an error.
func (h *host) exec(ctx context.Context, r sallyport.Room, output io.Writer) (string, error) {
	res, err := r.Exec(ctx, sallyport.ExecSpec{
		Argv: h.spec.Argv, Env: h.spec.Env, Dir: h.spec.Dir, Stdout: output, Stderr: output, Grace: h.spec.Grace,
	})
	switch {
	case ctx.Err() != nil:
		return "stopped as asked", nil
	case err != nil:
		return "it could not be started", err
	case res.OOM:
		return "killed: it used more memory than it may", nil
	case res.Signal != "":
		return "ended by signal: " + res.Signal, nil
	default:
		return fmt.Sprintf("ended by itself with exit code %d", res.ExitCode), nil
	}
}

// destroy removes the room, also while the host is being stopped.
func (h *host) destroy(ctx context.Context, r sallyport.Room) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), destroyTime)
	defer cancel()
	return r.Destroy(ctx)
}

// end writes the final state. A cause that is a domain error is told to the
// target with its code and mend; any other stays in the log.
func (h *host) end(exit string, cause error) error {
	h.state.Phase, h.state.EndedAt = sallyport.ReleaseEnded, time.Now().UTC()
	h.state.Exit = exit
	if cause != nil {
		message, hint := sallyport.ErrorMessage(cause)
		h.state.Code, h.state.Hint = sallyport.ErrorCode(cause), hint
		h.state.Exit = exit + ": " + message
		h.log.Error("release not started", "err", cause)
	}
	h.state.Exit = oneLine(h.state.Exit)
	h.log.Info("release ended", "exit", h.state.Exit)
	return h.save()
}

// oneLine bounds s and takes away what could draw on a terminal: parts of it
// are the room's word.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	for i := range s { // cut between runes
		if i > maxExit {
			return s[:i]
		}
	}
	return s
}

func (h *host) save() error {
	b, err := json.Marshal(h.state)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	path := filepath.Join(h.dir, sallyport.ReleaseStateFile)
	tmp := path + ".tmp" // ours alone by the lock
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

func readSpec(path string) (sallyport.ReleaseSpec, error) {
	var spec sallyport.ReleaseSpec
	f, err := os.Open(path)
	if err != nil {
		return spec, fmt.Errorf("open spec: %w", err)
	}
	defer f.Close()
	dec := json.NewDecoder(io.LimitReader(f, maxSpec))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&spec); err != nil {
		return spec, fmt.Errorf("decode spec: %w", err)
	}
	if spec.Deployment == "" || len(spec.Argv) == 0 || spec.Room.Dial == "" || spec.Room.DialPort == 0 {
		return spec, errors.New("spec is not complete: deployment, argv, dial and port are needed")
	}
	return spec, nil
}

// roomID makes the id of a room that is used for one start only.
func roomID(prefix string) string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return prefix + "-" + hex.EncodeToString(b[:])
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	// An open file description lock can be asked for without being taken, so
	// that whoever looks does not get in the way of a host that starts.
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, sallyport.Errorf(sallyport.CodeConflict, "a host runs for this release already").
				WithHint("nothing is to be done; to run it again, stop that one first")
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}
