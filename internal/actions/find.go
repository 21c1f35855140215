package actions

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// Repository is the files of the repository whose uses are looked for.
type Repository interface {
	// ReadFile returns a file by its slash-separated path; CodeNotFound when there is none.
	ReadFile(path string) ([]byte, error)
	// Workflows returns the paths of the workflow files.
	Workflows() ([]string, error)
}

// Use is a place where the repository, or something that it uses, names an
// action or a workflow of another one.
type Use struct {
	Reference workflow.Reference
	File      string        // of this repository, or OWNER/NAME/PATH@REF
	Pos       sallyport.Pos // in the file
}

// Found is all that a repository uses of others.
type Found struct {
	Uses []Use // in the order in which they are met
	// Broken says which files could not be looked into, and why. What they use is not known.
	Broken []sallyport.Diagnostic
}

// Entries returns the references without their paths, each once, in the lock's order.
func (f Found) Entries() []string {
	var out []string
	for _, u := range f.Uses {
		out = append(out, u.Reference.Entry())
	}
	slices.SortFunc(out, Compare)
	return slices.CompactFunc(out, func(a, b string) bool { return Compare(a, b) == 0 })
}

// maxUses bounds the places that are followed.
const maxUses = 20_000

// finder walks through what a repository uses.
type finder struct {
	ctx  context.Context // of the one call that walks
	repo Repository
	// tree returns the metadata of a reference's tree; nil: it cannot be known.
	tree  func(ctx context.Context, r workflow.Reference) (Metadata, error)
	found Found
	seen  map[string]bool
}

// Find lists what a repository uses of others. tree returns the metadata of a
// reference, nil to go no further; its error ends the search.
func Find(ctx context.Context, repo Repository, tree func(ctx context.Context, r workflow.Reference) (Metadata, error)) (Found, error) {
	f := &finder{ctx: ctx, repo: repo, tree: tree, seen: map[string]bool{}}
	files, err := repo.Workflows()
	if err != nil {
		return Found{}, err
	}
	for _, file := range files {
		if err := f.workflow(home{}, file); err != nil {
			return Found{}, err
		}
	}
	return f.found, nil
}

// home is the repository that a file is in.
type home struct {
	reference workflow.Reference // zero: the one that is looked into
	files     Metadata
}

func (h home) remote() bool { return h.reference.Repository != "" }

func (h home) name(file string) string {
	if !h.remote() {
		return file
	}
	r := h.reference
	r.Path = file
	return r.String()
}

func (f *finder) read(h home, file string) ([]byte, error) {
	if h.remote() {
		return h.files.ReadFile(file)
	}
	return f.repo.ReadFile(file)
}

func (f *finder) broken(file string, pos sallyport.Pos, format string, args ...any) {
	f.found.Broken = append(f.found.Broken, sallyport.Diagnostic{File: file, Pos: pos, Severity: "warning", Message: fmt.Sprintf(format, args...)})
}

// once reports whether a file is met for the first time.
func (f *finder) once(name string) bool {
	if f.seen[name] {
		return false
	}
	f.seen[name] = true
	return true
}

func (f *finder) workflow(h home, file string) error {
	name := h.name(file)
	if !f.once(name) {
		return nil
	}
	src, err := f.read(h, file)
	if err != nil {
		return f.unreadable(name, err)
	}
	w, diags := workflow.Parse(name, src)
	f.firstError(name, diags)
	if w == nil {
		return nil
	}
	for _, j := range w.Jobs {
		if err := f.call(h, name, j.Uses); err != nil {
			return err
		}
		if err := f.steps(h, name, j.StepsAt); err != nil {
			return err
		}
	}
	return nil
}

// firstError notes that a file has errors. What could be read of it is looked into all the same.
func (f *finder) firstError(name string, diags []sallyport.Diagnostic) {
	for _, d := range diags {
		if d.Severity == "error" {
			f.broken(name, d.Pos, "%s", d.Message)
			return
		}
	}
}

func (f *finder) unreadable(name string, err error) error {
	if code := sallyport.ErrorCode(err); code != sallyport.CodeNotFound && code != sallyport.CodeInvalid {
		return err
	}
	message, _ := sallyport.ErrorMessage(err)
	f.broken(name, sallyport.Pos{Line: 1, Col: 1}, "%s", message)
	return nil
}

// call follows the workflow that a job calls.
func (f *finder) call(h home, file string, uses sallyport.Template) error {
	if uses.Text == "" {
		return nil
	}
	for _, self := range []string{"./", "$/"} {
		if local, ok := strings.CutPrefix(uses.Text, self); ok {
			return f.workflow(h, path.Clean(local))
		}
	}
	return f.other(file, uses.Text, uses.Pos, f.workflow)
}

func (f *finder) steps(h home, file string, steps []workflow.Step) error {
	for _, s := range steps {
		if err := f.step(h, file, s); err != nil {
			return err
		}
		if err := f.steps(h, file, s.ParallelAt); err != nil {
			return err
		}
	}
	return nil
}

func (f *finder) step(h home, file string, s workflow.Step) error {
	if s.Uses == "" || strings.HasPrefix(s.Uses, "docker://") {
		return nil
	}
	if local, ok := strings.CutPrefix(s.Uses, "./"); ok { // the workspace, wherever it is said
		return f.action(home{}, path.Clean(local))
	}
	if local, ok := strings.CutPrefix(s.Uses, "$/"); ok {
		return f.action(h, path.Clean(local))
	}
	if r, err := workflow.ParseReference(s.Uses); err == nil && workflow.Intrinsic(r) {
		return nil
	}
	return f.other(file, s.Uses, s.UsesAt, f.action)
}

// other follows a reference to another repository.
func (f *finder) other(file, uses string, pos sallyport.Pos, follow func(h home, path string) error) error {
	r, err := workflow.ParseReference(uses)
	if err != nil {
		message, _ := sallyport.ErrorMessage(err)
		f.broken(file, pos, "%s", message)
		return nil
	}
	if len(f.found.Uses) == maxUses {
		return sallyport.Errorf(sallyport.CodeInvalid, "more than %d references to other repositories", maxUses)
	}
	f.found.Uses = append(f.found.Uses, Use{Reference: r, File: file, Pos: pos})
	tree, err := f.tree(f.ctx, r)
	if err != nil {
		return fmt.Errorf("%s:%d:%d: %w", file, pos.Line, pos.Col, err)
	}
	if tree == nil {
		return nil
	}
	top := r
	top.Path = ""
	return follow(home{reference: top, files: tree}, path.Clean(r.Path))
}

func (f *finder) action(h home, dir string) error {
	var src []byte
	var name, file string
	err := error(sallyport.Errorf(sallyport.CodeNotFound, "there is no action.yml in %.200q", h.name(dir)))
	for _, base := range []string{"action.yml", "action.yaml"} {
		file = path.Join(dir, base)
		name = h.name(file)
		if f.seen[name] {
			return nil
		}
		b, e := f.read(h, file)
		if e == nil || sallyport.ErrorCode(e) != sallyport.CodeNotFound {
			src, err = b, e
			break
		}
	}
	if err != nil {
		return f.unreadable(h.name(dir), err)
	}
	f.once(name)
	a, diags := workflow.ParseAction(name, src)
	f.firstError(name, diags)
	if a == nil {
		return nil
	}
	return f.steps(h, name, a.Steps)
}
