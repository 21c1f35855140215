package runner

import (
	"context"
	"fmt"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/toolkit"
)

// Places in the room of a container action, as GitHub has them.
const (
	actionWorkspace = "/github/workspace"
	actionTemp      = "/github/runner_temp"
	actionCommands  = "/github/file_commands"
)

// runContainer runs a container action: a prebuilt image in a room of its own that
// sees the workspace, and the services by their names.
func (s *step) runContainer(ctx context.Context, a *sallyport.PlanAction) error {
	inputs, err := s.inputs(a)
	if err != nil {
		return err
	}
	s.announceAction(&inputs)
	argv, err := s.containerCommand(a, &inputs)
	if err != nil {
		return err
	}
	if a.PostEntrypoint != "" {
		j, after := s.job, *a
		after.Entrypoint, after.PreEntrypoint, after.PostEntrypoint = a.PostEntrypoint, "", ""
		j.after(post{of: s, cond: a.PostIf, run: func(ctx context.Context, s *step) error { return s.runContainer(ctx, &after) }})
	}
	c, err := s.job.fetchImage(ctx, a.Image, "action "+a.Name)
	if err != nil {
		return err
	}
	if a.PreEntrypoint != "" {
		if err := s.inContainerRoom(ctx, a, c, &inputs, []string{a.PreEntrypoint}); err != nil {
			return err
		}
	}
	return s.inContainerRoom(ctx, a, c, &inputs, c.command(argv))
}

// containerCommand is what the step or the action asks to run: entrypoint first,
// "" for the image's own; then the arguments, none for the image's own.
func (s *step) containerCommand(a *sallyport.PlanAction, inputs *variables) (argv []string, err error) {
	entrypoint := a.Entrypoint
	if x, _ := inputs.get("entrypoint"); x != "" {
		entrypoint = x
	}
	argv = []string{entrypoint}
	if x, _ := inputs.get("args"); x != "" {
		words, err := splitCommand(x)
		return append(argv, words...), err
	}
	scope := s.frame.scope.Clone()
	scope.Set("inputs", inputsContext(inputs))
	for _, t := range a.Args {
		text, tainted, err := scope.Text(t)
		if err != nil {
			return nil, err
		}
		s.tainted = s.tainted || tainted
		argv = append(argv, text)
	}
	return argv, nil
}

// command completes what is asked for by what the image says.
func (c *container) command(asked []string) []string {
	config := c.image.Config
	entrypoint, args := config.Entrypoint, asked[1:]
	if asked[0] != "" {
		entrypoint = asked[:1]
	} else if len(args) == 0 {
		args = config.Cmd
	}
	return append(append([]string{}, entrypoint...), args...)
}

func inputsContext(inputs *variables) workflow.Value {
	var entries []workflow.Entry
	for _, name := range inputs.names {
		entries = append(entries, workflow.Entry{Key: name, Value: stringValue(inputs.values[name])})
	}
	return workflow.Object(entries...)
}

// inContainerRoom runs one command of a container action in a room that is
// destroyed when it has ended.
func (s *step) inContainerRoom(ctx context.Context, a *sallyport.PlanAction, c *container, inputs *variables, argv []string) error {
	j := s.job
	if len(argv) == 0 {
		return sallyport.Errorf(sallyport.CodeInvalid, "the image of the action has no command to run").WithHint("give one with the input entrypoint")
	}
	files, err := j.layout.newCommandFiles()
	if err != nil {
		return err
	}
	env, err := s.containerEnv(a, c, inputs, files)
	if err != nil {
		return err
	}
	links := j.containerLinks()
	spec := sallyport.RoomSpec{
		ID: fmt.Sprintf("action-%s-%d-%d", j.lease.Job.ID, j.lease.Job.Attempt, j.nextRoom()), Hostname: "action",
		Image: c.root, Links: links, Binds: j.layout.binds(), Limits: j.runner.cfg.Limits, Peers: j.peers, Hosts: j.hosts, Started: j.trace.Started,
	}
	if j.services != nil {
		spec.Serve, spec.ServePort = j.services.path, toolkit.Port
	}
	release := j.door.opens(&spec)
	defer release()
	room, err := j.sandbox().Prepare(ctx, spec)
	if err != nil {
		return fmt.Errorf("prepare the room of the action: %w", err)
	}
	defer func() {
		if err := room.Destroy(context.WithoutCancel(ctx)); err != nil {
			j.slog.ErrorContext(ctx, "room of an action was not destroyed", "err", err)
		}
	}()
	return s.execIn(ctx, room, sallyport.ExecSpec{Argv: argv, Env: env, Dir: actionWorkspace, User: c.user}, files)
}

// containerEnv is the environment of a container action.
func (s *step) containerEnv(a *sallyport.PlanAction, c *container, inputs *variables, files *commandFiles) ([]sallyport.EnvVar, error) {
	j := s.job
	f := *s.frame
	f.scope = f.scope.Clone()
	f.scope.Set("inputs", inputsContext(inputs))
	f.scope.Set("github", withEntries(f.scope.Get("github"), files.entries()...))
	env := c.env.clone()
	env.setAll(s.env.each())
	own, err := f.scope.Vars(a.Env)
	if err != nil {
		return nil, err
	}
	env.setAll(own)
	for _, x := range inputs.each() {
		x.Name = inputVariable(x.Name)
		env.set(x)
	}
	all := j.actionEnv(&f, &env, files)
	path, _ := c.env.get("PATH")
	if path == "" {
		path = defaultPath
	}
	for _, v := range []sallyport.EnvVar{
		{Name: "HOME", Value: containerHome}, {Name: "GITHUB_WORKSPACE", Value: actionWorkspace}, {Name: "RUNNER_TEMP", Value: actionTemp}, {Name: "PATH", Value: path},
		{Name: "PWD", Value: actionWorkspace}, // it is a link, and programs shall call it by its name
	} {
		all = setEnv(all, v)
	}
	return all, nil
}

// setEnv replaces a variable or adds it.
func setEnv(all []sallyport.EnvVar, v sallyport.EnvVar) []sallyport.EnvVar {
	for i := range all {
		if all[i].Name == v.Name {
			all[i] = v
			return all
		}
	}
	return append(all, v)
}
