package workflow

import (
	"slices"
	"strings"
)

var ruleUnknownProperty = Rule{
	ID: "unknown-property", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a property that the context does not have",
	Why:   "The value of such a property is empty, and nothing says so.",
	Mend:  "correct the name",
	check: func(p *pass) {
		p.chains(func(at *site, c chain, n *node) {
			of, name, known := properties(c)
			if len(known) > 0 && len(c) > 2 && isTextProperty(c) {
				p.report(p.pos(at, n), "%s is text, so it has no property %s", chain(c[:len(c)-1]), quote(c[len(c)-1]))
				return
			}
			if name == "" || name == "?" || name == "*" || slices.ContainsFunc(known, func(k string) bool { return equalFold(k, name) }) {
				return
			}
			hint := didYouMean(name, known)
			if hint == "" {
				hint = "; there are " + strings.Join(known, ", ")
			}
			p.report(p.pos(at, n), "%s has no property %s%s", of, quote(name), hint)
		})
	},
}

// properties returns the property that a chain takes of a context of which all
// are known, and those.
func properties(c chain) (of, name string, known []string) {
	if len(c) > 1 {
		if known, ok := contextProperties[foldCase(c[0])]; ok {
			return c[0], c[1], known
		}
	}
	if len(c) > 2 && c.is("steps") {
		return "steps." + c[1], c[2], []string{"outputs", "outcome", "conclusion"}
	}
	if len(c) > 2 && (c.is("needs") || c.is("jobs")) {
		return c[0] + "." + c[1], c[2], []string{"outputs", "result"}
	}
	return "", "", nil
}

// contextProperties are the contexts whose properties are fixed.
var contextProperties = map[string][]string{
	"github": {
		"action", "action_path", "action_ref", "action_repository", "action_status", "actor", "actor_id", "api_url", "artifact_cache_size_limit",
		"base_ref", "env", "event", "event_name", "event_path", "graphql_url", "head_ref", "job", "output", "path", "ref", "ref_name",
		"ref_protected", "ref_type", "repository", "repository_id", "repository_owner", "repository_owner_id", "repository_visibility",
		"repositoryUrl", "retention_days", "run_attempt", "run_id", "run_number", "secret_source", "server_url", "sha", "state",
		"step_summary", "token", "triggering_actor", "workflow", "workflow_ref", "workflow_sha", "workspace",
	},
	"runner":   {"arch", "debug", "environment", "name", "os", "temp", "tool_cache", "workspace"},
	"job":      {"check_run_id", "container", "services", "status", "workflow_file_path", "workflow_ref", "workflow_repository", "workflow_sha"},
	"strategy": {"fail-fast", "job-index", "job-total", "max-parallel"},
}

// isTextProperty reports whether a chain takes a property of a text: of most of
// the github and runner contexts, or of an output.
func isTextProperty(c chain) bool {
	switch last := len(c) - 1; {
	case c[last] == "*", c[last] == "?": // may be an index of what fromJSON made
		return false
	case c.is("github"):
		return last == 2 && !equalFold(c[1], "event")
	case c.is("runner"):
		return last == 2
	case c.is("steps", "", "outputs"), c.is("needs", "", "outputs"):
		return last == 4
	}
	return false
}
