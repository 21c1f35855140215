package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

const (
	proposeWorkflow = `name: propose
on: {pull_request: , push: {branches: [main]}}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/upload-artifact@v4
        with: {name: dist, path: dist}
`
	// shipWorkflow is what artifact poisoning needs: rights, and the artifact of another
	// run unpacked over the checkout.
	shipWorkflow = `name: ship
on: {workflow_dispatch: {inputs: {run: {type: string, required: true}}}}
permissions: {actions: read}
jobs:
  ship:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: d
        continue-on-error: true
        uses: actions/download-artifact@v4
        with: {run-id: "${{ inputs.run }}", github-token: x, name: dist, path: dist}
      - run: echo "downloaded=${{ steps.d.outcome }}"; sh dist/build.sh
`
	reportWorkflow = `name: report
on: {workflow_run: {workflows: [propose], types: [completed]}}
permissions: {actions: read, id-token: write, attestations: write}
jobs:
  report:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/download-artifact@v4
        with: {run-id: "${{ github.event.workflow_run.id }}", github-token: x, name: dist, path: dist}
      - run: sh dist/build.sh
      - id: at
        continue-on-error: true
        uses: actions/attest@v4
        with: {subject-path: dist/build.sh}
      - run: echo "attested=${{ steps.at.outcome }}"
`
)

// TestArtifactPoisoning plays the attack in which what a fork's run made is unpacked over
// the checkout of a workflow with rights. That workflow gets nothing of the fork's run; the one that
// follows the fork's run by itself gets it, and has no rights. The control shows that the
// workflow runs what it unpacks when it comes from a run that is trusted as much.
func TestArtifactPoisoning(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.project("poison")
	workflows := files{".github/workflows/propose.yml": proposeWorkflow, ".github/workflows/ship.yml": shipWorkflow}
	with := func(script string) files {
		out := files{"dist/build.sh": script}
		for name, content := range workflows {
			out[name] = content
		}
		return out
	}
	wait := func(o outcome) string {
		t.Helper()
		return s.ok("logs", "--follow", string(o.run.ID))
	}
	// The fork: a commit that no branch of ours stands at.
	poison := r.commit("Poison", with("echo POISONED\n"))
	r.git("push", "-q", s.url+"/poison.git", "HEAD:refs/heads/evil")
	r.git("push", "-q", s.url+"/poison.git", ":refs/heads/evil")

	good := r.ran("Good", with("echo genuine\n"))
	payload := filepath.Join(t.TempDir(), "event.json")
	event := fmt.Sprintf(`{"action":"opened","number":7,"pull_request":{"number":7,"head":{"ref":"x","sha":%q},"base":{"ref":"main"}}}`, poison)
	if err := os.WriteFile(payload, []byte(event), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok("event", "pull_request", "--project", "poison", "--payload", payload)
	fork := r.runs(poison, 1)[0]
	if fork.run.Tier != sallyport.TierUntrusted || fork.run.Conclusion != sallyport.Success {
		t.Fatalf("tier %s: %s", fork.run.Tier, fork.explain())
	}

	ship := func(run sallyport.RunID) string {
		t.Helper()
		var started []sallyport.Run
		s.json(&started, "dispatch", "ship.yml", "--project", "poison", "--input", "run="+string(run))
		return wait(outcome{run: started[0]})
	}
	if text := ship(fork.run.ID); !strings.Contains(text, "it takes nothing of a run that is trusted less") || !strings.Contains(text, "downloaded=failure") ||
		!strings.Contains(text, "genuine") || strings.Contains(text, "POISONED") {
		t.Errorf("the fork's artifact reached a run with rights:\n%s", text)
	}
	poisoned := r.ran("Theirs", with("echo POISONED\n")) // the control: a member's own doing
	r.ran("Good again", with("echo genuine\n"))
	if text := ship(poisoned.run.ID); !strings.Contains(text, "downloaded=success") || !strings.Contains(text, "POISONED") {
		t.Errorf("the control does not show the attack:\n%s", text)
	}
	if text := ship(good.run.ID); !strings.Contains(text, "downloaded=success") || !strings.Contains(text, "genuine") {
		t.Errorf("got\n%s", text)
	}

	// What follows the fork's run by itself may read it, and speaks for nobody.
	r.commit("Report", files{".github/workflows/report.yml": reportWorkflow})
	r.push()
	s.ok("event", "pull_request", "--project", "poison", "--payload", payload)
	var report outcome
	s.eventually("a report on the fork's run", func() bool {
		for _, run := range r.all(t.Context(), s.services()) {
			if run.Name == "report" && run.Tier == sallyport.TierUntrusted {
				report.run = run
				return true
			}
		}
		return false
	})
	if text := wait(report); !strings.Contains(text, "POISONED") || !strings.Contains(text, "attested=failure") || !strings.Contains(text, "somebody outside caused") {
		t.Errorf("the report:\n%s", text)
	}
}
