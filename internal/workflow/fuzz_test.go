package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func seeds(f *testing.F) {
	for _, pattern := range []string{"testdata/parse/ok/*.yml", "testdata/parse/err/*.yml"} {
		for _, file := range inputs(f, pattern) {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
}

// FuzzCompile follows any bytes through parsing, compiling for several events
// and expanding: nothing may panic, and what is refused is said with a place.
func FuzzCompile(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		file, diags := Parse("w.yml", src)
		checkDiagnostics(t, diags)
		if file == nil && !hasErrors(diags) {
			t.Fatal("neither a file nor an error")
		}
		if file == nil || hasErrors(diags) {
			return
		}
		for _, e := range []Event{
			{Name: "push", Ref: "refs/heads/main", Changed: []string{"a/b.go"}},
			{Name: "pull_request", Action: "opened", BaseRef: "main"},
			{Name: "workflow_dispatch", Inputs: []byte(`{"a":"1"}`)},
		} {
			if _, why := file.Matches(e); why == "" {
				t.Error("no reason")
			}
			plan, diags := Compile(CompileInput{File: file, Event: e, ReadFile: readFrom(map[string]string{"action.yml": composite})})
			checkDiagnostics(t, diags)
			if (plan == nil) != hasErrors(diags) {
				t.Fatalf("plan %v with %v", plan, diags)
			}
			if plan != nil {
				expandAll(t, plan)
			}
		}
	})
}

func checkDiagnostics(t *testing.T, diags []sallyport.Diagnostic) {
	t.Helper()
	if len(diags) > 2*maxDiagnostics {
		t.Fatalf("%d diagnostics", len(diags))
	}
	for _, d := range diags {
		if d.File == "" || d.Pos.Line < 1 || d.Pos.Col < 1 || d.Message == "" || len(d.Message) > 2000 {
			t.Fatalf("diagnostic %+v", d)
		}
	}
}

func expandAll(t *testing.T, plan *sallyport.Plan) {
	t.Helper()
	raw, digest, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var back sallyport.Plan
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if _, again, err := back.Encode(); err != nil || again != digest {
		t.Fatalf("the plan changes when it is read back (%v)", err)
	}
	s, err := NewScope(map[string]json.RawMessage{"github": []byte(`{"ref":"x"}`)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range back.Jobs {
		x, err := Expand(&back, &back.Jobs[i], s)
		if err == nil && (len(x.Cells) == 0 || len(x.Cells) > maxCells) {
			t.Fatalf("%d cells", len(x.Cells))
		}
		if err != nil {
			continue
		}
		for _, step := range back.Jobs[i].Steps {
			if _, _, err := s.Text(step.Run); err != nil {
				var ee *EvalError
				if !errors.As(err, &ee) || ee.Pos.Line == 0 {
					t.Fatalf("no place in %v", err)
				}
			}
			_, _ = s.Vars(step.Env)
			_, _ = s.Vars(step.With)
			_, _ = s.Condition(step.If)
		}
	}
}

func FuzzParseAction(f *testing.F) {
	f.Add([]byte(composite))
	f.Add([]byte("runs: { using: node20 }"))
	f.Fuzz(func(t *testing.T, src []byte) {
		a, diags := ParseAction("action.yml", src)
		checkDiagnostics(t, diags)
		if a == nil && !hasErrors(diags) {
			t.Fatal("neither an action nor an error")
		}
	})
}

func FuzzFromJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,null,"x",{"b":true}]}`))
	f.Add([]byte(`[[[[`))
	f.Add([]byte(`"\ud83d\ude00 \ud83d \/\u00e9"`))
	f.Add([]byte("-1.50E-3 "))
	f.Add([]byte("\"\xff\""))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := FromJSON(raw)
		var want any
		known := json.Unmarshal(raw, &want)
		if bounded := err != nil && (strings.Contains(err.Error(), "deeper than") || strings.Contains(err.Error(), "more than")); (err == nil) != (known == nil) && !bounded &&
			!strings.Contains(fmt.Sprint(known), "cannot unmarshal number") { // beyond the range; ours is infinite
			t.Fatalf("%q: %v, encoding/json: %v", raw, err, known)
		}
		if err != nil {
			return
		}
		if s, ok := want.(string); ok && v.String() != s {
			t.Fatalf("%q is %q, want %q", raw, v.String(), s)
		}
		if f, ok := want.(float64); ok && v.Float() != f {
			t.Fatalf("%q is %v, want %v", raw, v.Float(), f)
		}
		if out, err := v.MarshalJSON(); err != nil || !json.Valid(out) {
			t.Fatalf("%q became %q (%v)", raw, out, err)
		}
		_ = v.JSON()
	})
}
