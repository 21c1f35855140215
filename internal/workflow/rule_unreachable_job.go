package workflow

import (
	"slices"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleUnreachableJob = Rule{
	ID: "unreachable-job", Severity: SeverityLow, Confidence: ConfidenceHigh,
	Title: "a job or a step that never runs",
	Why:   "Its condition is false for every event that starts the workflow, or a job that it needs never runs. It only looks as if something were checked.",
	Mend:  "remove it, or correct the condition",
	check: checkUnreachableJob,
}

func checkUnreachableJob(p *pass) {
	if p.file == nil || p.trigger("workflow_call") != nil {
		return
	}
	dead := map[string]bool{}
	for range p.jobs { // needs may name jobs that come later
		before := len(dead)
		for _, j := range p.jobs {
			if k := foldCase(j.Key); !dead[k] && (len(j.events) == 0 || slices.ContainsFunc(j.Needs, func(n string) bool { return dead[foldCase(n)] }) && !runsAnyway(j.If)) {
				dead[k] = true
			}
		}
		if len(dead) == before {
			break
		}
	}
	for _, j := range p.jobs {
		switch {
		case len(j.events) == 0:
			p.report(j.If.Pos, "job %s never runs: its condition is false for every event of the workflow", quote(j.Key))
			continue
		case dead[foldCase(j.Key)]:
			p.report(j.Pos, "job %s never runs: it needs a job that never runs", quote(j.Key))
			continue
		}
		for _, st := range j.steps {
			if len(p.stepEvents(st)) == 0 {
				p.report(st.If.Pos, "the step never runs: its condition is false for every event that reaches it")
			}
		}
	}
}

// runsAnyway reports whether a condition can hold when a needed job was skipped.
func runsAnyway(condition sallyport.Template) bool {
	segs, err := parseCondition(condition.Text, isContext)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(segs, func(g segment) bool { return g.expr != nil && g.expr.callsStatus() })
}
