package workflow

import (
	"math"
	"strconv"
	"strings"
)

// function is a function of the expression language. Arguments are evaluated
// by the function itself, since most look at some of them only when the
// others ask for it.
type function struct {
	name     string                   // as GitHub's documentation spells it
	folded   string                   // in lower case
	min, max int                      // number of arguments
	odd      bool                     // the number of arguments must be odd
	check    func(n *node) *exprError // beyond the number of arguments; may be nil
	call     func(e *evaluator, n *node) (Value, *exprError)
}

// statusFunctions ask how the job or its needs are doing.
var statusFunctions = []string{"always", "cancelled", "failure", "success"}

// functions are the functions there are, by name.
var functions = [...]function{
	{name: "always", folded: "always", call: func(*evaluator, *node) (Value, *exprError) { return Bool(true), nil }},
	{name: "cancelled", folded: "cancelled", call: func(e *evaluator, _ *node) (Value, *exprError) { return Bool(e.scope.status.Cancelled), nil }},
	{name: "case", folded: "case", min: 3, max: maxArgs, odd: true, call: callCase},
	{name: "contains", folded: "contains", min: 2, max: 2, call: callContains},
	{name: "endsWith", folded: "endswith", min: 2, max: 2, call: callEndsWith},
	{name: "failure", folded: "failure", max: maxArgs, call: callFailure},
	{name: "format", folded: "format", min: 1, max: maxArgs, check: checkFormat, call: callFormat},
	{name: "fromJSON", folded: "fromjson", min: 1, max: 1, call: callFromJSON},
	{name: "hashFiles", folded: "hashfiles", min: 1, max: maxArgs, call: callHashFiles},
	{name: "join", folded: "join", min: 1, max: 2, call: callJoin},
	{name: "startsWith", folded: "startswith", min: 2, max: 2, call: callStartsWith},
	{name: "success", folded: "success", max: maxArgs, call: callSuccess},
	{name: "toJSON", folded: "tojson", min: 1, max: 1, call: callToJSON},
}

// functionNamed returns the function of a name in any case, nil if there is none.
func functionNamed(name string) *function {
	for i := range functions {
		if f := &functions[i]; len(f.name) == len(name) && equalFold(f.name, name) {
			return f
		}
	}
	return nil
}

func functionNames() []string {
	names := make([]string, len(functions))
	for i := range functions {
		names[i] = functions[i].name
	}
	return names
}

func (f *function) checkArgs(pos, n int) *exprError {
	switch {
	case n < f.min:
		return exprErrorf(pos, "too few arguments for %s: it takes %s, not %d", f.name, f.arity(), n)
	case n > f.max:
		return exprErrorf(pos, "too many arguments for %s: it takes %s, not %d", f.name, f.arity(), n)
	case f.odd && n%2 == 0:
		return exprErrorf(pos, "%s takes pairs of a predicate and a value, and a default at the end: an odd number of arguments, not %d", f.name, n)
	}
	return nil
}

func (f *function) arity() string {
	switch {
	case f.max == 0:
		return "none"
	case f.min == f.max:
		return strconv.Itoa(f.min)
	case f.max == maxArgs:
		return "at least " + strconv.Itoa(f.min)
	}
	return strconv.Itoa(f.min) + " to " + strconv.Itoa(f.max)
}

// callCase evaluates predicates in order and only the value that is chosen.
func callCase(e *evaluator, n *node) (Value, *exprError) {
	last := len(n.args) - 1
	for i := 0; i < last; i += 2 {
		p, err := e.eval(n.args[i])
		if err != nil {
			return Null, err
		}
		if p.kind != KindBool {
			return Null, exprErrorf(n.args[i].pos, "case predicate must evaluate to a boolean value, not to %s: compare it, for example with == or !=", article(p.kind))
		}
		if p.Truthy() {
			return e.eval(n.args[i+1])
		}
	}
	return e.eval(n.args[last])
}

func article(k Kind) string {
	switch k {
	case KindNull:
		return "null"
	case KindArray, KindObject:
		return "an " + k.String()
	}
	return "a " + k.String()
}

func callContains(e *evaluator, n *node) (Value, *exprError) {
	search, err := e.eval(n.args[0])
	if err != nil || search.kind == KindObject || search.kind == KindArray && len(search.arr.items) == 0 {
		return Bool(false), err
	}
	item, err := e.eval(n.args[1])
	if err != nil {
		return Null, err
	}
	if search.kind != KindArray {
		if !primitive(item) {
			return Bool(false), nil
		}
		s, sub := search.String(), item.String()
		return Bool(containsFold(s, sub)), e.spend(n.pos, (len(s)+len(sub))/64, 0)
	}
	if err := e.spend(n.pos, len(search.arr.items), 0); err != nil {
		return Null, err
	}
	number := Number(math.NaN())
	if item.kind == KindString {
		number = Number(item.Float()) // once, as it may be long
	}
	for i := range search.arr.items {
		x, y := search.arr.items[i], item
		if y.kind == KindString && x.kind < KindString {
			y = number
		}
		if same(&x, &y) {
			return Bool(true), nil
		}
	}
	return Bool(false), nil
}

func callStartsWith(e *evaluator, n *node) (Value, *exprError) { return e.affix(n, hasPrefixFold) }

func callEndsWith(e *evaluator, n *node) (Value, *exprError) { return e.affix(n, hasSuffixFold) }

func (e *evaluator) affix(n *node, has func(s, affix string) bool) (Value, *exprError) {
	v, err := e.eval(n.args[0])
	if err != nil || !primitive(v) {
		return Bool(false), err
	}
	a, err := e.eval(n.args[1])
	if err != nil || !primitive(a) {
		return Bool(false), err
	}
	s, affix := v.String(), a.String()
	return Bool(has(s, affix)), e.spend(n.pos, (len(s)+len(affix))/64, 0)
}

func callJoin(e *evaluator, n *node) (Value, *exprError) {
	v, err := e.eval(n.args[0])
	if err != nil {
		return Null, err
	}
	if v.kind == KindObject {
		return String(""), nil
	}
	if v.kind != KindArray {
		s := String(v.String())
		s.tainted = v.tainted
		return s, nil
	}
	items := v.arr.items
	sep := String(",")
	if len(n.args) > 1 && len(items) > 1 {
		s, err := e.eval(n.args[1])
		if err != nil {
			return Null, err
		}
		if primitive(s) {
			sep = s
		}
	}
	between := sep.String()
	total := len(between) * len(items)
	for i := range items {
		total += items[i].textLen()
	}
	if err := e.spend(n.pos, len(items), total); err != nil { // before it is built
		return Null, err
	}
	start := len(e.buf)
	for i := range items {
		if i > 0 {
			e.buf = append(e.buf, between...)
		}
		e.buf = items[i].appendText(e.buf)
	}
	return e.text(start, v.Tainted() || sep.tainted), nil
}

// readFormat reads a format string for the given number of arguments and
// hands its pieces to emit: literal text, or, with arg from 0, an argument. The
// position of its own errors is -1.
func readFormat(fs string, args int, emit func(text string, arg int) *exprError) *exprError {
	for i := 0; i < len(fs); {
		start := i
		for i < len(fs) && fs[i] != '{' && fs[i] != '}' {
			i++
		}
		if i > start {
			if err := emit(fs[start:i], -1); err != nil {
				return err
			}
		}
		if i == len(fs) {
			return nil
		}
		if i+1 < len(fs) && fs[i+1] == fs[i] { // {{ or }}
			if err := emit(fs[i:i+1], -1); err != nil {
				return err
			}
			i += 2
			continue
		}
		end := skipDigits(fs, i+1)
		if fs[i] == '}' || end == i+1 || end == len(fs) || fs[end] != '}' {
			return exprErrorf(-1, "invalid format string %s: placeholders are {0}, {1}, …; a brace itself is written twice", quote(fs))
		}
		k, err := strconv.Atoi(fs[i+1 : end])
		if err != nil || k >= args {
			return exprErrorf(-1, "format string %s refers to argument {%s}, but there are only %d", quote(fs), fs[i+1:end], args)
		}
		if err := emit("", k); err != nil {
			return err
		}
		i = end + 1
	}
	return nil
}

// checkFormat checks a call of format() whose format string is a literal, so
// that its author hears of a mistake before anything runs.
func checkFormat(n *node) *exprError {
	if n.args[0].op != opLiteral {
		return nil
	}
	err := readFormat(n.args[0].val.String(), len(n.args)-1, func(string, int) *exprError { return nil })
	if err != nil {
		err.pos = n.args[0].pos
	}
	return err
}

// formatArg is an argument of format().
type formatArg struct {
	value Value
	known bool // it was evaluated
}

// callFormat evaluates the arguments that the format string names, when it does.
func callFormat(e *evaluator, n *node) (Value, *exprError) {
	f, err := e.eval(n.args[0])
	if err != nil {
		return Null, err
	}
	start, first, taint := len(e.buf), len(e.args), f.tainted
	for range n.args[1:] {
		e.args = append(e.args, formatArg{})
	}
	err = readFormat(f.String(), len(n.args)-1, func(text string, arg int) *exprError {
		if arg < 0 {
			e.buf = append(e.buf, text...)
			return e.spend(n.pos, 1, len(text))
		}
		if !e.args[first+arg].known {
			v, err := e.eval(n.args[1+arg])
			if err != nil {
				return err
			}
			e.args[first+arg] = formatArg{v, true}
		}
		v := &e.args[first+arg].value
		if err := e.spend(n.pos, 1, v.textLen()); err != nil { // before it is copied
			return err
		}
		e.buf, taint = v.appendText(e.buf), taint || v.Tainted()
		return nil
	})
	clear(e.args[first:])
	e.args = e.args[:first]
	if err != nil {
		if err.pos < 0 {
			err.pos = n.args[0].pos
		}
		return Null, err
	}
	return e.text(start, taint), nil
}

func callToJSON(e *evaluator, n *node) (Value, *exprError) {
	v, err := e.eval(n.args[0])
	if err != nil {
		return Null, err
	}
	start := len(e.buf)
	w := jsonWriter{buf: e.buf, pretty: true, limit: start + maxEvalBytes}
	ok := w.value(&v, 0)
	if e.buf = w.buf; !ok {
		return Null, exprErrorf(n.pos, "toJSON makes more than %d MiB", maxEvalBytes>>20)
	}
	err = e.spend(n.pos, 0, len(e.buf)-start)
	return e.text(start, v.Tainted()), err
}

func callFromJSON(e *evaluator, n *node) (Value, *exprError) {
	v, err := e.eval(n.args[0])
	if err != nil {
		return Null, err
	}
	s := v.String()
	if strings.TrimSpace(s) == "" {
		return Null, exprErrorf(n.pos, "fromJSON was given an empty text: use a default, as in fromJSON(… || '[]')")
	}
	if err := e.spend(n.pos, len(s)/16, 4*len(s)); err != nil {
		return Null, err
	}
	r := jsonReader{text: s, stack: e.vals[:0]}
	out, jerr := r.read()
	if e.vals = r.stack; cap(e.vals) > 1<<10 {
		e.vals = nil // what is kept for reuse is small
	}
	if jerr != nil {
		return Null, exprErrorf(n.pos, "fromJSON was given %s, which is not JSON: %v", quote(s), jerr)
	}
	out.tainted = v.tainted
	return out, nil
}

func callHashFiles(e *evaluator, n *node) (Value, *exprError) {
	if e.scope.hashFiles == nil {
		return Null, exprErrorf(n.pos, "hashFiles needs the workspace of a running job: use it in a step")
	}
	patterns := make([]string, len(n.args))
	for i, a := range n.args {
		v, err := e.eval(a)
		if err != nil {
			return Null, err
		}
		patterns[i] = v.String()
	}
	sum, herr := e.scope.hashFiles(patterns)
	if herr != nil {
		return Null, exprErrorf(n.pos, "hashFiles: %v", herr)
	}
	return String(sum), nil
}

// callSuccess is success(); with arguments, whether these needed jobs succeeded.
func callSuccess(e *evaluator, n *node) (Value, *exprError) {
	if len(n.args) == 0 {
		return Bool(e.scope.status.Success), nil
	}
	for _, a := range n.args {
		r, err := e.needResult(a)
		if err != nil || r != "success" {
			return Bool(false), err
		}
	}
	return Bool(true), nil
}

// callFailure is failure(); with arguments, whether one of these needed jobs failed.
func callFailure(e *evaluator, n *node) (Value, *exprError) {
	if len(n.args) == 0 {
		return Bool(e.scope.status.Failure), nil
	}
	for _, a := range n.args {
		r, err := e.needResult(a)
		if err != nil || r == "failure" {
			return Bool(r == "failure"), err
		}
	}
	return Bool(false), nil
}

func (e *evaluator) needResult(n *node) (string, *exprError) {
	v, err := e.eval(n)
	if err != nil {
		return "", err
	}
	need, ok := e.scope.Get("needs").Get(v.String())
	if !ok {
		return "", exprErrorf(n.pos, "%s is not a job that this job needs", quote(v.String()))
	}
	r, _ := need.Get("result")
	return r.String(), nil
}
