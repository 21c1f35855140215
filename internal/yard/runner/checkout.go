package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// runIntrinsic runs an action that the runner itself provides.
func (s *step) runIntrinsic(ctx context.Context, a *sallyport.PlanAction) error {
	// What tools print are no commands: a file's name could be one.
	s.commands.token = "\x00"
	list, err := s.frame.scope.Vars(s.plan.With)
	if err != nil {
		return err
	}
	var with variables
	for _, x := range list {
		x.Name = strings.ToLower(x.Name)
		x.Value = strings.TrimSpace(x.Value)
		with.set(x)
		s.tainted = s.tainted || x.Tainted
	}
	s.announceAction(&with)
	switch a.Name {
	case "actions/checkout":
		return s.checkout(ctx, inputs{with})
	case "actions/upload-artifact":
		return s.upload(ctx, inputs{with})
	case "actions/download-artifact":
		return s.download(ctx, inputs{with})
	case "actions/cache":
		return s.cache(ctx, inputs{with})
	case "actions/cache/restore":
		return s.cacheRestore(ctx, inputs{with})
	case "actions/cache/save":
		return s.cacheSave(ctx, inputs{with})
	}
	if slices.Contains([]string{"actions/attest", "actions/attest-build-provenance", "actions/attest-sbom"}, a.Name) {
		return s.claim(ctx, a.Name, inputs{with})
	}
	if t, ok := toolchains[a.Name]; ok {
		return s.setUp(ctx, t, inputs{with})
	}
	return &failure{message: fmt.Sprintf("This runner does not provide the action %.80q.", a.Name)}
}

// inputs are the evaluated inputs of an intrinsic action, by lower-case name.
type inputs struct{ variables }

func (in inputs) text(name, def string) string {
	if v, ok := in.get(name); ok && v != "" {
		return v
	}
	return def
}

// boolean reads an input as GitHub's toolkit does.
func (in inputs) boolean(name string, def bool) (bool, error) {
	switch v := in.text(name, ""); v {
	case "":
		return def, nil
	case "true", "True", "TRUE":
		return true, nil
	case "false", "False", "FALSE":
		return false, nil
	default:
		return def, sallyport.Errorf(sallyport.CodeInvalid, "the input %s is %.80q; it must be true or false", name, v)
	}
}

// gitConfig is for git inside the room. The repository given to the room belongs
// to another user there, and holds the run's commit under no name.
const gitConfig = "[safe]\n\tdirectory = *\n[uploadpack]\n\tallowAnySHA1InWant = true\n[init]\n\tdefaultBranch = main\n" +
	"[advice]\n\tdetachedHead = false\n[core]\n\thooksPath = /dev/null\n"

// checkoutScript runs in the room. Its arguments are the directory, the
// repository to fetch from, the commit, the local branch ("" for a detached HEAD), the
// ref under which the commit is kept, the depth (0 for all), whether to clean, the remote's
// address, whether to take all tags, and the paths of a sparse checkout, a line each, as
// cone or as patterns.
const checkoutScript = `
dir=$1 source=$2 commit=$3 branch=$4 track=$5 depth=$6 clean=$7 url=$8 tags=$9 cone=${10} sparse=${11}
mkdir -p -- "$dir"
cd -- "$dir"
if git rev-parse --resolve-git-dir .git >/dev/null 2>&1; then
	if [ "$clean" = true ]; then
		git clean -ffdxq
		git reset -q --hard 2>/dev/null || true
	fi
else
	if [ "$clean" = true ]; then
		find . -mindepth 1 -maxdepth 1 -exec rm -rf -- {} +
	fi
	git init -q .
	git config --local gc.auto 0
	if [ -n "$url" ]; then
		git remote add origin "$url"
	fi
fi
if [ "$tags" = true ]; then
	set -- "+refs/tags/*:refs/tags/*"
else
	set --
fi
if [ "$depth" = 0 ]; then
	git fetch -q --no-tags --no-recurse-submodules --update-shallow "$source" "+refs/heads/*:refs/remotes/origin/*" "$@"
	git fetch -q --no-tags --no-recurse-submodules --update-shallow "$source" "+$commit:$track"
else
	git fetch -q --no-tags --no-recurse-submodules --update-shallow --depth="$depth" "$source" "+$commit:$track" "$@"
fi
if [ -n "$sparse" ]; then
	printf '%s\n' "$sparse" | git sparse-checkout set "$cone" --stdin
elif [ -e .git/info/sparse-checkout ]; then
	git sparse-checkout disable
fi
if [ -n "$branch" ]; then
	git checkout -q --force -B "$branch" "$track"
elif [ "${track#refs/sallyport/}" = "$track" ]; then
	git checkout -q --force --detach "$track"
else
	git checkout -q --force --detach "$commit"
fi
git log -1 --format='HEAD is now at %h'
unset GIT_CONFIG_GLOBAL
git config --global --get-all safe.directory 2>/dev/null | grep -qxF -- "$dir" || git config --global --add safe.directory "$dir"
`

// checkoutInputs are the inputs that have an effect.
var checkoutInputs = []string{
	"repository", "ref", "path", "fetch-depth", "fetch-tags", "clean", "submodules", "lfs", "sparse-checkout", "sparse-checkout-cone-mode",
}

var commitID = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// checkout puts the run's commit into the workspace, as actions/checkout does. The
// repository comes from the control plane; there is no credential to leave behind.
func (s *step) checkout(ctx context.Context, in inputs) error {
	j := s.job
	depth, err := strconv.Atoi(in.text("fetch-depth", "1"))
	if err != nil || depth < 0 {
		return sallyport.Errorf(sallyport.CodeInvalid, "fetch-depth is %.40q; it must be 0 or more", in.text("fetch-depth", ""))
	}
	clean, err := in.boolean("clean", true)
	if err != nil {
		return err
	}
	github := s.frame.scope.Get("github")
	repository, _ := github.Get("repository")
	if want := in.text("repository", repository.String()); !strings.EqualFold(want, repository.String()) {
		return sallyport.Errorf(sallyport.CodeInvalid, "the repository %.200q is another than the run's: this runner has no access to it", want).
			WithHint("remove the input repository; other repositories are not fetched")
	}
	for _, name := range []string{"submodules", "lfs"} {
		if v := in.text(name, "false"); !strings.EqualFold(v, "false") {
			return sallyport.Errorf(sallyport.CodeInvalid, "the input %s needs the network, which a job does not have", name).
				WithHint("remove it, or commit the files themselves")
		}
	}
	for _, name := range in.names {
		if !slices.Contains(checkoutInputs, name) {
			s.out.print(sallyport.LogDebug, "The input "+name+" has no effect on this runner.")
		}
	}
	dir := j.layout.inWorkspace(in.text("path", "."))
	if dir != j.layout.workspace() && !strings.HasPrefix(dir, j.layout.workspace()+"/") {
		return sallyport.Errorf(sallyport.CodeInvalid, "the path %.200q is not beneath the workspace", in.text("path", ""))
	}
	tags, err := in.boolean("fetch-tags", false)
	if err != nil {
		return err
	}
	tags = tags || depth == 0
	cone, err := in.boolean("sparse-checkout-cone-mode", true)
	if err != nil {
		return err
	}
	mode := "--cone"
	if !cone {
		mode = "--no-cone"
	}
	ref, commit, source, err := s.refToCheckOut(ctx, in.text("ref", ""), depth, tags)
	if err != nil {
		return err
	}
	config, err := j.layout.give("gitconfig", []byte(gitConfig))
	if err != nil {
		return err
	}
	branch, track := trackingRef(ref)
	server, _ := github.Get("server_url")
	url := ""
	if server.String() != "" {
		url = server.String() + "/" + repository.String()
	}
	argv := []string{"sh", "-ec", checkoutScript, "sh", dir, source, commit, branch, track, strconv.Itoa(depth), strconv.FormatBool(clean), url,
		strconv.FormatBool(tags), mode, in.text("sparse-checkout", "")}
	j.trace.CheckingOut()
	err = s.tool(ctx, sallyport.ExecSpec{Argv: argv},
		sallyport.EnvVar{Name: "GIT_CONFIG_GLOBAL", Value: config}, sallyport.EnvVar{Name: "GIT_CONFIG_NOSYSTEM", Value: "1"},
		sallyport.EnvVar{Name: "GIT_TERMINAL_PROMPT", Value: "0"}, sallyport.EnvVar{Name: "GIT_LFS_SKIP_SMUDGE", Value: "1"})
	if err != nil {
		return err
	}
	j.traceCheckout(dir, commit)
	if err := s.setOutput(workflow.Var{Name: "ref", Value: ref}); err != nil {
		return err
	}
	return s.setOutput(workflow.Var{Name: "commit", Value: commit})
}

// refToCheckOut returns what the ref input stands for, and the repository in the
// room that holds it: the run's own ref and commit, a commit, or another branch or tag.
func (s *step) refToCheckOut(ctx context.Context, want string, depth int, tags bool) (ref, commit, source string, err error) {
	run := s.job.lease.Run
	switch {
	case !commitID.MatchString(run.Commit):
		return "", "", "", sallyport.Errorf(sallyport.CodeInvalid, "the run has no commit to check out")
	case want == "" || want == run.Ref || want == strings.TrimPrefix(strings.TrimPrefix(run.Ref, "refs/heads/"), "refs/tags/"):
		ref, commit = run.Ref, run.Commit
	case runsForStrangers(run):
		return "", "", "", sallyport.Errorf(sallyport.CodeDenied, "a %s run has the code of the %s and is caused by anybody: it must not check out %.200q", run.Event, run.Ref, want).
			WithHint("leave ref out, or do what needs the other code in a pull_request workflow")
	case commitID.MatchString(want):
		commit = want
	}
	if commit != run.Commit || tags {
		depth = 0 // only the whole repository holds it
	}
	if source, err = s.job.source(ctx, depth); err != nil || commit != "" {
		return ref, commit, source, err
	}
	refs, err := s.job.refs()
	if err != nil {
		return "", "", "", err
	}
	for _, space := range []string{"", "refs/heads/", "refs/tags/"} {
		if commit, ok := refs[space+want]; ok {
			return space + want, commit, source, nil
		}
	}
	return "", "", "", sallyport.Errorf(sallyport.CodeInvalid, "there is no branch, tag or commit %.200q; the run is of %s", want, run.Ref).
		WithHint("leave ref out to check out what started the run")
}

// runsForStrangers tells runs with the code of a branch of ours that somebody
// outside caused: what they were told to look at is not to be run by them.
func runsForStrangers(r sallyport.Run) bool {
	switch r.Event {
	case "pull_request_target":
		return true
	case "push", "pull_request", "pull_request_review", "pull_request_review_comment":
		return false
	}
	return r.Tier == sallyport.TierUntrusted
}

// maxPackedRefs bounds the list of a repository's refs.
const maxPackedRefs = 16 << 20

// refs returns the branches and tags of the whole repository that source got, each
// with its commit.
func (j *job) refs() (map[string]string, error) {
	root, err := os.OpenRoot(filepath.Join(j.layout.dir, "given", "source", "0"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b, err := readRegular(root, "packed-refs", maxPackedRefs)
	if err != nil {
		return nil, fmt.Errorf("read the repository's refs: %w", err)
	}
	refs := map[string]string{}
	last := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if peeled, ok := strings.CutPrefix(line, "^"); ok && last != "" {
			refs[last] = peeled
			continue
		}
		id, name, _ := strings.Cut(line, " ")
		if last = ""; commitID.MatchString(id) && (strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/")) {
			refs[name], last = id, name
		}
	}
	return refs, nil
}

// trackingRef returns the local branch and the ref to keep the commit under,
// as actions/checkout does.
func trackingRef(ref string) (branch, track string) {
	if b, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		return b, "refs/remotes/origin/" + b
	}
	if strings.HasPrefix(ref, "refs/tags/") {
		return "", ref
	}
	if p, ok := strings.CutPrefix(ref, "refs/pull/"); ok {
		return "", "refs/remotes/pull/" + p
	}
	return "", "refs/sallyport/checkout"
}

// source fetches the run's repository to a depth, once, and returns where it is in the room.
func (j *job) source(ctx context.Context, depth int) (string, error) {
	j.fetch.Lock()
	defer j.fetch.Unlock()
	if dir, ok := j.sources[depth]; ok {
		return dir, nil
	}
	name := "source/" + strconv.Itoa(depth)
	host := filepath.Join(j.layout.dir, "given", name)
	err := retry(ctx, func() error {
		if err := os.RemoveAll(host); err != nil {
			return sallyport.Errorf(sallyport.CodeInternal, "make room for the repository: %w", err)
		}
		if err := errors.Join(os.Mkdir(host, 0o755), os.Chmod(host, 0o755)); err != nil {
			return err
		}
		root, err := os.OpenRoot(host)
		if err != nil {
			return err
		}
		defer root.Close()
		r, err := j.runner.cfg.Yard.Source(ctx, j.lease.Ref, depth)
		if err != nil {
			return err
		}
		defer r.Close()
		return unpack(root, r)
	})
	if err != nil {
		return "", fmt.Errorf("get the repository: %w", err)
	}
	j.sources[depth] = path.Join(j.layout.given, name)
	return j.sources[depth], nil
}

// tool runs a program of the room for an intrinsic action, in a clean
// environment that the workflow cannot change.
func (s *step) tool(ctx context.Context, spec sallyport.ExecSpec, env ...sallyport.EnvVar) error {
	room, err := s.job.toolRoom(ctx)
	if err != nil {
		return err
	}
	spec.Stdout = s.out
	return s.toolIn(ctx, room, spec, env...)
}

// toolFor is tool for a program that uses the paths. Those that lie outside of what all
// rooms of the job share are in the job's own room alone: there it runs.
func (s *step) toolFor(ctx context.Context, paths []string, spec sallyport.ExecSpec) error {
	for _, p := range paths {
		if _, shared := s.job.layout.inWork(p); !shared {
			spec.Stdout = s.out
			return s.toolIn(ctx, s.job.room, spec)
		}
	}
	return s.tool(ctx, spec)
}

// toolIn runs a program in a room of the job, with its standard output where spec says.
func (s *step) toolIn(ctx context.Context, room sallyport.Room, spec sallyport.ExecSpec, env ...sallyport.EnvVar) error {
	spec.Dir, spec.Stderr = s.job.layout.work, s.out
	spec.Env = append([]sallyport.EnvVar{
		{Name: "HOME", Value: s.job.toolHome()}, {Name: "PATH", Value: s.job.runner.cfg.Path}, {Name: "LANG", Value: "C.UTF-8"},
	}, env...)
	result, err := room.Exec(ctx, spec)
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return &failure{message: fmt.Sprintf("%s ended with exit code %d.", s.plan.Uses, result.ExitCode), exit: result.ExitCode}
	}
	return nil
}
