package workflow

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// exprCase is one line of testdata/expr: an expression and what it makes.
type exprCase struct {
	expr, kind, value string // kind and value of a result
	err               string // a part of the message, of an error
	line              int
}

// readExprCases reads a file of testdata/expr. "@ JSON" sets the contexts. A case
// is "expression => kind JSON" or "expression !! part of the error"; an expression
// that a line cannot hold as it is stands as "= JSON". A table begins with
// "% operator operands…"; each row "| operand T F…" holds what the operator makes of
// the row's operand and each column's.
func readExprCases(tb testing.TB, path string) (contexts map[string]json.RawMessage, cases []exprCase) {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	// Operands of tables are apart by two spaces or more, as they may hold one.
	cells := func(line string) []string {
		return strings.FieldsFunc(strings.ReplaceAll(line, "  ", "\x00"), func(r rune) bool { return r == 0 })
	}
	var operator string
	var columns []string
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		raw, rest, _ := strings.Cut(line, " ")
		switch raw {
		case "@":
			if err := json.Unmarshal([]byte(rest), &contexts); err != nil {
				tb.Fatalf("%s:%d: %v", path, n, err)
			}
			continue
		case "%":
			head := cells(rest)
			operator, columns = strings.TrimSpace(head[0]), head[1:]
			continue
		case "|":
			row := cells(rest)
			if len(row) != len(columns)+1 {
				tb.Fatalf("%s:%d: %d cells for %d columns", path, n, len(row)-1, len(columns))
			}
			for i, cell := range row[1:] {
				value, ok := map[string]string{"T": "true", "F": "false"}[strings.TrimSpace(cell)]
				if !ok {
					tb.Fatalf("%s:%d: cell %q", path, n, cell)
				}
				expr := strings.TrimSpace(row[0]) + " " + operator + " " + strings.TrimSpace(columns[i])
				cases = append(cases, exprCase{expr: expr, kind: "boolean", value: value, line: n})
			}
			continue
		}
		c := exprCase{line: n}
		if i := strings.LastIndex(line, " !! "); i >= 0 {
			c.expr, c.err = line[:i], line[i+4:]
		} else if i := strings.LastIndex(line, " => "); i >= 0 {
			c.expr = line[:i]
			c.kind, c.value, _ = strings.Cut(line[i+4:], " ")
		} else {
			tb.Fatalf("%s:%d: neither => nor !!", path, n)
		}
		if quoted, ok := strings.CutPrefix(c.expr, "= "); ok {
			if err := json.Unmarshal([]byte(quoted), &c.expr); err != nil {
				tb.Fatalf("%s:%d: %v", path, n, err)
			}
		}
		cases = append(cases, c)
	}
	if err := sc.Err(); err != nil {
		tb.Fatal(err)
	}
	return contexts, cases
}

func TestEval(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/expr/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		contexts, cases := readExprCases(t, file)
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			s, err := NewScope(contexts)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cases {
				v, err := Eval(c.expr, s)
				if c.err != "" {
					var ee *EvalError
					if !errors.As(err, &ee) || !strings.Contains(ee.Message, c.err) {
						t.Errorf("%s:%d: %s: error %v, want one with %q", file, c.line, c.expr, err, c.err)
					}
					continue
				}
				raw, _ := v.MarshalJSON()
				if err != nil || v.Kind().String() != c.kind || string(raw) != c.value {
					t.Errorf("%s:%d: %s = %s %s (%v), want %s %s", file, c.line, c.expr, v.Kind(), raw, err, c.kind, c.value)
				}
			}
		})
	}
}

func TestEvalIdentity(t *testing.T) {
	t.Parallel()
	s, err := NewScope(map[string]json.RawMessage{"github": []byte(`{"event":{"commits":[1]}}`)})
	if err != nil {
		t.Fatal(err)
	}
	for expr, want := range map[string]bool{
		"github.event == github.event":                                   true,
		"github.event.commits == github.event.commits":                   true,
		"github.event == github":                                         false,
		"contains(fromJSON('[[]]'), fromJSON('[]'))":                     false,
		"github.event.commits == fromJSON(toJSON(github.event.commits))": false,
	} {
		if v, err := Eval(expr, s); err != nil || v.Truthy() != want {
			t.Errorf("%s = %v (%v), want %v", expr, v, err, want)
		}
	}
}

func TestEvalBounds(t *testing.T) {
	t.Parallel()
	big := `"` + strings.Repeat("x", 1<<20) + `"`
	s, err := NewScope(map[string]json.RawMessage{"matrix": []byte(`{"s":` + big + `,"a":[` + strings.Repeat("[1],", 1000) + `[1]]}`)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ expr, want string }{
		"long":       {"1" + strings.Repeat(" ", maxExprLength) + "== 1", "longer than"},
		"parens":     {strings.Repeat("(", 10_000) + "1" + strings.Repeat(")", 10_000), ""},
		"open":       {strings.Repeat("(", 21_000), "unexpected end"},
		"indexes":    {strings.Repeat("github[", 3_000), "unexpected end"},
		"not":        {strings.Repeat("!", 200) + "1", "nested deeper"},
		"index":      {"github" + strings.Repeat(".x", 200), "nested deeper"},
		"chain":      {"1" + strings.Repeat("==1", 200), "nested deeper"},
		"format":     {"format('" + strings.Repeat("{0}", 100) + "', matrix.s)", "too costly"},
		"nested":     {"format('{0}{0}{0}{0}', format('{0}{0}{0}{0}', matrix.s))", "too costly"},
		"join":       {"join(fromJSON(format('[{0}]', '1,2,3,4,5,6,7,8,9,10,11,12,13,14')), matrix.s)", "too costly"},
		"toJSON":     {"toJSON(toJSON(toJSON(format('{0}{0}{0}{0}{0}', matrix.s))))", "MiB"},
		"deep JSON":  {"fromJSON('" + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "')", "nested deeper"},
		"many terms": {"1" + strings.Repeat("&&1", 1000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Eval(c.expr, s)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestEvalErrorPosition(t *testing.T) {
	t.Parallel()
	s, _ := NewScope(nil)
	_, err := Eval("1 == foo.bar", s)
	var ee *EvalError
	if !errors.As(err, &ee) || ee.Offset != 5 {
		t.Errorf("got %#v, want offset 5", err)
	}
}

func FuzzEval(f *testing.F) {
	files, _ := filepath.Glob("testdata/expr/*.txt")
	for _, file := range files {
		_, cases := readExprCases(f, file)
		for _, c := range cases {
			f.Add(c.expr)
		}
	}
	f.Fuzz(func(t *testing.T, expr string) {
		s, err := NewScope(map[string]json.RawMessage{
			"github": []byte(`{"event":{"title":"t","labels":[{"name":"a"},{"name":"b"}]},"ref":"refs/heads/x"}`),
			"matrix": []byte(`{"a":[1,[2,3]],"b":{"c":null}}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		v, err := Eval(expr, s)
		if err != nil {
			var ee *EvalError
			if !errors.As(err, &ee) || ee.Offset < 0 || ee.Offset > len(expr) {
				t.Fatalf("error %#v of %q", err, expr)
			}
			return
		}
		if raw, err := v.MarshalJSON(); err != nil || !json.Valid(raw) {
			t.Fatalf("%q made JSON %q: %v", expr, raw, err)
		}
		_ = v.String()
		_ = v.Tainted()
	})
}

func BenchmarkEval(b *testing.B) {
	s, err := NewScope(map[string]json.RawMessage{
		"github": []byte(`{"event_name":"push","ref":"refs/heads/main","event":{"commits":[{"message":"a"},{"message":"b"}]}}`),
		"matrix": []byte(`{"os":"ubuntu-latest","version":3.1}`),
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, expr := range []string{
		"github.event_name == 'push' && startsWith(github.ref, 'refs/heads/')",
		"format('{0}-{1}', matrix.os, matrix.version)",
		"contains(github.event.commits.*.message, 'b')",
	} {
		b.Run(expr[:12], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Eval(expr, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestTaintSurvives derives from tainted values in every way there is: the
// result, or a part of it, is tainted too. What is chosen by a tainted value
// but does not hold any of its text is not.
func TestTaintSurvives(t *testing.T) {
	t.Parallel()
	s, err := NewScope(map[string]json.RawMessage{
		"github": []byte(`{"event":{"issue":{"title":"bad","labels":[{"name":"l1"},{"name":"l2"}],"body":"{\"k\":[\"x\"]}"}},"ref":"r"}`),
		"matrix": []byte(`{"clean":"c","list":["a","b"],"o":{"bad":"v"}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	const bad = "github.event.issue.title"
	for expr, want := range map[string]bool{
		bad:                                           true,
		"github['event']['issue']['TITLE']":           true,
		"github.event.issue.labels":                   true,
		"github.event.issue.labels.*.name":            true,
		"github.event.issue.labels[0].name":           true,
		"github.event.issue.*":                        true,
		"github.event.*.title":                        true,
		"github.*.*.title":                            true,
		"github":                                      true,
		"format('{0}', " + bad + ")":                  true,
		"format('{1}', 1, " + bad + ")":               true,
		"format(" + bad + ")":                         true,
		"format('{0}', github.event)":                 true, // though it is but the word Object
		"join(github.event.issue.labels.*.name, '-')": true,
		"join(matrix.list, " + bad + ")":              true,
		"join(" + bad + ")":                           true,
		"toJSON(" + bad + ")":                         true,
		"toJSON(github)":                              true,
		"toJSON(github.event.issue.labels.*.name)":    true,
		"fromJSON(github.event.issue.body)":           true,
		"fromJSON(github.event.issue.body).k[0]":      true,
		"fromJSON(github.event.issue.body).*":         true,
		"fromJSON(github.event.issue.body).k.*":       true,
		"fromJSON(toJSON(github)).event":              true,
		"fromJSON(toJSON(" + bad + "))":               true,
		bad + " || 'x'":                               true,
		"'' || " + bad:                                true,
		"'x' && " + bad:                               true,
		"matrix.clean && " + bad + " || 'x'":          true,
		"case(true, " + bad + ", 'x')":                true,
		"case(false, 'x', " + bad + ")":               true,
		"case(false, " + bad + ", 'x')":               false,
		"case(" + bad + " == 'bad', 'x', 'y')":        false,
		bad + " == 'bad'":                             false,
		"!" + bad:                                     false,
		"contains(" + bad + ", 'a')":                  false,
		"startsWith(" + bad + ", 'b')":                false,
		bad + " && 'x'":                               false,
		"matrix.o[" + bad + "]":                       false, // a value of ours
		"format('{0}', matrix.clean, " + bad + ")":    false, // not in the text
		"join(matrix.list)":                           false,
		"toJSON(matrix)":                              false,
		"matrix.*":                                    false,
	} {
		v, err := Eval(expr, s)
		if err != nil || v.Tainted() != want {
			t.Errorf("%s = %v, tainted %v (%v), want %v", expr, v, v.Tainted(), err, want)
		}
		text, err := s.Value(sallyport.Template{Text: "a ${{ " + expr + " }} b"})
		if primitive(v) && (err != nil || text.Tainted() != want) {
			t.Errorf("text with %s is tainted: %v (%v), want %v", expr, text.Tainted(), err, want)
		}
	}
}

// TestEvalCost has expressions that ask for more than they are worth. They are
// refused, or cheap: the test ends.
func TestEvalCost(t *testing.T) {
	t.Parallel()
	numbers := strings.TrimSuffix(strings.Repeat("1,", 100_000), ",")
	objects := strings.TrimSuffix(strings.Repeat(`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9},`, 10_000), ",")
	s, err := NewScope(map[string]json.RawMessage{"matrix": []byte(
		`{"n":[` + numbers + `],"o":[` + objects + `],"s":"` + strings.Repeat("ab", 500_000) + `","e":"` + strings.Repeat("é", 500_000) + `"}`)})
	if err != nil {
		t.Fatal(err)
	}
	for expr, want := range map[string]string{
		"contains(matrix.n, matrix.s)":                                   "",
		"contains(matrix.s, format('{0}c', matrix.s))":                   "",
		"contains(matrix.e, format('{0}x', matrix.e))":                   "",
		"matrix.o.*[matrix.s]":                                           "too costly",
		"matrix.o.*.a":                                                   "",
		"matrix.o.*.*.*":                                                 "",
		strings.TrimSuffix(strings.Repeat("matrix.o.* && ", 50), " && "): "too costly",
		"format('" + strings.Repeat("{0}", 200) + "', toJSON(matrix.o))": "too costly",
		"join(matrix.n, matrix.s)":                                       "too costly",
		"join(matrix.n.*, '" + strings.Repeat("x", 200) + "')":           "too costly",
		"fromJSON(toJSON(toJSON(toJSON(matrix.s))))":                     "",
		strings.Repeat("matrix.s == ", 40) + "1":                         "",
	} {
		_, err := Eval(expr, s)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.80s: %v, want %q", expr, err, want)
		}
	}
}

func TestExprLengthCountsCharacters(t *testing.T) {
	t.Parallel()
	s, _ := NewScope(nil)
	for _, c := range []struct {
		expr string
		ok   bool
	}{
		{"'" + strings.Repeat("x", maxExprLength-2) + "'", true},
		{"'" + strings.Repeat("x", maxExprLength-1) + "'", false},
		{"'" + strings.Repeat("é", maxExprLength-2) + "'", true},
		{"'" + strings.Repeat("😀", (maxExprLength-2)/2) + "'", true},
		{"'" + strings.Repeat("😀", maxExprLength/2) + "'", false},
		{strings.Repeat(" ", maxExprLength) + "1", true}, // space around does not count
	} {
		if _, err := Eval(c.expr, s); (err == nil) != c.ok {
			t.Errorf("%d bytes: %v", len(c.expr), err)
		}
	}
}

func TestExprArguments(t *testing.T) {
	t.Parallel()
	s, _ := NewScope(nil)
	format := func(n int) string { return "format('" + strings.Repeat("{0}", 1) + "'" + strings.Repeat(",1", n) + ")" }
	if v, err := Eval(format(maxArgs-1), s); err != nil || v.String() != "1" {
		t.Errorf("%v %v", v, err)
	}
	if _, err := Eval(format(maxArgs), s); err == nil || !strings.Contains(err.Error(), "too many arguments") {
		t.Errorf("%v", err)
	}
}

// TestEvalReuse evaluates at once and after errors on one scope: what is kept
// for reuse must not show.
func TestEvalReuse(t *testing.T) {
	t.Parallel()
	s, err := NewScope(map[string]json.RawMessage{"matrix": []byte(`{"a":[{"n":"x"},{"n":"y"}],"k":"n"}`)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				arg := fmt.Sprint(g, i)
				for expr, want := range map[string]string{
					"format('{0}{1}', format('<{0}>', '" + arg + "'), join(matrix.a.*[matrix.k], format('{0}', 1)))": "<" + arg + ">x1y",
					"matrix.a[fromJSON('[1,0]')[1]].n": "x",
				} {
					if v, err := Eval(expr, s); err != nil || v.String() != want {
						t.Errorf("%s = %v (%v), want %s", expr, v, err, want)
					}
				}
				if v, err := Eval("format('{0}{1}', matrix.a.*[fromJSON('?')], '"+arg+"')", s); err == nil {
					t.Errorf("got %v, want an error", v)
				}
			}
		})
	}
	wg.Wait()
}
