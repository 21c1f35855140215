package sandbox

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// forwarder passes the connections to a listener on to where connect leads. It
// works between the host and one room; which of them listens is the caller's.
type forwarder struct {
	ln      net.Listener
	connect func() (conn, error)
	most    int // connections at a time; each costs two sockets and two goroutines

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	shut  bool
	wg    sync.WaitGroup
}

// conn is a stream whose two directions end apart.
type conn interface {
	net.Conn
	CloseWrite() error
}

// forward starts passing on; close ends it.
func forward(ln net.Listener, most int, connect func() (conn, error)) *forwarder {
	f := &forwarder{ln: ln, connect: connect, most: most, conns: make(map[net.Conn]struct{})}
	f.wg.Go(f.accept)
	return f
}

func (f *forwarder) accept() {
	for {
		c, err := f.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of files: let some connections end
			continue
		}
		from, ok := c.(conn)
		if !ok || !f.enter(c) {
			c.Close()
			continue
		}
		f.wg.Go(func() {
			defer f.leave(from)
			f.pass(from)
		})
	}
}

// enter counts a connection in, unless there are too many or the room ends.
func (f *forwarder) enter(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut || len(f.conns) >= 2*f.most {
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

func (f *forwarder) leave(c net.Conn) {
	c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// close ends the listener and every connection, and waits for them.
func (f *forwarder) close() {
	f.mu.Lock()
	f.shut = true
	f.ln.Close()
	for c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

func (f *forwarder) pass(from conn) {
	to, err := f.connect()
	if err != nil {
		return // the caller sees the connection close, as with a server that is down
	}
	if !f.enter(to) {
		to.Close()
		return
	}
	defer f.leave(to)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(to, from) // a broken connection is the peers' affair
		_ = to.CloseWrite()
	})
	_, _ = io.Copy(from, to)
	_ = from.CloseWrite()
	wg.Wait()
}
