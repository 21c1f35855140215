package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

var ruleExcessivePermissions = Rule{
	ID: "excessive-permissions", Severity: SeverityMedium, Confidence: ConfidenceMedium,
	Title: "the job's token may do more than the job needs",
	Why: "Every step can use the job's token, also one of an action that was taken over. What is granted to the workflow is granted to each of its jobs. " +
		"Without a permissions key Sallyport grants nothing, GitHub what the repository's settings say, which may be everything.",
	Mend:  "write permissions: {} at the workflow, and grant each job only the scopes that it needs",
	check: checkExcessivePermissions,
}

func checkExcessivePermissions(p *pass) {
	if p.file == nil {
		return
	}
	key, value := lookup(p.root, "permissions")
	if value != nil {
		several := len(p.jobs) > 1
		p.permissions(key, value, "the workflow", several)
		return
	}
	var silent []string
	var at sallyport.Pos
	for _, j := range p.jobs {
		if k, v := lookup(j.node, "permissions"); v != nil {
			p.permissions(k, v, "job "+quote(j.Key), false)
		} else if silent = append(silent, quote(j.Key)); len(silent) == 1 {
			at = j.Pos
		}
	}
	if len(silent) > 0 && !slices.Equal(p.eventNames(), []string{"workflow_call"}) {
		p.reportAs(SeverityLow, at, "neither the workflow nor job %s says what the token may do; GitHub's default may be everything", strings.Join(silent, ", "))
	}
}

// permissions reports a block that grants too much. A job's block grants it to
// that job alone, so scopes named there are taken as meant.
func (p *pass) permissions(key, value *yaml.Node, who string, several bool) {
	if value.Kind == yaml.ScalarNode {
		switch value.Value {
		case "write-all":
			p.reportAs(SeverityHigh, posOf(key), "%s grants its token every permission there is", who)
		case "read-all":
			p.reportAs(SeverityLow, posOf(key), "%s lets its token read everything", who)
		}
		return
	}
	if !several {
		return
	}
	var broad []string
	var at sallyport.Pos
	for i := 0; i+1 < len(value.Content); i += 2 {
		if value.Content[i+1].Value == "write" {
			if broad = append(broad, value.Content[i].Value); at.Line == 0 {
				at = posOf(value.Content[i])
			}
		}
	}
	if len(broad) > 0 {
		p.report(at, "%s grants %s: write to all of its %d jobs that do not set their own", who, strings.Join(broad, ", "), len(p.jobs))
	}
}
