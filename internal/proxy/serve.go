package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Bounds towards clients and releases; both are foreign.
const (
	headerTime       = 10 * time.Second // for a request's header to arrive: no slow loris
	stallTime        = time.Minute      // for the next piece of a body, in either direction
	clientIdleTime   = time.Minute
	maxRequestHeader = 64 << 10
	maxClients       = 4096 // connections to one environment at a time; more wait in the kernel's queue

	dialTime        = 3 * time.Second
	answerTime      = 2 * time.Minute // for the header of the answer; bodies may stream for ever
	maxAnswerHeader = 256 << 10
	maxIdle         = 128
	// backendIdleTime is shorter than any common server's own keep-alive time, so
	// that a request is hardly ever sent into a connection that is being closed.
	backendIdleTime = 3 * time.Second
	maxTries        = 3 // backends asked for one request
	bufferSize      = 32 << 10
)

// Reasons in the proxy's own answers: stable words for programs.
const (
	reasonNoRelease   = "no_release"          // 503: no release takes traffic
	reasonUnreachable = "release_unreachable" // 502: it did not answer
	reasonTimeout     = "release_timeout"     // 504: it took too long
	reasonMethod      = "method_not_allowed"  // 405: CONNECT
	reasonRequest     = "request_broken"      // 400: the body is not framed as HTTP wants it
)

const reasonHeader = "Sallyport-Reason"

var errNoRelease = errors.New("no release takes traffic")

// exchange is one request on its way.
type exchange struct {
	client  *http.ResponseController
	backend *backend  // the last one asked
	seen    *counters // of backend, when the request was sent
	// broken says that the client's body could not be read: what fails then is
	// not the release's fault. Written by the goroutine that sends the body.
	broken atomic.Bool
}

type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange {
	ex, _ := r.Context().Value(exchangeKey{}).(*exchange)
	return ex
}

// newHandler returns what serves r's clients.
func (r *route) newHandler() http.Handler {
	forward := &httputil.ReverseProxy{
		Transport:  r,
		BufferPool: newBuffers(),
		ErrorLog:   quietLog(r.proxy.log),
		// Rewrite strips hop-by-hop headers and whatever Forwarded and X-Forwarded-*
		// headers the client sent; what the release reads is the proxy's word.
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = "http", "release"
			pr.Out.Host = pr.In.Host
			pr.SetXForwarded()
		},
		ModifyResponse: watchBody,
		ErrorHandler:   r.refuse,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodConnect {
			answer(w, http.StatusMethodNotAllowed, reasonMethod, "this is not a forward proxy")
			return
		}
		ex := &exchange{client: http.NewResponseController(w)}
		defer func() { // also when the client's connection is aborted by panic
			if ex.backend != nil {
				ex.backend.inFlight.Add(-1)
			}
		}()
		_ = ex.client.SetWriteDeadline(time.Time{}) // of the request before
		req = req.WithContext(context.WithValue(req.Context(), exchangeKey{}, ex))
		if req.Body != nil && req.Body != http.NoBody {
			req.Body = &upload{ReadCloser: req.Body, ex: ex}
		}
		forward.ServeHTTP(w, req)
	})
}

// RoundTrip sends req to the backend whose turn it is. Only when that could
// not be reached, and req may be repeated without harm (RFC 9110, 9.2.2),
// another is asked.
func (r *route) RoundTrip(req *http.Request) (*http.Response, error) {
	ex := exchangeOf(req)
	var failed error
	for range maxTries {
		now := r.proxy.now()
		b := r.pick(ex.backend, now)
		if b == nil {
			if failed == nil {
				failed = errNoRelease
			}
			return nil, failed
		}
		if ex.backend != nil {
			ex.backend.inFlight.Add(-1)
		}
		ex.backend, ex.seen = b, b.counters.Load()
		resp, err := b.transport.RoundTrip(req)
		if err == nil {
			ex.seen.answered(r.proxy.now().Sub(now), resp.StatusCode >= 500)
			return resp, nil
		}
		if req.Context().Err() != nil || ex.broken.Load() {
			return nil, err // the client's doing
		}
		ex.seen.unanswered()
		failed = err
		if !unreachable(err) {
			return nil, err
		}
		r.setAside(b, now)
		if !repeatable(req) {
			return nil, err
		}
	}
	return nil, failed
}

// unreachable reports whether the release gave no answer at all. The sandbox's
// socket accepts also while nothing listens in the room, and closes then.
func unreachable(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	if err.Error() == closedUnused {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// closedUnused is what net/http's Transport says of a connection that the other side closed before a
// request was on its way over it; it has no error value for that. TestUnreachableBackendIsPassedOver fails now and then
// where the words have changed.
const closedUnused = "http: server closed idle connection"

func repeatable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody {
		return false
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	default:
		return false
	}
}

// refuse answers a request for which no release did.
func (r *route) refuse(w http.ResponseWriter, req *http.Request, err error) {
	ex := exchangeOf(req)
	_ = ex.client.SetWriteDeadline(r.proxy.now().Add(stallTime))
	var timeout net.Error
	switch {
	case req.Context().Err() != nil: // nobody listens any more
		panic(http.ErrAbortHandler)
	case ex.broken.Load():
		w.Header().Set("Connection", "close")
		answer(w, http.StatusBadRequest, reasonRequest, "the request's body cannot be read")
	case errors.Is(err, errNoRelease):
		answer(w, http.StatusServiceUnavailable, reasonNoRelease, "no release takes traffic here now")
	case errors.As(err, &timeout) && timeout.Timeout():
		answer(w, http.StatusGatewayTimeout, reasonTimeout, "the release took too long to answer")
	default:
		answer(w, http.StatusBadGateway, reasonUnreachable, "the release did not answer")
	}
	if ex.backend != nil {
		r.proxy.log.DebugContext(req.Context(), "request not answered", "route", r.key, "deployment", ex.backend.deployment, "err", err)
	}
}

func answer(w http.ResponseWriter, status int, reason, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set(reasonHeader, reason)
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "%d %s: %s (%s)\n", status, http.StatusText(status), text, reason)
}

// watchBody lets each piece of an answer reach the client within stallTime, and
// counts an answer that breaks off as an error.
func watchBody(resp *http.Response) error {
	ex := exchangeOf(resp.Request)
	_ = ex.client.SetWriteDeadline(time.Now().Add(stallTime))
	if resp.StatusCode == http.StatusSwitchingProtocols { // the connection itself is handed over
		ex.seen.whole()
	} else {
		resp.Body = &download{ReadCloser: resp.Body, ex: ex, ctx: resp.Request.Context(), failed: resp.StatusCode >= 500}
	}
	return nil
}

type download struct {
	io.ReadCloser
	ex     *exchange
	ctx    context.Context // of the request: its life is the body's
	failed bool            // already counted as an error
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	_ = d.ex.client.SetWriteDeadline(time.Now().Add(stallTime))
	switch {
	case err == nil || d.failed || d.ctx.Err() != nil:
	case err == io.EOF:
		d.ex.seen.whole()
	default:
		d.failed = true
		d.ex.seen.brokeOff()
	}
	return n, err
}

// upload lets each piece of a request's body take stallTime to arrive.
type upload struct {
	io.ReadCloser
	ex *exchange
}

func (u *upload) Read(p []byte) (int, error) {
	_ = u.ex.client.SetReadDeadline(time.Now().Add(stallTime))
	n, err := u.ReadCloser.Read(p)
	switch {
	case err == io.EOF: // from now on the server reads to notice that the client left
		_ = u.ex.client.SetReadDeadline(time.Time{})
	case err != nil && !errors.Is(err, http.ErrBodyReadAfterClose): // that is the end of an answered request
		u.ex.broken.Store(true)
	}
	return n, err
}

// buffers reuses the copy buffers of bodies.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{pool: sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}}
}

func (b *buffers) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

// quietLog keeps what net/http says about foreign requests for those who debug.
func quietLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// bounded accepts at most max connections at a time.
type bounded struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func newBounded(l net.Listener, max int) *bounded {
	return &bounded{Listener: l, slots: make(chan struct{}, max), done: make(chan struct{})}
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.slots <- struct{}{}:
	case <-b.done:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.slots
		return nil, err
	}
	return &boundedConn{Conn: c, free: sync.OnceFunc(func() { <-b.slots })}, nil
}

func (b *bounded) Close() error {
	b.once.Do(func() { close(b.done) })
	return b.Listener.Close()
}

type boundedConn struct {
	net.Conn
	free func()
}

func (c *boundedConn) Close() error {
	c.free()
	return c.Conn.Close()
}
