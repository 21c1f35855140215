package escape

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// unreached are the outcomes of connecting to where nothing may be reached; with a door the
// refusal is the door's.
var unreached = []string{"ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "EACCES", "EPERM", "ECONNRESET", "timeout"}

func networkAttempts() []attempt {
	const group = "network"
	list := []attempt{
		{group, "packet socket", tries(socket(unix.AF_PACKET, unix.SOCK_RAW, 0)), perm, nil},
		{group, "raw socket", tries(socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)), perm, nil},
		{group, "raw socket, IPv6", tries(socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)), []string{"EPERM", "EAFNOSUPPORT"}, nil},
		{group, "ping socket", tries(socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)), closed, []string{done}},
		{group, "vsock socket", tries(socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)), perm, []string{"EAFNOSUPPORT"}},
		{group, "alg socket", tries(socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)), []string{"EPERM", "EAFNOSUPPORT"}, nil},
		{group, "bluetooth socket", tries(socket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 1)), []string{"EPERM", "EAFNOSUPPORT"}, nil},
		{group, "take an interface down", tries(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			ifr, err := unix.NewIfreq("lo")
			if err != nil {
				return err
			}
			if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
				return err
			}
			return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr) // to what they are
		}), perm, []string{"ENOTTY", "EINVAL", "EACCES"}},
		{group, "add a link by netlink", tries(func() error { return netlink(unix.NETLINK_ROUTE, unix.RTM_NEWLINK) }), perm, append([]string{"ENOTSUP", "EPROTONOSUPPORT", "EACCES"}, noSys...)},
		{group, "list the packet filter", tries(func() error { return netlink(unix.NETLINK_NETFILTER, 10<<8|1) }), []string{"EPERM", "EPROTONOSUPPORT", "EINVAL"}, append([]string{"ENOTSUP"}, noSys...)},
		{group, "listen to the kernel's events", tries(func() error {
			fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_AUDIT)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
		}), []string{"EPERM", "EPROTONOSUPPORT"}, nil},
		{group, "the host's loopback", func(c *told) string { return connect("tcp", c.TCP) }, unreached, nil},
		{group, "the host's loopback, UDP", func(c *told) string {
			conn, err := net.Dial("udp", c.UDP)
			if err != nil {
				return named(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("from the room")); err != nil {
				return named(err)
			}
			return "sent" // whether it came, the canary knows
		}, append([]string{"sent"}, unreached...), nil},
	}
	for _, a := range []struct{ name, addr string }{
		{"the cloud's metadata", "169.254.169.254:80"}, {"the cloud's metadata, IPv6", "[fd00:ec2::254]:80"},
		{"a private address", "10.0.0.1:22"}, {"a private address of a home", "192.168.1.1:80"}, {"a private address of a container bridge", "172.17.0.1:2375"},
		{"a resolver of its own choice", "192.0.2.53:53"}, {"a raw address", "192.0.2.1:443"}, {"a raw address, IPv6", "[2001:db8::1]:443"},
	} {
		list = append(list, attempt{group, a.name, func(*told) string { return connect("tcp", a.addr) }, append([]string{"EADDRNOTAVAIL"}, unreached...), nil})
	}
	return list
}

// connect returns how a connection fails.
func connect(network, addr string) string {
	// Refusals come at once; 5 s tell a black hole.
	c, err := net.DialTimeout(network, addr, 5*time.Second)
	if err == nil {
		c.Close()
		return done
	}
	var te interface{ Timeout() bool }
	if errors.As(err, &te) && te.Timeout() {
		return "timeout"
	}
	return named(err)
}

// netlink sends an empty request and returns the kernel's answer.
func netlink(protocol int, kind uint16) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	msg := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	put := func(at int, v uint32, size int) {
		for i := range size {
			msg[at+i] = byte(v >> (8 * i)) // little-endian, as all that we run on
		}
	}
	put(0, uint32(len(msg)), 4)
	put(4, uint32(kind), 2)
	put(6, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 2)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return nil
	}
	code := int32(uint32(buf[16]) | uint32(buf[17])<<8 | uint32(buf[18])<<16 | uint32(buf[19])<<24)
	if code < 0 {
		return unix.Errno(-code)
	}
	return nil
}
