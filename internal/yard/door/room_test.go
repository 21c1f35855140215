package door_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/door"
)

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// echo answers with what it was asked, and remembers it.
type echo struct {
	mu   sync.Mutex
	seen []string
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	line := fmt.Sprintf("%s %s %s %s %d", r.Proto, r.Method, r.Host, r.URL, n)
	e.mu.Lock()
	e.seen = append(e.seen, line)
	e.mu.Unlock()
	switch r.URL.Path {
	case "/away":
		http.Redirect(w, r, "https://bad.test/", http.StatusFound)
	default:
		fmt.Fprintln(w, line)
	}
}

func (e *echo) saw(part string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.seen, func(s string) bool { return strings.Contains(s, part) })
}

// probe is the script that speaks as no honest client does.
func probe(t testing.TB) sallyport.Bind {
	t.Helper()
	path, err := filepath.Abs("testdata/probe.py")
	if err != nil {
		t.Fatal(err)
	}
	return sallyport.Bind{Source: path, Target: "/probe.py", ReadOnly: true}
}

// TestDoor has a job in a real room try what its rules allow, and what they do not.
func TestDoor(t *testing.T) { eachLevel(t, testDoor) }

func testDoor(t *testing.T, w *world) {
	good, read, other := new(echo), new(echo), new(echo)
	w.web("good.test", good)
	w.web("read.test", read)
	w.web("other.test", other)
	w.hosts["other.test"] = w.hosts["good.test"] // one server of many names, as at a content network
	w.extra = append(w.extra, probe(t))
	dialer := &door.Dialer{Private: door.Private{Hosts: map[string][]netip.Addr{"good.test": w.hosts["good.test"], "read.test": w.hosts["read.test"]}},
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			return map[string][]netip.Addr{
				"rebind.test":   {netip.MustParseAddr("127.0.0.1")},
				"metadata.test": {netip.MustParseAddr("::ffff:169.254.169.254"), netip.MustParseAddr("10.0.0.1")},
			}[host], nil
		}}
	w.open(door.Config{Dialer: dialer, Rules: table{
		ports:   map[string][]int{"good.test": {80, 443}, "read.test": {80, 443}, "rebind.test": {80, 443}, "metadata.test": {80, 443}},
		methods: map[string][]string{"read.test": {"GET"}},
	}})
	const alert = `b'\x15\x03\x03\x00\x02\x021<end>'` // access denied
	for _, c := range []struct {
		name, script string
		out          string // in it, in this order
		flow         [3]string
	}{
		// What is allowed.
		{"https", "curl -sS https://good.test/x", "HTTP/2.0 GET good.test /x 0", [3]string{"tls", "good.test", ""}},
		{"http", "curl -sS http://good.test/x", "HTTP/1.1 GET good.test /x 0", [3]string{"http", "good.test", ""}},
		{"a name in capitals with a last dot", "curl -sS https://GOOD.test./x", "GET", [3]string{"tls", "good.test", ""}},
		{"python", `python3 -c 'import urllib.request as u; print(u.urlopen("https://good.test/py").read().decode())'`, "HTTP/1.1 GET good.test /py 0", [3]string{"tls", "good.test", ""}},
		{"many connections", "for i in $(seq 20); do curl -sS https://good.test/$i & done; wait", "HTTP/2.0 GET good.test /", [3]string{}},
		{"a large body", "head -c 20000000 /dev/zero | curl -sS --data-binary @- https://good.test/up", "POST good.test /up 20000000", [3]string{}},
		{"read", "curl -sS https://read.test/x", "HTTP/2.0 GET read.test /x 0", [3]string{"http", "read.test", ""}},
		{"read by HTTP/1.1", "curl -sS --http1.1 https://read.test/x", "GET read.test /x 0", [3]string{"http", "read.test", ""}},
		{"read in clear", "curl -sS http://read.test/x", "HTTP/1.1 GET read.test /x 0", [3]string{"http", "read.test", ""}},
		{"localhost stays", "getent ahostsv4 localhost | head -n1; python3 /probe.py connect 127.0.0.1 9", "127.0.0.1|ConnectionRefusedError 111", [3]string{}},

		// Names.
		{"a name without a rule", "curl -sS https://bad.test/", "(6) Could not resolve host: bad.test", [3]string{"dns", "bad.test", "host-not-allowed"}},
		{"a tunnel in a name", "getent hosts c2VjcmV0.x.bad.test; echo $?", "2", [3]string{"dns", "c2vjcmv0.x.bad.test", "host-not-allowed"}},
		{"a tunnel below an allowed name", "getent hosts c2VjcmV0.good.test; echo $?", "2", [3]string{"dns", "c2vjcmv0.good.test", "host-not-allowed"}},
		{"TXT of an allowed name", "python3 /probe.py dns good.test 16", "code 0 answers 0", [3]string{"dns", "good.test", "question-not-answered"}},
		{"NULL of an allowed name", "python3 /probe.py dns good.test 10", "code 0 answers 0", [3]string{"dns", "good.test", "question-not-answered"}},
		{"MX of a name without a rule", "python3 /probe.py dns bad.test 15", "code 3 answers 0", [3]string{"dns", "bad.test", "host-not-allowed"}},
		{"another resolver", "python3 /probe.py udp 9.9.9.9 53", "ConnectionRefusedError", [3]string{"udp", "", "protocol-not-allowed"}},
		{"a homograph", `python3 -c 'import socket; socket.create_connection(("g\u043e\u043ed.test", 443))'`, "Name or service not known", [3]string{}},

		// Addresses and protocols.
		{"an address", "python3 /probe.py connect 192.0.2.1 443", "ConnectionRefusedError 111", [3]string{"tcp", "", "address-without-name"}},
		{"the metadata address", "curl -sS http://169.254.169.254/latest/", "(7) Failed to connect", [3]string{"tcp", "", "address-without-name"}},
		{"the resolver's other ports", "python3 /probe.py connect 198.18.0.1 80", "ConnectionRefusedError 111", [3]string{"tcp", "", "address-without-name"}},
		{"an address that a name could have", "python3 /probe.py connect 198.19.255.1 443", "ConnectionRefusedError 111", [3]string{"tcp", "", "address-without-name"}},
		{"IPv6", "python3 /probe.py connect 2001:db8::1 443", "OSError 101", [3]string{}},
		{"another port", "python3 /probe.py connect good.test 22", "ConnectionRefusedError 111", [3]string{"tcp", "good.test", "port-not-allowed"}},
		{"UDP", "python3 /probe.py udp good.test 443", "ConnectionRefusedError", [3]string{"udp", "good.test", "protocol-not-allowed"}},

		// What is said in a connection.
		{"a foreign name in TLS", "python3 /probe.py sni good.test other.test", alert, [3]string{"tls", "good.test", "sni-mismatch"}},
		{"no name in TLS", "python3 /probe.py no-sni good.test", alert, [3]string{"tls", "good.test", "sni-missing"}},
		{"a hidden name", "python3 /probe.py ech good.test", alert, [3]string{"tls", "good.test", "ech"}},
		{"a foreign name in many records", "python3 /probe.py split good.test other.test", alert, [3]string{"tls", "good.test", "sni-mismatch"}},
		{"a hello of many megabytes", "python3 /probe.py huge good.test", alert, [3]string{"tls", "good.test", "malformed-hello"}},
		{"a hello that is too long", "python3 /probe.py long good.test", alert, [3]string{"tls", "good.test", "malformed-hello"}},
		{"not TLS", `python3 /probe.py plain good.test 443 'GET / HTTP/1.1\r\nHost: good.test\r\n\r\n'`, "b'<", [3]string{"tls", "good.test", "not-tls"}},
		{"a foreign name where requests are read", "python3 /probe.py sni read.test other.test", alert, [3]string{"tls", "read.test", "sni-mismatch"}},
		{"a client without trust", "curl -sS --cacert /etc/hostname https://read.test/ ; curl -sS --capath /nowhere --cacert /usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt https://read.test/", "curl: (", [3]string{"tls", "read.test", "tls-handshake"}},
		{"a foreign Host", "curl -sS -H 'Host: other.test' http://good.test/front", "refused GET good.test: host-mismatch", [3]string{"http", "good.test", "host-mismatch"}},
		{"a foreign Host where requests are read", "curl -sS -H 'Host: other.test' https://read.test/front", "refused GET read.test: host-mismatch", [3]string{"http", "read.test", "host-mismatch"}},
		{"a foreign Host in the second request", "python3 /probe.py second good.test other.test", "200 OK|/first|421|host-mismatch", [3]string{"http", "good.test", "host-mismatch"}},
		{"an absolute address", `python3 /probe.py plain good.test 80 'GET http://other.test/abs HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n'`, "421", [3]string{"http", "good.test", "host-mismatch"}},
		{"two lengths", `python3 /probe.py plain good.test 80 'POST /cl HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!'`, "400 Bad Request", [3]string{}},
		{"a length and chunks", `python3 /probe.py plain good.test 80 'POST /te HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n'`, "<end>", [3]string{}},
		{"HTTP/2 in clear", `python3 /probe.py plain good.test 80 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'`, "<", [3]string{}},
		{"a tunnel", `python3 /probe.py plain good.test 80 'CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n'`, "405", [3]string{"http", "good.test", "method-not-allowed"}},
		{"not HTTP", `python3 /probe.py plain good.test 80 'SSH-2.0-x\r\n'`, "b'<", [3]string{"tcp", "good.test", "not-http"}},
		{"another method", "curl -sS -d a=b https://read.test/x", "refused POST read.test: method-not-allowed", [3]string{"http", "read.test", "method-not-allowed"}},
		{"a redirect", "curl -sSL https://good.test/away", "Could not resolve host: bad.test", [3]string{"dns", "bad.test", "host-not-allowed"}},

		// What a name turns out to be.
		{"a name of this machine", "curl -sS https://rebind.test/", "curl: (35)", [3]string{"tls", "rebind.test", "private-address"}},
		{"a name of this machine, in clear", "curl -sS http://rebind.test/", "refused GET rebind.test: private-address", [3]string{"http", "rebind.test", "private-address"}},
		{"a name of the metadata service", "curl -sS http://metadata.test/latest/", "private-address", [3]string{"http", "metadata.test", "private-address"}},
	} {
		out, _ := w.sh(c.script)
		rest := out
		for part := range strings.SplitSeq(c.out, "|") {
			_, after, ok := strings.Cut(rest, part)
			if !ok {
				t.Errorf("%s: got %q, want %q in it", c.name, out, c.out)
				break
			}
			rest = after
		}
		if c.flow[0] != "" {
			decision := sallyport.EgressAllowed
			if c.flow[2] != "" {
				decision = sallyport.EgressDenied
			}
			w.await(c.flow[0], c.flow[1], decision, c.flow[2])
		}
	}
	for _, part := range []string{"other.test", "/smuggled", "/front", "/second", "/abs"} {
		if good.saw(part) || read.saw(part) {
			t.Errorf("a server saw %s", part)
		}
	}
	if len(other.seen) > 0 {
		t.Errorf("the other server was asked %q", other.seen)
	}
}

// TestGit clones and pushes through the door.
func TestGit(t *testing.T) { eachLevel(t, testGit) }

func testGit(t *testing.T, w *world) {
	bare := filepath.Join(w.dir, "git", "repo.git")
	for _, args := range [][]string{{"init", "-q", "--bare", bare}, {"-C", bare, "config", "http.receivepack", "true"}} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v %s", args, err, out)
		}
	}
	core, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	w.web("git.test", &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(core)), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(bare), "GIT_HTTP_EXPORT_ALL=1"}})
	w.open(door.Config{Rules: table{ports: map[string][]int{"git.test": {443}}}})
	out, code := w.sh(`set -e; git clone -q https://git.test/repo.git a 2>/dev/null; cd a; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one
git push -q origin HEAD:main; cd ..; git clone -q -b main https://git.test/repo.git b; git -C b log --format=%s`)
	if code != 0 || out != "one" {
		t.Errorf("got %d, %q", code, out)
	}
}

// TestObserve lets through what no rule allows, and still not what is never allowed.
func TestObserve(t *testing.T) { eachLevel(t, testObserve) }

func testObserve(t *testing.T, w *world) {
	w.web("unknown.test", new(echo))
	w.extra = append(w.extra, probe(t))
	w.open(door.Config{Rules: table{observe: true}})
	if out, _ := w.sh("curl -sS https://unknown.test/x"); !strings.Contains(out, "GET unknown.test /x") {
		t.Errorf("got %q", out)
	}
	w.await("tls", "unknown.test", sallyport.EgressObserved, "host-not-allowed")
	if out, _ := w.sh("python3 /probe.py connect 192.0.2.1 443; python3 /probe.py sni unknown.test other.test"); !strings.Contains(out, "ConnectionRefusedError") || !strings.Contains(out, `\x15`) {
		t.Errorf("got %q", out)
	}
}

// TestSlow ends connections that do not say what they are, or say nothing any more.
func TestSlow(t *testing.T) { eachLevel(t, testSlow) }

func testSlow(t *testing.T, w *world) {
	w.web("good.test", new(echo))
	ln := w.listen("quiet.test", 7777)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	w.extra = append(w.extra, probe(t))
	w.open(door.Config{
		Rules:  table{ports: map[string][]int{"good.test": {80, 443}, "quiet.test": {7777}}},
		Limits: door.Limits{Hello: 300 * time.Millisecond, Idle: 500 * time.Millisecond},
	})
	for _, c := range []struct{ script, out string }{
		{"python3 /probe.py silent good.test 443", "b'<"},
		{"python3 /probe.py silent good.test 80", "b'<"},
		{`python3 /probe.py plain good.test 80 'GET / HTTP/1.1\r\nHost: good'`, "b'"},
		{"python3 /probe.py silent quiet.test 7777", "b'<"},
	} {
		if out, _ := w.sh(c.script); !strings.HasPrefix(out, c.out) || strings.Contains(out, "silence") {
			t.Errorf("%s: got %q", c.script, out)
		}
	}
	w.await("tls", "good.test", sallyport.EgressDenied, door.ReasonSlow)
	w.await("tcp", "quiet.test", sallyport.EgressAllowed, "")
}

// TestBudgets refuses what is beyond what one job may use.
func TestBudgets(t *testing.T) { eachLevel(t, testBudgets) }

func testBudgets(t *testing.T, w *world) {
	w.web("good.test", new(echo))
	w.extra = append(w.extra, probe(t))
	w.open(door.Config{
		Rules:  table{ports: map[string][]int{"good.test": {443}}},
		Limits: door.Limits{Flows: 3, Bytes: 1 << 20, Questions: 30, Records: 12},
	})
	hold := `python3 -c '
import socket
held = []
for i in range(3): held.append(socket.create_connection(("good.test", 443)))
try:
    socket.create_connection(("good.test", 443)); print("four")
except ConnectionRefusedError: print("three")'`
	if out, _ := w.sh(hold); out != "three" {
		t.Errorf("connections: got %q", out)
	}
	w.await("tcp", "good.test", sallyport.EgressDenied, door.ReasonFlows)
	if out, code := w.sh("head -c 3000000 /dev/zero | curl -sS --data-binary @- https://good.test/up"); code == 0 {
		t.Errorf("bytes: got %q", out)
	}
	w.await("tls", "good.test", sallyport.EgressDenied, door.ReasonBytes)
	w.sh("for i in $(seq 40); do getent hosts x$i.bad.test; done")
	w.await("dns", "", sallyport.EgressDenied, door.ReasonAsked)
	if _, lost := w.door.Take(); lost != 0 || len(w.record) > 40 {
		t.Errorf("%d records", len(w.record))
	}
}

// TestClose leaves nothing behind, whatever the room was doing.
func TestClose(t *testing.T) {
	w := newWorld(t)
	w.web("good.test", new(echo))
	count := func() (files int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.Contains(to, "net/tun") || strings.Contains(to, "packet") {
				files++
			}
		}
		return files
	}
	before := count()
	w.extra = append(w.extra, probe(t))
	w.open(door.Config{Rules: table{ports: map[string][]int{"good.test": {80, 443}}, methods: map[string][]string{"good.test": {"GET"}}}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = w.room.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"sh", "-c", "for i in 1 2 3 4; do python3 /probe.py silent good.test 80 & python3 /probe.py silent good.test 443 & done; curl -sS --max-time 5 https://good.test/; wait"},
			Dir: "/", Env: []sallyport.EnvVar{{Name: "PATH", Value: "/usr/bin:/bin"}}})
	}()
	w.await("dns", "good.test", sallyport.EgressAllowed, "")
	for range 2 {
		if err := w.door.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d links are open, %d were", after, before)
	}
	if left := goroutines("internal/yard/door.(", "gvisor.dev/gvisor"); left != "" {
		t.Errorf("left over:\n%s", left)
	}
	<-done
	if up, _ := w.door.Uplink(); up.Attach(sallyport.Link{}) == nil {
		t.Error("a closed door takes a link")
	}
}
