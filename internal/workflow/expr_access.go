package workflow

import "math"

// null is what a part that is not there is; it is never changed.
var null Value

// access evaluates a chain of properties, indexes and stars, as in a.b[c].*.d.
// A part of what has no parts is null, without its index being looked at. What
// is below something tainted is tainted, even when there is nothing.
func (e *evaluator) access(n *node) (Value, *exprError) {
	first := len(e.chain) // what is before belongs to chains around this one
	for n.op == opIndex || n.op == opStar {
		e.chain = append(e.chain, n)
		n = n.args[0]
	}
	var base Value
	at := &base // where the value is; it is copied at the end
	if n.op == opContext && n.slot != noSlot {
		at = &e.scope.contexts[n.slot].value
	} else if n.op != opContext {
		var err *exprError
		if base, err = e.eval(n); err != nil {
			return Null, err
		}
	}
	chain := e.chain[first:] // outermost first
	e.steps += len(chain)
	taint := at.tainted
	for i := len(chain) - 1; i >= 0; i-- {
		n := chain[i]
		if n.op == opStar || at.kind == KindArray && at.arr.filtered {
			v := *at
			v.tainted = taint
			v, err := e.spread(chain[:i+1], v)
			e.chain = e.chain[:first]
			return v, err
		}
		if at.kind != KindObject && at.kind != KindArray {
			at = &null
			continue
		}
		key := n.args[1]
		if key.op == opLiteral && key.val.kind == KindString && at.kind == KindObject { // nearly all
			at = at.obj.at(key.val.str)
		} else {
			v, err := e.eval(key)
			if err != nil {
				return Null, err
			}
			s := newSubscript(v)
			at = s.of(at)
		}
		if at == nil {
			at = &null
			continue
		}
		taint = taint || at.tainted
	}
	e.chain = e.chain[:first]
	v := *at
	v.tainted = taint
	return v, nil
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

// of returns the part of v, nil if it has none.
func (s *subscript) of(v *Value) *Value {
	switch v.kind {
	case KindArray:
		if s.at >= 0 && s.at < len(v.arr.items) {
			return &v.arr.items[s.at]
		}
	case KindObject:
		if s.hasKey {
			return v.obj.at(s.key)
		}
	}
	return nil
}

// spread applies the rest of a chain, outermost first, from its first star on,
// or to an array that a star made before. A star stands for the elements of an
// array and the values of an object; what comes after applies to each of them,
// and what some lack is left out. Every link is applied to one element before
// the next element, which makes the same list as link after link.
func (e *evaluator) spread(chain []*node, v Value) (Value, *exprError) {
	first := len(e.subs)
	for _, n := range chain {
		s := subscript{}
		if n.op == opIndex {
			key, err := e.eval(n.args[1])
			if err != nil {
				return Null, err
			}
			s = newSubscript(key)
		}
		e.subs = append(e.subs, s)
	}
	f := fan{eval: e, chain: chain, subs: e.subs[first:]}
	f.out = &array{filtered: true, items: make([]Value, 0, v.Len())}
	var err *exprError
	if v.kind == KindArray && v.arr.filtered {
		err = f.addAll(v.arr.items, v.tainted, len(chain))
	} else {
		err = f.add(&v, v.tainted, len(chain))
	}
	e.subs = e.subs[:first]
	return Value{kind: KindArray, arr: f.out}, err
}

// fan is a spread under way.
type fan struct {
	eval  *evaluator
	chain []*node
	subs  []subscript // of the links that are no stars
	out   *array
}

// add adds what the links from the given one inward to the first make of v,
// which is tainted if taint is set.
func (f *fan) add(v *Value, taint bool, link int) *exprError {
	if link == 0 {
		x := *v
		x.tainted = taint
		f.out.add(x)
		return f.eval.spend(f.chain[0].pos, 1, valueBytes)
	}
	link--
	if f.chain[link].op == opIndex {
		sub := &f.subs[link]
		if err := f.eval.spend(f.chain[link].pos, 1+len(sub.key)/64, 0); err != nil {
			return err
		}
		if x := sub.of(v); x != nil {
			return f.add(x, taint || x.tainted, link)
		}
		return nil
	}
	switch v.kind {
	case KindArray:
		return f.addAll(v.arr.items, taint, link)
	case KindObject:
		return f.addAll(v.obj.vals, taint, link)
	}
	return nil
}

func (f *fan) addAll(vs []Value, taint bool, link int) *exprError {
	for i := range vs {
		if err := f.add(&vs[i], taint || vs[i].tainted, link); err != nil {
			return err
		}
	}
	return nil
}
