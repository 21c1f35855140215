package door

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Rules say what one job may reach. Hosts are DNS names in lower case and ASCII,
// without a last dot. The methods are called by many goroutines.
type Rules interface {
	// Name answers for a question for a name: whether the job may reach it at any port.
	Name(host string) Answer
	// Connect answers for a connection.
	Connect(host string, port int) Answer
	// Request answers for one HTTP request. The path is as it is sent, without its query.
	Request(host string, port int, method, escapedPath string) Answer
}

// Answer is what rules say.
type Answer struct {
	Decision sallyport.EgressDecision // observed: no rule allows it, and it may go on
	Reason   string                   // unless allowed
	Rule     string                   // what allows it
	// Intercept: requests have to be read, and Request be asked for each.
	Intercept bool
}

func (a Answer) open() bool {
	return a.Decision == sallyport.EgressAllowed || a.Decision == sallyport.EgressObserved
}

// Config of a Door. Rules and Dialer are needed.
type Config struct {
	Rules  Rules
	Dialer *Dialer
	// Intercept, when set, is asked for the handler of requests to a host. Where it returns one, the
	// host may be asked for, the door ends TLS for it with a certificate of its own authority,
	// and hands over each request whose Host is that host, also those of plain HTTP. The
	// handler answers for what it lets through: Rules are not asked.
	Intercept func(host string) http.Handler
	// Streams, when set, is asked for who serves connections of other protocols that Rules
	// allow. What it returns is called with the room's end of the connection and returns when it has ended.
	Streams func(host string, port int) func(net.Conn)
	// Notice, when set, is told the first of each kind of what was refused or observed.
	// It must return soon.
	Notice func(sallyport.Flow)
	// Step is the number of the step that runs now, 0 for none or several. Nil: 0.
	Step func() int
	// Roots verify upstream servers where the door reads the requests; nil: the host's.
	Roots  *x509.CertPool
	Limits Limits
	Clock  func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: silence
}

// Addresses that all doors have: the room's, the resolver's, and those of names. The network is
// reserved for tests of network devices (RFC 2544), so that nobody has a host there.
var (
	roomAddr     = netip.AddrFrom4([4]byte{198, 18, 0, 2})
	resolverAddr = netip.AddrFrom4([4]byte{198, 18, 0, 1})
)

// Door is the way out of the rooms of one job.
type Door struct {
	cfg    Config
	names  names
	record record
	budget budget
	ca     authority
	proxy  *proxy

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	shut   bool
	links  map[*link]struct{}
	flows  map[*flow]struct{}
	buffer sync.Pool // of relays
}

// Open makes a door. It costs next to nothing until a room's first packet. Close
// must be called.
func Open(c Config) (*Door, error) {
	if c.Rules == nil || c.Dialer == nil {
		return nil, errors.New("door: rules and a dialer are needed")
	}
	if c.Step == nil {
		c.Step = func() int { return 0 }
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Intercept == nil {
		c.Intercept = func(string) http.Handler { return nil }
	}
	if c.Streams == nil {
		c.Streams = func(string, int) func(net.Conn) { return nil }
	}
	c.Limits = c.Limits.withDefaults()
	d := &Door{cfg: c, flows: make(map[*flow]struct{}), links: make(map[*link]struct{})}
	d.buffer.New = func() any { return new([relayBuffer]byte) }
	d.record.notice, d.record.clock = c.Notice, c.Clock
	d.budget.limits = c.Limits
	d.ca.clock = c.Clock
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.proxy = newProxy(d)
	return d, nil
}

// Uplink is for the RoomSpec of one room that shall have this door. release lets go of the
// room when it is gone; Close does so too.
func (d *Door) Uplink() (up *sallyport.Uplink, release func()) {
	var n *link
	attach := func(l sallyport.Link) (err error) {
		n, err = d.attach(l)
		return err
	}
	return &sallyport.Uplink{Addr: roomAddr, Resolver: resolverAddr, Attach: attach}, func() {
		if n != nil {
			d.detach(n)
		}
	}
}

// attach takes the far end of a room's uplink. After Close it refuses.
func (d *Door) attach(l sallyport.Link) (*link, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "the job's door is closed")
	}
	n, err := newLink(d, l)
	if err != nil {
		return nil, err
	}
	d.links[n] = struct{}{}
	d.wg.Go(func() {
		defer close(n.gone)
		d.guard("packet", n.serve)
	})
	return n, nil
}

func (d *Door) detach(n *link) {
	n.file.Close()
	<-n.gone
	n.release()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.links, n)
}

// Certificate is the certificate, in PEM, of the authority by which the door ends TLS. It
// is this job's alone, and its key is in this process's memory.
func (d *Door) Certificate() ([]byte, error) { return d.ca.certificate() }

// ServerTLS ends TLS of other protocols than HTTP, with a certificate for the name that
// the client wants.
func (d *Door) ServerTLS() *tls.Config {
	return &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		host, ok := canonical(h.ServerName)
		if !ok || !d.mayAsk(host).open() {
			return nil, errors.New("the client names no host that it may reach")
		}
		return d.ca.leaf(host)
	}}
}

// Plain serves requests by the Rules alone. It is for a handler of Config.Intercept that
// leaves a request as it is, and takes what that was given.
func (d *Door) Plain() http.Handler { return http.HandlerFunc(d.proxy.judge) }

// Take returns what passed or was refused since it was last called, and how much was not
// kept. A connection is in it when it has ended: after Close all are.
func (d *Door) Take() (flows []sallyport.Flow, lost int) { return d.record.take() }

// Close ends every connection and returns when nothing of the door is left. It may be called
// more than once.
func (d *Door) Close() error {
	d.shutDown()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.wg.Wait()
	}()
	for waiting := true; waiting; {
		select {
		case <-ended:
			waiting = false
		case <-time.After(20 * time.Millisecond):
			d.abort() // a handshake that was about to begin has not heard the first one
		}
	}
	d.mu.Lock()
	links := slices.Collect(maps.Keys(d.links)) // nobody adds one any more
	d.mu.Unlock()
	for _, n := range links {
		d.detach(n)
	}
	d.proxy.close()
	return nil
}

// shutDown closes what others wait on, and waits for nobody.
func (d *Door) shutDown() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return
	}
	d.shut = true
	d.stop()
	for l := range d.links {
		l.file.Close()
	}
	for f := range d.flows {
		f.abort()
	}
}

// abort ends the flows that there are.
func (d *Door) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for f := range d.flows {
		f.abort()
	}
}

// guard runs part of the door. A panic shuts the door, since nobody knows any more what it
// would let through.
func (d *Door) guard(what string, run func()) {
	defer func() {
		if p := recover(); p != nil {
			d.cfg.Log.Error("door panicked and was shut", "part", what, "panic", p, "stack", string(debug.Stack()))
			d.shutDown()
		}
	}()
	run()
}

// Limits bound what one job may use of its door; zero means the default in parentheses.
type Limits struct {
	Flows     int           // connections at a time (1024)
	Requests  int           // of all connections together that are being answered at a time (512)
	Bytes     int64         // of all connections together, both ways (1 TiB)
	Questions int64         // for names (200,000)
	Names     int           // that may have an address (16384, at most 65536)
	Records   int           // kinds of flows that are kept (4096)
	Hello     time.Duration // for a connection to say what it is (10 s)
	Idle      time.Duration // that a connection may be silent (10 min)
}

func (l Limits) withDefaults() Limits {
	pick := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	pick(&l.Flows, 1024)
	pick(&l.Requests, 512)
	pick(&l.Names, 16384)
	l.Names = min(l.Names, 65536)
	pick(&l.Records, 4096)
	if l.Bytes <= 0 {
		l.Bytes = 1 << 40
	}
	if l.Questions <= 0 {
		l.Questions = 200_000
	}
	if l.Hello <= 0 {
		l.Hello = 10 * time.Second
	}
	if l.Idle <= 0 {
		l.Idle = 10 * time.Minute
	}
	return l
}

// budget counts what a job has used.
type budget struct {
	limits    Limits
	bytes     atomic.Int64
	questions atomic.Int64
}

// spend takes n bytes and reports whether there were as many.
func (b *budget) spend(n int) bool { return b.bytes.Add(int64(n)) <= b.limits.Bytes }

func (b *budget) ask() bool { return b.questions.Add(1) <= b.limits.Questions }
