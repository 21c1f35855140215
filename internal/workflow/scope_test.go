package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func testScope(t testing.TB) *Scope {
	t.Helper()
	s, err := NewScope(map[string]json.RawMessage{
		"github": []byte(`{
			"ref": "refs/heads/x", "head_ref": "evil", "sha": "abc", "actor": "me", "event_name": "pull_request",
			"event": {
				"number": 7, "action": "opened",
				"repository": {"name": "r", "description": "ours"},
				"pull_request": {"title": "T", "body": "B", "number": 7, "head": {"ref": "evil", "sha": "abc", "label": "x:evil", "repo": {"description": "D"}}, "user": {"login": "u"},
					"labels": [{"name": "bug", "color": "red"}]},
				"commits": [{"id": "c1", "message": "M", "author": {"name": "N", "email": "E", "username": "U"}}],
				"head_commit": {"message": "M"},
				"comment": {"body": "C", "id": 1},
				"client_payload": {"any": {"thing": 1}}
			}}`),
		"matrix": []byte(`{"v":3.10,"o":{"k":1},"l":[1,2]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTaint(t *testing.T) {
	t.Parallel()
	s := testScope(t)
	steps := Object(Entry{"a", Object(Entry{"outputs", Object(Entry{"x", String("v").Taint()}, Entry{"y", String("w")})})})
	s.Set("steps", steps)
	for expr, want := range map[string]bool{
		"github.sha":                                        false,
		"github.actor":                                      false,
		"github.head_ref":                                   true,
		"github.ref":                                        true,
		"github.event.number":                               false,
		"github.event.action":                               false,
		"github.event.pull_request.title":                   true,
		"github.event.pull_request.body":                    true,
		"github.event.pull_request.number":                  false,
		"github.event.pull_request.head.ref":                true,
		"github.event.pull_request.head.sha":                false,
		"github.event.pull_request.head.label":              true,
		"github.event.pull_request.head.repo.description":   true,
		"github.event.pull_request.user.login":              false,
		"github.event.pull_request.labels.*.name":           true,
		"github.event.pull_request.labels.*.color":          false,
		"github.event.pull_request.labels[0].name":          true,
		"github.event.repository.name":                      false,
		"github.event.repository.description":               false,
		"github.event.commits[0].message":                   true,
		"github.event.commits[0].id":                        false,
		"github.event.commits.*.author.name":                true,
		"github.event.commits[0].author.email":              true,
		"github.event.head_commit.message":                  true,
		"github.event.comment.body":                         true,
		"github.event.comment.id":                           false,
		"github.event.client_payload.any.thing":             true,
		"github.event":                                      true,
		"toJSON(github)":                                    true,
		"toJSON(github.event.number)":                       false,
		"format('{0}', github.head_ref)":                    true,
		"format('x{0}', github.sha)":                        false,
		"format(github.head_ref)":                           true,
		"join(github.event.commits.*.message)":              true,
		"join(matrix.l, github.head_ref)":                   true,
		"fromJSON(format('[\"{0}\"]', github.head_ref))[0]": true,
		"fromJSON(toJSON(github.event)).number":             true,
		"contains(github.head_ref, 'e')":                    false,
		"startsWith(github.head_ref, 'e')":                  false,
		"github.head_ref == 'x'":                            false,
		"!github.head_ref":                                  false,
		"github.head_ref || 'x'":                            true,
		"github.head_ref && 'x'":                            false,
		"case(github.head_ref == 'evil', 'a', 'b')":         false,
		"case(true, github.head_ref, 'b')":                  true,
		"steps.a.outputs.x":                                 true,
		"steps.a.outputs.y":                                 false,
		"steps.*.outputs.x":                                 true,
		"matrix.v":                                          false,
	} {
		v, err := Eval(expr, s)
		if err != nil || v.Tainted() != want {
			t.Errorf("%s: tainted %v (%v), want %v", expr, v.Tainted(), err, want)
		}
	}
	if _, tainted, err := s.Text(sallyport.Template{Text: "a ${{ github.sha }} ${{ github.head_ref }}"}); err != nil || !tainted {
		t.Errorf("text: tainted %v, %v", tainted, err)
	}
	if c, err := s.Condition(sallyport.Template{Text: "github.head_ref == 'evil'"}); err != nil || !c {
		t.Errorf("condition: %v, %v", c, err)
	}
}

func TestTaintPath(t *testing.T) {
	t.Parallel()
	scope := func() *Scope {
		s, err := NewScope(map[string]json.RawMessage{"needs": []byte(`{"A":{"result":"success","outputs":{"x":"1","y":"2"}}}`), "matrix": []byte(`{"os":"l"}`)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		path    []string
		tainted string // expressions
		clean   string
	}{
		{[]string{"needs", "a", "outputs", "X"}, "needs.A.outputs.x needs.a.outputs['X'] toJSON(needs) format('{0}',needs.a.outputs.x)", "needs.a.outputs.y needs.a.result matrix.os"},
		{[]string{"matrix"}, "matrix.os matrix toJSON(matrix)", "needs.a.outputs.x"},
		{[]string{"needs", "a", "outputs", "gone"}, "needs.a.outputs.x needs.a.outputs.gone", "needs.a.result"},
		{nil, "", "matrix.os"},
	} {
		s := scope()
		s.Taint(c.path...)
		for i, list := range []string{c.clean, c.tainted} {
			for _, expr := range strings.Fields(list) {
				if v, err := Eval(expr, s); err != nil || v.Tainted() != (i == 1) {
					t.Errorf("%q: %s is tainted: %v, %v", c.path, expr, v.Tainted(), err)
				}
			}
		}
	}
}

func TestPieces(t *testing.T) {
	t.Parallel()
	s, err := NewScope(map[string]json.RawMessage{"github": []byte(`{"head_ref":"a b","sha":"1"}`)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Pieces(sallyport.Template{Text: "x ${{ github.head_ref }}-${{github.sha}}"})
	want := []Piece{{Text: "x "}, {Expr: " github.head_ref ", Text: "a b", Tainted: true}, {Text: "-"}, {Expr: "github.sha", Text: "1"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{"${{ x", "${{ fromJSON('{') }}"} {
		if _, err := s.Pieces(sallyport.Template{Text: text}); err == nil {
			t.Errorf("%s is no error", text)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	s := testScope(t)
	for in, want := range map[string]string{
		"plain":                             "plain",
		"${{ matrix.v }}":                   "3.1",
		"v${{matrix.v}}-${{ github.sha }}!": "v3.1-abc!",
		"${{ github.nope }}":                "",
		"${{ matrix.l }} ${{ matrix.o }}":   "Array Object",
		"${{ '${{' }} x }}":                 "${{ x }}",
		"${{ 'a }} b' }}":                   "a }} b",
		"${{ 'it''s }}' }}":                 "it's }}",
		"$${{ 1 }}}":                        "$1}",
		"${{ format('{0}', '}}') }}":        "}}",
		"$ {{ 1 }}":                         "$ {{ 1 }}",
		"${{\n github.sha\n}}":              "abc",
		"${{ github.sha":                    "the expression is not closed",
		"a ${{ 'x }}":                       "the expression is not closed",
		"${{ }}":                            "an expression was expected",
		"x ${{ nope }}":                     "unrecognized named-value",
	} {
		got, _, err := s.Text(sallyport.Template{Text: in})
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%q = %q, want %q", in, got, want)
		}
	}
}

func TestValueKeepsType(t *testing.T) {
	t.Parallel()
	s := testScope(t)
	for in, want := range map[string]Kind{
		"${{ matrix.v }}": KindNumber, "${{ matrix.l }}": KindArray, "${{ 1 == 1 }}": KindBool, "${{ null }}": KindNull,
		" ${{ matrix.v }}": KindString, "${{ 1 }}${{ 2 }}": KindString, "1": KindString,
	} {
		if v, err := s.Value(sallyport.Template{Text: in}); err != nil || v.Kind() != want {
			t.Errorf("%q is %s (%v), want %s", in, v.Kind(), err, want)
		}
	}
}

// treeOf reads YAML as a tree whose expressions may use everything.
func treeOf(t *testing.T, src string) sallyport.Tree {
	t.Helper()
	d := &decoder{src: []byte(src)}
	n := d.document()
	if n == nil {
		t.Fatal(d.diags.list)
	}
	tree := d.tree(n, &place{contexts: contextNames, status: true, hashFiles: true})
	if d.diags.errors > 0 {
		t.Fatal(d.diags.list)
	}
	return tree
}

func TestVars(t *testing.T) {
	t.Parallel()
	s := testScope(t)
	for src, want := range map[string]string{
		"{ b: 1, a: x }":                                     "[b=1 a=x]",
		"{ v: 3.10, t: True, n: , e: '' }":                   "[v=3.1 t=true n= e=]",
		"{ v: '${{ matrix.v }}', n: '${{ null }}' }":         "[v=3.1 n=]",
		"{ 'K${{ matrix.v }}': x }":                          "[K3.1=x]",
		"${{ matrix.o }}":                                    "[k=1]",
		`${{ fromJSON('{"A":"x","B":2}') }}`:                 "[A=x B=2]",
		"{ a: 1, '${{ insert }}': '${{ matrix.o }}', b: 2 }": "[a=1 k=1 b=2]",
		"{ a: '${{ matrix.l }}' }":                           "is an array; text is needed",
		"${{ matrix.l }}":                                    "a mapping of names to values was expected, not an array",
		"{ '${{ insert }}': '${{ matrix.l }}' }":             "needs a mapping, not an array",
		"{ a: '${{ fromJSON(''x'') }}' }":                    "fromJSON was given",
	} {
		vars, err := s.Vars(treeOf(t, src))
		var out []string
		for _, v := range vars {
			out = append(out, v.Name+"="+v.Value)
		}
		got := fmt.Sprint(out)
		if err != nil {
			got = err.Error()
			var ee *EvalError
			if !errors.As(err, &ee) || ee.Pos.Line == 0 {
				t.Errorf("%s: no position in %#v", src, err)
			}
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%s: got %s, want %s", src, got, want)
		}
	}
	vars, err := s.Vars(treeOf(t, "{ a: 'x ${{ github.head_ref }}', b: '${{ github.sha }}' }"))
	if err != nil || !vars[0].Tainted || vars[1].Tainted {
		t.Errorf("taint of %+v (%v)", vars, err)
	}
	if vars, err := s.Vars(sallyport.Tree{}); vars != nil || err != nil {
		t.Errorf("absent: %v %v", vars, err)
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	s := testScope(t)
	v, err := s.Tree(treeOf(t, "{ z: [1, '${{ matrix.l }}', '${{ matrix.o }}', 'x${{ 1 }}'], a: { k: , b: false }, '${{ insert }}': { i: 1 } }"))
	raw, _ := v.MarshalJSON()
	if got, want := string(raw), `{"z":[1,1,2,{"k":1},"x1"],"a":{"k":null,"b":false},"i":1}`; err != nil || got != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
}

func TestHashFiles(t *testing.T) {
	t.Parallel()
	s := testScope(t)
	s.SetHashFiles(func(p []string) (string, error) {
		if p[0] == "bad" {
			return "", errors.New("too many files")
		}
		return strings.Join(p, "+"), nil
	})
	if v, err := Eval("hashfiles('**/go.sum', 1)", s); err != nil || v.String() != "**/go.sum+1" {
		t.Errorf("%v %v", v, err)
	}
	if _, err := Eval("hashFiles('bad')", s); err == nil || !strings.Contains(err.Error(), "too many files") {
		t.Error(err)
	}
}

func TestScopeClone(t *testing.T) {
	t.Parallel()
	s := testScope(t)
	c := s.Clone()
	c.Set("matrix", Null)
	c.SetStatus(Status{Failure: true})
	if v, _ := Eval("matrix.v", s); v.String() != "3.1" {
		t.Error("the clone changed its origin")
	}
	if v, _ := Eval("success()", s); !v.Truthy() {
		t.Error("the clone changed its origin's status")
	}
}
