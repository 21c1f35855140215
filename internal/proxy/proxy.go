// Package proxy serves the traffic of environments: a weighted HTTP reverse
// proxy in front of the releases that run on this host.
//
// It runs as a process of its own ("sallyport proxy"), so that traffic flows
// on while the control plane is restarted or upgraded. It decides nothing: the
// target sets routes and reads counters over a unix socket (see Client), and
// the proxy keeps the routes in a file, so that after a crash it serves the same
// again before anybody asks. It is not an ingress for the world: it speaks
// HTTP/1.1 without TLS, by default on loopback alone.
//
// Called by the cli (Run) and by the target (Client). It knows only the root.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Names of the files in the proxy's directory.
const (
	socketFile = "ctl"         // the control socket, 0600
	routesFile = "routes.json" // the routes as last set
	lockFile   = "lock"        // flock(2) held while the proxy lives
)

// Protocol is the version of the control protocol. The proxy may be older than
// the control plane that speaks to it.
const Protocol = 1

const (
	rebindEvery  = time.Second      // how often an address that was in use at start is tried again
	shutdownTime = 10 * time.Second // for requests in flight when the proxy is told to stop
)

// Config of a proxy. Dir and Log are needed.
type Config struct {
	Dir string // its own directory, 0700; made when missing
	Log *slog.Logger
	// Public allows environments to listen beyond loopback. The declaration
	// stands in a repository; whether this host is open to the world is the
	// operator's word.
	Public bool
}

// Proxy is the running state.
type Proxy struct {
	dir    string
	public bool
	log    *slog.Logger
	now    func() time.Time
	start  time.Time

	mu       sync.Mutex // guards all below, and the order of changes
	routes   map[string]*route
	backends map[sallyport.DeploymentID]*backend // also those being drained
	closed   bool

	servers sync.WaitGroup // one per listener, and its shutdown
	stop    context.CancelFunc
}

// Run serves until ctx ends, the process gets SIGTERM, or a client says stop.
// It returns CodeConflict when another proxy serves from the same directory.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Dir == "" || cfg.Log == nil {
		return errors.New("proxy: Dir and Log are needed")
	}
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer cancel()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make proxy directory: %w", err)
	}
	lock, err := takeLock(filepath.Join(cfg.Dir, lockFile))
	if err != nil {
		return err
	}
	defer lock.Close()

	p := newProxy(cfg)
	ctx, p.stop = context.WithCancel(ctx)
	defer p.stop()
	if err := p.restore(); err != nil {
		return err
	}
	defer p.shutdown()
	control, err := listenControl(filepath.Join(cfg.Dir, socketFile))
	if err != nil {
		return err
	}
	p.log.InfoContext(ctx, "proxy started", "routes", len(p.routes), "pid", os.Getpid())
	p.serveControl(ctx, control)
	p.log.InfoContext(context.WithoutCancel(ctx), "proxy stopped", "pid", os.Getpid())
	return nil
}

func newProxy(cfg Config) *Proxy {
	return &Proxy{
		dir: cfg.Dir, public: cfg.Public, log: cfg.Log, now: time.Now, start: time.Now(),
		routes: make(map[string]*route), backends: make(map[sallyport.DeploymentID]*backend),
		stop: func() {},
	}
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, sallyport.Errorf(sallyport.CodeConflict, "another proxy serves from this directory").
				WithHint("stop it first, or use another directory")
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

// shutdown ends all listeners; requests in flight get shutdownTime.
func (p *Proxy) shutdown() {
	p.mu.Lock()
	p.closed = true
	for _, r := range p.routes {
		p.closeServer(r, shutdownTime)
	}
	p.mu.Unlock()
	p.servers.Wait()
}

// set makes want the route of its key: all of it, or nothing. Weights take
// effect for the next request; backends that are left out get none from then on.
func (p *Proxy) set(want Route) (Route, error) {
	if err := want.check(); err != nil {
		return Route{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Route{}, sallyport.Errorf(sallyport.CodeUnavailable, "the proxy is stopping")
	}
	for _, b := range want.Backends {
		if old := p.backends[b.Deployment]; old != nil && old.route != want.Key {
			return Route{}, sallyport.Errorf(sallyport.CodeConflict, "deployment %s is already behind route %s", b.Deployment, old.route)
		}
	}
	r := p.routes[want.Key]
	if r == nil {
		if len(p.routes) >= maxRoutes {
			return Route{}, sallyport.Errorf(sallyport.CodeUnavailable, "the proxy serves %d routes already, which is its limit", maxRoutes)
		}
		r = newRoute(p, want.Key)
	}
	ask := want.Listen
	if ask == "" {
		ask = r.spec.Address // picked once, kept
	}
	listener, err := p.listen(r, ask)
	if err != nil {
		return Route{}, err
	}
	want.Address, want.Problem = r.address(listener), ""
	changed := !want.same(r.spec)
	if changed {
		if err := p.save(want); err != nil {
			if listener != nil {
				listener.Close()
			}
			return Route{}, err
		}
	}
	if listener != nil {
		p.closeServer(r, shutdownTime)
		p.serve(r, listener)
	}
	p.routes[want.Key] = r
	if changed {
		p.adopt(r, want)
	}
	return want, nil
}

// adopt makes spec's backends the ones that r sends requests to; counters start anew.
func (p *Proxy) adopt(r *route, spec Route) {
	pool := make([]*backend, 0, len(spec.Backends))
	weights := make([]int, 0, len(spec.Backends))
	for _, b := range spec.Backends {
		be := p.backends[b.Deployment]
		if be == nil || be.socket != b.Socket { // another socket: the directories were moved
			be = newBackend(b, spec.Key)
			p.backends[b.Deployment] = be
		}
		be.counters.Store(new(counters))
		if b.Weight > 0 {
			pool = append(pool, be)
			weights = append(weights, b.Weight)
		}
	}
	r.spec = spec
	r.use(pool, weights)
	p.forget()
}

// forget drops backends that no route names and no request uses.
func (p *Proxy) forget() {
	named := make(map[sallyport.DeploymentID]bool)
	for _, r := range p.routes {
		for _, b := range r.spec.Backends {
			named[b.Deployment] = true
		}
	}
	for id, b := range p.backends {
		if !named[id] && b.inFlight.Load() == 0 {
			b.transport.CloseIdleConnections()
			delete(p.backends, id)
		}
	}
}

// listen returns a listener for addr, nil when r listens there already.
func (p *Proxy) listen(r *route, addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	if err := checkListen(addr, p.public); err != nil {
		return nil, err
	}
	if r.server != nil && sameAddress(r.spec.Address, addr) {
		return nil, nil
	}
	for key, other := range p.routes {
		if key != r.key && other.spec.Address != "" && sameAddress(other.spec.Address, addr) {
			return nil, sallyport.Errorf(sallyport.CodeConflict, "address %s belongs to environment %s", addr, key).
				WithHint("set another listen address, or leave listen out to get a free one")
		}
	}
	l, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, sallyport.Errorf(sallyport.CodeConflict, "address %s is in use by another program", addr).
			WithHint("stop that program, or set another listen address for the environment")
	case errors.Is(err, os.ErrPermission):
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "address %s may not be used by this account", addr).
			WithHint("use a port from 1024 on")
	default:
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "address %s cannot be used on this host", addr).
			WithHint("use an address of this host, for example 127.0.0.1:8080")
	}
}

// drain takes the deployment's weight away and waits until no request uses it,
// at most wait or until ctx ends. It returns how many are still in flight.
func (p *Proxy) drain(ctx context.Context, id sallyport.DeploymentID, wait time.Duration) (int64, error) {
	b, err := p.remove(id)
	if err != nil || b == nil {
		return 0, err
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for b.inFlight.Load() > 0 {
		select {
		case <-tick.C:
		case <-deadline.C:
			return b.inFlight.Load(), nil
		case <-ctx.Done():
			return b.inFlight.Load(), nil
		}
	}
	p.mu.Lock()
	p.forget()
	p.mu.Unlock()
	return 0, nil
}

// remove takes the deployment off its route, for good. nil means unknown.
func (p *Proxy) remove(id sallyport.DeploymentID) (*backend, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.backends[id]
	if b == nil {
		return nil, nil
	}
	r := p.routes[b.route]
	if r == nil || !r.spec.names(id) {
		return b, nil
	}
	spec := r.spec.without(id)
	if err := p.save(spec); err != nil {
		return nil, err
	}
	pool, weights := []*backend{}, []int{}
	for _, left := range spec.Backends {
		if left.Weight > 0 {
			pool, weights = append(pool, p.backends[left.Deployment]), append(weights, left.Weight)
		}
	}
	r.spec = spec
	r.use(pool, weights)
	return b, nil
}

// report returns what was seen of a deployment; zero for one that is unknown.
func (p *Proxy) report(id sallyport.DeploymentID) Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.backends[id]
	if b == nil {
		return Report{}
	}
	rep := Report{Traffic: b.counters.Load().traffic(), InFlight: b.inFlight.Load()}
	if r := p.routes[b.route]; r != nil {
		for _, named := range r.spec.Backends {
			if named.Deployment == id {
				rep.Weight = named.Weight
			}
		}
	}
	return rep
}
