package cli

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestExamples runs the projects under examples as their reader would, in real
// rooms, and lints them.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name string
		tool string // that the jobs need of the host
		args []string
		want []string // in the log and the list of jobs
	}{
		{name: "go", tool: "go", want: []string{"Artifact words: 1 files", "success    smoke", "skipped    cross"}},
		{name: "node", tool: "node", want: []string{"test (spec)", "test (tap)", "success    check"}},
		{name: "python", tool: "python3", want: []string{"test (tests/test_roman.py, -O)", "success    build"}},
		{name: "reusable", tool: "sh", want: []string{"success    worker / test / ask", "the service answered 1 line", "skipped    api / strict", "worker/serve.sh", "success    bundle"}},
		{
			name: "matrix-release", tool: "sh", args: []string{"--input", "version=1.1.0"},
			want: []string{"build windows (2 of 3)", "- greets by name", "Artifact release: 4 files", "skipped    publish", "success    skipped"},
		},
		{
			name: "matrix-release", tool: "sh", args: []string{"--input", "version=1.0.0", "--input", "targets=linux", "--input", "dry-run=false"},
			want: []string{"build linux (0 of 1)", "success    publish", "skipped    skipped"},
		},
	} {
		t.Run(strings.Join(append([]string{x.name}, x.args...), " "), func(t *testing.T) {
			t.Parallel()
			needRuntime(t)
			if _, err := exec.LookPath(x.tool); err != nil {
				t.Skipf("the example needs %s on the host", x.tool)
			}
			dir := "../../examples/" + x.name
			var found bytes.Buffer
			if code := Main([]string{"lint", "-C", dir}, &found, &found); code != exitOK {
				t.Errorf("lint: %d\n%s", code, found.String())
			}
			cmd := exec.CommandContext(t.Context(), "sallyport", append([]string{"run", "-C", dir}, x.args...)...)
			cmd.Env = append(os.Environ(), "TMPDIR=/tmp") // sockets must have short paths
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, w := range x.want {
				if !strings.Contains(string(out), w) {
					t.Errorf("%q is missing in\n%s", w, out)
				}
			}
		})
	}
}
