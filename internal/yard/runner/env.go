package runner

import (
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// maxEnvBytes bounds a job's environment; the kernel refuses more than about 2 MiB
// for a process, arguments included.
const maxEnvBytes = 1 << 20

// variables is an ordered set of environment variables.
type variables struct {
	names  []string
	values map[string]workflow.Var
}

func (v *variables) set(x workflow.Var) {
	if v.values == nil {
		v.values = map[string]workflow.Var{}
	}
	if _, known := v.values[x.Name]; !known {
		v.names = append(v.names, x.Name)
	}
	v.values[x.Name] = x
}

func (v *variables) setAll(list []workflow.Var) {
	for _, x := range list {
		v.set(x)
	}
}

// each returns the variables in the order in which they were set first.
func (v *variables) each() []workflow.Var {
	out := make([]workflow.Var, 0, len(v.names))
	for _, name := range v.names {
		out = append(out, v.values[name])
	}
	return out
}

func (v *variables) clone() variables {
	return variables{names: slices.Clone(v.names), values: maps.Clone(v.values)}
}

func (v *variables) get(name string) (string, bool) {
	x, ok := v.values[name]
	return x.Value, ok
}

// tainted reports whether any value was derived from an untrusted one.
func (v *variables) tainted() bool {
	for _, x := range v.values {
		if x.Tainted {
			return true
		}
	}
	return false
}

// size is the number of bytes that a process needs for the variables.
func (v *variables) size() int {
	n := 0
	for name, x := range v.values {
		n += len(name) + len(x.Value) + 2
	}
	return n
}

// context returns the env context.
func (v *variables) context() workflow.Value {
	entries := make([]workflow.Entry, 0, len(v.names))
	for _, name := range v.names {
		entries = append(entries, workflow.Entry{Key: name, Value: stringValue(v.values[name])})
	}
	return workflow.EnvObject(entries...)
}

func stringValue(x workflow.Var) workflow.Value {
	v := workflow.String(x.Value)
	if x.Tainted {
		v = v.Taint()
	}
	return v
}

// list returns the variables as the sandbox takes them.
func (v *variables) list() []sallyport.EnvVar {
	out := make([]sallyport.EnvVar, 0, len(v.names))
	for _, name := range v.names {
		out = append(out, sallyport.EnvVar{Name: name, Value: v.values[name].Value})
	}
	return out
}

// githubVariables are the keys of the github context that every step gets
// as GITHUB_* ("Default environment variables" of GitHub's reference).
var githubVariables = []string{
	"action", "action_path", "action_ref", "action_repository", "actor", "actor_id", "api_url", "base_ref",
	"event_name", "event_path", "graphql_url", "head_ref", "job", "ref", "ref_name",
	"ref_protected", "ref_type", "repository", "repository_id", "repository_owner", "repository_owner_id",
	"retention_days", "run_attempt", "run_id", "run_number", "server_url", "sha", "triggering_actor",
	"workflow", "workflow_ref", "workflow_sha", "workspace",
}

// processEnv returns the whole environment of one process of a script: what the
// workflow set, then what it cannot set.
func (j *job) processEnv(f *frame, env *variables, files *commandFiles) []sallyport.EnvVar {
	return j.environ(f, env, files, false)
}

// actionEnv is the same for a process of an action, which may call the runtime's services.
func (j *job) actionEnv(f *frame, env *variables, files *commandFiles) []sallyport.EnvVar {
	return j.environ(f, env, files, true)
}

func (j *job) environ(f *frame, env *variables, files *commandFiles, action bool) []sallyport.EnvVar {
	all := variables{}
	all.set(workflow.Var{Name: "HOME", Value: j.layout.home})
	all.set(workflow.Var{Name: "USER", Value: "root"})
	all.set(workflow.Var{Name: "LANG", Value: "C.UTF-8"})
	all.set(workflow.Var{Name: "CI", Value: "true"})
	all.set(workflow.Var{Name: "PATH", Value: j.runner.cfg.Path})
	if j.container != nil {
		all.setAll(j.container.env.each())
	}
	all.setAll(j.door.variables())
	for _, name := range env.names {
		all.set(env.values[name])
	}
	github := f.scope.Get("github")
	for _, key := range githubVariables {
		if v, ok := github.Get(key); ok && v.Kind() != workflow.KindNull {
			all.set(workflow.Var{Name: "GITHUB_" + strings.ToUpper(key), Value: v.String()})
		}
	}
	for _, e := range f.scope.Get("runner").Entries() {
		all.set(workflow.Var{Name: "RUNNER_" + strings.ToUpper(e.Key), Value: e.Value.String()})
	}
	all.set(workflow.Var{Name: "GITHUB_ACTIONS", Value: "true"})
	all.setAll(j.serviceEnv(f, action))
	if files != nil {
		for _, x := range files.vars() {
			all.set(x)
		}
	}
	if path := f.lane.path; len(path) > 0 {
		base, _ := all.get("PATH")
		all.set(workflow.Var{Name: "PATH", Value: strings.Join(path, ":") + ":" + base})
	}
	return all.list()
}

// runnerContext is the runner context of the job.
func (j *job) runnerContext() workflow.Value {
	arch := map[string]string{"amd64": "X64", "arm64": "ARM64", "386": "X86", "arm": "ARM"}[runtime.GOARCH]
	entry := func(k, v string) workflow.Entry { return workflow.Entry{Key: k, Value: workflow.String(v)} }
	return workflow.Object(
		entry("os", "Linux"), entry("arch", arch), entry("name", j.runner.cfg.Name), entry("environment", "self-hosted"),
		entry("temp", j.layout.temp()), entry("tool_cache", j.layout.toolCache),
		entry("workspace", path.Join(j.layout.work, j.layout.repo)),
	)
}

// forbiddenEnv names variables through which a line smuggled into GITHUB_ENV
// would run code in every later step.
var forbiddenEnv = []string{
	"BASH_ENV", "BASHOPTS", "ENV", "NODE_OPTIONS", "PATH", "PERL5OPT", "PROMPT_COMMAND", "PS4", "PYTHONSTARTUP",
	"PYTHONINSPECT", "RUBYOPT", "SHELLOPTS",
	"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_ASKPASS", "GIT_DIR", "GIT_EDITOR", "GIT_EXEC_PATH", "GIT_EXTERNAL_DIFF",
	"GIT_OBJECT_DIRECTORY", "GIT_PAGER", "GIT_PROXY_COMMAND", "GIT_SEQUENCE_EDITOR", "GIT_TEMPLATE_DIR", "GIT_WORK_TREE",
}

// forbiddenPrefixes are those of whole families of such variables.
var forbiddenPrefixes = []string{"BASH_FUNC_", "GIT_CONFIG", "GIT_SSH", "LD_", "DYLD_"}

// refusedEnv says why a name must not be set through GITHUB_ENV; "" if it may.
func refusedEnv(name string) string {
	switch {
	case name == "PATH":
		return "add directories through $GITHUB_PATH"
	case slices.Contains(forbiddenEnv, name),
		slices.ContainsFunc(forbiddenPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }):
		return "it would change how every later step runs; set it in the env of the steps that need it"
	case name == "" || strings.ContainsAny(name, "=\x00"):
		return "a name has no = and no zero byte"
	}
	return ""
}

// runnerVariables are the keys of the runner context that every step gets as RUNNER_*.
var runnerVariables = []string{"arch", "environment", "name", "os", "temp", "tool_cache", "workspace"}

// setByRunner reports whether the runner sets a variable itself, over what anyone says ("Default
// environment variables": an assignment to one of them is ignored).
func setByRunner(name string) bool {
	key, github := strings.CutPrefix(name, "GITHUB_")
	if github {
		key = strings.ToLower(key)
		return key == "actions" || slices.Contains(githubVariables, key) || slices.Contains(fileKinds, key)
	}
	key, runner := strings.CutPrefix(name, "RUNNER_")
	return runner && slices.Contains(runnerVariables, strings.ToLower(key))
}

// steersEnv reports whether a script that assigns to the variable changes how its other
// commands run, or where they tell the runner something.
func steersEnv(name string) bool { return refusedEnv(name) != "" || setByRunner(name) }
