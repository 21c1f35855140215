package door

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Bounds of requests that the door reads.
const (
	maxRequestHeader  = 128 << 10
	maxResponseHeader = 256 << 10
	maxStreams        = 100 // requests at a time on one connection of HTTP/2
	maxConns          = 128 // to one host
	keepAlive         = 2 * time.Minute
)

// proxy reads requests. Each is judged by itself and written anew, so that nobody
// behind the door can see another one in it than the door did.
type proxy struct {
	door     *Door
	server   *http.Server
	upstream *http.Transport
	reverse  *httputil.ReverseProxy

	turns chan struct{} // of requests
	conns chan net.Conn
	start sync.Once
	ended sync.WaitGroup
}

type flowKey struct{}

func newProxy(d *Door) *proxy {
	p := &proxy{door: d, turns: make(chan struct{}, d.cfg.Limits.Requests), conns: make(chan net.Conn)}
	p.upstream = d.cfg.Dialer.Transport(d.cfg.Roots)
	p.reverse = &httputil.ReverseProxy{
		Transport: p.upstream, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: p.rewrite, ErrorHandler: p.failed,
	}
	p.server = &http.Server{
		Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: d.cfg.Limits.Hello, IdleTimeout: keepAlive,
		MaxHeaderBytes: maxRequestHeader, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams}, ErrorLog: log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return d.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn()
			}
			return context.WithValue(ctx, flowKey{}, c.(*roomConn).flow)
		},
		// A listener of TLS connections speaks HTTP/2 when the client asked for it.
		TLSConfig: &tls.Config{NextProtos: []string{"h2", "http/1.1"}},
	}
	return p
}

// hand gives a connection to the server, which closes it. False: the door is closed.
func (p *proxy) hand(c net.Conn) bool {
	p.start.Do(func() {
		p.ended.Go(func() { _ = p.server.Serve(p) }) // its error is that of Close
	})
	select {
	case p.conns <- c:
		return true
	case <-p.door.ctx.Done():
		return false
	}
}

// Accept implements net.Listener.
func (p *proxy) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.door.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; the door's context is what ends it.
func (p *proxy) Close() error { return nil }

// Addr implements net.Listener.
func (p *proxy) Addr() net.Addr { return net.TCPAddrFromAddrPort(addrPort(resolverAddr, 0)) }

// close ends what still runs, when the door's context has ended.
func (p *proxy) close() {
	_ = p.server.Close()
	p.ended.Wait()
	p.upstream.CloseIdleConnections()
}

// read serves a connection whose requests are read: it is HTTP, or TLS that the door may
// end. It reports whether the server has taken the connection.
func (f *flow) read(c *roomConn) (handed bool) {
	d := f.door
	first, err := c.peek(d.cfg.Limits.Hello)
	switch {
	case err != nil:
		f.refuse(ReasonSlow)
		return false
	case first == tlsHandshake && f.handler == nil && !f.answer.Intercept:
		f.passTLS(c, f.dial())
		return false
	case first == tlsHandshake:
		return f.endTLS(c)
	case f.port == 443 && f.handler == nil:
		f.denyTLS(c, ReasonNotTLS)
		return false
	case !startsHTTP(c):
		f.refuse(ReasonNotHTTP)
		return false
	}
	f.speaks("http")
	return d.proxy.hand(c)
}

// endTLS ends TLS with a certificate of the door.
func (f *flow) endTLS(c *roomConn) (handed bool) {
	d := f.door
	f.speaks("tls")
	hello, reason := readHello(c, d.cfg.Limits.Hello)
	if reason == "" {
		reason = hello.mismatch(f.host)
	}
	if reason != "" {
		f.denyTLS(c, reason)
		return false
	}
	leaf, err := d.ca.leaf(f.host)
	if err != nil {
		d.cfg.Log.Error("door made no certificate", "err", err)
		return false
	}
	t := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*leaf}, NextProtos: []string{"h2", "http/1.1"}})
	ctx, cancel := context.WithTimeout(d.ctx, d.cfg.Limits.Hello)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		f.refuse(ReasonTrust)
		return false
	}
	f.speaks("http")
	return d.proxy.hand(t)
}

// startsHTTP tells whether what was looked at begins like a request.
func startsHTTP(c *roomConn) bool {
	line := c.ahead[:min(len(c.ahead), 16)]
	word, _, whole := bytes.Cut(line, []byte(" "))
	if len(word) == 0 || !whole && len(line) == 16 {
		return false
	}
	for _, b := range word {
		if b < 'A' || b > 'Z' {
			return false
		}
	}
	return true
}

// serve judges one request.
func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	f := r.Context().Value(flowKey{}).(*flow)
	select { // a connection of HTTP/2 has many requests at a time, and each may hold one to a server
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	default:
		w.Header().Set("Retry-After", "1")
		f.deny(w, r, http.StatusTooManyRequests, ReasonRequests)
		return
	}
	all := &p.door.cfg.Dialer.requests
	defer all.Add(-1)
	if all.Add(1) > maxRequests {
		w.Header().Set("Retry-After", "1")
		f.deny(w, r, http.StatusTooManyRequests, ReasonRequests)
		return
	}
	if r.Method == http.MethodConnect || r.Method == "PRI" {
		w.Header().Set("Connection", "close") // what follows is for a tunnel
		f.deny(w, r, http.StatusMethodNotAllowed, ReasonMethod)
		return
	}
	if !f.sameHost(r.Host) || r.URL.Opaque != "" || r.URL.Scheme != "" && r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		f.deny(w, r, http.StatusMisdirectedRequest, ReasonHostName)
		return
	}
	// What a server agrees to speak instead of HTTP is not read any more. WebSockets stay
	// with the request that began them; HTTP/2 in clear would be other requests.
	if up := r.Header.Get("Upgrade"); up != "" && !strings.EqualFold(up, "websocket") {
		r.Header.Del("Upgrade")
		r.Header.Del("Http2-Settings")
	}
	if f.handler != nil {
		f.handler.ServeHTTP(w, r)
		return
	}
	p.judge(w, r)
}

// judge asks the rules about a request and sends it on.
func (p *proxy) judge(w http.ResponseWriter, r *http.Request) {
	f := r.Context().Value(flowKey{}).(*flow)
	d := p.door
	may := d.cfg.Rules.Request(f.host, f.port, r.Method, r.URL.EscapedPath())
	if !may.open() {
		f.deny(w, r, http.StatusForbidden, may.Reason)
		return
	}
	if may.Decision == sallyport.EgressObserved && f.answer.Decision == sallyport.EgressAllowed {
		d.note(sallyport.Flow{Protocol: "http", Host: f.host, Port: f.port, Decision: may.Decision, Reason: may.Reason})
	}
	if f.answer.Intercept { // the rules were asked about what the request line says
		for name := range r.Header {
			if steers(name) {
				delete(r.Header, name)
			}
		}
	}
	p.reverse.ServeHTTP(w, r)
}

// steers tells whether a header is one by which some servers take another method, path or host
// than the request line says; for them "_" and "-" are one.
func steers(name string) bool {
	switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
	case "x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url", "x-original-host",
		"x-forwarded-host", "x-forwarded-server", "x-forwarded-prefix", "x-forwarded-proto", "x-forwarded-for", "x-real-ip", "x-host", "forwarded":
		return true
	}
	return false
}

// sameHost tells whether a request is for the flow's host and port.
func (f *flow) sameHost(host string) bool {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if port != strconv.Itoa(f.port) {
			return false
		}
		host = name
	}
	name, ok := canonical(host)
	return ok && name == f.host
}

// deny refuses a request and says why to whoever reads the answer.
func (f *flow) deny(w http.ResponseWriter, r *http.Request, status int, reason string) {
	f.door.refused("http", f.host, "", f.port, reason)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "The door of this job refused %s %s: %s.\n", clip(r.Method), f.host, reason)
}

func (p *proxy) rewrite(r *httputil.ProxyRequest) {
	f := r.In.Context().Value(flowKey{}).(*flow)
	r.Out.URL.Scheme, r.Out.URL.Host = "http", f.host
	if r.In.TLS != nil {
		r.Out.URL.Scheme = "https"
	}
	if r.In.TLS == nil && f.port != 80 || r.In.TLS != nil && f.port != 443 {
		r.Out.URL.Host = net.JoinHostPort(f.host, strconv.Itoa(f.port))
	}
	r.Out.Host = r.Out.URL.Host
}

// failed answers for a server that cannot be reached.
func (p *proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	f := r.Context().Value(flowKey{}).(*flow)
	if errors.As(err, new(*RefusedError)) {
		f.deny(w, r, http.StatusForbidden, ReasonPrivate)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusBadGateway)
	fmt.Fprintf(w, "The door of this job could not reach %s.\n", f.host)
}
