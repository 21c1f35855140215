package firewall_test

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/note"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

// goProxy serves modules, and a checksum database if it has one.
type goProxy struct {
	mu   sync.Mutex
	mods map[string]*goModule // by MODULE@VERSION
	sums http.Handler
	name string
}

type goModule struct {
	at  time.Time
	mod []byte
	zip []byte
}

func moduleZip(t testing.TB, prefix string, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, body := range files {
		w, err := z.Create(prefix + name)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(body))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (g *goProxy) publish(t testing.TB, path, number string, at time.Time, requires ...string) *goModule {
	t.Helper()
	text := "module " + path + "\n\ngo 1.20\n"
	for _, r := range requires {
		text += "require " + r + "\n"
	}
	m := &goModule{at: at, mod: []byte(text), zip: moduleZip(t, path+"@"+number+"/", map[string]string{"go.mod": text, "m.go": "package m\n\nconst V = \"" + number + "\"\n"})}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mods == nil {
		g.mods = map[string]*goModule{}
	}
	g.mods[path+"@"+number] = m
	return m
}

func (g *goProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rest, ok := strings.CutPrefix(r.URL.Path, "/sumdb/"+g.name); ok && g.sums != nil {
		if rest == "/supported" {
			return
		}
		g.mu.Unlock()
		r.URL.Path = rest
		g.sums.ServeHTTP(w, r)
		g.mu.Lock()
		return
	}
	escaped, file, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/@v/")
	path, err := module.UnescapePath(escaped)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	if file == "list" {
		for id := range g.mods {
			if p, v, _ := strings.Cut(id, "@"); p == path {
				fmt.Fprintln(w, v)
			}
		}
		return
	}
	i := strings.LastIndexByte(file, '.')
	if i < 0 {
		http.NotFound(w, r)
		return
	}
	m := g.mods[path+"@"+file[:i]]
	if m == nil {
		http.Error(w, "not found: unknown revision", http.StatusNotFound)
		return
	}
	switch file[i:] {
	case ".info":
		json.NewEncoder(w).Encode(map[string]any{"Version": file[:i], "Time": m.at})
	case ".mod":
		w.Write(m.mod)
	case ".zip":
		w.Header().Set("Content-Type", "application/zip")
		w.Write(m.zip)
	}
}

// database gives the proxy a checksum database, and returns its verifier's key. Its sums are those that sum gives.
func (g *goProxy) database(t testing.TB, sum func(m *goModule) string) string {
	t.Helper()
	g.name = "sum.test"
	signer, verifier, err := note.GenerateKey(rand.Reader, g.name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	test := sumdb.NewTestServer(signer, func(path, number string) ([]byte, error) {
		g.mu.Lock()
		m := g.mods[path+"@"+number]
		g.mu.Unlock()
		if m == nil {
			return nil, os.ErrNotExist
		}
		h := sum(m)
		if h == "" {
			file := filepath.Join(dir, "m.zip")
			if err := os.WriteFile(file, m.zip, 0o600); err != nil {
				return nil, err
			}
			if h, err = dirhash.HashZip(file, dirhash.Hash1); err != nil {
				return nil, err
			}
		}
		return fmt.Appendf(nil, "%s %s %s\n%s %s/go.mod %s\n", path, number, h, path, number, h), nil
	})
	g.sums = sumdb.NewServer(test)
	return verifier
}

func withGo(t testing.TB) (*world, *goProxy) {
	t.Helper()
	w := newWorld(t)
	g := &goProxy{}
	w.hosts["go.test"] = g
	w.add(firewall.KindGo, "http://go.test")
	w.upstreams.GoProxy, w.upstreams.GoSumDB = "http://go.test,direct", "off"
	return w, g
}

func TestGoHandsOutWhatIsGood(t *testing.T) {
	t.Parallel()
	w, g := withGo(t)
	m := g.publish(t, "example.com/Mod", "v1.0.0", old)
	w.upstreams.Sum = firewall.SumDB{Name: "sum.test", Key: g.database(t, func(*goModule) string { return "" })}
	j := w.open()
	base := "http://go.test/example.com/!mod/@v/"
	wantBody(t, get(j, base+"v1.0.0.mod"), m.mod)
	if got := get(j, base+"v1.0.0.info"); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "v1.0.0") {
		t.Errorf("info: got %d %s", got.Code, got.Body)
	}
	wantBody(t, get(j, base+"v1.0.0.zip"), m.zip)
	if got := w.recorded(); len(got) != 1 || got[0].PURL != "pkg:golang/example.com/Mod@v1.0.0" || got[0].Digest != sallyport.DigestOf(m.zip) {
		t.Errorf("got the records %+v", got)
	}
}

func TestGoSums(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sum  func(*goModule) string
		want string
	}{
		{"the database agrees", func(*goModule) string { return "" }, ""},
		{"the database disagrees", func(*goModule) string { return "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }, "h1 checksum is not the one that the checksum database states"},
	} {
		w, g := withGo(t)
		m := g.publish(t, "example.com/mod", "v1.0.0", old)
		w.upstreams.Sum = firewall.SumDB{Name: "sum.test", Key: g.database(t, c.sum)}
		j := w.open()
		got := get(j, "http://go.test/example.com/mod/@v/v1.0.0.zip")
		if c.want == "" {
			wantBody(t, got, m.zip)
		} else {
			wantRefused(t, got, c.want)
		}
		if got := get(j, "http://go.test/sumdb/sum.test/lookup/example.com/mod@v1.0.0"); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "example.com/mod v1.0.0 h1:") {
			t.Errorf("%s: a lookup: got %d %s", c.name, got.Code, got.Body)
		}
		if got := get(j, "http://go.test/sumdb/sum.test/supported"); got.Code != http.StatusOK {
			t.Errorf("%s: supported: got %d", c.name, got.Code)
		}
		if got := get(j, "http://go.test/sumdb/sum.test/latest"); got.Code != http.StatusOK {
			t.Errorf("%s: latest: got %d", c.name, got.Code)
		}
	}
	t.Run("a database with another key", func(t *testing.T) {
		t.Parallel()
		w, g := withGo(t)
		g.publish(t, "example.com/mod", "v1.0.0", old)
		g.database(t, func(*goModule) string { return "" })
		_, other, err := note.GenerateKey(rand.Reader, "sum.test")
		if err != nil {
			t.Fatal(err)
		}
		w.upstreams.Sum = firewall.SumDB{Name: "sum.test", Key: other}
		j := w.open()
		wantRefused(t, get(j, "http://go.test/example.com/mod/@v/v1.0.0.zip"), "sum.test")
		wantRefused(t, get(j, "http://go.test/sumdb/sum.test/lookup/example.com/mod@v1.0.0"), "sum.test")
	})
	t.Run("a module that no database knows", func(t *testing.T) {
		t.Parallel()
		w, g := withGo(t)
		m := g.publish(t, "own.test/mod", "v1.0.0", old)
		w.upstreams.Sum = firewall.SumDB{Name: "sum.test", Key: g.database(t, func(*goModule) string { return "" })}
		w.upstreams.GoNoSumDB = "own.test"
		wantBody(t, get(w.open(), "http://go.test/own.test/mod/@v/v1.0.0.zip"), m.zip)
	})
}

func TestGoRefuses(t *testing.T) {
	t.Parallel()
	w, g := withGo(t)
	g.publish(t, "example.com/evil", "v1.0.0", old)
	g.publish(t, "example.com/mod", "v1.0.0", old)
	g.publish(t, "example.com/mod", "v1.1.0", old)
	g.publish(t, "example.com/mod", "v1.2.0", fresh)
	g.publish(t, "example.com/mod", "v1.3.0", fresh)
	g.publish(t, "github.com/gorilla1/mux", "v1.8.0", today.AddDate(0, -2, 0))
	liar := g.publish(t, "example.com/liar", "v1.0.0", old)
	liar.zip = moduleZip(t, "example.com/other@v1.0.0/", map[string]string{"go.mod": "module example.com/other\n"})
	bomb := g.publish(t, "example.com/bomb", "v1.0.0", old)
	bomb.zip = []byte("PK\x05\x06 not an archive")
	j := w.open("Go example.com/evil")
	for _, file := range []string{"@v/list", "@latest", "@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.0.0.zip"} {
		wantRefused(t, get(j, "http://go.test/example.com/evil/"+file), "go package example.com/evil is refused", "malicious")
	}
	wantRefused(t, get(j, "http://go.test/example.com/mod/@v/v1.3.0.zip"), "published 5 hours ago", "allow pkg:golang/example.com/mod@v1.3.0")
	if got := get(j, "http://go.test/example.com/mod/@v/list").Body.String(); got != "v1.0.0\nv1.1.0\n" {
		t.Errorf("the versions on offer are %q", got)
	}
	wantRefused(t, get(j, "http://go.test/github.com/gorilla1/mux/@v/v1.8.0.zip"), "github.com/gorilla/mux")
	wantRefused(t, get(j, "http://go.test/example.com/liar/@v/v1.0.0.zip"), "not one of a module")
	wantRefused(t, get(j, "http://go.test/example.com/bomb/@v/v1.0.0.zip"), "not one of a module")
	for _, path := range []string{"example.com/mod/@v/../../x.zip", "example.com/../mod/@v/list", "example.com/mod/@v/v1.0.0.exe", "/@v/list", "example.com/Mod/@v/list", "example.com/mod/@v/master.zip",
		"example.com/mod/@v/v1.0.0%2f..%2fx.zip", "sumdb/", "sumdb/x/../y", "sumdb/sum.test/other"} {
		w.take()
		if got := get(j, "http://go.test/"+path); got.Code < 400 {
			t.Errorf("%s: got %d", path, got.Code)
		}
		if asked := w.take(); len(asked) > 0 {
			t.Errorf("%s reached the registry as %q", path, asked)
		}
	}
}

// TestGoWithLockFile: what go.sum of the protected branch names is taken though it is young, and nothing else by that name.
func TestGoWithLockFile(t *testing.T) {
	t.Parallel()
	w, g := withGo(t)
	m := g.publish(t, "example.com/mod", "v1.2.0", fresh)
	other := g.publish(t, "example.com/other", "v1.2.0", fresh)
	file := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(file, m.zip, 0o600); err != nil {
		t.Fatal(err)
	}
	sum, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	w.rules.Locked = []sallyport.LockedPackage{{PURL: "pkg:golang/example.com/mod@v1.2.0", Sums: []string{sum}}, {PURL: "pkg:golang/example.com/other@v1.2.0", Sums: []string{sum}}}
	j := w.open()
	wantBody(t, get(j, "http://go.test/example.com/mod/@v/v1.2.0.zip"), m.zip)
	got := get(j, "http://go.test/example.com/other/@v/v1.2.0.zip")
	wantRefused(t, got, "lock file")
	if bytes.Contains(got.Body.Bytes(), other.zip[:20]) {
		t.Error("refused bytes reached the job")
	}
}

// TestArchivesAreFetchedAhead asks what go asks before an archive.
func TestArchivesAreFetchedAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := &goProxy{}
	g.publish(t, "example.com/good", "v1.0.0", old)
	g.publish(t, "example.com/bad", "v1.0.0", old)
	w.hosts["go.test"] = g
	w.add(firewall.KindGo, "http://go.test")
	j := w.open("Go example.com/bad v1.0.0")
	get(j, "http://go.test/example.com/good/@v/v1.0.0.info")
	wantRefused(t, get(j, "http://go.test/example.com/bad/@v/v1.0.0.info"))
	get(j, "http://go.test/example.com/good/@v/v1.0.0.mod")
	w.f.Settle()
	asked := w.take()
	if !slices.ContainsFunc(asked, func(a string) bool { return strings.HasSuffix(a, "good/@v/v1.0.0.zip") }) {
		t.Errorf("the archive was not asked for: %q", asked)
	}
	if slices.ContainsFunc(asked, func(a string) bool { return strings.Contains(a, "/bad/") }) {
		t.Errorf("what is malicious was asked for: %q", asked)
	}
	if len(w.records) > 1 || len(w.records) == 1 && w.records[0].Decision != sallyport.EgressDenied {
		t.Errorf("the job is said to have fetched %+v", w.records)
	}
	if got := get(j, "http://go.test/example.com/good/@v/v1.0.0.zip"); got.Code != http.StatusOK {
		t.Errorf("the archive: %d %s", got.Code, got.Body)
	}
	if asked := w.take(); len(asked) != 0 {
		t.Errorf("asked again: %q", asked)
	}
}
