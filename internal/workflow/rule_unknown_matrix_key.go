package workflow

import (
	"slices"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleUnknownMatrixKey = Rule{
	ID: "unknown-matrix-key", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a reference to something that the matrix does not have",
	Why:   "The value of such a reference is empty in every cell, and what exclude says of it excludes nothing.",
	Mend:  "correct the name, or add it to the matrix",
	check: checkUnknownMatrixKey,
}

func checkUnknownMatrixKey(p *pass) {
	p.chains(func(at *site, c chain, n *node) {
		if !c.is("matrix", "") || c[1] == "?" || c[1] == "*" || at.job == nil || p.action != nil || at.field == "matrix" {
			return
		}
		names, known := matrixNames(at.job.Strategy.Matrix)
		switch {
		case !known || slices.ContainsFunc(names, func(k string) bool { return equalFold(k, c[1]) }):
		case len(names) == 0:
			p.report(p.pos(at, n), "job %s has no matrix, so matrix.%s is empty", quote(at.job.Key), c[1])
		default:
			p.report(p.pos(at, n), "the matrix has no %s%s", quote(c[1]), didYouMean(c[1], names))
		}
	})
	for _, j := range p.jobs {
		p.excludes(j.Strategy.Matrix)
	}
}

// matrixNames returns the names that a matrix gives values to; false if they
// are only known at run time.
func matrixNames(m sallyport.Tree) (names []string, known bool) {
	if m.IsZero() {
		return nil, true
	}
	if m.Kind != sallyport.TreeMap {
		return nil, false
	}
	for _, e := range m.Pairs {
		switch {
		case isExpr(e.Key.Text), e.Key.Text == "include" && e.Value.Kind != sallyport.TreeSeq:
			return nil, false
		case e.Key.Text == "include":
			for _, item := range e.Value.Items {
				if item.Kind != sallyport.TreeMap {
					return nil, false
				}
				for _, k := range item.Pairs {
					if isExpr(k.Key.Text) {
						return nil, false
					}
					names = append(names, k.Key.Text)
				}
			}
		case e.Key.Text != "exclude":
			names = append(names, e.Key.Text)
		}
	}
	return names, true
}

// excludes reports items of exclude that can exclude nothing.
func (p *pass) excludes(m sallyport.Tree) {
	vectors := map[string]sallyport.Tree{}
	var names []string
	var exclude sallyport.Tree
	for _, e := range m.Pairs {
		switch {
		case isExpr(e.Key.Text):
			return
		case e.Key.Text == "exclude":
			exclude = e.Value
		case e.Key.Text != "include":
			vectors[foldCase(e.Key.Text)] = e.Value
			names = append(names, e.Key.Text)
		}
	}
	for _, item := range exclude.Items {
		for _, e := range item.Pairs {
			vector, ok := vectors[foldCase(e.Key.Text)]
			switch {
			case !ok && !isExpr(e.Key.Text):
				p.report(e.Key.Pos, "exclude names %s, which is not in the matrix%s", quote(e.Key.Text), didYouMean(e.Key.Text, names))
			case ok && vector.Kind == sallyport.TreeSeq && isPlain(e.Value) && !slices.ContainsFunc(vector.Items, func(v sallyport.Tree) bool {
				return !isPlain(v) || equalFold(v.Text, e.Value.Text)
			}):
				p.report(e.Value.Pos, "exclude names %s: %s, which is none of its values", e.Key.Text, e.Value.Text)
			}
		}
	}
}

// isPlain reports whether a tree is a scalar without expressions.
func isPlain(t sallyport.Tree) bool {
	switch t.Kind {
	case sallyport.TreeBool, sallyport.TreeNumber, sallyport.TreeString:
		return !isExpr(t.Text)
	}
	return false
}
