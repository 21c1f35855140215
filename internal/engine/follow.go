package engine

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// maxFollow is how long a chain of workflows may be that start each other
// through workflow_run (GitHub: 3 levels).
const maxFollow = 3

// follow is the stage that starts the workflows of the default branch which wait
// for the completion of a run (workflow_run). They are code of the protected
// branch that is handed the words of another run, whose tier may be lower: all of the
// payload is tainted, and artifacts do not cross from one run to another.
func (e *Engine) follow(ctx context.Context, w sallyport.Work) error {
	done := func() error { return e.finish(ctx, w, func(*change) error { return nil }) }
	r, push, depth, err := e.chain(ctx, sallyport.RunID(w.Subject))
	if err != nil {
		return err
	}
	p, commit, err := e.defaultTip(ctx, r.Project)
	if err != nil {
		return err
	}
	if commit == "" || depth >= maxFollow {
		return done()
	}
	files, err := e.followers(ctx, p, commit, r)
	if err != nil {
		return err
	}
	if len(files) > 0 {
		if err := e.raise(ctx, sallyport.Push{
			Project: p.ID, Event: "workflow_run", Action: "completed", Ref: p.DefaultRef(), Commit: commit, Tier: lower(r.Tier, tierOf(p, p.DefaultRef())),
			Payload: e.workflowRunPayload(p, r, push), Key: "workflow_run/" + string(r.ID),
		}, files); err != nil {
			return err
		}
	}
	return done()
}

// lower returns the lesser of two tiers.
func lower(a, b sallyport.Tier) sallyport.Tier {
	if a.Rank() < b.Rank() {
		return a
	}
	return b
}

// chain loads a run with its push, and counts the runs before it that led to it.
func (e *Engine) chain(ctx context.Context, id sallyport.RunID) (r sallyport.Run, push sallyport.Push, depth int, err error) {
	err = e.view(ctx, func(tx sallyport.Tx) error {
		if r, err = tx.Runs().Get(id); err != nil {
			return err
		}
		if push, err = tx.Pushes().Get(r.Push); err != nil {
			return err
		}
		for at := push; at.Event == "workflow_run" && depth < maxFollow; depth++ {
			before, err := runCalled(tx, r.Project, strings.Trim(string(otherRun(at.Payload).ID), `"`))
			if err != nil {
				return err
			}
			if at, err = tx.Pushes().Get(before.Push); err != nil {
				return err
			}
		}
		return nil
	})
	return r, push, depth, err
}

// otherRun returns the run that a workflow_run event is about; zero for other events.
func otherRun(payload []byte) (r struct {
	ID     json.RawMessage `json:"id"`
	Name   string          `json:"name"`
	Branch string          `json:"head_branch"`
}) {
	var v struct {
		WorkflowRun json.RawMessage `json:"workflow_run"`
	}
	if json.Unmarshal(payload, &v) == nil && v.WorkflowRun != nil {
		_ = json.Unmarshal(v.WorkflowRun, &r) // one of another shape names nothing
	}
	return r
}

// followers returns the workflows at the head of the default branch that wait for the run.
func (e *Engine) followers(ctx context.Context, p sallyport.Project, commit string, r sallyport.Run) ([]string, error) {
	triggers, err := e.heads.of(p.ID, commit, func() ([]*workflow.File, error) {
		var waiting []*workflow.File
		err := e.eachWorkflow(ctx, p.ID, commit, func(f *workflow.File) {
			if names(f, "workflow_run") {
				waiting = append(waiting, f)
			}
		})
		return waiting, err
	})
	if err != nil {
		return nil, err
	}
	var files []string
	for _, f := range triggers {
		if ok, _ := f.Matches(workflow.Event{Name: "workflow_run", Action: "completed", Workflow: r.Name, BaseRef: r.Ref}); ok && f.Path != r.Workflow {
			files = append(files, f.Path)
		}
	}
	return files, nil
}

// workflowRunPayload is the event's payload in GitHub's shape as far as it is known.
func (e *Engine) workflowRunPayload(p sallyport.Project, r sallyport.Run, push sallyport.Push) json.RawMessage {
	return mustJSON(map[string]any{
		"action": "completed",
		"workflow_run": map[string]any{
			"id": r.Number, "name": r.Name, "path": r.Workflow, "run_number": r.Number, "run_attempt": 1, "event": r.Event,
			"status": r.Status, "conclusion": r.Conclusion, "head_branch": shortRef(r.Ref), "head_sha": r.Commit,
			"display_title": r.Title, "actor": map[string]string{"login": push.Actor.Name},
			"created_at": r.CreatedAt, "run_started_at": r.StartedAt, "updated_at": r.FinishedAt,
			"head_repository": e.repositoryPayload(p),
		},
		"workflow":   map[string]any{"name": r.Name, "path": r.Workflow},
		"repository": e.repositoryPayload(p),
		"sender":     map[string]string{"login": push.Actor.Name},
	})
}

func (e *Engine) followFailed(ctx context.Context, w sallyport.Work, cause error) error {
	return e.finish(ctx, w, func(c *change) error {
		return c.record("follow.failed", "run/"+w.Subject, map[string]string{"cause": userText(cause)})
	})
}
