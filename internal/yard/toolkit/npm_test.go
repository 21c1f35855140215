package toolkit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/sandbox"
)

// toolkits finds the toolkits of actions as scripts/toolkits.sh installed them.
func toolkits(t testing.TB) string {
	t.Helper()
	lock, err := os.ReadFile("testdata/npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "sallyport", "toolkits", hex.EncodeToString(sum[:])[:16])
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the toolkits of actions are not installed: scripts/toolkits.sh does it where it reaches npm's registry")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("there is no node: scripts/setup.sh installs it")
	}
	return dir
}

func realSandbox(t testing.TB) *sandbox.Sandbox {
	t.Helper()
	runc, err := filepath.Abs("../../../bin/runc")
	if err == nil {
		_, err = os.Stat(runc)
	}
	if err != nil {
		if runc, err = exec.LookPath("runc"); err != nil {
			t.Skip("there is no runc: scripts/runtime.sh builds it")
		}
	}
	s, err := sandbox.New(sandbox.Config{StateDir: t.TempDir(), Runtime: runc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Check(t.Context()); sallyport.ErrorCode(err) == sallyport.CodeUnavailable {
		t.Skipf("this host cannot isolate: %v", err)
	}
	return s
}

// npmRoom is a room without a network in which the toolkits find a Service.
type npmRoom struct {
	service *Service
	room    sallyport.Room
}

func newNPMRoom(t testing.TB, yard sallyport.Yard, change func(*Config)) *npmRoom {
	t.Helper()
	modules := toolkits(t)
	box := realSandbox(t)
	s := newService(t, yard, change)
	dir, err := os.MkdirTemp("", "toolkit") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), ln) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	scripts, err := filepath.Abs("testdata/npm")
	if err != nil {
		t.Fatal(err)
	}
	room, err := box.Prepare(t.Context(), sallyport.RoomSpec{
		ID: "toolkit", Serve: ln.Addr().String(), ServePort: Port,
		Binds: []sallyport.Bind{
			{Source: filepath.Join(modules, "node_modules"), Target: "/toolkits/node_modules", ReadOnly: true},
			{Source: scripts, Target: "/toolkits/scripts", ReadOnly: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := room.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &npmRoom{s, room}
}

// run runs a script with the environment of an action and returns what it said.
func (r *npmRoom) run(t testing.TB, script string, args ...string) string {
	t.Helper()
	env := append(r.service.Env(true),
		sallyport.EnvVar{Name: "PATH", Value: "/usr/local/bin:/usr/bin:/bin"}, sallyport.EnvVar{Name: "HOME", Value: "/root"},
		sallyport.EnvVar{Name: "GITHUB_SERVER_URL", Value: "http://sallyport.localhost:7357"}, sallyport.EnvVar{Name: "GITHUB_WORKSPACE", Value: "/tmp"},
		sallyport.EnvVar{Name: "RUNNER_TEMP", Value: "/tmp"}, sallyport.EnvVar{Name: "GITHUB_REPOSITORY", Value: "octo/hello"})
	var out bytes.Buffer
	res, err := r.room.Exec(t.Context(), sallyport.ExecSpec{
		Argv: append([]string{"node", "/toolkits/scripts/" + script}, args...), Env: env, Dir: "/tmp", Stdout: &out, Stderr: &out,
	})
	if err != nil || res.ExitCode != 0 {
		t.Fatalf("%s: exit %d, %v\n%s", script, res.ExitCode, err, out.String())
	}
	return out.String()
}

// TestArtifactToolkit has the unmodified toolkit store, list, fetch and compare artifacts.
func TestArtifactToolkit(t *testing.T) {
	t.Parallel()
	for _, module := range []string{"@actions/artifact", "artifact-2"} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			yard := newShelf()
			r := newNPMRoom(t, yard, nil)
			out := r.run(t, "artifact.mjs", module)
			if !strings.HasSuffix(out, "all is well\n") {
				t.Errorf("the script said:\n%s", out)
			}
			if got, want := listTar(t, yard.bytes["dist"]), "644 a.txt one\n644 empty \n644 sub/b.bin "; !strings.HasPrefix(got, want) {
				t.Errorf("kept %.100q, want %q first", got, want)
			}
		})
	}
}
