package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// A plan carries what lint finds in its workflow: the worst as warnings, some
// as notes, and nothing that the repository waives.
func TestLintRemarks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	remarksOf := func(f files) string {
		t.Helper()
		push := h.push("main", f)
		runs, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Push: push.ID})
		check(t, err)
		if len(runs) != 1 {
			t.Fatalf("got %d runs, want 1", len(runs))
		}
		plan, err := h.s.Runs.Plan(h.admin, runs[0].ID)
		check(t, err)
		var out []string
		for _, d := range plan.Warnings {
			out = append(out, fmt.Sprintf("%d:%d %s %s", d.Pos.Line, d.Pos.Col, d.Severity, d.Rule))
		}
		return strings.Join(out, "\n")
	}
	w := `on: push
permissions: write-all
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - run: echo "${{ github.event.head_commit.message }}"
      - run: echo "${{ toJSON(secrets) }}" # sallyport: ignore[overprovisioned-secrets] a test
      - if: ${{ github.ref == 'x' }} && true
        run: echo
`
	want := "9:13 warning \n2:1 warning excessive-permissions\n7:20 note template-injection\n9:17 note impossible-comparison"
	if got := remarksOf(files{workflowFile: w}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	waiver := fmt.Sprintf("waivers:\n  - {rule: excessive-permissions, until: %s, reason: a test}\n", h.clock().Format("2006-01-02"))
	want = "9:13 warning \n7:20 note template-injection\n9:17 note impossible-comparison"
	if got := remarksOf(files{workflowFile: w, ".sallyport/lint.yaml": waiver}); got != want {
		t.Errorf("waived: got\n%s\nwant\n%s", got, want)
	}
	if got := remarksOf(files{workflowFile: "name: x\n" + head + "  a:\n" + step("a")}); got != "" {
		t.Errorf("got %s, want none", got)
	}
}
