package workflow

import (
	"slices"
	"strings"
)

var ruleBotConditions = Rule{
	ID: "bot-conditions", Severity: SeverityHigh, Confidence: ConfidenceMedium,
	Title: "a check for a bot that anyone can pass",
	Why: "github.actor is who caused the last event, not who wrote the change: whoever makes a bot act last on a pull request of theirs, for example by asking it to rebase, passes. " +
		"Where the workflow has secrets that is a way to them.",
	Mend:  "check the author instead, github.event.pull_request.user.login == 'dependabot[bot]', and that the head is in this repository",
	check: checkBotConditions,
}

func checkBotConditions(p *pass) {
	for i := range p.sites {
		at := &p.sites[i]
		if at.field != "if" {
			continue
		}
		events := p.eventNames()
		if at.job != nil {
			events = at.job.events
		}
		for _, seg := range at.segs {
			if seg.expr == nil {
				continue
			}
			seg.expr.unnegated(func(n *node) {
				if n.op == opEqual && !p.full() {
					p.botCondition(at, n, events)
				}
			})
		}
	}
}

func (p *pass) botCondition(at *site, n *node, events []string) {
	for i := range 2 {
		c := chainOf(n.args[i])
		text, ok := literalText(n.args[1-i])
		if !ok || !strings.HasSuffix(strings.ToLower(text), "[bot]") || !(c.is("github", "actor") || c.is("github", "triggering_actor") || c.is("github", "event", "sender", "login")) {
			continue
		}
		severity := SeverityLow
		if slices.ContainsFunc(events, func(e string) bool { return slices.Contains(privileged, e) }) {
			severity = SeverityHigh
		} else if slices.ContainsFunc(events, func(e string) bool { return slices.Contains(fromForks, e) }) {
			severity = SeverityMedium
		}
		p.reportAs(severity, p.within(at.text, n.args[i].start()), "%s is who acted last, not who wrote the change, so this can be %s for anyone's", c, quote(text))
	}
}

// unnegated calls visit for n and every node below it that no ! stands before.
func (n *node) unnegated(visit func(*node)) {
	if n.op == opNot {
		return
	}
	visit(n)
	for _, a := range n.args {
		a.unnegated(visit)
	}
}
