package firewall_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1" //nolint:gosec // npm states it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/advisory"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

var (
	today = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	old   = today.AddDate(-3, 0, 0)
	fresh = today.Add(-5 * time.Hour)
)

// world is a network of registries, and a firewall in front of them.
type world struct {
	t     testing.TB
	dir   string
	hosts map[string]http.Handler

	mu      sync.Mutex
	asked   []string // METHOD URL of what reached the registries
	headers []http.Header
	records []sallyport.PackageFetch
	now     time.Time

	server    *httptest.Server
	upstreams firewall.Upstreams
	f         *firewall.Firewall
	rules     sallyport.PackageRules
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), hosts: map[string]http.Handler{}, now: today}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked = append(w.asked, r.Method+" "+r.Host+r.URL.RequestURI())
		w.headers = append(w.headers, r.Header.Clone())
		h := w.hosts[r.Host]
		w.mu.Unlock()
		if h == nil {
			http.NotFound(rw, r)
			return
		}
		h.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.server.Close)
	return w
}

// transport leads every name to the world's one server.
func (w *world) transport() http.RoundTripper {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", w.server.Listener.Addr().String())
	}}
	w.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func (w *world) add(kind firewall.Kind, address string) *firewall.Upstream {
	w.t.Helper()
	u, err := firewall.NewUpstream(kind, address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.upstreams.List = append(w.upstreams.List, u)
	return &w.upstreams.List[len(w.upstreams.List)-1]
}

// advise makes packages malicious: ECOSYSTEM NAME [VERSION…].
func advise(t testing.TB, entries ...string) *advisory.Store {
	t.Helper()
	dir := fstest.MapFS{}
	for i, e := range entries {
		f := strings.Fields(e)
		raw, err := json.Marshal(map[string]any{"id": fmt.Sprintf("MAL-2026-%d", i+1), "affected": []any{map[string]any{
			"package": map[string]string{"ecosystem": f[0], "name": f[1]}, "versions": f[2:]}}})
		if err != nil {
			t.Fatal(err)
		}
		dir[fmt.Sprintf("%s/MAL-2026-%d.json", f[0], i+1)] = &fstest.MapFile{Data: raw}
	}
	s, err := advisory.Open(dir, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// open starts the firewall. malicious is for advise.
func (w *world) open(malicious ...string) *firewall.Job {
	w.t.Helper()
	var store *advisory.Store
	if len(malicious) > 0 {
		store = advise(w.t, malicious...)
	}
	f, err := firewall.New(firewall.Config{Upstreams: w.upstreams, Transport: w.transport(), Advisories: store, CacheDir: w.dir,
		Now: func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.f = f
	w.t.Cleanup(f.Settle)
	return w.job()
}

func (w *world) job() *firewall.Job {
	return w.f.Job(firewall.JobConfig{Rules: w.rules, Step: func() int { return 2 }, Record: func(p sallyport.PackageFetch) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.records = append(w.records, p)
	}})
}

func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// take returns what was asked of the registries since the last call.
func (w *world) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.asked
	w.asked = nil
	return out
}

func (w *world) recorded() []sallyport.PackageFetch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.records)
}

// get sends a request to the firewall, as the door would.
func get(j *firewall.Job, address string, header ...string) *httptest.ResponseRecorder {
	return send(j, http.MethodGet, address, header...)
}

func send(j *firewall.Job, method, address string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, address, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	h := j.Handler(r.URL.Hostname())
	if h == nil {
		rec.WriteHeader(http.StatusMisdirectedRequest)
		return rec
	}
	h.ServeHTTP(rec, r)
	return rec
}

// wantRefused checks a refusal and its words.
func wantRefused(t testing.TB, r *httptest.ResponseRecorder, words ...string) {
	t.Helper()
	if r.Code < 400 {
		t.Errorf("got %d, want a refusal; %d bytes came", r.Code, r.Body.Len())
		return
	}
	for _, word := range words {
		if !strings.Contains(r.Body.String(), word) {
			t.Errorf("the refusal %q does not say %q", r.Body, word)
		}
	}
}

func wantBody(t testing.TB, r *httptest.ResponseRecorder, want []byte) {
	t.Helper()
	if r.Code != http.StatusOK || !bytes.Equal(r.Body.Bytes(), want) {
		t.Errorf("got %d and %.200q, want the %d bytes of the registry", r.Code, r.Body, len(want))
	}
}

// npmRegistry serves packages of npm.
type npmRegistry struct {
	base string
	mu   sync.Mutex
	pkgs map[string]*npmPackage
}

type npmPackage struct {
	Modified time.Time
	Created  time.Time
	Versions map[string]*npmRelease
	Latest   string
}

type npmRelease struct {
	At         time.Time
	Deprecated string
	Deps       map[string]string
	Tarball    []byte
	Integrity  string
	NoSums     bool
}

func tarball(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	a := tar.NewWriter(z)
	for name, body := range files {
		if err := a.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(a, body); err != nil {
			t.Fatal(err)
		}
	}
	a.Close()
	z.Close()
	return b.Bytes()
}

func integrity(b []byte) string {
	sum := sha512.Sum512(b)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// publish adds a version.
func (n *npmRegistry) publish(t testing.TB, name, number string, at time.Time, deps map[string]string) *npmRelease {
	t.Helper()
	manifest, err := json.Marshal(map[string]any{"name": name, "version": number, "main": "index.js", "dependencies": deps})
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pkgs == nil {
		n.pkgs = map[string]*npmPackage{}
	}
	p := n.pkgs[name]
	if p == nil {
		p = &npmPackage{Created: at, Versions: map[string]*npmRelease{}}
		n.pkgs[name] = p
	}
	r := &npmRelease{At: at, Deps: deps, Tarball: tarball(t, map[string]string{"package/package.json": string(manifest), "package/index.js": "module.exports = '" + name + "@" + number + "'\n"})}
	p.Versions[number], p.Latest = r, number
	if at.After(p.Modified) {
		p.Modified = at
	}
	return r
}

func (n *npmRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/")
	if name, file, ok := strings.Cut(path, "/-/"); ok {
		p := n.pkgs[name]
		base := name[strings.LastIndexByte(name, '/')+1:]
		if p != nil {
			if v := p.Versions[strings.TrimSuffix(strings.TrimPrefix(file, base+"-"), ".tgz")]; v != nil {
				w.Header().Set("Content-Type", "application/octet-stream")
				w.Write(v.Tarball)
				return
			}
		}
		http.NotFound(w, r)
		return
	}
	p := n.pkgs[path]
	if p == nil {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"error":"not found"}`)
		return
	}
	versions, times := map[string]any{}, map[string]any{"created": p.Created, "modified": p.Modified}
	for number, v := range p.Versions {
		base := path[strings.LastIndexByte(path, '/')+1:]
		sum := sha1.Sum(v.Tarball) //nolint:gosec // see the import
		dist := map[string]any{"tarball": n.base + "/" + path + "/-/" + base + "-" + number + ".tgz", "shasum": hex.EncodeToString(sum[:]), "integrity": integrity(v.Tarball)}
		if v.Integrity != "" {
			dist["integrity"] = v.Integrity
		}
		if v.NoSums {
			delete(dist, "integrity")
			delete(dist, "shasum")
		}
		one := map[string]any{"name": path, "version": number, "dist": dist, "dependencies": v.Deps}
		if v.Deprecated != "" {
			one["deprecated"] = v.Deprecated
		}
		versions[number], times[number] = one, v.At
	}
	doc := map[string]any{"name": path, "dist-tags": map[string]string{"latest": p.Latest}, "versions": versions, "modified": p.Modified}
	kind := "application/vnd.npm.install-v1+json"
	if !strings.Contains(r.Header.Get("Accept"), kind) {
		doc["time"], kind = times, "application/json"
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	etag := `"` + sha256Hex(raw) + `"`
	w.Header().Set("ETag", etag)
	w.Header().Set("Content-Type", kind)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write(raw)
}

// withNPM is a world with one registry of npm.
func withNPM(t testing.TB) (*world, *npmRegistry) {
	t.Helper()
	w := newWorld(t)
	n := &npmRegistry{base: "http://npm.test"}
	w.hosts["npm.test"] = n
	w.add(firewall.KindNPM, "http://npm.test")
	return w, n
}
