package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// runs implements sallyport.Runs.
type runs struct{ e *Engine }

func (s runs) Runs(ctx context.Context, f sallyport.RunFilter) ([]sallyport.Run, error) {
	if err := s.e.allowList(ctx, f.Project); err != nil {
		return nil, err
	}
	f.Page = bound(f.Page)
	sees, err := s.e.sight(ctx)
	if err != nil {
		return nil, err
	}
	var out []sallyport.Run
	err = s.e.view(ctx, func(tx sallyport.Tx) error {
		all, err := tx.Runs().List(f)
		for _, r := range all {
			if sees(r.Project) {
				out = append(out, r)
			}
		}
		return err
	})
	return out, err
}

// allowList judges a list that may span projects; what the principal may not
// see is then left out of it.
func (e *Engine) allowList(ctx context.Context, project sallyport.ProjectID) error {
	if project == "" {
		return e.allow(ctx, actInstance, "")
	}
	return e.allow(ctx, actRead, project)
}

// bound applies the limits of a page.
func bound(p sallyport.Page) sallyport.Page {
	if p.Limit <= 0 {
		p.Limit = 50
	}
	p.Limit = min(p.Limit, 200)
	return p
}

// load fetches a noun and judges by its project. Nobody learns from the answer
// whether an id exists: a missing one is judged as the installation.
func load[T any](ctx context.Context, e *Engine, a action, get func(tx sallyport.Tx) (T, sallyport.ProjectID, error)) (T, error) {
	return loadFor(ctx, e, a, "", get)
}

// loadFor is load for what is done to an environment of the noun's project.
func loadFor[T any](ctx context.Context, e *Engine, a action, environment string, get func(tx sallyport.Tx) (T, sallyport.ProjectID, error)) (T, error) {
	var v T
	var p sallyport.ProjectID
	err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		v, p, err = get(tx)
		return err
	})
	if denied := e.allowIn(ctx, a, p, environment); denied != nil {
		var none T
		return none, denied
	}
	return v, err
}

func (s runs) run(ctx context.Context, a action, id sallyport.RunID) (sallyport.Run, error) {
	return load(ctx, s.e, a, func(tx sallyport.Tx) (sallyport.Run, sallyport.ProjectID, error) {
		r, err := tx.Runs().Get(id)
		return r, r.Project, err
	})
}

func (s runs) Run(ctx context.Context, id sallyport.RunID) (sallyport.Run, []sallyport.Job, error) {
	r, err := s.run(ctx, actRead, id)
	if err != nil {
		return r, nil, err
	}
	var jobs []sallyport.Job
	err = s.e.view(ctx, func(tx sallyport.Tx) error {
		if r, err = tx.Runs().Get(id); err != nil { // again, to be of one moment with its jobs
			return err
		}
		jobs, err = tx.Jobs().ByRun(id)
		return err
	})
	return r, inOrder(jobs), err
}

// inOrder puts the cells of a job together, and below each cell that calls a
// workflow the jobs of that; keys in order of first appearance.
func inOrder(jobs []sallyport.Job) []sallyport.Job {
	below := make(map[sallyport.JobID][]sallyport.Job)
	for _, j := range jobs {
		below[j.Parent] = append(below[j.Parent], j)
	}
	out := make([]sallyport.Job, 0, len(jobs))
	var walk func(parent sallyport.JobID)
	walk = func(parent sallyport.JobID) {
		first := make(map[string]int)
		for i, j := range below[parent] {
			if _, ok := first[j.Key]; !ok {
				first[j.Key] = i
			}
		}
		slices.SortStableFunc(below[parent], func(a, b sallyport.Job) int { return first[a.Key] - first[b.Key] })
		for _, j := range below[parent] {
			out = append(out, j)
			walk(j.ID)
		}
	}
	walk("")
	return out
}

func decodePlan(encoded []byte) (*sallyport.Plan, error) {
	var p sallyport.Plan
	if err := json.Unmarshal(encoded, &p); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	return &p, nil
}

func (s runs) Plan(ctx context.Context, id sallyport.RunID) (*sallyport.Plan, error) {
	if _, err := s.run(ctx, actRead, id); err != nil {
		return nil, err
	}
	var encoded []byte
	if err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		encoded, err = tx.Runs().Plan(id)
		return err
	}); err != nil {
		return nil, err
	}
	return decodePlan(encoded)
}

const (
	maxLogRead = 8 << 20
	maxLogWait = 55 * time.Second
	logPoll    = 2 * time.Second // in case the writer is another process
)

func (s runs) Log(ctx context.Context, id sallyport.JobID, offset int64, max int, wait time.Duration) ([]byte, bool, error) {
	j, err := load(ctx, s.e, actRead, func(tx sallyport.Tx) (sallyport.Job, sallyport.ProjectID, error) {
		j, err := tx.Jobs().Get(id)
		if err != nil {
			return j, "", err
		}
		r, err := tx.Runs().Get(j.Run)
		return j, r.Project, err
	})
	if err != nil {
		return nil, false, err
	}
	if offset < 0 || max <= 0 {
		return nil, false, sallyport.Errorf(sallyport.CodeInvalid, "an offset of at least 0 and a size of at least 1 are needed")
	}
	max, wait = min(max, maxLogRead), min(wait, maxLogWait)
	more, stop := s.e.queue.follow(topicLog(id))
	defer stop()
	changed, stopChanged := s.e.store.Watch(topicLog(id))
	defer stopChanged()
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		data, err := s.e.logs.Read(ctx, attemptLog(j), offset, max)
		finished := j.Status == sallyport.StatusCompleted || j.Status == sallyport.StatusCollecting
		if err != nil || len(data) > 0 || finished || wait <= 0 {
			return data, err == nil && finished && len(data) == 0, err
		}
		poll := time.NewTimer(logPoll)
		select {
		case <-more:
		case <-changed:
		case <-poll.C:
		case <-deadline.C:
			wait = 0
		case <-ctx.Done():
			poll.Stop()
			return nil, false, context.Cause(ctx)
		}
		poll.Stop()
		if err := s.e.view(ctx, func(tx sallyport.Tx) error {
			j, err = tx.Jobs().Get(id)
			return err
		}); err != nil {
			return nil, false, err
		}
	}
}

func (s runs) Cancel(ctx context.Context, id sallyport.RunID) error {
	if _, err := s.run(ctx, actOperate, id); err != nil {
		return err
	}
	who := sallyport.PrincipalFrom(ctx)
	return s.e.update(ctx, func(c *change) error {
		r, err := c.Runs().Get(id)
		if err != nil {
			return err
		}
		if r.Status == sallyport.StatusCompleted {
			return sallyport.Errorf(sallyport.CodeConflict, "run #%d is completed", r.Number)
		}
		if r.Cancel != "" {
			return s.e.forceCancel(c, id, "stopped by "+who.Name)
		}
		return s.e.cancelRun(c, id, "cancelled by "+who.Name)
	})
}

// Dispatch starts a workflow by hand.
func (s runs) Dispatch(ctx context.Context, p sallyport.ProjectID, file, ref string, inputs []byte) ([]sallyport.Run, error) {
	if err := s.e.allow(ctx, actOperate, p); err != nil {
		return nil, err
	}
	project, err := s.e.project(ctx, p)
	if err != nil {
		return nil, err
	}
	if ref == "" {
		ref = project.DefaultRef()
	}
	refs, err := s.e.repos.Refs(ctx, p)
	if err != nil {
		return nil, err
	}
	commit, ok := refs[ref]
	if !ok {
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no ref %.100q", ref).WithHint("give its full name, as refs/heads/%s", project.DefaultBranch)
	}
	if len(inputs) == 0 {
		inputs = []byte("{}")
	}
	if !json.Valid(inputs) || len(inputs) > 1<<16 {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "inputs must be a JSON object of at most 64 KiB")
	}
	payload := mustJSON(map[string]any{"inputs": json.RawMessage(inputs), "ref": ref, "workflow": file})
	return s.e.Trigger(ctx, sallyport.Push{
		Project: p, Event: "workflow_dispatch", Ref: ref, Commit: commit, Tier: tierOf(project, ref),
		Payload: payload, Inputs: inputs,
	}, Selection{Workflows: []string{file}})
}

// Trigger makes the push and starts its runs in one go, for events that a
// person waits for. Without an event it takes the one the workflows ask for, and
// without a payload a push gets that of its commit. An invalid workflow is a run that
// failed, beside those of the others; it is an *InvalidWorkflow, and nothing starts, when it was named or
// nothing else would start. A workflow that was named and that the event does not start is CodeInvalid.
func (e *Engine) Trigger(ctx context.Context, push sallyport.Push, sel Selection) ([]sallyport.Run, error) {
	if err := e.allow(ctx, actOperate, push.Project); err != nil {
		return nil, err
	}
	if push.Event == "" {
		var err error
		if push.Event, err = e.EventFor(ctx, push, sel); err != nil {
			return nil, err
		}
	}
	push.At = e.now()
	push.ID = sallyport.NewID[sallyport.PushID](push.At)
	push.Actor = sallyport.PrincipalFrom(ctx)
	push.Key = push.Event + "/" + string(push.ID)
	if push.Event == "push" && len(push.Payload) == 0 {
		project, err := e.project(ctx, push.Project)
		if err != nil {
			return nil, err
		}
		head, err := e.repos.Commit(ctx, push.Project, push.Commit)
		if err != nil {
			return nil, err
		}
		push.Payload = pushPayload(e.repositoryPayload(project), push, head)
	}
	if len(push.Payload) == 0 {
		push.Payload = []byte("{}")
	}
	planned, err := e.Plan(ctx, push, sel)
	if err != nil {
		return nil, err
	}
	var wrong []sallyport.Diagnostic
	starts := false
	for _, p := range planned {
		switch {
		case p.Invalid():
			wrong = append(wrong, p.Diagnostics...)
		case p.Plan != nil:
			starts = true
		case len(sel.Workflows) > 0:
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s does not start: %s", p.Path, p.Skipped)
		}
	}
	if len(wrong) > 0 && (!starts || len(sel.Workflows) > 0) {
		return nil, &InvalidWorkflow{wrong}
	}
	return e.startPush(ctx, push, planned)
}

// startPush keeps a push and starts its runs in one transaction. CodeConflict
// when its key is known.
func (e *Engine) startPush(ctx context.Context, push sallyport.Push, planned []Planned) ([]sallyport.Run, error) {
	var out []sallyport.Run
	err := e.update(ctx, func(c *change) error {
		if err := c.Pushes().Insert(push); err != nil {
			return err
		}
		if err := c.record("push.received", "push/"+string(push.ID), map[string]any{
			"event": push.Event, "action": push.Action, "ref": push.Ref, "commit": push.Commit, "tier": push.Tier,
		}); err != nil {
			return err
		}
		var err error
		out, err = e.start(c, push, planned)
		return err
	})
	return out, err
}

// InvalidWorkflow is the error of workflows that do not compile.
type InvalidWorkflow struct{ Diagnostics []sallyport.Diagnostic }

func (i *InvalidWorkflow) Error() string {
	for _, d := range i.Diagnostics {
		if d.Severity == "error" {
			return d.String()
		}
	}
	return "invalid workflow"
}

// Unwrap gives the error its code and message for the faces.
func (i *InvalidWorkflow) Unwrap() error {
	return sallyport.Errorf(sallyport.CodeInvalid, "%s", i.Error())
}

func (s runs) WaitChange(ctx context.Context, id sallyport.RunID) error {
	if _, err := s.run(ctx, actRead, id); err != nil {
		return err
	}
	changed, stop := s.e.store.Watch(topicRun(id))
	defer stop()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
