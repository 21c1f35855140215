package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Bounds of what may be set.
const (
	maxRoutes   = 1000 // environments on one host
	maxBackends = 16   // releases beside each other in one environment; two is the rule
	maxKey      = 160  // project id, '/', environment name
	maxSocket   = 107  // sockaddr_un, unix(7)
)

const (
	asideTime = time.Second           // a backend that could not be reached is passed over for this long
	drainPoll = 10 * time.Millisecond // how often a drain looks whether the last request ended
)

// Route is one environment: where it listens and who answers.
type Route struct {
	Key      string    `json:"key"`               // names the environment
	Listen   string    `json:"listen,omitempty"`  // as asked; "" = a free loopback port, picked once
	Address  string    `json:"address"`           // as bound; set by the proxy
	Backends []Backend `json:"backends"`          // may be empty: every request is answered 503
	Problem  string    `json:"problem,omitempty"` // why nothing listens now; set by the proxy
}

// Backend is one release behind a route.
type Backend struct {
	Deployment sallyport.DeploymentID `json:"deployment"`
	Socket     string                 `json:"socket"` // unix socket on which it speaks HTTP
	Weight     int                    `json:"weight"` // share of the requests; 0 = none
}

// Report is what the proxy saw of one deployment since its route last changed.
type Report struct {
	sallyport.Traffic
	Weight   int   `json:"weight"`
	InFlight int64 `json:"in_flight"`
}

func (r Route) check() error {
	if r.Key == "" || len(r.Key) > maxKey || !printable(r.Key) {
		return sallyport.Errorf(sallyport.CodeInvalid, "route key %.40q is not valid", r.Key)
	}
	if len(r.Backends) > maxBackends {
		return sallyport.Errorf(sallyport.CodeInvalid, "route %s has %d backends, more than %d", r.Key, len(r.Backends), maxBackends)
	}
	seen := make(map[sallyport.DeploymentID]bool, len(r.Backends))
	for _, b := range r.Backends {
		switch {
		case b.Deployment == "" || len(b.Deployment) > 64 || !printable(string(b.Deployment)) || seen[b.Deployment]:
			return sallyport.Errorf(sallyport.CodeInvalid, "route %s: deployment %.70q is empty, too long or named twice", r.Key, b.Deployment)
		case !filepath.IsAbs(b.Socket) || filepath.Clean(b.Socket) != b.Socket || len(b.Socket) > maxSocket:
			return sallyport.Errorf(sallyport.CodeInvalid, "route %s: the socket must be a clean absolute path of at most %d bytes", r.Key, maxSocket)
		case b.Weight < 0 || b.Weight > 100:
			return sallyport.Errorf(sallyport.CodeInvalid, "route %s: weight %d is not within 0 and 100", r.Key, b.Weight)
		}
		seen[b.Deployment] = true
	}
	return nil
}

func printable(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c <= ' ' || c > '~' })
}

// checkListen allows literal addresses only: a name would be resolved here and
// perhaps otherwise tomorrow.
func checkListen(addr string, public bool) error {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || ap.Addr().Zone() != "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "listen address %.60q is not of the form IP:PORT", addr).
			WithHint("write for example 127.0.0.1:8080, or leave listen out to get a free port")
	}
	if !ap.Addr().IsLoopback() && !public {
		return sallyport.Errorf(sallyport.CodeDenied, "listen address %s is not a loopback address", addr).
			WithHint("use 127.0.0.1, with a TLS proxy of your own in front; or let the operator open the host to the world")
	}
	return nil
}

func sameAddress(a, b string) bool {
	x, errA := netip.ParseAddrPort(a)
	y, errB := netip.ParseAddrPort(b)
	return errA == nil && errB == nil && y.Port() != 0 && x == y
}

func (r Route) same(o Route) bool {
	return r.Key == o.Key && r.Listen == o.Listen && r.Address == o.Address && slices.Equal(r.Backends, o.Backends)
}

func (r Route) names(id sallyport.DeploymentID) bool {
	return slices.ContainsFunc(r.Backends, func(b Backend) bool { return b.Deployment == id })
}

func (r Route) without(id sallyport.DeploymentID) Route {
	r.Backends = slices.DeleteFunc(slices.Clone(r.Backends), func(b Backend) bool { return b.Deployment == id })
	return r
}

// backend is a release to which requests can be sent.
type backend struct {
	deployment sallyport.DeploymentID
	socket     string
	route      string
	transport  *http.Transport
	counters   atomic.Pointer[counters] // since the route last changed
	inFlight   atomic.Int64

	// guarded by the route's mu
	weight, current int
	asideUntil      time.Time
}

func newBackend(b Backend, route string) *backend {
	be := &backend{deployment: b.Deployment, socket: b.Socket, route: route}
	be.counters.Store(new(counters))
	dialer := &net.Dialer{Timeout: dialTime}
	be.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", b.Socket)
		},
		DisableCompression:     true, // bytes pass as they are
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        backendIdleTime,
		ResponseHeaderTimeout:  answerTime,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerHeader,
		WriteBufferSize:        32 << 10,
		ReadBufferSize:         32 << 10,
	}
	return be
}

// route serves one environment.
type route struct {
	proxy  *Proxy
	key    string
	spec   Route        // guarded by Proxy.mu
	server *http.Server // guarded by Proxy.mu; nil while nothing listens

	handler http.Handler

	mu   sync.Mutex
	pool []*backend // weight > 0
}

func newRoute(p *Proxy, key string) *route {
	r := &route{proxy: p, key: key, spec: Route{Key: key}}
	r.handler = r.newHandler()
	return r
}

// address is where r listens once l, if any, has taken over.
func (r *route) address(l net.Listener) string {
	if l != nil {
		return l.Addr().String()
	}
	return r.spec.Address
}

// use replaces the pool. From its return on no request is sent to a backend
// that is not in it, and all that were are counted in flight.
func (r *route) use(pool []*backend, weights []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, b := range pool {
		b.weight, b.current = weights[i], 0
	}
	r.pool = pool
}

// pick chooses the backend of the next request, counts the request in flight
// there, and returns nil when there is none but not. Smooth weighted round
// robin: of every 100 requests each gets its percent, evenly spread. A backend
// that could not be reached lately is passed over while another is there.
func (r *route) pick(not *backend, now time.Time) *backend {
	r.mu.Lock()
	defer r.mu.Unlock()
	best := r.choose(func(b *backend) bool { return b != not && !now.Before(b.asideUntil) })
	if best == nil && not == nil {
		best = r.choose(func(*backend) bool { return true })
	}
	if best != nil {
		best.inFlight.Add(1)
	}
	return best
}

func (r *route) choose(fit func(*backend) bool) *backend {
	var best *backend
	total := 0
	for _, b := range r.pool {
		if !fit(b) {
			continue
		}
		b.current += b.weight
		total += b.weight
		if best == nil || b.current > best.current {
			best = b
		}
	}
	if best != nil {
		best.current -= total
	}
	return best
}

func (r *route) setAside(b *backend, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.asideUntil = now.Add(asideTime)
}

// serve starts r's server on l.
func (p *Proxy) serve(r *route, l net.Listener) {
	server := &http.Server{
		Handler:           r.handler,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       clientIdleTime,
		MaxHeaderBytes:    maxRequestHeader,
		ErrorLog:          quietLog(p.log),
	}
	r.server = server
	p.servers.Go(func() {
		err := server.Serve(newBounded(l, maxClients))
		if !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("listener ended", "route", r.key, "address", l.Addr().String(), "err", err)
		}
	})
}

// closeServer ends r's server in the background; requests in flight get grace.
func (p *Proxy) closeServer(r *route, grace time.Duration) {
	server := r.server
	if server == nil {
		return
	}
	r.server = nil
	p.servers.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // what is left is cut
		}
	})
}
