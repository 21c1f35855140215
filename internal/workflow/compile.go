package workflow

import (
	"encoding/json"
	"slices"

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
	// Remote returns what the action lock names for a repository (owner/name) at a
	// ref. Its error is shown where the reference stands, with its hint. Nil: nothing is locked.
	Remote func(repository, ref string) (*Remote, error)
	// Outline makes a plan for people to look at, never one to run: an action or a workflow
	// that cannot be had is missing from it with a warning.
	Outline bool
}

// compiler turns one file, and the workflows that it calls, into one plan.
type compiler struct {
	in    CompileInput
	plan  *sallyport.Plan
	diags diagnostics
	open  []string         // actions being resolved, outermost first
	calls map[string]*File // reusable workflows, by path or reference; nil: they cannot be used
	jobs  int              // of the plan, those of called workflows included
	check *checker         // nil: a plan is made
	// checkouts are the directories beneath the workspace in which steps of the job so far
	// put the repository at the run's commit.
	checkouts []string
}

// Compile makes the plan of a workflow for an event. The plan is nil when any
// diagnostic is an error; warnings are also kept in the plan.
func Compile(in CompileInput) (*sallyport.Plan, []sallyport.Diagnostic) {
	f := in.File
	c := &compiler{in: in, calls: map[string]*File{}, plan: &sallyport.Plan{
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
	c.plan.Jobs = c.unit(&unit{file: f, at: metafile{file: f.Path}, scope: scope, known: isInputs, grant: f.Permissions, open: []string{f.Path}})
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

// missing is the severity of an action or a workflow that cannot be had.
func (c *compiler) missing() string {
	if c.in.Outline {
		return severityWarning
	}
	return severityError
}

func (c *compiler) report(pos sallyport.Pos, format string, args ...any) {
	c.diags.add(c.in.File.Path, severityError, pos, format, args...)
}

// unit is one workflow file in the course of a plan: the one that an event
// starts, or one that a job calls.
type unit struct {
	file  *File
	at    metafile
	scope *Scope                // what is known of its contexts now
	known func(ctx string) bool // which contexts these are
	// grant is what its jobs have without permissions of their own. nil: nobody said.
	grant sallyport.Permissions
	open  []string // the files that call each other, outermost first, this one last
}

// isInputs and nothing are the contexts that are known of a workflow that an
// event starts, and of one that is called: there inputs may be outputs of jobs.
func isInputs(name string) bool { return name == "inputs" }
func nothing(string) bool       { return false }

func (c *compiler) reporter(u *unit, severity string) reporter {
	return func(pos sallyport.Pos, format string, args ...any) {
		c.diags.add(u.at.file, severity, pos, format, args...)
	}
}

// unit returns the jobs of a workflow file, every job after those it needs.
func (c *compiler) unit(u *unit) []sallyport.PlanJob {
	report := c.reporter(u, severityError)
	c.choices(u)
	order, needs := u.file.order(report, c.reporter(u, severityWarning))
	out := make([]sallyport.PlanJob, 0, len(order))
	for _, j := range order {
		if c.jobs++; c.jobs > maxPlanJobs {
			if c.jobs == maxPlanJobs+1 {
				report(j.Pos, "the workflow has more than %d jobs with those of the workflows that it calls", maxPlanJobs)
			}
			return out
		}
		out = append(out, c.job(u, j, needs[j]))
	}
	return out
}

// job returns one job as the plan has it.
func (c *compiler) job(u *unit, j *Job, needs []*Job) sallyport.PlanJob {
	p := j.PlanJob
	p.Needs = nil
	for _, need := range needs { // as the jobs spell themselves
		p.Needs = append(p.Needs, need.Key)
	}
	if !j.Uses.IsZero() {
		p.Call = c.call(u, j)
	}
	c.strategy(u, &p)
	c.checkouts = nil
	if c.check != nil {
		c.check.steps(u.at.file, j.StepsAt, 1)
		return p
	}
	p.Steps = make([]sallyport.PlanStep, len(j.StepsAt))
	for i, s := range j.StepsAt {
		p.Steps[i] = c.step(u.at, s, 1)
	}
	return p
}

// strategy expands a matrix that is known now.
func (c *compiler) strategy(u *unit, p *sallyport.PlanJob) {
	m := p.Strategy.Matrix
	if m.IsZero() || c.check != nil && hasExpr(m) {
		return
	}
	if !knownNow(m, u.known) {
		p.Strategy.Dynamic = true
		return
	}
	cells, err := expandMatrix(m, u.scope)
	if err != nil {
		c.reporter(u, severityError)(evalPos(err, m.Pos), "%s", evalMessage(err))
		return
	}
	for _, cell := range cells {
		raw, _ := cell.MarshalJSON() // never fails
		p.Strategy.Cells = append(p.Strategy.Cells, raw)
	}
}

// knownNow reports whether a tree uses no other contexts than those known.
func knownNow(t sallyport.Tree, known func(string) bool) bool {
	text := func(s string) bool {
		if !isExpr(s) || isInsert(s) {
			return true
		}
		_, err := parseTemplate(s, known)
		return err == nil
	}
	if t.Kind == sallyport.TreeString && !text(t.Text) {
		return false
	}
	return !slices.ContainsFunc(t.Items, func(i sallyport.Tree) bool { return !knownNow(i, known) }) &&
		!slices.ContainsFunc(t.Pairs, func(p sallyport.TreePair) bool { return !text(p.Key.Text) || !knownNow(p.Value, known) })
}

// hasExpr reports whether there is any expression in a tree.
func hasExpr(t sallyport.Tree) bool {
	return isExpr(t.Text) || slices.ContainsFunc(t.Items, hasExpr) ||
		slices.ContainsFunc(t.Pairs, func(p sallyport.TreePair) bool { return isExpr(p.Key.Text) || hasExpr(p.Value) })
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
