package firewall_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

// firewallPage is longer than a page about packages is believed.
const firewallPage = 10 * time.Minute

// TestOneRequestForMany asks for the same thing many times at once.
func TestOneRequestForMany(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	pkg := n.publish(t, "pkg", "1.0.0", old, nil)
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	var tarballs atomic.Int32
	w.hosts["npm.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".tgz") {
			tarballs.Add(1)
			arrived <- struct{}{}
			<-release
		}
		n.ServeHTTP(rw, r)
	})
	j := w.open()
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() { wantBody(t, get(j, tgz("pkg", "1.0.0")), pkg.Tarball) })
	}
	<-arrived
	close(release)
	wait.Wait()
	if n := tarballs.Load(); n > 2 { // who came after the first was done found it in the cache
		t.Errorf("the registry was asked %d times", n)
	}
}

// TestChangedCacheIsFetchedAgain flips bytes of all that lies in the cache.
func TestChangedCacheIsFetchedAgain(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	pkg := n.publish(t, "pkg", "1.0.0", old, nil)
	j := w.open()
	wantBody(t, get(j, tgz("pkg", "1.0.0")), pkg.Tarball)
	files, err := filepath.Glob(filepath.Join(w.dir, "packages", "notes", "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("the cache has %q, %v", files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 0x20
		if err := os.WriteFile(f, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.take()
	wantBody(t, get(j, tgz("pkg", "1.0.0")), pkg.Tarball)
	if len(w.take()) == 0 {
		t.Error("nothing was fetched again")
	}
}

// TestRegistryAway: what is kept serves on when the registry cannot be reached.
func TestRegistryAway(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	pkg := n.publish(t, "pkg", "1.0.0", old, nil)
	j := w.open()
	wantBody(t, get(j, tgz("pkg", "1.0.0")), pkg.Tarball)
	w.hosts["npm.test"] = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	w.later(48 * time.Hour)
	wantBody(t, get(j, tgz("pkg", "1.0.0")), pkg.Tarball)
	if got := get(j, "http://npm.test/pkg", "Accept", "application/vnd.npm.install-v1+json"); got.Code != http.StatusOK {
		t.Errorf("its page: got %d %s", got.Code, got.Body)
	}
	wantRefused(t, get(j, tgz("other", "1.0.0")), "answered 503")
}

func TestEndlessAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(firewall.KindGo, "http://go.test")
	w.hosts["go.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/list"): // for ever
			for {
				if _, err := io.WriteString(rw, strings.Repeat("v1.0.0\n", 10_000)); err != nil {
					return
				}
			}
		case strings.HasSuffix(r.URL.Path, ".info"): // it says so
			rw.Header().Set("Content-Length", fmt.Sprint(int64(1)<<40))
		case strings.HasSuffix(r.URL.Path, ".mod"): // less than it says
			rw.Header().Set("Content-Length", "1000")
			io.WriteString(rw, "module")
		}
	})
	j := w.open()
	wantRefused(t, get(j, "http://go.test/example.com/mod/@v/list"), "more than 16 MiB")
	wantRefused(t, get(j, "http://go.test/example.com/mod/@v/v1.0.0.info"), "more than 64 KiB")
	wantRefused(t, get(j, "http://go.test/example.com/mod/@v/v1.0.0.mod"), "could not be read to the end")
	for _, dir := range []string{"content", "new"} {
		if files, _ := os.ReadDir(filepath.Join(w.dir, "packages", dir)); len(files) > 0 {
			t.Errorf("%d files were kept", len(files))
		}
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(firewall.KindGo, "http://go.test")
	w.add(firewall.KindGo, "http://other.test")
	lead := map[string]string{"circle": "/example.com/circle/@v/v1.0.0.mod", "away": "http://evil.test/x", "metadata": "http://169.254.169.254/latest", "file": "file:///etc/passwd",
		"user": "http://a:b@go.test/x", "registry": "http://other.test/good"}
	w.hosts["go.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Location", lead[strings.Split(r.URL.Path, "/")[2]])
		rw.WriteHeader(http.StatusFound)
	})
	w.hosts["other.test"] = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "module good\n") })
	j := w.open()
	for name, words := range map[string]string{"circle": "in circles", "away": "evil.test", "metadata": "169.254.169.254", "file": "no safe address", "user": "no safe address"} {
		wantRefused(t, get(j, "http://go.test/example.com/"+name+"/@v/v1.0.0.mod"), words)
	}
	wantBody(t, get(j, "http://go.test/example.com/registry/@v/v1.0.0.mod"), []byte("module good\n"))
}

// TestHugeLists has more versions than anybody makes.
func TestHugeLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(firewall.KindGo, "http://go.test")
	w.hosts["go.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var b strings.Builder
		for i := range 200_000 {
			fmt.Fprintf(&b, "v1.0.%d\n", i)
		}
		io.WriteString(rw, b.String())
	})
	wantRefused(t, get(w.open(), "http://go.test/example.com/mod/@v/list"), "too many versions")
}
