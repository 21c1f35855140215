package workflow

import (
	"regexp"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleIgnoreComment = Rule{
	ID: "ignore-comment", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a comment that should silence a rule and does not",
	Why:   "A finding is left as it is for a reason. Without one, with a name that is no rule, or where nothing is found any more, the comment only hides what comes later.",
	Mend:  "write # sallyport: ignore[rule-id] and the reason, on the line of the finding or the line above; remove it when nothing is found there",
	check: func(*pass) {}, // by subject.ignore, once all rules have spoken
}

// ignoreComment silences rules in one line.
type ignoreComment struct {
	pos    sallyport.Pos
	rules  []string
	reason string
	line   int // that it is about
	used   map[string]bool
}

var ignoreSyntax = regexp.MustCompile(`#\s*sallyport:\s*ignore\b\s*(?:\[([^\]]*)\])?\s*(.*)$`)

// ignoreComments finds the comments of the file. One that stands alone is about
// the next line that is neither empty nor a comment.
func (s *subject) ignoreComments() (out []ignoreComment) {
	for i, text := range s.lines {
		at := ignoreSyntax.FindStringSubmatchIndex(text)
		if at == nil {
			continue
		}
		c := ignoreComment{pos: sallyport.Pos{Line: i + 1, Col: at[0] + 1}, line: i + 1, used: map[string]bool{}}
		if at[2] >= 0 {
			for id := range strings.SplitSeq(text[at[2]:at[3]], ",") {
				if id = strings.TrimSpace(id); id != "" {
					c.rules = append(c.rules, id)
				}
			}
		}
		c.reason = printable(strings.TrimSpace(text[at[4]:at[5]]))
		if strings.TrimSpace(text[:at[0]]) == "" {
			for c.line < len(s.lines) {
				c.line++
				next := strings.TrimSpace(s.line(c.line))
				if next != "" && !strings.HasPrefix(next, "#") {
					break
				}
			}
		}
		out = append(out, c)
	}
	return out
}

// ignore marks the findings that the file itself silences, and adds those about
// comments that silence nothing.
func (s *subject) ignore(found []Finding) []Finding {
	p := &pass{subject: s, rule: &ruleIgnoreComment}
	var ids []string
	for i := range lintRules {
		ids = append(ids, lintRules[i].ID)
	}
	for _, c := range s.ignoreComments() {
		if len(c.rules) == 0 {
			p.report(c.pos, "the comment names no rule")
			continue
		}
		for _, id := range c.rules {
			if !slices.Contains(ids, id) {
				p.report(c.pos, "there is no rule %s%s", quote(id), didYouMean(id, ids))
				c.used[id] = true
			}
		}
		if c.reason == "" {
			p.report(c.pos, "the comment gives no reason, so it silences nothing")
			continue
		}
		for i := range found {
			if f := &found[i]; f.Pos.Line == c.line && slices.Contains(c.rules, f.Rule) {
				f.Waived, c.used[f.Rule] = c.reason, true
			}
		}
		for _, id := range c.rules {
			if !c.used[id] {
				p.reportAs(SeverityLow, c.pos, "nothing is found by %s in line %d", id, c.line)
			}
		}
	}
	return append(found, p.found...)
}
