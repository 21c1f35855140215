package workflow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// readFrom serves files from a map.
func readFrom(files map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		src, ok := files[path]
		if !ok {
			return nil, sallyport.Errorf(sallyport.CodeNotFound, "no file %s", path)
		}
		return []byte(src), nil
	}
}

// compileText parses and compiles a workflow that must parse.
func compileText(t testing.TB, src string, e Event, files map[string]string) (*sallyport.Plan, []sallyport.Diagnostic) {
	t.Helper()
	f, diags := Parse("w.yml", []byte(src))
	if f == nil || hasErrors(diags) {
		t.Fatalf("parse: %s", printDiagnostics(diags))
	}
	return Compile(CompileInput{File: f, Event: e, ReadFile: readFrom(files)})
}

// job is a workflow with one job of the given body.
func oneJob(body string) string {
	return "on: push\njobs:\n  a:\n    runs-on: x\n" + body
}

const composite = `
name: Greet
inputs:
  who: { required: true }
  greeting: { default: hello }
outputs:
  said: { value: '${{ steps.say.outputs.said }}' }
runs:
  using: composite
  steps:
    - id: say
      shell: bash
      run: echo "said=$G $W" >> "$GITHUB_OUTPUT"
      env: { G: '${{ inputs.greeting }}', W: '${{ inputs.who }}' }
`

func TestCompile(t *testing.T) {
	t.Parallel()
	src := `
name: CI
on: push
env: { A: 1 }
jobs:
  deploy:
    needs: [Test, build]
    runs-on: ubuntu-latest
    steps:
      - uses: ./.github/actions/greet
        with: { who: me }
      - uses: $/.github/actions/greet
        with: { who: me }
  test:
    needs: build
    runs-on: ubuntu-latest
    strategy:
      matrix:
        n: [1, 2]
        s: [x]
    steps:
      - uses: actions/checkout@v4
      - uses: Actions/Upload-Artifact@0123456789012345678901234567890123456789
  build:
    runs-on: ubuntu-latest
    strategy:
      matrix: ${{ fromJSON(vars.M) }}
    steps:
      - run: make
`
	p, diags := compileText(t, src, Event{Name: "push"}, map[string]string{".github/actions/greet/action.yaml": composite})
	if p == nil || len(diags) > 0 {
		t.Fatalf("diagnostics: %s", printDiagnostics(diags))
	}
	var order []string
	for _, j := range p.Jobs {
		order = append(order, j.Key+fmt.Sprint(j.Needs))
	}
	if got, want := strings.Join(order, " "), "build[] test[build] deploy[test build]"; got != want {
		t.Errorf("jobs %s, want %s", got, want)
	}
	if j := p.Job("test"); j.Strategy.Dynamic || fmt.Sprintf("%s", j.Strategy.Cells) != `[{"n":1,"s":"x"} {"n":2,"s":"x"}]` {
		t.Errorf("test: dynamic %v cells %s", j.Strategy.Dynamic, j.Strategy.Cells)
	}
	if j := p.Job("build"); !j.Strategy.Dynamic || j.Strategy.Cells != nil {
		t.Errorf("build: dynamic %v cells %s", j.Strategy.Dynamic, j.Strategy.Cells)
	}
	if len(p.Actions) != 4 || p.Actions["actions/checkout@v4"].Kind != sallyport.ActionIntrinsic {
		t.Errorf("actions %v", p.Actions)
	}
	a := p.Actions["./.github/actions/greet"]
	if a.Kind != sallyport.ActionComposite || a.Path != ".github/actions/greet" || a.Digest != sallyport.DigestOf([]byte(composite)) ||
		!a.Inputs[0].Required || a.Inputs[1].Default.Text != "hello" || a.Steps[0].ID != "say" || a.Outputs[0].Name != "said" {
		t.Errorf("action %+v", a)
	}
	if len(p.Files) != 2 || p.Files[0].Digest != sallyport.DigestOf([]byte(src)) || p.Files[1].Path != ".github/actions/greet/action.yaml" {
		t.Errorf("files %v", p.Files)
	}
	first, d1, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var back sallyport.Plan
	if err := json.Unmarshal(first, &back); err != nil {
		t.Fatal(err)
	}
	if _, d2, err := back.Encode(); err != nil || d1 != d2 {
		t.Errorf("the plan changes when it is read back: %s, %s (%v)", d1, d2, err)
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	step := "    steps: [{ run: echo }]\n"
	jobs := func(needs ...string) string {
		var b strings.Builder
		b.WriteString("on: push\njobs:\n")
		for i, n := range needs {
			fmt.Fprintf(&b, "  j%d: { runs-on: x, needs: [%s], steps: [{ run: echo }] }\n", i, n)
		}
		return b.String()
	}
	loop := func(to string) string {
		return "runs:\n  using: composite\n  steps: [{ uses: " + to + " }]\n"
	}
	deep := map[string]string{}
	for i := range 20 {
		deep[fmt.Sprintf("d%d/action.yml", i)] = loop(fmt.Sprintf("./d%d", i+1))
	}
	for name, c := range map[string]struct {
		src   string
		files map[string]string
		want  string
	}{
		"missing need":     {jobs("", "j9"), nil, `w.yml:4:29: job "j1" needs "j9", which is not a job of this workflow (did you mean "j0"?)`},
		"need itself":      {jobs("j0"), nil, "needs itself"},
		"circle of needs":  {jobs("", "j3", "j1", "j2"), nil, "in a circle: j1 needs j3 needs j2 needs j1"},
		"circle beside":    {jobs("j1", "j2", "j1"), nil, "in a circle: j1 needs j2 needs j1"},
		"remote action":    {oneJob("    steps:\n      - uses: actions/setup-java@v5\n"), nil, `w.yml:6:15: "actions/setup-java@v5" is of another repository, and there is no action lock here`},
		"not an action":    {oneJob("    steps: [{ uses: checkout }]\n"), nil, "is not an action of another repository: it has no @REF"},
		"no ref":           {oneJob("    steps: [{ uses: actions/checkout }]\n"), nil, "it has no @REF; write OWNER/REPOSITORY@REF"},
		"outside":          {oneJob("    steps: [{ uses: ./../x }]\n"), nil, "leads out of the repository"},
		"outside hidden":   {oneJob("    steps: [{ uses: ./a/../../x }]\n"), nil, "leads out of the repository"},
		"local version":    {oneJob("    steps: [{ uses: ./x@v1 }]\n"), nil, "has no version"},
		"action circle":    {oneJob("    steps: [{ uses: ./a }]\n"), map[string]string{"a/action.yml": loop("./b"), "b/action.yml": loop("./a")}, "b/action.yml:3:19: the actions use each other in a circle: a uses b uses a"},
		"action depth":     {oneJob("    steps: [{ uses: ./d0 }]\n"), deep, "deeper than 10 levels"},
		"no main":          {oneJob("    steps: [{ uses: ./a }]\n"), map[string]string{"a/action.yml": "runs: { using: node20, post: x.js }"}, "a/action.yml:1:7: the JavaScript action names no file to run"},
		"no runtime":       {oneJob("    steps: [{ uses: ./a }]\n"), map[string]string{"a/action.yml": "runs: { using: node2O, main: x.js }"}, `a/action.yml:1:16: unknown runtime "node2O" (did you mean "node20"?)`},
		"built action":     {oneJob("    steps: [{ uses: ./a }]\n"), map[string]string{"a/action.yml": "runs: { using: docker, image: Dockerfile }"}, `w.yml:5:21: the action "./a" is built from a Dockerfile`},
		"broken action":    {oneJob("    steps: [{ uses: ./a }]\n"), map[string]string{"a/action.yml": "runs: { using: composite, steps: [{ run: x }] }"}, "a/action.yml:1:35: a \"run\" step of a composite action needs a shell"},
		"secret in action": {oneJob("    steps: [{ uses: ./a }]\n"), map[string]string{"a/action.yml": "runs: { using: composite, steps: [{ run: '${{ secrets.X }}', shell: sh }] }"}, `the context "secrets" is not available in runs.steps`},
		"256 cells":        {oneJob("    strategy: { matrix: { a: [" + strings.Repeat("1,", 16) + "1], b: [" + strings.Repeat("1,", 16) + "1] } }\n" + step), nil, "more than 256 jobs"},
		"10,000 cells":     {oneJob("    strategy: { matrix: { a: [" + strings.Repeat("1,", 200) + "1], b: [" + strings.Repeat("1,", 200) + "1] } }\n" + step), nil, "more than 10000 combinations"},
		"unknown exclude":  {oneJob("    strategy: { matrix: { os: [1], exclude: [{ so: 1 }] } }\n" + step), nil, `matrix.exclude names "so", which is not in the matrix (did you mean "os"?)`},
		"all excluded":     {oneJob("    strategy: { matrix: { os: [1], exclude: [{ os: 1 }] } }\n" + step), nil, "makes no job"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, diags := compileText(t, c.src, Event{Name: "push"}, c.files)
			if p != nil {
				t.Error("there is a plan")
			}
			if !slices.ContainsFunc(diags, func(d sallyport.Diagnostic) bool { return strings.Contains(d.String(), c.want) }) {
				t.Errorf("got %v, want %q", diags, c.want)
			}
		})
	}
}

func TestCompileWarnings(t *testing.T) {
	t.Parallel()
	p, diags := compileText(t, oneJob("    if: ${{ true }} x\n    steps:\n      - uses: ./a\n        with: { whom: me }\n"), Event{Name: "push"}, map[string]string{"a/action.yml": composite})
	if p == nil || len(p.Warnings) != 3 {
		t.Fatalf("got %v", diags)
	}
	got := fmt.Sprint(p.Warnings)
	for _, want := range []string{"always true", `has no input "whom" (did you mean "who"?)`, `requires the input "who"`} {
		if !strings.Contains(got, want) {
			t.Errorf("warnings %s lack %q", got, want)
		}
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	src := `
on:
  workflow_dispatch:
    inputs:
      s: { default: d }
      b: { type: boolean }
      n: { type: number, default: 3 }
      c: { type: choice, options: [x, y], default: y }
      r: { required: true }
jobs:
  a:
    runs-on: x
    strategy: { matrix: { v: ['${{ inputs.s }}'] } }
    steps: [{ run: echo }]
`
	for name, c := range map[string]struct{ given, want, err string }{
		"defaults":      {`{"r":"1"}`, `{"s":"d","b":false,"n":3,"c":"y","r":"1"}`, ""},
		"typed":         {`{"S":"t","b":true,"n":1.5,"c":"x","r":2}`, `{"s":"t","b":true,"n":1.5,"c":"x","r":"2"}`, ""},
		"text":          {`{"b":"true","n":" 7","r":"x"}`, `{"s":"d","b":true,"n":7,"c":"y","r":"x"}`, ""},
		"none":          {``, "", `input "r" is required and was not given`},
		"empty":         {`{"r":""}`, "", `input "r" is required and was empty`},
		"unknown":       {`{"r":"1","q":1}`, "", `has no input "q"`},
		"bad boolean":   {`{"r":"1","b":"yes"}`, "", `"b" must be true or false`},
		"bad number":    {`{"r":"1","n":"many"}`, "", `"n" must be a number`},
		"bad choice":    {`{"r":"1","c":"z"}`, "", `"c" is "z"; there are x, y`},
		"not primitive": {`{"r":[]}`, "", "not an array"},
		"not object":    {`[1]`, "", "not a JSON object"},
		"not JSON":      {`{`, "", "not a JSON object"},
		"huge":          {`{"r":"` + strings.Repeat("x", maxInputBytes) + `"}`, "", "at most 65535"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, diags := compileText(t, src, Event{Name: "workflow_dispatch", Inputs: json.RawMessage(c.given)}, nil)
			if c.err != "" {
				if p != nil || !strings.Contains(printDiagnostics(diags), c.err) {
					t.Errorf("got %v, want %q", diags, c.err)
				}
				return
			}
			if p == nil || string(p.Inputs) != c.want {
				t.Fatalf("got %v %v, want %s", p, diags, c.want)
			}
			if p.Jobs[0].Strategy.Dynamic {
				t.Error("a matrix of inputs is known at plan time")
			}
		})
	}
}

// An action that is not there at the commit may be made by a step: that is said, and refused by the runner alone.
func TestMissingLocalAction(t *testing.T) {
	t.Parallel()
	act := map[string]string{"x/action.yml": "runs: { using: node20, main: x.js }"}
	for name, c := range map[string]struct {
		steps string
		files map[string]string
		key   string
		want  string // path of the action of the workspace; "" = it is found
	}{
		"missing":          {"{ uses: ./x }", nil, "./x", "x"},
		"root":             {"{ uses: ./ }", nil, "./", "."},
		"checkout":         {"{ uses: actions/checkout@v4, with: { path: p } }, { uses: ./p/x }", act, "./p/x", ""},
		"other checkout":   {"{ uses: actions/checkout@v4, with: { path: p, ref: other } }, { uses: ./p/x }", act, "./p/x", "p/x"},
		"later checkout":   {"{ uses: ./p/x }, { uses: actions/checkout@v4, with: { path: p } }", act, "./p/x", "p/x"},
		"checkout outside": {"{ uses: actions/checkout@v4, with: { path: p/../.. } }, { uses: ./y }", act, "./y", "y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, diags := compileRemote(t, "    steps: ["+c.steps+"]\n", c.files, nil)
			if p == nil {
				t.Fatal(diags)
			}
			a := p.Actions[c.key]
			if missing := a.Kind == sallyport.ActionWorkspace; missing != (c.want != "") || missing && a.Path != c.want {
				t.Errorf("%+v", a)
			}
			if c.want != "" && !strings.Contains(fmt.Sprint(p.Warnings), fmt.Sprintf("there is no action.yml or action.yaml in %q at this commit", c.want)) {
				t.Errorf("warnings %v", p.Warnings)
			}
		})
	}
}
