package workflow

import (
	"regexp"
	"slices"
	"strings"
)

var ruleUnpinnedUses = Rule{
	ID: "unpinned-uses", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "an action or workflow of others at a version that can move",
	Why: "A tag or a branch names another commit when its owner, or who stole their token, moves it; the next run executes that. " +
		"Actions in .sallyport/actions.lock are pinned whatever is written here. Those that the runner does itself do not fetch anything, so they are of low severity.",
	Mend:  "write the full commit id, with the version as a comment behind it: uses: owner/name@<40 hex digits> # v1.2.3; or lock it in .sallyport/actions.lock",
	check: checkUnpinnedUses,
}

var commitRef = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

func checkUnpinnedUses(p *pass) {
	for _, st := range p.allSteps() {
		if st.name == "" || commitRef.MatchString(st.ref) || p.locked != nil && p.locked(st.Uses) {
			continue
		}
		severity := SeverityMedium
		if slices.Contains(intrinsics, st.name) {
			severity = SeverityLow
		}
		p.reportAs(severity, st.usesAt, "the action %s is %s", st.name, unpinned(st.ref))
	}
	for _, j := range p.jobs {
		name, ref, remote := strings.Cut(j.Uses.Text, "@")
		if j.Uses.IsZero() || !remote || commitRef.MatchString(ref) || p.locked != nil && p.locked(j.Uses.Text) {
			continue
		}
		p.report(j.Uses.Pos, "the reusable workflow %s is %s", name, unpinned(ref))
	}
}

func unpinned(ref string) string {
	switch {
	case ref == "":
		return "not pinned at all"
	case slices.Contains([]string{"main", "master", "develop", "dev", "trunk", "HEAD"}, ref):
		return "taken from the branch " + ref + ", whatever is on it"
	}
	return "at " + quote(ref) + ", which can be moved"
}
