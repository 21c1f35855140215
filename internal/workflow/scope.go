package workflow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Status is what the status functions answer: success(), failure() and
// cancelled() of the job so far, or of the jobs it needs.
type Status struct{ Success, Failure, Cancelled bool }

// EvalError is an expression that could not be parsed or evaluated.
type EvalError struct {
	Pos     sallyport.Pos // of the scalar that holds the expression; zero if unknown
	Expr    string        // the scalar as written
	Offset  int           // byte of Expr at which the error was found
	Message string
}

func (e *EvalError) Error() string {
	if e.Pos.Line == 0 {
		return fmt.Sprintf("%s (at %d in %s)", e.Message, e.Offset+1, quote(e.Expr))
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Pos.Line, e.Pos.Col, e.Message)
}

// Unwrap returns the error as one of the user's making.
func (e *EvalError) Unwrap() error {
	return &sallyport.Error{Code: sallyport.CodeInvalid, Message: e.Error()}
}

// Scope is what expressions are evaluated in: contexts, the status functions
// and hashFiles. It is not safe for concurrent use while it is being changed.
type Scope struct {
	contexts  []context
	status    Status
	hashFiles func(patterns []string) (string, error)
	work      *sync.Pool // of *workspace; shared with clones
}

// context is a context by its folded name.
type context struct {
	name  string
	value Value
}

// workspace is the memory in which one template is parsed and evaluated.
type workspace struct {
	parser exprParser
	eval   evaluator
	segs   [4]segment
}

// begin returns a workspace for one template; end gives it back. Nothing that
// was parsed may be used after that, values may.
func (s *Scope) begin() *workspace {
	w := s.work.Get().(*workspace)
	w.parser.reset()
	w.parser.known = isContext
	w.parser.scope = s
	w.eval.scope, w.eval.steps, w.eval.bytes = s, 0, 0
	w.eval.chain, w.eval.subs, w.eval.args, w.eval.buf = w.eval.chain[:0], w.eval.subs[:0], w.eval.args[:0], w.eval.buf[:0]
	return w
}

func (s *Scope) end(w *workspace) {
	w.parser.scope, w.eval.scope = nil, nil
	s.work.Put(w)
}

// NewScope returns a scope with contexts by name, each a JSON object. What
// outsiders write in the github context is marked as tainted. A context that
// is not given is null.
func NewScope(contexts map[string]json.RawMessage) (*Scope, error) {
	if len(contexts) > maxContexts {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "there are more than %d contexts", maxContexts)
	}
	s := &Scope{
		contexts: make([]context, 0, len(contexts)+4),
		status:   Status{Success: true},
		work:     &sync.Pool{New: newWorkspace},
	}
	for name, raw := range contexts {
		v, err := readJSON(string(raw), foldCase(name) == "env")
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "read context %.40q: %v", name, err)
		}
		if foldCase(name) == "github" {
			v = taintGitHub(v)
		}
		s.Set(name, v)
	}
	return s, nil
}

func newWorkspace() any {
	w := &workspace{}
	w.parser.reserve(48)
	return w
}

// Clone returns a copy that may be changed without changing s.
func (s *Scope) Clone() *Scope {
	c := *s
	c.contexts = slices.Clone(s.contexts)
	return &c
}

// Set sets a context. The env context is made case-sensitive.
func (s *Scope) Set(name string, v Value) {
	name = foldCase(name)
	if name == "env" && v.kind == KindObject && !v.obj.exact {
		exact := EnvObject(v.Entries()...)
		exact.tainted = v.tainted
		v = exact
	}
	if i := s.find(name); i >= 0 {
		s.contexts[i].value = v
		return
	}
	s.contexts = append(s.contexts, context{name, v})
}

// Get returns a context, null if it is not set.
func (s *Scope) Get(name string) Value {
	if i := s.find(foldCase(name)); i >= 0 {
		return s.contexts[i].value
	}
	return Null
}

// find returns the place of the context of this folded name, -1 if it was not set.
func (s *Scope) find(name string) int {
	for i := range s.contexts {
		if s.contexts[i].name == name {
			return i
		}
	}
	return -1
}

// Taint marks the value at a path from a context on, and all below it, as
// tainted. Of a path that leads nowhere, the last value there is gets marked.
func (s *Scope) Taint(path ...string) {
	if len(path) > 0 {
		s.Set(path[0], taintAt(s.Get(path[0]), path[1:]))
	}
}

func taintAt(v Value, path []string) Value {
	if len(path) == 0 {
		return v.Taint()
	}
	below, ok := v.Get(path[0])
	if !ok {
		return v.Taint()
	}
	out := newObject(len(v.obj.keys), v.obj.exact)
	for i, k := range v.obj.keys {
		out.set(k, v.obj.vals[i])
	}
	out.set(path[0], taintAt(below, path[1:]))
	return Value{kind: KindObject, obj: out, tainted: v.tainted}
}

// SetStatus sets what the status functions answer. A new scope is successful.
func (s *Scope) SetStatus(st Status) { s.status = st }

// SetHashFiles sets the implementation of hashFiles(); without one it is an
// error to call it.
func (s *Scope) SetHashFiles(f func(patterns []string) (string, error)) { s.hashFiles = f }

// Eval evaluates one expression, written without ${{ }}.
func Eval(expr string, s *Scope) (Value, error) {
	var v Value
	w := s.begin()
	n, perr := w.parser.parse(expr, 0)
	if perr == nil {
		v, perr = w.eval.eval(n)
	}
	if s.end(w); perr != nil {
		return Null, evalError(sallyport.Template{Text: expr}, perr)
	}
	return v, nil
}

func evalError(t sallyport.Template, err *exprError) error {
	return &EvalError{Pos: t.Pos, Expr: t.Text, Offset: err.pos, Message: err.msg}
}

// Text returns the template with its expressions replaced by their values as
// text, and whether any of them was tainted.
func (s *Scope) Text(t sallyport.Template) (text string, tainted bool, err error) {
	if !isExpr(t.Text) {
		return t.Text, false, nil
	}
	v, err := s.Value(t)
	return v.String(), v.Tainted(), err
}

// Value returns the value of a template: of the type of the expression if it
// is exactly one ${{ }}, else a string.
func (s *Scope) Value(t sallyport.Template) (Value, error) {
	if !isExpr(t.Text) {
		return String(t.Text), nil
	}
	w := s.begin()
	defer s.end(w)
	segs, perr := w.parser.template(t.Text, w.segs[:0])
	if perr != nil {
		return Null, evalError(t, perr)
	}
	v, perr := w.eval.join(segs)
	if perr != nil {
		return Null, evalError(t, perr)
	}
	return v, nil
}

// Piece is a part of a template: literal text, or an expression with its value.
type Piece struct {
	Expr    string // as written between ${{ and }}; "" of literal text
	Text    string // the value as text
	Tainted bool
}

// Pieces returns the template in pieces; their texts one after another are what
// Text returns.
func (s *Scope) Pieces(t sallyport.Template) ([]Piece, error) {
	w := s.begin()
	defer s.end(w)
	segs, perr := w.parser.template(t.Text, w.segs[:0])
	if perr != nil {
		return nil, evalError(t, perr)
	}
	e := &w.eval
	out := make([]Piece, len(segs))
	for i, seg := range segs {
		out[i].Text = seg.text
		if seg.expr == nil {
			continue
		}
		v, perr := e.eval(seg.expr)
		if perr == nil {
			perr = e.spend(seg.off, 1, len(v.str))
		}
		if perr != nil {
			return nil, evalError(t, perr)
		}
		out[i] = Piece{Expr: seg.text, Text: v.String(), Tainted: v.Tainted()}
	}
	return out, nil
}

// join evaluates the segments of one template.
func (e *evaluator) join(segs []segment) (Value, *exprError) {
	if len(segs) == 1 && segs[0].expr != nil {
		return e.eval(segs[0].expr)
	}
	var b strings.Builder
	tainted := false
	for _, seg := range segs {
		if seg.expr == nil {
			b.WriteString(seg.text)
			continue
		}
		v, err := e.eval(seg.expr)
		if err != nil {
			return Null, err
		}
		tainted = tainted || v.Tainted()
		text := v.String()
		if err := e.spend(seg.off, 1, len(text)); err != nil {
			return Null, err
		}
		b.WriteString(text)
	}
	v := String(b.String())
	v.tainted = tainted
	return v, nil
}

// Tree evaluates a tree deep. A sequence's item that is one ${{ }} with an
// array as its value stands for the elements of that array; a map's entry with
// the key ${{ insert }} stands for the entries of its value.
func (s *Scope) Tree(t sallyport.Tree) (Value, error) {
	switch t.Kind {
	case sallyport.TreeAbsent, sallyport.TreeNull:
		return Null, nil
	case sallyport.TreeBool:
		return Bool(t.Text == "true"), nil
	case sallyport.TreeNumber:
		return Number(treeNumber(t.Text)), nil
	case sallyport.TreeString:
		return s.Value(sallyport.Template{Text: t.Text, Pos: t.Pos})
	case sallyport.TreeSeq:
		var items []Value
		for _, it := range t.Items {
			v, err := s.Tree(it)
			if err != nil {
				return Null, err
			}
			if it.Kind == sallyport.TreeString && v.kind == KindArray {
				items = append(items, v.Items()...)
			} else {
				items = append(items, v)
			}
		}
		return Array(items...), nil
	case sallyport.TreeMap:
		entries, err := s.pairs(t)
		if err != nil {
			return Null, err
		}
		return Object(entries...), nil
	}
	return Null, fmt.Errorf("unknown kind of tree %q", t.Kind)
}

// pairs evaluates the entries of a map.
func (s *Scope) pairs(t sallyport.Tree) ([]Entry, error) {
	out := make([]Entry, 0, len(t.Pairs))
	for _, p := range t.Pairs {
		if isInsert(p.Key.Text) {
			v, err := s.Tree(p.Value)
			if err != nil {
				return nil, err
			}
			if v.Kind() != KindObject {
				return nil, evalError(p.Key, exprErrorf(0, "${{ insert }} needs a mapping, not %s", article(v.Kind())))
			}
			out = append(out, v.Entries()...)
			continue
		}
		k, _, err := s.Text(p.Key)
		if err != nil {
			return nil, err
		}
		v, err := s.Tree(p.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, Entry{Key: k, Value: v})
	}
	return out, nil
}

// treeNumber reads the number of a tree, which is in YAML's canonical form.
func treeNumber(text string) float64 { return parseNumber(text) }

// Var is a name with a value: an environment variable, an input, an output.
type Var struct {
	Name, Value string
	Tainted     bool
}

// Vars evaluates an env, with or outputs block: a map, or one ${{ }} with an
// object as its value. The values are text; the order is that of the file, and
// of two entries of one name the later wins.
func (s *Scope) Vars(t sallyport.Tree) ([]Var, error) {
	at := sallyport.Template{Text: t.Text, Pos: t.Pos}
	var entries []Entry
	switch t.Kind {
	case sallyport.TreeAbsent, sallyport.TreeNull:
		return nil, nil
	case sallyport.TreeMap:
		var err error
		if entries, err = s.pairs(t); err != nil {
			return nil, err
		}
	default:
		v, err := s.Tree(t)
		if err != nil {
			return nil, err
		}
		if v.Kind() != KindObject {
			return nil, evalError(at, exprErrorf(0, "a mapping of names to values was expected, not %s", article(v.Kind())))
		}
		entries = v.Entries()
	}
	out := make([]Var, 0, len(entries))
	index := make(map[string]int, len(entries))
	for i, e := range entries {
		if !primitive(e.Value) {
			if t.Kind == sallyport.TreeMap && i < len(t.Pairs) {
				at = t.Pairs[i].Key
			}
			return nil, evalError(at, exprErrorf(0, "the value of %s is %s; text is needed: use toJSON()", quote(e.Key), article(e.Value.Kind())))
		}
		v := Var{Name: e.Key, Value: e.Value.String(), Tainted: e.Value.Tainted()}
		if j, ok := index[e.Key]; ok {
			out[j] = v
			continue
		}
		index[e.Key] = len(out)
		out = append(out, v)
	}
	return out, nil
}

// Condition evaluates an if, written with or without ${{ }}. Without a status
// function in it, it is true only after success; an absent one is success().
func (s *Scope) Condition(t sallyport.Template) (bool, error) {
	w := s.begin()
	defer s.end(w)
	segs, perr := w.parser.condition(t.Text, w.segs[:0])
	if perr != nil {
		return false, evalError(t, perr)
	}
	if !slices.ContainsFunc(segs, func(g segment) bool { return g.expr != nil && g.expr.callsStatus() }) && !s.status.Success {
		return false, nil
	}
	if segs == nil {
		return true, nil
	}
	v, perr := w.eval.join(segs)
	if perr != nil {
		return false, evalError(t, perr)
	}
	return v.Truthy(), nil
}

// Bool evaluates a template that must be a boolean; def if it is absent.
func (s *Scope) Bool(t sallyport.Template, def bool) (bool, error) {
	if t.IsZero() {
		return def, nil
	}
	v, err := s.Value(t)
	if err != nil {
		return def, err
	}
	if v.Kind() == KindString && !isExpr(t.Text) && (v.str == "true" || v.str == "false") {
		return v.str == "true", nil
	}
	if v.Kind() != KindBool {
		return def, evalError(t, exprErrorf(0, "true or false was expected, not %s %s: use fromJSON() to turn text into a boolean", article(v.Kind()), quote(v.String())))
	}
	return v.Truthy(), nil
}

// Number evaluates a template that must be a number; def if it is absent.
func (s *Scope) Number(t sallyport.Template, def float64) (float64, error) {
	if t.IsZero() {
		return def, nil
	}
	v, err := s.Value(t)
	if err != nil {
		return def, err
	}
	if v.Kind() == KindString && !isExpr(t.Text) && isDecimal(v.str) {
		return v.Float(), nil
	}
	if v.Kind() != KindNumber {
		return def, evalError(t, exprErrorf(0, "a number was expected, not %s %s: use fromJSON() to turn text into a number", article(v.Kind()), quote(v.String())))
	}
	return v.num, nil
}

// StatusByContexts returns what the status functions answer when nothing but
// the contexts is known: by job.status, as in a step; else by the results of
// needs, as in the if of a job; else success.
func (s *Scope) StatusByContexts() Status {
	if v, ok := s.Get("job").Get("status"); ok {
		return Status{Success: equal(v, String("success")), Failure: equal(v, String("failure")), Cancelled: equal(v, String("cancelled"))}
	}
	st := Status{Success: true}
	for _, need := range s.Get("needs").Entries() {
		v, _ := need.Value.Get("result")
		st.Success = st.Success && equal(v, String("success"))
		st.Failure = st.Failure || equal(v, String("failure"))
		st.Cancelled = st.Cancelled || equal(v, String("cancelled"))
	}
	return st
}
