package workflow

import (
	"slices"
	"strings"
)

var ruleSecretsToUnpinned = Rule{
	ID: "secrets-to-untrusted-step", Severity: SeverityMedium, Confidence: ConfidenceMedium,
	Title: "a secret is given to an action that others can change",
	Why:   "An action at a tag or a branch is whatever its owner, or who stole their token, makes of it; it gets the secret. In a workflow that strangers can start, they choose when.",
	Mend:  "pin the action by its commit id or in .sallyport/actions.lock, and give the secret only where its code was read",
	check: checkSecretsToUnpinned,
}

func checkSecretsToUnpinned(p *pass) {
	type key struct {
		st     *stepView
		secret string
	}
	seen := map[key]bool{}
	p.chains(func(at *site, c chain, n *node) {
		st := at.step
		if !c.is("secrets", "") || equalFold(c[1], "github_token") || st == nil || at.field != "with" && at.field != "env" || seen[key{st, c[1]}] {
			return
		}
		owner, _, _ := strings.Cut(st.name, "/")
		if st.name == "" || slices.Contains(firstParty, owner) || commitRef.MatchString(st.ref) || p.locked != nil && p.locked(st.Uses) {
			return
		}
		seen[key{st, c[1]}] = true
		severity := SeverityLow
		if st.job.startedBy(fromOutside...) {
			severity = SeverityMedium
		}
		p.reportAs(severity, p.pos(at, n), "the secret %s goes to %s, which is %s", c[1], st.name, unpinned(st.ref))
	})
}

// firstParty owners run the platform that the secrets are kept by.
var firstParty = []string{"actions", "github"}
