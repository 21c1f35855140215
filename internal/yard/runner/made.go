package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// maxActionFile bounds an action's metadata file in the workspace.
const maxActionFile = 1 << 20

// used is the action that the step uses: of the plan, or one that the job has made. That is the
// job's own code, like a script that it wrote. It brings in nothing of others that the plan does not hold.
func (s *step) used() (*sallyport.PlanAction, error) {
	uses := s.plan.Uses
	a, ok := s.job.lease.Plan.Actions[uses]
	switch {
	case ok && a.Kind == sallyport.ActionWorkspace:
		return s.made(a.Path)
	case ok:
		return &a, nil
	}
	if a, ok := workflow.IntrinsicAction(uses); ok { // of a made action
		return &a, nil
	}
	if dir, ok := strings.CutPrefix(uses, "./"); ok {
		return s.made(path.Clean(dir))
	}
	return nil, sallyport.Errorf(sallyport.CodeInvalid, "the plan does not hold the action %.200s", uses).
		WithHint("an action that is made while the job runs can use actions of others only if the workflow uses them too")
}

// made reads an action of the workspace.
func (s *step) made(dir string) (*sallyport.PlanAction, error) {
	l := s.job.layout
	for _, name := range workflow.ActionFiles() {
		name = path.Join(dir, name)
		src, err := l.readRoom(l.inWorkspace(name), maxActionFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "read %.200s: %w", name, err)
		}
		return readMade(name, dir, src)
	}
	return nil, sallyport.Errorf(sallyport.CodeInvalid, "there is no %s in %.200q, neither at this commit nor in the workspace", strings.Join(workflow.ActionFiles(), " or "), dir).
		WithHint("correct the path, or have a step before make it")
}

// readMade makes what a plan would hold of the action.
func readMade(name, dir string, src []byte) (*sallyport.PlanAction, error) {
	a, diags := workflow.ParseAction(name, src)
	for _, d := range diags {
		if d.Severity == "error" {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s", d)
		}
	}
	if a == nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%.200s is no action", name)
	}
	out, err := a.Plan()
	if err == nil && out.Kind == sallyport.ActionContainer {
		err = fmt.Errorf("runs a container, and images are fetched when the workflow is planned")
	}
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the action %.200q %w", dir, err)
	}
	out.Path = dir
	for _, step := range a.Steps {
		out.Steps = append(out.Steps, step.PlanStep)
	}
	return &out, nil
}
