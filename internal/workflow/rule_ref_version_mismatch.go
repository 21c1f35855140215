package workflow

import (
	"regexp"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleRefVersionMismatch = Rule{
	ID: "ref-version-mismatch", Severity: SeverityMedium, Confidence: ConfidenceMedium,
	Title: "comments behind commit ids that contradict each other",
	Why:   "People read the comment, the runner reads the id. When one id is called two versions, or one version two ids, at least one of them is not what its reader takes it for.",
	Mend:  "look up which commit the version is, and make comment and id agree everywhere",
	check: checkRefVersionMismatch,
}

// versionComment is the version in a comment behind a commit id.
var versionComment = regexp.MustCompile(`#\s*(?:tag=|ratchet:\S+@|pin@)?(v?\d+\.\d+\.\d+[\w.-]*)`)

func checkRefVersionMismatch(p *pass) {
	type named struct {
		text string
		at   sallyport.Pos
	}
	byCommit, byVersion := map[string]named{}, map[string]named{}
	for _, st := range p.allSteps() {
		version := p.versionOf(st)
		if version == "" || !commitRef.MatchString(st.ref) {
			continue
		}
		repository := actionRepository(st.name)
		if first, ok := byCommit[repository+st.ref]; ok && first.text != version {
			p.report(st.usesAt, "this commit of %s is called %s here and %s in line %d", repository, version, first.text, first.at.Line)
		}
		if first, ok := byVersion[repository+"@"+version]; ok && first.text != st.ref {
			p.report(st.usesAt, "%s of %s is another commit here than in line %d", version, repository, first.at.Line)
		}
		byCommit[repository+st.ref] = named{version, st.usesAt}
		byVersion[repository+"@"+version] = named{st.ref, st.usesAt}
	}
}

// versionOf is the version in the comment behind a step's action.
func (s *subject) versionOf(st *stepView) string {
	if m := versionComment.FindStringSubmatch(s.line(st.usesAt.Line)); m != nil && st.name != "" {
		return m[1]
	}
	return ""
}
