package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestStrangers runs a fork's pull request as the operator wants it: in a room with a
// kernel of its own, which the provenance names, or not at all.
func TestStrangers(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("runsc"); err != nil {
		t.Skip("there is no runsc: make strong builds it")
	}
	const workflow = `
on: pull_request
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: dmesg | head -n1; cp lib app
      - uses: actions/upload-artifact@v4
        with: {name: app, path: app}
`
	fork := func(t *testing.T, where string) (*server, outcome) {
		s := newServer(t, "--untrusted-in", where)
		r := s.project("store")
		head := r.commit("Fork", files{".github/workflows/ci.yml": workflow, "lib": "x\n"})
		r.git("push", "-q", s.url+"/store.git", "HEAD:refs/heads/theirs")
		r.git("push", "-q", s.url+"/store.git", ":refs/heads/theirs")
		payload := filepath.Join(t.TempDir(), "event.json")
		event := fmt.Sprintf(`{"action":"opened","number":7,"pull_request":{"number":7,"head":{"ref":"x","sha":%q},"base":{"ref":"main"}}}`, head)
		if err := os.WriteFile(payload, []byte(event), 0o600); err != nil {
			t.Fatal(err)
		}
		s.ok("event", "pull_request", "--project", "store", "--payload", payload)
		return s, r.runs(head, 1)[0]
	}
	t.Run("strong", func(t *testing.T) {
		t.Parallel()
		s, o := fork(t, "strong")
		if o.run.Tier != sallyport.TierUntrusted || o.run.Conclusion != sallyport.Success {
			t.Fatalf("tier %s: %s", o.run.Tier, o.explain())
		}
		if text := s.ok("logs", string(o.run.ID)); !strings.Contains(text, "isolation strong (runsc") || !strings.Contains(text, "Starting gVisor") {
			t.Errorf("got the log\n%s", text)
		}
		services := s.services()
		a, err := services.Artifacts.FindArtifact(t.Context(), o.run.ID, "app")
		if err != nil {
			t.Fatal(err)
		}
		checked, err := services.Artifacts.Verify(t.Context(), a.Project, a.Digest)
		if err != nil {
			t.Fatal(err)
		}
		builder := false
		for _, c := range checked {
			builder = builder || strings.Contains(string(c.Predicate), `/builders/strong/v1"`)
		}
		if !builder {
			t.Errorf("no provenance of %d statements names the builder of level strong", len(checked))
		}
	})
	t.Run("refuse", func(t *testing.T) {
		t.Parallel()
		_, o := fork(t, "refuse")
		if o.run.Conclusion != sallyport.Failure || !strings.Contains(o.explain(), "runs no code of strangers") {
			t.Errorf("got %s", o.explain())
		}
	})
}
