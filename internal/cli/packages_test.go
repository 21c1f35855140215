package cli

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// packageRegistry serves packages of npm and Go modules, each by the host's name that is asked.
type packageRegistry struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex
	asked  []string
}

func newPackageRegistry(t *testing.T) *packageRegistry {
	r := &packageRegistry{t: t}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

// url is the registry under a name that rooms can ask for.
func (r *packageRegistry) url(host string) string {
	_, port, err := net.SplitHostPort(r.server.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	return "http://" + net.JoinHostPort(host, port)
}

// tarball is a package of npm.
func (r *packageRegistry) tarball(name string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	a := tar.NewWriter(z)
	for _, f := range [][2]string{{"package.json", fmt.Sprintf(`{"name":%q,"version":"1.0.0"}`, name)}, {"index.js", fmt.Sprintf("console.log('%s runs')\n", name)}} {
		if err := a.WriteHeader(&tar.Header{Name: "package/" + f[0], Mode: 0o644, Size: int64(len(f[1])), Typeflag: tar.TypeReg}); err != nil {
			r.t.Error(err)
		}
		_, _ = io.WriteString(a, f[1])
	}
	_, _ = a.Close(), z.Close()
	return b.Bytes()
}

func (r *packageRegistry) integrity(name string) string {
	sum := sha512.Sum512(r.tarball(name))
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func (r *packageRegistry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.asked = append(r.asked, q.Host+q.URL.Path)
	r.mu.Unlock()
	host, _, _ := net.SplitHostPort(q.Host)
	path := strings.TrimPrefix(q.URL.Path, "/")
	switch host {
	case "npm.test":
		if name, _, ok := strings.Cut(path, "/-/"); ok {
			_, _ = w.Write(r.tarball(name))
			return
		}
		at := "2020-01-01T00:00:00Z"
		if strings.HasPrefix(path, "new") {
			at = time.Now().UTC().Format(time.RFC3339)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"name": path, "dist-tags": map[string]string{"latest": "1.0.0"}, "time": map[string]string{"created": at, "1.0.0": at},
			"versions": map[string]any{"1.0.0": map[string]any{"name": path, "version": "1.0.0", "dist": map[string]string{
				"integrity": r.integrity(path), "tarball": r.url("npm.test") + "/" + path + "/-/" + path + "-1.0.0.tgz"}}},
		})
	case "go.test":
		module, file, _ := strings.Cut(path, "/@v/")
		switch file {
		case "list":
			_, _ = io.WriteString(w, "v1.0.0\n")
		case "v1.0.0.info":
			_, _ = io.WriteString(w, `{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}`)
		case "v1.0.0.mod":
			_, _ = io.WriteString(w, "module "+module+"\n")
		case "v1.0.0.zip":
			z := zip.NewWriter(w)
			f, err := z.Create(module + "@v1.0.0/go.mod")
			if err == nil {
				_, err = io.WriteString(f, "module "+module+"\n")
			}
			if err != nil || z.Close() != nil {
				r.t.Error("the module could not be packed")
			}
		default:
			http.NotFound(w, q)
		}
	default:
		http.NotFound(w, q)
	}
}

// TestPackages installs packages in a room with the clients' own commands, from registries that the host's
// clients are configured for. What is known to be malicious does not get there.
func TestPackages(t *testing.T) {
	t.Parallel()
	needRuntime(t)
	r := newPackageRegistry(t)
	dir, advisories, cache := t.TempDir(), t.TempDir(), t.TempDir()
	for file, body := range map[string]string{
		filepath.Join(dir, ".github/workflows/ci.yml"): `on: push
jobs:
  install:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: npm install --no-audit --no-fund && node node_modules/good/index.js
      - run: rm -rf node_modules && npm ci --no-audit --no-fund && node node_modules/good/index.js
      - run: npm install --no-audit --no-fund evil || echo evil is "not here"; test ! -e node_modules/evil
      - run: node -e 'fetch(process.env.npm_config_registry + "m", {method:"PUT", body:"{}"}).then(r => r.text()).then(console.log)'
      - run: |
          if command -v go; then
            go mod download -json example.com/good@v1.0.0 && echo go has "it"
            go mod download -json example.com/evil@v1.0.0 || echo go is "refused"
          fi
`,
		filepath.Join(dir, "package.json"):          `{"name":"m","version":"1.0.0","dependencies":{"good":"^1.0.0"}}`,
		filepath.Join(advisories, "npm/MAL-1.json"): `{"id":"MAL-1","affected":[{"package":{"ecosystem":"npm","name":"evil"}}]}`,
		filepath.Join(advisories, "Go/MAL-2.json"):  `{"id":"MAL-2","affected":[{"package":{"ecosystem":"Go","name":"example.com/evil"}}]}`,
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "x"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sallyport", "run", "-C", dir, "--egress", "registries", "--egress-private", "npm.test=127.0.0.1", "--egress-private", "go.test=127.0.0.1", "--advisories", advisories)
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp", "HOME="+cache, "XDG_CACHE_HOME="+cache, "npm_config_registry="+r.url("npm.test"), "GOPROXY="+r.url("go.test"), "GOSUMDB=off")
	raw, err := cmd.CombinedOutput()
	out := string(raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := []string{"good runs", "npm package evil is refused: it is known to be malicious (MAL-1)", "evil is not here", "The firewall refused pkg:npm/evil: it is known to be malicious", "not published or changed"}
	if strings.Contains(out, "go has it") {
		want = append(want, "go package example.com/evil is refused: it is known to be malicious (MAL-2)", "go is refused")
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("the log has no %q", w)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	tarballs := 0
	for _, asked := range r.asked {
		if strings.Contains(asked, "evil") && !strings.HasSuffix(asked, "/v1.0.0.info") {
			t.Errorf("what is malicious was asked for: %s", asked)
		}
		if strings.HasSuffix(asked, "good-1.0.0.tgz") {
			tarballs++
		}
	}
	if tarballs != 1 {
		t.Errorf("the same archive was fetched %d times", tarballs)
	}
}

// TestPackagesOfAnInstallation installs by a lock file that was merged, and looks at what is recorded.
func TestPackagesOfAnInstallation(t *testing.T) {
	t.Parallel()
	r := newPackageRegistry(t)
	registries := filepath.Join(t.TempDir(), "registries.yaml")
	if err := os.WriteFile(registries, fmt.Appendf(nil, "npm: [{url: %q}]\ngo: []\npypi: []\ndebian: []\n", r.url("npm.test")), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "--package-registries", registries, "--egress-private", "npm.test=127.0.0.1")
	p := s.project("packages")
	lock, err := json.Marshal(map[string]any{"name": "m", "version": "1.0.0", "lockfileVersion": 3, "packages": map[string]any{
		"":                        map[string]any{"name": "m", "version": "1.0.0", "dependencies": map[string]string{"new-locked": "1.0.0"}},
		"node_modules/new-locked": map[string]any{"version": "1.0.0", "resolved": r.url("npm.test") + "/new-locked/-/new-locked-1.0.0.tgz", "integrity": r.integrity("new-locked")}}})
	if err != nil {
		t.Fatal(err)
	}
	got := p.ran("Install", files{
		"package.json":      `{"name":"m","version":"1.0.0","dependencies":{"new-locked":"1.0.0"}}`,
		"package-lock.json": string(lock),
		".github/workflows/ci.yml": `on: push
jobs:
  install:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: npm ci --no-audit --no-fund && node node_modules/new-locked/index.js
      - run: "! npm install --no-audit --no-fund new-other"
`,
	})
	if got.run.Conclusion != sallyport.Success {
		t.Fatal(got.explain())
	}
	var doors []sallyport.Door
	s.json(&doors, "egress", "show", string(got.run.ID))
	seen := map[string]sallyport.PackageFetch{}
	for _, d := range doors {
		for _, f := range d.Record.Packages {
			seen[f.PURL] = f
		}
	}
	if f := seen["pkg:npm/new-locked@1.0.0"]; f.Decision != sallyport.EgressAllowed || f.Digest != sallyport.DigestOf(r.tarball("new-locked")) || f.Step == 0 || f.Source != r.url("npm.test") {
		t.Errorf("what was merged is recorded as %+v", f)
	}
	if f := seen["pkg:npm/new-other@1.0.0"]; f.Decision != sallyport.EgressDenied || !strings.Contains(f.Reason, "was published") {
		t.Errorf("what is young is recorded as %+v, among %+v", f, seen)
	}
}
