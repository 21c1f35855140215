package workflow

import (
	"path"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// localAction reads the action of this repository that a step uses; nil if it
// is none, or cannot be read.
func (s *subject) localAction(st *stepView) *Action {
	dir, ok := localPath(st.Uses)
	if !ok || s.read == nil {
		return nil
	}
	a, known := s.actions[dir]
	if !known && s.mayRead() {
		a = s.readAction(dir)
		s.actions[dir] = a
	}
	return a
}

func (s *subject) readAction(dir string) *Action {
	for _, name := range actionFiles {
		if src, err := s.read(path.Join(dir, name)); err == nil {
			if a, diags := ParseAction(path.Join(dir, name), src); !hasErrors(diags) {
				return a
			}
			return nil
		}
	}
	return nil
}

func (s *subject) mayRead() bool { return len(s.actions)+len(s.calls) < maxLintReads }

// called reads the workflow of this repository that a job calls; nil if it is
// none, or cannot be read.
func (s *subject) called(j *jobView) *Trigger {
	file, ok := localPath(j.Uses.Text)
	if !ok || s.read == nil {
		return nil
	}
	call, known := s.calls[file]
	if !known && s.mayRead() {
		if src, err := s.read(file); err == nil {
			if f, diags := Parse(file, src); f != nil && !hasErrors(diags) {
				call = (&subject{file: f}).trigger("workflow_call")
			}
		}
		s.calls[file] = call
	}
	return call
}

// localPath is the path that ./ or $/ names; false if it leads out of the repository.
func localPath(uses string) (string, bool) {
	rest, ok := strings.CutPrefix(uses, "./")
	if !ok {
		if rest, ok = strings.CutPrefix(uses, "$/"); !ok {
			return "", false
		}
	}
	p := path.Clean(rest)
	return p, p != ".." && !strings.HasPrefix(p, "../") && !path.IsAbs(p)
}

func inputNames(in []sallyport.PlanInput) (out []string) {
	for _, i := range in {
		out = append(out, i.Name)
	}
	return out
}

func outputNames(in []sallyport.PlanOutput) (out []string) {
	for _, o := range in {
		out = append(out, o.Name)
	}
	return out
}
