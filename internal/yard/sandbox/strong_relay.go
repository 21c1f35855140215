package sandbox

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// A socket of a strong room is one of the sentry's and not of the host's kernel: init cannot hand
// it out as it does at level standard. What goes through it is relayed over the talk instead.

// relay asks init for a connection and returns the talk that has become it. wait bounds
// the wait for the answer; 0 is for ever.
func (r *Room) relay(req request, wait time.Duration) (conn, error) {
	talk, err := r.talk(req)
	if err != nil {
		return nil, err
	}
	if err := r.related(talk, req.Port, wait); err != nil {
		talk.Close()
		return nil, err
	}
	return talk, nil
}

// related waits for init's answer on a talk that is to be a connection.
func (r *Room) related(talk *net.UnixConn, port int, wait time.Duration) error {
	if wait > 0 {
		if err := talk.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return err
		}
	}
	body, files, err := readFrame(talk, maxAnswer)
	closeAll(files)
	if err != nil {
		return r.ended(err)
	}
	a, err := parseAnswer(body)
	if err != nil {
		return err
	}
	if a.Failed != "" {
		return sallyport.Errorf(sallyport.CodeUnavailable, "port %d of the room's loopback: %s", port, printable(a.Failed))
	}
	return talk.SetReadDeadline(time.Time{})
}

// relayListen has init listen on a port of the room's loopback. The listener's Accept asks
// for one connection at a time.
func (r *Room) relayListen(port int) (net.Listener, error) {
	talk, err := r.relay(request{Op: opRelayListen, Port: port}, talkTimeout)
	if err != nil {
		return nil, err
	}
	talk.Close()
	return &relayListener{room: r, port: port}, nil
}

// relayListener is a port of a strong room.
type relayListener struct {
	room *Room
	port int

	mu     sync.Mutex
	closed bool
	asking *net.UnixConn // the talk on which Accept waits
}

// Accept implements net.Listener.
func (l *relayListener) Accept() (net.Conn, error) {
	talk, err := l.room.talk(request{Op: opRelayAccept, Port: l.port})
	if err != nil {
		if l.isClosed() {
			return nil, net.ErrClosed
		}
		return nil, err
	}
	l.mu.Lock()
	l.asking = talk
	closed := l.closed
	l.mu.Unlock()
	if !closed {
		err = l.room.related(talk, l.port, 0)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking = nil
	if l.closed {
		talk.Close()
		return nil, net.ErrClosed
	}
	if err != nil {
		talk.Close()
		return nil, err
	}
	return talk, nil
}

func (l *relayListener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// Close implements net.Listener.
func (l *relayListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.asking != nil {
		return l.asking.Close()
	}
	return nil
}

// Addr implements net.Listener.
func (l *relayListener) Addr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.port}
}

// relays is init's side: the ports on which it listens.
type relays struct {
	mu        sync.Mutex
	listeners map[int]net.Listener
}

func (rs *relays) serve(c *net.UnixConn, req request) {
	switch req.Op {
	case opRelayDial:
		to, err := dialPort(req.Port)
		rs.pass(c, to, err)
	case opRelayListen:
		var a answer
		if err := rs.listen(req.Port); err != nil {
			a.Failed = err.Error()
		}
		_ = writeFrame(c, a)
	case opRelayAccept:
		rs.mu.Lock()
		ln := rs.listeners[req.Port]
		rs.mu.Unlock()
		if ln == nil {
			_ = writeFrame(c, answer{Failed: "nobody listens"})
			return
		}
		to, err := ln.Accept()
		rs.pass(c, to, err)
	}
}

func (rs *relays) listen(port int) error {
	ln, err := listenPort(port)
	if err != nil {
		return err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.listeners == nil {
		rs.listeners = make(map[int]net.Listener)
	}
	rs.listeners[port] = ln
	return nil
}

// pass answers, and then passes bytes in both directions until both have ended.
func (rs *relays) pass(c *net.UnixConn, to net.Conn, err error) {
	if err != nil {
		_ = writeFrame(c, answer{Failed: err.Error()})
		return
	}
	defer to.Close()
	tcp, ok := to.(conn)
	if !ok {
		_ = writeFrame(c, answer{Failed: fmt.Sprintf("a %T", to)})
		return
	}
	if writeFrame(c, answer{}) != nil {
		return // nobody waits any more
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(tcp, c) // a broken connection is the peers' affair
		_ = tcp.CloseWrite()
	})
	_, _ = io.Copy(c, tcp)
	_ = c.CloseWrite()
	both.Wait()
}
