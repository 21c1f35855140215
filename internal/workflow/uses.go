package workflow

import (
	"fmt"
	"path"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// intrinsics are the actions that the runner performs itself, at any version.
var intrinsics = []string{
	"actions/attest", "actions/attest-build-provenance", "actions/attest-sbom", "actions/cache", "actions/cache/restore", "actions/cache/save",
	"actions/checkout", "actions/download-artifact", "actions/setup-go", "actions/setup-node", "actions/setup-python", "actions/upload-artifact",
}

// Intrinsic reports whether the runner performs an action itself: nothing is
// fetched for it, and no lock lists it.
func Intrinsic(r Reference) bool {
	name := r.Repository
	if r.Path != "" {
		name += "/" + r.Path
	}
	return slices.Contains(intrinsics, strings.ToLower(name))
}

// ActionFiles returns the names that an action's metadata file may have, the first one there counts.
func ActionFiles() []string { return slices.Clone(actionFiles) }

var actionFiles = []string{"action.yml", "action.yaml"}

// Remote is a tree of another repository as the action lock pins it.
type Remote struct {
	Source sallyport.PlanSource
	// ReadFile is that of CompileInput, for the tree. Metadata of actions and workflow files
	// are all that it need have.
	ReadFile func(path string) ([]byte, error)
}

// metafile is the file that a step stands in, and whose it is.
type metafile struct {
	file   string  // for people
	remote *Remote // nil: of this repository
}

// beside is another file of the same tree.
func (o metafile) beside(file string) metafile {
	if o.remote != nil {
		file = o.reference(file).String()
	}
	return metafile{file: file, remote: o.remote}
}

// reference names a path of the remote that the file is in.
func (o metafile) reference(file string) Reference {
	return Reference{Repository: o.remote.Source.Repository, Path: strings.TrimPrefix(path.Join("/", file), "/"), Ref: o.remote.Source.Ref}
}

// read reads a file of the repository that the file is in.
func (c *compiler) read(o metafile, file string) ([]byte, error) {
	if o.remote != nil {
		return o.remote.ReadFile(file)
	}
	return c.in.ReadFile(file)
}

// step resolves the actions of a step, and returns it as the plan has it.
func (c *compiler) step(in metafile, s Step, depth int) sallyport.PlanStep {
	out := s.PlanStep
	out.Uses = c.uses(in, s, depth)
	out.Parallel = slices.Clone(out.Parallel)
	for i, p := range s.ParallelAt {
		out.Parallel[i] = c.step(in, p, depth)
	}
	c.checksOut(s)
	return out
}

// checksOut notes where a step puts the repository itself at the run's commit, if it is
// known and not the workspace: "./" means what lies there too.
func (c *compiler) checksOut(s Step) {
	if name, _, _ := strings.Cut(s.Uses, "@"); !equalFold(name, "actions/checkout") {
		return
	}
	dir := ""
	for _, p := range s.With.Pairs {
		own := map[string][]string{"repository": {"${{ github.repository }}"}, "ref": {"${{ github.ref }}", "${{ github.sha }}"}}
		switch name := foldCase(p.Key.Text); {
		case name == "path":
			dir = p.Value.Text
		case own[name] != nil && p.Value.Text != "" && !slices.Contains(own[name], p.Value.Text):
			return
		}
	}
	dir = path.Clean(dir)
	if !isExpr(dir) && dir != "." && dir != ".." && !strings.HasPrefix(dir, "../") && !path.IsAbs(dir) {
		c.checkouts = append(c.checkouts, dir)
	}
}

// uses resolves the action of a step and adds it to the plan. It returns the key by
// which the plan has it: what stands after "uses:", but for an action of the same
// repository as a remote one, whose name means nothing elsewhere.
func (c *compiler) uses(o metafile, s Step, depth int) (key string) {
	key = s.Uses
	self, isSelf := strings.CutPrefix(key, "$/")
	if isSelf && o.remote != nil {
		key = o.reference(self).String()
	}
	if key == "" {
		return ""
	}
	a, known := c.plan.Actions[key]
	if !known {
		if len(c.plan.Actions) == maxActions {
			c.fail(o, s, "the workflow uses more than %d actions", maxActions)
			return key
		}
		var ok bool
		switch {
		case isSelf:
			a, ok = c.action(o, o, s, self, key, depth)
		case strings.HasPrefix(key, "./"): // the workspace, also in an action of somebody else
			a, ok = c.action(o, metafile{}, s, key[2:], key, depth)
		case strings.HasPrefix(key, "docker://"):
			a, ok = imageAction(key), true
		default:
			a, ok = c.remote(o, s, depth)
		}
		if !ok {
			return key
		}
		c.plan.Actions[key] = a
	}
	c.checkWith(o.file, s, a)
	return key
}

// imageAction is the action that a step with docker:// stands for: an image with
// what the step says of it.
func imageAction(uses string) sallyport.PlanAction {
	return sallyport.PlanAction{
		Kind: sallyport.ActionContainer, Name: uses, Image: strings.TrimPrefix(uses, "docker://"),
		Inputs: []sallyport.PlanInput{{Name: "entrypoint"}, {Name: "args"}},
	}
}

// fail reports an error where a step names its action.
func (c *compiler) fail(o metafile, s Step, format string, args ...any) {
	c.diags.add(o.file, severityError, s.UsesAt, format, args...)
}

// remote resolves an action that is named with its repository.
func (c *compiler) remote(o metafile, s Step, depth int) (sallyport.PlanAction, bool) {
	if a, ok := IntrinsicAction(s.Uses); ok {
		return a, true
	}
	ref, err := ParseReference(s.Uses)
	if err != nil {
		c.fail(o, s, "%s", withHint(err))
		return sallyport.PlanAction{}, false
	}
	r, err := c.locked(ref)
	if err != nil {
		c.diags.add(o.file, c.missing(), s.UsesAt, "%s", withHint(err))
		return sallyport.PlanAction{}, false
	}
	return c.action(o, metafile{remote: r}, s, ref.Path, ref.String(), depth)
}

// locked returns what the lock names for a reference, to an action or to a workflow.
func (c *compiler) locked(ref Reference) (*Remote, error) {
	if c.in.Remote == nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s is of another repository, and there is no action lock here", quote(ref.String()))
	}
	return c.in.Remote(ref.Repository, ref.Ref)
}

// withHint is an error's message and what to do about it, in one line.
func withHint(err error) string {
	message, hint := sallyport.ErrorMessage(err)
	if hint != "" {
		message += "; " + hint
	}
	return message
}

// checkWith warns of inputs that the action does not have, or needs and did
// not get. GitHub runs such steps too.
func (c *compiler) checkWith(file string, s Step, a sallyport.PlanAction) {
	if a.Kind == sallyport.ActionIntrinsic || a.Kind == sallyport.ActionWorkspace || s.With.Kind == sallyport.TreeString {
		return
	}
	var names []string
	given := map[string]bool{}
	for _, in := range a.Inputs {
		names = append(names, in.Name)
	}
	if a.Kind == sallyport.ActionContainer { // every one has these
		names = append(names, "entrypoint", "args")
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

// action reads the action in a directory of a repository, and those that it
// uses. The step stands in from; key is what the plan calls the action.
func (c *compiler) action(from, in metafile, s Step, dir, key string, depth int) (sallyport.PlanAction, bool) {
	fail := func(format string, args ...any) (sallyport.PlanAction, bool) {
		c.fail(from, s, format, args...)
		return sallyport.PlanAction{}, false
	}
	if in.remote == nil && strings.Contains(key, "@") {
		return fail("%s: an action of this repository has no version; remove what follows the @", quote(key))
	}
	dir = path.Clean(dir)
	if dir == ".." || strings.HasPrefix(dir, "../") || path.IsAbs(dir) || strings.ContainsAny(dir, "\\\x00") {
		return fail("%s leads out of the repository", quote(key))
	}
	id := dir
	if in.remote != nil {
		id = key
	}
	if slices.Contains(c.open, id) {
		return fail("the actions use each other in a circle: %s", strings.Join(append(slices.Clone(c.open[slices.Index(c.open, id):]), id), " uses "))
	}
	if depth > maxActionDepth {
		return fail("composite actions are nested deeper than %d levels", maxActionDepth)
	}
	src, name, err := c.readAction(in, dir)
	switch {
	case sallyport.ErrorCode(err) == sallyport.CodeNotFound && in.remote != nil:
		return fail("there is no %s in %s", strings.Join(actionFiles, " or "), quote(key))
	case sallyport.ErrorCode(err) == sallyport.CodeNotFound:
		c.diags.add(from.file, severityWarning, s.UsesAt, "there is no %s in %s at this commit: a step before must make it", strings.Join(actionFiles, " or "), quote(dir))
		return sallyport.PlanAction{Kind: sallyport.ActionWorkspace, Name: key, Path: dir}, true
	case err != nil:
		return fail("read %s: %s", name, withHint(err))
	}
	at := in.beside(name)
	a, diags := ParseAction(at.file, src)
	for _, d := range diags {
		if in.remote == nil || d.Severity == severityError { // nobody here can mend the style of others
			c.diags.add(d.File, d.Severity, d.Pos, "%s", d.Message)
		}
	}
	if a == nil || hasErrors(diags) {
		return fail("the action %s cannot be used: see the errors in %s", quote(key), at.file)
	}
	out, err := a.Plan()
	if err != nil {
		return fail("the action %s %v", quote(key), err)
	}
	out.Path = dir
	if in.remote != nil {
		out.Source = &in.remote.Source
	} else if !slices.ContainsFunc(c.plan.Files, func(f sallyport.PlanFile) bool { return f.Path == name }) {
		c.plan.Files = append(c.plan.Files, sallyport.PlanFile{Path: name, Digest: a.Digest})
	}
	c.open = append(c.open, id)
	for _, step := range a.Steps {
		out.Steps = append(out.Steps, c.step(at, step, depth+1))
	}
	c.open = c.open[:len(c.open)-1]
	return out, true
}

// IntrinsicAction is the action that a reference stands for which the runner performs itself.
func IntrinsicAction(uses string) (sallyport.PlanAction, bool) {
	ref, err := ParseReference(uses)
	if err != nil || !Intrinsic(ref) {
		return sallyport.PlanAction{}, false
	}
	name, _, _ := strings.Cut(uses, "@")
	return sallyport.PlanAction{Kind: sallyport.ActionIntrinsic, Name: strings.ToLower(name)}, true
}

// Plan is the action as a plan carries it, without its steps and whose it is.
// The error says why no job can run it.
func (a *Action) Plan() (sallyport.PlanAction, error) {
	out := sallyport.PlanAction{Name: a.Name, Digest: a.Digest, Inputs: a.Inputs}
	switch {
	case a.Using.Text == "composite":
		out.Kind, out.Outputs = sallyport.ActionComposite, a.Outputs
	case a.JavaScript():
		out.Kind, out.Using = sallyport.ActionNode, a.Using.Text
		out.Pre, out.PreIf, out.Main, out.Post, out.PostIf = a.Pre.Text, a.PreIf.Text, a.Main.Text, a.Post.Text, a.PostIf.Text
	case strings.HasPrefix(a.Image.Text, "docker://"):
		out.Kind, out.Image = sallyport.ActionContainer, strings.TrimPrefix(a.Image.Text, "docker://")
		out.Entrypoint, out.PreEntrypoint, out.PostEntrypoint, out.PostIf = a.Entrypoint.Text, a.PreEntrypoint.Text, a.PostEntrypoint.Text, a.PostIf.Text
		out.Args, out.Env = a.Args, a.Env
	default:
		return out, fmt.Errorf("is built from a Dockerfile; images are not built in jobs yet: install the tool on the host, under /usr or /opt, and run it in a step")
	}
	return out, nil
}

// readAction reads the metadata file of the action in dir: of one of this repository also where
// a step before has put the repository.
func (c *compiler) readAction(o metafile, dir string) (src []byte, name string, err error) {
	src, name, err = c.readMetadata(o, dir)
	for i := 0; i < len(c.checkouts) && o.remote == nil && sallyport.ErrorCode(err) == sallyport.CodeNotFound; i++ {
		if below, ok := strings.CutPrefix(dir+"/", c.checkouts[i]+"/"); ok {
			src, name, err = c.readMetadata(o, path.Clean(below))
		}
	}
	return src, name, err
}

func (c *compiler) readMetadata(o metafile, dir string) (src []byte, name string, err error) {
	for _, f := range actionFiles {
		name = path.Join(dir, f)
		if src, err = c.read(o, name); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			return src, name, err
		}
	}
	return nil, name, err
}
