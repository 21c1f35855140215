package workflow

import "slices"

var ruleConcurrencyLimits = Rule{
	ID: "concurrency-limits", Severity: SeverityLow, Confidence: ConfidenceHigh,
	Title: "a new push does not stop the runs of the one before",
	Why:   "Runs of a proposal that is already outdated go on and keep runners busy.",
	Mend:  "add concurrency: { group: \"${{ github.workflow }}-${{ github.ref }}\", cancel-in-progress: true } to the workflow",
	check: func(p *pass) {
		if p.file == nil || p.file.Concurrency != nil {
			return
		}
		for _, j := range p.jobs {
			if j.Concurrency != nil {
				return
			}
		}
		for _, t := range p.file.On {
			if slices.Contains([]string{"pull_request", "pull_request_target"}, t.Name) {
				p.report(t.Pos, "the workflow has no concurrency group")
				return
			}
		}
	},
}
