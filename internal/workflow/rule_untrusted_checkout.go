package workflow

import (
	"regexp"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleUntrustedCheckout = Rule{
	ID: "untrusted-checkout", Severity: SeverityHigh, Confidence: ConfidenceMedium,
	Title: "a stranger's code is checked out where secrets are",
	Why: "What is checked out is soon executed: by a build, an install script, a configuration file. In a workflow that an outsider can start with the repository's secrets this gives them away. " +
		"It is how most takeovers of workflows began.",
	Mend:  "do the work on pull_request, which has no secrets, and hand its result on as an artifact that is treated as data",
	check: checkUntrustedCheckout,
}

// headFetches are commands that get the head of a pull request.
var headFetches = regexp.MustCompile(`\bgh\s+pr\s+checkout\b|\bgit\s+(?:fetch|pull|checkout)\b[^\n]*(?:refs/)?pull/`)

func checkUntrustedCheckout(p *pass) {
	for _, st := range p.allSteps() {
		events := slices.DeleteFunc(slices.Clone(p.stepEvents(st)), func(e string) bool { return !slices.Contains(privileged, e) })
		if len(events) == 0 {
			continue
		}
		if st.name == "actions/checkout" {
			for _, input := range []string{"ref", "repository"} {
				if v, ok := st.input(input); ok && namesHead(v.Text) {
					p.report(v.Pos, "checkout of the proposal's code in a job that %s starts with the repository's secrets", events[0])
					break
				}
			}
			continue
		}
		off := 0
		for line := range strings.SplitAfterSeq(st.Run.Text, "\n") {
			if at := headFetches.FindStringIndex(line); at != nil && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				p.report(p.within(st.Run, off+at[0]), "the script gets the proposal's code in a job that %s starts with the repository's secrets", events[0])
			}
			off += len(line)
		}
	}
}

// namesHead reports whether a ref is that of a proposal.
func namesHead(text string) bool {
	found := strings.Contains(text, "refs/pull/")
	segs, err := parseTemplate(text, isContext)
	if err != nil {
		return false
	}
	for _, seg := range segs {
		if seg.expr == nil {
			continue
		}
		seg.expr.chains(func(c chain, _ *node) {
			path := strings.ToLower(c.String())
			switch {
			case c.is("github", "head_ref"), strings.Contains(path, "pull_request.head."), strings.HasPrefix(path, "github.event.workflow_run.head_"),
				strings.HasSuffix(path, "merge_commit_sha"), c.is("steps") && (strings.Contains(path, "head_sha") || strings.Contains(path, "head_ref")):
				found = true
			}
		})
	}
	return found
}

// templateOf is a tree's scalar as a template.
func templateOf(t sallyport.Tree) sallyport.Template {
	return sallyport.Template{Text: t.Text, Pos: t.Pos}
}
