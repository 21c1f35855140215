package sallyporttest

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// rootfs makes the root file system of an image as a store would have unpacked it,
// with symlinks where a room puts something of its own.
func (s *suite) rootfs(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(s.Dir, "image-"+strings.ReplaceAll(t.Name(), "/", "-"))
	for name, content := range map[string]string{
		"etc/passwd": "root:x:0:0::/:/bin/sh\napp:x:1234:2345::/:/bin/sh\n", "etc/group": "root:x:0:\napp:x:2345:\nextra:x:77:other,app\n",
		"etc/resolv.conf": "nameserver 192.0.2.1\n", "opt/file": "of the image", "tmp-behind/x": "",
	} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"tmp": "/opt", "proc": "/", "dev": "../../../../..", "etc/hosts": "/opt/file", ".sallyport": "/opt"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// needStatic skips where the test binary, which is the room's init, needs libraries
// that an image does not have: under the race detector.
func needStatic(t *testing.T) {
	t.Helper()
	exe, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	for _, p := range exe.Progs {
		if p.Type == elf.PT_INTERP {
			t.Skip("the test binary is linked dynamically: build it with CGO_ENABLED=0")
		}
	}
}

// testImage runs in a room over an image: the image is all there is of files, it
// stays as it was, and users are those of its own /etc/passwd.
func testImage(t *testing.T, s *suite) {
	needStatic(t)
	dir := s.rootfs(t)
	r := s.room(t, sallyport.RoomSpec{Image: dir, Hosts: []string{"database"}})
	if out, _ := probe(t, r, "read", "/opt/file"); out != "of the image" {
		t.Errorf("a file of the image: got %q", out)
	}
	if out, _ := probe(t, r, "read", "/etc/hosts"); !strings.Contains(out, "127.0.0.1 localhost room database") {
		t.Errorf("/etc/hosts: got %q", out)
	}
	if out, _ := probe(t, r, "read", "/etc/resolv.conf"); strings.Contains(out, "192.0.2.1") {
		t.Errorf("/etc/resolv.conf: got %q", out)
	}
	for _, path := range []string{"/usr/bin/env", "/etc/debian_version", "/bin/sh"} {
		if out, res := probe(t, r, "read", path); res.ExitCode == 0 {
			t.Errorf("the host's %s can be seen: %.60q", path, out)
		}
	}
	for _, path := range []string{"/tmp/new", "/opt/new", "/new"} {
		if out, res := probe(t, r, "write", path); res.ExitCode != 0 {
			t.Errorf("write %s: %q", path, out)
		}
	}
	for _, path := range []string{"opt/new", "new", "tmp-behind/new"} {
		if _, err := os.Lstat(filepath.Join(dir, path)); err == nil {
			t.Errorf("the image has got a file %s", path)
		}
	}
	for user, want := range map[string]string{"": "0 0 []", "app": "1234 2345 [77]", "app:extra": "1234 77 []", "1234": "1234 2345 [77]", "0:77": "0 77 []", "4000:5": "4000 5 []"} {
		if r.Isolation().Rootless && user != "" {
			continue // a rootless room may have one user
		}
		var out bytes.Buffer
		_, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{probePath, probeMark, "whoami"}, Env: env, User: user, Stdout: &out, Stderr: &out})
		if got := strings.TrimSpace(out.String()); err != nil || !strings.HasPrefix(got, want) && user != "" {
			t.Errorf("user %q: got %q, %v; want %s", user, got, err, want)
		}
	}
	if _, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{probePath, probeMark, "whoami"}, Env: env, User: "nobody-here"}); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("an unknown user: got %v, want %s", err, sallyport.CodeInvalid)
	}
	// Another room over the same image begins anew.
	if out, res := probe(t, s.room(t, sallyport.RoomSpec{Image: dir}), "read", "/new"); res.ExitCode == 0 {
		t.Errorf("a second room has the first one's file: %q", out)
	}
}

// testPeers has one room call another by a port of its own loopback.
func testPeers(t *testing.T, s *suite) {
	server := s.room(t, sallyport.RoomSpec{})
	client := s.room(t, sallyport.RoomSpec{Peers: []sallyport.Peer{{Room: server, Port: 80, As: 8080}}})
	const url = "http://127.0.0.1:8080/"
	if out, res := probe(t, client, "get", url+"early"); res.ExitCode == 0 {
		t.Errorf("an answer although nothing listens: %q", out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pr, pw := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := server.Exec(ctx, sallyport.ExecSpec{Argv: []string{probePath, probeMark, "serve", "80"}, Env: env, Stdout: pw, Stderr: pw})
		pw.CloseWithError(fmt.Errorf("server ended: %w", err))
		ended <- err
	}()
	if line, err := bufio.NewReader(pr).ReadString('\n'); line != "listening\n" {
		t.Fatalf("server: %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, pr) }()
	if out, res := probe(t, client, "get", url+"1"); res.ExitCode != 0 || !strings.Contains(out, "hello from the room /1") {
		t.Errorf("got %q, %+v", out, res)
	}
	// No other port of the peer, and no way back.
	if out, res := probe(t, client, "get", "http://127.0.0.1:80/"); res.ExitCode == 0 {
		t.Errorf("another port answers: %q", out)
	}
	if out, res := probe(t, server, "get", url); res.ExitCode == 0 {
		t.Errorf("the peer reaches back: %q", out)
	}
	cancel()
	<-ended
	if err := server.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	if out, res := probe(t, client, "get", url+"late"); res.ExitCode == 0 {
		t.Errorf("an answer of a room that is gone: %q", out)
	}
}
