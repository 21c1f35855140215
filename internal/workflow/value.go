package workflow

import "math"

// Kind is the type of a Value.
type Kind uint8

// Kinds of values.
const (
	KindNull Kind = iota
	KindBool
	KindNumber
	KindString
	KindArray
	KindObject
)

// String returns the name that GitHub gives to the kind.
func (k Kind) String() string {
	return [...]string{"null", "boolean", "number", "string", "array", "object"}[k]
}

// Value is the result of an expression: null, a boolean, a number, a string,
// an array or an object. Values are immutable; the zero Value is null.
//
// A value is tainted when any part of it came from someone who need not be
// trusted.
type Value struct {
	kind    Kind
	tainted bool
	num     float64 // of a number; 1 or 0 of a boolean
	str     string
	arr     *array
	obj     *object
}

// array holds elements; arrays compare by identity, hence the pointer.
type array struct {
	items    []Value
	tainted  bool // one of the items is
	filtered bool // made by .*: an index applies to each element
}

// object holds entries in order; objects compare by identity.
type object struct {
	keys    []string
	vals    []Value
	index   map[string]int // by folded key, or by the key itself if exact; nil while there are few
	tainted bool           // one of the values is
	exact   bool           // keys are case-sensitive (the env context)
}

// fewKeys is the number of keys up to which looking at each is as fast as a map.
const fewKeys = 8

// Null is the null value.
var Null = Value{}

// Bool returns a boolean.
func Bool(b bool) Value {
	v := Value{kind: KindBool}
	if b {
		v.num = 1
	}
	return v
}

// Number returns a number.
func Number(f float64) Value { return Value{kind: KindNumber, num: f} }

// String returns a string.
func String(s string) Value { return Value{kind: KindString, str: s} }

// Array returns an array of the given elements.
func Array(items ...Value) Value {
	return Value{kind: KindArray, arr: newArray(items)}
}

func newArray(items []Value) *array {
	a := &array{items: items}
	for i := range items {
		a.tainted = a.tainted || items[i].Tainted()
	}
	return a
}

// add appends an element while the array is made.
func (a *array) add(v Value) {
	a.items = append(a.items, v)
	a.tainted = a.tainted || v.Tainted()
}

// Entry is one entry of an object.
type Entry struct {
	Key   string
	Value Value
}

// Object returns an object with the entries in the given order. Keys are
// compared without regard to case; a later entry replaces the value of an
// earlier one.
func Object(entries ...Entry) Value {
	o := newObject(len(entries), false)
	for _, e := range entries {
		o.set(e.Key, e.Value)
	}
	return Value{kind: KindObject, obj: o}
}

// EnvObject returns an object whose keys are case-sensitive, as the env
// context is on Linux.
func EnvObject(entries ...Entry) Value {
	o := newObject(len(entries), true)
	for _, e := range entries {
		o.set(e.Key, e.Value)
	}
	return Value{kind: KindObject, obj: o}
}

func newObject(n int, exact bool) *object {
	return &object{keys: make([]string, 0, n), vals: make([]Value, 0, n), exact: exact}
}

// find returns the place of a key, -1 if there is none.
func (o *object) find(key string) int {
	if o.index == nil {
		for i, k := range o.keys {
			if k == key {
				return i
			}
		}
		for i := 0; i < len(o.keys) && !o.exact; i++ {
			if equalFold(o.keys[i], key) {
				return i
			}
		}
		return -1
	}
	var buf [64]byte
	var i int
	var ok bool
	if folded, fits := foldASCII(buf[:0], key); !o.exact && fits {
		i, ok = o.index[string(folded)] // makes no copy
	} else {
		i, ok = o.index[o.fold(key)]
	}
	if !ok {
		return -1
	}
	return i
}

func (o *object) fold(key string) string {
	if o.exact {
		return key
	}
	return foldCase(key)
}

// set adds an entry, or replaces the value of an equal key, which keeps the
// spelling and the place it has.
func (o *object) set(key string, v Value) {
	if i := o.find(key); i >= 0 {
		was := o.vals[i].Tainted()
		o.vals[i] = v
		if o.tainted = o.tainted || v.Tainted(); was && !v.Tainted() {
			o.tainted = false
			for _, x := range o.vals {
				o.tainted = o.tainted || x.Tainted()
			}
		}
		return
	}
	o.keys = append(o.keys, key)
	o.vals = append(o.vals, v)
	o.tainted = o.tainted || v.Tainted()
	switch n := len(o.keys); {
	case n == fewKeys+1:
		o.index = make(map[string]int, 2*n)
		for i, k := range o.keys {
			o.index[o.fold(k)] = i
		}
	case n > fewKeys:
		o.index[o.fold(key)] = n - 1
	}
}

// at returns where the value of a key is, nil if there is none.
func (o *object) at(key string) *Value {
	if i := o.find(key); i >= 0 {
		return &o.vals[i]
	}
	return nil
}

func (o *object) get(key string) (Value, bool) {
	if i := o.find(key); i >= 0 {
		return o.vals[i], true
	}
	return Null, false
}

// Kind returns the value's type.
func (v Value) Kind() Kind { return v.kind }

// Tainted reports whether the value, or any part of it, came from someone who
// need not be trusted.
func (v Value) Tainted() bool {
	switch {
	case v.tainted:
		return true
	case v.arr != nil:
		return v.arr.tainted
	case v.obj != nil:
		return v.obj.tainted
	}
	return false
}

// Taint returns the value marked as tainted; parts taken from it are tainted too.
func (v Value) Taint() Value {
	v.tainted = true
	return v
}

// Truthy reports whether the value counts as true in a condition: all but
// null, false, 0, -0, NaN and the empty string do.
func (v Value) Truthy() bool {
	switch v.kind {
	case KindBool:
		return v.num != 0
	case KindNumber:
		return v.num != 0 && !math.IsNaN(v.num)
	case KindString:
		return v.str != ""
	case KindArray, KindObject:
		return true
	}
	return false
}

// String returns the value coerced to a string as in "${{ }}" within text:
// null is empty, a number is printed with 15 digits, an array is "Array" and
// an object "Object".
func (v Value) String() string {
	switch v.kind {
	case KindBool:
		if v.num != 0 {
			return "true"
		}
		return "false"
	case KindNumber:
		return formatNumber(v.num)
	case KindString:
		return v.str
	case KindArray:
		return "Array"
	case KindObject:
		return "Object"
	}
	return ""
}

// appendText appends what String returns.
func (v *Value) appendText(buf []byte) []byte {
	if v.kind == KindNumber {
		return appendNumber(buf, v.num)
	}
	return append(buf, v.String()...)
}

// textLen is the length of what String returns, or a little more.
func (v *Value) textLen() int {
	if v.kind == KindNumber {
		return maxNumberText
	}
	return len(v.String())
}

// Float returns the value coerced to a number; what has no number is NaN.
func (v Value) Float() float64 {
	switch v.kind {
	case KindNull:
		return 0
	case KindBool, KindNumber:
		return v.num
	case KindString:
		return parseNumber(v.str)
	}
	return math.NaN()
}

// Len returns the number of elements or entries; 0 for other kinds.
func (v Value) Len() int {
	switch v.kind {
	case KindArray:
		return len(v.arr.items)
	case KindObject:
		return len(v.obj.keys)
	}
	return 0
}

// Items returns the elements of an array. They must not be modified.
func (v Value) Items() []Value {
	if v.kind != KindArray {
		return nil
	}
	if !v.tainted {
		return v.arr.items
	}
	out := make([]Value, len(v.arr.items))
	for i, x := range v.arr.items {
		out[i] = x.Taint()
	}
	return out
}

// Entries returns the entries of an object in order.
func (v Value) Entries() []Entry {
	if v.kind != KindObject {
		return nil
	}
	out := make([]Entry, len(v.obj.keys))
	for i, k := range v.obj.keys {
		out[i] = Entry{Key: k, Value: v.inherit(v.obj.vals[i])}
	}
	return out
}

// Get returns the entry of an object with the given key; ok is false if there
// is none, or v is no object.
func (v Value) Get(key string) (x Value, ok bool) {
	if v.kind != KindObject {
		return Null, false
	}
	x, ok = v.obj.get(key)
	return v.inherit(x), ok
}

// inherit marks a part of v as tainted if v is.
func (v Value) inherit(part Value) Value {
	if v.tainted {
		part.tainted = true
	}
	return part
}
