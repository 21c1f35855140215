package workflow

import (
	"slices"
	"strings"
)

var ruleUnknownOutput = Rule{
	ID: "unknown-output", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a reference to an output that nothing declares",
	Why:   "The value of such a reference is empty, and nothing says so.",
	Mend:  "declare the output, or correct its name",
	check: func(p *pass) {
		p.chains(func(at *site, c chain, n *node) {
			if len(c) < 4 || c[3] == "?" || c[3] == "*" {
				return
			}
			var of string
			var names []string
			var known bool
			switch {
			case c.is("needs", "", "outputs"), c.is("jobs", "", "outputs"):
				of = "job " + quote(c[1])
				names, known = p.jobOutputs(p.job(c[1]))
			case c.is("steps", "", "outputs") && at.job != nil:
				of = "step " + quote(c[1])
				names, known = p.stepOutputs(at.job.step(c[1]))
			}
			if known && !slices.ContainsFunc(names, func(k string) bool { return equalFold(k, c[3]) }) {
				p.report(p.pos(at, n), "%s has no output %s%s", of, quote(c[3]), didYouMean(c[3], names))
			}
		})
	},
}

// jobOutputs returns the names of a job's outputs; false if they are not known.
func (s *subject) jobOutputs(j *jobView) (names []string, known bool) {
	if j == nil {
		return nil, false
	}
	if !j.Uses.IsZero() {
		if call := s.called(j); call != nil {
			return outputNames(call.Outputs), true
		}
		return nil, false
	}
	for _, e := range j.Outputs.Pairs {
		if isExpr(e.Key.Text) {
			return nil, false
		}
		names = append(names, e.Key.Text)
	}
	return names, j.Outputs.Kind == "" || j.Outputs.Kind == "map" || j.Outputs.Kind == "null"
}

// stepOutputs returns the names of a step's outputs; false if they are not known.
func (s *subject) stepOutputs(st *stepView) (names []string, known bool) {
	if st == nil {
		return nil, false
	}
	if a := s.localAction(st); a != nil && a.Using.Text == "composite" {
		return outputNames(a.Outputs), true
	}
	if names, ok := knownOutputs[st.name]; ok {
		return names, true
	}
	// A script without any mention of outputs, that calls nothing of the
	// repository's own, makes none.
	text := st.Run.Text
	if text != "" && len(strings.Fields(text)) > 0 && !mayWriteOutput(text) {
		return nil, true
	}
	return nil, false
}

// mayWriteOutput reports whether a script mentions the output file or a
// command, or runs something that could.
func mayWriteOutput(script string) bool {
	for _, hint := range []string{"OUTPUT", "output", "::", "./", ".sh", ".py", ".js", ".ts", "npm", "pnpm", "yarn", "npx", "make", "source", "python", "node", "go run", "eval", "core.", "just", "task", "nox", "tox", "cargo", "dotnet", "mvn", "gradle", "ruby", "rake", "php", "uv", "poetry", "bun", "deno", "${{", "`"} {
		if strings.Contains(script, hint) {
			return true
		}
	}
	return false
}

// knownOutputs are the outputs of the actions that the runner does itself.
var knownOutputs = map[string][]string{
	"actions/attest":                  {"attestation-id", "attestation-url", "bundle-path"},
	"actions/attest-build-provenance": {"attestation-id", "attestation-url", "bundle-path"},
	"actions/attest-sbom":             {"attestation-id", "attestation-url", "bundle-path"},
	"actions/checkout":                {"ref", "commit"},
	"actions/download-artifact":       {"download-path"},
	"actions/setup-go":                {"go-version", "cache-hit"},
	"actions/setup-node":              {"node-version", "cache-hit"},
	"actions/setup-python":            {"python-version", "cache-hit", "python-path"},
	"actions/upload-artifact":         {"artifact-id", "artifact-url", "artifact-digest"},
}
