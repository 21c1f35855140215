package target_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/proxy"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
	"github.com/sallyport-ci/sallyport/internal/target"
	"github.com/sallyport-ci/sallyport/internal/yard/sandbox"
	"github.com/sallyport-ci/sallyport/internal/yard/service"
)

const roleEnv = "SALLYPORT_TEST_ROLE"

// TestMain lets the test binary be each of the processes that a Process starts.
func TestMain(m *testing.M) {
	sallyporttest.ServeRelease()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var err error
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	default:
		switch os.Args[1] {
		case "proxy":
			err = proxy.Run(context.Background(), proxy.Config{Dir: os.Args[2], Log: log})
		case "release":
			err = service.Run(context.Background(), service.Config{Dir: os.Args[2], Sandbox: rooms(os.Args[2]), Log: log})
		default:
			err = fmt.Errorf("unknown subcommand %q", os.Args[1])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// rooms is the sandbox of the release host for dir, as the role says.
func rooms(dir string) sallyport.Sandbox {
	runtime, real := strings.CutPrefix(os.Getenv(roleEnv), "rooms by ")
	if !real {
		return sallyporttest.HostRooms{}
	}
	s, err := sandbox.New(sandbox.Config{StateDir: filepath.Join(dir, "rooms"), Runtime: runtime})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return s
}

// shortDir leaves room for socket names and is removed after all that runs in it.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "tg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func open(t testing.TB, dir string) *target.Process { return openAs(t, dir, "processes") }

func openAs(t testing.TB, dir, role string) *target.Process {
	t.Helper()
	p, err := target.NewProcess(target.Config{
		Dir: dir, Exe: os.Args[0], Env: []string{roleEnv + "=" + role},
		ProxyArgs:   func(dir string) []string { return []string{"proxy", dir} },
		ReleaseArgs: func(dir string) []string { return []string{"release", dir} },
		Log:         slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// stopAll ends what runs in dir when the test ends.
func stopAll(t testing.TB, dir string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := open(t, dir).Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

func program(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	t.Parallel()
	self := program(t)
	sallyporttest.Target(t, func(t *testing.T) sallyporttest.TargetFixture {
		dir := shortDir(t)
		stopAll(t, dir)
		return sallyporttest.TargetFixture{
			Program: self,
			Open:    func(t *testing.T) sallyport.Target { return open(t, dir) },
		}
	})
}

// TestConformanceInRooms has each release in a room of the real sandbox.
func TestConformanceInRooms(t *testing.T) {
	t.Parallel()
	role := roomsRole(t)
	self := program(t)
	sallyporttest.Target(t, func(t *testing.T) sallyporttest.TargetFixture {
		dir := shortDir(t)
		stopAll(t, dir)
		return sallyporttest.TargetFixture{
			Program: self,
			Open:    func(t *testing.T) sallyport.Target { return openAs(t, dir, role) },
		}
	})
}

// roomsRole is the role of hosts that use the real sandbox; the test is skipped
// where there is none.
func roomsRole(t *testing.T) string {
	t.Helper()
	runtime := ""
	if path, err := filepath.Abs("../../bin/runc"); err == nil {
		if _, err := os.Stat(path); err == nil {
			runtime = path
		}
	}
	box, err := sandbox.New(sandbox.Config{StateDir: shortDir(t), Runtime: runtime})
	if err != nil {
		t.Skipf("no OCI runtime: %v", err)
	}
	defer box.Close()
	if _, err := box.Check(t.Context()); err != nil {
		t.Skipf("this host does not isolate: %v", err)
	}
	return "rooms by " + runtime
}

func deployment(self []byte, name string) (sallyport.Deployment, sallyport.Artifact, func() (io.ReadCloser, error)) {
	digest := sallyport.DigestOf(self)
	return sallyport.Deployment{
			ID: sallyport.NewID[sallyport.DeploymentID](time.Now()), Project: "p", Environment: "e", Digest: digest,
			Spec: sallyport.EnvironmentSpec{
				Name: "e", Port: 8080, Health: sallyport.HealthSpec{Path: "/healthz"}, Drain: time.Second,
				Env: []sallyport.EnvVar{{Name: "SALLYPORT_TEST_RELEASE", Value: name}},
			},
		}, sallyport.Artifact{Name: "server", Filename: "server", Digest: digest, Size: int64(len(self))},
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(self)), nil }
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func answers(url, want string) func() bool {
	return func() bool {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request(url))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return err == nil && string(b) == want
	}
}

func request(url string) *http.Request {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	return r
}

// TestKilledProxy is started again by whoever opened the target, with the
// same routes at the same address.
func TestKilledProxy(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	stopAll(t, dir)
	p := open(t, dir)
	d, a, content := deployment(program(t), "blue")
	if err := p.Apply(t.Context(), d, a, content); err != nil {
		t.Fatal(err)
	}
	url, err := p.Shift(t.Context(), d.Project, d.Spec, map[sallyport.DeploymentID]int{d.ID: 100})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the first answer", answers(url, "blue"))
	client := proxy.NewClient(filepath.Join(dir, "proxy"))
	for range 2 {
		s, err := client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, "another proxy", func() bool {
			now, err := client.Status(t.Context())
			return err == nil && now.PID != s.PID
		})
		await(t, "an answer from it", answers(url, "blue"))
		p.Close()
		p = open(t, dir) // the second time it is not our child
	}
}

// TestKilledHost finds that a release ended with its host, and removes it.
func TestKilledHost(t *testing.T) {
	t.Parallel()
	t.Run("without rooms", func(t *testing.T) { t.Parallel(); killHost(t, "processes") })
	t.Run("in rooms", func(t *testing.T) { t.Parallel(); killHost(t, roomsRole(t)) })
}

func killHost(t *testing.T, role string) {
	dir := shortDir(t)
	stopAll(t, dir)
	p := openAs(t, dir, role)
	d, a, content := deployment(program(t), "blue")
	if err := p.Apply(t.Context(), d, a, content); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "releases", string(d.ID))
	state, err := os.ReadFile(filepath.Join(home, sallyport.ReleaseStateFile))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscanf(string(state[bytes.Index(state, []byte(`"pid":`)):]), `"pid":%d`, &pid); err != nil {
		t.Fatalf("%s: %v", state, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the end to be noticed", func() bool {
		list, err := p.List(t.Context())
		return err == nil && len(list) == 1 && !list[0].Running
	})
	if list, _ := p.List(t.Context()); !strings.Contains(list[0].Exit, "host") {
		t.Errorf("exit: %+v", list[0])
	}
	if err := p.Remove(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*", "*"+string(d.ID)+"*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "s")); len(left) != 0 {
		t.Errorf("sockets left: %v", left)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	stopAll(t, dir)
	p := open(t, dir)
	d, a, content := deployment(program(t), "blue")
	if err := p.Apply(t.Context(), d, a, content); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	d.Spec.Listen = taken.Addr().String()
	_, err = p.Shift(t.Context(), d.Project, d.Spec, map[sallyport.DeploymentID]int{d.ID: 100})
	if sallyport.ErrorCode(err) != sallyport.CodeConflict || !strings.Contains(err.Error(), d.Spec.Listen) {
		t.Errorf("got %v, want a conflict that names %s", err, d.Spec.Listen)
	}
	if _, hint := sallyport.ErrorMessage(err); hint == "" {
		t.Error("no hint")
	}
}

// TestFailedStart has a proxy and a host that end at once.
func TestFailedStart(t *testing.T) {
	t.Parallel()
	p, err := target.NewProcess(target.Config{
		Dir: shortDir(t), Exe: os.Args[0], Env: []string{roleEnv + "=processes"},
		ProxyArgs:   func(string) []string { return []string{"no-proxy"} },
		ReleaseArgs: func(string) []string { return []string{"no-release"} },
		Log:         slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d, a, content := deployment(program(t), "blue")
	if err := p.Apply(t.Context(), d, a, content); err == nil || !strings.Contains(err.Error(), "no-release") {
		t.Errorf("apply: %v", err)
	}
	_, err = p.Shift(t.Context(), d.Project, d.Spec, map[sallyport.DeploymentID]int{d.ID: 100})
	if err == nil || !strings.Contains(err.Error(), "no-proxy") {
		t.Errorf("shift: %v", err)
	}
	if err := p.Remove(t.Context(), d); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func TestNewProcessRefuses(t *testing.T) {
	t.Parallel()
	if _, err := target.NewProcess(target.Config{Dir: shortDir(t)}); err == nil {
		t.Error("accepted without a binary")
	}
	args := func(string) []string { return nil }
	_, err := target.NewProcess(target.Config{
		Dir: filepath.Join(shortDir(t), strings.Repeat("d", 100)), Exe: "/bin/true", ProxyArgs: args, ReleaseArgs: args,
		Log: slog.New(slog.DiscardHandler),
	})
	if sallyport.ErrorCode(err) != sallyport.CodeInvalid || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long path: %v", err)
	}
}
