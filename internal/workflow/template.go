package workflow

import (
	"strings"
	"unicode/utf8"
)

// segment is a part of a template: literal text, or an expression.
type segment struct {
	text string // literal, or the expression's source
	off  int    // where the text starts in the template
	expr *node  // nil for literal text
}

// closing returns the place of the }} that ends the expression at start, -1 if
// there is none.
func closing(text string, start int) int {
	quoted := false
	for i := start; i < len(text); i++ {
		switch {
		case text[i] == '\'':
			quoted = !quoted
		case !quoted && text[i] == '}' && i+1 < len(text) && text[i+1] == '}':
			return i
		}
	}
	return -1
}

// parseTemplate splits text into literals and expressions and parses these. An
// expression ends at the first }} outside of a quoted string. Positions of
// errors and nodes count from the start of the text.
func parseTemplate(text string, known func(string) bool) ([]segment, *exprError) {
	p := exprParser{known: known}
	return p.template(text, nil)
}

// template is parseTemplate; it appends to out.
func (p *exprParser) template(text string, out []segment) ([]segment, *exprError) {
	for off := 0; off < len(text); {
		i := strings.Index(text[off:], "${{")
		if i < 0 {
			return append(out, segment{text: text[off:], off: off}), nil
		}
		if i > 0 {
			out = append(out, segment{text: text[off : off+i], off: off})
		}
		start := off + i + len("${{")
		end := closing(text, start)
		if end < 0 {
			return nil, exprErrorf(off+i, "the expression is not closed: add }} at its end, or write ${{ '${{' }} for the characters themselves")
		}
		n, err := p.parse(text[:end], start)
		if err != nil {
			return nil, err
		}
		out = append(out, segment{text: text[start:end], off: start, expr: n})
		off = end + len("}}")
	}
	return out, nil
}

// isExpr reports whether text holds an expression.
func isExpr(text string) bool { return strings.Contains(text, "${{") }

// literalExpr returns the text of an expression that is nothing but a text in
// quotes. GitHub takes it wherever it takes a text.
func literalExpr(text string) (string, bool) {
	segs, err := parseTemplate(text, isContext)
	if err != nil || len(segs) != 1 || segs[0].expr == nil || segs[0].expr.op != opLiteral || segs[0].expr.val.Kind() != KindString {
		return "", false
	}
	return segs[0].expr.val.String(), true
}

// formatLength is the length of the format() that GitHub makes of text with
// expressions in it.
func formatLength(segs []segment) int {
	if len(segs) < 2 {
		return 0
	}
	n := len("format('')")
	for _, s := range segs {
		n += utf8.RuneCountInString(s.text)
		if s.expr != nil {
			n += len("{0}, ")
			continue
		}
		n += strings.Count(s.text, "'") + strings.Count(s.text, "{") + strings.Count(s.text, "}")
	}
	return n
}

// isInsert reports whether a mapping's key is the ${{ insert }} directive,
// which stands for the entries of its value.
func isInsert(text string) bool {
	inner, ok := strings.CutPrefix(strings.TrimSpace(text), "${{")
	if !ok {
		return false
	}
	inner, ok = strings.CutSuffix(inner, "}}")
	return ok && strings.TrimSpace(inner) == "insert"
}

// parseCondition parses the text of an if: an expression with or without
// ${{ }}. nil for an empty condition. As on GitHub,
//   - text around ${{ }}, if only a space or the line end of a block scalar,
//     makes the whole a text, which is always true;
//   - ${{ }} around nothing but a quoted string stands for that string, which is
//     then the expression: ${{ 'false' }} is false, ${{ ” }} an empty condition.
func parseCondition(text string, known func(string) bool) ([]segment, *exprError) {
	p := exprParser{known: known}
	return p.condition(text, nil)
}

// condition is parseCondition; it appends to out.
func (p *exprParser) condition(text string, out []segment) ([]segment, *exprError) {
	if !isExpr(text) {
		return p.bareCondition(text, 0, out)
	}
	segs, err := p.template(text, out)
	if err != nil || len(segs) != 1 || segs[0].expr == nil {
		return segs, err
	}
	quoted := strings.TrimSpace(segs[0].text)
	if n := segs[0].expr; quoted[0] != '\'' || n.op != opLiteral {
		return segs, nil
	} else if inner := n.val.str; strings.Contains(inner, "'") {
		segs, err = p.bareCondition(inner, 0, out)
		for i := range segs {
			segs[i].expr.walk(func(x *node) { x.pos = n.pos })
		}
		if err != nil {
			err.pos = n.pos
		}
		return segs, err
	} else {
		start := n.pos + 1
		return p.bareCondition(text[:start+len(inner)], start, out)
	}
}

// bareCondition parses the condition that is the rest of text from start on.
func (p *exprParser) bareCondition(text string, start int, out []segment) ([]segment, *exprError) {
	if strings.TrimSpace(text[start:]) == "" {
		return nil, nil
	}
	n, err := p.parse(text, start)
	if err != nil {
		return nil, err
	}
	return append(out, segment{text: text[start:], off: start, expr: n}), nil
}
