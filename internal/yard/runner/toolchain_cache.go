package runner

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
)

// packages is what a package manager keeps between jobs.
type packages struct {
	locks []string   // patterns of the files that name what is installed; the first that match count
	dirs  [][]string // commands that print the directories
	fixed []string   // or the directories themselves
}

// packageManagers are what the input cache may be, by toolchain.
var packageManagers = map[string]map[string]packages{
	"go": {"true": {locks: []string{"go.sum", "go.mod"}, dirs: [][]string{{"go", "env", "GOMODCACHE"}, {"go", "env", "GOCACHE"}}}},
	"node": {
		"npm":  {locks: []string{"package-lock.json", "npm-shrinkwrap.json", "yarn.lock"}, dirs: [][]string{{"npm", "config", "get", "cache"}}},
		"pnpm": {locks: []string{"pnpm-lock.yaml"}, dirs: [][]string{{"pnpm", "store", "path", "--silent"}}},
		"yarn": {locks: []string{"yarn.lock"}, dirs: [][]string{{"sh", "-c", "case $(yarn --version) in 1.*) yarn cache dir;; *) yarn config get cacheFolder;; esac"}}},
	},
	"python": {
		"pip":    {locks: []string{"**/requirements.txt", "**/pyproject.toml"}, dirs: [][]string{{"python", "-m", "pip", "cache", "dir"}}},
		"pipenv": {locks: []string{"**/Pipfile.lock"}, fixed: []string{"~/.local/share/virtualenvs"}},
		"poetry": {locks: []string{"**/poetry.lock"}, fixed: []string{"~/.cache/pypoetry/virtualenvs"}},
	},
}

// setupCache does what the input cache of a setup action asks for: it restores what the
// package manager keeps, under the key that GitHub's action has, and saves it when the job's steps
// have ended well.
func (s *step) setupCache(ctx context.Context, t toolchain, in inputs, version string) error {
	manager := in.text("cache", "false")
	if manager == "false" {
		return nil
	}
	p, ok := packageManagers[t.tool][manager]
	if !ok {
		return sallyport.Errorf(sallyport.CodeInvalid, "cache is %.40q; for %s it may be %s", manager, t.name, known(packageManagers[t.tool]))
	}
	if err := s.setOutput(workflow.Var{Name: "cache-hit", Value: "false"}); err != nil {
		return err
	}
	hash, err := s.lockHash(in, p)
	if err != nil {
		return err
	}
	if hash == "" {
		s.out.print(sallyport.LogWarning, "Nothing is cached: no file matches "+strings.Join(p.locks, ", ")+"; check out the repository first, or name one with cache-dependency-path.")
		return nil
	}
	dirs := slices.Clone(p.fixed)
	for _, argv := range p.dirs {
		dir, err := s.ask(ctx, argv...)
		if err != nil {
			return err
		}
		if !path.IsAbs(dir) {
			s.out.print(sallyport.LogWarning, "Nothing is cached: "+strings.Join(argv[:min(len(argv), 2)], " ")+" names no directory.")
			return nil
		}
		dirs = append(dirs, dir)
	}
	var with variables
	with.set(workflow.Var{Name: "path", Value: strings.Join(dirs, "\n")})
	key, restore := cacheKey(t.tool, manager, version, hash)
	with.set(workflow.Var{Name: "key", Value: key})
	with.set(workflow.Var{Name: "restore-keys", Value: restore})
	return s.cache(ctx, inputs{with})
}

// lockHash sums up the files that name what is installed; "" when there are none.
func (s *step) lockHash(in inputs, p packages) (string, error) {
	if named := lines(in.text("cache-dependency-path", "")); len(named) > 0 {
		return s.job.layout.hashFiles(named)
	}
	for _, lock := range p.locks {
		if hash, err := s.job.layout.hashFiles([]string{lock}); err != nil || hash != "" {
			return hash, err
		}
	}
	return "", nil
}

// cacheKey is the key of GitHub's setup actions, and the beginning that will do.
func cacheKey(tool, manager, version, hash string) (key, restore string) {
	switch tool {
	case "go":
		return fmt.Sprintf("setup-go-Linux-%s-go-%s-%s", tools.Arch(), version, hash), ""
	case "node":
		return fmt.Sprintf("node-cache-Linux-%s-%s-%s", tools.Arch(), manager, hash), ""
	}
	restore = fmt.Sprintf("setup-python-Linux-%s-%spython-%s-%s", tools.Arch(), distribution(), version, manager)
	return restore + "-" + hash, restore
}

var osRelease = regexp.MustCompile(`(?m)^(ID|VERSION_ID)="?([A-Za-z0-9._-]{1,32})"?$`)

// distribution is the host's, as "24.04-Ubuntu-"; "" when it does not say.
func distribution() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	found := map[string]string{}
	for _, m := range osRelease.FindAllSubmatch(b[:min(len(b), 1<<16)], -1) {
		found[string(m[1])] = string(m[2])
	}
	if found["ID"] == "" || found["VERSION_ID"] == "" {
		return ""
	}
	return found["VERSION_ID"] + "-" + strings.ToUpper(found["ID"][:1]) + found["ID"][1:] + "-"
}

func known(m map[string]packages) string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// ask returns the first line that a program of the job prints, "" when it fails.
func (s *step) ask(ctx context.Context, argv ...string) (string, error) {
	j := s.job
	var out said
	result, err := j.room.Exec(ctx, sallyport.ExecSpec{
		Argv: argv, Dir: j.layout.workspace(), Stdout: &out, Stderr: &said{}, User: j.user(),
		Env: []sallyport.EnvVar{
			{Name: "HOME", Value: j.layout.home}, {Name: "PATH", Value: strings.Join(append(slices.Clone(s.frame.lane.path), j.runner.cfg.Path), ":")},
			{Name: "GOTOOLCHAIN", Value: "local"},
		},
	})
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		return "", err
	}
	if err != nil || result.ExitCode != 0 {
		return "", nil
	}
	line, _, _ := bytes.Cut(out.Bytes(), []byte("\n"))
	return strings.TrimSpace(string(line)), nil
}
