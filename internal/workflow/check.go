package workflow

import (
	"path"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// CheckInput is a file that Check looks at.
type CheckInput struct {
	Path string // from the root of the repository; diagnostics name it so
	Src  []byte
	// ReadFile returns another file of the repository; its error has
	// CodeNotFound when there is no such file. Nil: there is no repository, only the file.
	ReadFile func(path string) ([]byte, error)
}

// Check tells whether a workflow, or an action's metadata file, is valid in the
// language, together with the workflows and actions of the same repository that
// it uses. Unlike Compile it knows no event, asks for nothing of other
// repositories, and takes what no runner here can do.
//
// It is invalid if any of the diagnostics is an error. They come in the order of
// the files, the one that was asked for first.
func Check(in CheckInput) []sallyport.Diagnostic {
	c := &checker{in: in, actions: map[string]*checkedAction{}}
	c.compiler.check = c
	c.compiler.calls = map[string]*File{}
	c.compiler.plan = &sallyport.Plan{}
	c.compiler.in.ReadFile = in.ReadFile
	if in.ReadFile == nil {
		c.compiler.in.ReadFile = func(name string) ([]byte, error) {
			return nil, sallyport.Errorf(sallyport.CodeNotFound, "no file %s", name)
		}
	}
	if isActionSource(in.Path, in.Src) {
		a, diags := ParseAction(in.Path, in.Src)
		c.add(diags)
		c.described()
		if a != nil && !hasErrors(diags) {
			c.steps(in.Path, a.Steps, 1)
		}
	} else {
		f, diags := Parse(in.Path, in.Src)
		c.add(diags)
		if f != nil && !hasErrors(diags) {
			scope, _ := NewScope(nil) // never fails
			c.compiler.unit(&unit{file: f, at: metafile{file: in.Path}, scope: scope, known: nothing, grant: f.Permissions, open: []string{in.Path}})
		}
	}
	return c.sorted()
}

// described warns of what GitHub's documentation requires of an action, and
// its runner does not.
func (c *checker) described() {
	d := &decoder{path: c.in.Path, src: c.in.Src}
	root := d.document()
	for _, key := range []string{"name", "description"} {
		if k, _ := lookup(root, key); k == nil && root != nil && root.Kind == yaml.MappingNode {
			c.compiler.diags.add(c.in.Path, severityWarning, posOf(root), "the action has no %s: add it", key)
		}
	}
}

// isActionSource reports whether a file is an action's metadata file: by its
// name, else because it has what only those have.
func isActionSource(name string, src []byte) bool {
	d := &decoder{path: name, src: src}
	root := d.document()
	_, jobs := lookup(root, "jobs")
	_, on := lookup(root, "on")
	_, runs := lookup(root, "runs")
	switch {
	case IsActionFile(name):
		return runs != nil || jobs == nil || on == nil
	case strings.HasSuffix(path.Dir("/"+name), "/.github/workflows"):
		return false
	}
	return runs != nil && jobs == nil && on == nil
}

// checker is a compiler that makes no plan.
type checker struct {
	compiler compiler
	in       CheckInput
	actions  map[string]*checkedAction // by directory
	open     []string                  // directories of the actions that use each other, outermost first
}

// checkedAction is an action of the repository that was looked at.
type checkedAction struct {
	*Action     // nil: it is invalid, or not there
	height  int // how many actions are within each other in it, itself included
}

func (c *checker) add(diags []sallyport.Diagnostic) {
	for _, d := range diags {
		c.compiler.diags.add(d.File, d.Severity, d.Pos, "%s", d.Message)
	}
}

// sorted returns the diagnostics file by file, each in the order of its lines.
func (c *checker) sorted() []sallyport.Diagnostic {
	var files []string
	for _, d := range c.compiler.diags.list {
		if !slices.Contains(files, d.File) && d.File != c.in.Path {
			files = append(files, d.File)
		}
	}
	rank := func(d sallyport.Diagnostic) int { return 1 + slices.Index(files, d.File) }
	slices.SortStableFunc(c.compiler.diags.list, func(a, b sallyport.Diagnostic) int {
		for _, by := range []int{rank(a) - rank(b), a.Pos.Line - b.Pos.Line, a.Pos.Col - b.Pos.Col} {
			if by != 0 {
				return by
			}
		}
		return 0
	})
	return c.compiler.diags.list
}

// alone reports whether the file does not lie where workflows do, so that those
// that it calls may be elsewhere too.
func (c *checker) alone() bool {
	return c.in.ReadFile == nil || !strings.HasPrefix(c.in.Path, ".github/workflows/")
}

// steps checks the actions that steps use and returns the greatest height of one.
func (c *checker) steps(file string, steps []Step, depth int) (height int) {
	for _, s := range steps {
		height = max(height, c.uses(file, s, depth), c.steps(file, s.ParallelAt, depth))
		c.compiler.checksOut(s)
	}
	return height
}

func (c *checker) uses(file string, s Step, depth int) (height int) {
	report := func(severity, format string, args ...any) int {
		c.compiler.diags.add(file, severity, s.UsesAt, format, args...)
		return 0
	}
	switch {
	case s.Uses == "" || strings.HasPrefix(s.Uses, "docker://"):
		return 0
	case !strings.HasPrefix(s.Uses, "./") && !strings.HasPrefix(s.Uses, "$/"):
		name, ref, _ := strings.Cut(s.Uses, "@")
		parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == '\\' }) // GitHub minds no empty ones
		if ref == "" || strings.Contains(ref, "@") || len(parts) < 2 {
			return report(severityError, "%s is not an action: write OWNER/REPOSITORY@REF, ./DIRECTORY for one of this repository, or docker://IMAGE", quote(s.Uses))
		}
		return 0
	}
	dir, local := localPath(s.Uses)
	if !local || c.in.ReadFile == nil {
		return 0
	}
	if i := slices.Index(c.open, dir); i >= 0 {
		return report(severityError, "the actions use each other in a circle: %s", strings.Join(append(slices.Clone(c.open[i:]), dir), " uses "))
	}
	a := c.actions[dir]
	if a == nil {
		a = c.action(dir, depth)
		c.actions[dir] = a
	}
	switch {
	case depth+a.height-1 > maxActionDepth:
		return report(severityError, "composite actions are nested deeper than %d levels", maxActionDepth)
	case a.Action == nil && a.height == 0: // a step before may put it there
		return report(severityWarning, "there is no %s in %s of this repository", strings.Join(actionFiles, " or "), quote(dir))
	case a.Action != nil:
		kind := sallyport.ActionComposite
		if a.Using.Text == "docker" {
			kind = sallyport.ActionContainer
		}
		c.compiler.checkWith(file, s, sallyport.PlanAction{Kind: kind, Inputs: a.Inputs})
	}
	return a.height
}

// action checks the action in a directory of the repository, and those that it uses.
func (c *checker) action(dir string, depth int) *checkedAction {
	src, name, err := c.compiler.readAction(metafile{}, dir)
	if err != nil {
		return &checkedAction{}
	}
	a, diags := ParseAction(name, src)
	c.add(diags)
	if a == nil || hasErrors(diags) {
		return &checkedAction{height: 1}
	}
	if depth > maxActionDepth || len(c.actions) > maxActions {
		return &checkedAction{Action: a, height: 1}
	}
	c.open = append(c.open, dir)
	height := 1 + c.steps(name, a.Steps, depth+1)
	c.open = c.open[:len(c.open)-1]
	return &checkedAction{Action: a, height: height}
}
