package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// stepKinds are what a step can be: the key that makes it one, and the keys it
// may have. A step has exactly one of these keys.
var stepKinds = []struct {
	key     string
	allowed []string
}{
	{"run", []string{"id", "if", "name", "run", "env", "shell", "working-directory", "continue-on-error", "timeout-minutes", "background"}},
	{"uses", []string{"id", "if", "name", "uses", "with", "env", "continue-on-error", "timeout-minutes", "background"}},
	{"wait", []string{"id", "name", "wait", "continue-on-error"}},
	{"wait-all", []string{"id", "name", "wait-all", "continue-on-error"}},
	{"cancel", []string{"id", "name", "cancel", "continue-on-error"}},
	{"parallel", []string{"id", "name", "parallel", "continue-on-error"}},
}

// stepKeys are the keys of all kinds of steps.
var stepKeys = func() (keys []string) {
	for _, k := range stepKinds {
		keys = append(keys, k.allowed...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}()

// stepScope is a list of steps that share their ids: those of a job, or of a
// composite action.
type stepScope struct {
	what       string // names the list in messages
	at, atIf   *place
	action     bool // a composite action: no concurrent steps
	ids        map[string]sallyport.Pos
	background map[string]string // ids of the background steps so far, as written
}

// stepList reads the steps of a job or of a composite action.
func (d *decoder) stepList(n *yaml.Node, what string, at, atIf *place) []Step {
	s := &stepScope{
		what: "the steps of " + what, at: at, atIf: atIf, action: at == &atActionStep,
		ids: map[string]sallyport.Pos{}, background: map[string]string{},
	}
	return d.steplist(n, s, false)
}

func (d *decoder) steplist(n *yaml.Node, s *stepScope, parallel bool) []Step {
	if n.Kind != yaml.SequenceNode {
		d.report(posOf(n), "%s must be a sequence, not %s", s.what, kindName(n))
		return nil
	}
	if len(n.Content) == 0 {
		d.report(posOf(n), "%s are empty: add one", s.what)
	}
	out := make([]Step, 0, len(n.Content))
	for _, c := range n.Content {
		if d.steps++; d.steps > maxSteps {
			d.report(posOf(c), "more than %d steps in one file", maxSteps)
			break
		}
		step := d.step(c, s, parallel)
		out = append(out, step)
	}
	return out
}

// stepKind tells which kind of step a mapping is, from its keys; the keys it
// may have are those of the kind, of a step that is of none all keys.
func (d *decoder) stepKind(n *yaml.Node, s *stepScope, parallel bool) (kind string, allowed []string) {
	keys := d.keyNodes(n)
	var first *yaml.Node
	for _, k := range stepKinds {
		i := slices.IndexFunc(keys, func(n *yaml.Node) bool { return n.Value == k.key })
		switch {
		case i < 0:
		case first == nil:
			first, kind, allowed = keys[i], k.key, k.allowed
		default:
			a, b := first, keys[i]
			if b.Line < a.Line || b.Line == a.Line && b.Column < a.Column {
				a, b = b, a
			}
			d.report(posOf(b), "a step has either %q or %q, not both: make two steps of it", a.Value, b.Value)
			return kind, stepKeys
		}
	}
	switch {
	case first == nil:
		d.report(posOf(n), "the step does nothing: add \"run\" or \"uses\" (or \"wait\", \"wait-all\", \"cancel\" or \"parallel\")")
		return kind, stepKeys
	case s.action && kind != "run" && kind != "uses":
		d.report(posOf(first), "%q is not available in composite actions: only the steps of a job run beside each other", kind)
		return kind, stepKeys
	case parallel && kind != "run" && kind != "uses":
		d.report(posOf(first), "%q is not available in a group of parallel steps: these have \"run\" or \"uses\"", kind)
		return kind, stepKeys
	}
	return kind, allowed
}

// stepFields returns the entries of a step that its kind may have.
func (d *decoder) stepFields(n *yaml.Node, kind string, allowed []string) []entry {
	all := d.entries(n)
	out := all[:0]
	for _, e := range all {
		key := e.key.Text
		switch {
		case slices.Contains(allowed, key):
			out = append(out, e)
		case !slices.Contains(stepKeys, key):
			d.report(e.key.Pos, "unknown key %s in the step%s; allowed are %s", quote(key), didYouMean(key, allowed), strings.Join(allowed, ", "))
		case key == "with":
			d.report(e.key.Pos, "\"with\" is for steps with \"uses\"; hand values to \"run\" with env")
		case kind == "uses":
			d.report(e.key.Pos, "%q is for steps with \"run\"; an action chooses its own", key)
		case key == "if" && kind == "parallel":
			d.report(e.key.Pos, "a group of parallel steps has no \"if\": give it to the steps of the group")
		case key == "if":
			d.report(e.key.Pos, "a step with %q always runs and has no \"if\"", kind)
		default:
			d.report(e.key.Pos, "a step with %q has no %q; allowed are %s", kind, key, strings.Join(allowed, ", "))
		}
	}
	return out
}

func (d *decoder) step(n *yaml.Node, scope *stepScope, parallel bool) Step {
	s := Step{PlanStep: sallyport.PlanStep{Pos: posOf(n)}}
	if n.Kind != yaml.MappingNode {
		d.report(s.Pos, "the step must be a mapping with the keys %s, not %s", strings.Join(stepKeys, ", "), kindName(n))
		return s
	}
	kind, allowed := d.stepKind(n, scope, parallel)
	var targets []sallyport.Template
	for _, e := range d.stepFields(n, kind, allowed) {
		switch e.key.Text {
		case "id":
			s.ID = d.stepID(e.val, scope)
		case "if":
			s.If = d.condition(e.val, scope.atIf)
		case "name":
			s.Name = d.template(e.val, "name", scope.at)
		case "uses":
			t := d.text(e.val, "uses")
			s.Uses, s.UsesAt = t.Text, t.Pos
			if t.Text == "" && e.val.Kind == yaml.ScalarNode {
				d.report(e.key.Pos, "uses names no action")
			}
		case "run":
			s.Run, s.runs = d.template(e.val, "run", scope.at), true
		case "with":
			s.With = d.values(e.val, "with", scope.at, "input")
		case "env":
			s.Env = d.env(e.val, "env", scope.at)
		case "shell":
			if scope.action {
				s.Shell = d.shell(d.template(e.val, "shell", scope.at))
			} else { // as on GitHub
				s.Shell = d.shell(d.text(e.val, "the shell of a step: give it to the job in defaults.run.shell, where they are"))
			}
			d.filled(e.val, "shell")
		case "working-directory":
			s.WorkingDirectory = d.template(e.val, "working-directory", scope.at) // may be empty, that of defaults may not
		case "continue-on-error":
			s.ContinueOnError = d.boolean(e.val, "continue-on-error", scope.at)
		case "timeout-minutes":
			s.TimeoutMinutes = d.number(e.val, "timeout-minutes", scope.at)
		case "background":
			s.Background = d.background(e, scope, parallel)
		case "wait":
			targets = d.texts(e.val, "wait")
			if len(targets) == 0 && (e.val.Kind == yaml.SequenceNode || isNull(e.val)) {
				d.report(posOf(e.val), "wait names no step: give the id of a background step, or use wait-all")
			}
		case "wait-all":
			s.WaitAll = true
			if kind, text := scalar(e.val); !isNull(e.val) && (kind != sallyport.TreeBool || text != "true") {
				d.report(posOf(e.val), "wait-all must be true or empty")
			}
		case "cancel":
			if t := d.text(e.val, "cancel"); t.Text != "" {
				targets = []sallyport.Template{t}
			} else if e.val.Kind == yaml.ScalarNode {
				d.report(t.Pos, "cancel names no step: give the id of a background step")
			}
		case "parallel":
			if !scope.action && !parallel {
				s.ParallelAt = d.steplist(e.val, scope, true)
			}
		}
	}
	ids := d.targets(targets, kind, &s, scope)
	switch {
	case kind == "wait":
		s.Wait = ids
	case kind == "cancel" && len(ids) > 0:
		s.Cancel = ids[0]
	}
	for i := range s.ParallelAt {
		s.Parallel = append(s.Parallel, s.ParallelAt[i].PlanStep)
	}
	if s.Background && s.ID != "" {
		scope.background[foldCase(s.ID)] = s.ID
	}
	return s
}

// stepID reads the id of a step, which is unique in its scope.
func (d *decoder) stepID(n *yaml.Node, s *stepScope) string {
	t := d.text(n, "id")
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	d.identifier(t, "the step id")
	id := foldCase(t.Text)
	if first, ok := s.ids[id]; ok {
		d.report(t.Pos, "the step id %s is already used in line %d: ids are unique within a job", quote(t.Text), first.Line)
	} else {
		s.ids[id] = t.Pos
	}
	return t.Text
}

func (d *decoder) background(e entry, s *stepScope, parallel bool) bool {
	switch {
	case s.action:
		d.report(e.key.Pos, "\"background\" is not available in composite actions: only the steps of a job run beside each other")
	case parallel:
		d.report(e.key.Pos, "\"background\" is not available in a group of parallel steps: these run beside each other anyway")
	}
	return d.flag(e.val, "background")
}

// targets checks the steps that a wait or a cancel names and returns their ids
// as those steps spell them.
func (d *decoder) targets(targets []sallyport.Template, kind string, s *Step, scope *stepScope) []string {
	var out, known []string
	for _, t := range targets {
		id, ok := scope.background[foldCase(t.Text)]
		_, exists := scope.ids[foldCase(t.Text)]
		switch {
		case ok:
			out = append(out, id)
		case isExpr(t.Text): // reported already
		case s.ID != "" && equalFold(s.ID, t.Text):
			d.report(t.Pos, "%s names the step itself", kind)
		case exists:
			d.report(t.Pos, "%s names the step %s, which does not run in the background: add background: true to it", kind, quote(t.Text))
		default:
			for _, id := range scope.background {
				known = append(known, id)
			}
			slices.Sort(known)
			d.report(t.Pos, "%s names the step %s, which is no background step before this one%s", kind, quote(t.Text), didYouMean(t.Text, known))
		}
	}
	return out
}
