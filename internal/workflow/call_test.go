package workflow

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// callee is a reusable workflow with one job.
func callee(call, rest string) string {
	return "on: { workflow_call: " + call + " }\n" + rest + "jobs: { in: { runs-on: x, steps: [{ run: echo }] } }\n"
}

const calleePath = ".github/workflows/c.yml"

func TestCompileCall(t *testing.T) {
	t.Parallel()
	src := `
on: push
permissions: { contents: write, id-token: write }
jobs:
  first: { runs-on: x, outputs: { o: v }, steps: [{ run: echo }] }
  call:
    needs: first
    if: always()
    strategy: { matrix: { n: [1, 2] } }
    permissions: { contents: read }
    uses: ./.github/workflows/c.yml
    with: { TEXT: '${{ needs.first.outputs.o }}-${{ matrix.n }}', flag: true, count: 2.5 }
    secrets: { token: '${{ secrets.T }}' }
  again:
    uses: $/.github/workflows/c.yml
    secrets: inherit
    with: { text: 7 }
`
	called := `
name: Called
on:
  push:
  workflow_call:
    inputs:
      text: { type: string, required: true }
      flag: { type: boolean, default: false, deprecationMessage: use text }
      count: { type: number, default: 1.50 }
    secrets:
      token: { required: true }
      other:
    outputs:
      result: { value: '${{ jobs.inner.outputs.r }}', description: d }
env: { E: '${{ inputs.text }}' }
defaults: { run: { shell: sh } }
concurrency: { group: g }
permissions: { contents: read }
jobs:
  deep:
    needs: Inner
    uses: ./.github/workflows/d.yaml
  inner:
    runs-on: x
    outputs: { r: '${{ steps.s.outputs.r }}' }
    strategy: { matrix: { a: ['${{ inputs.text }}'], b: [1] } }
    steps: [{ id: s, run: echo }, { uses: ./act }]
  lit:
    runs-on: x
    strategy: { matrix: { b: [1, 2] } }
    steps: [{ run: echo }]
`
	files := map[string]string{
		calleePath:                 called,
		".github/workflows/d.yaml": callee("", "permissions: {}\n"),
		"act/action.yml":           strings.ReplaceAll(composite, "required: true", "required: false"),
	}
	p, diags := compileText(t, src, Event{Name: "push"}, files)
	if p == nil || len(diags) > 0 {
		t.Fatalf("got %s", printDiagnostics(diags))
	}
	call := p.Job("call").Call
	if call.Uses != "./.github/workflows/c.yml" || call.Workflow != (sallyport.PlanFile{Path: calleePath, Digest: sallyport.DigestOf([]byte(called))}) || call.Source != nil {
		t.Errorf("call of %q, %+v, %v", call.Uses, call.Workflow, call.Source)
	}
	if len(call.With.Pairs) != 3 || len(call.Secrets.Pairs) != 1 || call.InheritSecrets || call.Permissions["contents"] != "read" || call.Permissions["id-token"] != "none" {
		t.Errorf("with %v, secrets %v %v, permissions %v", call.With, call.Secrets, call.InheritSecrets, call.Permissions)
	}
	if got, want := fmt.Sprint(call.Inputs), "[{text string true { {0 0}} } {flag boolean false {false {8 39}} use text} {count number false {1.5 {9 39}} }]"; got != want {
		t.Errorf("inputs %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(call.SecretInputs), "[{token  true { {0 0}} } {other  false { {0 0}} }]"; got != want {
		t.Errorf("secrets %s, want %s", got, want)
	}
	if len(call.Outputs) != 1 || call.Outputs[0].Value.Text != "${{ jobs.inner.outputs.r }}" || call.Env.Pairs[0].Key.Text != "E" ||
		call.Defaults.Shell.Text != "sh" || call.Concurrency.Group.Text != "g" {
		t.Errorf("call %+v", call)
	}
	var order []string
	for _, j := range call.Jobs {
		order = append(order, j.Key+fmt.Sprint(j.Needs, j.Strategy.Dynamic, len(j.Strategy.Cells)))
	}
	if got, want := strings.Join(order, " "), "inner[] true 0 lit[] false 2 deep[inner] false 0"; got != want {
		t.Errorf("jobs %s, want %s", got, want)
	}
	deep := call.Jobs[2].Call
	if deep == nil || len(deep.Jobs) != 1 || deep.Permissions["contents"] != "none" {
		t.Errorf("deep %+v", deep)
	}
	if again := p.Job("again").Call; !again.InheritSecrets || !again.Secrets.IsZero() || again.Permissions["contents"] != "read" {
		t.Errorf("again %+v", again)
	}
	var paths []string
	for _, f := range p.Files {
		paths = append(paths, f.Path)
	}
	slices.Sort(paths)
	if got, want := strings.Join(paths, " "), ".github/workflows/c.yml .github/workflows/d.yaml act/action.yml w.yml"; got != want {
		t.Errorf("files %s, want %s", got, want)
	}
}

func TestCompileCallErrors(t *testing.T) {
	t.Parallel()
	job := func(body string) string {
		return "on: push\njobs:\n  a:\n    uses: ./.github/workflows/c.yml\n" + body
	}
	one := func(src string) map[string]string { return map[string]string{calleePath: src} }
	deep := map[string]string{}
	for i := range 12 {
		deep[fmt.Sprintf(".github/workflows/%d.yml", i)] = fmt.Sprintf("on: workflow_call\njobs: { a: { uses: ./.github/workflows/%d.yml } }\n", i+1)
	}
	many := map[string]string{}
	var wide, fan strings.Builder
	wide.WriteString("on: push\njobs:\n")
	fan.WriteString("on: workflow_call\njobs:\n")
	for i := range 60 {
		fmt.Fprintf(&wide, "  j%d: { uses: ./.github/workflows/%d.yml }\n", i, i)
		many[fmt.Sprintf(".github/workflows/%d.yml", i)] = callee("", "")
		fmt.Fprintf(&fan, "  j%d: { uses: ./.github/workflows/x1.yml }\n", i)
	}
	for i := range 8 {
		many[fmt.Sprintf(".github/workflows/x%d.yml", i)] = strings.ReplaceAll(fan.String(), "x1", fmt.Sprintf("x%d", i+1))
	}
	many[".github/workflows/x8.yml"] = callee("", "")
	for name, c := range map[string]struct {
		src   string
		files map[string]string
		want  string
	}{
		"missing":           {job(""), nil, "w.yml:4:11: there is no workflow .github/workflows/c.yml in this repository at this commit"},
		"remote":            {"on: push\njobs: { a: { uses: o/r/.github/workflows/c.yml@v1 } }", nil, "of another repository"},
		"not callable":      {job(""), one("on: push\njobs: { a: { runs-on: x, steps: [{ run: x }] } }"), `w.yml:4:11: the workflow "./.github/workflows/c.yml" cannot be called: add workflow_call`},
		"invalid":           {job(""), one("on: workflow_call\njobs: {}"), ".github/workflows/c.yml:2:7: the workflow has no job"},
		"invalid at":        {job(""), one("on: workflow_call\njobs: {}"), "w.yml:4:11: the workflow .github/workflows/c.yml cannot be called: see the errors in it"},
		"circle":            {job(""), one("on: workflow_call\njobs: { b: { uses: ./.github/workflows/c.yml } }"), ".github/workflows/c.yml:2:20: the workflows call each other in a circle: .github/workflows/c.yml calls .github/workflows/c.yml"},
		"depth":             {strings.ReplaceAll(job(""), "c.yml", "0.yml"), deep, ".github/workflows/8.yml:2:20: workflows call each other deeper than 10 levels"},
		"distinct":          {wide.String(), many, "w.yml:53:16: the workflow calls more than 50 others"},
		"product":           {strings.ReplaceAll(job(""), "c.yml", "x0.yml"), many, "more than 1000 jobs with those of the workflows that it calls"},
		"needs":             {job(""), one("on: workflow_call\njobs: { b: { needs: q, runs-on: x, steps: [{ run: x }] } }"), `.github/workflows/c.yml:2:21: job "b" needs "q"`},
		"no input":          {job("    with:\n      whom: 1\n"), one(callee("{ inputs: { who: { type: string } } }", "")), `w.yml:6:13: the workflow ./.github/workflows/c.yml has no input "whom" (did you mean "who"?)`},
		"required":          {job(""), one(callee("{ inputs: { who: { type: string, required: true } } }", "")), `w.yml:4:11: the workflow requires the input "who"`},
		"boolean":           {job("    with: { f: 'true' }\n"), one(callee("{ inputs: { f: { type: boolean } } }", "")), `w.yml:5:16: the input "f" is a boolean, not "true"`},
		"number":            {job("    with: { n: many }\n"), one(callee("{ inputs: { n: { type: number } } }", "")), `w.yml:5:16: the input "n" is a number, not "many"`},
		"secret":            {job(""), one(callee("{ secrets: { t: { required: true } } }", "")), `w.yml:4:11: the workflow requires the secret "t"`},
		"no secret":         {job("    secrets: { u: x }\n"), one(callee("{ secrets: { t: { required: false } } }", "")), `w.yml:5:19: the workflow ./.github/workflows/c.yml has no secret "u"`},
		"permission":        {job("    permissions: { contents: read }\n"), one(callee("", "permissions: { contents: write, issues: read }\n")), `w.yml:3:3: the workflow "./.github/workflows/c.yml" asks for contents: write, issues: read, and job "a" grants contents: read, issues: none`},
		"permission of job": {job("    permissions: {}\n"), one("on: workflow_call\njobs: { b: { permissions: { id-token: write }, runs-on: x, steps: [{ run: x }] } }"), `w.yml:3:3: job "b" of the workflow "./.github/workflows/c.yml" asks for id-token: write, and job "a" grants id-token: none`},
		"permission above":  {"permissions: read-all\n" + job(""), one(callee("", "permissions: write-all\n")), `w.yml:4:3: the workflow "./.github/workflows/c.yml" asks for actions: write`},
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

// A workflow without permissions leaves it to the called one to say what it
// needs, as GitHub does where the default is permissive.
func TestCompileCallPermissionsUnsaid(t *testing.T) {
	t.Parallel()
	src := "on: push\njobs:\n  a:\n    uses: ./.github/workflows/c.yml\n"
	p, diags := compileText(t, src, Event{Name: "push"}, map[string]string{calleePath: callee("", "permissions: { issues: write }\n")})
	if p == nil || p.Jobs[0].Call.Permissions["issues"] != "write" {
		t.Errorf("got %v %v", p, diags)
	}
}

func TestParseCallRef(t *testing.T) {
	t.Parallel()
	for uses, want := range map[string]string{
		"./.github/workflows/a.yml":         "{ .github/workflows/a.yml }",
		"$/.github/workflows/a.yaml":        "{ .github/workflows/a.yaml }",
		"o/r/.github/workflows/a.yml@v1":    "{o/r .github/workflows/a.yml v1}",
		"o/r/.github/workflows/a.yml@a/b@c": "{o/r .github/workflows/a.yml a/b@c}",
		"":                                  "write ./.github",
		"a.yml":                             "write ./.github",
		".github/workflows/a.yml":           "write ./.github",
		"./.github/workflows/a.yml@v1":      "has no version",
		"o/r/.github/workflows/a.yml":       "needs a version",
		"o/r/.github/workflows/a.yml@":      "needs a version",
		"./a.yml":                           "lie in .github/workflows",
		"./.github/workflows/b/a.yml":       "lie in .github/workflows",
		"./.github/workflows/../../a.yml":   "lie in .github/workflows",
		"o/r/a.yml@v1":                      "lie in .github/workflows",
		"./.github/workflows/a.json":        "ends with .yml",
		"./.github/workflows/a\\..\\b.yml":  "not allowed",
		"../x/.github/workflows/a.yml@v1":   "write ./.github",
	} {
		got := ""
		if r, err := parseCallRef(uses); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprint(r)
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", uses, got, want)
		}
	}
}

func TestCompileCallRemote(t *testing.T) {
	t.Parallel()
	src := "on: push\njobs:\n  a:\n    uses: o/r/.github/workflows/c.yml@v1\n    secrets: inherit\n"
	tree := map[string]string{
		".github/workflows/c.yml": "on: workflow_call\njobs:\n  b: { runs-on: x, steps: [{ uses: $/act }] }\n  c: { uses: ./.github/workflows/d.yml }\n",
		".github/workflows/d.yml": callee("", "permissions: { contents: read }\n"),
		"act/action.yml":          strings.ReplaceAll(composite, "required: true", "required: false"),
	}
	source := sallyport.PlanSource{Repository: "o/r", Ref: "v1", Commit: "c0ffee", Digest: "sha256:0"}
	remote := func(repository, ref string) (*Remote, error) {
		if repository != "o/r" || ref != "v1" {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s@%s is not locked", repository, ref).WithHint("lock it")
		}
		return &Remote{Source: source, ReadFile: readFrom(tree)}, nil
	}
	compile := func(src string) (*sallyport.Plan, []sallyport.Diagnostic) {
		f, diags := Parse("w.yml", []byte(src))
		if hasErrors(diags) {
			t.Fatal(diags)
		}
		return Compile(CompileInput{File: f, Event: Event{Name: "push"}, ReadFile: readFrom(nil), Remote: remote})
	}
	p, diags := compile(src)
	if p == nil {
		t.Fatal(diags)
	}
	call := p.Jobs[0].Call
	if call.Source == nil || *call.Source != source || call.Workflow.Path != ".github/workflows/c.yml" || !call.InheritSecrets || len(p.Files) != 1 {
		t.Errorf("call %+v, files %v", call, p.Files)
	}
	if got := call.Jobs[0].Steps[0].Uses; got != "o/r/act@v1" || p.Actions[got].Source == nil {
		t.Errorf("the step uses %q of %v", got, p.Actions)
	}
	if deep := call.Jobs[1].Call; deep.Source == nil || deep.Workflow.Path != ".github/workflows/d.yml" {
		t.Errorf("deep %+v", deep)
	}
	for change, want := range map[string]string{
		"c.yml@v1 c.yml@v2":   "w.yml:4:11: o/r@v2 is not locked; lock it",
		"c.yml@v1 e.yml@v1":   "w.yml:4:11: there is no workflow o/r/.github/workflows/e.yml@v1",
		"inherit {nobody: x}": "has no secret",
		"c.yml@v1 d.yml@v1":   "",
	} {
		from, to, _ := strings.Cut(change, " ")
		_, diags := compile(strings.Replace(src, from, to, 1))
		if want == "" && len(diags) > 0 || !strings.Contains(fmt.Sprint(diags), want) {
			t.Errorf("%s: got %v, want %q", change, diags, want)
		}
	}
	tree[".github/workflows/d.yml"] = callee("", "permissions: { contents: write }\n")
	want := `o/r/.github/workflows/c.yml@v1:4:3: the workflow "./.github/workflows/d.yml" asks for contents: write, and job "c" grants contents: read`
	if _, diags := compile(src); !strings.Contains(fmt.Sprint(diags), want) {
		t.Errorf("got %v, want %s", diags, want)
	}
}
