package engine

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// compiled returns the plan of a workflow that a push to main starts.
func compiled(t *testing.T, src string) *sallyport.Plan {
	t.Helper()
	f, diags := workflow.Parse(workflowFile, []byte(src))
	if f == nil || len(diags) > 0 {
		t.Fatal(diags)
	}
	p, diags := workflow.Compile(workflow.CompileInput{File: f, Event: workflow.Event{Name: "push", Ref: "refs/heads/main"},
		Contexts: map[string]json.RawMessage{"github": json.RawMessage("{}"), "vars": json.RawMessage("{}")}})
	if p == nil {
		t.Fatal(diags)
	}
	return p
}

// callee makes a call of the jobs of a workflow.
func callee(t *testing.T, src string, change ...func(*sallyport.PlanCall)) *sallyport.PlanCall {
	p := compiled(t, src)
	c := &sallyport.PlanCall{Uses: "./.github/workflows/called.yml", Workflow: sallyport.PlanFile{Path: ".github/workflows/called.yml", Digest: "sha256:1"},
		Jobs: p.Jobs, Env: p.Env, Concurrency: p.Concurrency, Permissions: p.Permissions}
	for _, f := range change {
		f(c)
	}
	return c
}

// calls turns jobs of a plan, by key, into calls.
func calls(p *sallyport.Plan, called map[string]*sallyport.PlanCall) *sallyport.Plan {
	for key, c := range called {
		j := p.Job(key)
		j.Call, j.Steps, j.RunsOn = c, nil, sallyport.Tree{}
	}
	return p
}

// begin starts a run of the plan.
func (h *house) begin(p *sallyport.Plan) sallyport.RunID {
	h.t.Helper()
	push := h.push("main", files{"salt": h.clock().String()})
	var id sallyport.RunID
	check(h.t, h.e.update(h.admin, func(c *change) error {
		list, err := h.e.start(c, push, []Planned{{Path: workflowFile, Plan: p}})
		id = list[0].ID
		return err
	}))
	return id
}

// end is how a job ends in a test.
type end struct {
	how     sallyport.Conclusion // "": success
	outputs map[string]string
	tainted []string
}

// drive does the jobs that can be leased until there is none, by name.
func (h *house) drive(ends map[string]end) {
	h.t.Helper()
	for l := h.lease(); l != nil; l = h.lease() {
		h.pass(time.Second)
		e := ends[l.Job.Name]
		if e.how == "" {
			e.how = sallyport.Success
		}
		check(h.t, h.y.Finish(h.runner, l.Ref, sallyport.JobResult{Conclusion: e.how, Outputs: e.outputs, Tainted: e.tainted, Cause: "as the test says"}))
		h.work()
	}
}

func (h *house) leaseOf(name string) *sallyport.Lease {
	h.t.Helper()
	l := h.lease()
	if l == nil || l.Job.Name != name {
		h.t.Fatalf("got lease %+v, want that of %s", l, name)
	}
	return l
}

func str(s string) sallyport.Tree { return sallyport.Tree{Kind: sallyport.TreeString, Text: s} }

func mapping(kv ...string) sallyport.Tree {
	t := sallyport.Tree{Kind: sallyport.TreeMap}
	for i := 0; i < len(kv); i += 2 {
		t.Pairs = append(t.Pairs, sallyport.TreePair{Key: sallyport.Template{Text: kv[i]}, Value: str(kv[i+1])})
	}
	return t
}

func TestCall(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	plan := calls(compiled(t, "env: {A: caller}\n"+head+
		"  first:\n"+step("f")+
		"  release:\n    needs: first\n    name: Release\n"+step("x")+
		"  last:\n    needs: release\n    if: needs.release.outputs.digest == 'd1'\n"+step("l")),
		map[string]*sallyport.PlanCall{"release": callee(t, "env: {A: callee}\n"+head+
			"  build:\n    if: inputs.level == 3\n"+step("b")+
			"  publish:\n    needs: build\n    name: Publish ${{ needs.build.outputs.digest }}\n"+step("p"),
			func(c *sallyport.PlanCall) {
				c.Inputs = []sallyport.PlanInput{{Name: "level", Type: "number"}, {Name: "dry", Type: "boolean", Default: sallyport.Template{Text: "true"}}, {Name: "title", Type: "string"}}
				c.With = mapping("level", "${{ fromJSON('3') }}", "title", "${{ needs.first.outputs.title }}")
				c.Outputs = []sallyport.PlanOutput{{Name: "digest", Value: sallyport.Template{Text: "${{ jobs.build.outputs.digest }}"}},
					{Name: "result", Value: sallyport.Template{Text: "${{ jobs.publish.result }}"}}}
				c.Permissions = sallyport.Permissions{"contents": "read"}
			})})
	id := h.begin(plan)
	h.want(id, "first=queued Release=waiting last=waiting run=queued")
	first := h.leaseOf("first")
	if got := string(first.Contexts["job"]); !strings.Contains(got, "demo/"+workflowFile+"@refs/heads/main") {
		t.Errorf("the run's own job has the job context %s", got)
	}
	check(t, h.y.Finish(h.runner, first.Ref, sallyport.JobResult{Conclusion: sallyport.Success, Outputs: map[string]string{"title": "$(id)"}, Tainted: []string{"title"}}))
	h.work()
	h.want(id, "first=success Release=in_progress Release / build=queued Release / publish=waiting last=waiting run=in_progress")

	l := h.leaseOf("Release / build")
	if l.Job.Key != "release/build" || l.Job.PlanKey() != "build" || l.Plan.Job("build") == nil || len(l.Plan.Jobs) != 1 {
		t.Errorf("got job %s of a plan with %d jobs", l.Job.Key, len(l.Plan.Jobs))
	}
	if got := l.Plan.Env.Pairs[0].Value.Text; got != "callee" || l.Plan.Permissions["contents"] != "read" {
		t.Errorf("the called workflow has the env %q and permissions %v", got, l.Plan.Permissions)
	}
	if got := string(l.Contexts["inputs"]); got != `{"level":3,"dry":true,"title":"$(id)"}` {
		t.Errorf("got inputs %s", got)
	}
	if want := [][]string{{"inputs", "title"}}; !reflect.DeepEqual(l.Tainted, want) {
		t.Errorf("got taint %q, want %q", l.Tainted, want)
	}
	if got := string(l.Contexts["job"]); !strings.Contains(got, "called.yml@refs/heads/main") {
		t.Errorf("got job context %s", got)
	}
	if got := string(l.Contexts["needs"]); got != "{}" {
		t.Errorf("the called job needs %s", got)
	}
	h.finish(l, sallyport.Success, map[string]string{"digest": "d1"})
	h.finish(h.leaseOf("Release / Publish d1"), sallyport.Success, nil)
	h.want(id, "first=success Release=success Release / build=success Release / Publish d1=success last=queued run=in_progress")
	var needs map[string]struct{ Outputs map[string]string }
	check(t, json.Unmarshal(h.leaseOf("last").Contexts["needs"], &needs))
	if want := map[string]string{"digest": "d1", "result": "success"}; !maps.Equal(needs["release"].Outputs, want) {
		t.Errorf("got outputs %v, want %v", needs["release"].Outputs, want)
	}
}

// The same from files of a repository, as a push brings them.
func TestCallOfAFile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	push := h.push("main", files{
		workflowFile: "on: push\nname: CI\npermissions: {contents: read}\nenv: {A: caller}\njobs:\n  rel:\n    name: Release\n    strategy: {matrix: {n: [1, 2], max: [x]}, max-parallel: 1}\n" +
			"    uses: ./.github/workflows/rel.yml\n    with: {n: '${{ matrix.n }}', title: '${{ github.event.head_commit.message }}'}\n" +
			"  last:\n    needs: rel\n    name: last ${{ needs.rel.outputs.o }}\n" + step("l"),
		".github/workflows/rel.yml": "on:\n  workflow_call:\n    inputs: {n: {type: number, required: true}, title: {type: string}}\n    outputs: {o: {value: '${{ jobs.in.outputs.o }}'}}\njobs:\n" +
			"  in:\n    uses: ./.github/workflows/in.yml\n    with: {x: 'v${{ inputs.n }}'}\n",
		".github/workflows/in.yml": "on: {workflow_call: {inputs: {x: {type: string}}, outputs: {o: {value: '${{ jobs.leaf.outputs.o }}'}}}}\njobs:\n" +
			"  leaf:\n    name: leaf ${{ inputs.x }}\n    outputs: {o: x}\n" + step("l"),
	})
	list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Push: push.ID})
	check(t, err)
	if len(list) != 1 {
		t.Fatalf("got %d runs, want that of the one workflow which a push starts", len(list))
	}
	l := h.leaseOf("Release (1, x) / in / leaf v1")
	var github struct {
		Workflow    string
		WorkflowRef string `json:"workflow_ref"`
		Called      string `json:"job_workflow_sha"`
	}
	check(t, json.Unmarshal(l.Contexts["github"], &github))
	if github.Called != push.Commit || github.Workflow != "CI" || !strings.HasPrefix(github.WorkflowRef, "demo/"+workflowFile) {
		t.Errorf("the github context is that of %+v, want the caller's", github)
	}
	h.finish(l, sallyport.Success, map[string]string{"o": "first"})
	h.finish(h.leaseOf("Release (2, x) / in / leaf v2"), sallyport.Success, map[string]string{"o": "second"})
	h.drive(nil)
	h.want(list[0].ID, "Release (1, x)=success Release (1, x) / in=success Release (1, x) / in / leaf v1=success "+
		"Release (2, x)=success Release (2, x) / in=success Release (2, x) / in / leaf v2=success last second=success run=success")
	_, jobs, err := h.s.Runs.Run(h.admin, list[0].ID)
	check(t, err)
	if jobs[0].Uses != "./.github/workflows/rel.yml" || !strings.HasPrefix(string(jobs[0].Inputs), `{"n":1,"title":"change main`) || !reflect.DeepEqual(jobs[0].TaintedInputs, []string{"title"}) {
		t.Errorf("the caller is %+v", jobs[0])
	}
}

// What a called job made of untrusted values is untrusted in the caller too.
func TestTaintComesBackFromACall(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.begin(calls(compiled(t, head+"  c:\n"+step("c")+"  d:\n    needs: c\n"+step("d")),
		map[string]*sallyport.PlanCall{"c": callee(t, head+"  b:\n"+step("b"), func(c *sallyport.PlanCall) {
			c.Outputs = []sallyport.PlanOutput{{Name: "bad", Value: sallyport.Template{Text: "v${{ jobs.b.outputs.title }}"}},
				{Name: "good", Value: sallyport.Template{Text: "${{ jobs.b.outputs.n }}"}}}
		})}))
	l := h.leaseOf("c / b")
	check(t, h.y.Finish(h.runner, l.Ref, sallyport.JobResult{Conclusion: sallyport.Success, Outputs: map[string]string{"title": "$(id)", "n": "1"}, Tainted: []string{"title"}}))
	h.work()
	if got, want := h.leaseOf("d").Tainted, [][]string{{"needs", "c", "outputs", "bad"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCallsOfAMatrixAndNested(t *testing.T) {
	t.Parallel()
	inner := func(t *testing.T) *sallyport.PlanCall {
		return callee(t, head+"  leaf:\n"+step("l"), func(c *sallyport.PlanCall) {
			c.Outputs = []sallyport.PlanOutput{{Name: "o", Value: sallyport.Template{Text: "${{ jobs.leaf.outputs.o }}"}}}
		})
	}
	outer := func(t *testing.T) *sallyport.PlanCall {
		c := callee(t, head+"  mid:\n"+step("m")+"  after:\n    needs: mid\n"+step("a"), func(c *sallyport.PlanCall) {
			c.Outputs = []sallyport.PlanOutput{{Name: "o", Value: sallyport.Template{Text: "${{ jobs.mid.outputs.o }}"}}}
		})
		for i := range c.Jobs {
			if c.Jobs[i].Key == "mid" {
				c.Jobs[i].Call, c.Jobs[i].Steps, c.Jobs[i].RunsOn = inner(t), nil, sallyport.Tree{}
			}
		}
		return c
	}
	const matrix = "  m:\n    strategy: {fail-fast: %, matrix: {n: [1, 2]}}\n"
	t.Run("outputs", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		id := h.begin(calls(compiled(t, head+strings.Replace(matrix, "%", "false", 1)+step("m")+"  z:\n    needs: m\n    name: z ${{ needs.m.outputs.o }}\n"+step("z")),
			map[string]*sallyport.PlanCall{"m": outer(t)}))
		h.drive(map[string]end{"m (1) / mid / leaf": {outputs: map[string]string{"o": "one"}}, "m (2) / mid / leaf": {outputs: map[string]string{"o": ""}}})
		h.want(id, "m (1)=success m (1) / mid=success m (1) / mid / leaf=success m (1) / after=success "+
			"m (2)=success m (2) / mid=success m (2) / mid / leaf=success m (2) / after=success z one=success run=success")
	})
	t.Run("fail-fast", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		id := h.begin(calls(compiled(t, head+strings.Replace(matrix, "%", "true", 1)+step("m")), map[string]*sallyport.PlanCall{"m": outer(t)}))
		one, two := h.leaseOf("m (1) / mid / leaf"), h.leaseOf("m (2) / mid / leaf")
		h.finish(one, sallyport.Failure, nil)
		h.want(id, "m (1)=failure m (1) / mid=failure m (1) / mid / leaf=failure m (1) / after=skipped "+
			"m (2)=in_progress m (2) / mid=in_progress m (2) / mid / leaf=in_progress m (2) / after=waiting run=in_progress")
		if order, err := h.y.Heartbeat(h.runner, two.Ref); err != nil || order != sallyport.OrderCancel {
			t.Errorf("heartbeat: %q, %v; want cancel", order, err)
		}
		h.finish(two, sallyport.Cancelled, nil)
		h.want(id, "m (1)=failure m (1) / mid=failure m (1) / mid / leaf=failure m (1) / after=skipped "+
			"m (2)=cancelled m (2) / mid=cancelled m (2) / mid / leaf=cancelled m (2) / after=cancelled run=failure")
		r, _, err := h.s.Runs.Run(h.admin, id)
		check(t, err)
		if r.Cause != "job m (1) / mid / leaf failed: as the test says" {
			t.Errorf("got cause %q", r.Cause)
		}
	})
	t.Run("max-parallel", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		id := h.begin(calls(compiled(t, head+"  m:\n    strategy: {max-parallel: 1, matrix: {n: [1, 2]}}\n"+step("m")), map[string]*sallyport.PlanCall{"m": inner(t)}))
		l := h.leaseOf("m (1) / leaf")
		if h.lease() != nil {
			t.Fatal("two calls run")
		}
		h.finish(l, sallyport.Success, nil)
		h.finish(h.leaseOf("m (2) / leaf"), sallyport.Success, nil)
		h.want(id, "m (1)=success m (1) / leaf=success m (2)=success m (2) / leaf=success run=success")
	})
}

func TestSecretsOfACall(t *testing.T) {
	t.Parallel()
	lend := func(c *Config) {
		c.Lend = func(context.Context, sallyport.Run, sallyport.Job) (map[string]string, error) {
			return map[string]string{"TOKEN": "12345678", "OTHER": "abcdefgh"}, nil
		}
	}
	for _, c := range []struct {
		name   string
		change func(*sallyport.PlanCall)
		want   map[string]string
		lent   bool
	}{
		{"none", func(*sallyport.PlanCall) {}, nil, false},
		{"inherit", func(c *sallyport.PlanCall) { c.InheritSecrets = true }, map[string]string{"TOKEN": "12345678", "OTHER": "abcdefgh"}, true},
		{"named", func(c *sallyport.PlanCall) {
			c.Secrets = mapping("key", "${{ secrets.TOKEN }}", "missing", "${{ secrets.NOTHING }}", "made", "x-${{ secrets.other }}-${{ matrix.n }}")
		}, map[string]string{"key": "12345678", "made": "x-abcdefgh-1"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, lend)
			h.begin(calls(compiled(t, head+"  m:\n    strategy: {matrix: {n: [1]}}\n"+step("m")), map[string]*sallyport.PlanCall{"m": callee(t, head+"  b:\n"+step("b"), c.change)}))
			l := h.leaseOf("m (1) / b")
			if !maps.Equal(l.Secrets, c.want) || l.Job.Lent != c.lent {
				t.Errorf("got secrets %v, lent %v; want %v, %v", l.Secrets, l.Job.Lent, c.want, c.lent)
			}
		})
	}
}

func TestCallThatDoesNotRun(t *testing.T) {
	t.Parallel()
	simple := func(t *testing.T) *sallyport.PlanCall { return callee(t, head+"  b:\n"+step("b")) }
	for _, c := range []struct {
		name, caller string
		call         func(t *testing.T) *sallyport.PlanCall
		want         string
	}{
		{"if", "  c:\n    if: false\n" + step("c"), simple, "c=skipped run=skipped"},
		{"every job skipped", "  c:\n" + step("c") + "  d:\n    needs: c\n" + step("d"),
			func(t *testing.T) *sallyport.PlanCall { return callee(t, head+"  b:\n    if: false\n"+step("b")) },
			"c=skipped c / b=skipped d=skipped run=skipped"},
		{"wrong type", "  c:\n" + step("c"), func(t *testing.T) *sallyport.PlanCall {
			c := simple(t)
			c.Inputs, c.With = []sallyport.PlanInput{{Name: "n", Type: "number"}}, mapping("n", "${{ 'x' }}")
			return c
		}, "c=failure run=failure"},
		{"a broken output", "  c:\n" + step("c"), func(t *testing.T) *sallyport.PlanCall {
			c := callee(t, head+"  b:\n    if: false\n"+step("b"))
			c.Outputs = []sallyport.PlanOutput{{Name: "o", Value: sallyport.Template{Text: "${{ fromJSON('{') }}"}}}
			return c
		}, "c=failure c / b=skipped run=failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.want(h.begin(calls(compiled(t, head+c.caller), map[string]*sallyport.PlanCall{"c": c.call(t)})), c.want)
		})
	}
}

// Calls outlive the engine: what is kept says all.
func TestCallAfterARestart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.begin(calls(compiled(t, head+"  c:\n"+step("c")), map[string]*sallyport.PlanCall{"c": callee(t, head+"  a:\n"+step("a")+"  b:\n    needs: a\n"+step("b"))}))
	h.leaseOf("c / a")
	check(t, h.e.Reconcile(t.Context()))
	check(t, h.e.RunnerGone(t.Context(), "r1"))
	h.pass(time.Second)
	h.want(id, "c=in_progress c / a=queued c / b=waiting run=in_progress")
	h.drive(nil)
	h.want(id, "c=success c / a=success c / b=success run=success")
}

func TestCancelOfACall(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.begin(calls(compiled(t, head+"  c:\n"+step("c")+"  d:\n    needs: c\n"+step("d")), map[string]*sallyport.PlanCall{
		"c": callee(t, head+"  a:\n"+step("a")+"  b:\n    needs: a\n"+step("b")+"  tidy:\n    needs: a\n    if: always()\n"+step("t"))}))
	l := h.leaseOf("c / a")
	check(t, h.s.Runs.Cancel(h.admin, id))
	h.finish(l, sallyport.Cancelled, nil)
	h.want(id, "c=in_progress c / a=cancelled c / b=cancelled c / tidy=queued d=waiting run=in_progress")
	h.drive(nil)
	h.want(id, "c=cancelled c / a=cancelled c / b=cancelled c / tidy=success d=cancelled run=cancelled")
}
