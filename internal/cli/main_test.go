package cli

import (
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func TestMain(m *testing.M) {
	if handled, code := sallyporttest.SandboxProbe(os.Args); handled { // as the service of a job
		os.Exit(code)
	}
	testscript.Main(m, map[string]func(){"sallyport": sallyportMain})
}

// sallyportMain is what cmd/sallyport is.
func sallyportMain() {
	os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
}

// needRuntime skips where there is no OCI runtime to make rooms with.
func needRuntime(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("no runc on PATH: run make runtime and put bin/ on PATH")
	}
	return path
}

// TestScripts runs the verbs as a user would, in real rooms.
func TestScripts(t *testing.T) {
	runc := needRuntime(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("RUNC", runc)
			e.Setenv("PATH", os.Getenv("PATH")+":"+e.Getenv("PATH"))
			e.Setenv("TMPDIR", "/tmp") // sockets must have short paths
			return nil
		},
	})
}
