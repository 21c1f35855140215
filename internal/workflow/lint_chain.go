package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// chain is a context with the properties taken from it: github.event.number is
// [github event number]. A filter is "*", a computed index "?".
type chain []string

// is reports whether the chain begins with the names; "" stands for any.
func (c chain) is(names ...string) bool {
	if len(c) < len(names) {
		return false
	}
	for i, n := range names {
		if n != "" && !equalFold(c[i], n) {
			return false
		}
	}
	return true
}

func (c chain) String() string { return strings.Join(c, ".") }

// chainOf returns the chain that n is, nil if it is something else.
func chainOf(n *node) chain {
	switch n.op {
	case opContext:
		return chain{n.name}
	case opIndex, opStar:
		below := chainOf(n.args[0])
		if below == nil {
			return nil
		}
		next := "*"
		if n.op == opIndex {
			next = "?"
			if i := n.args[1]; i.op == opLiteral && i.val.kind == KindString {
				next = i.val.str
			}
		}
		return append(below, next)
	}
	return nil
}

// chains calls visit for every longest chain below n, with its node and the
// place in the text at which it begins.
func (n *node) chains(visit func(c chain, at *node)) {
	c := chainOf(n)
	if c == nil {
		for _, a := range n.args {
			a.chains(visit)
		}
		return
	}
	for x := n; x.op != opContext; x = x.args[0] {
		if x.op == opIndex {
			x.args[1].chains(visit) // computed indexes hold chains of their own
		}
	}
	visit(c, n)
}

// start is the place at which a node's text begins.
func (n *node) start() int {
	for n.op == opIndex || n.op == opStar {
		n = n.args[0]
	}
	at := n.pos
	if n.op >= opEqual && n.op <= opOr && len(n.args) > 0 { // pos is the operator's
		return n.args[0].start()
	}
	return at
}

// chains calls visit for every longest chain of every site, until the rule has
// said all that it may.
func (p *pass) chains(visit func(at *site, c chain, n *node)) {
	p.exprs(func(at *site, n *node) {
		n.chains(func(c chain, n *node) {
			if !p.full() {
				visit(at, c, n)
			}
		})
	})
}

// nodes calls visit for every node of every site, as chains does.
func (p *pass) nodes(visit func(at *site, n *node)) {
	p.exprs(func(at *site, n *node) {
		n.walk(func(n *node) {
			if !p.full() {
				visit(at, n)
			}
		})
	})
}

// exprs calls visit for every expression.
func (p *pass) exprs(visit func(at *site, n *node)) {
	for i := range p.sites {
		for _, seg := range p.sites[i].segs {
			if seg.expr != nil {
				visit(&p.sites[i], seg.expr)
			}
		}
	}
}

// pos is the place of a node of the site's expressions.
func (s *subject) pos(at *site, n *node) sallyport.Pos { return s.within(at.text, n.start()) }

// text of a literal; false if n is none.
func literalText(n *node) (string, bool) {
	if n.op == opLiteral && n.val.kind == KindString {
		return n.val.str, true
	}
	return "", false
}

// narrowed returns those of the events with which a condition can hold.
func (s *subject) narrowed(condition sallyport.Template, events []string) []string {
	segs, err := parseCondition(condition.Text, isContext)
	if err != nil || len(segs) != 1 || segs[0].expr == nil {
		return events
	}
	return slices.DeleteFunc(slices.Clone(events), func(e string) bool { return !mayHold(segs[0].expr, e) })
}

// mayHold reports whether a condition can be true for an event. Only
// comparisons with the event's name are understood.
func mayHold(n *node, event string) bool {
	switch n.op {
	case opAnd:
		return !slices.ContainsFunc(n.args, func(a *node) bool { return !mayHold(a, event) })
	case opOr:
		return slices.ContainsFunc(n.args, func(a *node) bool { return mayHold(a, event) })
	case opNot:
		return !mustHold(n.args[0], event)
	}
	same, known := comparesEvent(n, event)
	return same || !known
}

func mustHold(n *node, event string) bool {
	switch n.op {
	case opAnd:
		return !slices.ContainsFunc(n.args, func(a *node) bool { return !mustHold(a, event) })
	case opOr:
		return slices.ContainsFunc(n.args, func(a *node) bool { return mustHold(a, event) })
	case opNot:
		return !mayHold(n.args[0], event)
	}
	same, known := comparesEvent(n, event)
	return same && known
}

// comparesEvent evaluates a comparison with github.event_name.
func comparesEvent(n *node, event string) (holds, known bool) {
	if n.op == opLiteral {
		return n.val.Truthy(), true
	}
	if n.op != opEqual && n.op != opUnequal {
		return false, false
	}
	for i := range 2 {
		c := chainOf(n.args[i])
		text, ok := literalText(n.args[1-i])
		if ok && len(c) == 2 && c.is("github", "event_name") {
			return equalFold(text, event) == (n.op == opEqual), true
		}
	}
	return false, false
}
