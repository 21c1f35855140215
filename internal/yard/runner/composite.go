package runner

import (
	"context"
	"strconv"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// maxDepth bounds how deep composite actions may be nested (GitHub: 10).
const maxDepth = 10

// runComposite runs the steps of a composite action in a frame of its own:
// its inputs and steps contexts are its own, the environment is shared.
func (s *step) runComposite(ctx context.Context, a *sallyport.PlanAction, survives bool) error {
	j := s.job
	f, err := s.compositeFrame(a, survives)
	if err != nil {
		return err
	}
	for i := range a.Steps {
		inner := &step{job: j, frame: f, plan: &a.Steps[i], top: s.top, number: s.number, key: innerKey(s.key, i)}
		if err := s.runInner(ctx, inner); err != nil {
			return err
		}
	}
	if j.stopped(f.lane) && s.commands.err == nil {
		s.commands.err = errCancelled
	}
	f.scope.SetStatus(j.status(f))
	for _, o := range a.Outputs {
		text, tainted, err := f.scope.Text(o.Value)
		if err != nil {
			return err
		}
		if err := s.setOutput(workflow.Var{Name: o.Name, Value: text, Tainted: tainted}); err != nil {
			return err
		}
	}
	if f.failed || s.commands.err != nil {
		return s.commands.err
	}
	return nil
}

// innerKey is the key of a step of the action that a step uses.
func innerKey(key string, i int) string { return key + "/" + strconv.Itoa(i) }

// runInner runs a step of the action that s uses. The error is not nil when s
// cannot go on.
func (s *step) runInner(ctx context.Context, inner *step) error {
	end, err := s.job.runStep(ctx, inner)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if inner.part == nil {
		inner.frame.record(inner, end)
	}
	switch end.outcome {
	case sallyport.Cancelled:
		s.commands.err = errCancelled
	case sallyport.Failure:
		if inner.frame.failed && s.commands.err == nil {
			s.commands.err = &failure{message: "A step of the action failed: " + sentence(end.cause)}
		}
	}
	return nil
}

// compositeFrame makes the frame in which the steps of a composite action run.
func (s *step) compositeFrame(a *sallyport.PlanAction, survives bool) (*frame, error) {
	j, outer := s.job, s.frame
	if outer.depth+1 > maxDepth {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "composite actions are nested more than %d deep", maxDepth)
	}
	inputs, err := s.inputs(a)
	if err != nil {
		return nil, err
	}
	s.announceAction(&inputs)
	dir, err := j.actionDir(a)
	if err != nil {
		return nil, err
	}
	f := &frame{
		lane: outer.lane, scope: outer.scope.Clone(), composite: true, outer: s.env, depth: outer.depth + 1,
		immune: survives, names: map[string]int{},
	}
	f.scope.Set("inputs", inputsContext(&inputs))
	f.scope.Set("steps", workflow.Object())
	f.scope.Set("secrets", workflow.Object()) // an action gets only what is passed to it
	f.scope.Set("github", withEntries(outer.scope.Get("github"), j.actionEntries(a, dir)...))
	return f, nil
}

// inputs evaluates the with block of the step against what the action
// declares.
func (s *step) inputs(a *sallyport.PlanAction) (variables, error) {
	var inputs variables
	with, err := s.frame.scope.Vars(s.plan.With)
	if err != nil {
		return inputs, err
	}
	deprecated := map[string]string{}
	for _, in := range a.Inputs {
		deprecated[in.Name] = in.Deprecated
		if in.Default.IsZero() {
			inputs.set(workflow.Var{Name: in.Name})
			continue
		}
		text, tainted, err := s.frame.scope.Text(in.Default)
		if err != nil {
			return inputs, err
		}
		inputs.set(workflow.Var{Name: in.Name, Value: text, Tainted: tainted})
	}
	given := map[string]bool{}
	for _, x := range with {
		for _, in := range a.Inputs {
			if strings.EqualFold(in.Name, x.Name) {
				x.Name = in.Name
			}
		}
		given[x.Name] = true
		if why := deprecated[x.Name]; why != "" {
			s.out.print(sallyport.LogWarning, "The input "+x.Name+" is deprecated: "+why)
		}
		if _, declared := inputs.get(x.Name); !declared {
			s.out.print(sallyport.LogWarning, "The action does not declare the input "+x.Name+".")
		}
		inputs.set(x)
		s.tainted = s.tainted || x.Tainted
	}
	for _, in := range a.Inputs {
		if in.Required && in.Default.IsZero() && !given[in.Name] {
			s.out.print(sallyport.LogWarning, "The input "+in.Name+" is required and was not given.")
		}
	}
	return inputs, nil
}

// announceAction writes what runs to the log, as a group.
func (s *step) announceAction(inputs *variables) {
	s.out.print(sallyport.LogGroup, s.when+"Run "+s.plan.Uses)
	s.announceVars("with", inputs.names, inputs.get)
	s.announceVars("env", s.env.names, s.env.get)
	s.out.print(sallyport.LogEndGroup, "")
}
