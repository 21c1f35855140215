package runner

import (
	"context"
	"fmt"
	"path"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// javascript is what one use of a JavaScript action keeps between its parts
// before, in and after the steps of the job.
type javascript struct {
	state    variables // what it saved for its later parts, as STATE_*
	size     int       // of the state
	hasAfter bool      // its part after the steps was asked for
}

// runJavaScript runs the main part of a JavaScript action.
func (s *step) runJavaScript(ctx context.Context, a *sallyport.PlanAction) error {
	if a.Pre != "" && a.Source == nil {
		// It is read when it is used, after the time of what comes before (GitHub: the same).
		s.out.print(sallyport.LogWarning, "The part of the action before the steps (pre) does not run: an action of this repository has none.")
	}
	if a.Source == nil && !s.job.inWorkspaceNow(path.Join(a.Path, a.Main)) {
		return sallyport.Errorf(sallyport.CodeInvalid, "there is no %.200s in the workspace", path.Join(a.Path, a.Main)).
			WithHint("an action of this repository runs from the workspace: use actions/checkout in a step before")
	}
	return s.runPart(ctx, a, a.Main)
}

// inWorkspaceNow reports whether there is a file at a path in the workspace.
func (j *job) inWorkspaceNow(file string) bool {
	rel, ok := j.layout.inWork(j.layout.inWorkspace(file))
	if !ok {
		return false
	}
	info, err := j.layout.workRoot.Stat(rel)
	return err == nil && info.Mode().IsRegular()
}

// use returns what the use of an action in a step keeps.
func (j *job) use(key string) *javascript {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.uses[key] == nil {
		j.uses[key] = &javascript{}
	}
	return j.uses[key]
}

// runPart runs one file of a JavaScript action, and sees to it that its part after the
// steps runs in its time.
func (s *step) runPart(ctx context.Context, a *sallyport.PlanAction, file string) error {
	j := s.job
	use := j.use(s.key)
	s.action = use
	if a.Post != "" && !use.hasAfter {
		use.hasAfter = true
		j.after(post{of: s, cond: a.PostIf, run: func(ctx context.Context, s *step) error { return s.runPart(ctx, a, a.Post) }})
	}
	inputs, err := s.inputs(a)
	if err != nil {
		return err
	}
	s.announceAction(&inputs)
	dir, err := j.actionDir(a)
	if err != nil {
		return err
	}
	node, err := j.runner.node(ctx, j, a.Using)
	if err != nil {
		return err
	}
	s.out.print(sallyport.LogSystem, fmt.Sprintf("%s runs on Node.js %s of %s.", a.Using, node.version, node.of))
	files, err := j.layout.newCommandFiles()
	if err != nil {
		return err
	}
	f := *s.frame
	f.scope = f.scope.Clone()
	f.scope.Set("github", withEntries(withEntries(f.scope.Get("github"), files.entries()...), j.actionEntries(a, dir)...))
	env := s.env.clone()
	for _, name := range inputs.names {
		x := inputs.values[name]
		x.Name = inputVariable(name)
		env.set(x)
	}
	for _, name := range use.state.names {
		x := use.state.values[name]
		x.Name = "STATE_" + name
		env.set(x)
	}
	process := j.actionEnv(&f, &env, files)
	return s.exec(ctx, []string{node.path, path.Join(dir, file)}, process, j.layout.workspace(), files)
}

// inputVariable is how a JavaScript action finds an input (GitHub's "Metadata
// syntax", inputs): in upper case, with _ for spaces and all else as it is.
func inputVariable(name string) string {
	return "INPUT_" + strings.ToUpper(strings.ReplaceAll(name, " ", "_"))
}

// actionEntries are those of the github context that tell which action runs.
func (j *job) actionEntries(a *sallyport.PlanAction, dir string) []workflow.Entry {
	ref, repository := workflow.Value{}, workflow.Value{}
	if a.Source != nil {
		ref, repository = workflow.String(a.Source.Ref), workflow.String(a.Source.Repository)
	}
	return []workflow.Entry{
		{Key: "action_path", Value: workflow.String(dir)},
		{Key: "action_ref", Value: ref},
		{Key: "action_repository", Value: repository},
	}
}

// saveState keeps a value for the action's later parts; scripts have none.
func (s *step) saveState(x workflow.Var) error {
	if s.action == nil {
		return nil
	}
	if s.action.size += len(x.Name) + len(x.Value); s.action.size > maxOutputs {
		return sallyport.Errorf(sallyport.CodeInvalid, "the state of the action has more than %d KiB", maxOutputs>>10).
			WithHint("keep large things in files beneath $RUNNER_TEMP, and their names in the state")
	}
	x.Tainted = x.Tainted || s.tainted
	s.action.state.set(x)
	return nil
}
