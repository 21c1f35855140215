package cli

import (
	"bytes"
	"encoding/json"
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

// TestExprBatchAnswersEachLine has lines of bytes that are no request. What
// reads them is fuzzed where it is; here each gets one answer.
func TestExprBatchAnswersEachLine(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", "\n", " \t\r\n\n", "{}", "null", "[]\n\x00\n\xff\xfe", "{\"id\":1}{\"id\":2}", `{"id":{"a":"\n"},"expr":"1 +"}`,
		"{\"expr\":\"'\xff'\"}", `{"id":1e400,"expr":"1"}`, `{"expr":"1","context":{"a":1,"A":2}}`, `{"expr":"hashFiles('/')"}`,
		`{"expr":"a","context":{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}`, "{\"id\":1\r,\"expr\":\"1\"}\r\n",
	} {
		var out bytes.Buffer
		if err := exprBatch(strings.NewReader(in), &out); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for line := range strings.Lines(in) {
			if strings.TrimSpace(line) != "" {
				lines++
			}
		}
		answers := bytes.SplitAfter(out.Bytes(), []byte("\n"))
		if answers = answers[:len(answers)-1]; len(answers) != lines {
			t.Errorf("%.80q: %d answers to %d lines", in, len(answers), lines)
		}
		for _, a := range answers {
			if !json.Valid(a) {
				t.Errorf("%.80q: %q is not JSON", in, a)
			}
		}
	}
}
