package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

// show prints what would run.
func (c runCmd) show(e *env, config daemon.LocalConfig) error {
	all, err := daemon.LocalPlan(e.ctx, config)
	if err != nil {
		return err
	}
	var wrong []sallyport.Diagnostic
	var plans []*sallyport.Plan
	for _, p := range all {
		wrong = append(wrong, p.Diagnostics...)
		switch {
		case p.Plan != nil:
			plans = append(plans, p.Plan)
		case !c.JSON && p.Skipped != "":
			fmt.Fprintf(e.stderr, "%s does not start: %s\n", p.Path, p.Skipped)
		}
	}
	bad := slices.ContainsFunc(wrong, func(d sallyport.Diagnostic) bool { return d.Severity == "error" })
	if len(plans) == 0 && !bad {
		return sallyport.Errorf(sallyport.CodeInvalid, "no workflow here is started by this event").
			WithHint("choose another event with --event, or a file with --workflow")
	}
	for _, p := range plans {
		switch {
		case c.JSON:
			err = json.NewEncoder(e.stdout).Encode(p)
		case c.Graph:
			drawJobs(e.stdout, p)
		default:
			listJobs(e.stdout, p)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range wrong {
		fmt.Fprintln(e.stderr, diagnosticLine(d))
	}
	if bad {
		return exitError(exitUsage)
	}
	return nil
}

func listJobs(w io.Writer, p *sallyport.Plan) {
	fmt.Fprintf(w, "%s (%s), %s\n", plain(p.Name), p.Workflow.Path, p.Event)
	table(w, "  JOB\tNEEDS\tRUNS ON\tCELLS\tIF", func(line func(...any)) {
		for _, j := range p.Jobs {
			line("  "+j.Key, orDash(strings.Join(j.Needs, ", ")), plain(runsOn(j)), cellCount(j), plain(orDash(j.If.Text)))
		}
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// runsOn is where a job runs, as it was written.
func runsOn(j sallyport.PlanJob) string {
	if j.Call != nil {
		return j.Call.Uses
	}
	var words func(t sallyport.Tree) []string
	words = func(t sallyport.Tree) (out []string) {
		if t.Text != "" {
			out = append(out, t.Text)
		}
		for _, i := range t.Items {
			out = append(out, words(i)...)
		}
		for _, p := range t.Pairs {
			out = append(out, words(p.Value)...)
		}
		return out
	}
	return orDash(strings.Join(words(j.RunsOn), ", "))
}

func cellCount(j sallyport.PlanJob) string {
	switch {
	case j.Strategy.Dynamic:
		return "later"
	case len(j.Strategy.Cells) > 0:
		return fmt.Sprint(len(j.Strategy.Cells))
	}
	return "1"
}

// drawJobs prints the jobs in the order in which they can start: what stands in
// one row waits for the rows above alone.
func drawJobs(w io.Writer, p *sallyport.Plan) {
	fmt.Fprintf(w, "%s (%s), %s\n", plain(p.Name), p.Workflow.Path, p.Event)
	row := map[string]int{}
	var rows [][]sallyport.PlanJob
	for _, j := range p.Jobs { // needs stand before their users
		at := 0
		for _, n := range j.Needs {
			at = max(at, row[n]+1)
		}
		row[j.Key] = at
		for len(rows) <= at {
			rows = append(rows, nil)
		}
		rows[at] = append(rows[at], j)
	}
	for i, jobs := range rows {
		if i > 0 {
			fmt.Fprintln(w, "  │")
		}
		for k, j := range jobs {
			mark := "├─"
			if i == len(rows)-1 && k == len(jobs)-1 {
				mark = "└─"
			}
			fmt.Fprintf(w, "  %s %s", mark, j.Key)
			if n := cellCount(j); n != "1" {
				fmt.Fprintf(w, " ×%s", n)
			}
			if len(j.Needs) > 0 {
				fmt.Fprintf(w, "  ← %s", strings.Join(j.Needs, ", "))
			}
			fmt.Fprintln(w)
		}
	}
}
