package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10

	// A body may take this long and then must keep up the rate: a slow sender
	// holds a connection, but not for ever.
	bodyGrace = 30 * time.Second
	bodyRate  = 16 << 10 // bytes per second
	// Git tells what it will push before it has packed it.
	pushGrace = 10 * time.Minute
	// The receiver of an answer must take each piece within this.
	writePatience = time.Minute
)

// Server returns an HTTP server for the handler, with limits that bear long
// polls and streams. Shutdown ends long polls at once; other requests it awaits.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	closing, end := context.WithCancel(context.Background())
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       PeerContext,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients that break off are no news
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), closingKey{}, closing)
		},
	}
	srv.RegisterOnShutdown(end)
	return srv
}

type closingKey struct{} // context.Context that ends when the server shuts down

// patience returns a context that ends with ctx, after d, or when the server
// shuts down; over reports that it was not ctx that ended.
func patience(ctx context.Context, d time.Duration) (waiting context.Context, over func() bool, cancel func()) {
	waiting, cancelWait := context.WithTimeout(ctx, d)
	stop := func() bool { return true }
	if closing, ok := ctx.Value(closingKey{}).(context.Context); ok {
		stop = context.AfterFunc(closing, cancelWait)
	}
	return waiting, func() bool { return waiting.Err() != nil && ctx.Err() == nil }, func() { stop(); cancelWait() }
}

type requestKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// ServeHTTP answers one request: it names, counts, paces and authenticates it,
// and hands it to its route.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.Now()
	id := rand.Text()
	rc := http.NewResponseController(w)
	out := &response{ResponseWriter: w, rc: rc}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, id))
	grace := bodyGrace
	if strings.HasSuffix(r.URL.Path, "/git-receive-pack") {
		grace = pushGrace
	}
	if r.Body != http.NoBody {
		body := &pacedBody{ReadCloser: r.Body, rc: rc, until: time.Now().Add(grace)}
		body.extend() // also for a body that nobody reads
		r.Body = body
	}

	h := out.Header()
	h.Set(rpc.HeaderRequest, id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")

	s.metrics.inFlight.Inc()
	admitted := r
	defer func() {
		s.metrics.inFlight.Dec()
		broken := s.recovered(recover(), out, r)
		s.metrics.done(routeOf(admitted), out.status, s.Now().Sub(start))
		if broken {
			panic(http.ErrAbortHandler)
		}
		out.extend() // what is buffered is sent after this
	}()
	if in := s.admit(out, r); in != nil {
		admitted = in
		s.mux.ServeHTTP(out, in)
	}
}

// recovered ends a request whose handler panicked: with an answer if none was
// begun, else it reports that the connection must be broken off.
func (s *server) recovered(v any, out *response, r *http.Request) (broken bool) {
	if v == nil {
		return false
	}
	if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) { // else it was logged where it was noticed
		s.Log.ErrorContext(r.Context(), "request panicked", slog.String("request", requestID(r.Context())),
			slog.String("panic", fmt.Sprint(v)), slog.String("stack", string(debug.Stack())))
	}
	if out.status != 0 {
		return true
	}
	p := rpc.NewProblem(&sallyport.Error{Code: sallyport.CodeInternal}, http.StatusInternalServerError)
	p.Request = requestID(r.Context())
	write(out, p)
	return false
}

func routeOf(r *http.Request) string {
	_, route, found := strings.Cut(r.Pattern, " ")
	if !found {
		return r.Pattern
	}
	return route
}

// response notes the status and gives the receiver time for every piece.
type response struct {
	http.ResponseWriter
	rc     *http.ResponseController
	status int
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// extend fails where deadlines are not supported, and then there are none.
func (w *response) extend() { _ = w.rc.SetWriteDeadline(time.Now().Add(writePatience)) }

func (w *response) WriteHeader(status int) {
	w.extend()
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.extend()
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// pacedBody ends a body that comes too slowly.
type pacedBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	until time.Time
	read  int64
}

func (b *pacedBody) extend() {
	_ = b.rc.SetReadDeadline(b.until.Add(time.Duration(b.read/bodyRate) * time.Second))
}

func (b *pacedBody) Read(p []byte) (int, error) {
	b.extend()
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if err != nil {
		// A deadline that outlived the body would end the request while it waits.
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}
