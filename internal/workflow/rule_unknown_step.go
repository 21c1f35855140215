package workflow

import "slices"

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
		case at.step != nil && at.step != st && at.step.group != nil && at.step.group == st.group:
			p.report(p.pos(at, n), "the step %s runs beside this one, so it may not be done", quote(c[1]))
		case at.step != nil && st.Background && !waitedFor(st, at.step):
			p.report(p.pos(at, n), "the step %s runs in the background, and no step between waits for it", quote(c[1]))
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

// waitedFor reports whether a step between two waits for the first.
func waitedFor(st, reader *stepView) bool {
	for _, between := range st.job.steps[min(st.index+1, reader.index):reader.index] {
		if between.WaitAll || slices.ContainsFunc(between.Wait, func(id string) bool { return equalFold(id, st.ID) }) {
			return true
		}
	}
	return false
}
