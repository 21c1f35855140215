package workflow

import "slices"

// evaluator evaluates one expression, or all expressions of one template,
// against a scope; it keeps count of the work.
type evaluator struct {
	scope *Scope
	steps int
	bytes int
	chain []*node     // stack of the links of chains
	subs  []subscript // stack of their indexes
	args  []formatArg // stack of the arguments of format()
	vals  []Value     // room for readers of JSON
	buf   []byte      // stack of the texts under construction
}

// spend counts work and memory and refuses what exceeds the bounds.
func (e *evaluator) spend(pos, steps, bytes int) *exprError {
	e.steps += steps
	e.bytes += bytes
	if e.steps > maxEvalSteps || e.bytes > maxEvalBytes {
		return exprErrorf(pos, "the expression is too costly: it needs more than %d MiB or %d steps", maxEvalBytes>>20, maxEvalSteps)
	}
	return nil
}

func (e *evaluator) eval(n *node) (Value, *exprError) {
	if e.steps++; e.steps > maxEvalSteps {
		return Null, e.spend(n.pos, 0, 0)
	}
	switch n.op {
	case opLiteral:
		return n.val, nil
	case opContext:
		if n.slot == noSlot {
			return Null, nil
		}
		return e.scope.contexts[n.slot].value, nil
	case opIndex, opStar:
		return e.access(n)
	case opCall:
		return n.fn.call(e, n)
	case opNot:
		v, err := e.eval(n.args[0])
		return Bool(!v.Truthy()), err
	case opAnd, opOr:
		var v Value
		for _, a := range n.args {
			var err *exprError
			if v, err = e.eval(a); err != nil {
				return Null, err
			}
			if v.Truthy() == (n.op == opOr) {
				break
			}
		}
		return v, nil
	}
	return e.compare(n)
}

func (e *evaluator) compare(n *node) (Value, *exprError) {
	a, err := e.eval(n.args[0])
	if err != nil {
		return Null, err
	}
	b, err := e.eval(n.args[1])
	if err != nil {
		return Null, err
	}
	if e.steps += (len(a.str) + len(b.str)) / 64; e.steps > maxEvalSteps {
		return Null, e.spend(n.pos, 0, 0)
	}
	switch n.op {
	case opEqual:
		return Bool(same(&a, &b)), nil
	case opUnequal:
		return Bool(!same(&a, &b)), nil
	case opLess:
		return Bool(order(&a, &b) == isLess), nil
	case opLessEqual:
		return Bool(same(&a, &b) || order(&a, &b) == isLess), nil
	case opGreater:
		return Bool(order(&a, &b) == isGreater), nil
	case opGreaterEqual:
		return Bool(same(&a, &b) || order(&a, &b) == isGreater), nil
	}
	return Null, exprErrorf(n.pos, "unknown operator")
}

// coerce brings two values to one kind where that is possible: null, booleans
// and, beside a number, strings become numbers. Arrays and objects stay.
func coerce(a, b *Value) {
	for a.kind != b.kind {
		switch {
		case a.kind == KindNumber && b.kind == KindString, b.kind == KindNull, b.kind == KindBool:
			*b = Number(b.Float())
		case a.kind == KindString && b.kind == KindNumber, a.kind == KindNull, a.kind == KindBool:
			*a = Number(a.Float())
		default:
			return
		}
	}
}

// equal is GitHub's loose equality: strings without regard to case, arrays and
// objects by identity, NaN equal to nothing.
func equal(a, b Value) bool { return same(&a, &b) }

// same is equal; it coerces its operands in place.
func same(a, b *Value) bool {
	if coerce(a, b); a.kind != b.kind {
		return false
	}
	switch a.kind {
	case KindNull:
		return true
	case KindBool, KindNumber:
		return a.num == b.num
	case KindString:
		return equalFold(a.str, b.str)
	case KindArray:
		return a.arr == b.arr
	}
	return a.obj == b.obj
}

// ordering is the result of comparing two values; isNone means that neither
// comes first, as with NaN, null, arrays and objects.
type ordering int8

const (
	isNone ordering = iota
	isLess
	isSame
	isGreater
)

// order coerces its operands in place, as same does.
func order(a, b *Value) ordering {
	if coerce(a, b); a.kind != b.kind {
		return isNone
	}
	switch a.kind {
	case KindBool, KindNumber:
		switch {
		case a.num < b.num:
			return isLess
		case a.num > b.num:
			return isGreater
		case a.num == b.num:
			return isSame
		}
	case KindString:
		return isSame + ordering(compareFold(a.str, b.str))
	}
	return isNone
}

// valueBytes is about what a Value takes in memory.
const valueBytes = 48

// text makes a string of what stands in buf from start on, and takes it from
// there. It is tainted if a part came from tainted values.
func (e *evaluator) text(start int, taint bool) Value {
	v := Value{kind: KindString, str: string(e.buf[start:]), tainted: taint}
	if e.buf = e.buf[:start]; cap(e.buf) > 1<<16 {
		e.buf = slices.Clone(e.buf) // what is kept for reuse is small
	}
	return v
}

func primitive(v Value) bool { return v.kind != KindArray && v.kind != KindObject }
