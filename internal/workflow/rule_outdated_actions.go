package workflow

import "fmt"

var ruleOutdatedActions = Rule{
	ID: "outdated-actions", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a version of an action that does not run any more",
	Why: "GitHub removed the Node.js version or the service that it needs, so the step fails there, or runs on another Node.js than it was written for. " +
		"Actions that Sallyport's runner does itself run here at any version.",
	Mend: "use a newer version, pinned by its commit id",
	check: func(p *pass) {
		for _, st := range p.allSteps() {
			least, ok := leastMajor[st.name]
			v, known := p.usedVersion(st)
			if ok && known && v[0] < least {
				p.add(Finding{Pos: st.usesAt, Message: fmt.Sprintf("%s before v%d needs what GitHub has removed", st.name, least), Mend: fmt.Sprintf("use %s at v%d or later", st.name, least)})
			}
		}
	},
}

// leastMajor is the first major version of an action that uses Node.js 20 or
// newer, or the service that is still there.
var leastMajor = map[string]int{
	"actions/cache":                  4,
	"actions/checkout":               4,
	"actions/configure-pages":        4,
	"actions/deploy-pages":           4,
	"actions/download-artifact":      4,
	"actions/github-script":          7,
	"actions/labeler":                5,
	"actions/setup-dotnet":           4,
	"actions/setup-go":               5,
	"actions/setup-java":             4,
	"actions/setup-node":             4,
	"actions/setup-python":           5,
	"actions/stale":                  9,
	"actions/upload-artifact":        4,
	"actions/upload-pages-artifact":  3,
	"docker/build-push-action":       5,
	"docker/login-action":            3,
	"docker/metadata-action":         5,
	"docker/setup-buildx-action":     3,
	"docker/setup-qemu-action":       3,
	"github/codeql-action/analyze":   3,
	"github/codeql-action/autobuild": 3,
	"github/codeql-action/init":      3,
}
