package door

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// only lets through one host.
type only string

func (o only) Name(host string) Answer {
	if host == string(o) {
		return Answer{Decision: sallyport.EgressAllowed}
	}
	return Answer{Decision: sallyport.EgressDenied, Reason: "host-not-allowed"}
}

func (o only) Connect(host string, port int) Answer { return o.Name(host) }

func (o only) Request(host string, port int, method, path string) Answer { return o.Name(host) }

func openFor(t testing.TB, c Config) *Door {
	t.Helper()
	c.Rules = only("good.test")
	if c.Dialer == nil {
		c.Dialer = &Dialer{}
	}
	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// wire is a link whose other end is a socket: a packet is a datagram.
func wire(t testing.TB, d *Door) (*link, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	room := os.NewFile(uintptr(fds[1]), "room")
	t.Cleanup(func() { room.Close() })
	n, err := d.attach(sallyport.Link{File: os.NewFile(uintptr(fds[0]), "link"), MTU: 65520})
	if err != nil {
		t.Fatal(err)
	}
	return n, room
}

// question is a DNS message.
func question(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ip is a packet of the room with what comes before it.
func ip(protocol byte, dst netip.Addr, body []byte) []byte {
	b := make([]byte, vnetHeader+20, vnetHeader+20+len(body))
	p := b[vnetHeader:]
	p[0], p[8], p[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(p[2:], uint16(20+len(body)))
	src, to := roomAddr.As4(), dst.As4()
	copy(p[12:], src[:])
	copy(p[16:], to[:])
	return append(b, body...)
}

func udp(port int, body []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x30, 0x39}, uint16(port))
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(body)))
	return append(append(b, 0, 0), body...)
}

func syn(port int) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, 12345)
	binary.BigEndian.PutUint16(b[2:], uint16(port))
	binary.BigEndian.PutUint32(b[4:], 1000)
	b[12], b[13] = 5<<4, tcpSYN
	return b
}

// FuzzPacket feeds a door what no kernel would send. Whatever comes back is a packet for the room.
func FuzzPacket(f *testing.F) {
	good := netip.MustParseAddr("198.18.1.0")
	f.Add(ip(unix.IPPROTO_UDP, resolverAddr, udp(53, question(f, "good.test.", dnsmessage.TypeA))))
	f.Add(ip(unix.IPPROTO_UDP, resolverAddr, udp(54, []byte("x"))))
	f.Add(ip(unix.IPPROTO_TCP, netip.MustParseAddr("192.0.2.1"), syn(80)))
	f.Add(ip(unix.IPPROTO_TCP, good, syn(80)))
	f.Add(ip(unix.IPPROTO_TCP, resolverAddr, syn(53)))
	f.Add(ip(unix.IPPROTO_ICMP, good, []byte{8, 0, 0, 0, 0, 0, 0, 0}))
	f.Add(ip(47, good, []byte("gre")))
	f.Add(ip(unix.IPPROTO_TCP, good, syn(80)[:13]))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > maxPacket {
			return
		}
		d := openFor(t, Config{Limits: Limits{Hello: time.Millisecond, Records: 100}})
		d.names.of("good.test", 1)
		_, room := wire(t, d)
		if len(packet) == 0 {
			return // the end of a socket, which a device does not have
		}
		if _, err := room.Write(packet); err != nil {
			t.Skip(err)
		}
		// A question that is answered tells that the door has looked at what came before.
		if _, err := room.Write(ip(unix.IPPROTO_UDP, resolverAddr, udp(53, question(t, "marker.test.", dnsmessage.TypeA)))); err != nil {
			t.Skip(err)
		}
		buf := make([]byte, maxPacket)
		for {
			n, err := room.Read(buf)
			if err != nil {
				t.Fatalf("the door went away: %v", err)
			}
			p, ok := parsePacket(buf[vnetHeader:n])
			if !ok || p.dst != roomAddr || checksum(p.whole[:p.header]) != 0 {
				t.Fatalf("not a packet for the room: %x", buf[:n])
			}
			if bytes.Contains(p.payload(), []byte("\x06marker")) && p.protocol == unix.IPPROTO_UDP {
				return
			}
		}
	})
}

// FuzzQuestion asks for names in all ways. Only the allowed one has an address.
func FuzzQuestion(f *testing.F) {
	f.Add(question(f, "good.test.", dnsmessage.TypeA))
	f.Add(question(f, "GOOD.test.", dnsmessage.TypeAAAA))
	f.Add(question(f, "x.bad.test.", dnsmessage.TypeTXT))
	f.Add(append(question(f, "good.test.", dnsmessage.TypeA), 0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0))
	f.Add([]byte("\x00\x01\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, message []byte) {
		d := openFor(t, Config{})
		out := d.resolve(message)
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil {
			t.Fatalf("answer %x: %v", out, err)
		}
		if !m.Response || len(message) < 2 || m.ID != binary.BigEndian.Uint16(message) || len(m.Answers) > 1 {
			t.Fatalf("answer %+v", m)
		}
		for _, a := range m.Answers {
			host, _ := canonical(m.Questions[0].Name.String())
			if host != "good.test" || a.Header.Type != dnsmessage.TypeA {
				t.Fatalf("answer %+v", m)
			}
		}
	})
}

// said is a connection from which one text can be read.
type said struct {
	io.Reader
	net.Conn
}

func (s said) Read(b []byte) (int, error) { return s.Reader.Read(b) }

// FuzzHello reads what should be a ClientHello.
func FuzzHello(f *testing.F) {
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\x80\x2e\x01\x03\x01"))
	f.Fuzz(func(t *testing.T, text []byte) {
		heard := &overhear{from: said{Reader: bytes.NewReader(text)}}
		h, err := parseHello(heard)
		if len(heard.heard) > maxHello || !bytes.HasPrefix(text, heard.heard) {
			t.Fatalf("heard %d bytes", len(heard.heard))
		}
		if err != nil && (h != hello{}) {
			t.Fatalf("%v, and yet %+v", err, h)
		}
		if h.mismatch("good.test") == "" && !bytes.Contains(bytes.ToLower(text), []byte("good.test")) {
			t.Fatalf("the name in %q", text)
		}
	})
}
