package firewall

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// TestShareOfAJob has a job ask for more at once than it may.
func TestShareOfAJob(t *testing.T) {
	t.Parallel()
	up, err := NewUpstream(KindGo, "http://go.test")
	if err != nil {
		t.Fatal(err)
	}
	var now, most atomic.Int32
	f, err := New(Config{Upstreams: Upstreams{List: []Upstream{up}}, CacheDir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Transport: tripper(func(*http.Request) (*http.Response, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(30 * time.Millisecond)
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("v1.0.0\n"))}, nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	j := f.Job(JobConfig{})
	var wait sync.WaitGroup
	for i := range 2 * maxTurns {
		wait.Go(func() {
			r := httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://go.test/example.com/m%d/@v/list", i), nil)
			j.Handler("go.test").ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	wait.Wait()
	if n := most.Load(); n == 0 || n > maxJobSlots {
		t.Errorf("%d requests were on their way at once, want at most %d", n, maxJobSlots)
	}
}

// TestUnknownSuiteIsNotRemembered asks for suites that an archive does not have.
func TestUnknownSuiteIsNotRemembered(t *testing.T) {
	t.Parallel()
	up, err := NewUpstream(KindDebian, "http://deb.test")
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(Config{Upstreams: Upstreams{List: []Upstream{up}}, CacheDir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Transport: tripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody}, nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "http://deb.test/dists/none/InRelease", nil)
	f.Job(JobConfig{}).Handler("deb.test").ServeHTTP(httptest.NewRecorder(), r)
	if s := f.suites(&f.upstreams.List[0]); len(s) > 0 {
		t.Errorf("%q are remembered", s)
	}
}

// TestPutWithoutRoom writes more at once than the cache may have.
func TestPutWithoutRoom(t *testing.T) {
	t.Parallel()
	c := opened(t, t.TempDir(), 3<<20)
	if _, err := c.put(note{Key: "k", Fetched: noon}, strings.NewReader(strings.Repeat("x", 4<<20)), 100<<20, nil); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
	if n := c.pending.Load(); n != 0 {
		t.Errorf("%d bytes are still being written", n)
	}
	c.keep(t, "k", strings.Repeat("x", 2<<20))
}
