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

// sort brings the diagnostics into the order of the file.
func (d *decoder) sort() {
	slices.SortStableFunc(d.diags.list, func(a, b sallyport.Diagnostic) int {
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Col - b.Pos.Col
	})
}

// env reads an env block: a mapping, or one expression that makes it.
func (d *decoder) env(n *yaml.Node, what string, at *place) sallyport.Tree {
	return d.values(n, what, at, "variable")
}

// values reads a mapping of names to texts, or one expression in its place.
func (d *decoder) values(n *yaml.Node, what string, at *place, entry string) sallyport.Tree {
	t := d.tree(n, at)
	switch {
	case t.Kind == sallyport.TreeNull, t.Kind == sallyport.TreeString && isExpr(t.Text):
		return t
	case t.Kind != sallyport.TreeMap:
		d.report(t.Pos, "%s must be a mapping of names to values, not %s", what, kindName(n))
		return sallyport.Tree{}
	}
	for _, p := range t.Pairs {
		if p.Key.Text == "" {
			d.report(p.Key.Pos, "the %s has no name", entry)
		}
		if (p.Value.Kind == sallyport.TreeSeq || p.Value.Kind == sallyport.TreeMap) && !isInsert(p.Key.Text) {
			d.report(p.Value.Pos, "the value of %s in %s must be text, a number or a boolean; for several lines use a block text (|)", quote(p.Key.Text), what)
		}
	}
	return t
}

// defaults reads a defaults block; without a place, expressions are refused.
func (d *decoder) defaults(n *yaml.Node, at *place) (out sallyport.PlanDefaults) {
	for _, e := range d.fields(n, "defaults", defaultsKeys) {
		for _, e := range d.fields(e.val, "defaults.run", defaultsRunKeys) {
			var t sallyport.Template
			if at == nil {
				t = d.text(e.val, "the workflow's defaults.run."+e.key.Text)
			} else {
				t = d.template(e.val, e.key.Text, at)
			}
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

// shell checks a shell's name: a known one, or a command line with {0} in the
// place of the script.
func (d *decoder) shell(t sallyport.Template) sallyport.Template {
	switch {
	case t.Text == "" || isExpr(t.Text) || slices.Contains(shells, t.Text) || strings.Contains(t.Text, "{0}"):
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
				c.Queue = d.oneOf(e.val, "concurrency.queue", queueValues)
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

func (d *decoder) oneOf(n *yaml.Node, what string, allowed []string) string {
	t := d.text(n, what)
	if t.Text != "" && !slices.Contains(allowed, t.Text) {
		d.report(t.Pos, "%s is %s%s; allowed are %s", what, quote(t.Text), didYouMean(t.Text, allowed), strings.Join(allowed, ", "))
	}
	return t.Text
}

// boolean reads true, false or an expression.
func (d *decoder) boolean(n *yaml.Node, what string, at *place) sallyport.Template {
	t := d.template(n, what, at)
	if n.Kind == yaml.ScalarNode && t.Text != "true" && t.Text != "false" && !wholeExpr(t.Text) {
		d.report(t.Pos, "%s must be true, false or one ${{ expression }}, not %s", what, quote(t.Text))
	}
	return t
}

// number reads a number greater than zero, or an expression.
func (d *decoder) number(n *yaml.Node, what string, at *place) sallyport.Template {
	t := d.template(n, what, at)
	switch {
	case n.Kind != yaml.ScalarNode || wholeExpr(t.Text):
	case t.Text == "" || !isDecimal(t.Text):
		d.report(t.Pos, "%s must be a number or one ${{ expression }}, not %s", what, quote(t.Text))
	case parseNumber(t.Text) <= 0:
		d.report(t.Pos, "%s must be greater than 0, not %s", what, t.Text)
	}
	return t
}

// wholeExpr reports whether the text is exactly one expression.
func wholeExpr(text string) bool {
	return strings.HasPrefix(text, "${{") && strings.HasSuffix(text, "}}")
}

// Scopes of the job's token, and what may be granted.
var (
	tokenScopes = []string{
		"actions", "artifact-metadata", "attestations", "checks", "code-quality", "contents", "deployments",
		"discussions", "id-token", "issues", "models", "packages", "pages", "pull-requests",
		"repository-projects", "security-events", "statuses", "vulnerability-alerts",
	}
	tokenGrants = []string{"read", "write", "none"}
)

// permissions reads a permissions block. The result is never empty: a scope
// that is not granted is listed as none, so that "{}" cannot be taken for
// "not set".
func (d *decoder) permissions(n *yaml.Node) sallyport.Permissions {
	out := sallyport.Permissions{}
	grant := "none"
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		switch t := d.text(n, "permissions"); t.Text {
		case "read-all":
			grant = "read"
		case "write-all":
			grant = "write"
		default:
			d.report(t.Pos, "permissions is %s; allowed are read-all, write-all, {} and a mapping of scopes", quote(t.Text))
		}
	}
	for _, scope := range tokenScopes {
		out[scope] = grant
	}
	if n.Kind != yaml.ScalarNode {
		for _, e := range d.fields(n, "permissions", tokenScopes) {
			out[e.key.Text] = d.oneOf(e.val, "permissions."+e.key.Text, tokenGrants)
		}
	}
	return out
}
