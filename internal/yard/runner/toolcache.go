package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
)

const (
	// toolsDir is the runner's tool cache beneath what the job is given: read-only.
	toolsDir = "tools"
	// toolLinks is the directory in the work directory that $RUNNER_TOOL_CACHE names. It is the
	// job's own, so that actions may add to it, and leads to the tools that the operator gave.
	toolLinks = "_tool"
)

// showTools lets the room see the runner's tool cache, before the room is made. Code of
// actions looks for tools by itself: for that all are verified first.
func (j *job) showTools(ctx context.Context) error {
	if j.runner.cfg.Tools == nil {
		return nil
	}
	list, err := j.runner.cfg.Tools.List()
	if err != nil {
		j.log.say(0, sallyport.LogWarning, "The tool cache of this runner cannot be used: %v", err)
		return nil
	}
	j.toolList = slices.DeleteFunc(list, func(t tools.Tool) bool { return t.Arch != tools.Arch() })
	if len(j.toolList) == 0 {
		return nil
	}
	at := filepath.Join(j.layout.dir, "given", toolsDir)
	if err := errors.Join(os.Mkdir(at, 0o755), os.Chmod(at, 0o755)); err != nil {
		return err
	}
	j.layout.shared[toolsDir] = j.runner.cfg.Tools.Path()
	if !j.layout.container {
		j.layout.toolCache = path.Join(j.layout.work, toolLinks)
	}
	if err := j.linkDir(toolLinks); err != nil {
		return err
	}
	if !j.needsServices() { // it runs no action's code
		return nil
	}
	for _, t := range j.toolList {
		if err := j.runner.cfg.Tools.Verify(ctx, t); err != nil {
			if ctx.Err() != nil {
				return err
			}
			j.log.say(0, sallyport.LogWarning, "%v", err)
			continue
		}
		if err := j.linkTool(t); err != nil {
			return err
		}
	}
	return nil
}

// linkTool puts a tool where the toolkit of actions looks for it.
func (j *job) linkTool(t tools.Tool) error {
	dir := path.Join(toolLinks, t.Name, t.Version)
	for _, d := range []string{path.Dir(dir), dir} {
		if err := j.linkDir(d); err != nil {
			return err
		}
	}
	if err := j.layout.workRoot.Symlink(j.toolDir(t), path.Join(dir, t.Arch)); err != nil {
		return err
	}
	return j.layout.workRoot.WriteFile(path.Join(dir, t.Arch+".complete"), nil, 0o644)
}

func (j *job) linkDir(name string) error {
	if err := j.layout.workRoot.MkdirAll(name, 0o777); err != nil {
		return err
	}
	return j.layout.workRoot.Chmod(name, 0o777) // the umask took bits away
}

// toolDir is the directory of a tool in the room.
func (j *job) toolDir(t tools.Tool) string { return path.Join(j.layout.given, toolsDir, t.Dir()) }

// chosen is the tool that a setup action sets up.
type chosen struct {
	version version
	text    string
	from    string // for people
	dir     string // in the room; "" for what is on the path
}

// cached are the verified tools of the toolchain in the runner's cache.
func (j *job) cached(t toolchain) (out []chosen) {
	for _, x := range j.toolList {
		if v, ok := findVersion(x.Version); ok && x.Name == tools.CanonicalName(t.tool) {
			out = append(out, chosen{v, x.Version, "the tool cache", j.toolDir(x)})
		}
	}
	slices.SortStableFunc(out, func(a, b chosen) int {
		switch {
		case b.version.less(a.version):
			return -1
		case a.version.less(b.version):
			return 1
		}
		return strings.Compare(a.text, b.text)
	})
	return out
}

// choose finds the tool for the best of the versions that are wanted: the newest of the
// cache, else that on the path; with latest the newer of both.
func (s *step) choose(ctx context.Context, t toolchain, want []string, from string, latest bool) (chosen, error) {
	cached := s.job.cached(t)
	all := cached
	onPath, err := s.toolVersion(ctx, t)
	switch {
	case err == nil:
		host := chosen{onPath, onPath.String(), "this host", ""}
		first := slices.ContainsFunc(want, func(w string) bool { return w == "" })
		if latest {
			first = len(cached) > 0 && cached[0].version.less(onPath)
		}
		if first {
			all = append([]chosen{host}, cached...)
		} else {
			all = append(slices.Clone(cached), host)
		}
	case !errors.Is(err, errNoTool):
		return chosen{}, err
	}
	for _, w := range want {
		for _, x := range all {
			ok, known := t.accepts(x.version, w)
			if !known && w != x.text {
				return chosen{}, sallyport.Errorf(sallyport.CodeInvalid, "the version %.80q of %s is not one that this runner can compare", w, t.name).
					WithHint("ask for a version or a range of versions, such as %d.%d or ^%d.%d.0", x.version[0], x.version[1], x.version[0], x.version[1])
			}
			if w == x.text || ok && (x.dir == "" || !strings.ContainsAny(x.text, "-+")) { // a pre-release must be asked for by name
				return x, s.job.verifyTool(ctx, x)
			}
		}
	}
	add := fmt.Sprintf("the operator of this runner can add it: sallyport tools add %s VERSION FILE --sha256 DIGEST", t.tool)
	if len(all) == 0 {
		return chosen{}, sallyport.Errorf(sallyport.CodeInvalid, "this runner has no %s that a job can use", t.name).WithHint("%s; or install it on the host, under /usr or /opt", add)
	}
	var have []string
	for _, x := range all {
		have = append(have, x.text+" ("+x.from+")")
	}
	return chosen{}, sallyport.Errorf(sallyport.CodeInvalid, "%s asks for %s %.80s, and this runner has %s", from, t.name, want[len(want)-1], strings.Join(have, ", ")).
		WithHint("ask for one of these, or %s", add)
}

// verifyTool compares a tool of the cache with its digest.
func (j *job) verifyTool(ctx context.Context, x chosen) error {
	for _, t := range j.toolList {
		if j.toolDir(t) == x.dir {
			return j.runner.cfg.Tools.Verify(ctx, t)
		}
	}
	return nil
}

// nodeFarm makes a place beside a Node.js that cannot be written, into which npm and
// corepack install what is global.
const nodeFarm = `tool=$1 farm=$2
mkdir -p "$farm/bin" "$farm/lib/node_modules"
for f in "$tool"/bin/* "$tool"/lib/node_modules/* "$tool"/include "$tool"/share; do
	[ -e "$f" ] || continue
	ln -sfn "$f" "$farm/${f#"$tool"/}"
done`

// pythonVenv does so beside a Python, as a virtual environment that sees the packages of
// the Python itself.
const pythonVenv = `tool=$1 venv=$2
python=$tool/bin/python3
[ -x "$python" ] || python=$tool/bin/python
[ -x "$venv/bin/python" ] || "$python" -m venv --without-pip --system-site-packages "$venv"
for pip in pip pip3; do
	[ -e "$venv/bin/$pip" ] || { printf '#!/bin/sh\nexec "%s/bin/python" -m pip "$@"\n' "$venv" >"$venv/bin/$pip"; chmod +x "$venv/bin/$pip"; }
done`

// cachedTool puts a tool of the cache in front of PATH, with what its action sets besides.
func (s *step) cachedTool(ctx context.Context, t toolchain, have chosen) error {
	l := s.frame.lane
	at := path.Join(s.job.layout.temp(), "_"+t.tool, have.text)
	switch t.tool {
	case "go":
		if err := l.prepend(path.Join(s.job.layout.home, "go", "bin")); err != nil {
			return err
		}
		return l.prepend(path.Join(have.dir, "bin"))
	case "node":
		if err := s.tool(ctx, sallyport.ExecSpec{Argv: []string{"sh", "-ec", nodeFarm, "sh", have.dir, at}}); err != nil {
			return err
		}
		l.set(workflow.Var{Name: "NPM_CONFIG_PREFIX", Value: at})
	case "python":
		if err := s.tool(ctx, sallyport.ExecSpec{Argv: []string{"sh", "-ec", pythonVenv, "sh", have.dir, at}}); err != nil {
			return err
		}
		for _, name := range []string{"pythonLocation", "Python_ROOT_DIR", "Python2_ROOT_DIR", "Python3_ROOT_DIR"} {
			l.set(workflow.Var{Name: name, Value: at})
		}
		l.set(workflow.Var{Name: "PKG_CONFIG_PATH", Value: path.Join(have.dir, "lib", "pkgconfig")})
		if err := s.setOutput(workflow.Var{Name: "python-path", Value: path.Join(at, "bin", "python")}); err != nil {
			return err
		}
	}
	return l.prepend(path.Join(at, "bin"))
}

// pythonNames are the names that the host's Python need not have: Debian has python3 alone.
const pythonNames = `mkdir -p "$1"
for name in python pip; do
	command -v $name >/dev/null || ! command -v ${name}3 >/dev/null || ln -sf "$(command -v ${name}3)" "$1/$name"
done`

// hostTool puts into PATH what the action of the language does beside the host's own.
func (s *step) hostTool(ctx context.Context, t toolchain) error {
	switch t.tool {
	case "go":
		return s.frame.lane.prepend(path.Join(s.job.layout.home, "go", "bin"))
	case "python":
		dir := path.Join(s.job.layout.temp(), "_python")
		if err := s.tool(ctx, sallyport.ExecSpec{Argv: []string{"sh", "-ec", pythonNames, "sh", dir}}); err != nil {
			return err
		}
		if err := s.frame.lane.prepend(dir); err != nil {
			return err
		}
		at, err := s.ask(ctx, "sh", "-c", "command -v python || command -v python3")
		if err != nil {
			return err
		}
		return s.setOutput(workflow.Var{Name: "python-path", Value: at})
	}
	return nil
}
