package door

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Dialer connects to hosts outside for rooms. It looks names up itself, and connects to the
// addresses that it has looked at and to no others. An address that is not one of the public
// Internet, or is this machine's own, is refused unless the operator named it. The zero value
// is ready for use and refuses all of these. All doors of a runner share one: it also bounds
// the requests that they have under way together.
type Dialer struct {
	// Private is what the operator named.
	Private Private
	// Lookup finds the addresses of a host; nil: the host's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu    sync.Mutex
	known map[string]found
	own   map[netip.Addr]bool
	ownAt time.Time

	requests atomic.Int64 // under way, of all doors
}

// found is what a lookup brought.
type found struct {
	addrs []netip.Addr
	at    time.Time
}

const (
	// lookupAge is how long a lookup is believed: a burst of connections asks once.
	lookupAge = 30 * time.Second
	maxKnown  = 4096
	// dialTimeout is for one address.
	dialTimeout = 10 * time.Second
	maxAddrs    = 8 // of a host are tried
	// maxRequests are under way at a time, of all doors together; each may hold two descriptors.
	maxRequests = 8192
)

// RefusedError says that a host has no address that jobs may reach.
type RefusedError struct {
	Host string
	Addr netip.Addr // the first that was refused
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s stands for %s, which is not an address of the public Internet", e.Host, e.Addr)
}

// DialContext connects to HOST:PORT over TCP; it fits http.Transport.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("dial %s %s: not an address of TCP", network, address)
	}
	return d.dial(ctx, host, int(n))
}

func (d *Dialer) dial(ctx context.Context, host string, port int) (net.Conn, error) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	addrs, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addrs {
		dialer := net.Dialer{Timeout: dialTimeout}
		c, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(a, uint16(port)).String())
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// lookup returns the addresses of a host that may be reached.
func (d *Dialer) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if pinned, ok := d.Private.Hosts[host]; ok && len(pinned) > 0 {
		return pinned, nil
	}
	d.mu.Lock()
	f, ok := d.known[host]
	d.mu.Unlock()
	if !ok || time.Since(f.at) > lookupAge {
		addrs, err := d.ask(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", host, err)
		}
		f = found{addrs[:min(len(addrs), maxAddrs)], time.Now()}
		d.mu.Lock()
		if d.known == nil || len(d.known) >= maxKnown {
			d.known = make(map[string]found)
		}
		d.known[host] = f
		d.mu.Unlock()
	}
	_, named := d.Private.Hosts[host]
	var may []netip.Addr
	refused := &RefusedError{Host: host}
	for _, a := range f.addrs {
		a = a.Unmap().WithZone("")
		if named || d.Private.contains(a) || public(a) && !d.isOwn(a) {
			may = append(may, a)
		} else if !refused.Addr.IsValid() {
			refused.Addr = a
		}
	}
	if len(may) == 0 {
		return nil, refused
	}
	return may, nil
}

func (d *Dialer) ask(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if d.Lookup != nil {
		return d.Lookup(ctx, host)
	}
	if _, named := d.Private.Hosts[host]; !named {
		host += "." // rules name whole names: this machine's search domains are not for jobs
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// isOwn tells whether an address is this machine's, on which the control plane may listen.
func (d *Dialer) isOwn(a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.own == nil || time.Since(d.ownAt) > lookupAge {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return true
		}
		d.own, d.ownAt = make(map[netip.Addr]bool), time.Now()
		for _, n := range addrs {
			if p, err := netip.ParsePrefix(n.String()); err == nil {
				d.own[p.Addr().Unmap()] = true
			}
		}
	}
	return d.own[a]
}

// Transport sends requests by the dialer. It verifies servers by roots (nil: the host's),
// follows no redirect and knows no proxy: one
// would look names up itself, and the address that it then connects to could not be judged.
func (d *Dialer) Transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext: d.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, DisableCompression: true,
		MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: 32, MaxIdleConns: 256, IdleConnTimeout: keepAlive,
		TLSHandshakeTimeout: dialTimeout, ExpectContinueTimeout: time.Second,
		MaxResponseHeaderBytes: maxResponseHeader,
		WriteBufferSize:        32 << 10, ReadBufferSize: 64 << 10,
	}
}

// Private is what an operator lets rules reach although it is not public.
type Private struct {
	Nets []netip.Prefix
	// Hosts are names whose addresses may be any; with addresses they are these and not looked up.
	Hosts map[string][]netip.Addr
}

// ParsePrivate reads what an operator writes: CIDR, ADDRESS, HOST or HOST=ADDRESS.
func ParsePrivate(words []string) (Private, error) {
	p := Private{Hosts: make(map[string][]netip.Addr)}
	for _, w := range words {
		if n, err := netip.ParsePrefix(w); err == nil {
			p.Nets = append(p.Nets, n.Masked())
			continue
		}
		if a, err := netip.ParseAddr(w); err == nil {
			p.Nets = append(p.Nets, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		name, addr, pinned := strings.Cut(w, "=")
		host, ok := canonical(name)
		if !ok {
			return Private{}, badPrivate(w)
		}
		if _, known := p.Hosts[host]; !known {
			p.Hosts[host] = nil
		}
		if pinned {
			a, err := netip.ParseAddr(addr)
			if err != nil {
				return Private{}, badPrivate(w)
			}
			p.Hosts[host] = append(p.Hosts[host], a.Unmap())
		}
	}
	return p, nil
}

func badPrivate(w string) error {
	return sallyport.Errorf(sallyport.CodeInvalid, "%.100q names no private address", w).
		WithHint("write CIDR, ADDRESS, HOST or HOST=ADDRESS, such as 10.1.0.0/16 or db.internal=10.1.2.3")
}

func (p Private) contains(a netip.Addr) bool {
	for _, n := range p.Nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// public tells whether an address, unmapped and without zone, is one of the public Internet.
func public(a netip.Addr) bool {
	if !a.IsValid() || a.Is4In6() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
		return false
	}
	if a.Is6() && !globalIPv6.Contains(a) {
		return false // among others fd00::/8 and the addresses of NAT64, which hide one of IPv4
	}
	for _, n := range notPublic {
		if n.Contains(a) {
			return false
		}
	}
	return true
}

var (
	globalIPv6 = netip.MustParsePrefix("2000::/3")
	// notPublic are the ranges of the registries of special-purpose addresses (RFC 6890) that
	// netip does not know, and a metadata service on an address that looks public.
	notPublic = [...]netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("168.63.129.16/32"),                                  // Azure's
		netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), // Teredo and others; documentation
		netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"), // 6to4; documentation
	}
)

func addrPort(a netip.Addr, port int) netip.AddrPort { return netip.AddrPortFrom(a, uint16(port)) }
