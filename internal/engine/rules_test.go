package engine

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestSteeredByOutsiders lets an output that was made of a stranger's text choose where the
// next job runs: not in a run that the stranger caused.
func TestSteeredByOutsiders(t *testing.T) {
	t.Parallel()
	for field, body := range map[string]string{
		"runner":      "    runs-on: ${{ needs.a.outputs.x }}\n",
		"environment": "    runs-on: ubuntu-latest\n    environment: ${{ needs.a.outputs.x }}\n",
		"none":        "    runs-on: \"${{ needs.a.outputs.x == 'y' && 'y' || 'ubuntu-latest' }}\"\n",
	} {
		h := newCaching(t)
		h.commit = h.push("main", files{workflowFile: "on: [push, issue_comment]\njobs:\n  a:\n    runs-on: ubuntu-latest\n    outputs: {x: '${{ steps.s.outputs.x }}'}\n    steps: [{id: s, run: make}]\n" +
			"  b:\n    needs: a\n" + body + "    steps: [{run: make}]\n"}).Commit
		for l := h.house.lease(); l != nil; l = h.house.lease() {
			h.finish(l, sallyport.Success, map[string]string{"x": "ubuntu-latest"})
		}
		for _, o := range []cacheRun{stranger, branch} {
			l := h.lend(o)
			check(t, h.y.Finish(h.runner, l.Ref, sallyport.JobResult{Conclusion: sallyport.Success, Outputs: map[string]string{"x": "ubuntu-latest"}, Tainted: []string{"x"}}))
			h.work()
			_, jobs, err := h.s.Runs.Run(h.admin, l.Run.ID)
			check(t, err)
			b := jobs[slices.IndexFunc(jobs, func(j sallyport.Job) bool { return j.Key == "b" })]
			refused := strings.Contains(b.Cause, "the "+field+" must not be chosen by text that they wrote")
			if want := o == stranger && field != "none"; refused != want || (b.Conclusion == sallyport.Failure) != want {
				t.Errorf("%s in a run of tier %s: %s %q", field, o.tier, b.Conclusion, b.Cause)
			}
			if next := h.house.lease(); next != nil {
				h.finish(next, sallyport.Success, nil)
			}
		}
	}
}
