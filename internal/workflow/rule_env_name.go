package workflow

import (
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleEnvName = Rule{
	ID: "env-name", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "an environment variable that has no effect, or another than it seems to",
	Why:   "A name with a space or = in it cannot be read by a shell. The runner's own variables GITHUB_… and RUNNER_… keep their values whatever is set, with few exceptions.",
	Mend:  "use letters, digits and _, and another beginning",
	check: func(p *pass) {
		check := func(t sallyport.Tree) {
			for _, e := range t.Pairs {
				switch name := e.Key.Text; {
				case isExpr(name):
				case strings.ContainsAny(name, " =&\t\n"):
					p.report(e.Key.Pos, "no shell can read a variable with the name %s", quote(name))
				case fixedVariables[name]:
					p.reportAs(SeverityLow, e.Key.Pos, "the runner sets %s itself, so this has no effect", name)
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

// fixedVariables are set by the runner for every step, over what a workflow says.
var fixedVariables = map[string]bool{
	"GITHUB_ACTION": true, "GITHUB_ACTIONS": true, "GITHUB_ACTOR": true, "GITHUB_BASE_REF": true, "GITHUB_ENV": true, "GITHUB_EVENT_NAME": true,
	"GITHUB_EVENT_PATH": true, "GITHUB_HEAD_REF": true, "GITHUB_JOB": true, "GITHUB_OUTPUT": true, "GITHUB_PATH": true, "GITHUB_REF": true,
	"GITHUB_REF_NAME": true, "GITHUB_REPOSITORY": true, "GITHUB_RUN_ID": true, "GITHUB_RUN_NUMBER": true, "GITHUB_SHA": true,
	"GITHUB_STEP_SUMMARY": true, "GITHUB_WORKFLOW": true, "GITHUB_WORKSPACE": true, "RUNNER_ARCH": true, "RUNNER_NAME": true,
	"RUNNER_OS": true, "RUNNER_TEMP": true, "RUNNER_TOOL_CACHE": true,
}
