package workflow

import (
	"fmt"
	"slices"
	"strings"
)

var ruleImpossibleComparison = Rule{
	ID: "impossible-comparison", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a comparison whose result never changes",
	Why:   "What is compared can never be equal: an output is text and never the boolean true, a ref has a prefix, an event's name has a form. A condition with it skips what it should do, or does what it should skip.",
	Mend:  "compare with a value that there can be",
	check: checkImpossibleComparison,
}

func checkImpossibleComparison(p *pass) {
	p.nodes(func(at *site, n *node) {
		if n.op != opEqual && n.op != opUnequal {
			return
		}
		for i := range 2 {
			c, other := chainOf(n.args[i]), n.args[1-i]
			if c == nil || other.op != opLiteral {
				continue
			}
			if why, mend := p.neverEqual(c, other.val); why != "" {
				p.add(Finding{Pos: p.within(at.text, n.start()), Message: why, Mend: mend})
				return
			}
		}
	})
}

// neverEqual says why a chain is never equal to a literal; "" if it may be.
func (p *pass) neverEqual(c chain, v Value) (why, mend string) {
	text := v.str
	switch {
	case v.kind == KindBool && (len(c) == 4 && (c.is("steps", "", "outputs") || c.is("needs", "", "outputs")) || len(c) == 2 && c.is("env")):
		return fmt.Sprintf("%s is text and never equal to the boolean %s", c, v), fmt.Sprintf("compare with text: %s == '%s'", c, v)
	case v.kind == KindString && (text == "true" || text == "false") && len(c) == 2 && c.is("inputs") && p.inputType(c[1]) == "boolean":
		return fmt.Sprintf("%s is a boolean and never equal to the text '%s'", c, text), fmt.Sprintf("write %s alone, or !%s", c, c)
	case v.kind != KindString || text == "":
	case len(c) == 2 && c.is("github", "ref") && !strings.HasPrefix(strings.ToLower(text), "refs/"):
		return fmt.Sprintf("github.ref has a prefix such as refs/heads/ and is never %s", quote(text)), fmt.Sprintf("write github.ref == 'refs/heads/%s', or github.ref_name == '%s'", text, text)
	case len(c) == 2 && (c.is("github", "ref_name") || c.is("github", "head_ref") || c.is("github", "base_ref")) && strings.HasPrefix(strings.ToLower(text), "refs/"):
		return fmt.Sprintf("%s has no prefix and is never %s", c, quote(text)), "leave refs/heads/ away, or compare github.ref"
	case len(c) == 2 && c.is("github", "event_name"):
		if _, ok := events[strings.ToLower(text)]; !ok && strings.ToLower(text) != "dynamic" {
			return fmt.Sprintf("there is no event %s%s", quote(text), didYouMean(text, eventNames())), ""
		}
		if p.file != nil && p.trigger("workflow_call") == nil && !slices.Contains(p.eventNames(), strings.ToLower(text)) {
			return fmt.Sprintf("the event %s does not start this workflow", quote(text)), "add it to on, or remove what is about it"
		}
	case len(c) == 2 && c.is("github", "ref_type"):
		return oneOfThese(c, text, "branch", "tag")
	case len(c) == 2 && c.is("runner", "os"):
		return oneOfThese(c, text, "Linux", "Windows", "macOS")
	case len(c) == 2 && c.is("runner", "arch"):
		return oneOfThese(c, text, "X86", "X64", "ARM", "ARM64")
	case len(c) == 2 && c.is("job", "status"):
		return oneOfThese(c, text, "success", "failure", "cancelled")
	case len(c) == 3 && (c.is("steps", "", "outcome") || c.is("steps", "", "conclusion") || c.is("needs", "", "result")):
		return oneOfThese(c, text, "success", "failure", "cancelled", "skipped")
	}
	return "", ""
}

func oneOfThese(c chain, text string, values ...string) (why, mend string) {
	if slices.ContainsFunc(values, func(v string) bool { return equalFold(v, text) }) {
		return "", ""
	}
	return fmt.Sprintf("%s is never %s%s", c, quote(text), didYouMean(text, values)), "it is one of " + strings.Join(values, ", ")
}

// inputType is the type of an input in all triggers that declare it; "" if
// they differ or there is none.
func (s *subject) inputType(name string) (out string) {
	if s.file == nil {
		return ""
	}
	for _, t := range s.file.On {
		for _, in := range t.Inputs {
			if equalFold(in.Name, name) {
				if out != "" && out != in.Type {
					return ""
				}
				out = in.Type
			}
		}
	}
	return out
}
