package runner

import (
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// TestSteps runs small jobs and looks at their conclusion and output.
func TestSteps(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name     string
		yaml     string // steps, or a whole workflow when it begins with "on:"
		secrets  map[string]string
		github   map[string]any
		contexts map[string]string
		want     sallyport.Conclusion
		outcomes string   // outcome/conclusion of each step, if not ""
		text     string   // the whole output, if not ""
		has      []string // in the whole log
		hasNot   []string
		outputs  map[string]string
		tainted  string
	}{
		{name: "success", yaml: `- run: echo hi`, want: sallyport.Success, text: "hi\n", outcomes: "success"},
		{name: "failure stops the rest", yaml: "- run: exit 3\n- run: echo no\n- if: failure()\n  run: echo failed\n- if: always()\n  run: echo always",
			want: sallyport.Failure, text: "failed\nalways\n", outcomes: "failure skipped success success", has: []string{"1 error|Process completed with exit code 3."}},
		{name: "errexit by default", yaml: "- run: |\n    false\n    echo no", want: sallyport.Failure, hasNot: []string{"1 |no"}},
		{name: "no pipefail by default", yaml: "- run: |\n    false | cat\n    echo yes", want: sallyport.Success, text: "yes\n"},
		{name: "bash has pipefail", yaml: "- shell: bash\n  run: |\n    false | cat\n    echo no", want: sallyport.Failure, has: []string{"shell: bash --noprofile --norc -e -o pipefail {0}"}},
		{name: "sh", yaml: "- shell: sh\n  run: echo $0 | grep -c 'sh$'", want: sallyport.Success, text: "1\n"},
		{name: "python", yaml: "- shell: python\n  run: |\n    import sys\n    print(1+1)\n    print('err', file=sys.stderr)", want: sallyport.Success, has: []string{"1 |2", "1 |err", "shell: python {0}"}},
		{name: "custom shell", yaml: "- shell: env X=y \"bash\" -e {0}\n  run: echo $X", want: sallyport.Success, text: "y\n"},
		{name: "unknown shell", yaml: "- shell: cmd\n  run: echo", want: sallyport.Failure, has: []string{"not a shell of this runner"}},
		{name: "shell that is not there", yaml: "- shell: no-such-shell {0}\n  run: echo", want: sallyport.Failure, has: []string{"no-such-shell"}},
		{name: "continue-on-error", yaml: "- id: a\n  run: exit 1\n  continue-on-error: true\n- run: echo ${{ steps.a.outcome }} ${{ steps.a.conclusion }} ${{ job.status }}",
			want: sallyport.Success, text: "failure success success\n", outcomes: "failure/success success"},
		{name: "skipped in the steps context", yaml: "- id: a\n  if: false\n  run: echo\n- run: echo [${{ steps.a.outcome }}]", want: sallyport.Success, text: "[skipped]\n"},
		{name: "condition by output", yaml: "- id: a\n  run: echo x=1 >> $GITHUB_OUTPUT\n- if: steps.a.outputs.x == '1'\n  run: echo yes\n- if: ${{ steps.a.outputs.x == '2' }}\n  run: echo no",
			want: sallyport.Success, text: "yes\n"},
		{name: "condition that is wrong", yaml: "- if: fromJSON('{')\n  run: echo no", want: sallyport.Failure, hasNot: []string{"|no"}},
		{name: "output heredoc", yaml: "- id: a\n  run: |\n    { echo 'x<<E'; echo one; echo two; echo E; } >> \"$GITHUB_OUTPUT\"\n- env: { X: '${{ steps.a.outputs.x }}' }\n  run: echo \"$X\"",
			want: sallyport.Success, text: "one\ntwo\n"},
		{name: "malformed output file", yaml: "- run: echo nonsense >> $GITHUB_OUTPUT", want: sallyport.Failure, has: []string{"GITHUB_OUTPUT"}},
		{name: "old set-output", yaml: "- id: a\n  run: echo '::set-output name=x::1%0A2'\n- env: { X: '${{ steps.a.outputs.x }}' }\n  run: echo \"$X\"", want: sallyport.Success, text: "1\n2\n", has: []string{"deprecated"}},
		{name: "env precedence", yaml: `
on: push
env: { A: workflow, B: workflow, C: workflow, D: workflow }
jobs:
  test:
    runs-on: x
    env: { B: job, C: job, D: job }
    steps:
      - run: |
          echo C=file >> $GITHUB_ENV
          echo D=file >> $GITHUB_ENV
      - env: { D: step, E: "${{ env.C }}" }
        run: echo $A $B $C $D $E ${{ env.A }} ${{ env.D }}
`, want: sallyport.Success, text: "workflow job file step file workflow step\n"},
		{name: "step env in its condition", yaml: "- env: { X: y }\n  if: env.X == 'y'\n  run: echo yes", want: sallyport.Success, text: "yes\n"},
		{name: "default variables", yaml: `
- env: { GITHUB_SHA: mine, CI: mine }
  run: |
    echo $CI $GITHUB_ACTIONS $GITHUB_REPOSITORY $GITHUB_REF_NAME $GITHUB_JOB $RUNNER_OS $GITHUB_EVENT_NAME
    [ "$GITHUB_SHA" != mine ] && [ "$PWD" = "$GITHUB_WORKSPACE" ] && [ -d "$RUNNER_TEMP" ] && [ -d "$HOME" ] && echo fine
    cat $GITHUB_EVENT_PATH
    echo
    case $GITHUB_WORKSPACE in */work/hello/hello) echo "${{ github.workspace == '' }} ${{ runner.os }}";; esac
`, want: sallyport.Success, text: "mine true octo/hello main test Linux push\nfine\n{}\nfalse Linux\n"},
		{name: "PATH", yaml: "- run: |\n    mkdir -p a b\n    echo 'echo from a' > a/tool; echo 'echo from b' > b/tool; chmod +x */tool\n    echo $PWD/a >> $GITHUB_PATH; echo $PWD/b >> $GITHUB_PATH\n- run: tool",
			want: sallyport.Success, text: "from b\n"},
		{name: "dangerous names in GITHUB_ENV", yaml: "- run: |\n    echo NODE_OPTIONS=x >> $GITHUB_ENV\n    echo GOOD=1 >> $GITHUB_ENV\n    echo LD_PRELOAD=x >> $GITHUB_ENV\n- if: always()\n  run: echo [$NODE_OPTIONS$LD_PRELOAD] $GOOD",
			want: sallyport.Failure, text: "[] 1\n", has: []string{`"NODE_OPTIONS" must not be set`, `"LD_PRELOAD"`}},
		{name: "default variables in GITHUB_ENV", yaml: "- id: a\n  run: echo GITHUB_SHA=x >> $GITHUB_ENV; echo RUNNER_TEMP=/x >> $GITHUB_ENV; echo GITHUB_ENV=/x >> $GITHUB_ENV; echo GITHUB_PR_NUMBER=7 >> $GITHUB_ENV; echo RUNNER_LABEL=big >> $GITHUB_ENV\n- run: test $GITHUB_SHA != x -a -d $RUNNER_TEMP -a -f $GITHUB_ENV; echo ${{ steps.a.outcome }} $GITHUB_PR_NUMBER ${{ env.RUNNER_LABEL }}",
			want: sallyport.Success, text: "success 7 big\n", has: []string{"warning|The runner sets GITHUB_SHA itself", "RUNNER_TEMP itself", "GITHUB_ENV itself"}},
		{name: "set-env and add-path are disabled", yaml: "- run: echo '::set-env name=X::1'\n- if: always()\n  run: echo '::add-path::/x'", want: sallyport.Failure, outcomes: "failure failure",
			has: []string{"write name=value to $GITHUB_ENV", "write the directory to $GITHUB_PATH"}},
		{name: "working directory", yaml: `
on: push
defaults: { run: { working-directory: a, shell: sh } }
jobs:
  test:
    runs-on: x
    defaults: { run: { working-directory: b } }
    steps:
      - { run: "mkdir b c", working-directory: . }
      - run: basename $PWD
      - { run: basename $PWD, working-directory: c }
`, want: sallyport.Success, text: "b\nc\n", has: []string{"shell: sh -e {0}"}},
		{name: "working directory that is not there", yaml: "- working-directory: nowhere\n  run: echo", want: sallyport.Failure},
		{name: "step timeout", yaml: "- timeout-minutes: 0.005\n  run: sleep 60\n- if: failure()\n  run: echo then", want: sallyport.Failure, text: "then\n", has: []string{"timed out"}},
		{name: "carriage return in a value", yaml: "- run: printf %s \"${{ matrix.x }}\" | od -An -c | tr -s ' '", contexts: map[string]string{"matrix": `{"x":"a\rb"}`}, want: sallyport.Success, text: " a \\r b\n"},
		{name: "the name of the step", yaml: "- run: echo $GITHUB_ACTION ${{ github.action }}\n- { id: x, run: echo $GITHUB_ACTION }\n- run: echo $GITHUB_ACTION ${{ github.action }}", want: sallyport.Success, text: "__run __run\nx\n__run_2 __run_2\n"},
		{name: "command files in the github context", yaml: "- run: |\n    test ${{ github.output }} = $GITHUB_OUTPUT && test ${{ github.env }} = $GITHUB_ENV && test ${{ github.path }} = $GITHUB_PATH\n    test ${{ github.step_summary }} = $GITHUB_STEP_SUMMARY && test ${{ github.state }} = $GITHUB_STATE", want: sallyport.Success},
		{name: "script with windows line ends", yaml: "- run: \"echo a\\r\\necho b\\r\\n\"", want: sallyport.Success, text: "a\nb\n"},
		{name: "job outputs", yaml: `
on: push
jobs:
  test:
    runs-on: x
    outputs: { a: "${{ steps.s.outputs.a }}", b: "${{ steps.s.outputs.b }}", c: "${{ github.head_ref }}" }
    steps:
      - { id: s, run: "echo a=1 >> $GITHUB_OUTPUT; echo b=$SECRET >> $GITHUB_OUTPUT", env: { SECRET: "${{ secrets.S }}" } }
`, secrets: map[string]string{"S": "hunter2-hunter2"}, github: map[string]any{"head_ref": "evil"}, want: sallyport.Success,
			outputs: map[string]string{"a": "1", "c": "evil"}, tainted: "c", has: []string{`"b" is left out`}},
		{name: "secrets are masked", yaml: "- env: { S: '${{ secrets.S }}' }\n  run: |\n    echo $S; echo -n $S | base64; printf %s \"$S\" | od -An -tx1 | tr -d ' \\n'; echo; echo ${S:0:8}; echo ${S:8}",
			secrets: map[string]string{"S": "s3cr3t-value-1"}, want: sallyport.Success, text: "***\n***\n***\ns3cr3t-v\nalue-1\n", hasNot: []string{"s3cr3t-value-1"}},
		{name: "short secret", yaml: "- run: echo abc", secrets: map[string]string{"S": "abc"}, want: sallyport.Success, text: "abc\n", has: []string{"too short to be masked"}},
		{name: "add-mask", yaml: "- run: |\n    echo 'before hush-hush'\n    echo '::add-mask::hush-hush'\n    echo 'after hush-hush'\n- run: echo hush-hush", want: sallyport.Success,
			text: "before hush-hush\nafter ***\n***\n"},
		{name: "secret hidden by colours", yaml: "- run: printf 's3cr3t\\033[1m-val\\033[0mue-1\\n'", secrets: map[string]string{"S": "s3cr3t-value-1"}, want: sallyport.Success, text: "***\n"},
		{name: "commands", yaml: `
- run: |
    echo '::group::the group'
    echo inside
    echo '::endgroup::'
    echo '::debug::a detail'
    echo '::error file=a.go,line=3,col=4,title=T::bad%0Athing'
    echo '::warning::careful'
    echo '  ::notice::indented'
    echo '::unknown::stays'
    echo ':: not a command'
    echo '##[group]old'
    printf '::notice::no line end'
`, want: sallyport.Success, text: "inside\n::unknown::stays\n:: not a command\n",
			has: []string{"1 group|the group", "1 endgroup|", "1 debug|a detail", "1 error|bad\n1 error|thing", "1 warning|careful", "1 notice|indented", "1 group|old", "1 notice|no line end"}},
		{name: "stop-commands", yaml: "- run: |\n    echo '::stop-commands::Tok3n'\n    echo '::error::x'\n    echo '::Tok3n::'\n    echo '::warning::y'", want: sallyport.Success,
			text: "::error::x\n", has: []string{"1 warning|y"}, hasNot: []string{"1 error"}},
		{name: "echo", yaml: "- run: |\n    echo '::echo::on'\n    echo '::debug::x'\n    echo '::echo::off'\n    echo '::debug::y'\n    echo '::group::z'", want: sallyport.Success, text: "::echo::off\n", has: []string{"1 debug|x"}},
		{name: "echo shows the line as it was written", yaml: "- run: |\n    echo '::echo::on'\n    echo '::set-output name=a::b%25'\n    echo '::notice file=x::n'", want: sallyport.Success, text: "::set-output name=a::b%25\n"},
		{name: "tainted value without special characters", yaml: "- run: echo ${{ github.head_ref }}", github: map[string]any{"head_ref": "fix/1.2_x-y"}, want: sallyport.Success, text: "fix/1.2_x-y\n"},
		{name: "tainted value that could run is passed by environment", yaml: "- run: |\n    echo ${{ github.head_ref }}\n    echo \"a ${{ github.head_ref }} b\"\n    echo '${{ github.head_ref }}' ${{ vars.V }}",
			github: map[string]any{"head_ref": "$(id) 'x' `id`"}, want: sallyport.Success, text: "$(id) 'x' `id`\na $(id) 'x' `id` b\n$(id) 'x' `id` var\n",
			has: []string{"1 command|echo ${SALLYPORT_EXPR_1}", "SALLYPORT_EXPR_1: $(id)"}, hasNot: []string{"uid=", "SALLYPORT_EXPR_2"}},
		{name: "variable of a passed value has a name of its own", yaml: "- env: { SALLYPORT_EXPR_1: mine }\n  run: echo $SALLYPORT_EXPR_1 \"${{ github.head_ref }}\"", github: map[string]any{"head_ref": "a b"},
			want: sallyport.Success, text: "mine a b\n"},
		{name: "trusted value decides how a tainted one is quoted", yaml: "- run: echo ${{ vars.V == 'var' && '\"' }}${{ github.head_ref }}${{ vars.V == 'var' && '\"' }}", github: map[string]any{"head_ref": "a  b"},
			want: sallyport.Success, text: "a  b\n"},
		{name: "tainted value that names the command", yaml: "- run: ${{ github.head_ref }}", github: map[string]any{"head_ref": "$(id)"}, want: sallyport.Failure,
			has: []string{"Refused: ${{ github.head_ref }}", "part of a command's name", `"$VALUE"`}, hasNot: []string{"uid="}},
		{name: "tainted value that is evaluated", yaml: "- run: bash -c 'echo ${{ github.head_ref }}'", github: map[string]any{"head_ref": "$(id)"}, want: sallyport.Failure,
			has: []string{"Refused: ${{ github.head_ref }}"}, hasNot: []string{"uid="}},
		{name: "tainted value that adds options", yaml: "- run: ls ${{ github.event.pull_request.title }}", github: map[string]any{"event": map[string]any{"pull_request": map[string]any{"title": "x --color=always"}}},
			want: sallyport.Failure, has: []string{"one of them is an option"}},
		{name: "tainted value in Python", yaml: "- shell: python\n  run: print('${{ github.head_ref }}')", github: map[string]any{"head_ref": "'+1+'"}, want: sallyport.Failure,
			has: []string{"Refused", "only scripts for bash and sh"}},
		{name: "tainted value in a custom shell", yaml: "- shell: bash -l {0}\n  run: echo '${{ github.head_ref }}'", github: map[string]any{"head_ref": "a b"}, want: sallyport.Failure, has: []string{"only scripts for bash and sh"}},
		{name: "outputs of a step that was given a tainted value are tainted", yaml: "- id: a\n  run: echo \"x=1;${{ github.head_ref }}\" >> $GITHUB_OUTPUT\n- run: eval \"echo ${{ steps.a.outputs.x }}\"",
			github: map[string]any{"head_ref": "main"}, want: sallyport.Failure, has: []string{"Refused: ${{ steps.a.outputs.x }}"}},
		{name: "tainted value by env", yaml: "- env: { R: '${{ github.head_ref }}' }\n  run: echo \"$R\"", github: map[string]any{"head_ref": "$(id)"}, want: sallyport.Success, text: "$(id)\n"},
		{name: "taint goes through outputs", yaml: "- id: a\n  env: { R: '${{ github.head_ref }}' }\n  run: echo \"x=$R\" >> $GITHUB_OUTPUT\n- run: eval echo ${{ steps.a.outputs.x }}",
			github: map[string]any{"head_ref": "`id`"}, want: sallyport.Failure, has: []string{"Refused"}, hasNot: []string{"uid="}},
		{name: "taint goes through GITHUB_ENV", yaml: "- env: { R: '${{ github.head_ref }}' }\n  run: echo \"X=$R\" >> $GITHUB_ENV\n- run: eval echo ${{ env.X }}",
			github: map[string]any{"head_ref": "`id`"}, want: sallyport.Failure, has: []string{"Refused"}, hasNot: []string{"uid="}},
		{name: "hashFiles", yaml: "- run: mkdir d && echo -n a > d/a.lock && echo -n b > d/b.lock\n- run: echo ${{ hashFiles('**/*.lock', '!d/b.lock') }} ${{ hashFiles('none') }}.",
			want: sallyport.Success, text: "bf5d3affb73efd2ec6c36ad3112dd933efed63c4e1cbffcfa88e2759c144f2d8 .\n"},
		{name: "summary", yaml: "- run: echo '# ok hunter2-hunter2' >> $GITHUB_STEP_SUMMARY", secrets: map[string]string{"S": "hunter2-hunter2"}, want: sallyport.Success},
		{name: "a signal", yaml: "- run: kill -9 $$", want: sallyport.Failure, has: []string{"ended by a signal (killed)"}},
		{name: "unknown context name", yaml: "- run: echo [${{ matrix.os }}${{ vars.V }}]", contexts: map[string]string{"matrix": `{"os":"linux-"}`}, want: sallyport.Success, text: "[linux-var]\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			yaml := c.yaml
			if !strings.HasPrefix(strings.TrimSpace(yaml), "on:") {
				yaml = steps(yaml)
			}
			e := trial{yaml: yaml, secrets: c.secrets, github: c.github, contexts: c.contexts}.try(t)
			all := e.all()
			if e.Conclusion != c.want {
				t.Errorf("conclusion %s (%s), want %s", e.Conclusion, e.Cause, c.want)
			}
			if c.text != "" && e.text() != c.text {
				t.Errorf("output\n%s\nwant\n%s", e.text(), c.text)
			}
			for _, s := range c.has {
				if !strings.Contains(all, s) {
					t.Errorf("the log lacks %q", s)
				}
			}
			for _, s := range c.hasNot {
				if strings.Contains(all, s) {
					t.Errorf("the log holds %q", s)
				}
			}
			if c.outcomes != "" {
				if got := outcomes(e.Steps); got != c.outcomes {
					t.Errorf("outcomes %q, want %q", got, c.outcomes)
				}
			}
			if c.outputs != nil && !mapsEqual(e.Outputs, c.outputs) {
				t.Errorf("outputs %v, want %v", e.Outputs, c.outputs)
			}
			if got := strings.Join(e.Tainted, ","); got != c.tainted {
				t.Errorf("tainted %q, want %q", got, c.tainted)
			}
			if t.Failed() {
				t.Logf("log:\n%s", all)
			}
		})
	}
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// outcomes writes each step's outcome, and its conclusion where it differs.
func outcomes(steps []sallyport.Step) string {
	var out []string
	for _, s := range steps {
		o := string(s.Outcome)
		if s.Conclusion != s.Outcome {
			o += "/" + string(s.Conclusion)
		}
		out = append(out, o)
	}
	return strings.Join(out, " ")
}

// TestTaintOfNeeds tries what another job derived from an untrusted value.
func TestTaintOfNeeds(t *testing.T) {
	t.Parallel()
	tr := trial{
		yaml:     steps("- run: eval \"echo ${{ needs.a.outputs.t }}\""),
		contexts: map[string]string{"needs": `{"a":{"result":"success","outputs":{"t":"$(echo ran)"}}}`},
	}
	if e := tr.try(t); e.Conclusion != sallyport.Success || !strings.Contains(e.text(), "ran") {
		t.Errorf("the control did not run it: %s %s", e.Conclusion, e.all())
	}
	tr.yard, tr.tainted = nil, [][]string{{"needs", "a", "outputs", "t"}}
	if e := tr.try(t); e.Conclusion != sallyport.Failure || !strings.Contains(e.Cause, "Refused") {
		t.Errorf("%s: %q\n%s", e.Conclusion, e.Cause, e.all())
	}
}

func TestReportedSteps(t *testing.T) {
	t.Parallel()
	e := trial{yaml: steps(`
- name: first ${{ vars.V }}
  id: one
  run: |
    echo '::error file=a.go,line=3,col=4,title=T::bad%0Asecret hunter2-hunter2'
    echo '# summary of hunter2-hunter2' >> $GITHUB_STEP_SUMMARY
    for i in $(seq 100); do echo "::notice::$i"; done
    exit 7
- run: echo never
`), secrets: map[string]string{"S": "hunter2-hunter2"}}.try(t)
	s := e.step(1)
	if s.Name != "first var" || s.ID != "one" || s.Number != 1 || s.Status != sallyport.StatusCompleted || s.ExitCode != 7 || s.Cause != "Process completed with exit code 7." {
		t.Errorf("step: %+v", s)
	}
	if want := (sallyport.Annotation{Level: "error", Message: "bad\nsecret ***", Title: "T", File: "a.go", Line: 3, Col: 4}); len(s.Annotations) == 0 || s.Annotations[0] != want {
		t.Errorf("annotation %+v, want %+v", s.Annotations[0], want)
	}
	if len(s.Annotations) != maxAnnotations || s.Summary != "# summary of ***\n" {
		t.Errorf("%d annotations, summary %q", len(s.Annotations), s.Summary)
	}
	if s.StartedAt.IsZero() || s.FinishedAt.Before(s.StartedAt) {
		t.Errorf("times: %v to %v", s.StartedAt, s.FinishedAt)
	}
	if never := e.step(2); never.Name != "Run echo never" || never.Conclusion != sallyport.Skipped || !never.StartedAt.IsZero() {
		t.Errorf("skipped step: %+v", never)
	}
	if want := "step 1 (first var) failed: Process completed with exit code 7."; e.Cause != want {
		t.Errorf("cause %q, want %q", e.Cause, want)
	}
	if e.Isolation == nil || e.Isolation.Runtime != "host-test" {
		t.Errorf("isolation: %+v", e.Isolation)
	}
	e.yard.mu.Lock()
	defer e.yard.mu.Unlock()
	if len(e.yard.reports) == 0 || len(e.yard.reports) > 20 {
		t.Errorf("%d reports", len(e.yard.reports))
	}
}

func TestComposite(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"act/outer/action.yml": `
name: outer
description: d
inputs:
  who: { description: d, default: "world of ${{ github.actor }}" }
  need: { description: d, required: true }
outputs:
  said: { description: d, value: "${{ steps.in.outputs.said }}!" }
runs:
  using: composite
  steps:
    - { run: 'echo "outer ${{ inputs.who }} $(basename ${{ github.action_path }}) $OUTER"', shell: bash }
    - { id: in, uses: ./act/inner, with: { who: "${{ inputs.who }}" } }
    - { run: 'echo "PERSIST=yes" >> $GITHUB_ENV', shell: bash }
    - { run: "exit 4", shell: bash, continue-on-error: true }
    - { run: "echo after ${{ job.status }}", shell: bash }
`,
		"act/inner/action.yml": `
name: inner
description: d
inputs: { who: { description: d } }
outputs: { said: { description: d, value: "${{ steps.a.outputs.x }}" } }
runs:
  using: composite
  steps:
    - { id: a, run: 'echo "x=hello ${{ inputs.who }}" >> $GITHUB_OUTPUT', shell: bash }
`,
		"act/bad/action.yml": `
name: bad
description: d
runs:
  using: composite
  steps:
    - { run: "exit 5", shell: bash }
    - { run: "echo not reached", shell: bash }
    - { if: failure(), run: "echo inner failure", shell: bash }
    - { if: always(), run: "echo inner always", shell: bash }
`,
	}
	e := trial{files: files, secrets: map[string]string{"S": "hunter2-hunter2"}, yaml: steps(`
- { id: o, uses: ./act/outer, with: { need: x }, env: { OUTER: "from-step" } }
- { run: 'echo "${{ steps.o.outputs.said }} $PERSIST ${OUTER:-unset} ${{ steps.o.outcome }}"' }
- { id: b, uses: ./act/bad, continue-on-error: true }
- { run: 'echo "${{ steps.b.outcome }} ${{ steps.b.conclusion }} [${{ steps.in.outputs.said }}]"' }
- { uses: ./act/bad }
`)}.try(t)
	want := "outer world of mona outer from-step\nafter success\nhello world of mona! yes unset success\n" +
		"inner failure\ninner always\nfailure success []\ninner failure\ninner always\n"
	if e.text() != want {
		t.Errorf("output\n%s\nwant\n%s\nlog:\n%s", e.text(), want, e.all())
	}
	if got := outcomes(e.Steps); got != "success success failure/success success failure" {
		t.Errorf("outcomes %q", got)
	}
}

func TestStepNames(t *testing.T) {
	t.Parallel()
	e := trial{yaml: steps(`
- { id: a, run: "echo v=made >> $GITHUB_OUTPUT" }
- { name: "Use ${{ steps.a.outputs.v }}", run: "true" }
- run: |

    echo ${{ steps.a.outputs.v }}
    echo ${{ fromJSON('?') && '' }}
  if: false
- { name: "Skip ${{ steps.a.outputs.v }}", if: false, run: "true" }
- { name: "Bad ${{ fromJSON('?') }}", if: false, run: "true" }
- run: "echo ${{\n  'two lines' }}"
`)}.try(t)
	want := []string{"Run echo v=made >> $GITHUB_OUTPUT", "Use made", "Run echo made", "Skip made", "Bad ${{ fromJSON('?') }}", "Run echo ${{"}
	for i, w := range want {
		if got := e.step(i + 1).Name; got != w {
			t.Errorf("step %d is called %q, want %q", i+1, got, w)
		}
	}
}
