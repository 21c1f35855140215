package engine

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// frame is one workflow of a run: its own, or one that a cell of a job calls.
// The needs, inputs, secrets and env of its jobs are its own; what github and
// vars hold, and whether the run was cancelled, is the same in all frames.
type frame struct {
	s      *settlement
	above  *frame              // of the caller; nil for the run's own workflow
	caller *sallyport.Job      // the cell that calls this one
	call   *sallyport.PlanCall // what it calls
	jobs   []sallyport.PlanJob // every one after those it needs
	cells  map[string][]*sallyport.Job
	base   *workflow.Scope // github, inputs, vars
	x      map[string]*workflow.Expansion
}

// root returns the frame of the run's own workflow.
func (s *settlement) root() (*frame, error) {
	if f := s.frames[""]; f != nil {
		return f, nil
	}
	scope, err := workflow.NewScope(s.e.runContexts(s.p, s.push, s.run, s.plan))
	if err != nil {
		return nil, err
	}
	return s.open(&frame{jobs: s.plan.Jobs, base: scope}), nil
}

// callee returns the frame of the workflow that a cell of j calls.
func (f *frame) callee(j *sallyport.PlanJob, cell *sallyport.Job) (*frame, error) {
	if g := f.s.frames[cell.ID]; g != nil {
		return g, nil
	}
	inputs, err := workflow.FromJSON(orEmptyObject(cell.Inputs))
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInternal, "the inputs of job %s cannot be read: %v", cell.ID, err)
	}
	scope := f.base.Clone()
	scope.Set("inputs", inputs)
	for _, name := range cell.TaintedInputs {
		scope.Taint("inputs", name)
	}
	return f.s.open(&frame{above: f, caller: cell, call: j.Call, jobs: j.Call.Jobs, base: scope}), nil
}

func (s *settlement) open(f *frame) *frame {
	f.s, f.cells, f.x = s, make(map[string][]*sallyport.Job), make(map[string]*workflow.Expansion)
	var id sallyport.JobID
	if f.caller != nil {
		id = f.caller.ID
	}
	for _, j := range s.below[id] {
		f.cells[j.PlanKey()] = append(f.cells[j.PlanKey()], j)
	}
	s.frames[id] = f
	return f
}

// home returns the frame that a job belongs to, and its part of the plan.
func (s *settlement) home(id sallyport.JobID) (*frame, *sallyport.PlanJob, error) {
	missing := sallyport.Errorf(sallyport.CodeInternal, "job %s is not in its plan", id)
	j := s.jobs[id]
	if j == nil {
		return nil, nil, missing
	}
	f, err := s.root()
	if j.Parent != "" {
		var caller *sallyport.PlanJob
		if f, caller, err = s.home(j.Parent); err == nil && caller.Call == nil {
			err = missing
		}
		if err == nil {
			f, err = f.callee(caller, s.jobs[j.Parent])
		}
	}
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(f.jobs, func(p sallyport.PlanJob) bool { return p.Key == j.PlanKey() })
	if i < 0 {
		return nil, nil, missing
	}
	return f, &f.jobs[i], nil
}

// all are the frame's jobs, in the order of the plan.
func (f *frame) all() []*sallyport.Job {
	var all []*sallyport.Job
	for _, j := range f.jobs {
		all = append(all, f.cells[j.Key]...)
	}
	return all
}

// path is the key of one of the frame's jobs within the run.
func (f *frame) path(key string) string {
	if f.caller == nil {
		return key
	}
	return f.caller.Key + "/" + key
}

// name is how people see one of the frame's jobs.
func (f *frame) name(name string) string {
	if f.caller == nil {
		return name
	}
	return f.caller.Name + " / " + name
}

func (f *frame) paths(keys []string) []string {
	var out []string
	for _, k := range keys {
		out = append(out, f.path(k))
	}
	return out
}

// rows makes the frame's jobs, before anything is known of them.
func (f *frame) rows() error {
	for _, j := range f.jobs {
		name := j.Key
		if !j.Name.IsZero() && !strings.Contains(j.Name.Text, "${{") {
			name = j.Name.Text
		}
		job := &sallyport.Job{
			ID: newID[sallyport.JobID](f.s.c), Run: f.s.run.ID, Key: f.path(j.Key), Name: f.name(name), Needs: f.paths(j.Needs),
			Status: sallyport.StatusWaiting, CreatedAt: f.s.c.now,
		}
		if f.caller != nil {
			job.Parent = f.caller.ID
		}
		if j.Call != nil {
			job.Uses = j.Call.Uses
		}
		if err := f.insert(&j, job); err != nil {
			return err
		}
	}
	return nil
}

func (f *frame) insert(j *sallyport.PlanJob, job *sallyport.Job) error {
	f.s.keep(job)
	f.cells[j.Key] = append(f.cells[j.Key], job)
	return f.s.c.Jobs().Insert(*job)
}

// cancelled says why all of the workflow must stop; "" when it goes on.
func (f *frame) cancelled() string {
	switch {
	case f.caller == nil:
		return f.s.run.Cancel
	case f.caller.Cancel != "":
		return f.caller.Cancel
	default:
		return f.above.cancelled()
	}
}

// status is what the status functions see in a job: success means that every
// job it depends on, however far, succeeded; failure that one of them failed.
func (f *frame) status(j *sallyport.PlanJob) workflow.Status {
	cancelled := f.cancelled() != ""
	st := workflow.Status{Success: !cancelled, Cancelled: cancelled}
	needs := make(map[string]bool) // all of them: needs stand before their users
	for _, n := range j.Needs {
		needs[n] = true
	}
	for i := len(f.jobs) - 1; i >= 0; i-- {
		need := &f.jobs[i]
		if !needs[need.Key] {
			continue
		}
		for _, n := range need.Needs {
			needs[n] = true
		}
		switch result(f.cells[need.Key]) {
		case sallyport.Success:
		case sallyport.Failure:
			st.Success, st.Failure = false, true
		default:
			st.Success = false
		}
	}
	return st
}

// scope is what the expressions of a job see that are the same for all its cells.
func (f *frame) scope(j *sallyport.PlanJob) (*workflow.Scope, error) {
	needs, err := workflow.FromJSON(f.needs(j))
	if err != nil {
		return nil, err
	}
	scope := f.base.Clone()
	scope.Set("needs", needs)
	for _, path := range f.taintedNeeds(j) {
		scope.Taint(path...)
	}
	scope.SetStatus(f.status(j))
	return scope, nil
}

// judge decides whether a job runs, and as what.
func (f *frame) judge(j *sallyport.PlanJob) (*workflow.Expansion, error) {
	scope, err := f.scope(j)
	if err != nil {
		return nil, err
	}
	x, err := workflow.Expand(f.s.plan, j, scope)
	if err != nil {
		return nil, err
	}
	if x.Run {
		f.x[j.Key] = &x
	}
	return &x, nil
}

// expansion is what the strategy makes of a job that was judged to run, whatever
// its condition says now.
func (f *frame) expansion(j *sallyport.PlanJob) (*workflow.Expansion, error) {
	if x := f.x[j.Key]; x != nil {
		return x, nil
	}
	running := *j
	running.If = sallyport.Template{Text: "always()"}
	return f.judge(&running)
}

// cell is what the job's strategy says of one of its cells.
func (f *frame) cell(j *sallyport.PlanJob, job *sallyport.Job) (workflow.Cell, error) {
	x, err := f.expansion(j)
	if err != nil {
		return workflow.Cell{}, err
	}
	for _, c := range x.Cells {
		if c.Index == job.Index {
			return c, nil
		}
	}
	return workflow.Cell{}, sallyport.Errorf(sallyport.CodeInternal, "cell %d of job %s is gone", job.Index, job.Key)
}

// cellScope is the scope of the job with what only its cell knows.
func (f *frame) cellScope(j *sallyport.PlanJob, c workflow.Cell) (*workflow.Scope, error) {
	scope, err := f.scope(j)
	if err != nil {
		return nil, err
	}
	for name, raw := range map[string]json.RawMessage{"matrix": c.Matrix, "strategy": c.Strategy} {
		v, err := workflow.FromJSON(orNull(raw))
		if err != nil {
			return nil, err
		}
		scope.Set(name, v)
	}
	if c.Tainted {
		scope.Taint("matrix")
	}
	return scope, nil
}

// needs is the needs context of a job: result and outputs of each job it needs.
func (f *frame) needs(j *sallyport.PlanJob) json.RawMessage {
	needs := make(map[string]any, len(j.Needs))
	for _, key := range j.Needs {
		needs[key] = map[string]any{"result": string(result(f.cells[key])), "outputs": outputs(f.cells[key])}
	}
	return mustJSON(needs)
}

// outputs are those of a job of which each cell may have set its own: the cell that ended
// last and set one has the word. Of the cells of a call those that succeeded go before others.
func outputs(cells []*sallyport.Job) map[string]string {
	late := slices.Clone(cells)
	slices.SortStableFunc(late, func(a, b *sallyport.Job) int {
		if a.Uses != "" && (a.Conclusion == sallyport.Success) != (b.Conclusion == sallyport.Success) {
			if a.Conclusion == sallyport.Success {
				return 1
			}
			return -1
		}
		return a.FinishedAt.Compare(b.FinishedAt)
	})
	out := map[string]string{}
	for _, c := range late {
		for k, v := range c.Outputs {
			if v != "" || out[k] == "" {
				out[k] = v
			}
		}
	}
	return out
}

// taintedNeeds are the paths of the outputs in the needs context that were
// derived from untrusted values.
func (f *frame) taintedNeeds(j *sallyport.PlanJob) [][]string {
	var out [][]string
	for _, key := range j.Needs {
		for _, name := range taintedOutputs(f.cells[key]) {
			out = append(out, []string{"needs", key, "outputs", name})
		}
	}
	return out
}

func taintedOutputs(cells []*sallyport.Job) []string {
	var names []string
	for _, cell := range cells {
		names = append(names, cell.Tainted...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func done(cells []*sallyport.Job) bool {
	for _, c := range cells {
		if c.Status != sallyport.StatusCompleted {
			return false
		}
	}
	return true
}

// result is what a job's cells amount to. A tolerated failure counts as success.
func result(cells []*sallyport.Job) sallyport.Conclusion {
	out := sallyport.Skipped
	for _, c := range cells {
		got := c.Conclusion
		if got == sallyport.Failure && c.Tolerated {
			got = sallyport.Success
		}
		if severity(got) > severity(out) {
			out = got
		}
	}
	return out
}

func severity(c sallyport.Conclusion) int {
	switch c {
	case sallyport.Failure:
		return 3
	case sallyport.Cancelled:
		return 2
	case sallyport.Success:
		return 1
	default:
		return 0
	}
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

func orEmptyObject(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("{}")
	}
	return raw
}
