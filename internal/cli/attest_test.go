package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

const attestWorkflow = `on: push
permissions: {id-token: write, attestations: write, contents: read}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - run: echo built > app
      - id: at
        uses: actions/attest-build-provenance@v3
        with: {subject-path: app}
      - run: |
          cp "${{ steps.at.outputs.bundle-path }}" bundle.json
          echo "id=[${{ steps.at.outputs.attestation-id }}]"
      - uses: actions/upload-artifact@v4
        with: {name: app, path: app}
      - uses: actions/upload-artifact@v4
        with: {name: bundle, path: bundle.json}
  narrow:
    runs-on: ubuntu-latest
    permissions: {id-token: write}
    steps:
      - run: echo built > app
      - id: at
        continue-on-error: true
        uses: actions/attest@v4
        with: {subject-path: app}
      - run: test "${{ steps.at.outcome }}" = failure
`

// TestAttest has a job attest what it built. The bundle that it gets verifies as the
// job's word and not as the builder's, which the control plane gives by itself.
func TestAttest(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.project("shop")
	o := r.ran("Attest", files{".github/workflows/ci.yml": attestWorkflow})
	if o.run.Conclusion != sallyport.Success {
		t.Fatal(o.explain())
	}
	if text := s.ok("logs", string(o.run.ID)); !strings.Contains(text, "lacks attestations: write") {
		t.Errorf("the refusal is not in the log:\n%s", text)
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root.json")
	if err := os.WriteFile(root, []byte(s.ok("trust-root")), 0o644); err != nil {
		t.Fatal(err)
	}
	s.ok("artifacts", "download", "1", "app", "--out", dir)
	s.ok("artifacts", "download", "1", "bundle", "--out", dir)
	verify := func(bundle, identity string) result {
		return s.run("verify", filepath.Join(dir, "app"), "--bundle", filepath.Join(dir, bundle), "--trusted-root", root, "--identity", identity, "--issuer", "https://sallyport.localhost")
	}
	const builder, job = "https://sallyport.localhost/shop/.github/workflows/ci.yml@refs/heads/main", "https://sallyport.localhost/jobs/shop/.github/workflows/ci.yml@refs/heads/main"
	for _, c := range []struct {
		bundle, identity string
		code             int
	}{{"bundle.json", job, 0}, {"bundle.json", builder, exitFailed}, {"app.sigstore.json", builder, 0}, {"app.sigstore.json", job, exitFailed}} {
		if got := verify(c.bundle, c.identity); got.code != c.code {
			t.Errorf("%s as %s: exit %d, want %d\n%s", c.bundle, c.identity, got.code, c.code, got.stderr)
		}
	}
	s.ok("audit", "verify")
}
