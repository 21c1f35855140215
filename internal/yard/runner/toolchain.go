package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
)

// toolchain is a language whose setup action the runner performs with what its tool cache
// and the host have: nothing is fetched, so a request that none satisfies is an error.
type toolchain struct {
	name   string // for people
	tool   string // go, node, python
	input  string // go-version and so on; the file's input is this with -file
	argv   []string
	shown  string   // before the version in the output
	latest []string // words that any released version satisfies here
	inText func(file string, content []byte) (want []string)
}

var toolchains = map[string]toolchain{
	"actions/setup-go": {
		name: "Go", tool: "go", input: "go-version", argv: []string{"go", "version"}, latest: []string{"stable", "latest"}, inText: goVersionIn,
	},
	"actions/setup-node": {
		name: "Node.js", tool: "node", input: "node-version", argv: []string{"node", "--version"}, shown: "v",
		latest: []string{"latest", "current", "node"}, inText: nodeVersionIn,
	},
	"actions/setup-python": {
		name: "Python", tool: "python", input: "python-version", argv: []string{"sh", "-c", "command -v python3 >/dev/null && exec python3 --version; exec python --version"},
		inText: pythonVersionIn,
	},
}

// setUp performs a setup action.
func (s *step) setUp(ctx context.Context, t toolchain, in inputs) error {
	if arch := in.text("architecture", ""); arch != "" && !slices.Contains(archNames[tools.Arch()], strings.ToLower(arch)) {
		return sallyport.Errorf(sallyport.CodeInvalid, "architecture is %.40q, and this runner is %s", arch, tools.Arch()).WithHint("leave it out, or let runs-on choose a runner of that kind")
	}
	latest, err := in.boolean("check-latest", false)
	if err != nil {
		return err
	}
	want, from, err := s.wanted(t, in)
	if err != nil {
		return err
	}
	have, err := s.choose(ctx, t, want, from, latest)
	if err != nil {
		return err
	}
	for _, name := range in.names {
		if !slices.Contains(setupInputs, name) && name != t.input && name != t.input+"-file" {
			s.out.print(sallyport.LogDebug, "The input "+name+" has no effect on this runner.")
		}
	}
	s.out.print(sallyport.LogOutput, fmt.Sprintf("%s %s of %s is used.", t.name, have.text, have.from))
	if have.dir == "" {
		err = s.hostTool(ctx, t)
	} else {
		err = s.cachedTool(ctx, t, have)
	}
	if err != nil {
		return err
	}
	if err := s.setOutput(workflow.Var{Name: t.input, Value: t.shown + have.text}); err != nil {
		return err
	}
	return s.setupCache(ctx, t, in, have.text)
}

// setupInputs have an effect beside those that name a version.
var setupInputs = []string{"architecture", "cache", "cache-dependency-path", "check-latest"}

// archNames are what people call an architecture.
var archNames = map[string][]string{"x64": {"x64", "amd64", "x86_64"}, "arm64": {"arm64", "aarch64"}, "x86": {"x86", "ia32"}, "arm": {"arm"}}

// accepts reports whether a version is one that was asked for; known is false
// for a request that cannot be understood.
func (t toolchain) accepts(have version, want string) (ok, known bool) {
	want = strings.TrimSpace(want)
	switch {
	case want == "" || slices.Contains(t.latest, want):
		return true, true
	case t.name == "Node.js" && (want == "lts/*" || want == "lts"):
		return have[0]%2 == 0, true // even majors become long-term releases
	}
	return have.satisfies(want)
}

// maxVersionFile bounds a file that names a version.
const maxVersionFile = 1 << 20

// wanted returns the version that the step asks for, and where it does.
// A file may name several that will do, the best first.
func (s *step) wanted(t toolchain, in inputs) (want []string, from string, err error) {
	if text := in.text(t.input, ""); text != "" {
		if strings.Contains(text, "\n") {
			return nil, "", sallyport.Errorf(sallyport.CodeInvalid, "%s names several versions; this runner sets up one", t.input).WithHint("use a matrix, with one version a job")
		}
		return []string{text}, "the input " + t.input, nil
	}
	file := in.text(t.input+"-file", "")
	if file == "" {
		return []string{""}, "the step", nil
	}
	rel, ok := s.job.layout.inWork(s.job.layout.inWorkspace(file))
	if !ok {
		return nil, "", sallyport.Errorf(sallyport.CodeInvalid, "the file %.200q is not beneath the workspace", file)
	}
	b, err := readRegular(s.job.layout.workRoot, rel, maxVersionFile)
	if err != nil {
		return nil, "", sallyport.Errorf(sallyport.CodeInvalid, "the file %.200q cannot be read", file).WithHint("check out the repository first")
	}
	if want = t.inText(path.Base(file), b); len(want) == 0 {
		return nil, "", sallyport.Errorf(sallyport.CodeInvalid, "the file %.200q names no version of %s", file, t.name)
	}
	return want, file, nil
}

var (
	goDirective    = regexp.MustCompile(`(?m)^go\s+([0-9][0-9.]*)\s*(?://.*)?$`)
	goToolchain    = regexp.MustCompile(`(?m)^toolchain\s+go([0-9][0-9.]*)\s*(?://.*)?$`)
	requiresPython = regexp.MustCompile(`(?m)^requires-python\s*=\s*["']([^"'\n]+)["']`)
)

// goVersionIn reads a go.mod or go.work, or a file that holds just a version. What
// the toolchain line names is best, then the go line's own version; that is also the least
// which will do.
func goVersionIn(file string, content []byte) (want []string) {
	switch file {
	case "go.mod", "go.work":
		for _, line := range []*regexp.Regexp{goToolchain, goDirective} {
			if m := line.FindSubmatch(content); m != nil {
				want = append(want, string(m[1]))
			}
		}
		if m := goDirective.FindSubmatch(content); m != nil {
			want = append(want, ">="+string(m[1]))
		}
		return want
	case ".tool-versions":
		return toolVersionsLine(content, "golang", "go")
	}
	return firstLine(content)
}

func nodeVersionIn(file string, content []byte) []string {
	switch file {
	case "package.json":
		var p struct {
			Volta      struct{ Node string }
			Engines    struct{ Node string }
			DevEngines struct {
				Runtime json.RawMessage
			} `json:"devEngines"`
		}
		if err := json.Unmarshal(content, &p); err != nil {
			return nil
		}
		for _, v := range []string{p.Volta.Node, devEngine(p.DevEngines.Runtime), p.Engines.Node} {
			if v != "" {
				return []string{v}
			}
		}
		return nil
	case ".tool-versions":
		return toolVersionsLine(content, "nodejs", "node")
	}
	return firstLine(content)
}

// devEngine is the version of node in devEngines.runtime, which is one or a list.
func devEngine(raw json.RawMessage) string {
	type engine struct{ Name, Version string }
	var list []engine
	if json.Unmarshal(raw, &list) != nil {
		list = make([]engine, 1)
		_ = json.Unmarshal(raw, &list[0]) // of another shape it names none
	}
	for _, e := range list {
		if e.Name == "node" {
			return e.Version
		}
	}
	return ""
}

func pythonVersionIn(file string, content []byte) []string {
	switch file {
	case "pyproject.toml":
		m := requiresPython.FindSubmatch(content)
		if m == nil {
			return nil
		}
		return []string{strings.NewReplacer(",", " ", "==", "=").Replace(string(m[1]))}
	case ".tool-versions":
		return toolVersionsLine(content, "python")
	}
	return firstLine(content)
}

func toolVersionsLine(content []byte, names ...string) []string {
	for line := range strings.Lines(string(content)) {
		if f := strings.Fields(line); len(f) >= 2 && slices.Contains(names, f[0]) {
			return f[1:2]
		}
	}
	return nil
}

func firstLine(content []byte) []string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(content)), "\n")
	if line = strings.TrimSpace(line); line == "" {
		return nil
	}
	return []string{line}
}

// maxSaid bounds what a tool says of its version.
const maxSaid = 4 << 10

// said keeps the beginning of what is written to it.
type said struct{ bytes.Buffer }

func (s *said) Write(p []byte) (int, error) {
	s.Buffer.Write(p[:min(len(p), maxSaid-s.Len())])
	return len(p), nil
}

// errNoTool says that a tool is not on the path of the steps.
var errNoTool = errors.New("there is no such tool")

// toolVersion asks the tool in the room, on the path of the steps; errNoTool when it is not there.
func (s *step) toolVersion(ctx context.Context, t toolchain) (version, error) {
	j := s.job
	var out said
	result, err := j.room.Exec(ctx, sallyport.ExecSpec{
		Argv: t.argv, Dir: j.layout.work, Stdout: &out, Stderr: &out,
		Env: []sallyport.EnvVar{
			{Name: "HOME", Value: j.layout.home}, {Name: "PATH", Value: strings.Join(append(slices.Clone(s.frame.lane.path), j.runner.cfg.Path), ":")},
			{Name: "GOTOOLCHAIN", Value: "local"},
		},
	})
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		return version{}, err
	}
	if have, ok := findVersion(out.String()); err == nil && result.ExitCode == 0 && ok {
		return have, nil
	}
	return version{}, errNoTool
}
