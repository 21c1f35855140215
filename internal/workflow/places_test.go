package workflow

import (
	"fmt"
	"strings"
	"testing"
)

// TestParsePlaces makes one mistake at a time: each is reported once, where it is.
func TestParsePlaces(t *testing.T) {
	t.Parallel()
	const push = "on: push\n"
	const job = "jobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n"
	for _, c := range []struct{ name, src, want string }{
		{"anchor-cycle", push + "jobs: &a\n  x: *a\n", "3:6: the alias *a refers to something that"},
		{"args", push + job + "      - run: echo ${{ contains('a') }}\n", "6:23: too few arguments for contains: it takes 2,"},
		{"assign", push + job + "      - if: github.ref = 'x'\n        run: x\n", "6:24: unexpected symbol \"=\": equality is written =="},
		{"bad-cron", "on:\n  schedule:\n    - cron: '0 25 * * *'\n" + job + "      - run: x\n", "3:13: invalid cron expression \"0 25 * * *\": hour"},
		{"bad-cron2", "on:\n  schedule:\n    - cron: 'hello'\n" + job + "      - run: x\n", "3:13: invalid cron expression \"hello\": it has 1"},
		{"bad-event", "on: pusj\n" + job + "      - run: x\n", "1:5: unknown event \"pusj\" (did you mean \"push\"?)"},
		{"bad-expr", push + job + "      - run: echo ${{ github. }}\n", "6:31: unexpected end of expression: a property's"},
		{"bad-job-id", push + "jobs:\n  1a:\n    runs-on: x\n    steps: [{run: x}]\n", "3:3: the job id \"1a\" is invalid: it starts with a"},
		{"bad-step-id", push + job + "      - {id: 'a b', run: x}\n", "6:14: the step id \"a b\" is invalid: it starts with"},
		{"bad-type", "on:\n  pull_request: {types: [openned]}\n" + job + "      - run: x\n", "2:26: unknown activity type \"openned\" in"},
		{"block-expr", push + job + "      - run: |\n          echo ok\n          echo ${{ bad.ctx }}\n", "8:20: unrecognized named-value \"bad\"; text is"},
		{"branches-both", "on:\n  push: {branches: [a], branches-ignore: [b]}\n" + job + "      - run: x\n", "2:25: on.push has both branches and"},
		{"conc", push + "concurrency: {cancel-in-progress: true}\n" + job + "      - run: x\n", "2:14: concurrency has no group: give it a name,"},
		{"default-shell-unknown", push + "defaults: {run: {shell: zsh}}\n" + job + "      - run: x\n", "2:25: unknown shell \"zsh\" (did you mean \"sh\"?):"},
		{"double-quoted", push + job + "      - run: echo ${{ \"a\" }}\n", "6:23: unexpected symbol \"\\\"a\\\"\": strings are"},
		{"dup-job", push + "jobs:\n  a:\n    runs-on: x\n    steps: [{run: x}]\n  a:\n    runs-on: x\n    steps: [{run: x}]\n", "6:3: \"a\" is already defined in this mapping"},
		{"dup-key", push + job + "      - run: x\n        run: y\n", "7:9: \"run\" is already defined in this mapping"},
		{"dup-step-id", push + job + "      - {id: x, run: x}\n      - {id: X, run: x}\n", "7:14: the step id \"X\" is already used in line 6:"},
		{"empty-steps", push + "jobs:\n  a:\n    runs-on: x\n    steps: []\n", "5:12: the steps of job \"a\" are empty: add one"},
		{"env-expr-secrets-runname", "run-name: ${{ secrets.X }}\non: push\n" + job + "      - run: x\n", "1:15: the context \"secrets\" is not available in"},
		{"env-in-jobif", push + "env: {A: b}\njobs:\n  a:\n    if: env.A == 'b'\n    runs-on: x\n    steps: [{run: x}]\n", "5:9: the context \"env\" is not available in"},
		{"env-val-map", push + job + "      - run: x\n        env: {A: {b: c}}\n", "7:18: the value of \"A\" in env must be text, a"},
		{"fmt", push + job + "      - run: echo ${{ format('{0} {1}', 1) }}\n", "6:30: format string \"{0} {1}\" refers to argument"},
		{"folded-expr", push + job + "      - run: >\n          echo ok\n          echo ${{ bad.ctx }}\n", "6:14: unrecognized named-value \"bad\"; text is"},
		{"hashfiles-jobenv", push + "jobs:\n  a:\n    env: {H: \"${{ hashFiles('x') }}\"}\n    runs-on: x\n    steps: [{run: x}]\n", "4:19: hashFiles() is not available in"},
		{"input-choice", "on:\n  workflow_dispatch: {inputs: {a: {type: choice}}}\n" + job + "      - run: x\n", "2:32: input \"a\" is a choice without options: add"},
		{"input-type", "on:\n  workflow_dispatch: {inputs: {a: {type: strng}}}\n" + job + "      - run: x\n", "2:42: the type of input \"a\" is \"strng\" (did you"},
		{"list", "- a\n", "1:1: the workflow must be a mapping with the keys"},
		{"matrix-empty", push + "jobs:\n  a:\n    strategy: {matrix: {a: []}}\n    runs-on: x\n    steps: [{run: x}]\n", "4:28: matrix.a has no values: add one, or remove it"},
		{"matrix-in-jobif", push + "jobs:\n  a:\n    if: matrix.a == 1\n    strategy: {matrix: {a: [1]}}\n    runs-on: x\n    steps: [{run: x}]\n", "4:9: the context \"matrix\" is not available in"},
		{"matrix-scalar", push + "jobs:\n  a:\n    strategy: {matrix: {a: 1}}\n    runs-on: x\n    steps: [{run: x}]\n", "4:28: matrix.a must be a sequence, for example"},
		{"neither", push + job + "      - name: x\n", "6:9: the step does nothing: add \"run\" or \"uses\""},
		{"no-jobs", push, "1:1: the workflow lacks the key \"jobs\": add it"},
		{"no-on", job + "      - run: x\n", "1:1: the workflow lacks the key \"on\": add it"},
		{"no-runs-on", push + "jobs:\n  a:\n    steps: [{run: x}]\n", "3:3: job \"a\" lacks the key \"runs-on\": add for"},
		{"no-steps", push + "jobs:\n  a:\n    runs-on: x\n", "3:3: job \"a\" lacks the key \"steps\" (or \"uses\", to"},
		{"paths-bad", "on: {push: {branches: ['[']}}\n" + job + "      - run: x\n", "1:24: invalid pattern \"[\": the set [ is not closed"},
		{"perm", push + "permissions: {contents: admin}\n" + job + "      - run: x\n", "2:25: permissions.contents is \"admin\"; allowed are"},
		{"perm2", push + "permissions: {content: read}\n" + job + "      - run: x\n", "2:15: unknown key \"content\" in permissions (did"},
		{"scalar", "hello", "1:1: the workflow must be a mapping with the keys"},
		{"secrets-in-if", push + job + "      - run: echo\n        if: secrets.X == 'a'\n", "7:13: the context \"secrets\" is not available in"},
		{"shell", push + job + "      - run: x\n        shell: zsh\n", "7:16: unknown shell \"zsh\" (did you mean \"sh\"?):"},
		{"step-in-needs", push + "jobs:\n  a:\n    needs: {b: c}\n    runs-on: x\n    steps: [{run: x}]\n", "4:12: needs must be text, not a mapping"},
		{"tab", push + "jobs:\n\ta:\n", "3:1: not valid YAML: found character that cannot"},
		{"timeout0", push + job + "      - run: x\n        timeout-minutes: 0\n", "7:26: timeout-minutes must be greater than 0, not 0"},
		{"type-coe", push + job + "      - run: x\n        continue-on-error: yes\n", "7:28: continue-on-error must be true, false or one"},
		{"type-env", push + "env: [a]\n" + job + "      - run: x\n", "2:6: env must be a mapping of names to values,"},
		{"type-run", push + job + "      - run: [a]\n", "6:14: run must be text, not a sequence"},
		{"type-steps", push + "jobs:\n  a:\n    runs-on: x\n    steps: hi\n", "5:12: the steps of job \"a\" must be a sequence, not"},
		{"type-timeout", push + job + "      - run: x\n        timeout-minutes: ten\n", "7:26: timeout-minutes must be a number or one ${{"},
		{"unclosed", push + job + "      - run: echo ${{ github.sha\n", "6:19: the expression is not closed: add }} at its"},
		{"undefined-alias", push + job + "      - run: *x\n", "6:14: not valid YAML: unknown anchor 'x' referenced"},
		{"unknown-ctx", push + job + "      - run: echo ${{ foo.bar }}\n", "6:23: unrecognized named-value \"foo\" (did you mean"},
		{"unknown-fn", push + job + "      - run: echo ${{ foo(1) }}\n", "6:23: unrecognized function \"foo\"; there are"},
		{"unknown-job", push + "jobs:\n  a:\n    runs-on: ubuntu-latest\n    step: []\n    steps: [{run: x}]\n", "5:5: unknown key \"step\" in job \"a\" (did you mean"},
		{"unknown-step", push + job + "      - run: x\n        wokring-directory: y\n", "7:9: unknown key \"wokring-directory\" in the step"},
		{"uses-and-run", push + job + "      - run: x\n        uses: actions/checkout@v4\n", "7:9: a step has either \"run\" or \"uses\", not both:"},
		{"with-on-run", push + job + "      - run: x\n        with: {a: b}\n", "7:9: \"with\" is for steps with \"uses\"; hand values"},
	} {
		_, diags := Parse("w.yml", []byte(c.src))
		var got []string
		for _, d := range diags {
			if d.Severity == severityError {
				got = append(got, fmt.Sprintf("%d:%d: %s", d.Pos.Line, d.Pos.Col, d.Message))
			}
		}
		if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("%s: got %q, want one that begins %q", c.name, got, c.want)
		}
	}
}
