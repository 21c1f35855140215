package workflow

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// exprCase is one line of testdata/expr: an expression and what it makes.
type exprCase struct {
	expr, kind, value string // kind and value of a result
	err               string // a part of the message, of an error
	line              int
}

// readExprCases reads a file of testdata/expr: "@ JSON" sets the contexts.
func readExprCases(tb testing.TB, path string) (contexts map[string]json.RawMessage, cases []exprCase) {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if raw, ok := strings.CutPrefix(line, "@ "); ok {
			if err := json.Unmarshal([]byte(raw), &contexts); err != nil {
				tb.Fatalf("%s:%d: %v", path, n, err)
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
