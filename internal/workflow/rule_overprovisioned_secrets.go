package workflow

var ruleOverprovisionedSecrets = Rule{
	ID: "overprovisioned-secrets", Severity: SeverityHigh, Confidence: ConfidenceHigh,
	Title: "all secrets are handed over at once",
	Why:   "toJSON(secrets), or an index that is computed, makes the runner give every secret of the repository to the step. One action that was taken over then takes all.",
	Mend:  "name the one secret that is meant: ${{ secrets.NAME }}",
	check: checkOverprovisionedSecrets,
}

func checkOverprovisionedSecrets(p *pass) {
	p.chains(func(at *site, c chain, n *node) {
		switch {
		case !c.is("secrets"):
		case len(c) == 1:
			p.report(p.pos(at, n), "the whole secrets context is used")
		case c[1] == "?" || c[1] == "*":
			p.reportAs(SeverityMedium, p.pos(at, n), "which secret is used is only known when the job runs, so all of them are handed over")
		}
	})
}
