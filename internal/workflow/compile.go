package workflow

import (
	"encoding/json"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// CompileInput is all that Compile works from.
type CompileInput struct {
	File  *File // of a Parse without errors
	Event Event
	// Contexts are what is known at plan time by name (github, vars), each a
	// JSON object. They are validated; inputs are computed here.
	Contexts map[string]json.RawMessage
	// ReadFile returns a file of the pinned commit by its slash-separated path
	// from the root; its error has CodeNotFound when there is no such file.
	ReadFile func(path string) ([]byte, error)
}

// compiler turns one file into one plan.
type compiler struct {
	in    CompileInput
	plan  *sallyport.Plan
	diags diagnostics
	needs map[*Job][]*Job // resolved
	open  []string        // local actions being resolved, outermost first
}

// Compile makes the plan of a workflow for an event. The plan is nil when any
// diagnostic is an error; warnings are also kept in the plan.
func Compile(in CompileInput) (*sallyport.Plan, []sallyport.Diagnostic) {
	f := in.File
	c := &compiler{in: in, plan: &sallyport.Plan{
		Version:     1,
		Workflow:    sallyport.PlanFile{Path: f.Path, Digest: f.Digest},
		Name:        f.Name.Text,
		RunName:     f.RunName,
		Event:       in.Event.Name,
		Env:         f.Env,
		Defaults:    f.Defaults,
		Concurrency: f.Concurrency,
		Permissions: f.Permissions,
		Actions:     map[string]sallyport.PlanAction{},
		Files:       []sallyport.PlanFile{{Path: f.Path, Digest: f.Digest}},
	}}
	if c.plan.Name == "" {
		c.plan.Name = f.Path
	}
	if c.plan.Permissions == nil {
		c.plan.Permissions = sallyport.Permissions{}
	}
	scope, err := NewScope(in.Contexts)
	if err != nil {
		c.report(sallyport.Pos{Line: 1, Col: 1}, "%v", err)
		return nil, c.diags.list
	}
	inputs := c.inputs()
	scope.Set("inputs", inputs)
	if in.Event.Name == "workflow_dispatch" {
		c.plan.Inputs, _ = inputs.MarshalJSON()
	}
	for _, j := range c.order() {
		c.job(j, scope)
	}
	c.plan.Warnings = slices.Clone(f.warnings)
	for _, d := range c.diags.list {
		if d.Severity != severityError {
			c.plan.Warnings = append(c.plan.Warnings, d)
		}
	}
	if c.diags.errors > 0 {
		return nil, c.diags.list
	}
	return c.plan, c.diags.list
}

func (c *compiler) report(pos sallyport.Pos, format string, args ...any) {
	c.diags.add(c.in.File.Path, severityError, pos, format, args...)
}

// order resolves the needs of all jobs and returns the jobs so that each comes
// after those it needs, otherwise in the order of the file.
func (c *compiler) order() []*Job {
	jobs := c.in.File.Jobs
	c.resolveNeeds(jobs)
	if c.diags.errors > 0 {
		return nil
	}
	out := make([]*Job, 0, len(jobs))
	done := make(map[*Job]bool, len(jobs))
	waits := func(need *Job) bool { return !done[need] }
	for len(out) < len(jobs) {
		before := len(out)
		for i := range jobs {
			j := &jobs[i]
			if !done[j] && !slices.ContainsFunc(c.needs[j], waits) {
				done[j] = true
				out = append(out, j)
			}
		}
		if len(out) == before {
			c.reportCycle(jobs, waits)
			return nil
		}
	}
	return out
}

// resolveNeeds finds the jobs that jobs need; ids are compared without regard
// to case.
func (c *compiler) resolveNeeds(jobs []Job) {
	c.needs = make(map[*Job][]*Job, len(jobs))
	index := make(map[string]*Job, len(jobs))
	var keys []string
	for i := range jobs {
		index[foldCase(jobs[i].Key)] = &jobs[i]
		keys = append(keys, jobs[i].Key)
	}
	for i := range jobs {
		j := &jobs[i]
		seen := make(map[*Job]bool, len(j.NeedsAt))
		for _, t := range j.NeedsAt {
			need := index[foldCase(t.Text)]
			switch {
			case need == nil:
				c.report(t.Pos, "job %s needs %s, which is not a job of this workflow%s", quote(j.Key), quote(t.Text), didYouMean(t.Text, keys))
			case need == j:
				c.report(t.Pos, "job %s needs itself: remove it from its needs", quote(j.Key))
			case seen[need]:
				c.report(t.Pos, "job %s needs %s twice: remove one", quote(j.Key), quote(t.Text))
			default:
				c.needs[j] = append(c.needs[j], need)
			}
			seen[need] = true
		}
	}
}

// reportCycle names one cycle among the jobs that wait for each other.
func (c *compiler) reportCycle(jobs []Job, waits func(*Job) bool) {
	var at *Job
	for i := range jobs {
		if waits(&jobs[i]) {
			at = &jobs[i]
			break
		}
	}
	var path []*Job
	for !slices.Contains(path, at) { // each of them waits for another of them
		path = append(path, at)
		at = c.needs[at][slices.IndexFunc(c.needs[at], waits)]
	}
	path = append(path[slices.Index(path, at):], at)
	names := make([]string, len(path))
	for i, j := range path {
		names[i] = j.Key
	}
	c.report(path[0].NeedsAt[0].Pos, "the jobs need each other in a circle: %s; remove one of these needs", strings.Join(names, " needs "))
}

// job adds one job to the plan.
func (c *compiler) job(j *Job, scope *Scope) {
	p := j.PlanJob
	p.Needs = nil
	for _, need := range c.needs[j] { // as the jobs spell themselves
		p.Needs = append(p.Needs, need.Key)
	}
	switch {
	case !j.Uses.IsZero():
		c.report(j.Uses.Pos, "job %s calls the reusable workflow %s; reusable workflows are not supported yet: copy its jobs into this workflow", quote(j.Key), quote(j.Uses.Text))
	case !p.Container.IsZero() && p.Container.Kind != sallyport.TreeNull:
		c.report(p.Container.Pos, "job %s runs in a container; job containers are not supported yet: remove the key, and install what the job needs on the host, under /usr or /opt", quote(j.Key))
	case !p.Services.IsZero() && p.Services.Kind != sallyport.TreeNull:
		c.report(p.Services.Pos, "job %s has services; service containers are not supported yet: start the service in a step", quote(j.Key))
	}
	c.strategy(&p, scope)
	for _, s := range j.StepsAt {
		c.uses(c.in.File.Path, s, 1)
		for _, p := range s.ParallelAt {
			c.uses(c.in.File.Path, p, 1)
		}
	}
	c.plan.Jobs = append(c.plan.Jobs, p)
}

// strategy expands a matrix that is known now.
func (c *compiler) strategy(p *sallyport.PlanJob, scope *Scope) {
	m := p.Strategy.Matrix
	if m.IsZero() {
		return
	}
	if !knownNow(m) {
		p.Strategy.Dynamic = true
		return
	}
	cells, err := expandMatrix(m, scope)
	if err != nil {
		c.report(evalPos(err, m.Pos), "%s", evalMessage(err))
		return
	}
	for _, cell := range cells {
		raw, _ := cell.MarshalJSON() // never fails
		p.Strategy.Cells = append(p.Strategy.Cells, raw)
	}
}

// knownNow reports whether a tree uses no context but inputs.
func knownNow(t sallyport.Tree) bool {
	text := func(s string) bool {
		if !isExpr(s) || isInsert(s) {
			return true
		}
		_, err := parseTemplate(s, func(name string) bool { return name == "inputs" })
		return err == nil
	}
	if t.Kind == sallyport.TreeString && !text(t.Text) {
		return false
	}
	return !slices.ContainsFunc(t.Items, func(i sallyport.Tree) bool { return !knownNow(i) }) &&
		!slices.ContainsFunc(t.Pairs, func(p sallyport.TreePair) bool { return !text(p.Key.Text) || !knownNow(p.Value) })
}

// evalPos and evalMessage take an evaluation error apart for a diagnostic.
func evalPos(err error, otherwise sallyport.Pos) sallyport.Pos {
	if e, ok := err.(*EvalError); ok && e.Pos.Line > 0 {
		return e.Pos
	}
	return otherwise
}

func evalMessage(err error) string {
	if e, ok := err.(*EvalError); ok {
		return e.Message
	}
	return err.Error()
}
