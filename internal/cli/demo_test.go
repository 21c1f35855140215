package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/internal/daemon"
)

// TestDemo plays the demo as scripts do, and checks its proof as a stranger would.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and deploys the sample")
	}
	t.Parallel()
	needRuntime(t)
	dir, err := os.MkdirTemp("", "sp-") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data := filepath.Join(dir, "d")
	t.Cleanup(func() { // a demo that failed may have left its releases
		if _, err := os.Stat(filepath.Join(data, "deploy")); err == nil {
			_ = daemon.StopReleases(t.Context(), data)
		}
	})
	got := command(t, os.Environ(), "sallyport", "demo", "--once", "--json", "--data", data)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	var d demoResult
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &d); err != nil || got.code != exitOK {
		t.Fatalf("exit code %d, last line %q: %v\n%s", got.code, lines[len(lines)-1], err, got.stderr)
	}
	if d.Type != "demo" || !d.OK || !d.RolledBack || !d.Refused {
		t.Errorf("got %+v, want all of it", d)
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("stdout holds %q, which is not JSON", line)
		}
	}
	left := processes(t, data)
	for over := time.Now().Add(patience); len(left) != 0 && time.Now().Before(over); left = processes(t, data) {
		time.Sleep(poll) // a process that was stopped may still be on its way out
	}
	if len(left) != 0 {
		t.Errorf("the demo left processes: %v", left)
	}
	verify := command(t, os.Environ(), "sallyport", "verify", d.Artifact, "--bundle", d.Bundle, "--trusted-root", d.TrustedRoot, "--identity", d.Identity, "--issuer", d.Issuer)
	if verify.code != exitOK || !strings.Contains(verify.stdout, "Verified OK") {
		t.Errorf("sallyport verify: %+v", verify)
	}
	if audit := command(t, os.Environ(), "sallyport", "audit", "verify", "--data", data); audit.code != exitOK {
		t.Errorf("sallyport audit verify: %+v", audit)
	}
	t.Run("cosign", func(t *testing.T) { cosignVerifies(t, d, got.stderr) })
}

// cosignVerifies has an unmodified cosign check the artifact without a network
// and without a home, with the very command that the demo printed.
func cosignVerifies(t *testing.T, d demoResult, printed string) {
	cosign := os.Getenv("SALLYPORT_TEST_COSIGN")
	if cosign == "" {
		var err error
		if cosign, err = exec.LookPath("cosign"); err != nil {
			t.Skip("no cosign on PATH or in SALLYPORT_TEST_COSIGN: run make cosign")
		}
	}
	line := ""
	for l := range strings.Lines(printed) {
		if strings.HasPrefix(l, "cosign verify-blob-attestation ") {
			line = strings.TrimSpace(l)
		}
	}
	if line == "" || strings.Contains(line, "insecure") {
		t.Fatalf("the demo printed no cosign command, or an insecure one: %q", line)
	}
	script := strings.Replace(line, "cosign ", quote(cosign)+" ", 1)
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + t.TempDir()}
	isolated := []string{"--net"}
	if os.Geteuid() != 0 {
		isolated = append(isolated, "--user", "--map-root-user")
	}
	if probe := command(t, env, "unshare", append(isolated, "true")...); probe.code != 0 {
		t.Skipf("this host makes no network namespaces: %s", probe.stderr)
	}
	if got := command(t, env, "unshare", append(isolated, "sh", "-c", script)...); got.code != 0 || !strings.Contains(got.stdout+got.stderr, "Verified OK") {
		t.Errorf("%s\nexit code %d\n%s%s", line, got.code, got.stdout, got.stderr)
	}
	altered := d.Artifact + ".altered"
	b, err := os.ReadFile(d.Artifact)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(altered, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, env, "unshare", append(isolated, "sh", "-c", strings.TrimSuffix(script, d.Artifact)+quote(altered))...); got.code == 0 {
		t.Errorf("cosign verifies an altered artifact: %s%s", got.stdout, got.stderr)
	}
}
