package workflow

import sallyport "github.com/sallyport-ci/sallyport"

var ruleInsecureCommands = Rule{
	ID: "insecure-commands", Severity: SeverityHigh, Confidence: ConfidenceHigh,
	Title: "the commands set-env and add-path are switched on again",
	Why:   "With ACTIONS_ALLOW_UNSECURE_COMMANDS any text that a step prints can set variables and the path of the steps after it, also text of a file or a test that others wrote. Sallyport's runner refuses them whatever is set.",
	Mend:  "remove the variable, and write to $GITHUB_ENV and $GITHUB_PATH instead",
	check: func(p *pass) {
		check := func(t sallyport.Tree) {
			for _, e := range t.Pairs {
				if e.Key.Text == "ACTIONS_ALLOW_UNSECURE_COMMANDS" && e.Value.Text != "false" && e.Value.Text != "" {
					p.report(e.Key.Pos, "ACTIONS_ALLOW_UNSECURE_COMMANDS lets printed text set variables and the path")
				}
			}
		}
		if p.file != nil {
			check(p.file.Env)
		}
		for _, j := range p.jobs {
			check(j.Env)
			for _, st := range j.steps {
				check(st.Env)
			}
		}
	},
}
