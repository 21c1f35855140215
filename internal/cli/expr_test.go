package cli

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestExprArgs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"runs -x":                  "runs -x",
		"expr":                     "expr --",
		"expr --batch":             "expr --batch --",
		"expr -1":                  "expr -- -1",
		"expr -1 --context f":      "expr --context f -- -1",
		"expr --context f -1":      "expr --context f -- -1",
		"expr --context=f a":       "expr --context=f -- a",
		"expr -- --context":        "expr -- --context",
		"expr a --context":         "expr --context -- a",
		"expr --help":              "expr --help --",
		"expr --context f -- -1 x": "expr --context f -- -1 x",
	} {
		if got := exprArgs(strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, want %s", in, got, want)
		}
	}
}

// TestExprBatchGoesOn has lines longer than any buffer and than the bound.
func TestExprBatchGoesOn(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100<<10)
	in := io.MultiReader(
		strings.NewReader(`{"id":1,"expr":"foo","context":{"foo":"`+long+`"}}`+"\n"),
		strings.NewReader(strings.Repeat("y", maxExprLine)+"\n"),
		strings.NewReader(`{"id":2,"expr":"1"}`), // no line end
	)
	var out bytes.Buffer
	if err := exprBatch(in, &out); err != nil {
		t.Fatal(err)
	}
	want := `{"id":1,"kind":"string","value":"` + long + `"}` + "\n" +
		`{"id":null,"error":"the line has more than 8 MiB"}` + "\n" +
		`{"id":2,"kind":"number","value":1}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got %.200q…, want %.200q…", got, want)
	}
}

func FuzzExprBatch(f *testing.F) {
	f.Add([]byte(`{"id":1,"expr":"github.ref","context":{"github":{"ref":"x"}}}`))
	f.Add([]byte("{}\n\n[]\n{\"id\":{\"a\":\"\\n\"},\"expr\":\"1 +\"}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		if err := exprBatch(bytes.NewReader(in), &out); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for line := range bytes.Lines(in) {
			if len(bytes.TrimSpace(line)) > 0 {
				lines++
			}
		}
		if got := bytes.Count(out.Bytes(), []byte("\n")); got != lines {
			t.Fatalf("%d answers to %d lines: %q", got, lines, out.String())
		}
	})
}
