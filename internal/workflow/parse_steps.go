package workflow

import (
	"slices"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

var (
	stepKeys = []string{
		"id", "if", "name", "uses", "run", "with", "env", "shell", "working-directory", "continue-on-error", "timeout-minutes",
	}
	// concurrentKeys start and join steps that run beside others.
	concurrentKeys = []string{"background", "cancel", "parallel", "wait", "wait-all"}
)

// stepList reads the steps of a job or of a composite action.
func (d *decoder) stepList(n *yaml.Node, what string, at, atIf *place) []Step {
	if n.Kind != yaml.SequenceNode {
		d.report(posOf(n), "the steps of %s must be a sequence, not %s", what, kindName(n))
		return nil
	}
	if len(n.Content) == 0 {
		d.report(posOf(n), "%s has no steps: add one", what)
	}
	ids := map[string]sallyport.Pos{}
	out := make([]Step, 0, len(n.Content))
	for _, c := range n.Content {
		if d.steps++; d.steps > maxSteps {
			d.report(posOf(c), "more than %d steps in one file", maxSteps)
			break
		}
		s := d.step(c, at, atIf)
		if s.ID != "" {
			id := foldCase(s.ID)
			if first, ok := ids[id]; ok {
				d.report(s.Pos, "the step id %s is already used in line %d: ids are unique within a job", quote(s.ID), first.Line)
			}
			ids[id] = s.Pos
		}
		out = append(out, s)
	}
	return out
}

func (d *decoder) step(n *yaml.Node, at, atIf *place) Step {
	s := Step{PlanStep: sallyport.PlanStep{Pos: posOf(n)}}
	if n.Kind == yaml.MappingNode {
		for _, k := range d.keyNodes(n) {
			if slices.Contains(concurrentKeys, k.Value) {
				d.report(posOf(k), "steps with %q are not supported yet: run the steps one after another, or in jobs of their own", k.Value)
				return s
			}
		}
	}
	var uses, run, with, shell, dir *sallyport.Template
	for _, e := range d.fields(n, "the step", stepKeys) {
		key := e.key
		switch key.Text {
		case "id":
			id := d.text(e.val, "id")
			d.identifier(id, "the step id")
			s.ID = id.Text
		case "if":
			s.If = d.condition(e.val, atIf)
		case "name":
			s.Name = d.template(e.val, "name", at)
		case "uses":
			t := d.text(e.val, "uses")
			s.Uses, s.UsesAt, uses = t.Text, t.Pos, &key
		case "run":
			s.Run, run = d.template(e.val, "run", at), &key
		case "with":
			s.With, with = d.values(e.val, "with", at, "input"), &key
		case "env":
			s.Env = d.env(e.val, "env", at)
		case "shell":
			s.Shell, shell = d.shell(d.template(e.val, "shell", at)), &key
		case "working-directory":
			s.WorkingDirectory, dir = d.template(e.val, "working-directory", at), &key
		case "continue-on-error":
			s.ContinueOnError = d.boolean(e.val, "continue-on-error", at)
		case "timeout-minutes":
			s.TimeoutMinutes = d.number(e.val, "timeout-minutes", at)
		}
	}
	if n.Kind != yaml.MappingNode {
		return s
	}
	switch {
	case uses != nil && run != nil:
		d.report(run.Pos, "a step has either \"uses\" or \"run\", not both: make two steps of it")
	case uses == nil && run == nil:
		d.report(s.Pos, "the step does nothing: add \"run\" or \"uses\"")
	case uses != nil && s.Uses == "":
		d.report(uses.Pos, "uses names no action")
	case uses != nil:
		for _, k := range []*sallyport.Template{shell, dir} {
			if k != nil {
				d.report(k.Pos, "%q is for steps with \"run\"; an action chooses its own", k.Text)
			}
		}
	case with != nil:
		d.report(with.Pos, "\"with\" is for steps with \"uses\"; hand values to \"run\" with env")
	}
	return s
}
