package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// until is a shell command that returns when the file is there.
func until(file string) string { return "until [ -e " + file + " ]; do sleep 0.01; done" }

func TestBackgroundSteps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, yaml string
		want       sallyport.Conclusion
		outcomes   string
		text       string   // output of all steps in order of the log, if not ""
		has        []string // in the whole log
		hasNot     []string
		outputs    map[string]string
	}{
		{name: "the job goes on, and the wait brings outputs, variables and PATH", yaml: `
- id: bg
  background: true
  run: |
    ` + until("go") + `
    echo x=1 >> $GITHUB_OUTPUT; echo V=2 >> $GITHUB_ENV
    mkdir bin; printf '#!/bin/sh\necho tool\n' > bin/tool; chmod +x bin/tool; echo $PWD/bin >> $GITHUB_PATH
- run: echo "before [${{ steps.bg.outputs.x }}${{ steps.bg.outcome }}$V]"; touch go
- wait: bg
- run: echo "after ${{ steps.bg.outputs.x }} ${{ steps.bg.outcome }} ${{ env.V }}$V"; tool
`, want: sallyport.Success, outcomes: "success success success success", text: "before []\nafter 1 success 22\ntool\n"},
		{name: "what it changed is not seen before the wait", yaml: `
- { id: bg, name: bg, background: true, run: 'echo V=new >> $GITHUB_ENV; touch done' }
- run: '` + until("done") + `; sleep 0.1'
- run: echo "[$V]"
- wait-all:
- run: echo "[$V]"
`, want: sallyport.Success, has: []string{"3 |[]", "5 |[new]", "4 system|Waiting for all background steps: bg."}},
		{name: "a failure is the wait's", yaml: `
- { id: bg, name: the server, background: true, run: 'touch done; exit 3' }
- run: '` + until("done") + `; sleep 0.1; echo goes on ${{ job.status }}'
- wait: bg
- run: echo no
- { if: failure(), run: 'echo ${{ steps.bg.outcome }} ${{ job.status }}' }
`, want: sallyport.Failure, outcomes: "failure success failure skipped success", has: []string{"2 |goes on success", "3 error|A background step failed: the server.", "5 |failure failure", "1 error|Process completed with exit code 3."}},
		{name: "continue-on-error of the step", yaml: `
- { id: bg, background: true, continue-on-error: true, run: exit 3 }
- wait: bg
- run: echo ${{ steps.bg.outcome }} ${{ steps.bg.conclusion }}
`, want: sallyport.Success, outcomes: "failure/success success success", has: []string{"3 |failure success"}},
		{name: "continue-on-error of the wait", yaml: `
- { background: true, run: exit 3 }
- { id: w, wait-all: true, continue-on-error: true }
- run: echo ${{ steps.w.outcome }} ${{ steps.w.conclusion }} ${{ job.status }}
`, want: sallyport.Success, outcomes: "failure failure/success success", has: []string{"3 |failure success success"}},
		{name: "the end of the job waits", yaml: `
- { id: bg, name: late, background: true, run: '` + until("go") + `; echo x=1 >> $GITHUB_OUTPUT; echo late' }
- run: touch go
`, want: sallyport.Success, outcomes: "success success success", has: []string{"1 |late", "3 system|Waiting for all background steps: late."}, outputs: map[string]string{"x": "1"}},
		{name: "a failure at the end of the job", yaml: `
- { background: true, run: exit 1 }
- run: 'true'
`, want: sallyport.Failure, outcomes: "failure success failure"},
		{name: "a wait after a failure waits", yaml: `
- { id: bg, background: true, run: '` + until("go") + `' }
- run: touch go; exit 1
- wait: bg
- { if: always(), run: 'echo ${{ steps.bg.outcome }}' }
`, want: sallyport.Failure, outcomes: "success failure success success", has: []string{"4 |success"}},
		{name: "a background step after a failure is skipped", yaml: `
- run: exit 1
- { id: bg, background: true, run: echo no }
- { id: bg2, background: true, if: always(), run: echo yes }
- wait: [bg, bg2]
`, want: sallyport.Failure, outcomes: "failure skipped success success", has: []string{"3 |yes"}, hasNot: []string{"2 |no"}},
		{name: "its condition and env are evaluated when it starts", yaml: `
- { id: a, run: 'echo A=one >> $GITHUB_ENV' }
- { id: bg, background: true, if: "env.A == 'one'", env: { B: '${{ env.A }}' }, run: '` + until("go") + `; echo $A $B ${{ env.A }}' }
- run: echo A=two >> $GITHUB_ENV; touch go
- wait: bg
- run: echo $A
`, want: sallyport.Success, has: []string{"2 |one one one", "5 |two"}},
		{name: "parallel", yaml: `
- parallel:
  - { id: p1, name: p1, run: 'touch one; ` + until("two") + `; echo x=1 >> $GITHUB_OUTPUT' }
  - { id: p2, name: p2, run: 'touch two; ` + until("one") + `; echo x=2 >> $GITHUB_OUTPUT' }
- run: echo ${{ steps.p1.outputs.x }}${{ steps.p2.outputs.x }}
`, want: sallyport.Success, outcomes: "success success success success", has: []string{"4 |12", "3 system|Waiting for p1, p2."}},
		{name: "parallel fails when one does, after all have ended", yaml: `
- parallel:
  - { name: bad, run: touch one; exit 1 }
  - { name: good, run: '` + until("one") + `; sleep 0.1; echo good' }
- run: echo no
`, want: sallyport.Failure, outcomes: "failure success failure skipped", has: []string{"2 |good", "3 error|A background step failed: bad."}},
		{name: "no more than ten at once, in order", yaml: `
- parallel:
` + strings.Repeat("  - run: until [ -e go ]; do [ $(ls up-* | wc -l) -gt 10 ] && exit 1; touch up-$$; [ $(ls up-* | wc -l) -lt 10 ] || touch go; sleep 0.01; done\n", 10) + `
  - { name: eleven, run: '[ -e go ] && echo eleven' }
- run: echo end
`, want: sallyport.Success, has: []string{"11 |eleven", "13 |end"}},
		{name: "cancel", yaml: `
- { id: bg, name: server, background: true, run: 'trap "echo bye; exit 0" TERM INT; touch up; while true; do sleep 0.01; done' }
- run: '` + until("up") + `'
- cancel: bg
- run: echo "${{ steps.bg.outcome }} ${{ steps.bg.conclusion }} ${{ job.status }}"
`, want: sallyport.Success, outcomes: "cancelled success success success", has: []string{"3 system|Cancelling server.", "4 |cancelled cancelled success"}},
		{name: "cancel what has failed", yaml: `
- { id: bg, background: true, name: bg, run: exit 1 }
- run: '` + until("reported") + `'
- cancel: bg
- run: echo goes on
`, want: sallyport.Failure, outcomes: "failure success success success failure", has: []string{"4 |goes on", "5 error|A background step failed: bg."}},
		{name: "cancel what has ended", yaml: `
- { id: bg, background: true, run: 'echo x=1 >> $GITHUB_OUTPUT' }
- run: '` + until("reported") + `'
- cancel: bg
- run: echo "${{ steps.bg.outcome }} ${{ steps.bg.outputs.x }}"
`, want: sallyport.Success, has: []string{"4 |success 1"}},
		{name: "a wait for what was cancelled", yaml: `
- { id: bg, background: true, run: sleep 1000 }
- cancel: bg
- wait: bg
- wait-all:
- run: echo end
`, want: sallyport.Success, outcomes: "cancelled success success success success", has: []string{"4 system|No background step is left to wait for."}},
		{name: "cancel always runs", yaml: `
- { id: bg, background: true, run: sleep 1000 }
- run: exit 1
- cancel: bg
`, want: sallyport.Failure, outcomes: "cancelled failure success"},
		{name: "timeout", yaml: `
- { id: bg, background: true, timeout-minutes: 0.003, run: sleep 1000 }
- wait: bg
`, want: sallyport.Failure, outcomes: "failure failure", has: []string{"1 error|The step timed out"}},
		{name: "a composite action in the background, cancelled", yaml: `
- { id: bg, background: true, uses: ./act }
- run: '` + until("up") + `'
- cancel: bg
- run: echo [$FROM_ACTION]
`, want: sallyport.Success, outcomes: "cancelled success success success", has: []string{"1 |cleanup cancelled", "4 |[yes]"}, hasNot: []string{"1 |never"}},
		{name: "logs and summaries are their own", yaml: `
- parallel:
` + strings.Repeat("  - run: for i in $(seq 200); do echo \"line $i\"; done; echo \"::notice::n\"; echo s >> $GITHUB_STEP_SUMMARY; echo A$RANDOM=1 >> $GITHUB_ENV\n", 12) + `
`, want: sallyport.Success},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tr := trial{yaml: steps(c.yaml), files: map[string]string{"act/action.yml": `
name: act
description: d
runs:
  using: composite
  steps:
    - { run: "echo FROM_ACTION=yes >> $GITHUB_ENV", shell: bash }
    - { run: "[ $FROM_ACTION = yes ]; touch up; sleep 1000", shell: bash }
    - { run: "echo never", shell: bash }
    - { if: always(), run: "echo cleanup ${{ job.status }}", shell: bash }
`}}
			if strings.Contains(c.yaml, "reported") {
				// The file comes when the first step is reported as completed.
				tr.yard = newFakeYard()
				var dir string
				tr.config = func(cfg *Config) { dir = cfg.WorkDir }
				tr.during = func(y *fakeYard) {
					for !y.completed(0) {
						time.Sleep(time.Millisecond)
					}
					workspaces, _ := filepath.Glob(filepath.Join(dir, "job-*", "work", "hello", "hello"))
					for _, w := range workspaces {
						_ = os.WriteFile(filepath.Join(w, "reported"), nil, 0o644)
					}
				}
			}
			if c.outputs != nil {
				tr.yaml = strings.Replace(tr.yaml, "    steps:", "    outputs: { x: '${{ steps.bg.outputs.x }}' }\n    steps:", 1)
			}
			e := tr.try(t)
			if e.Conclusion != c.want {
				t.Errorf("conclusion %s (%s), want %s", e.Conclusion, e.Cause, c.want)
			}
			if c.text != "" && e.text() != c.text {
				t.Errorf("output\n%s\nwant\n%s", e.text(), c.text)
			}
			if c.outcomes != "" {
				if got := outcomes(e.Steps); got != c.outcomes {
					t.Errorf("outcomes %q, want %q", got, c.outcomes)
				}
			}
			all := e.all()
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
			if c.outputs != nil && !mapsEqual(e.Outputs, c.outputs) {
				t.Errorf("outputs %v, want %v", e.Outputs, c.outputs)
			}
			if t.Failed() {
				t.Logf("log:\n%s", all)
			}
		})
	}
}

// TestCancelBackground cancels a job whose steps run beside each other.
func TestCancelBackground(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, yaml string
		order      sallyport.Order
		outcomes   string
		cause      string
	}{
		{name: "while the job waits", order: sallyport.OrderCancel, outcomes: "cancelled success cancelled skipped success", cause: "it was cancelled", yaml: `
- { id: a, background: true, run: sleep 1000 }
- { id: b, background: true, if: always(), run: 'echo begun; ` + until("go") + `' }
- wait: [a, b]
- run: echo no
- { if: always(), run: echo always }
`},
		{name: "while another step runs", order: sallyport.OrderCancel, outcomes: "cancelled cancelled skipped cancelled", cause: "it was cancelled", yaml: `
- { background: true, run: sleep 1000 }
- run: echo begun; sleep 1000
- run: echo no
`},
		{name: "kill", order: sallyport.OrderKill, outcomes: "cancelled cancelled", cause: errKilled.Error(), yaml: `
- { background: true, run: sleep 1000 }
- run: echo begun; sleep 1000
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			yard := newFakeYard()
			begun, cancelled := yard.await(`"x":"begun"`), yard.await("The job is cancelled")
			var dir string
			tr := trial{yaml: steps(c.yaml), yard: yard, ttl: soon,
				config: func(cfg *Config) { dir = cfg.WorkDir },
				during: func(y *fakeYard) {
					<-begun
					y.setOrder(c.order, nil)
					if c.order == sallyport.OrderCancel {
						<-cancelled
					}
					workspaces, _ := filepath.Glob(filepath.Join(dir, "job-*", "work", "hello", "hello"))
					for _, w := range workspaces {
						_ = os.WriteFile(filepath.Join(w, "go"), nil, 0o644)
					}
				}}
			e := tr.try(t)
			if e.Conclusion != sallyport.Cancelled || e.Cause != c.cause {
				t.Errorf("conclusion %s, %q, want %q", e.Conclusion, e.Cause, c.cause)
			}
			if got := outcomes(e.Steps); got != c.outcomes {
				t.Errorf("outcomes %q, want %q\n%s", got, c.outcomes, e.all())
			}
		})
	}
}
