package workflow

import (
	"regexp"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleRefConfusion = Rule{
	ID: "ref-confusion", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a version that may mean something else than it seems to",
	Why: "A shortened commit id is looked up as a name first, so a tag or a branch of that name takes its place; long names of refs and upper-case ids are read differently by different runners. " +
		"Whether a commit really belongs to the repository it is named with cannot be told without asking it.",
	Mend: "write all 40 digits of the commit id, in lower case",
	check: func(p *pass) {
		for _, st := range p.allSteps() {
			if st.name != "" {
				p.ref(st.ref, st.usesAt)
			}
		}
		for _, j := range p.jobs {
			if _, ref, ok := strings.Cut(j.Uses.Text, "@"); ok {
				p.ref(ref, j.Uses.Pos)
			}
		}
	},
}

var (
	shortCommit = regexp.MustCompile(`^[0-9a-fA-F]{7,39}$`)
	hexLetters  = regexp.MustCompile(`[a-fA-F]`)
	upperCommit = regexp.MustCompile(`^[0-9a-fA-F]{40}$`)
)

func (p *pass) ref(ref string, at sallyport.Pos) {
	switch {
	case commitRef.MatchString(ref):
	case upperCommit.MatchString(ref):
		p.reportAs(SeverityLow, at, "the commit id is written with upper-case letters")
	case shortCommit.MatchString(ref) && hexLetters.MatchString(ref):
		p.report(at, "%s looks like a shortened commit id, which a tag or a branch of that name would take the place of", quote(ref))
	case strings.HasPrefix(ref, "refs/"):
		p.reportAs(SeverityLow, at, "%s is the full name of a ref", quote(ref))
	}
}
