package workflow

import (
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// remotes is a lock with the trees that it names, by owner/name@ref.
type remotes map[string]map[string]string

func (r remotes) remote(repository, ref string) (*Remote, error) {
	files, ok := r[repository+"@"+ref]
	if !ok {
		return nil, sallyport.Errorf(sallyport.CodeDenied, "%s@%s is not locked", repository, ref).WithHint("lock it")
	}
	return &Remote{
		Source: sallyport.PlanSource{Repository: repository, Ref: ref, Commit: strings.Repeat("a", 40), Digest: sallyport.DigestOf([]byte(repository))},
		ReadFile: func(path string) ([]byte, error) {
			if text, ok := files[path]; ok {
				return []byte(text), nil
			}
			return nil, sallyport.Errorf(sallyport.CodeNotFound, "no %s", path)
		},
	}, nil
}

func compileRemote(t *testing.T, steps string, files map[string]string, r remotes) (*sallyport.Plan, string) {
	t.Helper()
	f, diags := Parse("w.yml", []byte(oneJob(steps)))
	if hasErrors(diags) {
		t.Fatal(diags)
	}
	p, diags := Compile(CompileInput{File: f, Event: Event{Name: "push"}, Remote: r.remote, ReadFile: func(path string) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "no %s", path)
	}})
	var b strings.Builder
	for _, d := range diags {
		b.WriteString(d.String() + "\n")
	}
	return p, b.String()
}

// A plan holds every action that its steps come to, each under a name that
// means the same everywhere.
func TestRemoteActions(t *testing.T) {
	t.Parallel()
	p, diags := compileRemote(t, "    steps: [{ uses: acme/tools/outer@v1 }, { uses: acme/js@main }]\n",
		map[string]string{"mine/action.yml": "name: mine\nruns: { using: composite, steps: [{ run: x, shell: sh }] }"},
		remotes{
			"acme/tools@v1": {
				"outer/action.yaml": "name: outer\nruns:\n  using: composite\n  steps:\n    - uses: $/inner\n    - uses: $/\n    - uses: ./mine\n    - uses: acme/js@main\n    - uses: actions/checkout@v4\n",
				"inner/action.yml":  "name: inner\nruns: { using: composite, steps: [{ run: x, shell: sh }] }",
				"action.yml":        "name: top\nruns: { using: composite, steps: [{ run: x, shell: sh }] }",
			},
			"acme/js@main": {"action.yml": "name: js\ninputs: { old: { deprecationMessage: use new } }\nruns: { using: node24, pre: a.js, pre-if: 'true', main: ../b.js, post: c.js, post-if: failure() }"},
		})
	if p == nil {
		t.Fatal(diags)
	}
	outer := p.Actions["acme/tools/outer@v1"]
	var uses []string
	for _, s := range outer.Steps {
		uses = append(uses, s.Uses)
	}
	if got, want := strings.Join(uses, " "), "acme/tools/inner@v1 acme/tools@v1 ./mine acme/js@main actions/checkout@v4"; got != want {
		t.Errorf("steps use %s, want %s", got, want)
	}
	if outer.Source == nil || outer.Source.Repository != "acme/tools" || outer.Path != "outer" {
		t.Errorf("outer %+v", outer)
	}
	if mine := p.Actions["./mine"]; mine.Source != nil || mine.Path != "mine" || mine.Name != "mine" {
		t.Errorf("mine %+v", mine)
	}
	if top := p.Actions["acme/tools@v1"]; top.Path != "." || top.Name != "top" {
		t.Errorf("top %+v", top)
	}
	js := p.Actions["acme/js@main"]
	if js.Kind != sallyport.ActionNode || js.Using != "node24" || js.Pre != "a.js" || js.PreIf != "true" || js.Main != "../b.js" ||
		js.Post != "c.js" || js.PostIf != "failure()" || js.Inputs[0].Deprecated != "use new" {
		t.Errorf("js %+v", js)
	}
	// What was read of others is named by their trees, not as files of this repository.
	if len(p.Files) != 2 || p.Files[1].Path != "mine/action.yml" {
		t.Errorf("files %v", p.Files)
	}
}

func TestRemoteActionErrors(t *testing.T) {
	t.Parallel()
	composite := func(uses string) string {
		return "runs: { using: composite, steps: [{ uses: '" + uses + "' }] }"
	}
	deep := remotes{}
	for i := range 12 {
		deep["a/d"+string(rune('a'+i))+"@v1"] = map[string]string{"action.yml": composite("a/d" + string(rune('b'+i)) + "@v1")}
	}
	for name, c := range map[string]struct {
		uses    string
		remotes remotes
		want    string
	}{
		"not locked":    {"a/b@v1", nil, "w.yml:5:21: a/b@v1 is not locked; lock it"},
		"nested":        {"a/b/c@v1", remotes{"a/b@v1": {"c/action.yml": composite("x/y@v1")}}, "a/b/c/action.yml@v1:1:43: x/y@v1 is not locked; lock it"},
		"no such path":  {"a/b/c@v1", remotes{"a/b@v1": {}}, `w.yml:5:21: there is no action.yml or action.yaml in "a/b/c@v1"`},
		"nested self":   {"a/b@v1", remotes{"a/b@v1": {"action.yml": composite("$/c")}}, `there is no action.yml or action.yaml in "a/b/c@v1"`},
		"self outside":  {"a/b@v1", remotes{"a/b@v1": {"action.yml": composite("$/../../c")}}, "leads out of the repository"},
		"circle":        {"a/b@v1", remotes{"a/b@v1": {"action.yml": composite("c/d@v1")}, "c/d@v1": {"action.yml": composite("a/b@v1")}}, "in a circle: a/b@v1 uses c/d@v1 uses a/b@v1"},
		"itself":        {"a/b@v1", remotes{"a/b@v1": {"action.yml": composite("$/")}}, "in a circle: a/b@v1 uses a/b@v1"},
		"too deep":      {"a/da@v1", deep, "nested deeper than 10 levels"},
		"broken":        {"a/b@v1", remotes{"a/b@v1": {"action.yml": "runs: { using: node20 }"}}, "a/b/action.yml@v1:1:7: the JavaScript action names no file"},
		"dockerfile":    {"a/b@v1", remotes{"a/b@v1": {"action.yml": "runs: { using: docker, image: Dockerfile }"}}, `w.yml:5:21: the action "a/b@v1" is built from a Dockerfile`},
		"path outside":  {"a/b/../c@v1", nil, "its path leads elsewhere"},
		"name outside":  {"../b@v1", nil, "does not begin with OWNER/REPOSITORY"},
		"option as ref": {"a/b@--upload-pack=x", nil, "what follows the @ is not a ref"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, diags := compileRemote(t, "    steps: [{ uses: '"+c.uses+"' }]\n", nil, c.remotes)
			if p != nil || !strings.Contains(diags, c.want) {
				t.Errorf("got %s, want %q", diags, c.want)
			}
		})
	}
}

// A workflow of another repository is what the lock says. What it names without a
// repository is beside it, but for actions of the workspace.
func TestRemoteCalls(t *testing.T) {
	t.Parallel()
	called := "on: workflow_call\njobs:\n  a: { uses: ./.github/workflows/inner.yml }\n"
	inner := "on: workflow_call\njobs:\n  b: { runs-on: x, steps: [{ uses: ./mine }, { uses: $/theirs }] }\n"
	action := "name: a\nruns: { using: composite, steps: [{ run: x, shell: sh }] }"
	compile := func(uses string, r remotes) (*sallyport.Plan, string) {
		f, diags := Parse("w.yml", []byte("on: push\njobs: { j: { uses: '"+uses+"' } }"))
		if hasErrors(diags) {
			t.Fatal(diags)
		}
		p, diags := Compile(CompileInput{File: f, Event: Event{Name: "push"}, Remote: r.remote, ReadFile: func(path string) ([]byte, error) {
			if path == "mine/action.yml" {
				return []byte(action), nil
			}
			return nil, sallyport.Errorf(sallyport.CodeNotFound, "no %s", path)
		}})
		var b strings.Builder
		for _, d := range diags {
			b.WriteString(d.String() + "\n")
		}
		return p, b.String()
	}
	p, diags := compile("o/r/.github/workflows/c.yml@v1", remotes{"o/r@v1": {".github/workflows/c.yml": called, ".github/workflows/inner.yml": inner, "theirs/action.yml": action}})
	if p == nil {
		t.Fatal(diags)
	}
	c := p.Jobs[0].Call
	in := c.Jobs[0].Call
	if c.Source == nil || c.Source.Repository != "o/r" || c.Workflow.Path != ".github/workflows/c.yml" || in.Source == nil || in.Workflow.Path != ".github/workflows/inner.yml" {
		t.Fatalf("%+v, %+v", c, in)
	}
	if s := in.Jobs[0].Steps; s[0].Uses != "./mine" || s[1].Uses != "o/r/theirs@v1" || p.Actions["./mine"].Source != nil || p.Actions["o/r/theirs@v1"].Source == nil {
		t.Errorf("steps %+v, actions %+v", s, p.Actions)
	}
	if len(p.Files) != 2 {
		t.Errorf("files %v", p.Files)
	}
	for name, c := range map[string]struct {
		remotes remotes
		want    string
	}{
		"not locked": {nil, "w.yml:2:20: o/r@v1 is not locked; lock it"},
		"no file":    {remotes{"o/r@v1": {}}, "w.yml:2:20: there is no workflow o/r/.github/workflows/c.yml@v1"},
		"inner":      {remotes{"o/r@v1": {".github/workflows/c.yml": called}}, "o/r/.github/workflows/c.yml@v1:3:14: there is no workflow o/r/.github/workflows/inner.yml@v1"},
		"circle":     {remotes{"o/r@v1": {".github/workflows/c.yml": strings.ReplaceAll(called, "inner", "c")}}, "call each other in a circle"},
	} {
		if p, diags := compile("o/r/.github/workflows/c.yml@v1", c.remotes); p != nil || !strings.Contains(diags, c.want) {
			t.Errorf("%s: got %s, want %q", name, diags, c.want)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"a/b@v1", "a/b/c/d@refs/x", "a/b@", "A.b/c_d-e@1.0.0+x", "a/b//c@v", "../b@v", "a/b@@c/d@1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q: %+v, %+v (%v)", s, r, again, err)
		}
		for _, part := range strings.Split(r.Repository+"/"+r.Path+"/"+r.Ref, "/") {
			if part == ".." || strings.ContainsAny(part, "\x00\n") {
				t.Errorf("%q: part %q", s, part)
			}
		}
	})
}
