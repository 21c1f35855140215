package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// The control protocol: one request a connection, a JSON object on one line,
// answered by a JSON object on one line.

// Bounds of the protocol.
const (
	maxRequest  = 64 << 10 // a route of maxBackends is below 8 KiB
	maxAnswer   = 16 << 20 // all routes
	requestTime = 10 * time.Second
	maxDrain    = 10 * time.Minute
	maxControls = 64 // connections at a time
)

type op string

const (
	opStatus op = "status"
	opSet    op = "set"
	opDrain  op = "drain"
	opReport op = "report"
	opHold   op = "hold" // answered when the proxy ends, by the end of the connection
	opStop   op = "stop"
)

type request struct {
	Op         op                     `json:"op"`
	Route      *Route                 `json:"route,omitempty"`
	Deployment sallyport.DeploymentID `json:"deployment,omitempty"`
	Wait       time.Duration          `json:"wait,omitempty"`
}

type reply struct {
	Error    *fault  `json:"error,omitempty"`
	Status   *Status `json:"status,omitempty"`
	Route    *Route  `json:"route,omitempty"`
	Report   *Report `json:"report,omitempty"`
	InFlight int64   `json:"in_flight,omitempty"`
}

type fault struct {
	Code    sallyport.Code `json:"code"`
	Message string         `json:"message"`
	Hint    string         `json:"hint,omitempty"`
}

// Status describes a running proxy.
type Status struct {
	Protocol  int       `json:"protocol"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	Routes    []Route   `json:"routes"`
}

// decodeRequest is strict: what it returns is complete and within bounds.
func decodeRequest(line []byte) (request, error) {
	var q request
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return request{}, sallyport.Errorf(sallyport.CodeInvalid, "the request is not understood: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return request{}, sallyport.Errorf(sallyport.CodeInvalid, "the request has a tail")
	}
	needRoute, needDeployment := false, false
	switch q.Op {
	case opStatus, opHold, opStop:
	case opSet:
		needRoute = true
	case opDrain, opReport:
		needDeployment = true
	default:
		return request{}, sallyport.Errorf(sallyport.CodeInvalid, "the operation %.20q is not known", q.Op).
			WithHint("the proxy may be of an older version: restart it")
	}
	switch {
	case needRoute != (q.Route != nil):
		return request{}, sallyport.Errorf(sallyport.CodeInvalid, "operation %s: route is missing or not allowed", q.Op)
	case needDeployment != (q.Deployment != "") || len(q.Deployment) > 64:
		return request{}, sallyport.Errorf(sallyport.CodeInvalid, "operation %s: deployment is missing, too long or not allowed", q.Op)
	case q.Wait < 0 || q.Wait > maxDrain:
		return request{}, sallyport.Errorf(sallyport.CodeInvalid, "wait is not within 0 and %s", maxDrain)
	case needRoute:
		if err := q.Route.check(); err != nil {
			return request{}, err
		}
	}
	return q, nil
}

func listenControl(path string) (*net.UnixListener, error) {
	if len(path) > maxSocket {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the proxy's directory has too long a path: a unix socket's path has at most %d bytes", maxSocket).
			WithHint("use a data directory with a shorter path")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a dead proxy: the lock is ours
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect control socket: %w", err), l.Close())
	}
	return l, nil
}

// serveControl answers requests until ctx ends, and tries meanwhile to serve
// addresses that were in use.
func (p *Proxy) serveControl(ctx context.Context, l *net.UnixListener) {
	var work sync.WaitGroup
	defer work.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	work.Go(func() {
		tick := time.NewTicker(rebindEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.rebind()
			case <-ctx.Done():
				return
			}
		}
	})
	slots := make(chan struct{}, maxControls)
	for {
		slots <- struct{}{}
		conn, err := l.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return
			}
			p.log.ErrorContext(ctx, "control socket ended", "err", err)
			p.stop()
			return
		}
		work.Go(func() {
			defer func() { <-slots }()
			p.serveConn(ctx, conn)
		})
	}
}

func (p *Proxy) serveConn(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	_ = conn.SetDeadline(p.now().Add(requestTime))
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })() // the proxy ends
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	if err != nil {
		return // cut off or too long: there is nobody to answer
	}
	// A client that goes away takes its wait with it.
	_ = conn.SetDeadline(time.Time{})
	gone := make(chan struct{})
	go func() { // ends when the connection is closed, at the latest by us
		defer close(gone)
		var b [1]byte
		_, _ = conn.Read(b[:])
		cancel()
	}()
	defer func() { conn.Close(); <-gone }()
	q, err := decodeRequest(line)
	if err == nil && q.Op == opHold {
		<-ctx.Done()
		return
	}
	var a reply
	if err == nil {
		a, err = p.handle(ctx, q)
	}
	if err != nil {
		a = reply{Error: faultOf(err)}
		p.log.WarnContext(ctx, "control request refused", "op", q.Op, "err", err)
	}
	_ = conn.SetWriteDeadline(p.now().Add(requestTime))
	_ = json.NewEncoder(conn).Encode(a)
	if q.Op == opStop && err == nil {
		p.stop()
	}
}

func (p *Proxy) handle(ctx context.Context, q request) (reply, error) {
	switch q.Op {
	case opStatus:
		s := p.status()
		return reply{Status: &s}, nil
	case opSet:
		r, err := p.set(*q.Route)
		if err == nil {
			p.log.InfoContext(ctx, "route set", "route", r.Key, "address", r.Address, "backends", r.Backends)
		}
		return reply{Route: &r}, err
	case opDrain:
		n, err := p.drain(ctx, q.Deployment, q.Wait)
		if err == nil {
			p.log.InfoContext(ctx, "deployment drained", "deployment", q.Deployment, "in_flight", n)
		}
		return reply{InFlight: n}, err
	case opReport:
		rep := p.report(q.Deployment)
		return reply{Report: &rep}, nil
	case opStop:
		return reply{}, nil
	default:
		return reply{}, fmt.Errorf("operation %q is not handled", q.Op)
	}
}

func (p *Proxy) status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Protocol: Protocol, PID: os.Getpid(), StartedAt: p.start}
	for _, r := range p.routes {
		s.Routes = append(s.Routes, r.spec)
	}
	slices.SortFunc(s.Routes, func(a, b Route) int { return strings.Compare(a.Key, b.Key) })
	return s
}

func faultOf(err error) *fault {
	message, hint := sallyport.ErrorMessage(err)
	return &fault{Code: sallyport.ErrorCode(err), Message: message, Hint: hint}
}
