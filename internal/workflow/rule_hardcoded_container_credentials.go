package workflow

import sallyport "github.com/sallyport-ci/sallyport"

var ruleContainerCredentials = Rule{
	ID: "hardcoded-container-credentials", Severity: SeverityHigh, Confidence: ConfidenceHigh,
	Title: "a password for a registry is written in the workflow",
	Why:   "Whoever can read the repository, or a copy of it, has the password; changing it means changing history.",
	Mend:  "make it a secret and write password: ${{ secrets.NAME }}; then change the password, for this one is known",
	check: func(p *pass) {
		for _, j := range p.jobs {
			p.credentials(j.Container, "the container of job "+quote(j.Key))
			for _, e := range j.Services.Pairs {
				p.credentials(e.Value, "service "+quote(e.Key.Text))
			}
		}
	},
}

func (p *pass) credentials(container sallyport.Tree, what string) {
	for _, e := range container.Pairs {
		if e.Key.Text != "credentials" {
			continue
		}
		for _, c := range e.Value.Pairs {
			if c.Key.Text == "password" && c.Value.Text != "" && !isExpr(c.Value.Text) {
				p.report(c.Value.Pos, "the password of %s is written here", what)
			}
		}
	}
}
