package workflow

import (
	"slices"
	"strings"
)

// op is what a node of an expression does.
type op uint8

const (
	opLiteral op = iota
	opContext
	opIndex // args: value, index
	opStar  // args: value
	opCall
	opNot
	opEqual
	opUnequal
	opLess
	opLessEqual
	opGreater
	opGreaterEqual
	opAnd
	opOr
)

// node is a node of an expression's syntax tree.
type node struct {
	op   op
	pos  int
	name string // of a context or function, folded
	val  Value  // of a literal
	fn   *function
	args []*node
}

// contextNames are the contexts there are.
var contextNames = []string{
	"github", "env", "vars", "job", "jobs", "steps", "runner", "secrets",
	"strategy", "matrix", "needs", "inputs",
}

// exprParser parses one expression by recursive descent.
type exprParser struct {
	lex   lexer
	tok   token
	depth int
	known func(context string) bool
}

// parseExpr parses an expression; known says which context names exist.
func parseExpr(src string, known func(context string) bool) (*node, *exprError) {
	if len(src) > maxExprLength {
		return nil, exprErrorf(0, "the expression is longer than %d bytes", maxExprLength)
	}
	p := &exprParser{lex: lexer{src: src}, known: known}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == tokEnd {
		return nil, exprErrorf(0, "an expression was expected")
	}
	n, err := p.expression()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokEnd {
		return nil, p.unexpected()
	}
	return n, nil
}

func (p *exprParser) advance() *exprError {
	t, err := p.lex.next()
	p.tok = t
	return err
}

// accept consumes the next token if it is of the given kind.
func (p *exprParser) accept(k tokenKind) (bool, *exprError) {
	if p.tok.kind != k {
		return false, nil
	}
	return true, p.advance()
}

func (p *exprParser) expect(k tokenKind, what string) *exprError {
	if p.tok.kind != k {
		err := p.unexpected()
		err.msg += ": " + what + " is missing"
		return err
	}
	return p.advance()
}

func (p *exprParser) unexpected() *exprError {
	if p.tok.kind == tokEnd {
		return exprErrorf(p.tok.pos, "unexpected end of expression")
	}
	return exprErrorf(p.tok.pos, "unexpected symbol %s", quote(p.tok.text))
}

func (p *exprParser) enter() *exprError {
	if p.depth++; p.depth > maxExprDepth {
		return exprErrorf(p.tok.pos, "the expression is nested deeper than %d levels", maxExprDepth)
	}
	return nil
}

func (p *exprParser) leave(n int) { p.depth -= n }

func (p *exprParser) expression() (*node, *exprError) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave(1)
	return p.logical(tokOr, opOr, (*exprParser).conjunction)
}

func (p *exprParser) conjunction() (*node, *exprError) {
	return p.logical(tokAnd, opAnd, (*exprParser).equality)
}

// logical parses a chain of one logical operator into one node.
func (p *exprParser) logical(k tokenKind, o op, operand func(*exprParser) (*node, *exprError)) (*node, *exprError) {
	n, err := operand(p)
	if err != nil || p.tok.kind != k {
		return n, err
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave(1)
	chain := &node{op: o, pos: p.tok.pos, args: []*node{n}}
	for p.tok.kind == k {
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := operand(p)
		if err != nil {
			return nil, err
		}
		chain.args = append(chain.args, n)
	}
	return chain, nil
}

func (p *exprParser) equality() (*node, *exprError) {
	return p.binary(tokEqual, tokUnequal, (*exprParser).comparison)
}

func (p *exprParser) comparison() (*node, *exprError) {
	return p.binary(tokLess, tokGreaterEqual, (*exprParser).unary)
}

// binaryOps are the operations of the tokens from tokEqual to tokGreaterEqual.
var binaryOps = [...]op{
	tokEqual: opEqual, tokUnequal: opUnequal,
	tokLess: opLess, tokLessEqual: opLessEqual, tokGreater: opGreater, tokGreaterEqual: opGreaterEqual,
}

// binary parses a left-associative chain of the operators of the tokens from
// first to last. The tree it makes leans to the left, so each link counts as a
// level.
func (p *exprParser) binary(first, last tokenKind, operand func(*exprParser) (*node, *exprError)) (*node, *exprError) {
	n, err := operand(p)
	if err != nil {
		return nil, err
	}
	links := 0
	defer func() { p.leave(links) }()
	for p.tok.kind >= first && p.tok.kind <= last {
		o := binaryOps[p.tok.kind]
		links++
		if err := p.enter(); err != nil {
			return nil, err
		}
		pos := p.tok.pos
		if err := p.advance(); err != nil {
			return nil, err
		}
		right, err := operand(p)
		if err != nil {
			return nil, err
		}
		n = &node{op: o, pos: pos, args: []*node{n, right}}
	}
	return n, nil
}

func (p *exprParser) unary() (*node, *exprError) {
	if p.tok.kind != tokNot {
		return p.postfix()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave(1)
	pos := p.tok.pos
	if err := p.advance(); err != nil {
		return nil, err
	}
	n, err := p.unary()
	if err != nil {
		return nil, err
	}
	return &node{op: opNot, pos: pos, args: []*node{n}}, nil
}

// postfix parses an operand and the properties and indexes taken from it.
func (p *exprParser) postfix() (*node, *exprError) {
	literal := p.tok.kind == tokLiteral
	n, err := p.operand()
	if err != nil || literal {
		return n, err
	}
	links := 0
	defer func() { p.leave(links) }()
	for p.tok.kind == tokDot || p.tok.kind == tokIndex {
		links++
		if err := p.enter(); err != nil {
			return nil, err
		}
		pos, dot := p.tok.pos, p.tok.kind == tokDot
		if err := p.advance(); err != nil {
			return nil, err
		}
		star, err := p.accept(tokStar)
		if err != nil {
			return nil, err
		}
		switch {
		case star:
			n = &node{op: opStar, pos: pos, args: []*node{n}}
		case dot:
			name := p.tok
			if err := p.expect(tokName, "a property's name after the dot"); err != nil {
				return nil, err
			}
			n = &node{op: opIndex, pos: pos, args: []*node{n, {op: opLiteral, pos: name.pos, val: String(name.text)}}}
		default:
			index, err := p.expression()
			if err != nil {
				return nil, err
			}
			n = &node{op: opIndex, pos: pos, args: []*node{n, index}}
		}
		if !dot {
			if err := p.expect(tokUnindex, `"]"`); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
}

func (p *exprParser) operand() (*node, *exprError) {
	t := p.tok
	switch t.kind {
	case tokLiteral:
		return &node{op: opLiteral, pos: t.pos, val: t.val}, p.advance()
	case tokOpen:
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := p.expression()
		if err != nil {
			return nil, err
		}
		return n, p.expect(tokClose, `")"`)
	case tokName:
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind == tokOpen {
			return p.call(t)
		}
		name := foldCase(t.text)
		if !p.known(name) {
			return nil, unknownContext(t)
		}
		return &node{op: opContext, pos: t.pos, name: name}, nil
	}
	return nil, p.unexpected()
}

func unknownContext(t token) *exprError {
	if f := functions[foldCase(t.text)]; f != nil {
		return exprErrorf(t.pos, "%s is a function: write %s()", quote(t.text), f.name)
	}
	return exprErrorf(t.pos, "unrecognized named-value %s%s; text is written in single quotes", quote(t.text),
		didYouMean(t.text, contextNames))
}

func (p *exprParser) call(name token) (*node, *exprError) {
	f := functions[foldCase(name.text)]
	if f == nil {
		return nil, exprErrorf(name.pos, "unrecognized function %s%s; there are %s", quote(name.text),
			didYouMean(name.text, functionNames()), strings.Join(functionNames(), ", "))
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	n := &node{op: opCall, pos: name.pos, name: foldCase(name.text), fn: f}
	for p.tok.kind != tokClose {
		if len(n.args) > 0 {
			if err := p.expect(tokComma, `"," or ")"`); err != nil {
				return nil, err
			}
		}
		arg, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, arg)
	}
	if err := f.checkArgs(name.pos, len(n.args)); err != nil {
		return nil, err
	}
	if f.check != nil {
		if err := f.check(n); err != nil {
			return nil, err
		}
	}
	return n, p.advance()
}

// walk calls visit for n and every node below it.
func (n *node) walk(visit func(*node)) {
	visit(n)
	for _, a := range n.args {
		a.walk(visit)
	}
}

// callsStatus reports whether the expression calls a status function; a
// condition that does not is true only after success.
func (n *node) callsStatus() (found bool) {
	n.walk(func(x *node) {
		if x.op == opCall && slices.Contains(statusFunctions, x.name) {
			found = true
		}
	})
	return found
}
