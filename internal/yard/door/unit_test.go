package door

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Good.Test.": "good.test", "a_b.x-y.test": "a_b.x-y.test", "xn--gd-jbca.test": "xn--gd-jbca.test", "localhost": "localhost",
		"": "", ".": "", "a..b": "", ".a": "", "gооd.test": "", "a b.test": "", "192.0.2.1": "", "x.1": "", "a\x00.test": "", "good.test..": "",
		strings.Repeat("a", 64) + ".test": "", strings.Repeat("a.", 127) + "test": "", "*.test": "", "a/b": "", "[::1]": "",
	} {
		if got, ok := canonical(in); got != want && ok || ok != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", in, got, ok, want)
		}
	}
}

func TestPublic(t *testing.T) {
	t.Parallel()
	for _, a := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.1.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.1.0", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"168.63.129.16", "::", "::1", "::ffff:8.8.8.8", "64:ff9b::a00:1", "fc00::1", "fd00:ec2::254", "fe80::1", "ff02::1", "2001:db8::1", "2001::1", "2002:a00:1::", "3fff::1", "4000::1",
	} {
		if public(netip.MustParseAddr(a)) {
			t.Errorf("%s is public", a)
		}
	}
	for _, a := range []string{"8.8.8.8", "1.1.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "198.17.0.1", "198.20.0.1", "2606:4700::1111", "2001:4860:4860::8888"} {
		if !public(netip.MustParseAddr(a)) {
			t.Errorf("%s is not public", a)
		}
	}
}

func TestDialer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	here, port := netip.MustParseAddr("127.0.0.1"), ln.Addr().(*net.TCPAddr).Port
	asked := 0
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		asked++
		return map[string][]netip.Addr{
			"here.test": {here}, "mapped.test": {netip.MustParseAddr("::ffff:127.0.0.1")}, "db.test": {here}, "nothing.test": {},
		}[host], nil
	}
	private, err := ParsePrivate([]string{"10.0.0.0/8", "db.test", "pinned.test=127.0.0.1", "192.168.1.1"})
	if err != nil {
		t.Fatal(err)
	}
	d := &Dialer{Private: private, Lookup: lookup}
	for host, want := range map[string]bool{"db.test": true, "DB.test.": true, "pinned.test": true, "here.test": false, "mapped.test": false, "nothing.test": false, "127.0.0.1": false, "::1": false} {
		c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if (err == nil) != want || !want && !errors.As(err, new(*RefusedError)) {
			t.Errorf("%s: %v", host, err)
		}
		if err == nil {
			c.Close()
		}
	}
	for i := range 2 * 8 {
		// A name that changes between two lookups is judged by each of them.
		turn := &Dialer{Lookup: func(context.Context, string) ([]netip.Addr, error) {
			if i%2 == 0 {
				return []netip.Addr{netip.MustParseAddr("192.168.1.1"), here}, nil
			}
			return []netip.Addr{here}, nil
		}}
		if _, err := turn.DialContext(t.Context(), "tcp", net.JoinHostPort("turn.test", fmt.Sprint(port))); !errors.As(err, new(*RefusedError)) {
			t.Errorf("a name that turns: %v", err)
		}
	}
	before := asked
	for range 5 {
		_, _ = d.lookup(t.Context(), "here.test")
	}
	if asked != before {
		t.Errorf("asked %d times for what is known", asked-before)
	}
	for _, bad := range []string{"", "*", "10.0.0.0/33", "a b", "x=", "x=y", "*.x"} {
		if _, err := ParsePrivate([]string{bad}); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	// This machine's own addresses are refused even where they are public.
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !new(Dialer).isOwn(p.Addr().Unmap()) {
			t.Errorf("%s is not known as our own", p)
		}
	}
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := &authority{clock: func() time.Time { return now }}
	text, err := a.certificate()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	one, err := a.leaf("good.test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Leaf.Verify(x509.VerifyOptions{DNSName: "good.test", Roots: roots, CurrentTime: now}); err != nil {
		t.Error(err)
	}
	if _, err := one.Leaf.Verify(x509.VerifyOptions{DNSName: "bad.test", Roots: roots, CurrentTime: now}); err == nil {
		t.Error("a certificate is good for another name")
	}
	if _, ok := one.PrivateKey.(*ecdsa.PrivateKey); !ok || one.Leaf.IsCA || one.Leaf.NotAfter.Sub(now) > 25*time.Hour {
		t.Errorf("got %T, CA %v, until %s", one.PrivateKey, one.Leaf.IsCA, one.Leaf.NotAfter)
	}
	if again, _ := a.leaf("good.test"); again != one {
		t.Error("a second certificate was made")
	}
	now = now.Add(leafAge)
	if again, _ := a.leaf("good.test"); again == one {
		t.Error("a certificate that ends was handed out")
	}
	other := &authority{clock: a.clock}
	if text2, _ := other.certificate(); string(text2) == string(text) {
		t.Error("two jobs have one authority")
	}
}

// TestPackets looks at what the room's kernel is told, packet by packet.
func TestPackets(t *testing.T) {
	t.Parallel()
	var seen atomic.Int32
	d := openFor(t, Config{Step: func() int { return 3 }, Notice: func(sallyport.Flow) { seen.Add(1) }})
	n, room := wire(t, d)
	far := netip.MustParseAddr("203.0.113.9")
	for _, c := range []struct {
		name   string
		packet []byte
		check  func(p packet) bool
	}{
		{"echo", ip(unix.IPPROTO_ICMP, far, []byte{8, 0, 0, 0, 0, 1, 0, 1}), func(p packet) bool {
			b := p.payload()
			return p.protocol == unix.IPPROTO_ICMP && b[0] == 3 && b[1] == 10 && checksum(b) == 0
		}},
		{"UDP", ip(unix.IPPROTO_UDP, far, udp(443, []byte("quic"))), func(p packet) bool {
			b := p.payload()
			return p.protocol == unix.IPPROTO_ICMP && b[0] == 3 && b[1] == 3 && binary.BigEndian.Uint16(b[8+20+2:]) == 443
		}},
		{"another protocol", ip(132, far, []byte("sctp")), func(p packet) bool { return p.protocol == unix.IPPROTO_ICMP && p.payload()[1] == 10 }},
		{"SYN", ip(unix.IPPROTO_TCP, far, syn(22)), func(p packet) bool {
			b := p.payload()
			return p.src == far && b[13] == tcpRST|tcpACK && binary.BigEndian.Uint32(b[8:]) == 1001 && binary.BigEndian.Uint16(b) == 22
		}},
		{"question", ip(unix.IPPROTO_UDP, resolverAddr, udp(53, question(t, "good.test.", dnsmessage.TypeA))), func(p packet) bool {
			var m dnsmessage.Message
			return p.protocol == unix.IPPROTO_UDP && m.Unpack(p.payload()[8:]) == nil && len(m.Answers) == 1
		}},
	} {
		if _, err := room.Write(c.packet); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, maxPacket)
		size, err := room.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		p, ok := parsePacket(buf[vnetHeader:size])
		if !ok || p.dst != roomAddr || !c.check(p) {
			t.Errorf("%s: got %x", c.name, buf[:size])
		}
	}
	if n.tcp != nil {
		t.Error("a TCP stack was made for what needs none")
	}
	// What is said to all has no answer, and neither has a broken packet.
	for _, silent := range [][]byte{
		ip(unix.IPPROTO_UDP, netip.MustParseAddr("224.0.0.251"), udp(5353, nil)), ip(unix.IPPROTO_IGMP, far, []byte("x")),
		ip(unix.IPPROTO_TCP, far, syn(1)[:19]), make([]byte, 30), {1},
	} {
		if _, err := room.Write(silent); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := room.Write(ip(unix.IPPROTO_UDP, resolverAddr, udp(53, question(t, "bad.test.", dnsmessage.TypeA)))); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxPacket)
	if size, err := room.Read(buf); err != nil || buf[vnetHeader+9] != unix.IPPROTO_UDP {
		t.Errorf("got %x, %v", buf[:size], err)
	}
	var kinds []string
	flows, _ := d.Take()
	for _, f := range flows {
		if f.Step != 3 {
			t.Errorf("step %d of %+v", f.Step, f)
		}
		if f.Decision == sallyport.EgressDenied {
			kinds = append(kinds, strings.Trim(f.Protocol+" "+f.Reason+" "+f.Host, " "))
		}
	}
	slices.Sort(kinds)
	want := []string{"dns host-not-allowed bad.test", "icmp protocol-not-allowed", "ip protocol-not-allowed", "tcp address-without-name", "udp protocol-not-allowed", "udp protocol-not-allowed"}
	if !slices.Equal(kinds, want) {
		t.Errorf("got %q, want %q", kinds, want)
	}
	if n := int(seen.Load()); n != len(want) {
		t.Errorf("told of %d refusals, want %d", n, len(want))
	}
}

// TestRecordsAreBounded has a job knock in more ways than are kept.
func TestRecordsAreBounded(t *testing.T) {
	t.Parallel()
	d := openFor(t, Config{Limits: Limits{Records: 10}})
	for i := range 100 {
		d.resolve(question(t, fmt.Sprintf("x%d.bad.test.", i), dnsmessage.TypeA))
		d.resolve(question(t, "x0.bad.test.", dnsmessage.TypeA))
	}
	flows, lost := d.Take()
	if len(flows) != 10 || lost != 90 || flows[0].Count != 101 {
		t.Errorf("%d kinds, %d lost, %+v", len(flows), lost, flows[0])
	}
	if flows, lost := d.Take(); len(flows)+lost != 0 {
		t.Errorf("taken twice: %v, %d", flows, lost)
	}
}

// TestNamesAreBounded has a job ask for more names than may have addresses.
func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	var n names
	seen := map[netip.Addr]bool{}
	for i := range 65536 {
		a, ok := n.of(fmt.Sprint(i), 65536)
		if !ok || seen[a] || a == roomAddr || a == resolverAddr || !netip.MustParsePrefix("198.18.0.0/15").Contains(a) {
			t.Fatalf("name %d: %s, %v", i, a, ok)
		}
		seen[a] = true
	}
	if _, ok := n.of("more", 65536); ok {
		t.Error("one name too many")
	}
	if a, ok := n.of("7", 65536); !ok || n.host(a) != "7" {
		t.Error("a name lost its address")
	}
}

// TestPanicShutsOneDoor has a rule panic.
func TestPanicShutsOneDoor(t *testing.T) {
	t.Parallel()
	d, err := Open(Config{Rules: panics{}, Dialer: &Dialer{}})
	if err != nil {
		t.Fatal(err)
	}
	n, room := wire(t, d)
	if _, err := room.Write(ip(unix.IPPROTO_UDP, resolverAddr, udp(53, question(t, "good.test.", dnsmessage.TypeA)))); err != nil {
		t.Fatal(err)
	}
	<-n.gone
	if d.ctx.Err() == nil {
		t.Error("the door is open")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

type panics struct{ only }

func (panics) Name(string) Answer { panic("a bug") }

// TestSteeringHeaders knows the headers that lead past rules, however they are spelled.
func TestSteeringHeaders(t *testing.T) {
	for name, want := range map[string]bool{"X-Http-Method-Override": true, "X_HTTP_Method_Override": true, "X-Rewrite-URL": true, "Forwarded": true, "X-Forwarded_Host": true,
		"Accept": false, "X-Request-Id": false, "Host": false} {
		if got := steers(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestRequestsAreBounded asks for more at a time than a job may, as one connection of HTTP/2 can.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	const most = 3
	d, err := Open(Config{Rules: only("good.test"), Dialer: &Dialer{}, Limits: Limits{Requests: most}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	held, release := make(chan struct{}), make(chan struct{})
	f := &flow{door: d, host: "good.test", port: 443, handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		held <- struct{}{}
		<-release
	})}
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = "good.test"
		d.proxy.serve(w, r.WithContext(context.WithValue(t.Context(), flowKey{}, f)))
		return w
	}
	var wait sync.WaitGroup
	for range most {
		wait.Go(func() { ask() })
		<-held
	}
	if w := ask(); w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), ReasonRequests) {
		t.Errorf("one more: %d %s", w.Code, w.Body)
	}
	close(release)
	wait.Wait()
	go func() { <-held }()
	if w := ask(); w.Code != http.StatusOK {
		t.Errorf("after the others: %d %s", w.Code, w.Body)
	}
}

// TestOpaqueTarget has a request line whose target is no path of a host.
func TestOpaqueTarget(t *testing.T) {
	t.Parallel()
	d, err := Open(Config{Rules: only("good.test"), Dialer: &Dialer{}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	reached := 0
	f := &flow{door: d, host: "good.test", port: 80, handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })}
	for target, want := range map[string]int{
		"/path": http.StatusOK, "http://good.test/path": http.StatusOK, "http://evil.test/path": http.StatusMisdirectedRequest,
		"http:evil.test/path": http.StatusMisdirectedRequest, "ftp://good.test/path": http.StatusMisdirectedRequest, "mailto:a@good.test": http.StatusMisdirectedRequest,
	} {
		reached = 0
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: good.test\r\n\r\n")))
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		w := httptest.NewRecorder()
		d.proxy.serve(w, r.WithContext(context.WithValue(t.Context(), flowKey{}, f)))
		if w.Code != want || (reached == 1) != (want == http.StatusOK) {
			t.Errorf("%s: %d, reached %d times", target, w.Code, reached)
		}
	}
}
