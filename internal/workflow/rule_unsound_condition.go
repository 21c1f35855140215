package workflow

var ruleUnsoundCondition = Rule{
	ID: "unsound-condition", Severity: SeverityHigh, Confidence: ConfidenceHigh,
	Title: "a condition that is always true",
	Why:   "Text around ${{ }}, also the line end that a block text (|) keeps, makes the whole condition a text, and a text that is not empty is true. What it should keep out runs.",
	Mend:  "leave ${{ }} away, or put all of the condition inside; use >- instead of | for several lines",
	check: func(p *pass) {
		for i := range p.sites {
			if at := &p.sites[i]; at.field == "if" && len(at.segs) > 1 {
				p.report(at.text.Pos, "this condition is always true: there is text around ${{ }}")
			}
		}
	},
}
