package workflow

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// function is a function of the expression language.
type function struct {
	name     string                   // as GitHub's documentation spells it
	min, max int                      // number of arguments
	odd      bool                     // the number of arguments must be odd
	check    func(n *node) *exprError // beyond the number of arguments; may be nil
	call     func(e *evaluator, n *node) (Value, *exprError)
}

// statusFunctions ask how the job or its needs are doing.
var statusFunctions = []string{"always", "cancelled", "failure", "success"}

// functions are the functions there are, by folded name.
var functions = indexFunctions(
	function{name: "always", call: func(*evaluator, *node) (Value, *exprError) { return Bool(true), nil }},
	function{name: "cancelled", call: func(e *evaluator, _ *node) (Value, *exprError) { return Bool(e.scope.status.Cancelled), nil }},
	function{name: "case", min: 3, max: maxArgs, odd: true, call: callCase},
	function{name: "contains", min: 2, max: 2, call: callContains},
	function{name: "endsWith", min: 2, max: 2, call: callAffix(strings.HasSuffix)},
	function{name: "failure", max: maxArgs, call: callFailure},
	function{name: "format", min: 1, max: maxArgs, check: checkFormat, call: callFormat},
	function{name: "fromJSON", min: 1, max: 1, call: callFromJSON},
	function{name: "hashFiles", min: 1, max: maxArgs, call: callHashFiles},
	function{name: "join", min: 1, max: 2, call: callJoin},
	function{name: "startsWith", min: 2, max: 2, call: callAffix(strings.HasPrefix)},
	function{name: "success", max: maxArgs, call: callSuccess},
	function{name: "toJSON", min: 1, max: 1, call: callToJSON},
)

func indexFunctions(fs ...function) map[string]*function {
	index := make(map[string]*function, len(fs))
	for _, f := range fs {
		index[foldCase(f.name)] = &f
	}
	return index
}

func functionNames() []string {
	var names []string
	for _, k := range slices.Sorted(maps.Keys(functions)) {
		names = append(names, functions[k].name)
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

// args evaluates all arguments in order.
func (e *evaluator) args(n *node) ([]Value, *exprError) {
	out := make([]Value, len(n.args))
	for i, a := range n.args {
		v, err := e.eval(a)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func primitive(v Value) bool { return v.kind != KindArray && v.kind != KindObject }

// text makes a string of which parts came from the given values.
func (e *evaluator) text(pos int, s string, from ...Value) (Value, *exprError) {
	v := String(s)
	for _, f := range from {
		if f.Tainted() {
			v.tainted = true
			break
		}
	}
	return v, e.spend(pos, 0, len(s))
}

// callCase evaluates predicates in order and only the value that is chosen.
func callCase(e *evaluator, n *node) (Value, *exprError) {
	last := len(n.args) - 1
	for i := 0; i < last; i += 2 {
		p, err := e.eval(n.args[i])
		if err != nil {
			return Null, err
		}
		if p.Kind() != KindBool {
			return Null, exprErrorf(n.args[i].pos, "case predicate must evaluate to a boolean value, not to %s: compare it, for example with == or !=", article(p.Kind()))
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
		return "an " + string(k)
	}
	return "a " + string(k)
}

func callContains(e *evaluator, n *node) (Value, *exprError) {
	args, err := e.args(n)
	if err != nil {
		return Null, err
	}
	search, item := args[0], args[1]
	switch {
	case primitive(search) && primitive(item):
		s, sub := search.String(), item.String()
		if err := e.spend(n.pos, len(s)/64, len(s)); err != nil {
			return Null, err
		}
		return Bool(strings.Contains(foldCase(s), foldCase(sub))), nil
	case search.kind == KindArray:
		if err := e.spend(n.pos, len(search.arr.items), 0); err != nil {
			return Null, err
		}
		for _, x := range search.arr.items {
			if equal(item, x) {
				return Bool(true), nil
			}
		}
	}
	return Bool(false), nil
}

func callAffix(has func(s, affix string) bool) func(*evaluator, *node) (Value, *exprError) {
	return func(e *evaluator, n *node) (Value, *exprError) {
		args, err := e.args(n)
		if err != nil || !primitive(args[0]) || !primitive(args[1]) {
			return Bool(false), err
		}
		s, affix := args[0].String(), args[1].String()
		return Bool(has(foldCase(s), foldCase(affix))), e.spend(n.pos, 0, len(s)+len(affix))
	}
}

func callJoin(e *evaluator, n *node) (Value, *exprError) {
	args, err := e.args(n)
	if err != nil {
		return Null, err
	}
	if primitive(args[0]) {
		return e.text(n.pos, args[0].String(), args[0])
	}
	if args[0].kind != KindArray {
		return String(""), nil
	}
	sep := String(",")
	if len(args) > 1 && primitive(args[1]) {
		sep = args[1]
	}
	items := args[0].arr.items
	total := len(sep.str) * len(items)
	parts := make([]string, len(items))
	for i, x := range items {
		parts[i] = x.String()
		total += len(parts[i])
	}
	if err := e.spend(n.pos, len(items), total); err != nil { // before it is built
		return Null, err
	}
	return e.text(n.pos, strings.Join(parts, sep.String()), args[0], sep)
}

// readFormat reads a format string for the given number of arguments and
// hands its pieces to emit: literal text, or, with arg from 0, an argument. The
// message is without its place.
func readFormat(fs string, args int, emit func(text string, arg int) *exprError) *exprError {
	for i := 0; i < len(fs); {
		j := strings.IndexAny(fs[i:], "{}")
		if j < 0 {
			return emit(fs[i:], -1)
		}
		if err := emit(fs[i:i+j], -1); err != nil {
			return err
		}
		i += j
		if i+1 < len(fs) && fs[i+1] == fs[i] { // {{ or }}
			if err := emit(fs[i:i+1], -1); err != nil {
				return err
			}
			i += 2
			continue
		}
		end := skipDigits(fs, i+1)
		if fs[i] == '}' || end == i+1 || end == len(fs) || fs[end] != '}' {
			return exprErrorf(0, "invalid format string %s: placeholders are {0}, {1}, …; a brace itself is written twice", quote(fs))
		}
		k, err := strconv.Atoi(fs[i+1 : end])
		if err != nil || k >= args {
			return exprErrorf(0, "format string %s refers to argument {%s}, but there are only %d", quote(fs), fs[i+1:end], args)
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

func callFormat(e *evaluator, n *node) (Value, *exprError) {
	args, err := e.args(n)
	if err != nil {
		return Null, err
	}
	var b strings.Builder
	tainted := args[0].Tainted()
	err = readFormat(args[0].String(), len(args)-1, func(text string, arg int) *exprError {
		if arg >= 0 {
			text = args[arg+1].String()
			tainted = tainted || args[arg+1].Tainted()
		}
		b.WriteString(text)
		return e.spend(0, 1, len(text))
	})
	if err != nil {
		err.pos = n.args[0].pos
		return Null, err
	}
	v := String(b.String())
	v.tainted = tainted
	return v, nil
}

func callToJSON(e *evaluator, n *node) (Value, *exprError) {
	v, err := e.eval(n.args[0])
	if err != nil {
		return Null, err
	}
	w := jsonWriter{pretty: true, limit: maxEvalBytes}
	if !w.value(v, 0) {
		return Null, exprErrorf(n.pos, "toJSON makes more than %d MiB", maxEvalBytes>>20)
	}
	return e.text(n.pos, string(w.buf), v)
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
	out, jerr := FromJSON([]byte(s))
	if jerr != nil {
		return Null, exprErrorf(n.pos, "fromJSON was given %s, which is not JSON: %v", quote(s), jerr)
	}
	if v.Tainted() {
		out = out.Taint()
	}
	return out, nil
}

func callHashFiles(e *evaluator, n *node) (Value, *exprError) {
	args, err := e.args(n)
	if err != nil {
		return Null, err
	}
	if e.scope.hashFiles == nil {
		return Null, exprErrorf(n.pos, "hashFiles needs the workspace of a running job: use it in a step")
	}
	patterns := make([]string, len(args))
	for i, a := range args {
		patterns[i] = a.String()
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
	need, ok := e.scope.contexts["needs"].Get(v.String())
	if !ok {
		return "", exprErrorf(n.pos, "%s is not a job that this job needs", quote(v.String()))
	}
	r, _ := need.Get("result")
	return r.String(), nil
}
