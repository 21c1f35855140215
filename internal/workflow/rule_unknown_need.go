package workflow

import "slices"

var ruleUnknownNeed = Rule{
	ID: "unknown-need", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a reference to a job that is not among the needs",
	Why:   "The needs context holds the jobs that are named in needs, no others. The value of the reference is empty, and nothing says so.",
	Mend:  "add the job to needs",
	check: func(p *pass) {
		p.chains(func(at *site, c chain, n *node) {
			switch {
			case c.is("needs", "") && at.job != nil && c[1] != "?" && c[1] != "*":
				needed := func(k string) bool { return equalFold(k, c[1]) }
				if slices.ContainsFunc(at.job.Needs, needed) {
					return
				}
				if p.job(c[1]) != nil {
					p.report(p.pos(at, n), "job %s does not need job %s, so needs.%s is empty", quote(at.job.Key), quote(c[1]), c[1])
					return
				}
				p.report(p.pos(at, n), "there is no job %s%s", quote(c[1]), didYouMean(c[1], at.job.Needs))
			case c.is("jobs", "") && at.field == "on" && p.job(c[1]) == nil:
				p.report(p.pos(at, n), "there is no job %s%s", quote(c[1]), didYouMean(c[1], p.jobKeys()))
			}
		})
	},
}

func (s *subject) jobKeys() (out []string) {
	for _, j := range s.jobs {
		out = append(out, j.Key)
	}
	return out
}
