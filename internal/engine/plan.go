package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/actions"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

const (
	workflowDir      = ".github/workflows"
	maxWorkflows     = 200
	maxWorkflowBytes = 1 << 20
	maxChanged       = 3000 // GitHub looks at the same number of paths
	maxSummary       = 200  // of a title
)

// Planned is what one workflow file means for one event: a plan, or what is wrong with it.
type Planned struct {
	Path        string
	Plan        *sallyport.Plan
	Diagnostics []sallyport.Diagnostic // warnings beside a plan; errors without one
	Skipped     string                 // why the event does not start it; "" when it does
}

// Invalid reports whether the file has errors.
func (p Planned) Invalid() bool {
	for _, d := range p.Diagnostics {
		if d.Severity == "error" {
			return true
		}
	}
	return false
}

// Selection narrows what a push starts; the zero value selects everything.
type Selection struct {
	Workflows []string // paths in the repository
	Job       string   // this job and those it needs
	// Lenient starts what names the event at all, without regard to its filters
	// on branches, paths and types: somebody asked for it by hand.
	Lenient bool
	// Outline makes plans to look at that are not to be run: see workflow.CompileInput.
	Outline bool
	Matrix  map[string]string  // only the cells with these values
	Env     []sallyport.EnvVar // put before the workflow's own env
}

// plan is the stage that turns a push into runs.
func (e *Engine) plan(ctx context.Context, w sallyport.Work) error {
	var push sallyport.Push
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		push, err = tx.Pushes().Get(sallyport.PushID(w.Subject))
		return err
	}); err != nil {
		return err
	}
	planned, err := e.Plan(ctx, push, Selection{})
	if err != nil {
		return err
	}
	next, concerns, err := e.reschedule(ctx, push)
	if err != nil {
		return err
	}
	reach, err := e.egressChanged(ctx, push)
	if err != nil {
		return err
	}
	return e.finish(ctx, w, func(c *change) error {
		if concerns {
			if err := c.Work().Drop(sallyport.QueueSchedule, string(push.Project)); err != nil {
				return err
			}
		}
		if concerns && !next.IsZero() {
			if err := c.enqueueNext(push.Project, next); err != nil {
				return err
			}
		}
		if err := c.recordEgress(push.Project, reach); err != nil {
			return err
		}
		_, err := e.start(c, push, planned)
		return err
	})
}

func (e *Engine) planFailed(ctx context.Context, w sallyport.Work, cause error) error {
	return e.finish(ctx, w, func(c *change) error {
		return c.record("plan.failed", "push/"+w.Subject, map[string]string{"cause": userText(cause)})
	})
}

// Plan reads the workflows at the push's commit and compiles those that the
// event starts. It changes nothing.
func (e *Engine) Plan(ctx context.Context, push sallyport.Push, sel Selection) ([]Planned, error) {
	p, err := e.project(ctx, push.Project)
	if err != nil {
		return nil, err
	}
	in, err := e.planInput(ctx, p, push)
	if err != nil {
		return nil, err
	}
	remote := &remoteActions{e: e, p: p, push: push, trees: map[sallyport.Digest]actions.Metadata{}}
	in.Remote, in.Outline = remote.remote(ctx), sel.Outline
	paths := sel.Workflows
	if len(paths) == 0 {
		if paths, err = e.workflowFiles(ctx, push); err != nil {
			return nil, err
		}
	}
	rules, err := e.rules(ctx, p, push)
	if err != nil {
		return nil, err
	}
	skip, err := e.skipMark(ctx, push, sel)
	if err != nil {
		return nil, err
	}
	var out []Planned
	lint := remarks{read: in.ReadFile, today: e.now()}
	for _, file := range paths {
		if skip != "" {
			out = append(out, Planned{Path: file, Skipped: "the commit's message says " + skip})
			continue
		}
		src, err := in.ReadFile(file)
		if sallyport.ErrorCode(err) == sallyport.CodeInvalid { // as one that is too large
			out = append(out, Planned{Path: file, Diagnostics: []sallyport.Diagnostic{unreadable(file, err)}})
			continue
		}
		if err != nil {
			return nil, err
		}
		made := compile(file, src, in, sel)
		if made.Plan != nil {
			made.Plan.Rules = rules
			if why := rules.Egress.Broken; why != "" {
				made.Plan.Warnings = append(made.Plan.Warnings, brokenEgressRemark(why))
			}
			lint.add(made.Plan, src)
		}
		out = append(out, made)
	}
	if sel.Outline {
		return out, nil // what cannot be had is missing
	}
	return out, remote.trouble
}

// skipMark returns what in the message of the commit asks to start nothing.
func (e *Engine) skipMark(ctx context.Context, push sallyport.Push, sel Selection) (string, error) {
	if sel.Lenient || push.Event != "push" && push.Event != "pull_request" {
		return "", nil
	}
	head, err := e.repos.Commit(ctx, push.Project, push.Commit)
	return workflow.SkipMark(head.Message), err
}

func (e *Engine) workflowFiles(ctx context.Context, push sallyport.Push) ([]string, error) {
	all, err := e.repos.ListFiles(ctx, push.Project, push.Commit, workflowDir)
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		return nil, err
	}
	var paths []string
	for _, f := range all {
		if ext := path.Ext(f); ext == ".yml" || ext == ".yaml" {
			paths = append(paths, f)
		}
	}
	if len(paths) > maxWorkflows {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s holds more than %d workflows", workflowDir, maxWorkflows)
	}
	return paths, nil
}

// planInput gathers what compiling needs: the event, the contexts known now, the files.
func (e *Engine) planInput(ctx context.Context, p sallyport.Project, push sallyport.Push) (workflow.CompileInput, error) {
	var changed []string
	var more bool
	var err error
	if push.Event == "push" && push.Before != "" {
		if changed, more, err = e.repos.Changed(ctx, p.ID, push.Before, push.Commit, maxChanged); err != nil {
			// A forced push may have dropped the commit it began from.
			changed, more = nil, true
		}
	} else {
		more = true
	}
	event := workflow.Event{
		Name: push.Event, Action: push.Action, Ref: push.Ref, BaseRef: baseRef(push.Payload),
		Changed: changed, ChangedMore: more, Payload: push.Payload, Inputs: push.Inputs,
	}
	if push.Event == "workflow_run" {
		other := otherRun(push.Payload)
		event.BaseRef, event.Workflow = other.Branch, other.Name
	}
	return workflow.CompileInput{
		Event: event,
		Contexts: map[string]json.RawMessage{
			"github": e.githubContext(p, push, sallyport.Run{}),
			"vars":   mustJSON(nonNil(e.vars)),
		},
		ReadFile: func(file string) ([]byte, error) {
			return e.repos.ReadFile(ctx, p.ID, push.Commit, file, maxWorkflowBytes)
		},
	}, nil
}

func compile(file string, src []byte, in workflow.CompileInput, sel Selection) Planned {
	out := Planned{Path: file}
	f, diags := workflow.Parse(file, src)
	out.Diagnostics = diags
	if f == nil || out.Invalid() {
		return out
	}
	if ok, why := f.Matches(in.Event); !ok && !(sel.Lenient && names(f, in.Event.Name)) {
		out.Skipped = why
		return out
	}
	in.File = f
	plan, diags := workflow.Compile(in)
	out.Diagnostics = append(out.Diagnostics, diags...)
	if plan == nil || out.Invalid() {
		return out
	}
	if sel.Job != "" {
		if !selectJob(plan, sel.Job) {
			out.Skipped = fmt.Sprintf("it has no job %q", sel.Job)
			return out
		}
	}
	if err := sel.narrow(plan); err != nil {
		out.Diagnostics = append(out.Diagnostics, unreadable(file, err))
		return out
	}
	out.Plan = plan
	return out
}

// unreadable is what is wrong with a file as a whole.
func unreadable(file string, err error) sallyport.Diagnostic {
	return sallyport.Diagnostic{File: file, Pos: sallyport.Pos{Line: 1, Col: 1}, Severity: "error", Message: userText(err)}
}

// narrow applies what was asked for besides the workflow.
func (s Selection) narrow(p *sallyport.Plan) error {
	if err := workflow.Narrow(p, s.Matrix); err != nil || len(s.Env) == 0 {
		return err
	}
	if p.Env.Kind != sallyport.TreeMap && !p.Env.IsZero() && p.Env.Kind != sallyport.TreeNull {
		return sallyport.Errorf(sallyport.CodeInvalid, "the workflow's env is one expression: variables cannot be added to it")
	}
	var pairs []sallyport.TreePair
	for _, v := range s.Env {
		if strings.Contains(v.Value, "${{") {
			return sallyport.Errorf(sallyport.CodeInvalid, "the value of %.60q holds an expression: give plain text", v.Name)
		}
		pairs = append(pairs, sallyport.TreePair{Key: sallyport.Template{Text: v.Name}, Value: sallyport.Tree{Kind: sallyport.TreeString, Text: v.Value}})
	}
	p.Env = sallyport.Tree{Kind: sallyport.TreeMap, Pos: p.Env.Pos, Pairs: append(pairs, p.Env.Pairs...)}
	return nil
}

func names(f *workflow.File, event string) bool {
	return slices.ContainsFunc(f.On, func(t workflow.Trigger) bool { return t.Name == event })
}

// EventFor chooses the event for someone who asked for workflows without
// naming one: push where they have it, else the first that they have.
func (e *Engine) EventFor(ctx context.Context, push sallyport.Push, sel Selection) (string, error) {
	paths := sel.Workflows
	if len(paths) == 0 {
		var err error
		if paths, err = e.workflowFiles(ctx, push); err != nil {
			return "", err
		}
	}
	first := ""
	for _, file := range paths {
		src, err := e.repos.ReadFile(ctx, push.Project, push.Commit, file, maxWorkflowBytes)
		if err != nil {
			return "", err
		}
		f, _ := workflow.Parse(file, src)
		if f == nil {
			continue // its errors are reported when it is planned
		}
		for _, event := range []string{"push", "workflow_dispatch", "pull_request"} {
			if names(f, event) {
				if event == "push" {
					return event, nil
				}
				if first == "" {
					first = event
				}
			}
		}
	}
	if first == "" {
		first = "push"
	}
	return first, nil
}

// selectJob keeps one job and all it needs. A job of a called workflow is named after the
// job that calls it: "release/build".
func selectJob(p *sallyport.Plan, key string) (ok bool) {
	p.Jobs, ok = selected(p.Jobs, key)
	return ok
}

func selected(jobs []sallyport.PlanJob, key string) (out []sallyport.PlanJob, ok bool) {
	key, below, nested := strings.Cut(key, "/")
	keep := map[string]bool{key: true}
	for i := len(jobs) - 1; i >= 0; i-- { // needs stand before their users
		if keep[jobs[i].Key] {
			for _, n := range jobs[i].Needs {
				keep[n] = true
			}
		}
	}
	for _, j := range jobs {
		if !keep[j.Key] {
			continue
		}
		if j.Key == key {
			ok = true
			if nested {
				if j.Call == nil {
					return nil, false
				}
				call := *j.Call
				if call.Jobs, ok = selected(call.Jobs, below); !ok {
					return nil, false
				}
				j.Call = &call
			}
		}
		out = append(out, j)
	}
	return out, ok
}

// start makes the runs of a push: one for each plan, and a failed one for each
// file that does not compile, so that its author sees why.
func (e *Engine) start(c *change, push sallyport.Push, planned []Planned) ([]sallyport.Run, error) {
	p, err := c.Projects().Get(push.Project)
	if err != nil {
		return nil, err
	}
	// What came before the stop, and what schedules or other runs would start, does not.
	if stop, err := stopped(c.Tx, sallyport.StopProject, p.Name); err != nil || stop != nil {
		if err == nil {
			err = c.record("run.stopped", "push/"+string(push.ID), map[string]any{"stop": stop.ID})
		}
		return nil, err
	}
	stop, err := stopped(c.Tx, sallyport.StopKind(push.Actor.Kind), push.Actor.ID)
	if err == nil && stop == nil && push.Actor.Kind == sallyport.Agent {
		var a sallyport.Account
		if a, err = c.Accounts().Get(push.Actor.ID); err == nil {
			stop, err = stopped(c.Tx, sallyport.StopPerson, a.Sponsor)
		}
	}
	if err != nil || stop != nil {
		if err == nil {
			err = c.record("run.stopped", "push/"+string(push.ID), map[string]any{"stop": stop.ID})
		}
		return nil, err
	}
	var out []sallyport.Run
	for _, pl := range planned {
		switch {
		case pl.Plan != nil:
			r, err := e.startRun(c, p, push, pl)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		case pl.Invalid():
			r, err := invalidRun(c, p, push, pl)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		}
	}
	return out, nil
}

func newRun(c *change, p sallyport.Project, push sallyport.Push, file string) (sallyport.Run, error) {
	number, err := c.Projects().NextNumber(p.ID, "run")
	return sallyport.Run{
		ID: newID[sallyport.RunID](c), Project: p.ID, Push: push.ID, Number: number, Workflow: file, Name: file,
		Event: push.Event, Ref: push.Ref, Commit: push.Commit, Tier: push.Tier, Actor: push.Actor.Name,
		Status: sallyport.StatusQueued, CreatedAt: c.now,
	}, err
}

func (e *Engine) startRun(c *change, p sallyport.Project, push sallyport.Push, pl Planned) (sallyport.Run, error) {
	r, err := newRun(c, p, push, pl.Path)
	if err != nil {
		return r, err
	}
	encoded, digest, err := pl.Plan.Encode()
	if err != nil {
		return r, err
	}
	r.PlanDigest = digest
	if pl.Plan.Name != "" {
		r.Name = pl.Plan.Name
	}
	scope, err := e.runScope(p, push, r, pl.Plan)
	if err != nil {
		return r, err
	}
	r.Title = title(push, r.Name)
	if !pl.Plan.RunName.IsZero() {
		if text, _, err := scope.Text(pl.Plan.RunName); err == nil && strings.TrimSpace(text) != "" {
			r.Title = clip(text, maxSummary)
		}
	}
	set, err := scope.Concurrency(pl.Plan.Concurrency)
	if err != nil {
		return r, err
	}
	if r.Group, r.CancelInProgress = groupName(set.Group), set.CancelInProgress; r.Group != "" {
		r.Status = sallyport.StatusWaiting
	}
	if err := c.Runs().Insert(r, encoded); err != nil {
		return r, err
	}
	if err := c.record("run.created", "run/"+string(r.ID), map[string]any{
		"project": p.Name, "number": r.Number, "workflow": r.Workflow, "event": r.Event, "ref": r.Ref, "commit": r.Commit,
		"tier": r.Tier, "plan": digest, "push": push.ID,
	}); err != nil {
		return r, err
	}
	s, err := e.loadSettlement(c, r.ID)
	if err != nil {
		return r, err
	}
	f, err := s.root()
	if err != nil {
		return r, err
	}
	if err := f.rows(); err != nil {
		return r, err
	}
	if r.Group != "" {
		if err := s.enterRun(set); err != nil {
			return r, err
		}
	}
	if err := e.settleFrom(s); err != nil {
		return r, err
	}
	return c.Runs().Get(r.ID)
}

// title is what people call a run without a run-name: the first line of the
// commit's message or the pull request's title. Both are foreign text.
func title(push sallyport.Push, fallback string) string {
	var v struct {
		PullRequest struct {
			Title string `json:"title"`
		} `json:"pull_request"`
		HeadCommit struct {
			Message string `json:"message"`
		} `json:"head_commit"`
	}
	_ = json.Unmarshal(push.Payload, &v) // a payload of another shape has neither
	for _, text := range []string{v.PullRequest.Title, v.HeadCommit.Message} {
		line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
		if line = strings.TrimSpace(line); line != "" {
			return clip(line, maxSummary)
		}
	}
	return fallback
}

// invalidRun records a workflow that could not be compiled as a run that failed.
func invalidRun(c *change, p sallyport.Project, push sallyport.Push, pl Planned) (sallyport.Run, error) {
	r, err := newRun(c, p, push, pl.Path)
	if err != nil {
		return r, err
	}
	empty, digest, err := (&sallyport.Plan{Version: 1, Workflow: sallyport.PlanFile{Path: pl.Path}, Name: pl.Path, Warnings: pl.Diagnostics}).Encode()
	if err != nil {
		return r, err
	}
	r.Title, r.PlanDigest = title(push, pl.Path), digest
	r.Status, r.Conclusion = sallyport.StatusCompleted, sallyport.Failure
	r.StartedAt, r.FinishedAt = c.now, c.now
	for _, d := range pl.Diagnostics {
		if d.Severity == "error" {
			r.Cause = clip(d.String(), 1000)
			break
		}
	}
	if err := c.Runs().Insert(r, empty); err != nil {
		return r, err
	}
	return r, c.record("run.invalid", "run/"+string(r.ID), map[string]any{"workflow": r.Workflow, "commit": r.Commit, "number": r.Number})
}

// clip shortens s to at most n bytes at a rune's edge.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// userText is what of an error may be kept and shown.
func userText(err error) string {
	m, _ := sallyport.ErrorMessage(err)
	return clip(m, 1000)
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("engine: " + err.Error()) // only called with maps of plain values
	}
	return b
}

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
