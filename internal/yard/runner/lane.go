package runner

import (
	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// lane is a line of steps that run one after the other, with the environment that
// they share. The job's own steps are one. Each background step is another: it begins
// as a copy of the job's, and what it changes reaches the job's when it is waited for.
// But for stopped, a lane belongs to the goroutine that runs its steps.
type lane struct {
	env  variables // workflow, job, GITHUB_ENV
	path []string  // GITHUB_PATH, what counts first comes first
	root *frame    // of the steps that are in no action; its failure is the lane's

	// Of the lane of a background step only.
	beside  bool
	setEnv  []workflow.Var // what it set, in order
	addPath []string
	stopped bool // a cancel step was reached; guarded by job.mu
}

// set sets a variable for the steps that follow in the lane.
func (l *lane) set(x workflow.Var) {
	l.env.set(x)
	if l.beside {
		l.setEnv = append(l.setEnv, x)
	}
}

// prepend puts a directory in front of PATH for the steps that follow. One that is
// there already moves to the front.
func (l *lane) prepend(dir string) error {
	path := make([]string, 0, len(l.path)+1)
	path = append(path, dir)
	for _, p := range l.path {
		if p != dir {
			path = append(path, p)
		}
	}
	if len(path) > maxPaths {
		return sallyport.Errorf(sallyport.CodeInvalid, "more than %d directories in $GITHUB_PATH", maxPaths)
	}
	l.path = path
	if l.beside {
		l.addPath = append(l.addPath, dir)
	}
	return nil
}

// fork returns a lane that begins as l is now, with a frame of its own.
func (l *lane) fork() *lane {
	f := *l.root
	f.scope = l.root.scope.Clone()
	f.results = append([]workflow.Entry(nil), l.root.results...)
	side := &lane{env: l.env.clone(), path: l.path, root: &f, beside: true}
	f.lane = side
	return side
}

// merge makes the changes of a lane that has ended those of l.
func (l *lane) merge(side *lane) error {
	for _, x := range side.setEnv {
		l.set(x)
	}
	for _, dir := range side.addPath {
		if err := l.prepend(dir); err != nil {
			return err
		}
	}
	side.setEnv, side.addPath = nil, nil
	return l.checkSize()
}

// checkSize refuses an environment that no process could be started with.
func (l *lane) checkSize() error {
	if l.env.size() > maxEnvBytes {
		return sallyport.Errorf(sallyport.CodeInvalid, "the environment has more than %d KiB", maxEnvBytes>>10)
	}
	return nil
}
