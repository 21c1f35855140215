package workflow

var ruleSecretsInJobEnv = Rule{
	ID: "secrets-in-job-env", Severity: SeverityLow, Confidence: ConfidenceHigh,
	Title: "a secret in the environment of a whole job or workflow",
	Why:   "Every step of the job gets it, also install scripts and actions that have no use for it.",
	Mend:  "move it to the env of the step that needs it",
	check: func(p *pass) {
		p.chains(func(at *site, c chain, n *node) {
			if !c.is("secrets", "") || at.field != "env" || at.step != nil || equalFold(c[1], "github_token") {
				return
			}
			switch {
			case at.job == nil:
				p.reportAs(SeverityMedium, p.pos(at, n), "the secret %s is in the environment of every step of every job", c[1])
			case len(at.job.steps) > 1:
				p.report(p.pos(at, n), "the secret %s is in the environment of all %d steps of job %s", c[1], len(at.job.steps), quote(at.job.Key))
			}
		})
	},
}
