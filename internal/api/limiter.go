package api

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

const (
	// Bad credentials that one address may send: a person who mistypes is not
	// stopped, and a guesser cannot fill the audit trail.
	badPerSecond = 0.5
	badBurst     = 20
	// Addresses that are remembered; the one seen longest ago is forgotten first.
	maxRemotes = 4096
)

// limiter counts by remote address, in bounded memory.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex
	remotes *simplelru.LRU[string, *rate.Limiter]
}

func newLimiter(now func() time.Time) *limiter {
	remotes, err := simplelru.NewLRU[string, *rate.Limiter](maxRemotes, nil)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &limiter{now: now, remotes: remotes}
}

// take counts one event of the address; above the limit it returns how long
// until the next may come.
func (l *limiter) take(remote string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	lim, ok := l.remotes.Get(remote)
	if !ok {
		lim = rate.NewLimiter(badPerSecond, badBurst)
		l.remotes.Add(remote, lim)
	}
	now := l.now()
	if lim.AllowN(now, 1) {
		return 0
	}
	return time.Duration((1 - lim.TokensAt(now)) / badPerSecond * float64(time.Second))
}

// remote returns whom a request is counted for: an address, or for IPv6 its
// network, within which addresses cost nothing.
func remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "local" // a unix socket has no address
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap(); ip.Is6() {
		if net, err := ip.WithZone("").Prefix(64); err == nil {
			return net.String()
		}
	}
	return ip.String()
}
