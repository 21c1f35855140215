package workflow

import (
	"slices"
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

	// Of a JavaScript action. Files are relative to the action's directory.
	Pre, PreIf, Main, Post, PostIf sallyport.Template
	// Of a container action.
	Image sallyport.Template
}

// JavaScript reports whether node runs the action.
func (a *Action) JavaScript() bool { return slices.Contains(nodes, a.Using.Text) }

var (
	actionKeys = []string{"name", "author", "description", "inputs", "outputs", "runs", "branding"}
	runtimes   = []string{"composite", "node20", "node24", "docker"}
	// nodes are the runtimes of JavaScript actions. GitHub runs those of the first two with
	// a newer one too.
	nodes       = []string{"node12", "node16", "node20", "node24"}
	actionHints = strings.Join(runtimes, ", ")
)

// ParseAction reads an action's metadata file. When the action is nil, or any
// diagnostic is an error, it must not be used. Of container actions only the image is read.
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
		if !isIdentifier(e.key.Text) { // GitHub documents the form, and takes others
			d.warn(e.key.Pos, "the input name %s is invalid: it starts with a letter or _, and contains only letters, digits, - and _", quote(e.key.Text))
		}
		if e.val.Kind == yaml.MappingNode {
			for _, f := range d.entries(e.val) {
				switch f.key.Text {
				case "required":
					if kind, text := scalar(f.val); f.val.Kind == yaml.ScalarNode {
						in.Required = text == "true" && kind != sallyport.TreeNull
					}
				case "default":
					in.Default = d.template(f.val, "default", &atActionDefault)
				case "deprecationMessage":
					in.Deprecated = d.rawText(f.val, "deprecationMessage").Text
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
		case "pre":
			a.Pre = d.text(e.val, "runs.pre")
		case "pre-if":
			a.PreIf = d.condition(e.val, &atActionPreIf)
		case "main":
			a.Main = d.text(e.val, "runs.main")
		case "post":
			a.Post = d.text(e.val, "runs.post")
		case "post-if":
			a.PostIf = d.condition(e.val, &atActionPostIf)
		case "image":
			a.Image = d.text(e.val, "runs.image")
		}
	}
	switch {
	case a.Using.Text == "composite":
		d.compositeSteps(a, n, steps)
	case a.JavaScript() && a.Main.Text == "":
		d.report(posOf(n), "the JavaScript action names no file to run: add runs.main")
	case a.JavaScript() || a.Using.Text == "docker" || a.Using.IsZero():
	default:
		d.report(a.Using.Pos, "unknown runtime %s%s; there are %s", quote(a.Using.Text), didYouMean(a.Using.Text, runtimes), actionHints)
	}
}

func (d *decoder) compositeSteps(a *Action, n, steps *yaml.Node) {
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
