package workflow

import sallyport "github.com/sallyport-ci/sallyport"

var ruleAnonymousDefinition = Rule{
	ID: "anonymous-definition", Severity: SeverityLow, Confidence: ConfidenceHigh,
	Title: "a workflow or an action without a name",
	Why:   "Pages, notifications and required checks then show its path, which changes when the file moves.",
	Mend:  "add name: at the top of the file",
	check: func(p *pass) {
		if p.file != nil && p.file.Name.IsZero() || p.action != nil && p.action.Name == "" {
			p.report(sallyport.Pos{Line: p.root.Line, Col: p.root.Column}, "there is no name")
		}
	},
}
