package sandbox

import (
	"net"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// A socket of a strong room is one of the sentry's and not of the host's kernel: init cannot hand
// it out as it does at level standard. What goes through it is relayed over the talk instead.

// relay asks init for a connection and returns the talk that has become it. wait bounds
// the wait for the answer; 0 is for ever.
func (r *Room) relay(req pidone.Request, wait time.Duration) (conn, error) {
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
	body, files, err := readFrame(talk, pidone.MaxAnswer)
	pidone.CloseAll(files)
	if err != nil {
		return r.ended(err)
	}
	a, err := pidone.ParseAnswer(body)
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
	talk, err := r.relay(pidone.Request{Op: pidone.OpRelayListen, Port: port}, talkTimeout)
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
	talk, err := l.room.talk(pidone.Request{Op: pidone.OpRelayAccept, Port: l.port})
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
