package workflow

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

var update = flag.Bool("update", false, "write the expected files of testdata anew")

// golden compares got with the file beside the input that holds what is expected.
func golden(t *testing.T, input, got string) {
	t.Helper()
	path := strings.TrimSuffix(input, filepath.Ext(input)) + ".txt"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", input, got, want)
	}
}

func inputs(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no inputs at %s (%v)", pattern, err)
	}
	return files
}

func printDiagnostics(diags []sallyport.Diagnostic) string {
	var b strings.Builder
	for _, d := range diags {
		fmt.Fprintf(&b, "%d:%d: %s: %s\n", d.Pos.Line, d.Pos.Col, d.Severity, d.Message)
	}
	return b.String()
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"ok", "err"} {
		for _, file := range inputs(t, "testdata/parse/"+dir+"/*.yml") {
			t.Run(dir+"/"+filepath.Base(file), func(t *testing.T) {
				t.Parallel()
				src, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				f, diags := Parse("w.yml", src)
				if bad := f == nil || hasErrors(diags); bad != (dir == "err") {
					t.Errorf("errors: %v", bad)
				}
				golden(t, file, printDiagnostics(diags))
			})
		}
	}
}

func TestParseTree(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("testdata/parse/ok/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	f, _ := Parse("full.yml", src)
	if f.Env.Pairs[0].Value.Text != "1.26" || f.Env.Pairs[0].Value.Kind != sallyport.TreeNumber {
		t.Errorf("env.GO = %+v", f.Env.Pairs[0].Value)
	}
	if p := f.Jobs[0].Permissions; p == nil || p["contents"] != "none" {
		t.Errorf("permissions: {} = %v, want every scope none", p)
	}
	s := f.Jobs[0].StepsAt[1]
	if s.ID != "version" || s.Run.Pos != (sallyport.Pos{Line: 85, Col: 14}) || !strings.HasPrefix(s.Run.Text, "echo \"v=") {
		t.Errorf("step %+v", s)
	}
	if got := f.Jobs[0].Strategy.Matrix.Pairs[1].Value.Items[0].Text; got != "1.25" {
		t.Errorf("matrix.go[0] = %q", got)
	}
}

func TestScalarKinds(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"3.10": "number 3.1", "'3.10'": "string 3.10", "1e3": "number 1000", "0x10": "number 16", "0o10": "number 8",
		"010": "number 10", "+1": "number 1", "-.5": "number -0.5", ".5": "number 0.5", "5.": "number 5",
		".inf": "number Infinity", "-.INF": "number -Infinity", ".nan": "number NaN",
		"true": "bool true", "True": "bool true", "FALSE": "bool false", "yes": "string yes", "on": "string on", "tRUE": "string tRUE",
		"~": "null ", "null": "null ", "Null": "null ", "nUll": "string nUll",
		"1.2.3": "string 1.2.3", "1_000": "string 1_000", "0b1": "string 0b1", "2001-01-01": "string 2001-01-01", "12:30": "string 12:30",
		"-": "string -", "+": "string +", "1e": "string 1e", "0x": "string 0x", "!!str 1": "string 1", "!!str true": "string true",
	} {
		d := &decoder{src: []byte("k: " + in)}
		if in == "-" {
			d.src = []byte("k: \"-\"")
		}
		n := d.document()
		if n == nil {
			t.Errorf("%s: %v", in, d.diags.list)
			continue
		}
		kind, text := scalar(n.Content[1])
		if got := string(kind) + " " + text; got != want {
			t.Errorf("%s = %q, want %q", in, got, want)
		}
	}
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	var chain strings.Builder
	chain.WriteString("a0: &a0 [x]\n")
	for i := 1; i < 1000; i++ {
		fmt.Fprintf(&chain, "a%d: &a%d [*a%d]\n", i, i, i-1)
	}
	job := "    runs-on: x\n    steps:\n      - run: echo\n"
	var jobs, steps strings.Builder
	jobs.WriteString("on: push\njobs:\n")
	for i := range maxJobs + 1 {
		fmt.Fprintf(&jobs, "  j%d:\n%s", i, job)
	}
	steps.WriteString("on: push\njobs:\n  a:\n" + job + strings.Repeat("      - run: echo\n", maxSteps))
	for name, c := range map[string]struct{ src, want string }{
		"bytes":   {"#" + strings.Repeat("x", maxFileBytes), "at most 1048576 are read"},
		"aliases": {bomb.String(), "nodes once its aliases are expanded"},
		"text":    {"a: &a " + strings.Repeat("x", maxFileBytes/2) + "\nb: [" + strings.Repeat("*a, ", 10) + "*a]", "bytes of text once its aliases"},
		"chain":   {chain.String(), "nested deeper than 50 levels"},
		"depth":   {strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "nested deeper than 50 levels"},
		"nodes":   {"a: [" + strings.Repeat("1,", maxYAMLNodes) + "1]", "nodes once its aliases"},
		"jobs":    {jobs.String(), "at most 256 are allowed"},
		"steps":   {steps.String(), "more than 1000 steps"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, diags := Parse("w.yml", []byte(c.src))
			if got := printDiagnostics(diags); !strings.Contains(got, c.want) {
				t.Errorf("got %.300s, want %q", got, c.want)
			}
			if len(diags) > 2*maxDiagnostics {
				t.Errorf("%d diagnostics", len(diags))
			}
		})
	}
}

func TestWarningsDoNotHideErrors(t *testing.T) {
	t.Parallel()
	src := "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n" + strings.Repeat("      - { run: echo, if: '${{ true }} x' }\n", 3*maxDiagnostics) + "      - nothing\n"
	_, diags := Parse("w.yml", []byte(src))
	if !hasErrors(diags) || len(diags) != maxDiagnostics+1 {
		t.Errorf("%d diagnostics: %.200s", len(diags), printDiagnostics(diags))
	}
}

func TestParseAction(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"runs: { using: composite, steps: [{ run: x, shell: bash }] }": "",
		"runs: { using: node20, main: index.js, post: x.js }":          "",
		"naem: x\nruns: { using: docker, image: Dockerfile }":          `warning: unknown key "naem" in the action (did you mean "name"?)`,
		"name: x":                              `the action lacks the key "runs"`,
		"[]":                                   "the action must be a mapping",
		"runs: composite":                      "runs must be a mapping",
		"runs: { using: composite }":           "has no steps",
		"runs: { using: composit, steps: [] }": `did you mean "composite"`,
		"runs: { steps: [] }":                  `runs lacks the key "using"`,
		"runs: { using: composite, steps: [{ run: x }] }":                                "needs a shell",
		"runs: { using: composite, steps: [{ run: x, shell: sh, timeout-minutes: 1 }] }": "timeout-minutes is not available",
		"runs: { using: composite, steps: [{ run: '${{ vars.X }}', shell: sh }] }":       `"vars" is not available in runs.steps`,
		"inputs: { 1a: {} }\nruns: { using: node20 }":                                    "the input name \"1a\" is invalid",
		"inputs: []\nruns: { using: node20 }":                                            "inputs must be a mapping",
		"outputs: x\nruns: { using: node20 }":                                            "outputs must be a mapping",
		"outputs: { o: { value: '${{ needs.x }}' } }\nruns: { using: node20 }":           `"needs" is not available in outputs`,
	} {
		_, diags := ParseAction("action.yml", []byte(src))
		if got := printDiagnostics(diags); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", src, got, want)
		}
	}
}

func TestParseConcurrentSteps(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("testdata/parse/ok/concurrent.yml")
	if err != nil {
		t.Fatal(err)
	}
	f, _ := Parse("concurrent.yml", src)
	job := f.Jobs[0]
	if job.CancelTimeoutMinutes.Text != "2.5" {
		t.Errorf("cancel-timeout-minutes %+v", job.CancelTimeoutMinutes)
	}
	var got []string
	for _, s := range job.StepsAt {
		got = append(got, fmt.Sprintf("%v %v %v %q %d", s.Background, s.Wait, s.WaitAll, s.Cancel, len(s.Parallel)))
	}
	want := []string{
		`true [] false "" 0`, `true [] false "" 0`, `true [] false "" 0`, `false [] false "" 0`,
		`false [server] false "" 0`, `false [server other] false "" 0`, `false [] false "server" 0`,
		`false [] false "" 2`, `false [] false "" 1`, `false [] true "" 0`, `false [] true "" 0`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if s := job.StepsAt[7].Parallel; s[0].ID != "group" || s[1].Uses != "actions/checkout@v4" || job.StepsAt[7].ParallelAt[1].UsesAt.Line != 19 {
		t.Errorf("group %+v", s)
	}
}
