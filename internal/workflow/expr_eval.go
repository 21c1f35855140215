package workflow

import "math"

// evaluator evaluates one expression, or all expressions of one template,
// against a scope; it keeps count of the work.
type evaluator struct {
	scope *Scope
	steps int
	bytes int
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
	if err := e.spend(n.pos, 1, 0); err != nil {
		return Null, err
	}
	switch n.op {
	case opLiteral:
		return n.val, nil
	case opContext:
		return e.scope.contexts[n.name], nil
	case opIndex:
		return e.index(n)
	case opStar:
		v, err := e.eval(n.args[0])
		if err != nil {
			return Null, err
		}
		return e.filter(n.pos, v)
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
	if err := e.spend(n.pos, (len(a.str)+len(b.str))/64, 0); err != nil {
		return Null, err
	}
	switch n.op {
	case opEqual:
		return Bool(equal(a, b)), nil
	case opUnequal:
		return Bool(!equal(a, b)), nil
	case opLess:
		return Bool(order(a, b) == isLess), nil
	case opLessEqual:
		return Bool(equal(a, b) || order(a, b) == isLess), nil
	case opGreater:
		return Bool(order(a, b) == isGreater), nil
	case opGreaterEqual:
		return Bool(equal(a, b) || order(a, b) == isGreater), nil
	}
	return Null, exprErrorf(n.pos, "unknown operator")
}

// coerce brings two values to one kind where that is possible: a number and a
// string to numbers, null and booleans to numbers. Arrays and objects stay.
func coerce(a, b Value) (Value, Value) {
	for a.kind != b.kind {
		switch {
		case a.kind == KindNumber && b.kind == KindString:
			b = Number(b.Float())
		case a.kind == KindString && b.kind == KindNumber:
			a = Number(a.Float())
		case a.kind == KindNull || a.kind == KindBool:
			a = Number(a.Float())
		case b.kind == KindNull || b.kind == KindBool:
			b = Number(b.Float())
		default:
			return a, b
		}
	}
	return a, b
}

// equal is GitHub's loose equality: strings without regard to case, arrays and
// objects by identity, NaN equal to nothing.
func equal(a, b Value) bool {
	if a, b = coerce(a, b); a.kind != b.kind {
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

func order(a, b Value) ordering {
	if a, b = coerce(a, b); a.kind != b.kind {
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

// subscript is an index in the two forms in which containers use it.
type subscript struct {
	key    string
	hasKey bool // the index is a primitive
	at     int  // -1: no element has this index
}

func newSubscript(v Value) subscript {
	s := subscript{at: -1}
	if !primitive(v) {
		return s
	}
	s.key, s.hasKey = v.String(), true
	if f := v.Float(); f >= 0 && f <= math.MaxInt32 {
		s.at = int(f)
	}
	return s
}

func (s *subscript) of(v Value) (Value, bool) {
	switch v.kind {
	case KindArray:
		if s.at >= 0 && s.at < len(v.arr.items) {
			return v.inherit(v.arr.items[s.at]), true
		}
	case KindObject:
		if s.hasKey {
			return v.Get(s.key)
		}
	}
	return Null, false
}

// index evaluates a[b]. What has no parts is null without b being looked at.
func (e *evaluator) index(n *node) (Value, *exprError) {
	v, err := e.eval(n.args[0])
	if err != nil || primitive(v) {
		return Null, err
	}
	i, err := e.eval(n.args[1])
	if err != nil {
		return Null, err
	}
	if v.kind == KindObject && i.kind == KindString { // nearly all
		x, _ := v.Get(i.str)
		return x, nil
	}
	s := newSubscript(i)
	if v.kind != KindArray || !v.arr.filtered {
		x, _ := s.of(v)
		return x, nil
	}
	if err := e.spend(n.pos, len(v.arr.items)*(1+len(s.key)/64), valueBytes*len(v.arr.items)); err != nil {
		return Null, err
	}
	out := &array{filtered: true, items: make([]Value, 0, len(v.arr.items))}
	for _, item := range v.arr.items {
		if x, ok := s.of(v.inherit(item)); ok {
			out.add(x)
		}
	}
	return Value{kind: KindArray, arr: out}, nil
}

// valueBytes is about what a Value takes in memory.
const valueBytes = 48

// filter is ".*": the elements of an array, the values of an object; of a
// filtered array the elements and values of each element.
func (e *evaluator) filter(pos int, v Value) (Value, *exprError) {
	from := []Value{v}
	if v.kind == KindArray && v.arr.filtered {
		from = v.arr.items
	}
	total := 0
	for _, x := range from {
		total += x.Len()
	}
	if err := e.spend(pos, len(from)+total, valueBytes*total); err != nil {
		return Null, err
	}
	out := &array{filtered: true, items: make([]Value, 0, total)}
	for _, x := range from {
		var parts []Value
		switch x.kind {
		case KindArray:
			parts = x.arr.items
		case KindObject:
			parts = x.obj.vals
		}
		for _, part := range parts {
			out.add(v.inherit(x.inherit(part)))
		}
	}
	return Value{kind: KindArray, arr: out}, nil
}

// text makes a string, of which a part came from tainted values if taint is set.
func (e *evaluator) text(pos int, s string, taint bool) (Value, *exprError) {
	v := String(s)
	v.tainted = taint
	return v, e.spend(pos, 0, len(s))
}

func primitive(v Value) bool { return v.kind != KindArray && v.kind != KindObject }
