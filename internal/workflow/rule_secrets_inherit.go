package workflow

import (
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleSecretsInherit = Rule{
	ID: "secrets-inherit", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a called workflow gets every secret",
	Why:   "With secrets: inherit the called workflow, and every action in it, can read secrets that it has no use for. Nothing tells which it needs.",
	Mend:  "name what it needs: secrets: TOKEN: ${{ secrets.TOKEN }}",
	check: func(p *pass) {
		for _, j := range p.jobs {
			if !j.Uses.IsZero() && j.Secrets.Kind == sallyport.TreeString && j.Secrets.Text == "inherit" {
				severity := SeverityMedium
				if strings.HasPrefix(j.Uses.Text, "./") || strings.HasPrefix(j.Uses.Text, "$/") {
					severity = SeverityLow
				}
				p.reportAs(severity, keyPos(j.node, "secrets", j.Secrets.Pos), "%s gets all secrets of the repository", quote(j.Uses.Text))
			}
		}
	},
}
