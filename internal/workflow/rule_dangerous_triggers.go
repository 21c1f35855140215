package workflow

var ruleDangerousTriggers = Rule{
	ID: "dangerous-triggers", Severity: SeverityMedium, Confidence: ConfidenceMedium,
	Title: "an event by which strangers start the workflow with its secrets",
	Why:   "pull_request_target and workflow_run run in the repository itself, with its secrets and a token that can write, although a fork caused them. What such a workflow takes from the fork, it takes with all of that at hand.",
	Mend:  "use pull_request for what builds or tests the proposal; keep this event for labels and comments, and let it check nothing out",
	check: func(p *pass) {
		for _, event := range []string{"pull_request_target", "workflow_run"} {
			if t := p.trigger(event); t != nil {
				p.report(t.Pos, "%s runs with the repository's secrets on behalf of whoever causes it", event)
			}
		}
	},
}
