package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// toolchain is a language whose setup action the runner performs with what the
// host has: a job cannot fetch another version, so one that does not satisfy the request is an error.
type toolchain struct {
	name   string // for people
	input  string // go-version and so on; the file's input is this with -file
	argv   []string
	shown  string   // before the version in the output
	latest []string // words that any released version satisfies here
	inText func(file string, content []byte) (want string, ok bool)
}

var toolchains = map[string]toolchain{
	"actions/setup-go": {
		name: "Go", input: "go-version", argv: []string{"go", "version"}, latest: []string{"stable", "latest"}, inText: goVersionIn,
	},
	"actions/setup-node": {
		name: "Node.js", input: "node-version", argv: []string{"node", "--version"}, shown: "v",
		latest: []string{"latest", "current", "node"}, inText: nodeVersionIn,
	},
	"actions/setup-python": {
		name: "Python", input: "python-version", argv: []string{"sh", "-c", "command -v python3 >/dev/null && exec python3 --version; exec python --version"},
		inText: pythonVersionIn,
	},
}

// setUp performs a setup action.
func (s *step) setUp(ctx context.Context, t toolchain, in inputs) error {
	want, from, err := s.wanted(t, in)
	if err != nil {
		return err
	}
	have, err := s.toolVersion(ctx, t)
	if err != nil {
		return err
	}
	if ok, known := t.accepts(have, want); !known {
		return sallyport.Errorf(sallyport.CodeInvalid, "the version %.80q of %s is not one that this runner can compare", want, t.name).
			WithHint("ask for a version or a range of versions, such as %d.%d or ^%d.%d.0", have[0], have[1], have[0], have[1])
	} else if !ok {
		return sallyport.Errorf(sallyport.CodeInvalid, "%s asks for %s %.80s, and this host has %s", from, t.name, want, have).
			WithHint("install that version on the host, under /usr or /opt, or ask for %d.%d; a job has no network to fetch another", have[0], have[1])
	}
	for _, name := range in.names {
		if name == "cache" && in.text(name, "false") != "false" {
			s.out.print(sallyport.LogSystem, "Nothing is cached between jobs: the input cache has no effect.")
		} else if name != "cache" && name != t.input && name != t.input+"-file" {
			s.out.print(sallyport.LogDebug, "The input "+name+" has no effect on this runner.")
		}
	}
	s.out.print(sallyport.LogOutput, fmt.Sprintf("%s %s of this host is used.", t.name, have))
	if err := s.toolPath(ctx, t); err != nil {
		return err
	}
	return s.setOutput(workflow.Var{Name: t.input, Value: t.shown + have.String()})
}

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
func (s *step) wanted(t toolchain, in inputs) (want, from string, err error) {
	if want = in.text(t.input, ""); want != "" {
		if strings.Contains(want, "\n") {
			return "", "", sallyport.Errorf(sallyport.CodeInvalid, "%s names several versions; this runner sets up one", t.input).WithHint("use a matrix, with one version a job")
		}
		return want, "the input " + t.input, nil
	}
	file := in.text(t.input+"-file", "")
	if file == "" {
		return "", "", nil
	}
	rel, ok := s.job.layout.inWork(s.job.layout.inWorkspace(file))
	if !ok {
		return "", "", sallyport.Errorf(sallyport.CodeInvalid, "the file %.200q is not beneath the workspace", file)
	}
	b, err := readRegular(s.job.layout.workRoot, rel, maxVersionFile)
	if err != nil {
		return "", "", sallyport.Errorf(sallyport.CodeInvalid, "the file %.200q cannot be read", file).WithHint("check out the repository first")
	}
	if want, ok = t.inText(path.Base(file), b); !ok {
		return "", "", sallyport.Errorf(sallyport.CodeInvalid, "the file %.200q names no version of %s", file, t.name)
	}
	return want, file, nil
}

var (
	goDirective    = regexp.MustCompile(`(?m)^go\s+([0-9][0-9.]*)\s*(?://.*)?$`)
	requiresPython = regexp.MustCompile(`(?m)^requires-python\s*=\s*["']([^"'\n]+)["']`)
)

// goVersionIn reads a go.mod or go.work, whose go line is the least version, or
// a file that holds just a version.
func goVersionIn(file string, content []byte) (string, bool) {
	switch file {
	case "go.mod", "go.work":
		if m := goDirective.FindSubmatch(content); m != nil {
			return ">=" + string(m[1]), true
		}
		return "", false
	case ".tool-versions":
		return toolVersionsLine(content, "golang")
	}
	return firstLine(content)
}

func nodeVersionIn(file string, content []byte) (string, bool) {
	switch file {
	case "package.json":
		var p struct {
			Volta   struct{ Node string }
			Engines struct{ Node string }
		}
		if err := json.Unmarshal(content, &p); err != nil {
			return "", false
		}
		if p.Volta.Node != "" {
			return p.Volta.Node, true
		}
		return p.Engines.Node, p.Engines.Node != ""
	case ".tool-versions":
		return toolVersionsLine(content, "nodejs")
	}
	return firstLine(content)
}

func pythonVersionIn(file string, content []byte) (string, bool) {
	switch file {
	case "pyproject.toml":
		m := requiresPython.FindSubmatch(content)
		if m == nil {
			return "", false
		}
		return strings.NewReplacer(",", " ", "==", "=").Replace(string(m[1])), true
	case ".tool-versions":
		return toolVersionsLine(content, "python")
	}
	return firstLine(content)
}

func toolVersionsLine(content []byte, tool string) (string, bool) {
	for line := range strings.Lines(string(content)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == tool {
			return f[1], true
		}
	}
	return "", false
}

func firstLine(content []byte) (string, bool) {
	line, _, _ := strings.Cut(strings.TrimSpace(string(content)), "\n")
	line = strings.TrimSpace(line)
	return line, line != ""
}

// maxSaid bounds what a tool says of its version.
const maxSaid = 4 << 10

// said keeps the beginning of what is written to it.
type said struct{ bytes.Buffer }

func (s *said) Write(p []byte) (int, error) {
	s.Buffer.Write(p[:min(len(p), maxSaid-s.Len())])
	return len(p), nil
}

// toolVersion asks the tool in the room, on the path of the steps.
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
	return version{}, sallyport.Errorf(sallyport.CodeInvalid, "this host has no %s that a job can use", t.name).
		WithHint("install it on the host, under /usr or /opt")
}

// toolPath puts into PATH what the action of the language does.
func (s *step) toolPath(ctx context.Context, t toolchain) error {
	switch t.name {
	case "Go":
		return s.frame.lane.prepend(path.Join(s.job.layout.home, "go", "bin"))
	case "Python":
		// Debian has python3 alone; what the action sets up has python and pip.
		dir := path.Join(s.job.layout.temp(), "_python")
		const link = `mkdir -p "$1"
for name in python pip; do
	command -v $name >/dev/null || ! command -v ${name}3 >/dev/null || ln -sf "$(command -v ${name}3)" "$1/$name"
done`
		if err := s.tool(ctx, sallyport.ExecSpec{Argv: []string{"sh", "-ec", link, "sh", dir}}); err != nil {
			return err
		}
		return s.frame.lane.prepend(dir)
	}
	return nil
}
