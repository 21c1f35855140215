package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

// newRelease writes a spec that runs a shell script, and returns its directory.
func newRelease(t *testing.T, script string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write(t, dir, sallyport.ReleaseSpec{
		Deployment: "d", Argv: []string{"/bin/sh", "-c", script}, Dir: "/", Grace: 20 * time.Second,
		Env:  []sallyport.EnvVar{{Name: "PATH", Value: "/usr/bin:/bin"}},
		Room: sallyport.RoomSpec{ID: "release-d", Dial: filepath.Join(dir, "sock"), DialPort: 8080},
	})
	return dir
}

func write(t *testing.T, dir string, spec sallyport.ReleaseSpec) {
	t.Helper()
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, sallyport.ReleaseSpecFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func state(dir string) sallyport.ReleaseState {
	var s sallyport.ReleaseState
	if b, err := os.ReadFile(filepath.Join(dir, sallyport.ReleaseStateFile)); err == nil {
		_ = json.Unmarshal(b, &s)
	}
	return s
}

func run(ctx context.Context, dir string, sandbox sallyport.Sandbox) error {
	return Run(ctx, Config{Dir: dir, Sandbox: sandbox, Log: slog.New(slog.DiscardHandler)})
}

func await(t *testing.T, what string, ok func() bool) {
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

func TestHowAReleaseEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, exit string }{
		"by itself": {"echo out; echo err >&2; exit 7", "exit code 7"},
		"well":      {"exit 0", "exit code 0"},
		"by signal": {"kill -9 $$", "signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newRelease(t, c.script)
			if err := run(t.Context(), dir, sallyporttest.HostRooms{}); err != nil {
				t.Fatal(err)
			}
			s := state(dir)
			if s.Phase != sallyport.ReleaseEnded || s.Code != "" || !strings.Contains(s.Exit, c.exit) || s.EndedAt.Before(s.StartedAt) {
				t.Errorf("state: %+v, want %q", s, c.exit)
			}
			if _, err := os.Lstat(filepath.Join(dir, "sock")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the room is not gone: %v", err)
			}
			out, err := os.ReadFile(filepath.Join(dir, sallyport.ReleaseOutputFile))
			if err != nil || name == "by itself" && string(out) != "out\nerr\n" {
				t.Errorf("output: %q, %v", out, err)
			}
		})
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	dir := newRelease(t, `trap 'echo bye; exit 0' TERM; echo ready; while :; do read -r line < /dev/zero & wait $!; done`)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, dir, sallyporttest.HostRooms{}) }()
	output := func() string {
		b, _ := os.ReadFile(filepath.Join(dir, sallyport.ReleaseOutputFile))
		return string(b)
	}
	await(t, "the release", func() bool { return strings.Contains(output(), "ready") })
	if s := state(dir); s.Phase != sallyport.ReleaseRunning || s.PID != os.Getpid() {
		t.Errorf("state: %+v", s)
	}
	if err := run(t.Context(), dir, sallyporttest.HostRooms{}); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("a second host: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if s := state(dir); s.Phase != sallyport.ReleaseEnded || s.Exit != "stopped as asked" {
		t.Errorf("state: %+v", s)
	}
	if !strings.Contains(output(), "bye") {
		t.Errorf("it could not end gracefully: %q", output())
	}
}

// refusing is a host that cannot isolate.
type refusing struct {
	sallyporttest.HostRooms
	err   error
	swept *int
}

func (r refusing) Prepare(context.Context, sallyport.RoomSpec) (sallyport.Room, error) {
	return nil, r.err
}

func (r refusing) Sweep(context.Context) error { *r.swept++; return nil }

func TestNoRoom(t *testing.T) {
	t.Parallel()
	swept := 0
	dir := newRelease(t, "exit 0")
	refusal := sallyport.Errorf(sallyport.CodeUnavailable, "no user\nnamespaces").WithHint("enable them")
	if err := run(t.Context(), dir, refusing{err: refusal, swept: &swept}); err != nil {
		t.Fatal(err)
	}
	s := state(dir)
	if s.Phase != sallyport.ReleaseEnded || s.Code != sallyport.CodeUnavailable || s.Hint != "enable them" || !strings.HasSuffix(s.Exit, "no user?namespaces") {
		t.Errorf("state: %+v", s)
	}
	// A cause that is nobody's business is not spelled out.
	dir = newRelease(t, "exit 0")
	if err := run(t.Context(), dir, refusing{err: errors.New("/secret/path"), swept: &swept}); err != nil {
		t.Fatal(err)
	}
	if s := state(dir); s.Code != sallyport.CodeInternal || strings.Contains(s.Exit, "secret") {
		t.Errorf("state: %+v", s)
	}
	// Without a spec only dead rooms are swept.
	if err := os.Remove(filepath.Join(dir, sallyport.ReleaseSpecFile)); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), dir, refusing{err: refusal, swept: &swept}); err != nil || swept != 3 {
		t.Errorf("sweep: %d times, %v", swept, err)
	}
}

func TestSpecIsStrict(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"not JSON":      `release`,
		"unknown field": `{"deployment":"d","argv":["x"],"room":{"Dial":"/s","DialPort":1},"privileged":true}`,
		"no command":    `{"deployment":"d","room":{"Dial":"/s","DialPort":1}}`,
		"no port":       `{"deployment":"d","argv":["x"],"room":{"Dial":"/s"}}`,
	} {
		dir := newRelease(t, "exit 0")
		if err := os.WriteFile(filepath.Join(dir, sallyport.ReleaseSpecFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), dir, sallyporttest.HostRooms{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	const max = 1000
	path := filepath.Join(t.TempDir(), "out")
	o, err := openOutput(path, max)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for i := range 500 {
		line := bytes.Repeat([]byte{byte('a' + i%26)}, i)
		if n, err := o.Write(line); err != nil || n != len(line) {
			t.Fatalf("write: %d, %v", n, err)
		}
		all.Write(line)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	older, errOld := os.ReadFile(path + ".1")
	newer, errNew := os.ReadFile(path)
	if errOld != nil || errNew != nil {
		t.Fatal(errOld, errNew)
	}
	if len(older) != max || len(newer) > max || !bytes.HasSuffix(all.Bytes(), append(older, newer...)) {
		t.Errorf("kept %d and %d bytes, which are not the last", len(older), len(newer))
	}
	// What is there is gone on with.
	if o, err = openOutput(path, max); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for range 2 { // stdout and stderr
		both.Go(func() {
			for range 100 {
				_, _ = o.Write([]byte("0123456789"))
			}
		})
	}
	both.Wait()
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".1"} {
		if fi, err := os.Stat(p); err != nil || fi.Size() > max {
			t.Errorf("%s: %v, %v", p, fi, err)
		}
	}
}

func TestOutputNeverFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	o, err := openOutput(filepath.Join(dir, "out"), 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if n, err := o.Write(make([]byte, 25)); n != 25 || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}
