package workflow

import (
	"path"
	"regexp"
	"strings"
)

var ruleObfuscation = Rule{
	ID: "obfuscation", Severity: SeverityMedium, Confidence: ConfidenceMedium,
	Title: "something that is written so that it is not seen",
	Why:   "Detours in a path, expressions of nothing but literals and scripts that are decoded before they run have no use but to hide what is meant, from people and from tools like this one.",
	Mend:  "write what is meant",
	check: checkObfuscation,
}

var decodedScript = regexp.MustCompile(`(?:base64\s+(?:-d|--decode|-D)|xxd\s+-r)[^\n|]*\|\s*(?:sudo\s+)?(?:ba|z|da|k)?sh\b|(?:eval|bash\s+-c|sh\s+-c)\s+["']?\$\([^\n]*base64\s+(?:-d|--decode|-D)`)

func checkObfuscation(p *pass) {
	for _, st := range p.allSteps() {
		name, _, _ := strings.Cut(st.Uses, "@")
		if st.name != "" && path.Clean(name) != name {
			p.report(st.usesAt, "the path of the action has detours: it is %s", path.Clean(name))
		}
		if at := decodedScript.FindStringIndex(st.Run.Text); at != nil {
			p.reportAs(SeverityHigh, p.within(st.Run, at[0]), "the script decodes something and runs it")
		}
	}
	for i := range p.sites {
		at := &p.sites[i]
		for _, seg := range at.segs {
			if seg.expr == nil || at.field == "if" {
				continue
			}
			switch n := seg.expr; {
			case n.op == opCall && (n.name == "format" || n.name == "join") && constant(n):
				p.reportAs(SeverityLow, p.pos(at, n), "the expression has always the same value")
			case n.op == opIndex && n.args[1].op != opLiteral && constant(n.args[1]):
				p.report(p.pos(at, n), "the name of a property is computed of literals")
			}
		}
	}
}

// constant reports whether an expression uses nothing but literals.
func constant(n *node) bool {
	out := true
	n.walk(func(x *node) {
		out = out && x.op != opContext && !(x.op == opCall && (x.name == "hashfiles" || x.fn == nil))
	})
	return out
}
