package workflow

import (
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleCredentialPersistence = Rule{
	ID: "credential-persistence", Severity: SeverityMedium, Confidence: ConfidenceMedium,
	Title: "the checkout leaves a credential in the workspace",
	Why: "By default GitHub's checkout writes the job's token into .git/config, where every later step can read it, and an upload of the workspace publishes it. " +
		"Sallyport's checkout never leaves a credential behind.",
	Mend:  "set persist-credentials: false on the checkout",
	check: checkCredentialPersistence,
}

func checkCredentialPersistence(p *pass) {
	for _, j := range p.jobs {
		pushing := pushes(j)
		for _, st := range j.steps {
			if st.name != "actions/checkout" {
				continue
			}
			v, given := st.input("persist-credentials")
			switch {
			case given && v.Text == "false":
			case given && v.Kind == sallyport.TreeString && isExpr(v.Text):
			case p.uploadsWorkspace(st):
				p.report(st.usesAt, "the checkout leaves the job's token in .git/config on GitHub, and a later step uploads the workspace with it")
			case !given && !pushing:
				p.reportAs(SeverityLow, st.usesAt, "the checkout leaves the job's token in .git/config on GitHub")
			}
		}
	}
}

// uploadsWorkspace reports whether a step after st uploads the directory that st filled.
func (s *subject) uploadsWorkspace(st *stepView) bool {
	into, _ := st.input("path")
	for _, later := range st.job.steps[st.index+1:] {
		if later.name != "actions/upload-artifact" {
			continue
		}
		if major(later.ref) >= 5 || later.ref != "" && strings.HasPrefix(later.ref, "v4.") && !strings.HasPrefix(later.ref, "v4.0") && !strings.HasPrefix(later.ref, "v4.1") && !strings.HasPrefix(later.ref, "v4.2") && !strings.HasPrefix(later.ref, "v4.3") {
			if hidden, ok := later.input("include-hidden-files"); !ok || hidden.Text != "true" {
				continue // leaves .git out
			}
		}
		v, _ := later.input("path")
		if !s.afford(len(v.Text)) {
			return false
		}
		for path := range strings.SplitSeq(v.Text, "\n") {
			path = strings.TrimSuffix(strings.TrimSpace(path), "/")
			path = strings.TrimSuffix(strings.TrimSuffix(path, "/**"), "/*")
			switch path {
			case ".", "./", "*", "**", "${{ github.workspace }}", "${{github.workspace}}", "$GITHUB_WORKSPACE":
				return true
			case "":
			case strings.TrimPrefix(strings.TrimSuffix(into.Text, "/"), "./"), "./" + strings.TrimPrefix(strings.TrimSuffix(into.Text, "/"), "./"):
				return true
			}
		}
	}
	return false
}

// pushes reports whether a step of the job pushes with git, for which it needs the credential.
func pushes(j *jobView) bool {
	for _, st := range j.steps {
		if strings.Contains(st.Run.Text, "git push") || strings.Contains(st.name, "commit") || strings.Contains(st.name, "create-pull-request") || strings.Contains(st.name, "gh-pages") {
			return true
		}
	}
	return false
}
