package workflow

var ruleUnredactedSecrets = Rule{
	ID: "unredacted-secrets", Severity: SeverityHigh, Confidence: ConfidenceHigh,
	Title: "a part of a secret that is not masked",
	Why:   "Runners mask a secret's whole text. What fromJSON() takes out of it is another text, which logs then show.",
	Mend:  "keep each value as a secret of its own, or mask it with ::add-mask:: before anything can print it",
	check: func(p *pass) {
		p.nodes(func(at *site, n *node) {
			if n.op != opIndex && n.op != opStar || n.args[0].op != opCall || n.args[0].name != "fromjson" {
				return
			}
			n.args[0].chains(func(c chain, _ *node) {
				if c.is("secrets") {
					p.report(p.within(at.text, n.args[0].pos), "a value within the secret %s is used; only the whole is masked in logs", c[len(c)-1])
				}
			})
		})
	},
}
