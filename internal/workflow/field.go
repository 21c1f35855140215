package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// Readers of fields by their type. As on GitHub, a text takes numbers, booleans
// and null too, while a boolean or a number in quotes is a text; one expression
// can stand for a value of any type where contexts are available.

// env reads an env block: a mapping, or one expression that makes it.
func (d *decoder) env(n *yaml.Node, what string, at *place) sallyport.Tree {
	return d.values(n, what, at, "variable")
}

// values reads a mapping of names to texts, or one expression in its place.
func (d *decoder) values(n *yaml.Node, what string, at *place, entry string) sallyport.Tree {
	t := d.tree(n, at)
	switch {
	case t.Kind == sallyport.TreeString && isExpr(t.Text):
		return t
	case t.Kind != sallyport.TreeMap:
		d.report(t.Pos, "%s must be a mapping of names to values, not %s", what, kindName(n))
		return sallyport.Tree{}
	}
	for _, p := range t.Pairs {
		if p.Key.Text == "" {
			d.report(p.Key.Pos, "the %s has no name", entry)
		}
		if (p.Value.Kind == sallyport.TreeSeq || p.Value.Kind == sallyport.TreeMap) && !isInsert(p.Key.Text) {
			d.report(p.Value.Pos, "the value of %s in %s must be text, a number or a boolean; for several lines use a block text (|)", quote(p.Key.Text), what)
		}
	}
	return t
}

// pairs reads a mapping of names to texts whose names, and which itself, are
// no expressions.
func (d *decoder) pairs(n *yaml.Node, what string, at *place, entry string) sallyport.Tree {
	if n.Kind == yaml.ScalarNode && isExpr(n.Value) {
		d.report(posOf(n), "%s must be a mapping of names to values, not an expression", what)
		return sallyport.Tree{}
	}
	t := d.values(n, what, at, entry)
	for _, p := range t.Pairs {
		if isExpr(p.Key.Text) {
			d.report(p.Key.Pos, "the names in %s are no expressions: write them out", what)
		}
	}
	return t
}

// filled reports a text that is empty where something must stand.
func (d *decoder) filled(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode {
		return true // reported already, if it is wrong
	}
	if _, text := scalar(n); text == "" {
		d.report(posOf(n), "%s is empty: fill it in, or remove the key", what)
		return false
	}
	return true
}

// list checks a sequence of texts that are not empty, or one expression that
// makes it; single says whether one text can stand for the sequence.
func (d *decoder) list(n *yaml.Node, what string, at *place, single bool) {
	switch {
	case n.Kind == yaml.ScalarNode && (single || isExpr(n.Value)):
		d.checkTemplate(n, n.Value, at)
		d.filled(n, what)
	case n.Kind != yaml.SequenceNode:
		d.report(posOf(n), "%s must be a sequence, not %s", what, kindName(n))
	default:
		for _, c := range n.Content {
			d.template(c, "an item of "+what, at)
			d.filled(c, "an item of "+what)
		}
	}
}

// object reports whether one expression stands for a mapping, and checks it.
func (d *decoder) object(n *yaml.Node, at *place) bool {
	if at == nil || n.Kind != yaml.ScalarNode || !wholeExpr(n.Value) {
		return false
	}
	d.checkTemplate(n, n.Value, at)
	return true
}

// part is the template for one entry of an object that an expression makes.
func part(n *yaml.Node, key string) sallyport.Template {
	return sallyport.Template{Text: "${{ (" + inner(n.Value) + ")['" + key + "'] }}", Pos: posOf(n)}
}

// inner is the expression of a text that is exactly one.
func inner(text string) string {
	return strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(text, "${{"), "}}"))
}

func (d *decoder) oneOf(n *yaml.Node, what string, allowed []string) string {
	t := d.text(n, what)
	if n.Kind == yaml.ScalarNode && !slices.Contains(allowed, t.Text) && !isExpr(n.Value) {
		d.report(t.Pos, "%s is %s%s; allowed are %s", what, quote(t.Text), didYouMean(t.Text, allowed), strings.Join(allowed, ", "))
	}
	return t.Text
}

// boolean reads true, false or an expression.
func (d *decoder) boolean(n *yaml.Node, what string, at *place) sallyport.Template {
	t := d.template(n, what, at)
	if n.Kind != yaml.ScalarNode || wholeExpr(t.Text) {
		return t
	}
	switch kind, _ := scalar(n); {
	case kind == sallyport.TreeBool:
	case t.Text == "true" || t.Text == "false":
		d.report(t.Pos, "%s must be true or false, not a text: remove the quotes around %s", what, t.Text)
	default:
		d.report(t.Pos, "%s must be true, false or one ${{ expression }}, not %s", what, quote(t.Text))
	}
	return t
}

// number reads a number greater than zero, or an expression.
func (d *decoder) number(n *yaml.Node, what string, at *place) sallyport.Template {
	t := d.template(n, what, at)
	if n.Kind != yaml.ScalarNode || wholeExpr(t.Text) {
		return t
	}
	switch kind, _ := scalar(n); {
	case kind != sallyport.TreeNumber && t.Text != "" && isDecimal(t.Text):
		d.report(t.Pos, "%s must be a number, not a text: remove the quotes around %s", what, t.Text)
	case kind != sallyport.TreeNumber:
		d.report(t.Pos, "%s must be a number or one ${{ expression }}, not %s", what, quote(t.Text))
	case !(treeNumber(t.Text) > 0):
		d.report(t.Pos, "%s must be greater than 0, not %s", what, t.Text)
	}
	return t
}

// wholeExpr reports whether the text is exactly one expression.
func wholeExpr(text string) bool {
	return strings.HasPrefix(text, "${{") && closing(text, len("${{")) == len(text)-len("}}")
}
