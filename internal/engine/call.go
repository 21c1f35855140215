package engine

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// A call is a cell of a job that has a workflow instead of steps: it hands over
// inputs when it is ready, its jobs are a frame of their own below it, and
// its outputs are what that workflow declares over its jobs.

// handOver evaluates what the cell gives to the workflow that it calls, and that
// workflow's concurrency group.
func (f *frame) handOver(j *sallyport.PlanJob, job *sallyport.Job, cell workflow.Cell) error {
	scope, err := f.cellScope(j, cell)
	if err != nil {
		return err
	}
	given, err := scope.Tree(j.Call.With)
	if err != nil {
		return err
	}
	var inputs []workflow.Entry
	for _, in := range j.Call.Inputs {
		v, ok := given.Get(in.Name)
		if !ok || v.Kind() == workflow.KindNull {
			if v, err = f.defaultInput(in); err != nil {
				return err
			}
		}
		if v, err = typed(in, v); err != nil {
			return err
		}
		inputs = append(inputs, workflow.Entry{Key: in.Name, Value: v})
		if v.Tainted() {
			job.TaintedInputs = append(job.TaintedInputs, in.Name)
		}
	}
	if job.Inputs, err = workflow.Object(inputs...).MarshalJSON(); err != nil {
		return err
	}
	g, err := f.callee(j, job)
	if err != nil {
		return err
	}
	set, err := g.base.Concurrency(j.Call.Concurrency)
	job.CallGroup = groupName(set.Group)
	return err
}

// defaultInput is the declared default, which sees what the called workflow sees, else
// the empty value of the input's type.
func (f *frame) defaultInput(in sallyport.PlanInput) (workflow.Value, error) {
	if in.Default.IsZero() {
		switch in.Type {
		case "boolean":
			return workflow.Bool(false), nil
		case "number":
			return workflow.Number(0), nil
		default:
			return workflow.String(""), nil
		}
	}
	switch in.Type {
	case "boolean":
		v, err := f.base.Bool(in.Default, false)
		return workflow.Bool(v), err
	case "number":
		v, err := f.base.Number(in.Default, 0)
		return workflow.Number(v), err
	default:
		return f.base.Value(in.Default)
	}
}

// typed checks a value against its input. Text takes any scalar; a boolean or a
// number must be one.
func typed(in sallyport.PlanInput, v workflow.Value) (workflow.Value, error) {
	var ok bool
	switch kind := v.Kind(); in.Type {
	case "boolean":
		ok = kind == workflow.KindBool
	case "number":
		ok = kind == workflow.KindNumber
	default:
		if ok = kind != workflow.KindArray && kind != workflow.KindObject; ok && kind != workflow.KindString {
			text := workflow.String(v.String())
			if v.Tainted() {
				text = text.Taint()
			}
			v = text
		}
	}
	if !ok {
		return v, sallyport.Errorf(sallyport.CodeInvalid, "the input %s must be of type %s, and %.80q is not: use fromJSON() to turn text into it", in.Name, in.Type, v.String())
	}
	return v, nil
}

// begin makes the jobs of the called workflow.
func (f *frame) begin(j *sallyport.PlanJob, job *sallyport.Job) error {
	if len(f.s.jobs)+len(j.Call.Jobs) > maxRunJobs {
		return f.s.complete(job, sallyport.Failure, tooMany)
	}
	g, err := f.callee(j, job)
	if err != nil {
		return err
	}
	if err := transit(&job.Status, sallyport.StatusInProgress); err != nil {
		return err
	}
	if err := f.s.c.Jobs().Save(*job); err != nil {
		return err
	}
	detail := map[string]any{"run": job.Run, "name": job.Key, "workflow": j.Call.Workflow.Path, "digest": j.Call.Workflow.Digest}
	if src := j.Call.Source; src != nil {
		detail["repository"], detail["commit"] = src.Repository, src.Commit
	}
	if err := f.s.c.record("job.called", "job/"+string(job.ID), detail); err != nil {
		return err
	}
	return g.rows()
}

// settleCalls settles the workflows that cells of the job call, and tells whether one ended.
func (f *frame) settleCalls(j *sallyport.PlanJob) (ended bool, err error) {
	if j.Call == nil {
		return false, nil
	}
	for _, job := range f.cells[j.Key] {
		if job.Status != sallyport.StatusInProgress {
			continue
		}
		g, err := f.callee(j, job)
		if err != nil {
			return ended, err
		}
		if err := g.settle(); err != nil {
			return ended, err
		}
		if err := g.conclude(); err != nil {
			return ended, err
		}
		ended = ended || job.Status == sallyport.StatusCompleted
	}
	return ended, nil
}

// conclude completes the call when all its jobs are.
func (f *frame) conclude() error {
	all := f.all()
	if !done(all) {
		i := slices.IndexFunc(all, func(j *sallyport.Job) bool { return !j.StartedAt.IsZero() })
		if i < 0 || !f.caller.StartedAt.IsZero() {
			return nil
		}
		f.caller.StartedAt = all[i].StartedAt
		return f.s.c.Jobs().Save(*f.caller)
	}
	how, why := conclusion(all)
	if err := f.result(); err != nil {
		how, why = sallyport.Failure, clip(fmt.Sprintf("job %s failed: %v", f.caller.Name, err), 1000)
	}
	return f.s.complete(f.caller, how, why)
}

// result evaluates the outputs that the called workflow declares, over its jobs.
func (f *frame) result() error {
	scope := f.base.Clone()
	jobs := make(map[string]any, len(f.jobs))
	for _, j := range f.jobs {
		jobs[j.Key] = map[string]any{"result": string(result(f.cells[j.Key])), "outputs": outputs(f.cells[j.Key])}
	}
	v, err := workflow.FromJSON(mustJSON(jobs))
	if err != nil {
		return err
	}
	scope.Set("jobs", v)
	for _, j := range f.jobs {
		for _, name := range taintedOutputs(f.cells[j.Key]) {
			scope.Taint("jobs", j.Key, "outputs", name)
		}
	}
	out := make(map[string]string)
	var tainted []string
	for _, o := range f.call.Outputs {
		text, t, err := scope.Text(o.Value)
		if err != nil {
			return fmt.Errorf("output %s: %w", o.Name, err)
		}
		out[o.Name] = text
		if t {
			tainted = append(tainted, o.Name)
		}
	}
	f.caller.Outputs = boundOutputs(out)
	f.caller.Tainted = slices.DeleteFunc(tainted, func(name string) bool { _, ok := f.caller.Outputs[name]; return !ok })
	return nil
}

// lends reports whether any secret reaches the workflow.
func (f *frame) lends() bool {
	return f.caller == nil || f.above.lends() && (f.call.InheritSecrets || len(f.call.Secrets.Pairs) > 0)
}

// secrets are what of the lent secrets reaches the workflow, under its own names.
func (f *frame) secrets(lent map[string]string) (map[string]string, error) {
	if f.caller == nil {
		return lent, nil
	}
	lent, err := f.above.secrets(lent)
	if err != nil || f.call.InheritSecrets {
		return lent, err
	}
	scope, err := f.callerScope()
	if err != nil {
		return nil, err
	}
	var entries []workflow.Entry
	for name, value := range lent {
		entries = append(entries, workflow.Entry{Key: name, Value: workflow.String(value)})
	}
	scope.Set("secrets", workflow.Object(entries...))
	vars, err := scope.Vars(f.call.Secrets)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for _, v := range vars {
		if v.Value != "" { // one that is not set is empty, which needs no masking
			out[v.Name] = v.Value
		}
	}
	return out, nil
}

// callerScope is the scope of the cell that calls this workflow.
func (f *frame) callerScope() (*workflow.Scope, error) {
	_, j, err := f.s.home(f.caller.ID)
	if err != nil {
		return nil, err
	}
	cell, err := f.above.cell(j, f.caller)
	if err != nil {
		return nil, err
	}
	return f.above.cellScope(j, cell)
}

// file is the workflow that defines the frame's jobs.
func (f *frame) file() (repository, commit string, file sallyport.PlanFile) {
	if f.caller == nil {
		return f.s.e.fullName(f.s.p), f.s.run.Commit, f.s.plan.Workflow
	}
	if src := f.call.Source; src != nil {
		return src.Repository, src.Commit, f.call.Workflow
	}
	repository, commit, _ = f.above.file()
	return repository, commit, f.call.Workflow
}

// githubContext is the run's, with the commit of the workflow that is called.
func (f *frame) githubContext(raw json.RawMessage) (json.RawMessage, error) {
	if f.caller == nil {
		return raw, nil
	}
	var g map[string]json.RawMessage
	if err := json.Unmarshal(raw, &g); err != nil {
		return nil, err
	}
	_, commit, _ := f.file()
	g["job_workflow_sha"] = mustJSON(commit)
	return mustJSON(g), nil
}

// jobContext is what the job context knows before the job starts: where it is defined.
func (f *frame) jobContext() json.RawMessage {
	repository, commit, file := f.file()
	ref := f.s.run.Ref
	for g := f; g != nil && g.call != nil; g = g.above {
		if g.call.Source != nil {
			ref = g.call.Source.Ref
			break
		}
	}
	return mustJSON(map[string]string{
		"workflow_ref": repository + "/" + file.Path + "@" + ref, "workflow_sha": commit,
		"workflow_repository": repository, "workflow_file_path": file.Path,
	})
}
