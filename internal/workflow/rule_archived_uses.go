package workflow

import "strings"

var ruleArchivedUses = Rule{
	ID: "archived-uses", Severity: SeverityLow, Confidence: ConfidenceMedium,
	Title: "an action that nobody looks after any more",
	Why:   "Its repository is archived or its owner says not to use it: weaknesses found in it stay. The list is part of this program, as of November 2026, and short.",
	Mend:  "use what took its place, or a script of a few lines",
	check: func(p *pass) {
		for _, st := range p.allSteps() {
			repository := actionRepository(st.name)
			instead, ok := archived[repository]
			if owner, _, _ := strings.Cut(repository, "/"); !ok && owner == "actions-rs" {
				instead, ok = "dtolnay/rust-toolchain and cargo itself", true
			}
			if ok {
				p.add(Finding{Pos: st.usesAt, Message: repository + " is archived", Mend: "use " + instead})
			}
		}
	},
}

// archived actions, and what to use instead.
var archived = map[string]string{
	"actions/create-release":           "gh release create",
	"actions/setup-elixir":             "erlef/setup-beam",
	"actions/setup-haskell":            "haskell-actions/setup",
	"actions/setup-ruby":               "ruby/setup-ruby",
	"actions/upload-release-asset":     "gh release upload",
	"haskell/actions":                  "haskell-actions/setup",
	"nick-invision/retry":              "nick-fields/retry",
	"tibdex/github-app-token":          "actions/create-github-app-token",
	"repo-sync/pull-request":           "gh pr create",
	"gradle/gradle-build-action":       "gradle/actions/setup-gradle",
	"gradle/wrapper-validation-action": "gradle/actions/wrapper-validation",
}
