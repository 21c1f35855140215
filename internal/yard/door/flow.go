package door

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"

	sallyport "github.com/sallyport-ci/sallyport"
)

// relayBuffer is the most that is moved at a time: four of the room's packets.
const relayBuffer = 256 << 10

// flow is one connection of the room.
type flow struct {
	door     *Door
	step     int
	host     string // "" for the resolver
	port     int
	answer   Answer
	handler  http.Handler // of Config.Intercept
	room     *roomConn
	watch    *time.Timer
	started  time.Time
	active   atomic.Int64 // nanoseconds after started of the last byte
	sent     atomic.Int64
	received atomic.Int64
	over     sync.Once

	mu       sync.Mutex
	queue    *waiter.Queue // of the room's end, while it is being made
	up       net.Conn
	aborted  bool
	protocol string
	reason   string // of a refusal
}

// newFlow decides about a connection to an address and counts it in; nil: it is refused,
// and recorded as such.
func (d *Door) newFlow(addr netip.Addr, port int) *flow {
	f := &flow{door: d, step: d.cfg.Step(), host: d.names.host(addr), port: port, protocol: "tcp", started: time.Now()}
	if addr != resolverAddr {
		f.answer, f.handler = d.cfg.Rules.Connect(f.host, port), d.cfg.Intercept(f.host)
		if f.handler != nil && f.answer.open() && !f.answer.Intercept && port != 80 && port != 443 {
			f.handler = nil // a rule of its own lets this port through
		}
		if f.handler != nil && !f.answer.open() {
			f.answer = Answer{Decision: sallyport.EgressAllowed}
		}
		if !f.answer.open() {
			d.refused("tcp", f.host, "", port, f.answer.Reason)
			return nil
		}
	}
	if !d.enter(f) {
		d.refused("tcp", f.host, "", port, ReasonFlows)
		return nil
	}
	return f
}

// enter counts a flow in, unless there are too many or the door is shut.
func (d *Door) enter(f *flow) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut || len(d.flows) >= d.cfg.Limits.Flows {
		return false
	}
	d.flows[f] = struct{}{}
	d.wg.Add(1)
	return true
}

// end takes a flow out, closes what it has and records it. It may be called more than once.
func (f *flow) end() {
	f.over.Do(func() {
		d := f.door
		if f.watch != nil {
			f.watch.Stop()
		}
		f.abort()
		d.mu.Lock()
		delete(d.flows, f)
		d.mu.Unlock()
		if f.host != "" {
			f.mu.Lock()
			flow := sallyport.Flow{
				Step: f.step, Protocol: f.protocol, Host: f.host, Port: f.port, Decision: f.answer.Decision,
				Reason: f.answer.Reason, Rule: f.answer.Rule, Sent: f.sent.Load(), Received: f.received.Load(),
			}
			if f.reason != "" {
				flow.Decision, flow.Reason, flow.Rule = sallyport.EgressDenied, f.reason, ""
			}
			f.mu.Unlock()
			d.record.add(flow, d.cfg.Limits.Records)
		}
		d.wg.Done()
	})
}

// abort closes both ends, which ends whoever works on the flow.
func (f *flow) abort() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.aborted = true
	if f.queue != nil {
		f.queue.Notify(waiter.WritableEvents) // who waits for the handshake looks, and finds that it failed
	}
	if f.room != nil {
		f.room.close()
	}
	if f.up != nil {
		f.up.Close()
	}
}

// refuse notes why the flow ends; the first reason counts.
func (f *flow) refuse(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reason == "" {
		f.reason = reason
	}
}

func (f *flow) speaks(protocol string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.protocol = protocol
}

// serve looks at what the room speaks and lets it through, or not. The flow has ended when
// it returns, or ends when the HTTP server closes the connection.
func (f *flow) serve(c *roomConn) {
	c.flow = f
	f.mu.Lock()
	f.room, f.queue = c, nil
	if f.aborted {
		c.close()
	}
	f.mu.Unlock()
	f.watch = time.AfterFunc(f.door.cfg.Limits.Idle, f.checkIdle)
	d := f.door
	mustRead := f.handler != nil || f.answer.Intercept
	handed := false
	defer func() {
		if !handed {
			f.end()
		}
	}()
	if f.host == "" {
		d.resolveStream(c)
		return
	}
	if f.handler == nil {
		if stream := d.cfg.Streams(f.host, f.port); stream != nil {
			stream(c)
			return
		}
	}
	switch {
	case mustRead:
		handed = f.read(c)
	case f.port == 443:
		f.passTLS(c, f.dial())
	case f.port == 80:
		handed = f.read(c)
	default:
		handed = f.passOther(c)
	}
}

// checkIdle ends a flow that was silent for too long.
func (f *flow) checkIdle() {
	idle := f.door.cfg.Limits.Idle
	if silent := time.Since(f.started) - time.Duration(f.active.Load()); silent < idle {
		f.watch.Reset(idle - silent)
		return
	}
	f.abort()
}

// dialled is an upstream connection that is being made.
type dialled struct {
	done chan struct{}
	conn net.Conn
	err  error
}

// dial begins to connect upstream while the room still says what it is.
func (f *flow) dial() *dialled {
	u := &dialled{done: make(chan struct{})}
	f.door.wg.Go(func() {
		defer close(u.done)
		u.conn, u.err = f.door.cfg.Dialer.dial(f.door.ctx, f.host, f.port)
		if u.err != nil {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.up = u.conn; f.aborted {
			u.conn.Close()
		}
	})
	return u
}

// upstream waits for the connection. A refusal is noted.
func (f *flow) upstream(u *dialled) (net.Conn, bool) {
	<-u.done
	if u.err != nil {
		if errors.As(u.err, new(*RefusedError)) {
			f.refuse(ReasonPrivate)
		}
		f.room.ep.Abort() // as an unreachable server would
		return nil, false
	}
	return u.conn, true
}

// passTLS lets TLS through whose name is the flow's.
func (f *flow) passTLS(c *roomConn, u *dialled) {
	f.speaks("tls")
	hello, reason := readHello(c, f.door.cfg.Limits.Hello)
	if reason == "" {
		reason = hello.mismatch(f.host)
	}
	if reason == "" && hello.ech {
		reason = ReasonECH
	}
	if reason != "" {
		f.denyTLS(c, reason)
		return
	}
	if up, ok := f.upstream(u); ok {
		f.relay(c, up)
	}
}

// alertDenied is a fatal alert access_denied (RFC 8446, section 6.2): a client that was refused
// says so, instead of that the network broke.
var alertDenied = []byte{21, 3, 3, 0, 2, 2, 49}

func (f *flow) denyTLS(c *roomConn, reason string) {
	f.refuse(reason)
	if reason != ReasonNotTLS && reason != ReasonSlow {
		_, _ = c.Write(alertDenied)
	}
	c.drain()
}

// passOther lets through what a rule with another port allows: TLS with the right name, HTTP
// request by request, and else bytes. A server that speaks first, or a client that speaks neither, has no
// name to check.
func (f *flow) passOther(c *roomConn) (handed bool) {
	u := f.dial()
	up, ok := f.upstream(u)
	if !ok {
		return false
	}
	var spoke atomic.Bool
	down := make(chan struct{})
	f.door.wg.Go(func() {
		defer close(down)
		f.copy(c, up, &spoke)
	})
	first, err := c.peek(0)
	if err != nil || spoke.Load() || first != tlsHandshake && !startsHTTP(c) {
		f.copy(up, c, nil)
		<-down
		return false
	}
	if first == tlsHandshake {
		f.speaks("tls")
		hello, reason := readHello(c, f.door.cfg.Limits.Hello)
		if reason == "" {
			reason = hello.mismatch(f.host)
		}
		if reason == "" && hello.ech {
			reason = ReasonECH
		}
		if reason != "" {
			f.denyTLS(c, reason)
			f.abort()
		} else {
			f.copy(up, c, nil)
		}
		<-down
		return false
	}
	// Requests are read one by one, over connections of the proxy's own.
	c.holdOpen.Store(true)
	up.Close()
	<-down
	c.holdOpen.Store(false)
	if spoke.Load() {
		return false
	}
	return f.read(c)
}

// relay moves bytes both ways until both sides have ended.
func (f *flow) relay(c *roomConn, up net.Conn) {
	var down sync.WaitGroup
	down.Go(func() { f.copy(c, up, nil) })
	f.copy(up, c, nil)
	down.Wait()
}

// halfCloser is a connection whose directions end apart.
type halfCloser interface{ CloseWrite() error }

// copy moves bytes in one direction. At its end it closes that direction; after an error
// both.
func (f *flow) copy(to io.Writer, from io.Reader, spoke *atomic.Bool) {
	buf := f.door.buffer.Get().(*[relayBuffer]byte)
	defer f.door.buffer.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			if spoke != nil {
				spoke.Store(true)
			}
			if _, werr := to.Write(buf[:n]); werr != nil {
				f.abort()
				return
			}
		}
		switch {
		case err == nil:
			continue
		case f.room.holdOpen.Load():
		case err == io.EOF:
			if h, ok := to.(halfCloser); ok {
				_ = h.CloseWrite() // a broken connection is the peers' affair
			}
		default:
			f.room.ep.Abort()
			f.abort()
		}
		return
	}
}

// roomConn is the room's end of a flow. It counts bytes and remembers what was looked at.
type roomConn struct {
	*gonet.TCPConn
	ep       tcpip.Endpoint
	flow     *flow
	ahead    []byte // read before, to be read again
	holdOpen atomic.Bool
}

func newRoomConn(queue *waiter.Queue, ep tcpip.Endpoint) *roomConn {
	return &roomConn{TCPConn: gonet.NewTCPConn(queue, ep), ep: ep}
}

// errBudget ends a connection of a job that has moved all that it may.
var errBudget = errors.New("the job has sent and received all that it may")

// Read implements net.Conn.
func (c *roomConn) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	n, err := c.TCPConn.Read(b)
	if n > 0 {
		if !c.moved(&c.flow.sent, n) {
			return 0, errBudget
		}
	}
	return n, err
}

// Write implements net.Conn.
func (c *roomConn) Write(b []byte) (int, error) {
	if !c.moved(&c.flow.received, len(b)) {
		return 0, errBudget
	}
	return c.TCPConn.Write(b)
}

func (c *roomConn) moved(count *atomic.Int64, n int) bool {
	count.Add(int64(n))
	c.flow.active.Store(int64(time.Since(c.flow.started)))
	if c.flow.door.budget.spend(n) {
		return true
	}
	c.flow.refuse(ReasonBytes)
	return false
}

// Close implements net.Conn and ends the flow.
func (c *roomConn) Close() error {
	c.flow.end()
	return nil
}

// close lets go of the connection and of whoever waits for it.
func (c *roomConn) close() {
	_ = c.TCPConn.SetDeadline(time.Unix(1, 0))
	_ = c.TCPConn.Close()
}

// drain says that nothing more comes and takes what is still on its way for a moment, so
// that the last word is not lost in a reset.
func (c *roomConn) drain() {
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, c, 64<<10)
}

// peek returns the first byte without taking it. A wait of zero has no end but the flow's.
func (c *roomConn) peek(wait time.Duration) (byte, error) {
	if wait > 0 {
		_ = c.SetReadDeadline(time.Now().Add(wait))
		defer c.SetReadDeadline(time.Time{})
	}
	buf := make([]byte, 2048)
	n, err := c.Read(buf)
	if n == 0 {
		return 0, err
	}
	c.ahead = append(buf[:n:n], c.ahead...)
	return buf[0], nil
}
