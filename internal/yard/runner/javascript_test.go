package runner

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
)

func needNode(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("no node on PATH: install Node.js")
	}
}

// jsAction is an action all of whose parts tell what they see.
func jsAction(name string) map[string]string {
	return map[string]string{
		"action.yml": `name: ` + name + `
inputs:
  who to-greet: { required: true }
  Upper: { default: "d-${{ 1 < 2 }}" }
  empty: {}
  old: { deprecationMessage: use new }
runs: { using: node20, pre: pre.js, main: main.js, post: sub/post.js }
`,
		"pre.js": `const fs = require('fs')
console.log('` + name + ` pre', process.env['INPUT_WHO_TO-GREET'])
fs.appendFileSync(process.env.GITHUB_STATE, 'fromPre=p\n')
`,
		"main.js": `const fs = require('fs')
const e = process.env
console.log('` + name + ` main', e['INPUT_WHO_TO-GREET'], e.INPUT_UPPER, JSON.stringify(e.INPUT_EMPTY), e.STATE_fromPre, e.GITHUB_ACTION, e.GITHUB_ACTION_REPOSITORY, e.GITHUB_ACTION_REF)
console.log('path', e.GITHUB_ACTION_PATH == __dirname, 'cwd', process.cwd() == e.GITHUB_WORKSPACE)
fs.appendFileSync(e.GITHUB_STATE, 'multi<<X\na\nb\nX\n')
console.log('::save-state name=cmd::c')
fs.appendFileSync(e.GITHUB_OUTPUT, 'out=` + name + `-out\n')
fs.appendFileSync(e.GITHUB_ENV, 'FROM_` + strings.ToUpper(name) + `=yes\n')
if (e.INPUT_UPPER == 'fail') { process.exit(3) }
`,
		"sub/post.js": `const e = process.env
console.log('` + name + ` post', e.STATE_fromPre, JSON.stringify(e.STATE_multi), e.STATE_cmd, e.GITHUB_ACTION, e['INPUT_WHO_TO-GREET'])
`,
	}
}

var jsLine = regexp.MustCompile(`(?m)^(?:[a-z]+ (?:pre|main|post) .*|path .*|script .*)$`)

// The parts of actions run in GitHub's order: all that come before the first step
// in the order of the steps, all that come after the last one in reverse.
func TestJavaScriptOrder(t *testing.T) {
	t.Parallel()
	needNode(t)
	e := trial{
		yaml: steps(`
- id: first
  uses: acme/one@v1
  with: { who to-greet: 'w ${{ github.actor }}', OLD: x }
- run: echo "script ${{ steps.first.outputs.out }} $FROM_ONE [$STATE_multi]"
- uses: acme/two@b/ranch
  with: { WHO TO-GREET: t, upper: u }
`),
		remotes: map[string]map[string]string{"acme/one@v1": jsAction("one"), "acme/two@b/ranch": jsAction("two")},
	}.try(t)
	want := `one pre w mona
two pre t
one main w mona d-true "" p first acme/one v1
path true cwd true
script one-out yes []
two main t u "" p __acme_two acme/two b/ranch
path true cwd true
two post p "a\nb" c __acme_two t
one post p "a\nb" c first w mona`
	if got := strings.Join(jsLine.FindAllString(e.text(), -1), "\n"); got != want || e.Conclusion != sallyport.Success {
		t.Errorf("%s, got\n%s\nwant\n%s\nlog:\n%s", e.Conclusion, got, want, e.all())
	}
	var names []string
	for i, s := range e.Steps {
		if s.Number != i+1 || s.Conclusion != sallyport.Success {
			t.Errorf("step %+v", s)
		}
		names = append(names, s.Name)
	}
	if got, want := strings.Join(names, ", "), `Pre Run acme/one@v1, Pre Run acme/two@b/ranch, Run acme/one@v1, Run echo "script one-out $FROM_ONE [$STATE_multi]", Run acme/two@b/ranch, Post Run acme/two@b/ranch, Post Run acme/one@v1`; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
	if !strings.Contains(e.all(), "The input old is deprecated: use new") || !strings.Contains(e.all(), "node20 runs on Node.js ") {
		t.Errorf("log:\n%s", e.all())
	}
}

func TestJavaScriptConditions(t *testing.T) {
	t.Parallel()
	needNode(t)
	action := func(more string) map[string]string {
		return map[string]string{
			"action.yml": "name: a\nruns: { using: node24, pre: p.js, main: m.js, post: q.js" + more + " }",
			"p.js":       "console.log('a pre', process.env.INPUT_X); if (process.env.INPUT_FAIL == 'pre') process.exit(1)",
			"m.js":       "console.log('a main'); if (process.env.INPUT_FAIL == 'main') process.exit(1)",
			"q.js":       "console.log('a post'); if (process.env.INPUT_FAIL == 'post') process.exit(1)",
		}
	}
	for name, c := range map[string]struct {
		with, more, then string
		want             string
		ends             sallyport.Conclusion
	}{
		"skipped step":    {"if: false", "", "", "a pre undefined/a post ", sallyport.Success},
		"no pre":          {"if: true", ", pre-if: 'false'", "", "a main/a post ", sallyport.Success},
		"nothing started": {"if: false", ", pre-if: 'failure()'", "", "", sallyport.Success},
		"failed":          {"with: { fail: main }", ", post-if: success()", "", "a pre undefined/a main", sallyport.Failure},
		"after failure":   {"with: { fail: main }", ", post-if: failure()", "", "a pre undefined/a main/a post ", sallyport.Failure},
		"later failure":   {"if: true", ", post-if: failure()", "- run: exit 1", "a pre undefined/a main/a post ", sallyport.Failure},
		"pre fails":       {"with: { fail: pre }", "", "- run: echo 'script not reached'", "a pre undefined/a post ", sallyport.Failure},
		"post fails":      {"with: { fail: post }", "", "", "a pre undefined/a main/a post ", sallyport.Failure},
		"tolerated":       {"continue-on-error: true\n  with: { fail: post }", "", "", "a pre undefined/a main/a post ", sallyport.Success},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := trial{
				yaml:    steps("- uses: acme/a@v1\n  " + c.with + "\n" + c.then),
				remotes: map[string]map[string]string{"acme/a@v1": action(c.more)},
			}.try(t)
			got := strings.Join(regexp.MustCompile(`(?m)^(?:a (?:pre|main|post)|script).*$`).FindAllString(e.text(), -1), "/")
			if strings.TrimRight(got, " ") != strings.TrimRight(c.want, " ") || e.Conclusion != c.ends {
				t.Errorf("%s %s, want %s %s; log:\n%s", e.Conclusion, got, c.ends, c.want, e.all())
			}
		})
	}
}

// Within composite actions the parts of JavaScript actions run as GitHub runs
// them: before the steps those of remote ones alone, after the steps all.
func TestJavaScriptInComposite(t *testing.T) {
	t.Parallel()
	needNode(t)
	e := trial{
		yaml: steps(`
- uses: acme/outer@v1
  with: { name: n }
- uses: ./local
`),
		files: map[string]string{
			"local/action.yml": "runs:\n  using: composite\n  steps: [{ uses: acme/one@v1, with: { who to-greet: local } }]\n",
		},
		remotes: map[string]map[string]string{
			"acme/one@v1": jsAction("one"),
			"acme/outer@v1": {
				"action.yml": `inputs: { name: {} }
runs:
  using: composite
  steps:
    - uses: $/inner
      with: { name: "${{ inputs.name }}-${{ github.action_ref }}" }
    - run: echo "script $(basename "$GITHUB_ACTION_PATH") $(cat "${{ github.action_path }}/file")"
      shell: bash
    - uses: acme/one@v1
      with: { who to-greet: last }
`,
				"inner/action.yml": "inputs: { name: {} }\nruns:\n  using: composite\n  steps: [{ uses: acme/one@v1, with: { who to-greet: '${{ inputs.name }}' } }]\n",
				"file":             "content",
			},
		},
	}.try(t)
	want := `one pre n-v1
one pre last
one main n-v1 d-true "" p __acme_one acme/one v1
script v1 content
one main last d-true "" p __acme_one acme/one v1
one main local d-true "" undefined __acme_one acme/one v1
one post undefined "a\nb" c __acme_one local
one post p "a\nb" c __acme_one last
one post p "a\nb" c __acme_one n-v1`
	got := regexp.MustCompile(`(?m)^path .*\n`).ReplaceAllString(strings.Join(jsLine.FindAllString(e.text(), -1), "\n")+"\n", "")
	if strings.TrimSpace(got) != want || e.Conclusion != sallyport.Success {
		t.Errorf("%s, got\n%s\nwant\n%s\nlog:\n%s", e.Conclusion, got, want, e.all())
	}
}

// An action of the repository runs from the workspace, as the steps before left it.
func TestLocalJavaScript(t *testing.T) {
	t.Parallel()
	needNode(t)
	local := jsAction("one")
	files := map[string]string{"act/action.yml": local["action.yml"]}
	write := "- run: |\n    mkdir -p act/sub\n    cat > act/main.js <<'E'\n" + indent(local["main.js"], 4) + "    E\n    cat > act/sub/post.js <<'E'\n" + indent(local["sub/post.js"], 4) + "    E\n"
	e := trial{yaml: steps(write + "- uses: ./act\n  with: { who to-greet: x }\n"), files: files}.try(t)
	got := strings.Join(jsLine.FindAllString(e.text(), -1), "\n")
	want := "one main x d-true \"\" undefined __self undefined undefined\npath true cwd true\none post undefined \"a\\nb\" c __self x"
	if got != want || e.Conclusion != sallyport.Success || !strings.Contains(e.all(), "(pre) does not run") {
		t.Errorf("%s, got\n%s\nwant\n%s\nlog:\n%s", e.Conclusion, got, want, e.all())
	}

	e = trial{yaml: steps("- uses: ./act\n"), files: files}.try(t)
	if e.Conclusion != sallyport.Failure || !strings.Contains(e.all(), "There is no act/main.js in the workspace.") || !strings.Contains(e.all(), "actions/checkout") {
		t.Errorf("%s; log:\n%s", e.Conclusion, e.all())
	}
}

// Node.js comes from the tool cache in the version that was asked for, else from
// the host; without one the step fails and says so.
func TestNodeChoice(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	for _, dir := range []string{"20.1.0", "20.19.0", "24.0.0", "20.99.0"} {
		full := filepath.Join(cache, "node", dir, tools.Arch())
		if err := os.MkdirAll(filepath.Join(full, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(full, "bin", "node"), nil, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir != "20.99.0" { // it was interrupted
			if err := os.WriteFile(full+".complete", nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, ok := cachedNode(cache, "20"); !ok || n.version != (version{20, 19, 0}) || n.path != filepath.Join(cache, "node", "20.19.0", tools.Arch(), "bin", "node") {
		t.Errorf("%+v %v", n, ok)
	}
	if n, ok := cachedNode(cache, "22"); ok {
		t.Errorf("%+v", n)
	}
	e := trial{
		yaml:    steps("- uses: acme/a@v1\n"),
		remotes: map[string]map[string]string{"acme/a@v1": {"action.yml": "runs: { using: node20, main: m.js }", "m.js": ""}},
		config:  func(c *Config) { c.Path = t.TempDir() },
	}.try(t)
	if e.Conclusion != sallyport.Failure || !strings.Contains(e.all(), "The action runs on node20, and this host has no Node.js") {
		t.Errorf("%s; log:\n%s", e.Conclusion, e.all())
	}
}
