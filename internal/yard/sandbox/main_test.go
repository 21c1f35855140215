package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func TestMain(m *testing.M) {
	if handled, code := sallyporttest.SandboxProbe(os.Args); handled {
		os.Exit(code)
	}
	if len(os.Args) == 4 && os.Args[1] == holdMark {
		if err := hold(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	if len(os.Args) == 2 && os.Args[1] == listenMark {
		tryToListen()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runtimePath finds a runc to test with.
func runtimePath(t testing.TB) string {
	t.Helper()
	if built, err := filepath.Abs("../../../bin/runc"); err == nil {
		if _, err := os.Stat(built); err == nil {
			return built
		}
	}
	if found, err := exec.LookPath("runc"); err == nil {
		return found
	}
	t.Skip("there is no runc: scripts/runtime.sh builds it")
	return ""
}

func open(t testing.TB, c Config) *Sandbox {
	t.Helper()
	if c.StateDir == "" {
		c.StateDir = t.TempDir()
	}
	if c.Runtime == "" {
		c.Runtime = runtimePath(t)
	}
	s, err := New(c)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
