package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// maxDials bounds the connections into one room at a time.
const maxDials = 4096

// serveDial starts serving RoomSpec.Dial; Destroy ends it.
func (r *Room) serveDial(path string, port int) error {
	// A socket that a dead process left would be in the way. Nothing else is removed.
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(path) // listening tells
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "the socket into the room cannot be made: %v", errors.Unwrap(err)).
			WithHint("a unix socket's path has at most 107 bytes and needs a directory that the runner may write")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return fmt.Errorf("close the socket into the room: %w", err)
	}
	r.forwards = append(r.forwards, forward(ln, maxDials, func() (conn, error) { return r.dialPort(port) }))
	return nil
}

// dialPort connects to a port on the room's loopback. Init makes the connection,
// for it lives in the room's network; the socket it hands out is looked at
// before it is used.
func (r *Room) dialPort(port int) (conn, error) {
	if r.s.strong {
		return r.relay(pidone.Request{Op: pidone.OpRelayDial, Port: port}, talkTimeout)
	}
	f, err := r.socket(pidone.Request{Op: pidone.OpDial, Port: port})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkTCP(f); err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("the room's init handed out a %T", c)
	}
	return tcp, nil
}

// socket asks init for a socket.
func (r *Room) socket(req pidone.Request) (*os.File, error) {
	talk, err := r.talk(req)
	if err != nil {
		return nil, err
	}
	defer talk.Close()
	if err := talk.SetReadDeadline(time.Now().Add(talkTimeout)); err != nil {
		return nil, err
	}
	body, files, err := readFrame(talk, pidone.MaxAnswer)
	if err != nil {
		return nil, r.ended(err)
	}
	a, err := pidone.ParseAnswer(body)
	switch {
	case err != nil:
	case a.Failed != "":
		err = sallyport.Errorf(sallyport.CodeUnavailable, "port %d of the room's loopback: %s", req.Port, printable(a.Failed))
	case len(files) != 1:
		err = errors.New("the room's init handed out no socket")
	}
	if err != nil {
		pidone.CloseAll(files)
		return nil, err
	}
	return files[0], nil
}

// checkTCP takes f only if it is a TCP socket: anything else could make us read
// or wait on a file of the room's choice.
func checkTCP(f *os.File) error {
	fd := int(f.Fd())
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("the room's init handed out no socket: %w", err)
	}
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || proto != unix.IPPROTO_TCP || domain != unix.AF_INET && domain != unix.AF_INET6 {
		return errors.New("the room's init handed out another kind of socket")
	}
	return nil
}
