// Package target is where releases run. Process keeps them on this host, each
// in a room of its own behind one traffic proxy.
//
// The control plane runs no foreign code, and so neither does this package: it
// verifies and unpacks an artifact, starts subcommands of our own binary
// ("sallyport release", one for each release, and "sallyport proxy"), and
// speaks to them through files and unix sockets below its directory. They are
// detached and outlive it; what they hold is found again by looking, never
// remembered.
//
// It decides nothing: when to shift, drain or roll back is the engine's word.
// Called by the engine through sallyport.Target; wired by the daemon.
package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/proxy"
)

// Names below the directory of a Process.
const (
	releasesDir = "releases" // one directory for each instance, named by its deployment
	socketsDir  = "s"        // sockets of the instances; short, for their paths are bounded
	proxyDir    = "proxy"
	hostLogFile = "host.log" // what our own processes log
	rootDir     = "root"     // the unpacked artifact
)

const (
	maxSocketPath = 107              // sockaddr_un, unix(7)
	socketName    = 16               // hex digits of a hash of the deployment
	startTime     = time.Minute      // for a room to be made and the release's process to be started
	graceTime     = 10 * time.Second // from SIGTERM to SIGKILL
	stopTime      = time.Minute      // for a host to stop its release and remove the room
	proxyTime     = 15 * time.Second // for the proxy to start
	poll          = 10 * time.Millisecond
)

// Config of a Process. All but Env and Confine are needed.
type Config struct {
	Dir string // its own directory; the path may have at most 88 bytes
	Exe string // our binary
	// ProxyArgs and ReleaseArgs are the arguments with which Exe is a proxy or a
	// release host for the given directory.
	ProxyArgs   func(dir string) []string
	ReleaseArgs func(dir string) []string
	Env         []string // of these processes, beside PATH, HOME and TMPDIR
	// Confine, when not nil, narrows what one of these processes can reach before it is started.
	Confine func(*exec.Cmd)
	Log     *slog.Logger
}

// Process runs releases as processes on this host. It implements
// sallyport.Target.
type Process struct {
	cfg   Config
	proxy *proxy.Client
	log   *slog.Logger

	mu   sync.Mutex
	held map[sallyport.DeploymentID]chan struct{} // instances that are being changed

	proxyMu sync.Mutex // held while the proxy is looked for and started
	guard   guard
}

var _ sallyport.Target = (*Process)(nil)

// NewProcess opens the target in cfg.Dir, with all that runs there already.
func NewProcess(cfg Config) (*Process, error) {
	if cfg.Dir == "" || cfg.Exe == "" || cfg.ProxyArgs == nil || cfg.ReleaseArgs == nil || cfg.Log == nil {
		return nil, errors.New("target: Dir, Exe, ProxyArgs, ReleaseArgs and Log are needed")
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("target directory: %w", err)
	}
	if cfg.Exe, err = filepath.Abs(cfg.Exe); err != nil {
		return nil, fmt.Errorf("own binary: %w", err)
	}
	longest := len(filepath.Join(cfg.Dir, socketsDir)) + 1 + socketName
	if over := longest - maxSocketPath; over > 0 {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the path of the data directory is %d bytes too long: unix sockets below it have at most %d", over, maxSocketPath).
			WithHint("use a data directory with a shorter path")
	}
	for _, sub := range []string{releasesDir, socketsDir, proxyDir} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make target directory: %w", err)
		}
	}
	p := &Process{
		cfg: cfg, log: cfg.Log, held: make(map[sallyport.DeploymentID]chan struct{}),
		proxy: proxy.NewClient(filepath.Join(cfg.Dir, proxyDir)),
	}
	p.guard.init()
	if proxy.Configured(filepath.Join(cfg.Dir, proxyDir)) {
		p.guardProxy()
	}
	return p, nil
}

// Close ends what p itself does. Releases and proxy run on.
func (p *Process) Close() error {
	p.guard.end()
	return nil
}

// Stop ends every release and the proxy, and closes p. Nothing is removed:
// Apply starts a release again.
func (p *Process) Stop(ctx context.Context) error {
	p.guard.end()
	err := p.proxy.Stop(ctx)
	if errors.Is(err, proxy.ErrNotRunning) {
		err = nil
	}
	list, listErr := p.List(ctx)
	errs := []error{err, listErr}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, in := range list {
		all.Go(func() {
			if err := p.stopInstance(ctx, in.Deployment); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (p *Process) stopInstance(ctx context.Context, id sallyport.DeploymentID) error {
	free, err := p.hold(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	return p.stopHost(ctx, id)
}

func (p *Process) home(id sallyport.DeploymentID) string {
	return filepath.Join(p.cfg.Dir, releasesDir, string(id))
}

// hold makes the caller the only one who changes the instance, until free is called.
func (p *Process) hold(ctx context.Context, id sallyport.DeploymentID) (free func(), err error) {
	for {
		p.mu.Lock()
		other := p.held[id]
		if other == nil {
			mine := make(chan struct{})
			p.held[id] = mine
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				delete(p.held, id)
				close(mine)
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// checkID accepts what may become a directory's and a room's name.
func checkID(id sallyport.DeploymentID) error {
	if id == "" || len(id) > 48 || strings.Trim(string(id), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || id[0] == '-' {
		return sallyport.Errorf(sallyport.CodeInvalid, "deployment %.60q is not a valid id", id)
	}
	return nil
}

// find returns the instance's directory, or CodeNotFound.
func (p *Process) find(id sallyport.DeploymentID) (string, error) {
	if err := checkID(id); err != nil {
		return "", err
	}
	home := p.home(id)
	if fi, err := os.Lstat(home); err != nil || !fi.IsDir() {
		return "", sallyport.Errorf(sallyport.CodeNotFound, "deployment %s has no instance on this host", id)
	}
	return home, nil
}

// Apply starts the release beside what runs already. One that ended is
// started again, from content that is verified anew.
func (p *Process) Apply(ctx context.Context, d sallyport.Deployment, a sallyport.Artifact, open func() (io.ReadCloser, error)) error {
	if err := p.checkApply(d, a); err != nil {
		return err
	}
	free, err := p.hold(ctx, d.ID)
	if err != nil {
		return err
	}
	defer free()
	home := p.home(d.ID)
	alive, err := hostAlive(home)
	if err != nil {
		return err
	}
	if alive {
		if state, err := readState(home); err != nil || state.Phase != sallyport.ReleaseEnded {
			return p.awaitStart(ctx, d.ID, nil)
		}
		if err := p.stopHost(ctx, d.ID); err != nil { // it is about to leave
			return err
		}
	}
	fresh := false
	if err := os.Mkdir(home, 0o700); err == nil {
		fresh = true
	} else if !errors.Is(err, fs.ErrExist) {
		return diskError("make instance", err)
	}
	spec, err := p.install(ctx, d, a, open)
	if err != nil {
		if fresh { // nothing of it ever ran
			err = errors.Join(err, os.RemoveAll(home))
		}
		return err
	}
	if err := writeSpec(home, spec); err != nil {
		return err
	}
	proc, err := p.spawn(p.cfg.ReleaseArgs(home), filepath.Join(home, hostLogFile))
	if err != nil {
		return fmt.Errorf("start release host: %w", err)
	}
	p.log.InfoContext(ctx, "release host started", "deployment", d.ID, "pid", proc.pid, "digest", d.Digest)
	return p.awaitStart(ctx, d.ID, proc)
}

func (p *Process) checkApply(d sallyport.Deployment, a sallyport.Artifact) error {
	if err := checkID(d.ID); err != nil {
		return err
	}
	if d.Digest == "" || d.Digest != a.Digest {
		return sallyport.Errorf(sallyport.CodeInvalid, "deployment %s is of %s, the artifact is %s", d.ID, d.Digest.Short(), a.Digest.Short()).
			WithHint("deploy the artifact that passed the gate")
	}
	if d.Spec.Port < 1 || d.Spec.Port > 65535 {
		return sallyport.Errorf(sallyport.CodeInvalid, "environment %s: port %d is not within 1 and 65535", d.Environment, d.Spec.Port).
			WithHint("declare the port on which the release listens")
	}
	return nil
}

// install unpacks the artifact and returns how it is to be run.
func (p *Process) install(ctx context.Context, d sallyport.Deployment, a sallyport.Artifact, open func() (io.ReadCloser, error)) (sallyport.ReleaseSpec, error) {
	content, err := open()
	if err != nil {
		return sallyport.ReleaseSpec{}, fmt.Errorf("open artifact: %w", err)
	}
	defer content.Close()
	home := p.home(d.ID)
	next := filepath.Join(home, rootDir+".new")
	if err := os.RemoveAll(next); err != nil { // of an Apply that was interrupted
		return sallyport.ReleaseSpec{}, diskError("clear instance", err)
	}
	if err := unpack(ctx, next, a, content); err != nil {
		return sallyport.ReleaseSpec{}, errors.Join(err, os.RemoveAll(next))
	}
	spec, err := p.describe(d, a, next)
	if err != nil {
		return sallyport.ReleaseSpec{}, errors.Join(err, os.RemoveAll(next))
	}
	if err := os.RemoveAll(filepath.Join(home, rootDir)); err != nil {
		return sallyport.ReleaseSpec{}, diskError("clear instance", err)
	}
	if err := os.Rename(next, filepath.Join(home, rootDir)); err != nil {
		return sallyport.ReleaseSpec{}, diskError("install artifact", err)
	}
	return spec, nil
}

// Shift sets the weights at the proxy, which is started when it does not run.
func (p *Process) Shift(ctx context.Context, project sallyport.ProjectID, env sallyport.EnvironmentSpec, weights map[sallyport.DeploymentID]int) (string, error) {
	route := proxy.Route{Key: string(project) + "/" + env.Name, Listen: env.Listen}
	sum := 0
	for _, id := range slices.Sorted(maps.Keys(weights)) {
		weight := weights[id]
		if weight < 0 || weight > 100 {
			return "", sallyport.Errorf(sallyport.CodeInvalid, "deployment %s: %d percent of traffic is not within 0 and 100", id, weight)
		}
		sum += weight
		if _, err := p.find(id); err != nil {
			return "", err
		}
		route.Backends = append(route.Backends, proxy.Backend{Deployment: id, Socket: p.socket(id), Weight: weight})
	}
	if sum != 100 {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "environment %s: the shares of traffic are %d percent in sum, not 100", env.Name, sum)
	}
	if err := p.ensureProxy(ctx); err != nil {
		return "", err
	}
	route, err := p.proxy.Set(ctx, route)
	if err != nil {
		return "", fmt.Errorf("shift traffic: %w", err)
	}
	p.log.InfoContext(ctx, "traffic shifted", "environment", route.Key, "address", route.Address, "weights", weights)
	return "http://" + route.Address, nil
}

// Traffic returns the proxy's counters, zero when it was started anew since.
func (p *Process) Traffic(ctx context.Context, id sallyport.DeploymentID) (sallyport.Traffic, error) {
	if _, err := p.find(id); err != nil {
		return sallyport.Traffic{}, err
	}
	if !proxy.Configured(filepath.Join(p.cfg.Dir, proxyDir)) {
		return sallyport.Traffic{}, nil // nothing was ever shifted
	}
	if err := p.ensureProxy(ctx); err != nil {
		return sallyport.Traffic{}, err
	}
	report, err := p.proxy.Report(ctx, id)
	return report.Traffic, err
}

// Remove takes the instance off its route, drains and stops it, and removes
// all that it used. One that does not exist is removed already.
func (p *Process) Remove(ctx context.Context, d sallyport.Deployment) error {
	if err := checkID(d.ID); err != nil {
		return err
	}
	free, err := p.hold(ctx, d.ID)
	if err != nil {
		return err
	}
	defer free()
	if proxy.Configured(filepath.Join(p.cfg.Dir, proxyDir)) {
		if err := p.ensureProxy(ctx); err != nil {
			return err
		}
		left, err := p.proxy.Drain(ctx, d.ID, d.Spec.Drain)
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		if left > 0 {
			p.log.WarnContext(ctx, "requests cut at the end of the drain", "deployment", d.ID, "requests", left)
		}
	}
	home := p.home(d.ID)
	if _, err := os.Lstat(home); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := p.stopHost(ctx, d.ID); err != nil {
		return err
	}
	if err := p.sweep(ctx, d.ID); err != nil {
		return err
	}
	if err := os.Remove(p.socket(d.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove socket: %w", err)
	}
	if err := os.RemoveAll(home); err != nil {
		return fmt.Errorf("remove instance: %w", err)
	}
	p.log.InfoContext(ctx, "release removed", "deployment", d.ID)
	return nil
}

// List looks what instances there are, in the order of their ids.
func (p *Process) List(ctx context.Context) ([]sallyport.Instance, error) {
	entries, err := os.ReadDir(filepath.Join(p.cfg.Dir, releasesDir))
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var list []sallyport.Instance
	for _, e := range entries {
		id := sallyport.DeploymentID(e.Name())
		if checkID(id) != nil || !e.IsDir() {
			p.log.WarnContext(ctx, "foreign file among the instances", "name", e.Name())
			continue
		}
		in, err := p.instance(id)
		if err != nil {
			return nil, err
		}
		list = append(list, in)
	}
	return list, nil
}

func (p *Process) instance(id sallyport.DeploymentID) (sallyport.Instance, error) {
	in := sallyport.Instance{Deployment: id}
	alive, err := hostAlive(p.home(id))
	if err != nil {
		return in, err
	}
	state, err := readState(p.home(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return in, err
	}
	in.Isolation = state.Isolation
	switch {
	case state.Phase == sallyport.ReleaseEnded:
		in.Exit = state.Exit
	case alive:
		in.Running = true
	case state.Phase == "":
		in.Exit = "never started"
	default:
		in.Exit = "ended together with its host, which was killed"
	}
	return in, nil
}

// Log returns the end of the release's output, older output included.
func (p *Process) Log(_ context.Context, id sallyport.DeploymentID, max int64) ([]byte, error) {
	home, err := p.find(id)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(home, sallyport.ReleaseOutputFile)
	newest, err := tail(path, max)
	if err != nil || int64(len(newest)) >= max {
		return newest, err
	}
	older, err := tail(path+".1", max-int64(len(newest)))
	return append(older, newest...), err
}

// tail returns at most max bytes from the end of a file, none of one that does not exist.
func tail(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || max <= 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(io.NewSectionReader(f, fi.Size()-min(max, fi.Size()), max), max))
	if err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}
	return b, nil
}

// dialSocket connects to the release; addr is the instance's socket.
func dialSocket(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", socket)
}
