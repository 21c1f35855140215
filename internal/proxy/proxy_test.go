package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const proxyDirEnv = "PROXY_TEST_DIR"

// TestMain lets the test binary be the proxy process that tests kill.
func TestMain(m *testing.M) {
	if dir := os.Getenv(proxyDirEnv); dir != "" {
		if err := Run(context.Background(), Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// shortDir is a directory whose path leaves room for socket names.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "px")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func start(t testing.TB, dir string) *Client {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	c := NewClient(dir)
	await(t, "the proxy to answer", func() bool { _, err := c.Status(ctx); return err == nil })
	return c
}

// await polls until ok, and fails the test after a generous time.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// release is a backend: a server on a unix socket.
type release struct {
	Backend
	server *http.Server
}

func newRelease(t testing.TB, dir, id string, weight int, h http.HandlerFunc) *release {
	t.Helper()
	r := &release{Backend: Backend{Deployment: sallyport.DeploymentID(id), Socket: filepath.Join(dir, id), Weight: weight}}
	l, err := net.Listen("unix", r.Socket)
	if err != nil {
		t.Fatal(err)
	}
	r.server = &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = r.server.Serve(l) }()
	t.Cleanup(func() { r.server.Close(); <-done })
	return r
}

func saying(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func mustSet(t testing.TB, c *Client, key string, backends ...Backend) string {
	t.Helper()
	r, err := c.Set(t.Context(), Route{Key: key, Backends: backends})
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + r.Address
}

func client(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t testing.TB, c *http.Client, url string) (int, string, http.Header) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// TestNoRequestFailsInASwitch replaces the release behind an address a
// thousand times, each time stopping the old one hard once it is drained,
// while clients send requests without pause.
func TestNoRequestFailsInASwitch(t *testing.T) {
	t.Parallel()
	switches := 1000
	if testing.Short() {
		switches = 100
	}
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	say := func(id string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			io.WriteString(w, id)
		}
	}
	old := newRelease(t, dir, "r0", 100, say("r0"))
	url := mustSet(t, c, "p/production", old.Backend)

	ctx, stop := context.WithCancel(t.Context())
	var asked, failed atomic.Int64
	var why sync.Map
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			hc := client(t)
			for n := 0; ctx.Err() == nil; n++ {
				method, body := http.MethodGet, io.Reader(nil)
				if (n+i)%2 == 0 {
					method, body = http.MethodPost, strings.NewReader("some body")
				}
				req, err := http.NewRequest(method, url+"/", body)
				if err != nil {
					panic(err)
				}
				asked.Add(1)
				resp, err := hc.Do(req)
				if err != nil {
					failed.Add(1)
					why.Store(method+" "+err.Error(), true)
					continue
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(b), "r") {
					failed.Add(1)
					why.Store(fmt.Sprintf("%s %d %q %v", method, resp.StatusCode, b, err), true)
				}
			}
		})
	}
	for i := 1; i <= switches; i++ {
		id := "r" + strconv.Itoa(i)
		next := newRelease(t, dir, id, 100, say(id))
		mustSet(t, c, "p/production", next.Backend)
		left, err := c.Drain(t.Context(), old.Deployment, 20*time.Second)
		if err != nil || left != 0 {
			t.Fatalf("drain %s: %d left, %v", old.Deployment, left, err)
		}
		old.server.Close()
		old = next
	}
	stop()
	clients.Wait()
	why.Range(func(k, _ any) bool { t.Logf("failed: %v", k); return true })
	if failed.Load() != 0 {
		t.Errorf("%d of %d requests failed in %d switches", failed.Load(), asked.Load(), switches)
	}
	t.Logf("%d requests, %d failed, %d switches", asked.Load(), failed.Load(), switches)
}

func TestWeightsAreExact(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	blue := newRelease(t, dir, "blue", 95, saying("blue"))
	green := newRelease(t, dir, "green", 5, saying("green"))
	url := mustSet(t, c, "p/e", blue.Backend, green.Backend)
	hc, got := client(t), map[string]int{}
	for range 200 {
		_, body, _ := get(t, hc, url)
		got[body]++
	}
	if got["blue"] != 190 || got["green"] != 10 {
		t.Errorf("of 200 requests at 95 to 5: %v", got)
	}
	rep, err := c.Report(t.Context(), "green")
	if err != nil || rep.Requests != 10 || rep.Errors != 0 || rep.Weight != 5 || rep.P95 <= 0 {
		t.Errorf("report: %+v, %v", rep, err)
	}
	// The same once more changes nothing; another starts counting anew.
	mustSet(t, c, "p/e", blue.Backend, green.Backend)
	if rep, _ := c.Report(t.Context(), "green"); rep.Requests != 10 {
		t.Errorf("a repeated set lost the counters: %+v", rep)
	}
	blue.Weight, green.Weight = 50, 50
	mustSet(t, c, "p/e", blue.Backend, green.Backend)
	if rep, _ := c.Report(t.Context(), "green"); rep.Requests != 0 || rep.Weight != 50 {
		t.Errorf("after a change: %+v", rep)
	}
}

func TestOwnAnswersNameTheirReason(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	hc := client(t)
	url := mustSet(t, c, "p/empty")
	check := func(what, url string, status int, reason string) {
		t.Helper()
		got, body, h := get(t, hc, url)
		if got != status || h.Get(reasonHeader) != reason || !strings.Contains(body, reason) {
			t.Errorf("%s: got %d %q %q, want %d %s", what, got, h.Get(reasonHeader), body, status, reason)
		}
	}
	check("no backend", url, http.StatusServiceUnavailable, reasonNoRelease)
	dead := Backend{Deployment: "dead", Socket: filepath.Join(dir, "nobody"), Weight: 100}
	url = mustSet(t, c, "p/dead", dead)
	check("nobody listens", url, http.StatusBadGateway, reasonUnreachable)
	if rep, _ := c.Report(t.Context(), "dead"); rep.Errors != 1 || rep.Requests != 1 || rep.ErrorsInARow != 1 {
		t.Errorf("report of the dead: %+v", rep)
	}
	req, _ := http.NewRequest(http.MethodGet, url, nil)
	req.Header.Set("X-Big", strings.Repeat("x", 2*maxRequestHeader))
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of %d bytes: status %d", 2*maxRequestHeader, resp.StatusCode)
	}
}

// TestUnreachableBackendIsPassedOver has one release that nobody listens for
// and one that accepts and closes, as a sandbox's socket does while nothing
// listens in the room.
func TestUnreachableBackendIsPassedOver(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	closing := Backend{Deployment: "closing", Socket: filepath.Join(dir, "closing"), Weight: 30}
	l, err := net.Listen("unix", closing.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	dead := Backend{Deployment: "dead", Socket: filepath.Join(dir, "dead"), Weight: 30}
	live := newRelease(t, dir, "live", 40, saying("live"))
	url := mustSet(t, c, "p/e", dead, closing, live.Backend)
	hc := client(t)
	for range 100 {
		if status, body, _ := get(t, hc, url); status != http.StatusOK || body != "live" {
			t.Fatalf("got %d %q", status, body)
		}
	}
	for _, id := range []sallyport.DeploymentID{"dead", "closing"} {
		rep, _ := c.Report(t.Context(), id)
		if rep.Errors == 0 || rep.Errors != rep.Requests || rep.InFlight != 0 {
			t.Errorf("report of %s: %+v", id, rep)
		}
	}
}

func TestPostIsNotSentTwice(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	var posts atomic.Int64
	count := func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		panic(http.ErrAbortHandler) // breaks off without an answer
	}
	a := newRelease(t, dir, "a", 50, count)
	b := newRelease(t, dir, "b", 50, count)
	url := mustSet(t, c, "p/e", a.Backend, b.Backend)
	resp, err := client(t).Post(url, "text/plain", strings.NewReader("once"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway || posts.Load() != 1 {
		t.Errorf("status %d, sent %d times", resp.StatusCode, posts.Load())
	}
}

func TestCounters(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	hold := make(chan struct{})
	entered := make(chan struct{}, 1)
	r := newRelease(t, dir, "r", 100, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "only this")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/slow":
			entered <- struct{}{}
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
	})
	defer close(hold)
	url := mustSet(t, c, "p/e", r.Backend)
	// A client that keeps connections would repeat a request that broke off.
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	want := func(requests, errs, row int64) {
		t.Helper()
		var rep Report
		await(t, "the counters", func() bool {
			rep, _ = c.Report(t.Context(), "r")
			return rep.InFlight == 0 && rep.Requests >= requests
		})
		if rep.Requests != requests || rep.Errors != errs || rep.ErrorsInARow != row {
			t.Errorf("got %+v, want %d requests, %d errors, %d in a row", rep, requests, errs, row)
		}
	}
	get(t, hc, url+"/ok")
	want(1, 0, 0)
	get(t, hc, url+"/500")
	get(t, hc, url+"/500")
	want(3, 2, 2)
	if resp, err := hc.Get(url + "/cut"); err == nil {
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("an answer that broke off arrived whole")
		}
		resp.Body.Close()
	}
	want(4, 3, 3)
	get(t, hc, url+"/ok")
	want(5, 3, 0)
	// A client that goes away is nobody's error, and not a request answered.
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/slow", nil)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if resp, err := hc.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	cancel()
	<-gone
	want(5, 3, 0)
}

// TestClientThatBreaksOff does not count against the release.
func TestClientThatBreaksOff(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	entered := make(chan bool, 2)
	r := newRelease(t, dir, "r", 100, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done() // no answer to half a request
	})
	url := mustSet(t, c, "p/e", r.Backend)
	post := func(rest string) net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+rest)
		return conn
	}
	gone := post("Content-Length: 100\r\n\r\nhalf of it")
	<-entered
	gone.Close()
	wrong := post("Transfer-Encoding: chunked\r\n\r\nno chunk at all\r\n")
	defer wrong.Close()
	resp, err := http.ReadResponse(bufio.NewReader(wrong), nil)
	if err != nil || resp.StatusCode != http.StatusBadRequest || resp.Header.Get(reasonHeader) != reasonRequest {
		t.Errorf("got %+v, %v", resp, err)
	}
	await(t, "the end of the request", func() bool { rep, _ := c.Report(t.Context(), "r"); return rep.InFlight == 0 })
	if rep, _ := c.Report(t.Context(), "r"); rep.Requests != 0 || rep.Errors != 0 {
		t.Errorf("report: %+v", rep)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	r := newRelease(t, dir, "r", 100, func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		h.Set("Host", r.Host)
		_ = json.NewEncoder(w).Encode(h)
	})
	url := mustSet(t, c, "p/e", r.Backend)
	req, _ := http.NewRequest(http.MethodGet, url, nil)
	req.Host = "shop.example"
	for k, v := range map[string]string{
		"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "Forwarded": "for=6.6.6.6", "Connection": "X-Secret-Hop",
		"X-Secret-Hop": "1", "Te": "gzip", "X-Kept": "yes",
	} {
		req.Header.Set(k, v)
	}
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got http.Header
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "shop.example", "Host": "shop.example",
		"Forwarded": "", "X-Secret-Hop": "", "Te": "", "X-Kept": "yes",
	} {
		if got.Get(k) != want {
			t.Errorf("%s: got %q, want %q", k, got.Get(k), want)
		}
	}
}

func TestStreamsAndUpgrades(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	more := make(chan struct{})
	r := newRelease(t, dir, "r", 100, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "echo" {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(conn, rw)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: one\n\n")
		http.NewResponseController(w).Flush()
		<-more
		fmt.Fprint(w, "data: two\n\n")
	})
	url := mustSet(t, c, "p/e", r.Backend)

	resp, err := client(t).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	if first, err := lines.ReadString('\n'); err != nil || first != "data: one\n" {
		t.Errorf("first event before the end: %q, %v", first, err)
	}
	close(more)
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != "\ndata: two\n\n" {
		t.Errorf("rest: %q, %v", rest, err)
	}
	resp.Body.Close()

	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(conn)
	up, err := http.ReadResponse(br, nil)
	if err != nil || up.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", up, err)
	}
	for _, word := range []string{"ping\n", "pong\n"} {
		fmt.Fprint(conn, word)
		if got, err := br.ReadString('\n'); err != nil || got != word {
			t.Errorf("echo: %q, %v", got, err)
		}
	}
	// An open upgrade is in flight: a drain waits for it, and says so.
	if left, err := c.Drain(t.Context(), "r", time.Millisecond); err != nil || left != 1 {
		t.Errorf("drain with an open connection: %d left, %v", left, err)
	}
	conn.Close()
	if left, err := c.Drain(t.Context(), "r", 30*time.Second); err != nil || left != 0 {
		t.Errorf("drain after its end: %d left, %v", left, err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	c := start(t, filepath.Join(dir, "p"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	first, err := c.Set(t.Context(), Route{Key: "p/first"})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		listen string
		code   sallyport.Code
		text   string
	}{
		"in use":           {taken.Addr().String(), sallyport.CodeConflict, taken.Addr().String() + " is in use"},
		"of another":       {first.Address, sallyport.CodeConflict, "belongs to environment p/first"},
		"the world":        {"0.0.0.0:0", sallyport.CodeDenied, "not a loopback"},
		"a name":           {"localhost:80", sallyport.CodeInvalid, "IP:PORT"},
		"not of this host": {"127.0.0.1:99999", sallyport.CodeInvalid, "IP:PORT"},
	} {
		_, err := c.Set(t.Context(), Route{Key: "p/second", Listen: tc.listen})
		if sallyport.ErrorCode(err) != tc.code || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %v, want %s: …%s…", name, err, tc.code, tc.text)
		}
		var e *sallyport.Error
		if errors.As(err, &e) && e.Hint == "" {
			t.Errorf("%s: no hint", name)
		}
	}
	s, err := c.Status(t.Context())
	if err != nil || len(s.Routes) != 1 {
		t.Errorf("a refused route was kept: %+v, %v", s, err)
	}
	// An environment may move; the old address is free again.
	other, err := c.Set(t.Context(), Route{Key: "p/first", Listen: "127.0.0.2:0"})
	if err != nil || !strings.HasPrefix(other.Address, "127.0.0.2:") {
		t.Fatalf("move: %+v, %v", other, err)
	}
	await(t, "the old address to be free", func() bool {
		l, err := net.Listen("tcp", first.Address)
		if err == nil {
			l.Close()
		}
		return err == nil
	})
}

// TestKilledProxyServesTheSameAgain kills the process and starts another.
func TestKilledProxyServesTheSameAgain(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	home := filepath.Join(dir, "p")
	process := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), proxyDirEnv+"="+home)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	c := NewClient(home)
	answers := func() bool { _, err := c.Status(t.Context()); return err == nil }
	p := process()
	await(t, "the first proxy", answers)
	blue := newRelease(t, dir, "blue", 100, saying("blue"))
	url := mustSet(t, c, "p/e", blue.Backend)
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if _, body, _ := get(t, hc, url); body != "blue" {
		t.Fatalf("got %q", body)
	}
	held := make(chan error, 1)
	go func() { held <- c.Hold(t.Context()) }()

	second := exec.Command(os.Args[0])
	second.Env = append(os.Environ(), proxyDirEnv+"="+home)
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "another proxy") {
		t.Errorf("a second proxy: %v: %s", err, out)
	}

	_ = p.Process.Kill()
	_ = p.Wait()
	if err := <-held; err != nil && !errors.Is(err, ErrNotRunning) { // on a busy machine it asks when all is over
		t.Errorf("hold: %v", err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("status of a dead proxy: %v", err)
	}
	p = process()
	await(t, "the second proxy", answers)
	if _, body, _ := get(t, hc, url); body != "blue" {
		t.Errorf("after the restart: %q", body)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// TestAddressTakenMeanwhile starts the proxy while another program holds the
// address of a route, and frees it then.
func TestAddressTakenMeanwhile(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	home := filepath.Join(dir, "p")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	blue := newRelease(t, dir, "blue", 100, saying("blue"))
	before := newProxy(Config{Dir: home, Log: slog.New(slog.DiscardHandler)})
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := before.save(Route{Key: "p/e", Address: taken.Addr().String(), Backends: []Backend{blue.Backend}}); err != nil {
		t.Fatal(err)
	}
	c := start(t, home)
	s, err := c.Status(t.Context())
	if err != nil || len(s.Routes) != 1 || !strings.Contains(s.Routes[0].Problem, taken.Addr().String()) {
		t.Fatalf("status: %+v, %v", s, err)
	}
	url := "http://" + taken.Addr().String()
	taken.Close()
	await(t, "the address to be served", func() bool {
		s, err := c.Status(t.Context())
		return err == nil && s.Routes[0].Problem == ""
	})
	if _, body, _ := get(t, client(t), url); body != "blue" {
		t.Errorf("got %q", body)
	}
}
