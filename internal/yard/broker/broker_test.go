package broker

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	canary = "cnry-9f31c7d2e8b64a0f/A+b"
	holder = "sallyport-placeholder-5d1f"
)

// bench is a broker between a job's client and a server that stands for the world.
type bench struct {
	t      testing.TB
	b      *Broker
	client *http.Client // the job's
	front  *httptest.Server
	port   int // of the front: rules name it

	mu   sync.Mutex
	uses []sallyport.CredentialUse
	seen []*http.Request // by the server
}

// newBench starts both; the rules' hosts are names below example.com, and
// all lead to the server.
func newBench(t testing.TB, server http.Handler, rules ...sallyport.CredentialRule) *bench {
	t.Helper()
	n := &bench{t: t}
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.seen = append(n.seen, r.Clone(context.Background()))
		n.mu.Unlock()
		server.ServeHTTP(w, r)
	}))
	upstream.EnableHTTP2 = true
	upstream.StartTLS()
	t.Cleanup(upstream.Close)

	n.front = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if r.TLS != nil && r.TLS.ServerName != "" {
			host = r.TLS.ServerName // the door goes by the connection
		}
		if h := n.b.Intercept(host); h != nil {
			h.ServeHTTP(w, r)
			return
		}
		http.Error(w, "no such host", http.StatusBadGateway)
	}))
	n.front.EnableHTTP2 = true
	n.front.StartTLS()
	t.Cleanup(n.front.Close)
	n.port = n.front.Listener.Addr().(*net.TCPAddr).Port

	var list []Lent
	for i, r := range rules {
		r.Name, r.Port, r.Pos = fmt.Sprintf("cred%d", i), n.port, sallyport.Pos{Line: 10 + i}
		if r.Secret == "" {
			r.Secret = "TOKEN"
		}
		list = append(list, Lent{Rule: r, Value: sallyport.NewSecret([]byte(canary)), Placeholder: holder})
	}
	roots := x509.NewCertPool()
	roots.AddCert(upstream.Certificate())
	transport := &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, upstream.Listener.Addr().String())
		}}
	t.Cleanup(transport.CloseIdleConnections)
	b, err := New(Config{Lent: list, Upstream: transport, Step: func() int { return 3 }, Record: func(u sallyport.CredentialUse) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.uses = append(n.uses, u)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	n.b = b

	jobRoots := x509.NewCertPool()
	jobRoots.AddCert(n.front.Certificate())
	jobTransport := &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true, TLSClientConfig: &tls.Config{RootCAs: jobRoots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, n.front.Listener.Addr().String())
		}}
	t.Cleanup(jobTransport.CloseIdleConnections)
	n.client = &http.Client{Transport: jobTransport, Timeout: 2 * time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return n
}

// do sends a request of the job to a host below example.com and returns the answer and its body.
func (n *bench) do(method, host, path string, body io.Reader, headers ...string) (*http.Response, string) {
	n.t.Helper()
	req, err := http.NewRequest(method, fmt.Sprintf("https://%s.example.com:%d/", host, n.port), body)
	if err != nil {
		n.t.Fatal(err)
	}
	req.URL.Opaque = fmt.Sprintf("//%s.example.com:%d%s", host, n.port, path) // as it is written
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	answer, err := n.client.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return answer, string(b)
}

// last waits for the nth use, which is recorded after the answer has been sent.
func (n *bench) last(count int) sallyport.CredentialUse {
	n.t.Helper()
	for range 2000 {
		n.mu.Lock()
		if len(n.uses) >= count {
			defer n.mu.Unlock()
			return n.uses[count-1]
		}
		n.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	n.t.Fatalf("fewer than %d uses were recorded", count)
	panic("not reached")
}

func (n *bench) reached() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.seen)
}

// hides fails when text holds the value in a form that people use.
func hides(t *testing.T, text string) {
	t.Helper()
	for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary))[:24], hex.EncodeToString([]byte(canary)),
		url.QueryEscape(canary), strings.ToUpper(hex.EncodeToString([]byte(canary)))} {
		if strings.Contains(text, form) {
			t.Errorf("the value reached the job as %q in %.300q", form, text)
		}
	}
}

func TestEachKindIsPutIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		rule    sallyport.CredentialRule
		headers []string // that the job sends
		header  string
		want    string
	}{
		{"bearer", sallyport.CredentialRule{Kind: sallyport.CredentialBearer}, []string{"Authorization", "Bearer of mine", "Cookie", "session=known"}, "Authorization", "Bearer " + canary},
		{"basic", sallyport.CredentialRule{Kind: sallyport.CredentialBasic, User: "bot"}, nil, "Authorization", "Basic " + basic("bot", canary)},
		{"header", sallyport.CredentialRule{Kind: sallyport.CredentialHeader, Header: "Private-Token"}, []string{"Private-Token", "mine"}, "Private-Token", canary},
		{"placeholder", sallyport.CredentialRule{Kind: sallyport.CredentialHeader, Header: "Authorization"}, []string{"Authorization", "token " + holder}, "Authorization", "token " + canary},
		{"two placeholders", sallyport.CredentialRule{Kind: sallyport.CredentialHeader, Header: "Authorization"}, []string{"Authorization", holder + holder}, "Authorization", canary},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.rule.Host = "api.example.com"
			n := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "fine") }), c.rule)
			answer, body := n.do("GET", "api", "/v1/x?y=1", nil, append(c.headers, "X-Else", holder, "Range", "bytes=0-3", "X-Http-Method-Override", "DELETE", "X_HTTP_Method_Override", "DELETE", "X-Original_URL", "/v2", "Proxy_Authorization", "mine", "X_Kept", "kept")...)
			if answer.StatusCode != 200 || body != "fine" {
				t.Fatalf("%d %q", answer.StatusCode, body)
			}
			got := n.seen[0]
			if v := got.Header.Values(c.header); len(v) != 1 || v[0] != c.want {
				t.Errorf("the server got %q, want %q", v, c.want)
			}
			if got.Header.Get("X-Else") != holder {
				t.Error("a placeholder elsewhere was replaced")
			}
			if got.Header.Get("X_Kept") != "kept" {
				t.Error("another header with an underscore was dropped")
			}
			for _, gone := range []string{"Cookie", "Range", "X-Http-Method-Override", "X_HTTP_Method_Override", "X-Original_URL", "Proxy_Authorization"} {
				if got.Header.Get(gone) != "" {
					t.Errorf("%s was passed on", gone)
				}
			}
			if got.URL.RequestURI() != "/v1/x?y=1" || got.ProtoMajor != 2 {
				t.Errorf("%s by %s", got.URL.RequestURI(), got.Proto)
			}
			u := n.last(1)
			if u.Credential != "cred0" || u.Host != "api.example.com" || u.Method != "GET" || u.Status != 200 || u.Decision != sallyport.EgressAllowed || u.Received != 4 || u.Step != 3 ||
				u.Path != sallyport.DigestOf([]byte("/v1/x?y=1")) {
				t.Errorf("recorded %+v", u)
			}
		})
	}
}

func TestWhatNoRuleAllowsIsRefused(t *testing.T) {
	t.Parallel()
	n := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}),
		sallyport.CredentialRule{Kind: sallyport.CredentialBearer, Host: "api.example.com", Methods: []string{"GET", "POST"}, Paths: []string{"/v1/team/", "/v2", "/@s/"}})
	for i, c := range []struct{ method, path, reason, mend string }{
		{"GET", "/v1/teams", "not lent for this path", "/v1/team/"},
		{"GET", "/", "not lent for this path", ".sallyport/egress.yaml:10"},
		{"GET", "/v20", "not lent for this path", ""},
		{"DELETE", "/v1/team/x", "not lent for DELETE", "GET, POST"},
		{"GET", "/v1/team/../admin", "dot segment", ""},
		{"GET", "/v1/team/%2e%2e/admin", "dot segment", ""},
		{"GET", "/v1/team/..;x=1/admin", "dot segment", ""},
		{"GET", "/v1/team/..%2fadmin", "escaped slash", ""},
		{"GET", "/@s%2f..", "dot segment", ""},
		{"GET", "/@s%2fa%2fb", "escaped slash", ""},
		{"GET", "/@%2fa", "escaped slash", ""},
		{"GET", "/v1//team/", "empty segment", ""},
		{"GET", "/v1/team%2fx", "escaped slash", ""},
		{"GET", "/v1/team/a%2fb", "escaped slash", ""},
		{"GET", "/@other%2fx", "not lent for this path", ""},
		{"GET", "/v1/team/a%5cb", "cannot be", ""},
		{"GET", "/v1/team/a%00b", "cannot be", ""},
		{"TRACE", "/v2", "not lent for TRACE", ""},
	} {
		answer, body := n.do(c.method, "api", c.path, nil)
		if answer.StatusCode != http.StatusForbidden || c.reason != "cannot be" && !strings.Contains(body, c.reason) || !strings.Contains(body, c.mend) || !strings.Contains(body, "mend: ") {
			t.Errorf("%s %s: %d %q", c.method, c.path, answer.StatusCode, body)
		}
		if u := n.last(i + 1); u.Decision != sallyport.EgressDenied || u.Status != http.StatusForbidden || u.Reason == "" {
			t.Errorf("%s %s: recorded %+v", c.method, c.path, u)
		}
	}
	if n.reached() != 0 {
		t.Errorf("%d requests reached the server", n.reached())
	}
	for i, path := range []string{"/v1/team/", "/v1/team/x/y", "/v2", "/v2/x", "/@s%2fname", "/%76%32"} {
		if answer, body := n.do("GET", "api", path, nil); answer.StatusCode != 200 {
			t.Errorf("%s: %d %q", path, answer.StatusCode, body)
		}
		if got := n.reached(); got != i+1 {
			t.Fatalf("%s: %d requests reached the server, want %d", path, got, i+1)
		}
	}
	if got := n.seen[5].URL.EscapedPath(); got != "/v2" {
		t.Errorf("sent on as %q", got)
	}
}

func TestAnotherHostThanTheConnectionsIsRefused(t *testing.T) {
	t.Parallel()
	n := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}),
		sallyport.CredentialRule{Kind: sallyport.CredentialBearer, Host: "api.example.com"})
	req, _ := http.NewRequest("GET", fmt.Sprintf("https://api.example.com:%d/", n.port), nil)
	req.Host = "other.example.com"
	answer, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusMisdirectedRequest || n.reached() != 0 {
		t.Errorf("%d, %d reached", answer.StatusCode, n.reached())
	}
}

// TestAnEchoingServerTellsNothing is the attack by a server that sends back what it gets: in
// clear, encoded, in pieces, in headers, in trailers, compressed.
func TestAnEchoingServerTellsNothing(t *testing.T) {
	t.Parallel()
	echo := func(w http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization")
		value := strings.TrimPrefix(auth, "Bearer ")
		switch r.URL.Path {
		case "/plain":
			fmt.Fprintf(w, "you sent %s, thank you", auth)
		case "/length":
			text := "before " + value + " after"
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
			io.WriteString(w, text)
		case "/encoded":
			fmt.Fprintf(w, "%s\n%x\n%s\n%s\n%q", base64.StdEncoding.EncodeToString([]byte("x:"+value)), value, url.QueryEscape(value), base64.URLEncoding.EncodeToString([]byte(value)), value)
		case "/pieces":
			for i := range value {
				io.WriteString(w, value[i:i+1])
				w.(http.Flusher).Flush()
			}
			io.WriteString(w, " end")
		case "/header":
			w.Header().Set("X-Echo", auth)
			w.Header().Set("Set-Cookie", "s="+value)
			w.Header().Set("Www-Authenticate", `Bearer realm="x"`)
			w.Header().Set("Location", "/?t="+url.QueryEscape(value))
			w.WriteHeader(http.StatusFound)
		case "/early":
			w.Header().Set("Link", "</"+value+">")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			io.WriteString(w, "fine")
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "body")
			w.Header().Set("X-Sum", value)
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, "zipped "+value)
			z.Close()
		case "/zstd":
			w.Header().Set("Content-Encoding", "zstd")
			io.WriteString(w, "no matter what")
		}
	}
	n := newBench(t, http.HandlerFunc(echo), sallyport.CredentialRule{Kind: sallyport.CredentialBearer, Host: "api.example.com"})
	for i, c := range []struct {
		path     string
		status   int
		scrubbed int
		has      string
	}{
		{"/plain", 200, 1, "you sent Bearer " + strings.Repeat("*", len(canary)) + ", thank you"},
		{"/length", 200, 1, "before " + strings.Repeat("*", len(canary)) + " after"},
		{"/encoded", 200, 5, "*"},
		{"/pieces", 200, 1, strings.Repeat("*", len(canary)) + " end"},
		{"/header", 302, 2, ""},
		{"/early", 200, 0, "fine"},
		{"/trailer", 200, 1, "body"},
		{"/gzip", 200, 1, "zipped " + strings.Repeat("*", len(canary))},
		{"/zstd", 502, 0, "compressed"},
	} {
		answer, body := n.do("GET", "api", c.path, nil, "Accept-Encoding", "gzip, zstd")
		all := body + fmt.Sprint(answer.Header, answer.Trailer)
		hides(t, all)
		if answer.StatusCode != c.status || !strings.Contains(body, c.has) {
			t.Errorf("%s: %d %q", c.path, answer.StatusCode, body)
		}
		if u := n.last(i + 1); u.Scrubbed != c.scrubbed {
			t.Errorf("%s: scrubbed %d times, want %d", c.path, u.Scrubbed, c.scrubbed)
		}
		if answer.Header.Get("Set-Cookie") != "" || answer.Header.Get("Www-Authenticate") != "" {
			t.Errorf("%s: %v", c.path, answer.Header)
		}
		if c.path == "/trailer" && answer.Trailer.Get("X-Sum") != strings.Repeat("*", len(canary)) {
			t.Errorf("trailer %v", answer.Trailer)
		}
	}
}

// TestBodiesStream sees a piece of the answer before the request has ended, both ways.
func TestBodiesStream(t *testing.T) {
	t.Parallel()
	n := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		buf := make([]byte, 64)
		for {
			m, err := r.Body.Read(buf)
			w.Write(bytes.ToUpper(buf[:m]))
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	}), sallyport.CredentialRule{Kind: sallyport.CredentialBearer, Host: "api.example.com", Methods: []string{"POST"}})
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", fmt.Sprintf("https://api.example.com:%d/", n.port), pr)
	go pw.Write([]byte("ping!"))
	answer, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	for range 3 {
		got := make([]byte, 5)
		if _, err := io.ReadFull(answer.Body, got); err != nil || string(got) != "PING!" {
			t.Fatalf("%q, %v", got, err)
		}
		go pw.Write([]byte("ping!"))
	}
	pw.Close()
	io.Copy(io.Discard, answer.Body)
}

// TestATruncatedAnswerIsNotTakenForAWhole closes the server's connection in the midst.
func TestATruncatedAnswerIsNotTakenForAWhole(t *testing.T) {
	t.Parallel()
	n := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}), sallyport.CredentialRule{Kind: sallyport.CredentialBearer, Host: "api.example.com"})
	answer, err := n.client.Get(fmt.Sprintf("https://api.example.com:%d/", n.port))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if b, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("read %q as if it were whole", b)
	}
	if u := n.last(1); u.Reason != "the answer ended early" {
		t.Errorf("recorded %+v", u)
	}
}

func TestRulesThatCannotBeKeptAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule  sallyport.CredentialRule
		value string
		want  string
	}{
		{sallyport.CredentialRule{Kind: sallyport.CredentialBearer}, "short", "fewer than 8 bytes"},
		{sallyport.CredentialRule{Kind: sallyport.CredentialBearer}, "a line\nand another", "line end"},
		{sallyport.CredentialRule{Kind: sallyport.CredentialHeader, Header: "Host"}, canary, "cannot carry"},
		{sallyport.CredentialRule{Kind: sallyport.CredentialHeader, Header: "X: y"}, canary, "cannot carry"},
		{sallyport.CredentialRule{Kind: sallyport.CredentialBasic, User: "a:b"}, canary, "colon"},
		{sallyport.CredentialRule{Kind: "ssh"}, canary, "not known"},
		{sallyport.CredentialRule{Kind: sallyport.CredentialPostgres}, canary, "no way to servers of PostgreSQL"},
	} {
		c.rule.Name = "name"
		_, err := New(Config{Upstream: http.DefaultTransport, Record: func(sallyport.CredentialUse) {}, Lent: []Lent{{Rule: c.rule, Value: sallyport.NewSecret([]byte(c.value))}}})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "credential name") || strings.Contains(err.Error(), c.value) {
			t.Errorf("%+v: %v", c.rule, err)
		}
	}
}

func TestTheJobSaysWhichCredentialByItsPlaceholder(t *testing.T) {
	t.Parallel()
	n := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}),
		sallyport.CredentialRule{Kind: sallyport.CredentialBasic, User: "first", Host: "api.example.com"},
		sallyport.CredentialRule{Kind: sallyport.CredentialHeader, Header: "X-Key", Host: "api.example.com"})
	n.do("GET", "api", "/", nil, "X-Key", holder)
	if got := n.seen[0].Header; got.Get("X-Key") != canary || got.Get("Authorization") != "" {
		t.Errorf("%v", got)
	}
	n.do("GET", "api", "/", nil)
	if got := n.seen[1].Header; got.Get("Authorization") == "" || got.Get("X-Key") != "" {
		t.Errorf("%v", got)
	}
}

func TestAnExposedValueIsAUse(t *testing.T) {
	t.Parallel()
	n := newBench(t, http.NotFoundHandler(), sallyport.CredentialRule{Kind: sallyport.CredentialBearer, Host: "api.example.com", Expose: true})
	if u := n.last(1); u.Method != sallyport.MethodExpose || u.Credential != "cred0" || u.Decision != sallyport.EgressAllowed {
		t.Errorf("recorded %+v", u)
	}
}

func FuzzCanonicalPath(f *testing.F) {
	for _, s := range []string{"/", "/a/b", "/a%2fb", "/a/../b", "/%2e%2E/x", "/a;x=/..;/b", "//", "/a\\b", "/%", "/%zz", "/é"} {
		f.Add(s)
	}
	rule := sallyport.CredentialRule{Paths: []string{"/a/"}}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			t.Skip()
		}
		path, err := canonicalPath(u)
		if err != nil {
			return
		}
		again, err := canonicalPath(&url.URL{Path: u.Path, RawPath: path})
		if err != nil || again != path {
			t.Fatalf("%q becomes %q, which becomes %q (%v)", raw, path, again, err)
		}
		if !allowsPath(rule, path) {
			return
		}
		// However a server may decode it, it stays below the rule's path.
		plain, err := url.PathUnescape(path)
		if err != nil {
			t.Fatal(err)
		}
		if clean := cleanly(plain); clean != "/a" && !strings.HasPrefix(clean, "/a/") {
			t.Fatalf("%q is allowed and means %q", raw, clean)
		}
	})
}

// cleanly resolves dots as a server does.
func cleanly(p string) string {
	var out []string
	for s := range strings.SplitSeq(p, "/") {
		switch s, _, _ = strings.Cut(s, ";"); s {
		case "", ".":
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}
