package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func dial(t *testing.T, c Config) *Client {
	t.Helper()
	client, err := Dial(c)
	if err != nil {
		t.Fatal(err)
	}
	client.pause = time.Millisecond
	t.Cleanup(client.Close)
	return client
}

func TestDialRefuses(t *testing.T) {
	t.Parallel()
	token := sallyport.NewSecret([]byte("x"))
	for name, c := range map[string]Config{
		"nothing":           {},
		"both":              {URL: "http://localhost:1", UnixSocket: "/x"},
		"no scheme":         {URL: "localhost:1"},
		"other scheme":      {URL: "ftp://localhost"},
		"user":              {URL: "https://me@example.com"},
		"query":             {URL: "https://example.com/?x=1"},
		"token without TLS": {URL: "http://ci.example.com", Token: token},
	} {
		if _, err := Dial(c); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, url := range []string{"https://ci.example.com", "http://127.0.0.1:8080", "http://[::1]:8080/", "http://localhost"} {
		if _, err := Dial(Config{URL: url, Token: token}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	for _, c := range []Config{{URL: "http://" + address}, {UnixSocket: filepath.Join(t.TempDir(), "none")}} {
		_, err := dial(t, c).Services().Projects.Projects(t.Context())
		message, hint := sallyport.ErrorMessage(err)
		if sallyport.ErrorCode(err) != sallyport.CodeUnavailable || !strings.Contains(message, "does not run at") || hint == "" {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A call whose connection fails is sent again when that cannot do harm.
func TestRetries(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if seen.Add(1) < 3 {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"items":[],"order":"cancel"}`)
	}))
	defer server.Close()
	c := dial(t, Config{URL: server.URL})
	if _, err := c.Services().Projects.Projects(t.Context()); err != nil || seen.Load() < 3 {
		t.Errorf("list: %v after %d", err, seen.Load())
	}
	seen.Store(0)
	if order, err := c.Yard().Heartbeat(t.Context(), sallyport.LeaseRef{Job: "j"}); err != nil || order != sallyport.OrderCancel {
		t.Errorf("heartbeat: %v, %v", order, err)
	}
	seen.Store(0)
	if _, err := c.Services().Projects.CreateProject(t.Context(), "x", "main"); sallyport.ErrorCode(err) != sallyport.CodeUnavailable || seen.Load() != 1 {
		t.Errorf("create: %v after %d", err, seen.Load())
	}
	seen.Store(0)
	if _, err := c.Yard().PutArtifact(t.Context(), sallyport.LeaseRef{Job: "j"}, "x", strings.NewReader("content")); sallyport.ErrorCode(err) != sallyport.CodeUnavailable || seen.Load() != 1 {
		t.Errorf("put: %v after %d", err, seen.Load())
	}
	seen.Store(-100)
	if _, err := c.Services().Projects.Projects(t.Context()); sallyport.ErrorCode(err) != sallyport.CodeUnavailable || seen.Load() > -100+2*tries {
		t.Errorf("list for ever: %v after %d", err, seen.Load()+100)
	}
}

func TestStrangeAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status     int
		kind, body string
		want       sallyport.Code
	}{
		"not JSON":          {200, "application/json", "<html>", sallyport.CodeUnavailable},
		"a proxy":           {502, "text/html", "<html>bad gateway</html>", sallyport.CodeUnavailable},
		"not us":            {404, "text/html", "<html>", sallyport.CodeNotFound},
		"redirect":          {302, "", "", sallyport.CodeInternal},
		"problem":           {409, ProblemType, `{"detail":"busy","code":"conflict","hint":"wait"}`, sallyport.CodeConflict},
		"problem, no code":  {403, ProblemType, `{"detail":"no"}`, sallyport.CodeDenied},
		"problem, no JSON":  {403, ProblemType, `{`, sallyport.CodeDenied},
		"too many requests": {429, "", "", sallyport.CodeUnavailable},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", c.kind)
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		_, err := dial(t, Config{URL: server.URL}).Services().Projects.Projects(t.Context())
		if got := sallyport.ErrorCode(err); got != c.want {
			t.Errorf("%s: %v, code %s, want %s", name, err, got, c.want)
		}
		server.Close()
	}
}

// TestRequestIDs shows the id of a request only where the server logged it.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	for status, shown := range map[int]bool{404: false, 409: false, 422: false, 500: true} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ProblemType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"detail":"no","request":"R123"}`)
		}))
		_, err := dial(t, Config{URL: server.URL}).Services().Projects.Projects(t.Context())
		if err == nil || strings.Contains(err.Error(), "R123") != shown {
			t.Errorf("%d: %v, want the id: %t", status, err, shown)
		}
		server.Close()
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // else the server does not notice that the caller is gone
		close(arrived)
		<-r.Context().Done()
	}))
	defer server.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the runner stops")
	go func() { <-arrived; cancel(cause) }()
	if _, err := dial(t, Config{URL: server.URL}).Yard().Lease(ctx, sallyport.LeaseRequest{}); !errors.Is(err, cause) {
		t.Errorf("Lease = %v", err)
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	r, err := encode("GET", "/x/{project}/y", ByDigest{ByProject{"a b/ü%"}, "sha256:1"})
	if err != nil || r.rawPath != "/x/a%20b%2F%C3%BC%25/y" || r.query.Encode() != "digest=sha256%3A1" {
		t.Errorf("encode = %+v, %v", r, err)
	}
	for _, bad := range []string{"", ".", ".."} {
		if _, err := encode("GET", "/x/{project}", ByProject{bad}); err == nil {
			t.Errorf("project %q was encoded", bad)
		}
	}
	r, err = encode("POST", "/{job}", Leased{Job: "j", Token: "secret"})
	if err != nil || r.header.Get(HeaderLease) != "secret" || strings.Contains(r.rawPath+r.query.Encode(), "secret") {
		t.Errorf("encode = %+v, %v", r, err)
	}
	if _, err := encode("GET", "/{project}/{other}", ByProject{"x"}); err == nil {
		t.Error("an incomplete path was encoded")
	}
}

func FuzzProblem(f *testing.F) {
	f.Add(404, ProblemType, []byte(`{"detail":"x","code":"not_found","errors":[{"location":"a","message":"b"}],"end":3}`))
	f.Add(500, "text/html", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		if e := problemOf(status, kind, body).err(); e.Code == "" || e.Message == "" {
			t.Fatalf("%+v", e)
		}
	})
}
