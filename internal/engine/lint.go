package engine

import (
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// maxRemarks bounds what lint adds to a plan; a plan is kept for every run.
const maxRemarks = 50

// remarks are what lint finds in workflows, for the plans that are made of them.
type remarks struct {
	read   func(file string) ([]byte, error) // at the pinned commit
	today  time.Time
	config *workflow.LintConfig // nil: not read yet
}

// add puts findings into the plan: what is of high severity as warnings, which
// people are shown, and what is of medium severity as notes. They change
// nothing about the run.
func (r *remarks) add(plan *sallyport.Plan, src []byte) {
	if r.config == nil {
		r.config = &workflow.LintConfig{}
		// One that is missing or wrong waives nothing here; sallyport lint says what is wrong with it.
		if text, err := r.read(workflow.LintConfigFile); err == nil {
			if c, diags := workflow.ParseLintConfig(text); c != nil && len(diags) == 0 {
				r.config = c
			}
		}
	}
	report := workflow.Lint(workflow.LintInput{
		Path: plan.Workflow.Path, Src: src, ReadFile: r.read, Labels: r.config.Labels,
		Locked: func(string) bool { return true }, // else there would be no plan
	})
	r.config.Waive(report.Findings, r.today)
	room := maxRemarks
	for _, severity := range []workflow.Severity{workflow.SeverityHigh, workflow.SeverityMedium} { // the worst first, if there are too many
		for _, f := range report.Findings {
			known := slices.ContainsFunc(plan.Warnings, func(d sallyport.Diagnostic) bool { return d.File == f.File && d.Pos == f.Pos && d.Rule == "" })
			if f.Severity != severity || f.Waived != "" || known || room == 0 {
				continue // what the parser said already included
			}
			room--
			d := sallyport.Diagnostic{File: f.File, Pos: f.Pos, Severity: "warning", Rule: f.Rule, Message: f.Message + ". " + f.Mend}
			if severity != workflow.SeverityHigh {
				d.Severity = "note"
			}
			plan.Warnings = append(plan.Warnings, d)
		}
	}
}
