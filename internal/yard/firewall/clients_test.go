package firewall_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

// gate stands where the door stands: it is the clients' HTTP proxy, ends TLS with certificates of its own
// and hands requests to a job's firewall.
type gate struct {
	job *firewall.Job
	ca  tls.Certificate
	pem string // the file that clients trust
}

func newGate(t testing.TB, j *firewall.Job) (g *gate, address string) {
	t.Helper()
	g = &gate{job: j}
	g.ca = certificate(t, nil, "gate")
	g.pem = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(g.pem, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.ca.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			g.connect(t, w, r)
			return
		}
		g.hand(w, r, r.URL.Hostname())
	}))
	t.Cleanup(s.Close)
	return g, s.URL
}

func (g *gate) hand(w http.ResponseWriter, r *http.Request, host string) {
	h := g.job.Handler(host)
	if h == nil {
		http.Error(w, "no registry", http.StatusBadGateway)
		return
	}
	h.ServeHTTP(w, r)
}

func (g *gate) connect(t testing.TB, w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.Host)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	secured := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate(t, &g.ca, host)}})
	l := &oneConn{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conn <- &watchedConn{Conn: secured, closed: l.done}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.hand(w, r, host) }), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	_ = s.Serve(l) // ends with the connection
}

// oneConn is a listener of one connection.
type oneConn struct {
	conn chan net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, io.EOF
	}
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

type watchedConn struct {
	net.Conn
	closed chan struct{}
}

func (c *watchedConn) Close() error {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return c.Conn.Close()
}

func certificate(t testing.TB, ca *tls.Certificate, name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Error(err)
		return tls.Certificate{}
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: ca == nil}
	parent, signer := template, any(key)
	if ca != nil {
		if parent, err = x509.ParseCertificate(ca.Certificate[0]); err != nil {
			t.Error(err)
			return tls.Certificate{}
		}
		signer = ca.PrivateKey
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Error(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// client runs a program as a job would, with nothing of the host's configuration.
func client(t testing.TB, proxy, ca string, env []sallyport.EnvVar, dir string, argv ...string) (string, error) {
	t.Helper()
	bin, err := exec.LookPath(argv[0])
	if err != nil {
		t.Skipf("%s is not installed", argv[0])
	}
	home := filepath.Join(dir, ".home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(bin, argv[1:]...)
	c.Dir = dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "HTTP_PROXY=" + proxy, "HTTPS_PROXY=" + proxy, "http_proxy=" + proxy, "https_proxy=" + proxy, "npm_config_proxy=" + proxy, "npm_config_https_proxy=" + proxy,
		"SSL_CERT_FILE=" + ca, "NODE_EXTRA_CA_CERTS=" + ca, "npm_config_cafile=" + ca, "PIP_CERT=" + ca, "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_CACHE_DIR=1", "PIP_RETRIES=0", "npm_config_update_notifier=false", "npm_config_fetch_retries=0",
		"GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "LC_ALL=C"}
	for _, e := range env {
		c.Env = append(c.Env, e.Name+"="+e.Value)
	}
	out, err := c.CombinedOutput()
	return string(out), err
}

func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGoCommand(t *testing.T) {
	t.Parallel()
	w, g := withGo(t)
	g.publish(t, "example.com/good", "v1.0.0", old, "example.com/dep v1.1.0")
	g.publish(t, "example.com/dep", "v1.1.0", old)
	g.publish(t, "example.com/evil", "v1.0.0", old)
	g.publish(t, "example.com/new", "v1.0.0", fresh)
	key := g.database(t, func(*goModule) string { return "" })
	w.upstreams.Sum = firewall.SumDB{Name: "sum.test", Key: key}
	w.upstreams.GoSumDB = "off" // the fake's go.mod sums are not those of go.mod files; the firewall's own check is on
	j := w.open("Go example.com/evil")
	gate, proxy := newGate(t, j)
	dir := t.TempDir()
	write(t, dir, map[string]string{"go.mod": "module m\n\ngo 1.20\n"})
	run := func(argv ...string) (string, error) {
		return client(t, proxy, gate.pem, w.f.Env(), dir, append([]string{"go"}, argv...)...)
	}
	if out, err := run("get", "example.com/good"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := run("mod", "download", "all"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := run("mod", "verify"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, words := range map[string]string{"example.com/evil@v1.0.0": "known to be malicious", "example.com/new@v1.0.0": "published 5 hours ago"} {
		if out, err := run("mod", "download", name); err == nil || !strings.Contains(out, words) {
			t.Errorf("%s: go prints no %q: %v\n%s", name, words, err, out)
		}
	}
	taken := map[string]bool{}
	for _, p := range w.recorded() {
		taken[p.PURL] = taken[p.PURL] || p.Decision == sallyport.EgressAllowed
	}
	for purl, want := range map[string]bool{"pkg:golang/example.com/good@v1.0.0": true, "pkg:golang/example.com/dep@v1.1.0": true, "pkg:golang/example.com/new@v1.0.0": false} {
		if got, ok := taken[purl]; !ok || got != want {
			t.Errorf("%s: recorded %v as taken: %v", purl, ok, got)
		}
	}
}

func TestNPMCommand(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	n.publish(t, "good", "1.0.0", old, map[string]string{"@acme/dep": "^1.0.0"})
	n.publish(t, "good", "1.1.0", fresh, nil)
	n.publish(t, "@acme/dep", "1.2.0", old, nil)
	n.publish(t, "evil", "1.0.0", old, nil)
	n.publish(t, "half", "1.0.0", old, nil)
	j := w.open("npm evil", "npm half 1.0.0")
	gate, proxy := newGate(t, j)
	dir := t.TempDir()
	write(t, dir, map[string]string{"package.json": `{"name":"m","version":"1.0.0","dependencies":{"good":"^1.0.0"}}`})
	run := func(argv ...string) (string, error) {
		return client(t, proxy, gate.pem, w.f.Env(), dir, append([]string{"npm"}, argv...)...)
	}
	if out, err := run("install"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil || !strings.Contains(string(lock), "http://npm.test/good/-/good-1.0.0.tgz") || strings.Contains(string(lock), "1.1.0") {
		t.Fatalf("the lock file is %s, %v", lock, err)
	}
	os.RemoveAll(filepath.Join(dir, ".home"))
	w.take()
	if out, err := run("ci"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if asked := w.take(); len(asked) > 0 {
		t.Errorf("a repeated installation reached the registry: %q", asked)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules/@acme/dep/index.js")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"evil", "half@1.0.0"} {
		if out, err := run("install", name); err == nil || !strings.Contains(out, "known to be malicious") && name == "evil" {
			t.Errorf("%s: npm prints %v\n%s", name, err, out)
		}
	}
}

func TestPipCommand(t *testing.T) {
	t.Parallel()
	w, p := withPyPI(t, true)
	p.files = []pyFile{{name: "my_project-1.0.tar.gz", body: []byte("x"), at: old}, {name: "my_project-2.0.tar.gz", body: []byte("y"), at: fresh}}
	j := w.open("PyPI my-project 1.0")
	gate, proxy := newGate(t, j)
	dir := t.TempDir()
	env := append(w.f.Env(), sallyport.EnvVar{Name: "PIP_TRUSTED_HOST", Value: "py.test files.py.test"})
	out, err := client(t, proxy, gate.pem, env, dir, "python3", "-m", "pip", "download", "--no-deps", "-i", "http://py.test/simple", "my-project")
	if strings.Contains(out, "No module named pip") {
		t.Skip("pip is not installed")
	}
	if err == nil || !strings.Contains(out, "known to be malicious") && !strings.Contains(out, "published 5 hours ago") {
		t.Errorf("pip does not say why: %v\n%s", err, out)
	}
}

// TestRealRegistries installs something small from the registries that this host's own clients use.
func TestRealRegistries(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it reaches out")
	}
	up, _ := firewall.Discover(firewall.Host{FS: os.DirFS("/"), Env: os.Getenv})
	f, err := firewall.New(firewall.Config{Upstreams: up, Transport: http.DefaultTransport, CacheDir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	gate, proxy := newGate(t, f.Job(firewall.JobConfig{}))
	for _, c := range []struct {
		kind  firewall.Kind
		files map[string]string
		argv  []string
		want  string
	}{
		{firewall.KindGo, map[string]string{"go.mod": "module m\n\ngo 1.20\n"}, []string{"go", "mod", "download", "-json", "rsc.io/quote@v1.5.2"}, "h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y="},
		{firewall.KindNPM, map[string]string{"package.json": `{"name":"m","version":"1.0.0"}`}, []string{"npm", "install", "--no-audit", "--no-fund", "is-odd@3.0.1"}, "added 2 packages"},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			t.Parallel()
			reachable(t, up, c.kind)
			dir := t.TempDir()
			write(t, dir, c.files)
			out, err := client(t, proxy, gate.pem, f.Env(), dir, c.argv...)
			skipAway(t, out)
			if err != nil || !strings.Contains(out, c.want) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// skipAway skips when the firewall told a client that the registry did not answer as one.
func skipAway(t *testing.T, out string) {
	t.Helper()
	for _, words := range []string{"cannot be reached", "does not answer in time", "could not be read to the end", " answered 4", " answered 5"} {
		if strings.Contains(out, words) {
			t.Skipf("the host's registry does not answer as one just now:\n%s", out)
		}
	}
}

// reachable skips when the registry of a kind cannot be reached from here.
func reachable(t *testing.T, up firewall.Upstreams, kind firewall.Kind) {
	t.Helper()
	for _, u := range up.List {
		if u.Kind != kind {
			continue
		}
		c := http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := c.Get(u.Base.String())
		if err != nil {
			t.Skipf("the host's registry of %s packages cannot be reached from here", kind)
		}
		_, _ = bufio.NewReader(res.Body).Discard(1)
		res.Body.Close()
		return
	}
	t.Skipf("the host is configured for no registry of %s packages", kind)
}
