package workflow

import "strings"

var ruleUnusedOutput = Rule{
	ID: "unused-output", Severity: SeverityLow, Confidence: ConfidenceMedium,
	Title: "an output of a job that nothing reads",
	Why:   "Jobs hand on only what others read through needs. An output without a reader is left over, or its reader has a mistyped name.",
	Mend:  "remove it, or read it in a job that needs this one: ${{ needs.JOB.outputs.NAME }}",
	check: checkUnusedOutput,
}

func checkUnusedOutput(p *pass) {
	read := map[string]bool{}
	p.chains(func(_ *site, c chain, _ *node) {
		if !c.is("needs") && !c.is("jobs") {
			return
		}
		switch {
		case len(c) >= 4 && c.is("", "", "outputs"):
			read[foldCase(c[1])+"."+foldCase(c[3])] = true
		case len(c) >= 2: // the job, or its outputs, as a whole
			read[foldCase(c[1])+".*"] = read[foldCase(c[1])+".*"] || len(c) == 2 || len(c) == 3 && equalFold(c[2], "outputs")
		default:
			read["*"] = true
		}
	})
	if read["*"] || read["?.*"] || read["*.*"] {
		return
	}
	for _, j := range p.jobs {
		for _, e := range j.Outputs.Pairs {
			key := foldCase(j.Key) + "."
			if !isExpr(e.Key.Text) && !read[key+foldCase(e.Key.Text)] && !read[key+"*"] && !read[key+"?"] && !read["*."+foldCase(e.Key.Text)] && !read["?."+foldCase(e.Key.Text)] && !strings.Contains(e.Key.Text, "${{") {
				p.report(e.Key.Pos, "no job reads the output %s of job %s", quote(e.Key.Text), quote(j.Key))
			}
		}
	}
}
