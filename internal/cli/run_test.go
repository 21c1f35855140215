package cli

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRunInterrupted presses Ctrl-C in a local run: the job's cleanup still
// runs, and the result is told as of any run.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	needRuntime(t)
	dir := t.TempDir()
	file := filepath.Join(dir, ".github", "workflows", "slow.yml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	content := `on: push
jobs:
  slow:
    runs-on: ubuntu-latest
    steps:
      - run: echo it has "begun"; exec sleep 600
      - {if: always(), run: 'echo it is "cleaned up"'}
`
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "x"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sallyport", "run", "-C", dir)
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp") // sockets must have short paths
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.HasSuffix(lines.Text(), "it has begun") {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if !strings.Contains(said.String(), "it is cleaned up") {
		t.Errorf("no cleanup in the log:\n%s", said.String())
	}
	for _, want := range []string{"cancelling", "cancelled  slow", "cancelled in"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, stderr.String())
		}
	}
}
