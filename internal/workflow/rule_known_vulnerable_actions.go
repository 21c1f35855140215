package workflow

var ruleKnownVulnerableActions = Rule{
	ID: "known-vulnerable-actions", Severity: SeverityHigh, Confidence: ConfidenceMedium,
	Title: "a version of an action that has a published weakness",
	Why: "The weakness is known to everyone, and to who looks for workflows that have it. " +
		"The list is short and part of this program, as of November 2026: it holds the incidents that reached many, and is no substitute for an advisory database.",
	Mend: "use the version that is named, pinned by its commit id",
	check: func(p *pass) {
		for _, st := range p.allSteps() {
			v, ok := p.usedVersion(st)
			if !ok {
				continue
			}
			for _, k := range vulnerable {
				if fixed, _ := parseVersion(k.fixed); k.action == actionRepository(st.name) && v.before(fixed) && !v.before(k.from()) {
					p.add(Finding{
						Pos: st.usesAt, Message: "before " + k.fixed + " " + k.action + " " + k.what + " (" + k.id + ")",
						Mend: "use " + k.action + " at " + k.fixed + " or later, pinned by its commit id",
					})
				}
			}
		}
	},
}

// weakness is a published weakness of an action: of its versions from first on,
// "" from the beginning, and before fixed.
type weakness struct{ action, first, fixed, id, what string }

func (w weakness) from() version {
	v, _ := parseVersion(w.first)
	return v
}

var vulnerable = []weakness{
	{"tj-actions/changed-files", "", "v41.0.0", "CVE-2023-51664", "lets the name of a changed file run commands"},
	{"tj-actions/changed-files", "", "v46.0.1", "CVE-2025-30066", "was replaced by code that printed the runner's secrets, at every tag"},
	{"tj-actions/branch-names", "", "v7.0.7", "CVE-2023-49291", "lets the name of a branch run commands"},
	{"aquasecurity/trivy-action", "", "v0.35.0", "CVE-2026-33634", "was replaced by code that sent secrets away, at most of its tags"},
	{"actions/download-artifact", "v4.0.0", "v4.1.3", "GHSA-cxww-7g56-2vh6", "lets an artifact write files outside of its directory"},
	{"dawidd6/action-download-artifact", "", "v6", "GHSA-5xr6-xhww-33m4", "takes artifacts of forks as if they were the repository's"},
	{"rlespinasse/github-slug-action", "v4.0.0", "v4.4.1", "CVE-2023-27581", "lets the name of a branch run commands"},
	{"hashicorp/vault-action", "", "v2.2.0", "CVE-2021-32074", "does not mask secrets of several lines"},
	{"check-spelling/check-spelling", "", "v0.0.19", "CVE-2021-32724", "lets a pull request read the token"},
	{"ultralytics/actions", "", "v0.0.3", "GHSA-7x29-qqmq-v6qc", "lets the name of a branch run commands"},
}
