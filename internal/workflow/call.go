package workflow

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// callRef is what a job's uses names: a workflow file of this repository, or
// of another at a ref.
type callRef struct {
	repository string // owner/name; "" for this one
	path       string // from the root of the repository
	ref        string
}

// parseCallRef takes a reference to a reusable workflow apart. GitHub's forms
// are ./.github/workflows/FILE, $/.github/workflows/FILE and
// OWNER/REPOSITORY/.github/workflows/FILE@REF.
func parseCallRef(uses string) (callRef, error) {
	var r callRef
	name, ref, versioned := strings.Cut(uses, "@")
	local, ok := strings.CutPrefix(name, "./")
	if !ok {
		local, ok = strings.CutPrefix(name, "$/")
	}
	if ok {
		if versioned {
			return r, errors.New("a workflow of this repository has no version: remove what follows the @")
		}
		r.path = local
	} else {
		parts := strings.SplitN(name, "/", 3)
		if len(parts) < 3 || parts[0] == "" || parts[1] == "" || strings.HasPrefix(parts[0], ".") {
			return r, errors.New("write ./.github/workflows/FILE, or OWNER/REPOSITORY/.github/workflows/FILE@REF for one of another repository")
		}
		if ref == "" {
			return r, errors.New("a workflow of another repository needs a version: add @ and a commit, tag or branch")
		}
		r.repository, r.path, r.ref = parts[0]+"/"+parts[1], parts[2], ref
	}
	dir, file := path.Split(r.path)
	ext := path.Ext(file)
	switch {
	case dir != ".github/workflows/":
		return r, errors.New("reusable workflows lie in .github/workflows, not below it and not elsewhere")
	case ext != ".yml" && ext != ".yaml":
		return r, errors.New("the name of a workflow file ends with .yml or .yaml")
	case strings.ContainsAny(file, "\\\x00"):
		return r, errors.New("the name of the file has a character that is not allowed")
	}
	return r, nil
}

// call resolves the workflow that a job calls; nil after an error.
func (c *compiler) call(u *unit, j *Job) *sallyport.PlanCall {
	fail := func(format string, args ...any) *sallyport.PlanCall {
		c.reporter(u, severityError)(j.Uses.Pos, format, args...)
		return nil
	}
	ref, err := parseCallRef(j.Uses.Text)
	switch {
	case err != nil:
		return fail("%s: %v", quote(j.Uses.Text), err)
	case ref.repository != "" && c.check != nil:
		return nil // whether it is there is asked when a plan is made
	}
	in := metafile{remote: u.at.remote} // ./ and $/ mean the repository of the file that they are in
	if ref.repository != "" {
		if in.remote, err = c.locked(Reference{Repository: ref.repository, Path: ref.path, Ref: ref.ref}); err != nil {
			c.reporter(u, c.missing())(j.Uses.Pos, "%s", withHint(err))
			return &sallyport.PlanCall{Uses: j.Uses.Text, With: j.With, Secrets: j.Secrets}
		}
	}
	at, id := in.beside(ref.path), ref.path
	if in.remote != nil {
		id = at.file
	}
	switch {
	case slices.Contains(u.open, id):
		return fail("the workflows call each other in a circle: %s", strings.Join(append(slices.Clone(u.open[slices.Index(u.open, id):]), id), " calls "))
	case len(u.open) >= maxCallDepth:
		return fail("workflows call each other deeper than %d levels", maxCallDepth)
	}
	f, err := c.called(at, ref.path, id)
	switch {
	case sallyport.ErrorCode(err) == sallyport.CodeNotFound && c.check != nil && c.check.alone():
		c.reporter(u, severityWarning)(j.Uses.Pos, "%v", err)
		return nil
	case err != nil:
		return fail("%v", err)
	}
	t := f.trigger("workflow_call")
	if t == nil {
		return fail("the workflow %s cannot be called: add workflow_call to its \"on\"", quote(j.Uses.Text))
	}
	out := &sallyport.PlanCall{
		Uses:     j.Uses.Text,
		Workflow: sallyport.PlanFile{Path: ref.path, Digest: f.Digest},
		With:     j.With,
		Secrets:  j.Secrets,
		Inputs:   t.callInputs(), Outputs: t.Outputs,
		Env: f.Env, Defaults: f.Defaults, Concurrency: f.Concurrency,
	}
	if in.remote != nil {
		out.Source = &in.remote.Source
	}
	for _, s := range t.Secrets {
		out.SecretInputs = append(out.SecretInputs, sallyport.PlanInput{Name: s.Name, Required: s.Required})
	}
	if out.InheritSecrets = j.Secrets.Kind == sallyport.TreeString; out.InheritSecrets {
		out.Secrets = sallyport.Tree{}
	}
	c.checkCall(u, j, t)
	out.Permissions = c.grant(u, j, f, in.remote != nil)
	scope, _ := NewScope(nil) // never fails
	out.Jobs = c.unit(&unit{
		file: f, at: at, scope: scope, known: nothing, grant: out.Permissions, open: append(slices.Clone(u.open), id),
	})
	return out
}

// called reads a workflow that a job calls. Its diagnostics are added the first time.
func (c *compiler) called(at metafile, file, id string) (*File, error) {
	f, known := c.calls[id]
	if known && f == nil {
		return nil, fmt.Errorf("the workflow %s cannot be called: see the errors in it", id)
	}
	if known {
		return f, nil
	}
	if len(c.calls) >= maxCalls {
		return nil, fmt.Errorf("the workflow calls more than %d others", maxCalls)
	}
	src, err := c.read(at, file)
	switch {
	case sallyport.ErrorCode(err) == sallyport.CodeNotFound && at.remote != nil:
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no workflow %s", id)
	case sallyport.ErrorCode(err) == sallyport.CodeNotFound:
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no workflow %s in this repository at this commit", file)
	case err != nil:
		return nil, fmt.Errorf("read %s: %s", id, withHint(err))
	}
	c.calls[id] = nil
	f, diags := Parse(at.file, src)
	for _, d := range diags {
		if at.remote == nil || d.Severity == severityError { // nobody here can mend the style of others
			c.diags.add(d.File, d.Severity, d.Pos, "%s", d.Message)
		}
	}
	if f == nil || hasErrors(diags) {
		return nil, fmt.Errorf("the workflow %s cannot be called: see the errors in it", id)
	}
	c.calls[id] = f
	if at.remote == nil {
		c.plan.Files = append(c.plan.Files, sallyport.PlanFile{Path: file, Digest: f.Digest})
	}
	return f, nil
}

// trigger returns the trigger of an event; nil if the workflow has none.
func (f *File) trigger(event string) *Trigger {
	for i := range f.On {
		if f.On[i].Name == event {
			return &f.On[i]
		}
	}
	return nil
}

func (t *Trigger) callInputs() []sallyport.PlanInput {
	var out []sallyport.PlanInput
	for _, in := range t.Inputs {
		out = append(out, sallyport.PlanInput{
			Name: in.Name, Type: in.Type, Required: in.Required, Deprecated: in.Deprecated,
			Default: sallyport.Template{Text: in.Default.Text, Pos: in.Default.Pos},
		})
	}
	return out
}

// checkCall checks what a job hands to the workflow that it calls against what
// that declares.
func (c *compiler) checkCall(u *unit, j *Job, t *Trigger) {
	report := c.reporter(u, severityError)
	var inputs, secrets []string
	for _, in := range t.Inputs {
		inputs = append(inputs, in.Name)
		if in.Required && !given(j.With, in.Name) {
			report(j.Uses.Pos, "the workflow requires the input %s: add it to \"with\"", quote(in.Name))
		}
	}
	for _, p := range j.With.Pairs {
		i := slices.IndexFunc(t.Inputs, func(in Input) bool { return equalFold(in.Name, p.Key.Text) })
		switch {
		case i < 0:
			report(p.Value.Pos, "the workflow %s has no input %s%s", j.Uses.Text, quote(p.Key.Text), didYouMean(p.Key.Text, inputs))
		case !fitsType(p.Value, t.Inputs[i].Type):
			report(p.Value.Pos, "the input %s is a %s, not %s", quote(p.Key.Text), t.Inputs[i].Type, quote(p.Value.Text))
		}
	}
	if j.Secrets.Kind == sallyport.TreeString { // inherit
		return
	}
	for _, s := range t.Secrets {
		secrets = append(secrets, s.Name)
		if s.Required && !given(j.Secrets, s.Name) {
			report(j.Uses.Pos, "the workflow requires the secret %s: add it to \"secrets\", or write secrets: inherit", quote(s.Name))
		}
	}
	for _, p := range j.Secrets.Pairs {
		if !slices.ContainsFunc(secrets, func(s string) bool { return equalFold(s, p.Key.Text) }) {
			report(p.Value.Pos, "the workflow %s has no secret %s%s", j.Uses.Text, quote(p.Key.Text), didYouMean(p.Key.Text, secrets))
		}
	}
}

// given reports whether a mapping has an entry, without regard to case.
func given(t sallyport.Tree, name string) bool {
	return slices.ContainsFunc(t.Pairs, func(p sallyport.TreePair) bool { return equalFold(p.Key.Text, name) })
}

// fitsType reports whether a value as written can be an input of a type.
func fitsType(v sallyport.Tree, typ string) bool {
	switch {
	case v.Kind == sallyport.TreeString && isExpr(v.Text):
		return true
	case typ == "boolean":
		return v.Kind == sallyport.TreeBool
	case typ == "number":
		return v.Kind == sallyport.TreeNumber
	}
	return true
}

// grant returns the permissions that the jobs of a called workflow have, and
// reports what it asks for beyond those of the job that calls it.
func (c *compiler) grant(u *unit, j *Job, f *File, remote bool) sallyport.Permissions {
	granted := j.Permissions
	if granted == nil {
		granted = u.grant
	}
	switch {
	case granted == nil && remote: // nobody said: GitHub's restricted default
		granted = sallyport.Permissions{"contents": "read", "packages": "read"}
	case granted == nil: // the called workflow of the same repository says for itself
		return f.Permissions
	}
	ask := func(who string, p sallyport.Permissions) {
		if asked, got := beyond(p, granted); asked != "" {
			c.reporter(u, severityError)(j.Pos, "%s asks for %s, and job %s grants %s: grant it in the permissions of the job, or ask for less",
				who, asked, quote(j.Key), got)
		}
	}
	ask("the workflow "+quote(j.Uses.Text), f.Permissions)
	for i := range f.Jobs {
		ask(fmt.Sprintf("job %s of the workflow %s", quote(f.Jobs[i].Key), quote(j.Uses.Text)), f.Jobs[i].Permissions)
	}
	if f.Permissions != nil {
		return f.Permissions
	}
	return granted
}

// beyond lists the scopes that are asked for beyond what is granted, and what
// is granted of them.
func beyond(asked, granted sallyport.Permissions) (over, got string) {
	rank := []string{"none", "read", "write"}
	var o, g []string
	for _, scope := range tokenScopes {
		has := granted[scope]
		if has == "" {
			has = "none"
		}
		if slices.Index(rank, asked[scope]) > slices.Index(rank, has) {
			o = append(o, scope+": "+asked[scope])
			g = append(g, scope+": "+has)
		}
	}
	return strings.Join(o, ", "), strings.Join(g, ", ")
}
