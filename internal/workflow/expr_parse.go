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
	op    op
	depth uint8 // of the tree below, itself included
	slot  int16 // of a context: where it is in the scope; noSlot if it is not there
	pos   int
	name  string // of a context or function, folded
	val   Value  // of a literal
	fn    *function
	args  []*node
}

// noSlot is the slot of a context that has no value.
const noSlot = -1

// contextNames are the contexts there are.
var contextNames = []string{
	"github", "env", "vars", "job", "jobs", "steps", "runner", "secrets",
	"strategy", "matrix", "needs", "inputs",
}

// exprParser parses expressions by precedence. The nodes that it makes are
// valid until it is reset.
type exprParser struct {
	lex   lexer
	tok   token
	known func(context string) bool // says which context names exist
	scope *Scope                    // has more; may be nil
	nodes []node                    // room for nodes
	kids  []*node                   // room for their arguments
}

// parse parses the expression that is the rest of src from start on. Positions
// count from the start of src.
func (p *exprParser) parse(src string, start int) (*node, *exprError) {
	if len(src)-start > maxExprLength && utf16Len(strings.TrimSpace(src[start:])) > maxExprLength {
		return nil, exprErrorf(start, "the expression is longer than %d characters", maxExprLength)
	}
	p.lex = lexer{src: src, off: start}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == tokEnd {
		return nil, exprErrorf(start, "an expression was expected")
	}
	if p.nodes == nil {
		p.reserve((len(src)-start)/6 + 2)
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

// reserve makes room for n nodes, which is a guess: there is more when they are used up.
func (p *exprParser) reserve(n int) {
	n = min(n, 64)
	p.nodes = make([]node, 0, n)
	p.kids = make([]*node, 0, n)
}

// reset makes the room free for other nodes.
func (p *exprParser) reset() {
	p.nodes, p.kids = p.nodes[:0], p.kids[:0]
}

// leaf makes a node without arguments.
func (p *exprParser) leaf(o op, pos int) *node {
	i := len(p.nodes)
	if i == cap(p.nodes) {
		p.nodes, i = make([]node, 0, max(16, cap(p.nodes))), 0
	}
	p.nodes = p.nodes[:i+1]
	n := &p.nodes[i]
	n.op, n.depth, n.pos, n.args = o, 1, pos, nil
	return n
}

// node makes a node. Its depth is that of GitHub's tree, in which parentheses
// do not count.
func (p *exprParser) node(o op, pos int, args ...*node) (*node, *exprError) {
	n, k := p.leaf(o, pos), len(p.kids)
	if k+len(args) > cap(p.kids) {
		p.kids, k = make([]*node, 0, max(16, cap(p.kids), len(args))), 0
	}
	p.kids = p.kids[:k+len(args)]
	n.args = p.kids[k:len(p.kids):len(p.kids)]
	for i, a := range args {
		n.args[i], n.depth = a, max(n.depth, a.depth+1)
	}
	if n.depth > maxExprDepth {
		return nil, tooDeep(pos)
	}
	return n, nil
}

func (p *exprParser) literal(pos int, v Value) *node {
	n := p.leaf(opLiteral, pos)
	n.val = v
	return n
}

func (p *exprParser) advance() *exprError { return p.lex.next(&p.tok) }

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

// binaryOps are the operations of the tokens between two operands, and how
// strongly each binds.
var binaryOps = [tokOr + 1]struct {
	op    op
	binds uint8 // 0: the token is no such operator
}{
	tokOr: {opOr, 1}, tokAnd: {opAnd, 2},
	tokEqual: {opEqual, 3}, tokUnequal: {opUnequal, 3},
	tokLess: {opLess, 4}, tokLessEqual: {opLessEqual, 4}, tokGreater: {opGreater, 4}, tokGreaterEqual: {opGreaterEqual, 4},
}

func (p *exprParser) expression() (*node, *exprError) { return p.operators(1) }

// operators parses operands and what stands between them, as far as it binds
// at least so strongly. All operators are left-associative; a chain of && or
// of || is one node.
func (p *exprParser) operators(least uint8) (*node, *exprError) {
	var n *node
	var err *exprError
	if p.tok.kind == tokNot {
		n, err = p.unary()
	} else {
		n, err = p.postfix()
	}
	if err != nil {
		return nil, err
	}
	for {
		o := binaryOps[p.tok.kind]
		if o.binds == 0 || o.binds < least {
			return n, nil
		}
		pos := p.tok.pos
		if err := p.advance(); err != nil {
			return nil, err
		}
		right, err := p.operators(o.binds + 1)
		if err != nil {
			return nil, err
		}
		if o.op == opAnd || o.op == opOr {
			n, err = p.chain(o.op, pos, n, right)
		} else {
			n, err = p.node(o.op, pos, n, right)
		}
		if err != nil {
			return nil, err
		}
	}
}

// chain makes a node of a logical operator; operands that are of the same
// operator become part of it.
func (p *exprParser) chain(o op, pos int, left, right *node) (*node, *exprError) {
	rest := []*node{right}
	if right.op == o {
		rest = right.args
	}
	if left.op != o {
		if right.op != o {
			return p.node(o, pos, left, right)
		}
		return p.node(o, pos, append([]*node{left}, rest...)...)
	}
	for _, a := range rest {
		if a.depth >= maxExprDepth {
			return nil, tooDeep(pos)
		}
		left.depth = max(left.depth, a.depth+1)
	}
	left.args = append(left.args, rest...)
	return left, nil
}

func tooDeep(pos int) *exprError {
	return exprErrorf(pos, "the expression is nested deeper than %d levels", maxExprDepth)
}

// unary parses an operand with ! before it.
func (p *exprParser) unary() (*node, *exprError) {
	pos, nots := p.tok.pos, 0
	for ; p.tok.kind == tokNot; nots++ {
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	n, err := p.postfix()
	for ; nots > 0 && err == nil; nots-- {
		n, err = p.node(opNot, pos, n)
	}
	return n, err
}

// postfix parses an operand and the properties and indexes taken from it.
func (p *exprParser) postfix() (*node, *exprError) {
	literal := p.tok.kind == tokLiteral
	n, err := p.operand()
	for err == nil && !literal {
		pos, dot := p.tok.pos, p.tok.kind == tokDot
		switch {
		case p.tok.kind == tokProperty:
			if n, err = p.node(opIndex, pos, n, p.literal(pos+1, String(p.tok.text[1:]))); err == nil {
				err = p.advance()
			}
			continue
		case !dot && p.tok.kind != tokIndex:
			return n, nil
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		var index *node // nil: *
		switch {
		case p.tok.kind == tokStar:
			err = p.advance()
		case dot:
			index = p.literal(p.tok.pos, String(p.tok.text))
			err = p.expect(tokName, "a property's name after the dot")
		default:
			index, err = p.expression()
		}
		if err == nil && !dot {
			err = p.expect(tokUnindex, `"]"`)
		}
		switch {
		case err != nil:
			return nil, err
		case index == nil:
			n, err = p.node(opStar, pos, n)
		default:
			n, err = p.node(opIndex, pos, n, index)
		}
	}
	return n, err
}

func (p *exprParser) operand() (*node, *exprError) {
	switch p.tok.kind {
	case tokLiteral:
		n := p.literal(p.tok.pos, p.tok.val)
		return n, p.advance()
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
		name, pos := p.tok.text, p.tok.pos
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind == tokOpen {
			return p.call(name, pos)
		}
		context := foldCase(name)
		slot := noSlot
		if p.scope != nil {
			slot = p.scope.find(context)
		}
		if slot == noSlot && !p.known(context) {
			return nil, unknownContext(name, pos)
		}
		n := p.leaf(opContext, pos)
		n.name, n.slot = context, int16(slot)
		return n, nil
	}
	return nil, p.unexpected()
}

func unknownContext(name string, pos int) *exprError {
	if f := functionNamed(name); f != nil {
		return exprErrorf(pos, "%s is a function: write %s()", quote(name), f.name)
	}
	return exprErrorf(pos, "unrecognized named-value %s%s; text is written in single quotes", quote(name),
		didYouMean(name, contextNames))
}

func (p *exprParser) call(name string, pos int) (*node, *exprError) {
	f := functionNamed(name)
	if f == nil {
		return nil, exprErrorf(pos, "unrecognized function %s%s; there are %s", quote(name),
			didYouMean(name, functionNames()), strings.Join(functionNames(), ", "))
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	var room [4]*node
	args := room[:0]
	for p.tok.kind != tokClose {
		if len(args) > 0 {
			if err := p.expect(tokComma, `"," or ")"`); err != nil {
				return nil, err
			}
		}
		arg, err := p.expression()
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	if err := f.checkArgs(pos, len(args)); err != nil {
		return nil, err
	}
	n, err := p.node(opCall, pos, args...)
	if err != nil {
		return nil, err
	}
	n.name, n.fn = f.folded, f
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
func (n *node) callsStatus() bool {
	return n.op == opCall && slices.Contains(statusFunctions, n.name) || slices.ContainsFunc(n.args, (*node).callsStatus)
}
