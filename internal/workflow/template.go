package workflow

import "strings"

// segment is a part of a template: literal text, or an expression.
type segment struct {
	text string // literal, or the expression's source
	off  int    // where the text starts in the template
	expr *node  // nil for literal text
}

// splitTemplate splits text into literals and expressions without parsing the
// expressions. An expression ends at the first }} outside of a quoted string.
func splitTemplate(text string) ([]segment, *exprError) {
	var out []segment
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
		out = append(out, segment{text: text[start:end], off: start, expr: &node{}})
		off = end + len("}}")
	}
	return out, nil
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

// parseTemplate splits text and parses its expressions. Positions of errors
// and nodes count from the start of the text.
func parseTemplate(text string, known func(string) bool) ([]segment, *exprError) {
	segs, err := splitTemplate(text)
	if err != nil {
		return nil, err
	}
	for i := range segs {
		if segs[i].expr == nil {
			continue
		}
		n, err := parseExpr(segs[i].text, known)
		if err != nil {
			err.pos += segs[i].off
			return nil, err
		}
		n.walk(func(n *node) { n.pos += segs[i].off })
		segs[i].expr = n
	}
	return segs, nil
}

// isExpr reports whether text holds an expression.
func isExpr(text string) bool { return strings.Contains(text, "${{") }

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
// ${{ }}. Text around ${{ }}, if only the line end of a block scalar, makes the
// whole a text, which is always true unless empty, as on GitHub. nil for an
// empty condition.
func parseCondition(text string, known func(string) bool) ([]segment, *exprError) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if isExpr(text) {
		return parseTemplate(text, known)
	}
	n, err := parseExpr(text, known)
	if err != nil {
		return nil, err
	}
	return []segment{{text: text, expr: n}}, nil
}
