package sandbox

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// maxPeers bounds the ports of other rooms that answer in one room.
const maxPeers = 64

// maxServed bounds the connections out of one port of a room at a time. A toolkit opens a
// dozen; a job that opens more gets them closed, and cannot use up our files.
const maxServed = 256

// serveRoom starts serving RoomSpec.Serve; Destroy ends it.
func (r *Room) serveRoom(path string, port int) error {
	host := &net.UnixAddr{Name: path, Net: "unix"}
	return r.answer(port, func() (conn, error) { return net.DialUnix("unix", nil, host) })
}

// servePeer starts serving a port of another room; Destroy ends it.
func (r *Room) servePeer(p sallyport.Peer) error {
	other, ok := p.Room.(*Room)
	if !ok || other.s != r.s {
		return sallyport.Errorf(sallyport.CodeInvalid, "a peer must be a room of the same sandbox")
	}
	return r.answer(p.As, func() (conn, error) { return other.dialPort(p.Port) })
}

// answer listens on a port of the room's loopback and forwards each connection.
// Init makes the listening socket, for it lives in the room's network, and hands it to
// us; from then on the room holds no part of it, and gains nothing but a port that answers.
func (r *Room) answer(port int, to func() (conn, error)) error {
	if r.s.strong {
		ln, err := r.relayListen(port)
		if err == nil {
			r.forwards = append(r.forwards, forward(ln, maxServed, to))
		}
		return err
	}
	f, err := r.socket(pidone.Request{Op: pidone.OpListen, Port: port})
	if err != nil {
		return err
	}
	defer f.Close()
	if err := checkTCP(f); err != nil {
		return err
	}
	if listens, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens != 1 {
		return errors.New("the room's init handed out a socket that does not listen")
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("listen in the room: %w", err)
	}
	r.forwards = append(r.forwards, forward(ln, maxServed, to))
	return nil
}
