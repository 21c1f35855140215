package workflow

import (
	"fmt"
	"slices"

	sallyport "github.com/sallyport-ci/sallyport"
)

// matrix is a matrix with its expressions evaluated.
type matrix struct {
	pos     sallyport.Pos
	names   []string  // of the vectors, in order
	vectors [][]Value // their values
	include []Value   // objects
	exclude []Value   // objects
}

// cell is one combination; base is how many of its entries come from the
// vectors, or from the include item that made it: those name the job.
type cell struct {
	values *object
	base   int
}

func (c cell) value() Value { return Value{kind: KindObject, obj: c.values} }

// expandMatrix evaluates a matrix and returns its cells as objects.
func expandMatrix(t sallyport.Tree, s *Scope) ([]Value, error) {
	cells, err := matrixCells(t, s)
	out := make([]Value, len(cells))
	for i, c := range cells {
		out[i] = c.value()
	}
	return out, err
}

func matrixCells(t sallyport.Tree, s *Scope) ([]cell, error) {
	v, err := s.Tree(t)
	if err != nil {
		return nil, err
	}
	m, err := newMatrix(t, v)
	if err != nil {
		return nil, err
	}
	return m.cells()
}

func (m *matrix) errorf(format string, args ...any) error {
	return &EvalError{Pos: m.pos, Message: fmt.Sprintf(format, args...)}
}

func newMatrix(t sallyport.Tree, v Value) (*matrix, error) {
	m := &matrix{pos: t.Pos}
	if v.Kind() != KindObject {
		return nil, m.errorf("the matrix must be a mapping of names to sequences, not %s", article(v.Kind()))
	}
	total := 0
	for _, e := range v.Entries() {
		if e.Value.Kind() != KindArray {
			return nil, m.errorf("matrix.%s must be a sequence, not %s", e.Key, article(e.Value.Kind()))
		}
		items := e.Value.Items()
		if total += len(items); total > maxMatrixValues {
			return nil, m.errorf("the matrix has more than %d values", maxMatrixValues)
		}
		switch e.Key {
		case "include":
			m.include = items
		case "exclude":
			m.exclude = items
		default:
			if len(items) == 0 {
				return nil, m.errorf("matrix.%s has no values: a job with an empty matrix cannot run; guard the job with an if", e.Key)
			}
			m.names = append(m.names, e.Key)
			m.vectors = append(m.vectors, items)
		}
	}
	for _, list := range [][]Value{m.include, m.exclude} {
		for _, item := range list {
			if item.Kind() != KindObject || item.Len() == 0 {
				return nil, m.errorf("each item of matrix.include and matrix.exclude must be a mapping of names to values")
			}
		}
	}
	for _, item := range m.exclude {
		for _, e := range item.Entries() {
			if !slices.ContainsFunc(m.names, func(n string) bool { return equalFold(n, e.Key) }) {
				return nil, m.errorf("matrix.exclude names %s, which is not in the matrix%s", quote(e.Key), didYouMean(e.Key, m.names))
			}
		}
	}
	return m, nil
}

// cells returns the combinations of the vectors, the first vector varying
// slowest, without those that an exclude item matches, completed by the
// include items that match, and then the include items that matched none.
func (m *matrix) cells() ([]cell, error) {
	product := 0
	if len(m.vectors) > 0 {
		product = 1
	}
	for _, v := range m.vectors {
		if product *= len(v); product > maxMatrixProduct {
			return nil, m.errorf("the matrix makes more than %d combinations; at most %d jobs are allowed", maxMatrixProduct, maxCells)
		}
	}
	var out []cell
	matched := make([]bool, len(m.include))
	for i := range product {
		c := m.combination(i, product)
		if slices.ContainsFunc(m.exclude, func(x Value) bool { return matchesAll(c.value(), x) }) {
			continue
		}
		if len(out) == maxCells {
			return nil, m.errorf("the matrix makes more than %d jobs", maxCells)
		}
		m.complete(c, matched)
		out = append(out, c)
	}
	for i, item := range m.include {
		if matched[i] {
			continue
		}
		if len(out) == maxCells {
			return nil, m.errorf("the matrix makes more than %d jobs", maxCells)
		}
		out = append(out, m.included(item))
	}
	if len(out) == 0 {
		return nil, m.errorf("the matrix makes no job: everything is excluded; guard the job with an if")
	}
	return out, nil
}

// combination returns the i-th of the product's combinations.
func (m *matrix) combination(i, product int) cell {
	values := newObject(len(m.names), false)
	for k, name := range m.names {
		product /= len(m.vectors[k])
		values.set(name, m.vectors[k][i/product%len(m.vectors[k])])
	}
	return cell{values: values, base: len(m.names)}
}

// complete adds to a combination what include items have for it: an item
// matches when all its entries for vectors are equal. Of two additions of one
// name the later wins; the vectors' own values are never replaced.
func (m *matrix) complete(c cell, matched []bool) {
	extra := newObject(0, false)
	for i, item := range m.include {
		entries := item.Entries()
		if slices.ContainsFunc(entries, func(e Entry) bool {
			v, ok := c.values.get(e.Key)
			return ok && !matchesAll(v, e.Value)
		}) {
			continue
		}
		matched[i] = true
		for _, e := range entries {
			if c.values.find(e.Key) < 0 {
				extra.set(e.Key, e.Value)
			}
		}
	}
	for i, k := range extra.keys {
		c.values.set(k, extra.vals[i])
	}
}

// included makes a cell of an include item that matched no combination: the
// names of vectors come first.
func (m *matrix) included(item Value) cell {
	values := newObject(item.Len(), false)
	for _, vector := range []bool{true, false} {
		for _, e := range item.Entries() {
			if vector == slices.ContainsFunc(m.names, func(n string) bool { return equalFold(n, e.Key) }) {
				values.set(e.Key, e.Value)
			}
		}
	}
	return cell{values: values, base: len(values.keys)}
}

// matchesAll reports whether v has all that filter has: objects are compared
// entry by entry, everything else as == does.
func matchesAll(v, filter Value) bool {
	switch filter.Kind() {
	case KindObject:
		for _, f := range filter.Entries() {
			x, _ := v.Get(f.Key)
			if !matchesAll(x, f.Value) {
				return false
			}
		}
		return true
	case KindArray:
		if v.Kind() != KindArray || v.Len() != filter.Len() {
			return false
		}
		for i, f := range filter.arr.items {
			if !matchesAll(v.arr.items[i], f) {
				return false
			}
		}
		return true
	}
	return equal(v, filter)
}

// segments returns the scalars of a cell that name its job.
func (c cell) segments() []string {
	var out []string
	var walk func(v Value)
	walk = func(v Value) {
		switch v.Kind() {
		case KindArray:
			for _, x := range v.arr.items {
				walk(x)
			}
		case KindObject:
			for _, x := range v.obj.vals {
				walk(x)
			}
		default:
			if s := v.String(); s != "" {
				out = append(out, s)
			}
		}
	}
	for _, v := range c.values.vals[:c.base] {
		walk(v)
	}
	return out
}
