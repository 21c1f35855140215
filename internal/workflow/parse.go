package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// File is a workflow file: a typed, ordered syntax tree. Expressions are
// checked, not evaluated. A Template without expressions is literal text.
type File struct {
	Path        string
	Digest      sallyport.Digest
	Name        sallyport.Template
	RunName     sallyport.Template
	On          []Trigger
	Env         sallyport.Tree
	Defaults    sallyport.PlanDefaults
	Concurrency *sallyport.PlanConcurrency
	Permissions sallyport.Permissions // nil: not set
	Jobs        []Job

	warnings []sallyport.Diagnostic // for the plan
}

// Job is one job of a workflow file.
type Job struct {
	sallyport.PlanJob
	NeedsAt []sallyport.Template // Needs with their places
	StepsAt []Step               // Steps with what a plan does not carry
	// Uses names the reusable workflow that the job calls instead of having steps.
	Uses    sallyport.Template
	With    sallyport.Tree
	Secrets sallyport.Tree
}

// Step is one step of a job or of a composite action.
type Step struct {
	sallyport.PlanStep
	UsesAt     sallyport.Pos
	ParallelAt []Step // Parallel with what a plan does not carry
	runs       bool   // it has a "run", if an empty one
}

var (
	workflowKeys    = []string{"name", "run-name", "description", "on", "permissions", "env", "defaults", "concurrency", "jobs"}
	defaultsKeys    = []string{"run"}
	defaultsRunKeys = []string{"shell", "working-directory"}
	concurrencyKeys = []string{"group", "cancel-in-progress", "queue"}
	queueValues     = []string{"single", "max"}
)

// Parse reads a workflow file. When the file is nil, or any diagnostic is an
// error, it must not be compiled.
func Parse(path string, src []byte) (*File, []sallyport.Diagnostic) {
	d := &decoder{path: path, src: src}
	root := d.document()
	if root == nil {
		return nil, d.diags.list
	}
	f := &File{Path: path, Digest: sallyport.DigestOf(src)}
	for _, e := range d.fields(root, "the workflow", workflowKeys) {
		switch e.key.Text {
		case "name":
			f.Name = d.text(e.val, "name")
		case "run-name":
			f.RunName = d.template(e.val, "run-name", &atRunName)
		case "on":
			f.On = d.triggers(e.val)
		case "permissions":
			f.Permissions = d.permissions(e.val)
		case "env":
			f.Env = d.env(e.val, "env", &atEnv)
		case "defaults":
			f.Defaults = d.defaults(e.val, nil)
		case "concurrency":
			f.Concurrency = d.concurrency(e.val, &atConcurrency)
		case "jobs":
			f.Jobs = d.jobs(e.val)
		}
	}
	d.require(root, "the workflow", "on", "jobs")
	d.sort()
	if d.diags.errors == 0 {
		f.warnings = d.diags.list
	}
	return f, d.diags.list
}

// require reports keys that a mapping must have and has not.
func (d *decoder) require(n *yaml.Node, what string, keys ...string) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for _, key := range keys {
		if !slices.ContainsFunc(d.keyNodes(n), func(k *yaml.Node) bool { return k.Value == key }) {
			d.report(posOf(n), "%s lacks the key %q: add it", what, key)
		}
	}
}

func (d *decoder) keyNodes(n *yaml.Node) []*yaml.Node {
	var keys []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		keys = append(keys, n.Content[i])
	}
	return keys
}

// sort brings the diagnostics into the order of the file, each once.
func (d *decoder) sort() {
	slices.SortStableFunc(d.diags.list, func(a, b sallyport.Diagnostic) int {
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Col - b.Pos.Col
	})
	d.diags.list = slices.Compact(d.diags.list) // what an alias stands for is read again where it stands
}

// defaults reads a defaults block; without a place, expressions are refused.
func (d *decoder) defaults(n *yaml.Node, at *place) (out sallyport.PlanDefaults) {
	for _, e := range d.fields(n, "defaults", defaultsKeys) {
		if d.object(e.val, at) {
			out.Shell, out.WorkingDirectory = part(e.val, "shell"), part(e.val, "working-directory")
			continue
		}
		for _, e := range d.fields(e.val, "defaults.run", defaultsRunKeys) {
			var t sallyport.Template
			if at == nil {
				t = d.text(e.val, "the workflow's defaults.run."+e.key.Text)
			} else {
				t = d.template(e.val, e.key.Text, at)
			}
			d.filled(e.val, "defaults.run."+e.key.Text)
			if e.key.Text == "shell" {
				out.Shell = d.shell(t)
			} else {
				out.WorkingDirectory = t
			}
		}
	}
	return out
}

// shells that need no template of their own.
var shells = []string{"bash", "sh", "python", "pwsh", "powershell", "cmd"}

// shell checks a shell's name: a known one, in any case, or a command line with
// {0} in the place of the script.
func (d *decoder) shell(t sallyport.Template) sallyport.Template {
	switch {
	case t.Text == "" || isExpr(t.Text) || strings.Contains(t.Text, "{0}"):
	case slices.Contains(shells, strings.ToLower(t.Text)):
		t.Text = strings.ToLower(t.Text)
	default:
		d.report(t.Pos, "unknown shell %s%s: there are %s, or a command line of your own with {0} in the place of the script's file",
			quote(t.Text), didYouMean(t.Text, shells), strings.Join(shells, ", "))
	}
	return t
}

// concurrency reads a group's name, or a mapping.
func (d *decoder) concurrency(n *yaml.Node, at *place) *sallyport.PlanConcurrency {
	c := &sallyport.PlanConcurrency{}
	if n.Kind == yaml.ScalarNode {
		c.Group = d.template(n, "concurrency", at)
	} else {
		for _, e := range d.fields(n, "concurrency", concurrencyKeys) {
			switch e.key.Text {
			case "group":
				c.Group = d.template(e.val, "concurrency.group", at)
			case "cancel-in-progress":
				c.CancelInProgress = d.boolean(e.val, "cancel-in-progress", at)
			case "queue":
				if e.val.Kind == yaml.ScalarNode && isExpr(e.val.Value) {
					c.QueueExpr = d.template(e.val, "concurrency.queue", at)
				} else {
					c.Queue = d.oneOf(e.val, "concurrency.queue", queueValues)
				}
			}
		}
		if c.Queue == "max" && c.CancelInProgress.Text == "true" {
			d.report(posOf(n), "queue: max keeps every run waiting and cancel-in-progress cancels them: choose one")
		}
	}
	if c.Group.Text == "" && n.Kind != yaml.SequenceNode {
		d.report(posOf(n), "concurrency has no group: give it a name, for example ${{ github.workflow }}-${{ github.ref }}")
	}
	return c
}
