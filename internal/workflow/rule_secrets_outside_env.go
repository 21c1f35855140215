package workflow

import "slices"

var ruleSecretsOutsideEnv = Rule{
	ID: "secrets-outside-env", Severity: SeverityLow, Confidence: ConfidenceMedium,
	Title: "a secret of the repository in a job without an environment",
	Why:   "A secret of the repository is there for every workflow of every branch. One that is kept with an environment is handed over only to jobs of that environment, by its rules: branches, reviewers, waiting.",
	Mend:  "keep the secret with an environment, and name that in the job: environment: release",
	check: func(p *pass) {
		var reported []*jobView
		p.chains(func(at *site, c chain, n *node) {
			if !c.is("secrets", "") || equalFold(c[1], "github_token") || at.job == nil || !at.job.Uses.IsZero() || !at.job.Environment.IsZero() || slices.Contains(reported, at.job) {
				return
			}
			if slices.Equal(p.eventNames(), []string{"workflow_call"}) { // the caller's
				return
			}
			reported = append(reported, at.job)
			p.report(p.pos(at, n), "job %s uses the secret %s and has no environment", quote(at.job.Key), c[1])
		})
	},
}
