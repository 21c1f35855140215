package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

var (
	runtimes = []string{"composite", "node20", "node24", "docker"}
	// nodes are the runtimes of JavaScript actions. GitHub runs those of the first two with
	// a newer one too.
	nodes = []string{"node12", "node16", "node20", "node24"}

	compositeKeys = []string{"using", "steps"}
	nodeKeys      = []string{"using", "main", "pre", "pre-if", "post", "post-if"}
	dockerKeys    = []string{"using", "image", "entrypoint", "args", "env", "pre-entrypoint", "pre-if", "post-entrypoint", "post-if"}
)

// JavaScript reports whether node runs the action.
func (a *Action) JavaScript() bool { return slices.Contains(nodes, strings.ToLower(a.Using.Text)) }

// runs reads what an action consists of. Which keys there may be depends on its
// runtime, whose name GitHub takes in any case.
func (d *decoder) runs(a *Action, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "runs must be a mapping, not %s", kindName(n))
		return
	}
	d.require(n, "runs", "using")
	_, using := lookup(n, "using")
	if using == nil {
		return
	}
	a.Using = d.text(using, "runs.using")
	written := a.Using.Text
	a.Using.Text = strings.ToLower(written)
	switch {
	case a.Using.Text == "composite":
		d.compositeRuns(a, n)
	case a.JavaScript():
		d.nodeRuns(a, n)
	case a.Using.Text == "docker":
		d.dockerRuns(a, n)
	case using.Kind == yaml.ScalarNode:
		d.report(a.Using.Pos, "unknown runtime %s%s; there are %s", quote(written), didYouMean(written, runtimes), strings.Join(runtimes, ", "))
	}
}

func (d *decoder) nodeRuns(a *Action, n *yaml.Node) {
	for _, e := range d.fields(n, "runs of a JavaScript action", nodeKeys) {
		switch e.key.Text {
		case "main":
			a.Main = d.file(e)
		case "pre":
			a.Pre = d.file(e)
		case "pre-if":
			a.PreIf = d.condition(e.val, &atActionPreIf)
		case "post":
			a.Post = d.file(e)
		case "post-if":
			a.PostIf = d.condition(e.val, &atActionPostIf)
		}
	}
	if k, _ := lookup(n, "main"); k == nil {
		d.report(posOf(n), "the JavaScript action names no file to run: add runs.main")
	}
}

func (d *decoder) dockerRuns(a *Action, n *yaml.Node) {
	for _, e := range d.fields(n, "runs of a container action", dockerKeys) {
		switch e.key.Text {
		case "image":
			a.Image = d.file(e)
		case "entrypoint":
			a.Entrypoint = d.file(e)
		case "pre-entrypoint":
			a.PreEntrypoint = d.file(e)
		case "post-entrypoint":
			a.PostEntrypoint = d.file(e)
		case "pre-if":
			a.PreIf = d.condition(e.val, &atActionPreIf)
		case "post-if":
			a.PostIf = d.condition(e.val, &atActionPostIf)
		case "args":
			if e.val.Kind != yaml.SequenceNode {
				d.report(posOf(e.val), "runs.args must be a sequence, not %s", kindName(e.val))
				continue
			}
			for _, c := range e.val.Content {
				a.Args = append(a.Args, d.template(c, "an item of runs.args", &atActionArgs))
			}
		case "env":
			a.Env = d.env(e.val, "runs.env", &atActionEnv)
		}
	}
	if k, _ := lookup(n, "image"); k == nil {
		d.report(posOf(n), "the container action names no image: add runs.image, docker://IMAGE or a Dockerfile")
	}
}

// file reads a text without expressions that is not empty.
func (d *decoder) file(e entry) sallyport.Template {
	what := "runs." + e.key.Text
	t := d.text(e.val, what)
	d.filled(e.val, what)
	return t
}

func (d *decoder) compositeRuns(a *Action, n *yaml.Node) {
	found := false
	for _, e := range d.fields(n, "runs of a composite action", compositeKeys) {
		if e.key.Text == "steps" {
			found = true
			a.Steps = d.stepList(e.val, "the composite action", &atActionStep, &atActionStepIf)
		}
	}
	if !found {
		d.report(posOf(n), "the composite action has no steps: add runs.steps")
	}
	for _, s := range a.Steps {
		if s.runs && s.Shell.IsZero() {
			d.report(s.Pos, "a \"run\" step of a composite action needs a shell: add shell: bash")
		}
		if !s.TimeoutMinutes.IsZero() {
			d.report(s.TimeoutMinutes.Pos, "timeout-minutes is not available in composite actions: set it on the step that uses the action")
		}
	}
}
