package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Small workflows and what becomes of their jobs, as GitHub documents it
// ("Workflow syntax", "Evaluate expressions", "Contexts reference"). A runner that only
// answers does the jobs.
func TestSemantics(t *testing.T) {
	t.Parallel()
	job := func(key string, lines ...string) string {
		out := "  " + key + ":\n"
		for _, l := range lines {
			out += "    " + l + "\n"
		}
		return out + step(key)
	}
	fail, cancelled := end{how: sallyport.Failure}, end{how: sallyport.Cancelled}
	sets := func(kv ...string) end {
		out := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return end{outputs: out}
	}
	for _, c := range []struct {
		name, jobs string
		ends       map[string]end
		want       string
	}{
		{"a failure skips all that follows", job("a") + job("b", "needs: a") + job("c", "needs: b"), map[string]end{"a": fail},
			"a=failure b=skipped c=skipped run=failure"},
		{"a skip skips all that follows, and is no failure", job("a", "if: false") + job("b", "needs: a") + job("c", "needs: b"), nil,
			"a=skipped b=skipped c=skipped run=skipped"},
		{"a run with one job done is a success", job("a", "if: false") + job("b"), nil, "a=skipped b=success run=success"},
		{"always stands between, the chain stays broken", job("a", "if: false") + job("b", "needs: a", "if: always()") + job("c", "needs: b"), nil,
			"a=skipped b=success c=skipped run=success"},
		{"always over a failure, the chain stays broken", job("a") + job("b", "needs: a", "if: always()") + job("c", "needs: b"), map[string]end{"a": fail},
			"a=failure b=success c=skipped run=failure"},
		{"not cancelled mends a chain", job("a", "if: false") + job("b", "needs: a", "if: '!cancelled()'") + job("c", "needs: b", "if: '!cancelled() && needs.b.result == ''success'''"), nil,
			"a=skipped b=success c=success run=success"},
		{"not failure goes over a skip", job("a", "if: false") + job("b", "needs: a", "if: '!failure()'"), nil, "a=skipped b=success run=success"},
		{"not failure stops at one", job("a") + job("b", "needs: a", "if: '!failure()'"), map[string]end{"a": fail}, "a=failure b=skipped run=failure"},
		{"failure sees an ancestor", job("a") + job("b", "needs: a") + job("c", "needs: b", "if: failure()"), map[string]end{"a": fail},
			"a=failure b=skipped c=success run=failure"},
		{"failure is false without one", job("a") + job("b", "needs: a", "if: failure()"), nil, "a=success b=skipped run=success"},
		{"a cancelled job is no failure and no success", job("a") + job("b", "needs: a") + job("c", "needs: a", "if: failure()") + job("d", "needs: a", "if: always() && needs.a.result == 'cancelled'"),
			map[string]end{"a": cancelled}, "a=cancelled b=skipped c=skipped d=success run=cancelled"},
		{"a condition of its own keeps success()", job("a") + job("b", "needs: a", "if: needs.a.result == 'failure'"), map[string]end{"a": fail},
			"a=failure b=skipped run=failure"},
		{"results that are skipped have no outputs", job("a", "if: false") + job("b", "needs: a", "if: always() && needs.a.result == 'skipped' && needs.a.outputs.x == ''"), nil,
			"a=skipped b=success run=success"},
		{"continue-on-error: the result is a success", job("a", "continue-on-error: true") + job("b", "needs: a", "if: needs.a.result == 'success'"), map[string]end{"a": fail},
			"a=failure b=success run=success"},
		{"continue-on-error does not hide a cancellation", job("a", "continue-on-error: true") + job("b", "needs: a"), map[string]end{"a": cancelled},
			"a=cancelled b=skipped run=cancelled"},
		{"continue-on-error of a cell lets the others go on",
			job("m", "continue-on-error: ${{ matrix.n == 1 }}", "strategy: {max-parallel: 1, matrix: {n: [1, 2]}}"), map[string]end{"m (1)": fail},
			"m (1)=failure m (2)=success run=success"},
		{"fail-fast takes an expression", job("l") + job("m", "needs: l", "strategy: {fail-fast: '${{ needs.l.outputs.ff == ''y'' }}', max-parallel: 1, matrix: {n: [1, 2]}}"),
			map[string]end{"l": sets("ff", "n"), "m (1)": fail}, "l=success m (1)=failure m (2)=success run=failure"},
		{"fail-fast is the default", job("m", "strategy: {max-parallel: 1, matrix: {n: [1, 2, 3]}}") + job("z", "needs: m", "if: failure()"), map[string]end{"m (1)": fail},
			"m (1)=failure m (2)=cancelled m (3)=cancelled z=success run=failure"},
		{"a matrix of what another job says", job("l") + job("m", "needs: l", "strategy: {matrix: '${{ fromJSON(needs.l.outputs.m) }}'}"),
			map[string]end{"l": sets("m", `{"os":["a","b"],"include":[{"os":"c","x":1}]}`)}, "l=success m (a)=success m (b)=success m (c, 1)=success run=success"},
		{"a matrix of nothing fails", job("l") + job("m", "needs: l", "strategy: {matrix: {n: '${{ fromJSON(needs.l.outputs.m) }}'}}"),
			map[string]end{"l": sets("m", "[]")}, "l=success m=failure run=failure"},
		{"max-parallel of what another job says", job("l") + job("m", "needs: l", "strategy: {max-parallel: '${{ fromJSON(needs.l.outputs.n) }}', matrix: {n: [1, 2]}}"),
			map[string]end{"l": sets("n", "1")}, "l=success m (1)=success m (2)=success run=success"},
		{"the last cell to set an output has the word, an empty one does not", job("m", "strategy: {max-parallel: 1, matrix: {n: [1, 2, 3]}}") + job("z", "needs: m", "name: z ${{ needs.m.outputs.o }}"),
			map[string]end{"m (1)": sets("o", "one"), "m (2)": sets("o", "two"), "m (3)": sets("o", "")}, "m (1)=success m (2)=success m (3)=success z two=success run=success"},
		{"a matrix of which one cell failed has failed", job("m", "strategy: {fail-fast: false, matrix: {n: [1, 2]}}") + job("z", "needs: m", "if: always() && needs.m.result == 'failure'"),
			map[string]end{"m (2)": fail}, "m (1)=success m (2)=failure z=success run=failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			id := h.run(head + c.jobs)
			h.drive(c.ends)
			h.want(id, c.want)
		})
	}
}

// A lease says how long its job may take, and what still runs after a cancellation.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lines          string
		timeout, grace time.Duration
	}{
		{"", 6 * time.Hour, 5 * time.Minute},
		{"    timeout-minutes: 0.1\n    cancel-timeout-minutes: 0.5\n", 6 * time.Second, 30 * time.Second},
		{"    timeout-minutes: ${{ fromJSON(vars.T) }}\n    cancel-timeout-minutes: ${{ fromJSON(vars.T) }}\n", 90 * time.Second, 90 * time.Second},
	} {
		h := newHouse(t, func(c *Config) { c.Vars = map[string]string{"T": "1.5"} })
		id := h.run(head + "  a:\n" + c.lines + step("a"))
		l := h.lease()
		if l == nil {
			t.Fatalf("%q: %s", c.lines, h.states(id))
		}
		if l.Timeout != c.timeout || l.Grace != c.grace {
			t.Errorf("%q: got %s and %s, want %s and %s", c.lines, l.Timeout, l.Grace, c.timeout, c.grace)
		}
	}
}

// A job in progress whose condition holds also after a cancellation goes on; who
// wants it to stop all the same says so a second time.
func TestCancelTwice(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run(head + "  a:\n    if: always()\n" + step("a") + "  b:\n" + step("b") + "  z:\n    needs: a\n    if: always()\n" + step("z"))
	a, b := h.leaseOf("a"), h.leaseOf("b")
	order := func(l *sallyport.Lease) sallyport.Order {
		o, err := h.y.Heartbeat(h.runner, l.Ref)
		check(t, err)
		return o
	}
	check(t, h.s.Runs.Cancel(h.admin, id))
	if oa, ob := order(a), order(b); oa != sallyport.OrderContinue || ob != sallyport.OrderCancel {
		t.Errorf("after a cancellation: a job with always() has the order %s, another %s", oa, ob)
	}
	check(t, h.s.Runs.Cancel(h.admin, id))
	if o := order(a); o != sallyport.OrderCancel {
		t.Errorf("after the second cancellation: order %s", o)
	}
	h.finish(a, sallyport.Cancelled, nil)
	h.finish(b, sallyport.Cancelled, nil)
	h.want(id, "a=cancelled b=cancelled z=cancelled run=cancelled")
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	wf := func(workflow, job string) string {
		out := "on: push\n"
		if workflow != "" {
			out += "concurrency: " + workflow + "\n"
		}
		out += "jobs:\n  a:\n"
		if job != "" {
			out += "    concurrency: " + job + "\n"
		}
		return out + step("a")
	}
	type houses struct {
		*house
		ids []sallyport.RunID
	}
	start := func(t *testing.T, flows ...string) houses {
		h := houses{house: newHouse(t)}
		for _, f := range flows {
			h.ids = append(h.ids, h.run(f))
			h.pass(time.Second)
		}
		return h
	}
	wants := func(t *testing.T, h houses, want ...string) {
		t.Helper()
		for i, w := range want {
			if got := h.states(h.ids[i]); got != w {
				t.Errorf("run %d: got %s, want %s", i+1, got, w)
			}
		}
	}
	t.Run("queue: max keeps all, in order", func(t *testing.T) {
		t.Parallel()
		f := wf("{group: g, queue: max}", "")
		h := start(t, f, f, f, f)
		wants(t, h, "a=queued run=queued", "a=waiting run=waiting", "a=waiting run=waiting", "a=waiting run=waiting")
		check(t, h.s.Runs.Cancel(h.admin, h.ids[2]))
		wants(t, h, "a=queued run=queued", "a=waiting run=waiting", "a=cancelled run=cancelled", "a=waiting run=waiting")
		h.finish(h.lease(), sallyport.Success, nil)
		wants(t, h, "a=success run=success", "a=queued run=queued", "a=cancelled run=cancelled", "a=waiting run=waiting")
		h.drive(nil)
		wants(t, h, "a=success run=success", "a=success run=success", "a=cancelled run=cancelled", "a=success run=success")
	})
	t.Run("queue: max of jobs", func(t *testing.T) {
		t.Parallel()
		f := wf("", "{group: g, queue: max}")
		h := start(t, f, f, f)
		wants(t, h, "a=queued run=queued", "a=waiting run=queued", "a=waiting run=queued")
		h.drive(nil)
		wants(t, h, "a=success run=success", "a=success run=success", "a=success run=success")
	})
	t.Run("names do not differ by case, runs and jobs share them", func(t *testing.T) {
		t.Parallel()
		h := start(t, wf("Deploy", ""), wf("", "deploy"), wf("DEPLOY", ""))
		wants(t, h, "a=queued run=queued", "a=cancelled run=cancelled", "a=waiting run=waiting")
		h.drive(nil)
		wants(t, h, "a=success run=success", "a=cancelled run=cancelled", "a=success run=success")
	})
	t.Run("cancel-in-progress takes an expression", func(t *testing.T) {
		t.Parallel()
		f := wf("{group: g, cancel-in-progress: \"${{ github.ref == 'refs/heads/%s' }}\"}", "")
		h := start(t, fmt.Sprintf(f, "x"), fmt.Sprintf(f, "x"), fmt.Sprintf(f, "main"))
		wants(t, h, "a=cancelled run=cancelled", "a=cancelled run=cancelled", "a=queued run=queued")
	})
	t.Run("cancel-in-progress waits until the job has stopped", func(t *testing.T) {
		t.Parallel()
		f := wf("", "{group: g, cancel-in-progress: true}")
		h := start(t, f)
		l := h.lease()
		h.ids = append(h.ids, h.run(f))
		wants(t, h, "a=in_progress run=in_progress", "a=waiting run=queued")
		h.finish(l, sallyport.Cancelled, nil)
		wants(t, h, "a=cancelled run=cancelled", "a=queued run=queued")
	})
	t.Run("a run that lined up and is cancelled does nothing", func(t *testing.T) {
		t.Parallel()
		f := "on: push\nconcurrency: g\njobs:\n  a:\n    if: always()\n" + step("a")
		h := start(t, f, f, f)
		wants(t, h, "a=queued run=queued", "a=cancelled run=cancelled", "a=waiting run=waiting")
	})
	t.Run("a job does not wait for its own workflow", func(t *testing.T) {
		t.Parallel()
		h := start(t, wf("g", "G"))
		wants(t, h, "a=cancelled run=cancelled")
		r, _, err := h.s.Runs.Run(h.admin, h.ids[0])
		check(t, err)
		if !strings.Contains(r.Cause, "would wait for itself: concurrency group g") {
			t.Errorf("got cause %q", r.Cause)
		}
	})
	t.Run("cells line up as max-parallel lets them through", func(t *testing.T) {
		t.Parallel()
		f := func(strategy string) string {
			return head + "  a:\n    concurrency: g\n    strategy: {" + strategy + "matrix: {n: [1, 2, 3]}}\n" + step("a")
		}
		h := start(t, f("max-parallel: 1, "))
		h.drive(nil)
		wants(t, h, "a (1)=success a (2)=success a (3)=success run=success")
		h = start(t, f(""))
		h.drive(nil)
		wants(t, h, "a (1)=success a (2)=cancelled a (3)=success run=cancelled")
	})
	t.Run("of a called workflow", func(t *testing.T) {
		t.Parallel()
		plan := func(caller, called string) *sallyport.Plan {
			return calls(compiled(t, "on: push\n"+caller+"jobs:\n  c:\n"+step("c")), map[string]*sallyport.PlanCall{"c": callee(t, "on: push\n"+called+"jobs:\n  b:\n"+step("b"))})
		}
		h := houses{house: newHouse(t)}
		for range 3 {
			h.ids = append(h.ids, h.begin(plan("", "concurrency: g\n")))
			h.pass(time.Second)
		}
		wants(t, h, "c=in_progress c / b=queued run=queued", "c=cancelled run=cancelled", "c=waiting run=queued")
		h.drive(nil)
		wants(t, h, "c=success c / b=success run=success", "c=cancelled run=cancelled", "c=success c / b=success run=success")
		h.ids = []sallyport.RunID{h.begin(plan("concurrency: g\n", "concurrency: g\n"))}
		wants(t, h, "c=cancelled run=cancelled")
	})
	t.Run("no more than a hundred line up", func(t *testing.T) {
		t.Parallel()
		h := houses{house: newHouse(t)}
		push := h.push("main", files{"x": "1"})
		check(t, h.e.update(h.admin, func(c *change) error {
			for range maxPending + 2 {
				list, err := h.e.start(c, push, []Planned{{Path: workflowFile, Plan: compiled(t, wf("{group: g, queue: max}", ""))}})
				if err != nil {
					return err
				}
				h.ids = append(h.ids, list[0].ID)
			}
			return nil
		}))
		if got := h.states(h.ids[maxPending]); got != "a=waiting run=waiting" {
			t.Errorf("the last that has a place: %s", got)
		}
		if got := h.states(h.ids[maxPending+1]); got != "a=cancelled run=cancelled" {
			t.Errorf("the first that has none: %s", got)
		}
	})
}

func TestEnvironmentRules(t *testing.T) {
	t.Parallel()
	const rules = "environments:\n  production: {approval: required}\n  staging: {refs: [main, release/*]}\n"
	flow := func(env string) string { return head + "  a:\n    environment: " + env + "\n" + step("a") }
	for _, c := range []struct{ name, deploy, env, branch, want, cause string }{
		{"no rules", "", "production", "main", "a=queued run=queued", ""},
		{"not declared", rules, "other", "main", "a=queued run=queued", ""},
		{"approval", rules, "Production", "main", "a=waiting run=queued", "waits for approval of environment production: 0 of 1"},
		{"approval, no deployment", rules, "{name: production, deployment: false}", "main", "a=waiting run=queued", "waits for approval"},
		{"ref", rules, "staging", "main", "a=queued run=queued", ""},
		{"ref by pattern", rules, "staging", "release/1", "a=queued run=queued", ""},
		{"another ref", rules, "staging", "release/1/x", "a=failure run=failure", "refs/heads/release/1/x may not enter environment staging: .sallyport/deploy.yaml on main allows main, release/*"},
		{"broken rules", "environments: 1\n", "staging", "main", "a=failure run=failure", ".sallyport/deploy.yaml:1:"},
		{"an expression", rules, "${{ format('{0}uction', 'prod') }}", "main", "a=waiting run=queued", "waits for approval"},
		{"an empty name", rules, "${{ vars.NONE }}", "main", "a=queued run=queued", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			f := files{"x": "1"}
			if c.deploy != "" {
				f[".sallyport/deploy.yaml"] = c.deploy
			}
			h.push("main", f)
			h.pass(time.Second)
			f[workflowFile] = flow(c.env)
			if c.branch != "main" { // what a branch says of the rules does not count
				f[".sallyport/deploy.yaml"] = "environments:\n  production: {refs: [nothing]}\n"
			}
			push := h.push(c.branch, f)
			list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Push: push.ID})
			check(t, err)
			h.want(list[0].ID, c.want)
			_, jobs, err := h.s.Runs.Run(h.admin, list[0].ID)
			check(t, err)
			if !strings.Contains(jobs[0].Cause, c.cause) || c.cause == "" && jobs[0].Cause != "" {
				t.Errorf("got cause %q, want %q", jobs[0].Cause, c.cause)
			}
			if jobs[0].AwaitsApproval() {
				if h.lease() != nil {
					t.Error("it was leased")
				}
				check(t, h.s.Runs.Cancel(h.admin, list[0].ID))
				h.want(list[0].ID, "a=cancelled run=cancelled")
			}
		})
	}
}

// The address of an environment is a job's word, and is kept when it is an address.
func TestEnvironmentURL(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{"https://x.example/a": "https://x.example/a", "javascript:alert(1)": "", "//x": "", "": ""} {
		h := newHouse(t)
		id := h.run(head + "  a:\n    environment: {name: e, url: 'https://${{ steps.x.outputs.y }}'}\n" + step("a"))
		check(t, h.y.Finish(h.runner, h.lease().Ref, sallyport.JobResult{Conclusion: sallyport.Success, EnvironmentURL: said}))
		h.work()
		_, jobs, err := h.s.Runs.Run(h.admin, id)
		check(t, err)
		if e := jobs[0].Environment; e == nil || e.Name != "e" || e.URL != want {
			t.Errorf("%q: got %+v", said, e)
		}
	}
}
