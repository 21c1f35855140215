package workflow

var ruleUnknownStep = Rule{
	ID: "unknown-step", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a reference to a step that is not there, or not done yet",
	Why:   "The value of such a reference is empty, and nothing says so: conditions turn false, outputs vanish.",
	Mend:  "give the step that is meant this id, and put it before the one that reads it",
	check: checkUnknownStep,
}

func checkUnknownStep(p *pass) {
	p.chains(func(at *site, c chain, n *node) {
		if !c.is("steps", "") || c[1] == "?" || c[1] == "*" || at.job == nil {
			return
		}
		switch st := at.job.step(c[1]); {
		case st == nil:
			var ids []string
			for _, st := range at.job.steps {
				if st.ID != "" {
					ids = append(ids, st.ID)
				}
			}
			p.report(p.pos(at, n), "there is no step with the id %s in %s%s", quote(c[1]), at.job.what(), didYouMean(c[1], ids))
		case at.step != nil && st.index > at.step.index:
			p.report(p.pos(at, n), "the step %s comes later, in line %d", quote(c[1]), st.Pos.Line)
		case at.step == st:
			p.report(p.pos(at, n), "the step %s reads itself", quote(c[1]))
		}
	})
}

func (j *jobView) what() string {
	if j.Key == "" {
		return "this action"
	}
	return "job " + quote(j.Key)
}
