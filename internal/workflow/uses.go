package workflow

import (
	"path"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// intrinsics are the actions that the runner performs itself, at any version.
var intrinsics = []string{
	"actions/cache", "actions/cache/restore", "actions/cache/save",
	"actions/checkout", "actions/download-artifact", "actions/setup-go", "actions/setup-node", "actions/setup-python", "actions/upload-artifact",
}

// actionFiles are the names an action's metadata file may have.
var actionFiles = []string{"action.yml", "action.yaml"}

// uses resolves the action of a step and adds it to the plan.
func (c *compiler) uses(file string, s Step, depth int) {
	if s.Uses == "" {
		return
	}
	fail := func(format string, args ...any) { c.diags.add(file, severityError, s.UsesAt, format, args...) }
	a, known := c.plan.Actions[s.Uses]
	if !known {
		if len(c.plan.Actions) == maxActions {
			fail("the workflow uses more than %d actions", maxActions)
			return
		}
		switch {
		case strings.HasPrefix(s.Uses, "./"), strings.HasPrefix(s.Uses, "$/"):
			var ok bool
			if a, ok = c.local(file, s, depth); !ok {
				return
			}
		case strings.HasPrefix(s.Uses, "docker://"):
			fail("%s is a container action; these are not supported yet: install the tool on the host, under /usr or /opt, and run it in a step", quote(s.Uses))
			return
		default:
			name, ref, _ := strings.Cut(s.Uses, "@")
			if ref == "" || strings.Count(name, "/") < 1 || strings.HasPrefix(name, "/") {
				fail("%s is not an action: write owner/repository@version, or ./directory for one of this repository", quote(s.Uses))
				return
			}
			if !slices.Contains(intrinsics, strings.ToLower(name)) {
				fail("the action %s is not supported yet: only %s, composite actions of this repository and \"run\" steps are; %s",
					quote(s.Uses), strings.Join(intrinsics, ", "), instead(strings.ToLower(name)))
				return
			}
			a = sallyport.PlanAction{Kind: sallyport.ActionIntrinsic, Name: strings.ToLower(name)}
		}
		c.plan.Actions[s.Uses] = a
	}
	c.checkWith(file, s, a)
}

// instead says what to do without an action of someone else.
func instead(name string) string {
	switch {
	case strings.HasPrefix(name, "actions/setup-"):
		return "remove the step: a job has the tools of the host, under /usr and /opt"
	default:
		return "vendor it as a composite action and use it as ./directory"
	}
}

// checkWith warns of inputs that the action does not have, or needs and did
// not get. GitHub runs such steps too.
func (c *compiler) checkWith(file string, s Step, a sallyport.PlanAction) {
	if a.Kind != sallyport.ActionComposite || s.With.Kind == sallyport.TreeString {
		return
	}
	var names []string
	given := map[string]bool{}
	for _, in := range a.Inputs {
		names = append(names, in.Name)
	}
	for _, p := range s.With.Pairs {
		given[foldCase(p.Key.Text)] = true
		known := slices.ContainsFunc(names, func(n string) bool { return equalFold(n, p.Key.Text) })
		if !known && !isExpr(p.Key.Text) {
			c.diags.add(file, severityWarning, p.Key.Pos, "the action %s has no input %s%s", s.Uses, quote(p.Key.Text), didYouMean(p.Key.Text, names))
		}
	}
	for _, in := range a.Inputs {
		if in.Required && in.Default.IsZero() && !given[foldCase(in.Name)] {
			c.diags.add(file, severityWarning, s.UsesAt, "the action %s requires the input %s", s.Uses, quote(in.Name))
		}
	}
}

// local reads a composite action of the repository, and those it uses.
func (c *compiler) local(file string, s Step, depth int) (sallyport.PlanAction, bool) {
	fail := func(format string, args ...any) (sallyport.PlanAction, bool) {
		c.diags.add(file, severityError, s.UsesAt, format, args...)
		return sallyport.PlanAction{}, false
	}
	if strings.Contains(s.Uses, "@") {
		return fail("%s: an action of this repository has no version; remove what follows the @", quote(s.Uses))
	}
	dir := path.Clean(s.Uses[2:])
	if dir == ".." || strings.HasPrefix(dir, "../") || path.IsAbs(dir) || strings.ContainsAny(dir, "\\\x00") {
		return fail("%s leads out of the repository", quote(s.Uses))
	}
	if slices.Contains(c.open, dir) {
		return fail("the actions use each other in a circle: %s", strings.Join(append(slices.Clone(c.open[slices.Index(c.open, dir):]), dir), " uses "))
	}
	if depth > maxActionDepth {
		return fail("composite actions are nested deeper than %d levels", maxActionDepth)
	}
	src, name, err := c.readAction(dir)
	switch {
	case sallyport.ErrorCode(err) == sallyport.CodeNotFound:
		return fail("there is no %s in %s at this commit", strings.Join(actionFiles, " or "), quote(dir))
	case err != nil:
		msg, _ := sallyport.ErrorMessage(err)
		return fail("read %s: %s", name, msg)
	}
	a, diags := ParseAction(name, src)
	for _, d := range diags {
		c.diags.add(d.File, d.Severity, d.Pos, "%s", d.Message)
	}
	if a == nil || hasErrors(diags) {
		return fail("the action %s cannot be used: see the errors in %s", quote(s.Uses), name)
	}
	if a.Using.Text != "composite" {
		return fail("the action %s runs on %s; only composite actions are supported yet", quote(s.Uses), quote(a.Using.Text))
	}
	if !slices.ContainsFunc(c.plan.Files, func(f sallyport.PlanFile) bool { return f.Path == name }) {
		c.plan.Files = append(c.plan.Files, sallyport.PlanFile{Path: name, Digest: a.Digest})
	}
	out := sallyport.PlanAction{
		Kind: sallyport.ActionComposite, Name: a.Name, Path: dir, Digest: a.Digest, Inputs: a.Inputs, Outputs: a.Outputs,
	}
	c.open = append(c.open, dir)
	for _, step := range a.Steps {
		out.Steps = append(out.Steps, step.PlanStep)
		c.uses(name, step, depth+1)
	}
	c.open = c.open[:len(c.open)-1]
	return out, true
}

// readAction reads the metadata file of the action in dir.
func (c *compiler) readAction(dir string) (src []byte, name string, err error) {
	for _, f := range actionFiles {
		name = path.Join(dir, f)
		if src, err = c.in.ReadFile(name); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			return src, name, err
		}
	}
	return nil, name, err
}
