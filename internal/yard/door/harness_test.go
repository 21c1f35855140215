package door_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/door"
	"github.com/sallyport-ci/sallyport/internal/yard/sandbox"
)

// table is a set of rules: hosts, their ports, and whether their requests are read.
type table struct {
	ports   map[string][]int
	methods map[string][]string // hosts whose requests are read
	observe bool
}

func (r table) refuse(reason string) door.Answer {
	if r.observe {
		return door.Answer{Decision: sallyport.EgressObserved, Reason: reason}
	}
	return door.Answer{Decision: sallyport.EgressDenied, Reason: reason}
}

func (r table) Name(host string) door.Answer {
	if _, ok := r.ports[host]; !ok {
		return r.refuse("host-not-allowed")
	}
	return door.Answer{Decision: sallyport.EgressAllowed, Rule: "egress.yaml:1"}
}

func (r table) Connect(host string, port int) door.Answer {
	if _, ok := r.ports[host]; !ok {
		return r.refuse("host-not-allowed")
	}
	if !slices.Contains(r.ports[host], port) {
		return r.refuse("port-not-allowed")
	}
	return door.Answer{Decision: sallyport.EgressAllowed, Rule: "egress.yaml:1", Intercept: r.methods[host] != nil}
}

func (r table) Request(host string, port int, method, _ string) door.Answer {
	a := r.Connect(host, port)
	if m := r.methods[host]; m != nil && !slices.Contains(m, method) {
		return r.refuse("method-not-allowed")
	}
	return a
}

// loopback hands out addresses of this machine's loopback that nobody else in this
// process has, so that servers can have the ports that clients expect.
var loopback atomic.Uint32

func nextLoopback() netip.Addr {
	n := loopback.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(64 + os.Getpid()%128), byte(1 + os.Getpid()/128%250), byte(n)})
}

// needRoom skips where rooms cannot be made with what the tests need.
func needRoom(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: its servers listen on ports below 1024")
	}
}

// runtimePath finds what makes rooms of a level: runc, or runsc for strong ones.
func runtimePath(t testing.TB, level string) string {
	t.Helper()
	name, script := "runc", "scripts/runtime.sh"
	if level == sandbox.Strong {
		name, script = "runsc", "make strong"
	}
	if built, err := filepath.Abs("../../../bin/" + name); err == nil {
		if _, err := os.Stat(built); err == nil {
			return built
		}
	}
	if found, err := exec.LookPath(name); err == nil {
		return found
	}
	t.Skipf("there is no %s: %s builds it", name, script)
	return ""
}

// eachLevel runs a test with the rooms of both levels: what a door lets through and records
// must not depend on whose network stack is on the room's side.
func eachLevel(t *testing.T, f func(t *testing.T, w *world)) {
	t.Parallel()
	for _, level := range []string{sandbox.Level, sandbox.Strong} {
		t.Run(level, func(t *testing.T) {
			w := newWorld(t)
			w.level = level
			f(t, w)
		})
	}
}

// world is servers outside, a door, and a room behind it.
type world struct {
	t      testing.TB
	level  string // of the room; "" is standard
	pool   *x509.CertPool
	caKey  *ecdsa.PrivateKey
	caCert *x509.Certificate
	caFile string
	hosts  map[string][]netip.Addr
	dir    string
	door   *door.Door
	record []sallyport.Flow
	room   sallyport.Room
	extra  []sallyport.Bind
}

func newWorld(t testing.TB) *world {
	t.Helper()
	needRoom(t)
	w := &world{t: t, hosts: map[string][]netip.Addr{}, dir: t.TempDir(), pool: x509.NewCertPool()}
	var err error
	if w.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "outside"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &w.caKey.PublicKey, w.caKey)
	if err != nil {
		t.Fatal(err)
	}
	if w.caCert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	w.pool.AddCert(w.caCert)
	return w
}

// certificate is one of the outside's authority for names.
func (w *world) certificate(names ...string) tls.Certificate {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, w.caCert, &key.PublicKey, w.caKey)
	if err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// listen serves host at a port of an address of its own.
func (w *world) listen(host string, port int) net.Listener {
	w.t.Helper()
	if len(w.hosts[host]) == 0 {
		w.hosts[host] = []netip.Addr{nextLoopback()}
	}
	ln, err := net.Listen("tcp", netip.AddrPortFrom(w.hosts[host][0], uint16(port)).String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ln.Close() })
	return ln
}

// web serves HTTP for host at ports 80 and 443.
func (w *world) web(host string, h http.Handler) {
	w.t.Helper()
	for _, port := range []int{80, 443} {
		ln := w.listen(host, port)
		s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
		if port == 443 {
			s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{w.certificate(host, "*."+host)}}
		}
		w.t.Cleanup(func() { s.Close() })
		go func() {
			if port == 443 {
				_ = s.ServeTLS(ln, "", "")
			} else {
				_ = s.Serve(ln)
			}
		}()
	}
}

// open makes the door and the room.
func (w *world) open(c door.Config) {
	w.t.Helper()
	if c.Dialer == nil {
		c.Dialer = &door.Dialer{Private: door.Private{Hosts: w.hosts}}
	}
	if c.Roots == nil {
		c.Roots = w.pool
	}
	d, err := door.Open(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.door = d
	s, err := sandbox.New(sandbox.Config{StateDir: filepath.Join(w.dir, "state"), Level: w.level, Runtime: runtimePath(w.t, w.level)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.caFile = filepath.Join(w.dir, "ca.pem")
	own, err := d.Certificate()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.caFile, append(own, pemOf(w.caCert)...), 0o644); err != nil {
		w.t.Fatal(err)
	}
	up, release := d.Uplink()
	w.room, err = s.Prepare(context.Background(), sallyport.RoomSpec{
		ID: fmt.Sprintf("door-%d", loopback.Add(1)), Uplink: up,
		Binds: append(w.extra, sallyport.Bind{Source: w.caFile, Target: "/ca.pem", ReadOnly: true}),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := w.room.Destroy(context.Background()); err != nil {
			w.t.Error(err)
		}
		release()
		if err := d.Close(); err != nil {
			w.t.Error(err)
		}
		s.Close()
	})
}

// sh runs a script in the room.
func (w *world) sh(script string) (string, int) {
	w.t.Helper()
	var out bytes.Buffer
	res, err := w.room.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"sh", "-c", script}, Dir: "/tmp", Stdout: &out, Stderr: &out,
		Env: []sallyport.EnvVar{{Name: "PATH", Value: "/usr/local/bin:/usr/bin:/bin"}, {Name: "HOME", Value: "/root"}, {Name: "CURL_CA_BUNDLE", Value: "/ca.pem"}, {Name: "GIT_SSL_CAINFO", Value: "/ca.pem"}, {Name: "SSL_CERT_FILE", Value: "/ca.pem"}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(out.String()), res.ExitCode
}

// flows is what the door has recorded until now.
func (w *world) flows() []sallyport.Flow {
	for _, f := range first(w.door.Take()) {
		if i := slices.IndexFunc(w.record, func(have sallyport.Flow) bool {
			f.Count, f.Sent, f.Received, f.First, f.Last = have.Count, have.Sent, have.Received, have.First, have.Last
			return f == have
		}); i < 0 {
			w.record = append(w.record, f)
		}
	}
	return w.record
}

func first[A, B any](a A, _ B) A { return a }

// saw tells whether the door has recorded such a flow.
func (w *world) saw(protocol, host string, decision sallyport.EgressDecision, reason string) bool {
	w.t.Helper()
	return slices.ContainsFunc(w.flows(), func(f sallyport.Flow) bool {
		return f.Protocol == protocol && f.Host == host && f.Decision == decision && f.Reason == reason
	})
}

// await is saw for what is recorded when a connection has ended, which the room may notice first.
func (w *world) await(protocol, host string, decision sallyport.EgressDecision, reason string) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if w.saw(protocol, host, decision, reason) {
			return
		}
	}
	w.t.Errorf("no flow %s %s %s %s among %+v", protocol, host, decision, reason, w.record)
}

// goroutines returns the stacks of those that are in one of these packages.
func goroutines(packages ...string) string {
	buf := make([]byte, 8<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if slices.ContainsFunc(packages, func(p string) bool { return strings.Contains(g, p) }) {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}
