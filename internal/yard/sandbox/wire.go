package sandbox

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// carrier is a net.UnixConn as package pidone knows sockets.
type carrier struct{ *net.UnixConn }

// ReadMsg implements pidone.Socket.
func (c carrier) ReadMsg(p, oob []byte) (n, oobn, flags int, err error) {
	n, oobn, flags, _, err = c.ReadMsgUnix(p, oob)
	return n, oobn, flags, err
}

// WriteMsg implements pidone.Socket.
func (c carrier) WriteMsg(p, oob []byte) (int, error) {
	n, _, err := c.WriteMsgUnix(p, oob, nil)
	return n, err
}

func writeFrame(c *net.UnixConn, v any, files ...*os.File) error {
	return pidone.WriteFrame(carrier{c}, v, files...)
}

func readFrame(c *net.UnixConn, limit int) ([]byte, []*os.File, error) {
	return pidone.ReadFrame(carrier{c}, limit)
}

func readWithFiles(c *net.UnixConn, p []byte) (int, []*os.File, error) {
	return pidone.ReadWithFiles(carrier{c}, p)
}

// socketpair makes a connected pair: our end and one to hand away.
func socketpair(kind int) (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "socket")
	ours, err := unixConn(os.NewFile(uintptr(fds[0]), "socket"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// unixConn takes over f.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("not a unix socket: %T", c)
	}
	return u, nil
}
