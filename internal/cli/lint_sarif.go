package cli

import (
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// SARIF 2.1.0 as far as lint needs it (OASIS, sarif-v2.1.0).
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		ColumnKind  string            `json:"columnKind"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifDriver struct {
		Name            string      `json:"name"`
		SemanticVersion string      `json:"semanticVersion,omitempty"`
		Rules           []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string    `json:"id"`
		ShortDescription sarifText `json:"shortDescription"`
		FullDescription  sarifText `json:"fullDescription"`
		Help             sarifText `json:"help"`
		Default          struct {
			Level string `json:"level"`
		} `json:"defaultConfiguration"`
		Properties map[string]any `json:"properties"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions"`
		Properties   map[string]any     `json:"properties"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
	sarifLocation struct {
		Physical struct {
			Artifact struct {
				URI    string `json:"uri"`
				BaseID string `json:"uriBaseId"`
			} `json:"artifactLocation"`
			Region struct {
				Line   int `json:"startLine"`
				Column int `json:"startColumn"`
			} `json:"region"`
		} `json:"physicalLocation"`
	}
)

// sarifLevels and securitySeverities are what SARIF and its readers call severities.
var (
	sarifLevels        = map[workflow.Severity]string{workflow.SeverityLow: "note", workflow.SeverityMedium: "warning", workflow.SeverityHigh: "error"}
	securitySeverities = map[workflow.Severity]string{workflow.SeverityLow: "3.0", workflow.SeverityMedium: "5.5", workflow.SeverityHigh: "8.0"}
)

func (r lintResult) printSARIF(w io.Writer) error {
	var run sarifRun
	run.Tool.Driver = sarifDriver{Name: "sallyport lint"}
	run.ColumnKind = "unicodeCodePoints"
	run.Results = []sarifResult{}
	rules := workflow.Rules()
	for _, rule := range rules {
		s := sarifRule{ID: rule.ID, ShortDescription: sarifText{Text: rule.Title}, FullDescription: sarifText{Text: rule.Why}}
		s.Help = sarifText{Text: rule.Why + "\n\nMend: " + rule.Mend, Markdown: rule.Why + "\n\n**Mend:** " + rule.Mend}
		s.Default.Level = sarifLevels[rule.Severity]
		s.Properties = map[string]any{"precision": string(rule.Confidence), "problem.severity": sarifProblem(rule.Severity), "security-severity": securitySeverities[rule.Severity], "tags": []string{"security", "workflows"}}
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, s)
	}
	invocation := sarifInvocation{Successful: len(r.invalid) == 0}
	for _, d := range r.invalid {
		invocation.Notifications = append(invocation.Notifications, sarifNotification{Level: "error", Message: sarifText{Text: d.Message}, Locations: sarifPlace(d.File, d.Pos)})
	}
	run.Invocations = []sarifInvocation{invocation}
	for _, f := range r.findings {
		s := sarifResult{
			RuleID: f.Rule, RuleIndex: slices.IndexFunc(rules, func(r workflow.Rule) bool { return r.ID == f.Rule }), Level: sarifLevels[f.Severity],
			Message: sarifText{Text: f.Message + ". Mend: " + f.Mend}, Locations: sarifPlace(f.File, f.Pos),
			Fingerprints: map[string]string{"sallyport/v1": f.Fingerprint}, Suppressions: []sarifSuppression{},
			Properties: map[string]any{"confidence": string(f.Confidence)},
		}
		if f.Waived != "" {
			s.Suppressions = append(s.Suppressions, sarifSuppression{Kind: "external", Justification: f.Waived})
		}
		run.Results = append(run.Results, s)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

func sarifProblem(s workflow.Severity) string {
	return map[workflow.Severity]string{workflow.SeverityLow: "recommendation", workflow.SeverityMedium: "warning", workflow.SeverityHigh: "error"}[s]
}

// sarifPlace is a place in a file, by a URI relative to the repository.
func sarifPlace(file string, pos sallyport.Pos) []sarifLocation {
	var l sarifLocation
	parts := strings.Split(file, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	l.Physical.Artifact.URI, l.Physical.Artifact.BaseID = strings.Join(parts, "/"), "%SRCROOT%"
	l.Physical.Region.Line, l.Physical.Region.Column = max(1, pos.Line), max(1, pos.Col)
	return []sarifLocation{l}
}
