package workflow

var ruleUnsoundTernary = Rule{
	ID: "unsound-ternary", Severity: SeverityLow, Confidence: ConfidenceHigh,
	Title: "a choice (a && b || c) whose middle is never true",
	Why:   "a && b || c gives c whenever b is empty, 0, false or null, whatever a is.",
	Mend:  "turn it round (!a && c || b), or use case(a, b, c)",
	check: func(p *pass) {
		p.nodes(func(at *site, n *node) {
			if n.op != opOr || len(n.args) < 2 || n.args[0].op != opAnd {
				return
			}
			and := n.args[0]
			if middle := and.args[len(and.args)-1]; middle.op == opLiteral && !middle.val.Truthy() && at.field != "if" {
				p.report(p.within(at.text, middle.pos), "this is never chosen: %s counts as false, so what follows || is taken", literalName(middle.val))
			}
		})
	},
}

func literalName(v Value) string {
	if v.kind == KindString {
		return "''"
	}
	if v.kind == KindNull {
		return "null"
	}
	return v.String()
}
