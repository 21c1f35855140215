package pidone

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Socket is a unix socket, which can carry files.
type Socket interface {
	io.ReadWriter
	// ReadMsg is recvmsg(2); received files are close-on-exec.
	ReadMsg(p, oob []byte) (n, oobn, flags int, err error)
	// WriteMsg is sendmsg(2).
	WriteMsg(p, oob []byte) (n int, err error)
}

// stream is a socket of the room: of the host's talks, or on the room's loopback.
type stream struct {
	*os.File
	raw syscall.RawConn
}

// newStream takes over fd.
func newStream(fd int) (*stream, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket") // waits without a thread, since fd does not block
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &stream{f, raw}, nil
}

// streamOf takes over a file that is a socket.
func streamOf(f *os.File) (*stream, error) {
	defer f.Close()
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return nil, errno
	}
	return newStream(int(fd))
}

// ReadMsg implements Socket.
func (s *stream) ReadMsg(p, oob []byte) (n, oobn, flags int, err error) {
	werr := s.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, err = syscall.Recvmsg(int(fd), p, oob, syscall.MSG_CMSG_CLOEXEC)
			if err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	if werr != nil {
		return 0, 0, 0, werr
	}
	return n, oobn, flags, err
}

// WriteMsg implements Socket.
func (s *stream) WriteMsg(p, oob []byte) (n int, err error) {
	werr := s.raw.Write(func(fd uintptr) bool {
		for {
			n, err = syscall.SendmsgN(int(fd), p, oob, nil, syscall.MSG_NOSIGNAL)
			if err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	if werr != nil {
		return 0, werr
	}
	return n, err
}

// CloseWrite ends the direction from here.
func (s *stream) CloseWrite() (err error) {
	werr := s.raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	if werr != nil {
		return werr
	}
	return err
}

// dialTimeout is for servers that accept nothing: they hold no talk for ever.
const dialTimeout = 10 * time.Second

// dialPort connects to a port on the room's loopback.
func dialPort(port int) (*stream, error) {
	s, err := connect(syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	if err != nil {
		s, err = connect(syscall.AF_INET6, &syscall.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}})
	}
	if err != nil {
		return nil, fmt.Errorf("connect to port %d: %w", port, err)
	}
	return s, nil
}

func connect(family int, to syscall.Sockaddr) (*stream, error) {
	fd, err := tcpSocket(family)
	if err != nil {
		return nil, err
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1) // for speed only
	if err := syscall.Connect(fd, to); err != nil && err != syscall.EINPROGRESS {
		syscall.Close(fd)
		return nil, err
	}
	s, err := newStream(fd)
	if err != nil {
		return nil, err
	}
	_ = s.SetWriteDeadline(time.Now().Add(dialTimeout)) // sockets have deadlines
	werr := s.raw.Write(func(fd uintptr) bool {
		var code int
		if code, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR); err == nil && code != 0 {
			err = syscall.Errno(code)
		}
		if err != nil {
			return true
		}
		_, waits := syscall.Getpeername(int(fd))
		return waits == nil
	})
	if err == nil {
		err = werr
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, s.SetWriteDeadline(time.Time{})
}

func tcpSocket(family int) (int, error) {
	return syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, syscall.IPPROTO_TCP)
}

// backlog of a listening socket; the kernel has a bound of its own.
const backlog = 4096

// listenPort listens on a port of the room's loopback.
func listenPort(port int) (*stream, error) {
	fd, err := tcpSocket(syscall.AF_INET)
	if err != nil {
		return nil, err
	}
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = syscall.Listen(fd, backlog)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("listen on port %d: %w", port, err)
	}
	return newStream(fd)
}

// accept waits for the next connection to a listening socket.
func (s *stream) accept() (*stream, error) {
	var fd int
	var err error
	werr := s.raw.Read(func(ln uintptr) bool {
		for {
			fd, _, err = syscall.Accept4(int(ln), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
			if err != syscall.EINTR && err != syscall.ECONNABORTED {
				return err != syscall.EAGAIN
			}
		}
	})
	if werr != nil {
		return nil, werr
	}
	if err != nil {
		return nil, err
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1) // for speed only
	return newStream(fd)
}
