package workflow

import (
	"strings"
)

var ruleUnsoundContains = Rule{
	ID: "unsound-contains", Severity: SeverityMedium, Confidence: ConfidenceMedium,
	Title: "contains() looks for a part of a text where a list is meant",
	Why:   "With a text as its first argument contains() is true for every part of it: contains('refs/heads/main refs/heads/dev', github.ref) holds for a branch called refs/heads/ma. Who chooses the name passes the check.",
	Mend:  "give it a list: contains(fromJSON('[\"main\", \"dev\"]'), github.ref_name)",
	check: checkUnsoundContains,
}

func checkUnsoundContains(p *pass) {
	p.nodes(func(at *site, n *node) {
		if n.op != opCall || n.name != "contains" {
			return
		}
		text, ok := literalText(n.args[0])
		if !ok || len(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '|' || r == ';' })) < 2 {
			return
		}
		c := chainOf(n.args[1])
		if c == nil {
			return
		}
		o := (&origins{s: p.subject}).of(n.args[1], at.job, at.step)
		severity := SeverityMedium
		if o == outsider || c.is("github", "ref") || c.is("github", "base_ref") || c.is("github", "actor") || c.is("github", "triggering_actor") {
			severity = SeverityHigh
		}
		p.reportAs(severity, p.within(at.text, n.pos), "contains() takes its first argument as one text here, so any part of %s passes", quote(text))
	})
}
