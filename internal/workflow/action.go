package workflow

import (
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// Action is an action's metadata file (action.yml).
type Action struct {
	Path    string // of the file
	Digest  sallyport.Digest
	Name    string
	Using   sallyport.Template
	Inputs  []sallyport.PlanInput
	Outputs []sallyport.PlanOutput
	Steps   []Step // of a composite action
}

var (
	actionKeys  = []string{"name", "author", "description", "inputs", "outputs", "runs", "branding"}
	runtimes    = []string{"composite", "node20", "node24", "docker"}
	actionHints = strings.Join(runtimes, ", ")
)

// ParseAction reads an action's metadata file. When the action is nil, or any
// diagnostic is an error, it must not be used. Only composite actions are read
// whole: of others, Using tells what they are.
func ParseAction(path string, src []byte) (*Action, []sallyport.Diagnostic) {
	d := &decoder{path: path, src: src}
	root := d.document()
	if root == nil {
		return nil, d.diags.list
	}
	if root.Kind != yaml.MappingNode {
		d.report(posOf(root), "the action must be a mapping with the keys %s, not %s", strings.Join(actionKeys, ", "), kindName(root))
		return nil, d.diags.list
	}
	a := &Action{Path: path, Digest: sallyport.DigestOf(src)}
	for _, e := range d.entries(root) {
		switch e.key.Text {
		case "name":
			a.Name = d.text(e.val, "name").Text
		case "inputs":
			a.Inputs = d.actionInputs(e.val)
		case "outputs":
			a.Outputs = d.actionOutputs(e.val)
		case "runs":
			d.runs(a, e.val)
		case "author", "description", "branding":
		default: // GitHub ignores keys it does not know here
			d.warn(e.key.Pos, "unknown key %s in the action%s; known are %s", quote(e.key.Text), didYouMean(e.key.Text, actionKeys), strings.Join(actionKeys, ", "))
		}
	}
	d.require(root, "the action", "runs")
	d.sort()
	return a, d.diags.list
}

func (d *decoder) actionInputs(n *yaml.Node) (out []sallyport.PlanInput) {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "inputs must be a mapping of names to inputs, not %s", kindName(n))
		return nil
	}
	for _, e := range d.entries(n) {
		in := sallyport.PlanInput{Name: e.key.Text}
		d.identifier(e.key, "the input name")
		if e.val.Kind == yaml.MappingNode {
			for _, f := range d.entries(e.val) {
				switch f.key.Text {
				case "required":
					if kind, text := scalar(f.val); f.val.Kind == yaml.ScalarNode {
						in.Required = text == "true" && kind != sallyport.TreeNull
					}
				case "default":
					in.Default = d.template(f.val, "default", &atActionDefault)
				}
			}
		}
		out = append(out, in)
	}
	return out
}

func (d *decoder) actionOutputs(n *yaml.Node) (out []sallyport.PlanOutput) {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "outputs must be a mapping of names to outputs, not %s", kindName(n))
		return nil
	}
	for _, e := range d.entries(n) {
		o := sallyport.PlanOutput{Name: e.key.Text}
		d.identifier(e.key, "the output name")
		if e.val.Kind == yaml.MappingNode {
			for _, f := range d.entries(e.val) {
				if f.key.Text == "value" {
					o.Value = d.template(f.val, "value", &atActionOutput)
				}
			}
		}
		out = append(out, o)
	}
	return out
}

func (d *decoder) runs(a *Action, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "runs must be a mapping, not %s", kindName(n))
		return
	}
	d.require(n, "runs", "using")
	var steps *yaml.Node
	for _, e := range d.entries(n) {
		switch e.key.Text {
		case "using":
			a.Using = d.text(e.val, "runs.using")
		case "steps":
			steps = e.val
		}
	}
	if a.Using.Text != "composite" {
		if nearest(a.Using.Text, runtimes) == "composite" {
			d.report(a.Using.Pos, "unknown runtime %s (did you mean \"composite\"?); there are %s", quote(a.Using.Text), actionHints)
		}
		return
	}
	if steps == nil {
		d.report(posOf(n), "the composite action has no steps: add runs.steps")
		return
	}
	a.Steps = d.stepList(steps, "the composite action", &atActionStep, &atActionStepIf)
	for _, s := range a.Steps {
		if s.Run.Text != "" && s.Shell.IsZero() {
			d.report(s.Pos, "a \"run\" step of a composite action needs a shell: add shell: bash")
		}
		if !s.TimeoutMinutes.IsZero() {
			d.report(s.TimeoutMinutes.Pos, "timeout-minutes is not available in composite actions: set it on the step that uses the action")
		}
	}
}
