package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// maxDials bounds the connections into one room at a time; each costs two
// sockets and two goroutines.
const maxDials = 4096

// dialer forwards connections to a unix socket on the host to a port in a room.
type dialer struct {
	room *Room
	port int
	ln   *net.UnixListener

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	shut  bool
	wg    sync.WaitGroup
}

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
	r.dial = &dialer{room: r, port: port, ln: ln, conns: make(map[net.Conn]struct{})}
	r.dial.wg.Go(r.dial.serve)
	return nil
}

func (d *dialer) serve() {
	for {
		c, err := d.ln.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of files: let some connections end
			continue
		}
		if !d.enter(c) {
			c.Close()
			continue
		}
		d.wg.Go(func() {
			defer d.leave(c)
			d.forward(c)
		})
	}
}

// enter counts a connection in, unless there are too many or the room ends.
func (d *dialer) enter(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut || len(d.conns) >= 2*maxDials {
		return false
	}
	d.conns[c] = struct{}{}
	return true
}

func (d *dialer) leave(c net.Conn) {
	c.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

// close ends the service and every connection, and waits for them.
func (d *dialer) close() {
	d.mu.Lock()
	d.shut = true
	d.ln.Close()
	for c := range d.conns {
		c.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
}

func (d *dialer) forward(host *net.UnixConn) {
	room, err := d.room.dialPort(d.port)
	if err != nil {
		return // the caller sees the connection close, as with a server that is down
	}
	if !d.enter(room) {
		room.Close()
		return
	}
	defer d.leave(room)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(room, host) // a broken connection is the peers' affair
		_ = room.CloseWrite()
	})
	_, _ = io.Copy(host, room)
	_ = host.CloseWrite()
	wg.Wait()
}

// dialPort connects to a port on the room's loopback. Init makes the connection,
// for it lives in the room's network; the socket it hands out is looked at
// before it is used.
func (r *Room) dialPort(port int) (*net.TCPConn, error) {
	talk, err := r.talk(request{Op: opDial, Port: port})
	if err != nil {
		return nil, err
	}
	defer talk.Close()
	if err := talk.SetReadDeadline(time.Now().Add(talkTimeout)); err != nil {
		return nil, err
	}
	body, files, err := readFrame(talk, maxAnswer)
	if err != nil {
		return nil, r.ended(err)
	}
	defer closeAll(files)
	a, err := parseAnswer(body)
	if err != nil {
		return nil, err
	}
	if a.Failed != "" {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "nothing answers on port %d of the room: %s", port, printable(a.Failed))
	}
	if len(files) != 1 {
		return nil, errors.New("the room's init handed out no socket")
	}
	return tcpSocket(files[0])
}

// tcpSocket takes f only if it is a TCP socket: anything else could make us read
// or wait on a file of the room's choice.
func tcpSocket(f *os.File) (*net.TCPConn, error) {
	fd := int(f.Fd())
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, fmt.Errorf("the room's init handed out no socket: %w", err)
	}
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || proto != unix.IPPROTO_TCP || domain != unix.AF_INET && domain != unix.AF_INET6 {
		return nil, errors.New("the room's init handed out another kind of socket")
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
