package workflow

import (
	"math"
)

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
	for a.Kind() != b.Kind() {
		switch ka, kb := a.Kind(), b.Kind(); {
		case ka == KindNumber && kb == KindString:
			b = Number(b.Float())
		case ka == KindString && kb == KindNumber:
			a = Number(a.Float())
		case ka == KindNull || ka == KindBool:
			a = Number(a.Float())
		case kb == KindNull || kb == KindBool:
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
	a, b = coerce(a, b)
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
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
	a, b = coerce(a, b)
	if a.Kind() != b.Kind() {
		return isNone
	}
	switch a.Kind() {
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
	switch v.Kind() {
	case KindArray, KindObject:
		return s
	}
	s.key, s.hasKey = v.String(), true
	if f := v.Float(); f >= 0 && f <= math.MaxInt32 {
		s.at = int(f)
	}
	return s
}

func (s subscript) of(v Value) (Value, bool) {
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

func (e *evaluator) index(n *node) (Value, *exprError) {
	v, err := e.eval(n.args[0])
	if err != nil {
		return Null, err
	}
	i, err := e.eval(n.args[1])
	if err != nil {
		return Null, err
	}
	s := newSubscript(i)
	if v.kind != KindArray || !v.arr.filtered {
		x, _ := s.of(v)
		return x, nil
	}
	out := &array{filtered: true}
	for _, item := range v.arr.items {
		if x, ok := s.of(v.inherit(item)); ok {
			out.items = append(out.items, x)
		}
	}
	return Value{kind: KindArray, arr: out}, e.spend(n.pos, len(v.arr.items), valueBytes*len(out.items))
}

// valueBytes is about what a Value takes in memory.
const valueBytes = 80

// filter is ".*": the elements of an array, the values of an object; of a
// filtered array the elements and values of each element.
func (e *evaluator) filter(pos int, v Value) (Value, *exprError) {
	out := &array{filtered: true}
	add := func(v Value) {
		switch v.kind {
		case KindArray:
			for _, x := range v.arr.items {
				out.items = append(out.items, v.inherit(x))
			}
		case KindObject:
			for _, x := range v.obj.vals {
				out.items = append(out.items, v.inherit(x))
			}
		}
	}
	if v.kind == KindArray && v.arr.filtered {
		for _, x := range v.arr.items {
			if err := e.spend(pos, 1+x.Len(), valueBytes*x.Len()); err != nil {
				return Null, err
			}
			add(v.inherit(x))
		}
		return Value{kind: KindArray, arr: out}, nil
	}
	if err := e.spend(pos, v.Len(), valueBytes*v.Len()); err != nil {
		return Null, err
	}
	add(v)
	return Value{kind: KindArray, arr: out}, nil
}
