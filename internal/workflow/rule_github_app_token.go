package workflow

import "strings"

var ruleGitHubAppToken = Rule{
	ID: "github-app-token", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a token of a GitHub App that may do all that the App may",
	Why:   "Without permission-… inputs the token has every permission of the installation, and with an owner and no repositories it is good for all of them.",
	Mend:  "name what the job needs: permission-contents: read, and so on, and the repositories",
	check: func(p *pass) {
		for _, st := range p.allSteps() {
			if st.name != "actions/create-github-app-token" {
				continue
			}
			limited := false
			for _, e := range st.With.Pairs {
				limited = limited || strings.HasPrefix(e.Key.Text, "permission-")
			}
			if !limited {
				p.report(st.usesAt, "the token may do all that the App may")
			}
			if hasInput(st, "owner") && !hasInput(st, "repositories") {
				p.report(st.usesAt, "the token is good for every repository of the owner")
			}
		}
	},
}
