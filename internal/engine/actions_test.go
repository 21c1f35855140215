package engine

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/actions"
	"github.com/sallyport-ci/sallyport/internal/forge"
)

// actionServer is a directory of repositories that actions come from.
type actionServer struct {
	t   *testing.T
	dir string
}

// commit makes a commit of a repository's files, and moves a tag there.
func (s actionServer) commit(repository, tag string, f files) (commit string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, repository)
	check(s.t, os.MkdirAll(dir, 0o755))
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-c", "user.name=eve", "-c", "user.email=eve@example.com", "-C", dir}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "main")
	for name, content := range f {
		check(s.t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	git("add", "-A")
	git("commit", "-q", "-m", "change")
	git("tag", "-f", tag)
	return git("rev-parse", "HEAD")
}

// takesActions lets an engine take in actions of the server.
func (s actionServer) takesActions(from *sallyport.Actions, own bool) func(*Config) {
	return func(c *Config) {
		a, err := c.Repositories.(*forge.Git).Actions(forge.ActionsConfig{Servers: []string{s.dir + "/{owner}/{repo}"}, Blobs: c.Blobs})
		check(s.t, err)
		*from = a
		c.Actions = ActionsConfig{From: a, OwnLock: own}
	}
}

// workTree is files as an actions.Repository.
type workTree files

func (w workTree) ReadFile(path string) ([]byte, error) {
	if text, ok := w[path]; ok {
		return []byte(text), nil
	}
	return nil, sallyport.Errorf(sallyport.CodeNotFound, "no %s", path)
}

func (w workTree) Workflows() ([]string, error) { return []string{workflowFile}, nil }

// lock returns files with the lock of what they use at a time.
func lock(t *testing.T, from sallyport.Actions, f files, now time.Time, reason string) files {
	t.Helper()
	l, _, _, err := actions.Locker{Repo: workTree(f), From: from, Quarantine: actions.DefaultQuarantine, Now: now}.Lock(t.Context(), actions.Lock{}, actions.Options{Accept: reason})
	check(t, err)
	out := files{actions.LockPath: string(l.Encode())}
	for name, content := range f {
		out[name] = content
	}
	return out
}

// cause is why the run of a push is invalid; "" when it is not.
func (h *house) cause(push sallyport.Push) (sallyport.Run, string) {
	h.t.Helper()
	list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Push: push.ID})
	check(h.t, err)
	if len(list) != 1 {
		h.t.Fatalf("got %d runs, want 1", len(list))
	}
	return list[0], list[0].Cause
}

const usesTool = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{ uses: acme/tool@v1 }]\n"

const toolYML = "name: tool\nruns: { using: node20, main: main.js }\n"

// What the default branch has locked is used, when it has rested, whatever the
// tag names by then and whatever the lock of another branch says.
func TestActionLockOfTheDefaultBranch(t *testing.T) {
	t.Parallel()
	server := actionServer{t, t.TempDir()}
	var from sallyport.Actions
	h := newHouse(t, server.takesActions(&from, false))
	good := server.commit("acme/tool", "v1", files{"action.yml": toolYML, "main.js": "good"})
	work := files{workflowFile: usesTool}

	if _, cause := h.cause(h.push("main", work)); !strings.HasPrefix(cause, workflowFile+":5:21: acme/tool@v1 is not locked; review and lock it with: sallyport actions lock") {
		t.Errorf("not locked: %q", cause)
	}
	locked := lock(t, from, work, h.clock(), "")
	if _, cause := h.cause(h.push("main", locked)); !strings.Contains(cause, "acme/tool@v1 was first seen less than a minute ago; what is new rests for 3 days") {
		t.Errorf("too young: %q", cause)
	}
	h.pass(72 * time.Hour)
	locked["salt"] = "1"
	run, cause := h.cause(h.push("main", locked))
	if cause != "" {
		t.Fatalf("old enough: %q", cause)
	}
	plan, err := h.s.Runs.Plan(h.admin, run.ID)
	check(t, err)
	if got := plan.Actions["acme/tool@v1"].Source; got == nil || got.Commit != good {
		t.Fatalf("source %+v, want %s", got, good)
	}
	if r := actionResources(plan); len(r) != 1 || r[0].URI != "git+file://"+server.dir+"/acme/tool@v1" || r[0].Digest["gitCommit"] != good {
		t.Errorf("provenance %+v", r)
	}

	// The runner gets what the plan of its job names, and nothing else.
	l := h.lease()
	tree, err := h.y.Action(h.runner, l.Ref, plan.Actions["acme/tool@v1"].Source.Digest)
	check(t, err)
	b, err := io.ReadAll(tree)
	check(t, err)
	check(t, tree.Close())
	if !strings.Contains(string(b), "good") {
		t.Error("the tree lacks its file")
	}
	if _, err := h.y.Action(h.runner, l.Ref, sallyport.DigestOf(nil)); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("another tree: %v", err)
	}
	h.finish(l, sallyport.Success, nil)

	// The attack: the tag is moved, and a branch brings a lock that takes what it names now.
	evil := server.commit("acme/tool", "v1", files{"main.js": "evil"})
	attack := lock(t, from, work, h.clock(), "trust me")
	if _, cause := h.cause(h.push("attack", attack)); !strings.Contains(cause, "acme/tool@v1 is locked to "+evil[:12]+" by this commit and to "+good[:12]+" by main, whose lock decides") {
		t.Errorf("attack: %q", cause)
	}
	other := files{workflowFile: strings.ReplaceAll(usesTool, "@v1", "@main")}
	if _, cause := h.cause(h.push("other", lock(t, from, other, h.clock(), "trust me"))); !strings.Contains(cause, "acme/tool@main is locked by this commit but not by main") {
		t.Errorf("another ref: %q", cause)
	}
	broken := files{workflowFile: usesTool, actions.LockPath: "{"}
	for branch, f := range map[string]files{"without": work, "broken": broken} {
		run, cause := h.cause(h.push(branch, f))
		if cause != "" {
			t.Fatalf("%s: %q", branch, cause)
		}
		plan, err := h.s.Runs.Plan(h.admin, run.ID)
		check(t, err)
		if got := plan.Actions["acme/tool@v1"].Source.Commit; got != good {
			t.Errorf("%s runs %s, want what main has locked, %s", branch, got, good)
		}
	}

	// Control: where the lock of the commit itself decides, the attack would have worked.
	control := newHouse(t, server.takesActions(&from, true))
	control.pass(h.clock().Sub(control.clock()))
	run, cause = control.cause(control.push("attack", attack))
	if cause != "" {
		t.Fatalf("control: %q", cause)
	}
	plan, err = control.s.Runs.Plan(control.admin, run.ID)
	check(t, err)
	if got := plan.Actions["acme/tool@v1"].Source.Commit; got != evil {
		t.Errorf("control runs %s, want %s", got, evil)
	}
}

// A server that cannot be asked is no fault of the workflow: planning is tried again.
func TestActionServerIsAway(t *testing.T) {
	t.Parallel()
	server := actionServer{t, t.TempDir()}
	server.commit("acme/tool", "v1", files{"action.yml": toolYML})
	var from sallyport.Actions
	h := newHouse(t, server.takesActions(&from, true))
	locked := lock(t, from, files{workflowFile: usesTool}, h.clock(), "mine")
	away := &awayActions{Actions: from, away: true}
	h.e.actions.From = away
	push := h.push("main", locked)
	list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Push: push.ID})
	check(t, err)
	if len(list) != 0 {
		t.Fatalf("got %d runs, want none yet", len(list))
	}
	away.away = false
	h.pass(time.Hour)
	h.work()
	if _, cause := h.cause(push); cause != "" {
		t.Errorf("back again: %q", cause)
	}
}

// awayActions are those of a server that may be away.
type awayActions struct {
	sallyport.Actions
	away bool
}

func (a *awayActions) Keep(ctx context.Context, s sallyport.PlanSource) (sallyport.Digest, error) {
	if a.away {
		return "", sallyport.Errorf(sallyport.CodeUnavailable, "the server is away")
	}
	return a.Actions.Keep(ctx, s)
}
