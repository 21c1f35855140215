package daemon

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/proxy"
	"github.com/sallyport-ci/sallyport/internal/rpc"
	"github.com/sallyport-ci/sallyport/internal/yard/runner"
	"github.com/sallyport-ci/sallyport/internal/yard/sandbox"
	"github.com/sallyport-ci/sallyport/internal/yard/service"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
)

// labels are what runs-on may ask of a runner of ours. GitHub's names of Linux
// images are among them, so that workflows run unchanged; which distribution is
// under them is the host's.
func labels() []string {
	l := []string{"self-hosted", "linux", "ubuntu-latest", "ubuntu-24.04", "ubuntu-22.04", "ubuntu-20.04", "sallyport"}
	if runtime.GOARCH == "arm64" {
		return append(l, "arm64", "ubuntu-24.04-arm", "ubuntu-22.04-arm")
	}
	return append(l, "x64")
}

func (in *installation) runnerPrincipal() sallyport.Principal {
	return sallyport.Principal{Kind: sallyport.Runner, ID: string(in.settings.Runner), Name: "embedded"}
}

// superviseRunner keeps our own runner alive until ctx ends. It is a process of
// its own, so that no key ever lies in its memory.
func (in *installation) superviseRunner(ctx context.Context) {
	for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, 30*time.Second) {
		began := time.Now()
		if err := in.runRunner(ctx); err != nil && ctx.Err() == nil {
			in.log.Error("runner ended", "error", err)
		}
		if time.Since(began) > time.Minute {
			pause = time.Second
		}
		if err := in.engine.RunnerGone(context.WithoutCancel(ctx), in.settings.Runner); err != nil {
			in.log.Error("jobs of the runner were not given back", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (in *installation) runRunner(ctx context.Context) error {
	exe, err := in.c.exe()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, "runner", "--socket", yardSocket(in.c.Data), "--work", filepath.Join(in.c.Data, "runner"), "--id", string(in.settings.Runner))
	if in.c.Capacity > 0 {
		cmd.Args = append(cmd.Args, "--capacity", itoa(in.c.Capacity))
	}
	cmd.Args = append(cmd.Args, "--warm-rooms="+itoa(in.c.WarmRooms))
	for _, p := range in.c.Egress.Private {
		cmd.Args = append(cmd.Args, "--egress-private", p)
	}
	if in.c.Egress.Registries != "" {
		cmd.Args = append(cmd.Args, "--package-registries", in.c.Egress.Registries)
	}
	if in.c.Egress.Advisories != "" {
		cmd.Args = append(cmd.Args, "--advisories", in.c.Egress.Advisories)
	}
	if home, err := os.UserHomeDir(); err == nil {
		cmd.Args = append(cmd.Args, "--home", home)
	}
	if names := proxiesSet(os.Getenv); len(names) > 0 {
		in.log.Warn("this host's HTTP proxy is not used for what jobs reach: connections to hosts are made directly", "variables", names)
	}
	cmd.Env = yardEnv(registryEnv[:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for us to hand on
	confined(cmd, in.c.Data, "runner", "run/yard.sock")
	// The runner ends when this pipe does, also when we are killed.
	alive, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer alive.Close()
	errors, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	lines := bufio.NewScanner(io.LimitReader(errors, 1<<30))
	for lines.Scan() {
		in.log.Info("runner said", "line", lines.Text())
	}
	_, _ = io.Copy(io.Discard, errors) // what is too long or too much: the runner must not wait for a reader
	return cmd.Wait()
}

// yardEnv is the environment of processes of the yard: nothing of ours that
// could hold a secret, but what more names.
func yardEnv(more ...string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	for _, name := range append([]string{"TMPDIR", "TZ", "LANG"}, more...) {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// RunnerConfig of the runner process.
type RunnerConfig struct {
	Socket   string // of the control plane
	WorkDir  string
	ID       string
	Capacity int
	// WarmRooms is how many rooms wait for jobs; negative: warmRooms.
	WarmRooms int
	Egress    EgressConfig
	Home      string    // of who configured the host's package clients
	Parent    io.Reader // ends when the parent process does
	Log       *slog.Logger
}

// Runner is the runner process: it leases jobs over the socket until ctx or its parent ends.
func Runner(ctx context.Context, c RunnerConfig) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.Parent != nil {
		go func() {
			_, _ = io.Copy(io.Discard, c.Parent) // nothing is ever said; the end is the message
			cancel()
		}()
	}
	client, err := rpc.Dial(rpc.Config{UnixSocket: c.Socket})
	if err != nil {
		return err
	}
	defer client.Close()
	warm := sandbox.Warm{Rooms: c.WarmRooms, Like: runner.RoomLike(sallyport.Limits{})}
	if warm.Rooms < 0 {
		warm.Rooms = warmRooms()
	}
	capacity := c.Capacity
	if capacity <= 0 {
		capacity = max(2, runtime.NumCPU())
	}
	warm.AtOnce = capacity
	box, err := newSandbox(filepath.Join(c.WorkDir, "rooms"), sandbox.Level, warm, c.Log)
	if err != nil {
		return err
	}
	reach, err := c.Egress.open(filepath.Join(c.WorkDir, "packages"), homeEnv(c.Home), c.Log)
	if err != nil {
		return err
	}
	strong := strongSandbox(ctx, filepath.Join(c.WorkDir, "strong"), c.Log)
	offers := labels()
	if strong != nil {
		offers = append(offers, sallyport.LabelStrong)
	}
	r, err := runner.New(runner.Config{
		Strong: strong,
		Egress: reach,
		Yard:   client.Yard(), Sandbox: box, WorkDir: filepath.Join(c.WorkDir, "jobs"), ID: sallyport.RunnerID(c.ID), Name: "embedded",
		Labels: offers, Capacity: capacity, Log: c.Log, Clock: time.Now,
		Tools: tools.Open(filepath.Join(c.WorkDir, "tools")),
	})
	if err != nil {
		return err
	}
	warming, stop := context.WithCancel(ctx)
	warmed := make(chan struct{})
	go func() {
		defer close(warmed)
		box.Warm(warming)
	}()
	defer func() {
		stop()
		<-warmed
	}()
	if err := r.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// warmRooms is how many rooms wait for jobs where nobody says: half as many as there are
// processors, since each takes seven megabytes and a job that finds none waits a few
// hundredths of a second longer.
func warmRooms() int { return min(max(1, runtime.NumCPU()/2), 8) }

func newSandbox(stateDir, level string, warm sandbox.Warm, log *slog.Logger) (*sandbox.Sandbox, error) {
	return sandbox.New(sandbox.Config{StateDir: stateDir, Level: level, Warm: warm, Log: log})
}

// CheckHost reports what this host can enforce at a level.
func CheckHost(ctx context.Context, level string, log *slog.Logger) (sallyport.Isolation, error) {
	dir, err := os.MkdirTemp("", "sallyport-check-")
	if err != nil {
		return sallyport.Isolation{}, err
	}
	defer os.RemoveAll(dir)
	box, err := newSandbox(dir, level, sandbox.Warm{}, log)
	if err != nil {
		return sallyport.Isolation{}, err
	}
	return box.Check(ctx)
}

// SurveyHost tells what this host has for rooms.
func SurveyHost() []sallyport.Facility { return sandbox.Survey() }

// Proxy is the traffic proxy process.
func Proxy(ctx context.Context, dir string, log *slog.Logger) error {
	return proxy.Run(ctx, proxy.Config{Dir: dir, Log: log})
}

// Release is the host process of one release.
func Release(ctx context.Context, dir string, log *slog.Logger) error {
	box, err := newSandbox(filepath.Join(dir, "rooms"), sandbox.Level, sandbox.Warm{}, log)
	if err != nil {
		return err
	}
	return service.Run(ctx, service.Config{Dir: dir, Sandbox: box, Log: log})
}
