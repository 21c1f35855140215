package pidone

import (
	"io"
	"sync"
)

// relays are the ports on which pid 1 listens at level strong, where a socket cannot be
// handed out: it is the sentry's, not one of the host's kernel.
type relays struct {
	mu        sync.Mutex
	listeners map[int]*stream
}

func (rs *relays) serve(c *stream, req Request) {
	switch req.Op {
	case OpRelayDial:
		to, err := dialPort(req.Port)
		rs.pass(c, to, err)
	case OpRelayListen:
		var a Answer
		if err := rs.listen(req.Port); err != nil {
			a.Failed = err.Error()
		}
		_ = WriteFrame(c, a)
	case OpRelayAccept:
		rs.mu.Lock()
		ln := rs.listeners[req.Port]
		rs.mu.Unlock()
		if ln == nil {
			_ = WriteFrame(c, Answer{Failed: "nobody listens"})
			return
		}
		to, err := ln.accept()
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
		rs.listeners = make(map[int]*stream)
	}
	rs.listeners[port] = ln
	return nil
}

// pass answers, and then passes bytes in both directions until both have ended.
func (rs *relays) pass(c, to *stream, err error) {
	if err != nil {
		_ = WriteFrame(c, Answer{Failed: err.Error()})
		return
	}
	defer to.Close()
	if WriteFrame(c, Answer{}) != nil {
		return // nobody waits any more
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(to, c) // a broken connection is the peers' affair
		_ = to.CloseWrite()
	})
	_, _ = io.Copy(c, to)
	_ = c.CloseWrite()
	both.Wait()
}
