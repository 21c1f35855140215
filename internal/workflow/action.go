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

	// Of a JavaScript action. Files are relative to the action's directory.
	Pre, Main, Post sallyport.Template
	// Conditions of what runs before and after a JavaScript or a container action.
	PreIf, PostIf sallyport.Template
	// Of a container action. The image is docker://IMAGE, or a Dockerfile relative to
	// the action's directory.
	Image, Entrypoint, PreEntrypoint, PostEntrypoint sallyport.Template
	Args                                             []sallyport.Template
	Env                                              sallyport.Tree
}

var actionKeys = []string{"name", "author", "description", "inputs", "outputs", "runs", "branding"}

// ParseAction reads an action's metadata file. When the action is nil, or any
// diagnostic is an error, it must not be used.
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
		case "author", "description":
			d.text(e.val, e.key.Text)
		case "branding":
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
		if !isIdentifier(e.key.Text) { // as with inputs
			d.warn(e.key.Pos, "the output name %s is invalid: it starts with a letter or _, and contains only letters, digits, - and _", quote(e.key.Text))
		}
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
