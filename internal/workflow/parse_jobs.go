package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

var (
	jobKeys = []string{
		"name", "needs", "if", "runs-on", "permissions", "environment", "concurrency", "outputs", "env",
		"defaults", "steps", "timeout-minutes", "cancel-timeout-minutes", "strategy", "continue-on-error", "container", "services",
		"uses", "with", "secrets", "snapshot",
	}
	// callerKeys are those of a job that calls a reusable workflow.
	callerKeys      = []string{"name", "needs", "if", "permissions", "concurrency", "strategy", "uses", "with", "secrets"}
	strategyKeys    = []string{"matrix", "fail-fast", "max-parallel"}
	environmentKeys = []string{"name", "url", "deployment"}
	runsOnKeys      = []string{"group", "labels"}
	snapshotKeys    = []string{"image-name", "if", "version"}
)

// maxIdentifier is GitHub's limit of the id of a job or a step.
const maxIdentifier = 100

// identifier checks the id of a job, a step, an input or an output.
func (d *decoder) identifier(t sallyport.Template, what string) {
	switch {
	case !isIdentifier(t.Text) || len(t.Text) >= maxIdentifier:
		d.report(t.Pos, "%s %s is invalid: it starts with a letter or _, contains only letters, digits, - and _, and has less than %d characters", what, quote(t.Text), maxIdentifier)
	case strings.HasPrefix(t.Text, "__") && (what == "the step id" || what == "the job id"):
		d.report(t.Pos, "%s %s is invalid: those that start with __ are reserved", what, quote(t.Text))
	}
}

func (d *decoder) jobs(n *yaml.Node) []Job {
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "jobs must be a mapping of ids to jobs, not %s", kindName(n))
		return nil
	}
	entries := d.entries(n)
	if len(entries) == 0 {
		d.report(posOf(n), "the workflow has no job: add one")
	}
	if len(entries) > maxJobs {
		d.report(entries[maxJobs].key.Pos, "the workflow has %d jobs; at most %d are allowed", len(entries), maxJobs)
		entries = entries[:maxJobs]
	}
	out := make([]Job, 0, len(entries))
	for _, e := range entries {
		d.identifier(e.key, "the job id")
		out = append(out, d.job(e))
	}
	return out
}

func (d *decoder) job(at entry) Job {
	j := Job{PlanJob: sallyport.PlanJob{Key: at.key.Text, Pos: at.key.Pos}}
	what := "job " + quote(j.Key)
	var has []sallyport.Template // the keys, for rules about several of them
	for _, e := range d.fields(at.val, what, jobKeys) {
		has = append(has, e.key)
		switch e.key.Text {
		case "name":
			j.Name = d.template(e.val, "name", &atJobName)
		case "needs":
			j.NeedsAt = d.texts(e.val, "needs")
			d.filled(e.val, "needs")
			for _, t := range j.NeedsAt {
				j.Needs = append(j.Needs, t.Text)
			}
		case "if":
			j.If = d.condition(e.val, &atJobIf)
		case "runs-on":
			j.RunsOn = d.runsOn(e.val)
		case "permissions":
			j.Permissions = d.permissions(e.val)
		case "environment":
			j.Environment = d.environment(e.val)
		case "concurrency":
			j.Concurrency = d.concurrency(e.val, &atJobConcurrency)
		case "outputs":
			j.Outputs = d.pairs(e.val, "outputs", &atJobOutputs, "output")
		case "env":
			j.Env = d.env(e.val, "env", &atJobEnv)
		case "defaults":
			j.Defaults = d.defaults(e.val, &atJobDefaults)
		case "steps":
			j.StepsAt = d.stepList(e.val, what, &atStep, &atStepIf)
		case "timeout-minutes":
			j.TimeoutMinutes = d.number(e.val, "timeout-minutes", &atJobTimeout)
		case "cancel-timeout-minutes":
			j.CancelTimeoutMinutes = d.number(e.val, "cancel-timeout-minutes", &atJobTimeout)
		case "strategy":
			j.Strategy = d.strategy(e.val)
		case "continue-on-error":
			j.ContinueOnError = d.boolean(e.val, "continue-on-error", &atJobContinue)
		case "container":
			j.Container = d.container(e.val, "container", containerKeys)
		case "services":
			j.Services = d.services(e.val)
		case "uses":
			j.Uses = d.text(e.val, "uses")
			if _, err := parseCallRef(j.Uses.Text); err != nil && e.val.Kind == yaml.ScalarNode && !isExpr(j.Uses.Text) {
				d.report(j.Uses.Pos, "%s names no reusable workflow: %v", quote(j.Uses.Text), err)
			}
		case "with":
			j.With = d.pairs(e.val, "with", &atJobWith, "input")
		case "secrets":
			j.Secrets = d.jobSecrets(e.val)
		case "snapshot":
			d.snapshot(e)
		}
	}
	if at.val.Kind == yaml.MappingNode {
		d.jobShape(&j, what, has)
	}
	return j
}

// snapshot checks a request for an image of the runner.
func (d *decoder) snapshot(at entry) {
	if at.val.Kind == yaml.ScalarNode {
		d.text(at.val, "snapshot")
		d.filled(at.val, "snapshot")
	} else {
		for _, e := range d.fields(at.val, "snapshot", snapshotKeys) {
			if e.key.Text == "if" {
				d.condition(e.val, &atJobSnapshotIf)
				continue
			}
			d.text(e.val, "snapshot."+e.key.Text)
			d.filled(e.val, "snapshot."+e.key.Text)
		}
		d.require(at.val, "snapshot", "image-name")
	}
	d.warn(at.key.Pos, "snapshot has no effect: Sallyport's runners take no images of themselves")
}

// jobShape checks which keys of a job go together.
func (d *decoder) jobShape(j *Job, what string, has []sallyport.Template) {
	lacks := func(key string) bool {
		return !slices.ContainsFunc(has, func(t sallyport.Template) bool { return t.Text == key })
	}
	if !lacks("uses") {
		for _, t := range has {
			if !slices.Contains(callerKeys, t.Text) {
				d.report(t.Pos, "%s calls a reusable workflow (uses), so it cannot have %q; allowed are %s", what, t.Text, strings.Join(callerKeys, ", "))
			}
		}
		return
	}
	if lacks("runs-on") {
		d.report(j.Pos, "%s lacks the key \"runs-on\": add for example runs-on: ubuntu-latest", what)
	}
	if lacks("steps") {
		d.report(j.Pos, "%s lacks the key \"steps\" (or \"uses\", to call a reusable workflow)", what)
	}
	for _, t := range has {
		if t.Text == "with" || t.Text == "secrets" {
			d.report(t.Pos, "%s has %q, which is for jobs that call a reusable workflow (uses); steps have a \"with\" of their own", what, t.Text)
		}
	}
}

func (d *decoder) strategy(n *yaml.Node) (s sallyport.PlanStrategy) {
	if d.object(n, &atJobStrategy) {
		matrix := part(n, "matrix")
		s.Matrix = sallyport.Tree{Kind: sallyport.TreeString, Text: matrix.Text, Pos: matrix.Pos}
		s.FailFast, s.MaxParallel = part(n, "fail-fast"), part(n, "max-parallel")
		return s
	}
	for _, e := range d.fields(n, "strategy", strategyKeys) {
		switch e.key.Text {
		case "matrix":
			s.Matrix = d.matrix(e.val)
		case "fail-fast":
			s.FailFast = d.boolean(e.val, "fail-fast", &atJobStrategy)
		case "max-parallel":
			s.MaxParallel = d.number(e.val, "max-parallel", &atJobStrategy)
		}
	}
	return s
}

// matrix checks the shape of a matrix: vectors are sequences, include and
// exclude are sequences of mappings, and each may be an expression.
func (d *decoder) matrix(n *yaml.Node) sallyport.Tree {
	t := d.tree(n, &atJobStrategy)
	if t.Kind == sallyport.TreeString && isExpr(t.Text) {
		return t
	}
	if t.Kind != sallyport.TreeMap {
		d.report(t.Pos, "matrix must be a mapping of names to sequences, or an expression, not %s", kindName(n))
		return t
	}
	if len(t.Pairs) == 0 {
		d.report(t.Pos, "matrix has no names: add one with its values")
	}
	for _, p := range t.Pairs {
		v := p.Value
		switch {
		case v.Kind == sallyport.TreeString && isExpr(v.Text) || isInsert(p.Key.Text):
		case v.Kind != sallyport.TreeSeq:
			d.report(v.Pos, "matrix.%s must be a sequence, for example [%s], or an expression", p.Key.Text, v.Text)
		case len(v.Items) == 0 && p.Key.Text != "include" && p.Key.Text != "exclude":
			d.report(v.Pos, "matrix.%s has no values: add one, or remove it", p.Key.Text)
		case p.Key.Text == "include" || p.Key.Text == "exclude":
			for _, item := range v.Items {
				if item.Kind != sallyport.TreeMap && !(item.Kind == sallyport.TreeString && isExpr(item.Text)) {
					d.report(item.Pos, "an item of matrix.%s must be a mapping of names to values", p.Key.Text)
				}
			}
		}
	}
	return t
}

// jobSecrets reads "inherit", or a mapping.
func (d *decoder) jobSecrets(n *yaml.Node) sallyport.Tree {
	if n.Kind == yaml.ScalarNode && n.Value == "inherit" {
		return sallyport.Tree{Kind: sallyport.TreeString, Text: "inherit", Pos: posOf(n)}
	}
	return d.pairs(n, "secrets", &atJobSecrets, "secret")
}
