package sallyporttest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// vnetHeader is the length of a struct virtio_net_hdr, which stands before each packet.
const vnetHeader = 10

// testUplink holds the far end of a room's network: it sees what the room sends, the
// room gets what it writes, and nobody inside can change that.
func testUplink(t *testing.T, s *suite) {
	isolation, err := s.Sandbox.Check(t.Context())
	if err != nil {
		t.Fatal(whole(err))
	}
	if isolation.Level == "strong" && isolation.Rootless {
		spec := sallyport.RoomSpec{ID: "no-uplink", Uplink: &sallyport.Uplink{
			Addr: netip.MustParseAddr("198.18.0.2"), Resolver: netip.MustParseAddr("198.18.0.1"), Attach: func(sallyport.Link) error { return nil },
		}}
		if _, err := s.Sandbox.Prepare(t.Context(), spec); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
			t.Errorf("a strong room without root got a network: %v", err)
		}
		return
	}
	addr, resolver := netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("198.18.0.1")
	var link sallyport.Link
	attached := 0
	r := s.room(t, sallyport.RoomSpec{Trust: []byte("trusted\n"), Uplink: &sallyport.Uplink{Addr: addr, Resolver: resolver, Attach: func(l sallyport.Link) error {
		attached++
		link = l
		return nil
	}}})
	if attached != 1 || link.File == nil {
		t.Fatalf("attached %d times: %+v", attached, link)
	}
	t.Cleanup(func() { link.File.Close() })
	if got := r.Isolation().Network; got != "door" {
		t.Errorf("network %q, want door", got)
	}
	if out, _ := sh(t, r, "cat /etc/resolv.conf; getent ahostsv4 localhost | head -n1 | cut -d' ' -f1"); out != "nameserver 198.18.0.1\n127.0.0.1" {
		t.Errorf("names: got %q", out)
	}
	if out, _ := sh(t, r, "cat /etc/ssl/certs/ca-certificates.crt"); out != "trusted" {
		t.Errorf("trusted certificates: got %.80q", out)
	}
	if out, _ := probe(t, r, "reroute"); out != "EPERM EPERM EPERM" && !(strong(r) && out == "ENOTTY ENOTTY ENOTTY") {
		t.Errorf("changes of the network by the room's root: got %q, want EPERM each", out)
	}
	served := make(chan []string, 1)
	go func() { served <- refuse(link, 3) }()
	dest := []string{"192.0.2.1:80", "169.254.169.254:80", "10.0.0.1:443"}
	out, _ := probe(t, r, append([]string{"connect", "[2001:db8::1]:80"}, dest...)...)
	want := "[2001:db8::1]:80 ENETUNREACH"
	for _, d := range dest {
		want += "\n" + d + " ECONNREFUSED"
	}
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if got := <-served; fmt.Sprint(got) != fmt.Sprint(dest) {
		t.Errorf("the far end saw %q, want %q", got, dest)
	}
	if b, err := os.ReadFile("/proc/thread-self/net/fib_trie"); err != nil || strings.Contains(string(b), addr.String()) {
		t.Errorf("the room's address on the host: %v", err)
	}

	for name, u := range map[string]*sallyport.Uplink{
		"nobody":      {Addr: addr, Resolver: resolver},
		"no address":  {Resolver: resolver, Attach: func(sallyport.Link) error { return nil }},
		"no resolver": {Addr: addr, Attach: func(sallyport.Link) error { return nil }},
		"IPv6":        {Addr: netip.MustParseAddr("fd00::1"), Resolver: resolver, Attach: func(sallyport.Link) error { return nil }},
	} {
		if r, err := s.Sandbox.Prepare(context.Background(), sallyport.RoomSpec{ID: "bad-uplink", Uplink: u}); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: got %v, %v; want %s", name, r, err, sallyport.CodeInvalid)
		}
	}
	no := errors.New("no")
	var refused sallyport.Link
	if _, err := s.Sandbox.Prepare(context.Background(), sallyport.RoomSpec{ID: fmt.Sprintf("refused-uplink-%d", os.Getpid()), Uplink: &sallyport.Uplink{
		Addr: addr, Resolver: resolver, Attach: func(l sallyport.Link) error { refused = l; return no },
	}}); !errors.Is(err, no) {
		t.Errorf("Attach failed: got %v", err)
	}
	if refused.File != nil && refused.File.Close() == nil {
		t.Error("a link that nobody took is open")
	}
}

// refuse answers the first segment to each of n addresses with a reset, and tells
// which they were.
func refuse(link sallyport.Link, n int) (dest []string) {
	_ = link.File.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 1<<16+64)
	for len(dest) < n {
		size, err := link.File.Read(buf)
		if err != nil {
			return append(dest, err.Error())
		}
		head := vnetHeader
		if link.Ethernet != nil {
			head += 14
		}
		if size < head+40 || buf[head]>>4 != 4 || buf[head+9] != unix.IPPROTO_TCP {
			continue
		}
		ip := buf[head:size]
		tcp := ip[int(ip[0]&15)*4:]
		dest = append(dest, fmt.Sprintf("%d.%d.%d.%d:%d", ip[16], ip[17], ip[18], ip[19], binary.BigEndian.Uint16(tcp[2:])))

		// The answer: ports and addresses turned, a reset that acknowledges the SYN.
		out := make([]byte, vnetHeader, 128)
		if link.Ethernet != nil {
			out = append(append(out, link.Ethernet...), 8, 0)
		}
		start := len(out)
		out = append(out, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0)
		out = append(append(out, ip[16:20]...), ip[12:16]...)
		binary.BigEndian.PutUint16(out[start+10:], sum(out[start:]))
		pseudo := append(append([]byte{}, out[start+12:]...), 0, unix.IPPROTO_TCP, 0, 20)
		seg := append(append(append([]byte{}, tcp[2:4]...), tcp[0:2]...), 0, 0, 0, 0)
		seg = binary.BigEndian.AppendUint32(seg, binary.BigEndian.Uint32(tcp[4:])+1)
		seg = append(seg, 5<<4, 0x14, 0, 0, 0, 0, 0, 0)
		binary.BigEndian.PutUint16(seg[16:], sum(append(pseudo, seg...)))
		if _, err := link.File.Write(append(out, seg...)); err != nil {
			return append(dest, err.Error())
		}
	}
	return dest
}

// sum is the checksum of the Internet protocols.
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// probeReroute tries to take the uplink down, to give it another address and to route
// around it, and prints how each failed.
func probeReroute() int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return failed(err)
	}
	down, err := unix.NewIfreq("eth0")
	if err != nil {
		return failed(err)
	}
	addr, err := unix.NewIfreq("eth0")
	if err != nil {
		return failed(err)
	}
	if err := addr.SetInet4Addr([]byte{10, 9, 8, 7}); err != nil {
		return failed(err)
	}
	var route [120]byte // a struct rtentry; that it is empty is noticed later than who asks
	_, _, rerouted := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route)))
	fmt.Println(
		unix.ErrnoName(errnoOf(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, down))),
		unix.ErrnoName(errnoOf(unix.IoctlIfreq(fd, unix.SIOCSIFADDR, addr))),
		unix.ErrnoName(rerouted),
	)
	return 0
}
