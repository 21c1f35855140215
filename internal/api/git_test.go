package api_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/api"
	"github.com/sallyport-ci/sallyport/internal/forge"
)

// work is a user's clone; git asks for nothing.
type work struct {
	t   *testing.T
	dir string
}

func (w work) git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w work) must(args ...string) string {
	w.t.Helper()
	out, err := w.git(args...)
	if err != nil {
		w.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return out
}

func TestGit(t *testing.T) {
	t.Parallel()
	g, err := forge.New(t.Context(), forge.Config{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	project := sallyport.Project{ID: sallyport.NewID[sallyport.ProjectID](time.Now()), Name: "demo", DefaultBranch: "main"}
	if err := g.Create(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *api.Config) { c.Git, c.BaseURL = g, "http://ci.example" })
	s.when("Projects.Project", func(_ context.Context, args []any) ([]any, error) {
		if args[0] != "demo" {
			return []any{nil}, sallyport.Errorf(sallyport.CodeNotFound, "there is no project %v", args[0]).WithHint("see sallyport project list")
		}
		return []any{project}, nil
	})
	s.when("Projects.Pushed", func(_ context.Context, args []any) ([]any, error) {
		return []any{[]sallyport.Push{{ID: "push-1", Ref: args[1].([]sallyport.RefUpdate)[0].Ref}}}, nil
	})
	var asked atomic.Int64
	s.when("Runs.Runs", func(context.Context, []any) ([]any, error) {
		if asked.Add(1) == 1 {
			return []any{nil}, nil // not planned yet
		}
		return []any{[]sallyport.Run{
			{ID: "run-2", Number: 8, Name: "lint", Status: sallyport.StatusCompleted, Conclusion: sallyport.Failure, Cause: "lint.yml:1:1: no jobs"},
			{ID: "run-1", Number: 7, Name: "ci", Status: sallyport.StatusQueued}}}, nil
	})
	w := work{t, t.TempDir()}
	w.must("init", "--quiet", "--initial-branch=main")
	if err := os.WriteFile(filepath.Join(w.dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.must("add", "f")
	w.must("commit", "--quiet", "-m", "one")
	host := strings.TrimPrefix(s.url, "http://")
	url := func(user string) string { return "http://" + user + host + "/demo.git" }

	out := w.must("push", url("x:"+goodToken+"@"), "main")
	for _, want := range []string{"remote: run #7 queued: http://ci.example/runs/run-1",
		"remote: run #8 of lint: failure: lint.yml:1:1: no jobs (http://ci.example/runs/run-2)"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if len(s.denials()) != 0 {
		t.Errorf("git's first question was recorded: %q", s.denials())
	}
	clone := work{t, t.TempDir()}
	clone.must("clone", "--quiet", url("x:"+goodToken+"@"), ".")

	for name, c := range map[string]struct{ url, want string }{
		"no credential":    {url(""), "could not read Username"},
		"wrong credential": {url("x:bad@"), "Authentication failed"},
		"no project":       {strings.Replace(url("x:"+goodToken+"@"), "demo", "none", 1), "remote: there is no project none; see sallyport project list"},
	} {
		if out, err := w.git("push", c.url, "main"); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, no %q in\n%s", name, err, c.want, out)
		}
	}
	if len(s.denials()) == 0 || !strings.Contains(s.denials()[0], "/demo.git/info/refs") {
		t.Errorf("recorded %q", s.denials())
	}

	s.when("Projects.Pushing", func(ctx context.Context, _ []any) ([]any, error) {
		if who := sallyport.PrincipalFrom(ctx); who.Name != "alice" {
			t.Errorf("judged as %v", who)
		}
		return nil, sallyport.Errorf(sallyport.CodeDenied, "main is protected").WithHint("push a branch and propose it")
	})
	w.must("commit", "--quiet", "--allow-empty", "-m", "two")
	out, err = w.git("push", url("x:"+goodToken+"@"), "main")
	for _, want := range []string{"remote: main is protected", "remote: push a branch and propose it", "[remote rejected] main -> main (main is protected)"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v, no %q in\n%s", err, want, out)
		}
	}
	s.when("Projects.Reading", func(context.Context, []any) ([]any, error) {
		return nil, sallyport.Errorf(sallyport.CodeDenied, "not for you")
	})
	if out, err := clone.git("fetch"); err == nil || !strings.Contains(out, "remote: not for you") {
		t.Errorf("fetch: %v\n%s", err, out)
	}
	metrics := ask(t, "GET", s.url+"/metrics", "", "Authorization", "Bearer "+goodToken).body
	for _, want := range []string{`sallyport_git_pushes_total{outcome="accepted"} 1`, `sallyport_git_pushes_total{outcome="refused"} 1`,
		`route="/{repository}/git-receive-pack"`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in metrics", want)
		}
	}
}

// A push whose recording fails is stored all the same, and the pusher is told.
func TestPushNotRecorded(t *testing.T) {
	t.Parallel()
	g, err := forge.New(t.Context(), forge.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	project := sallyport.Project{ID: sallyport.NewID[sallyport.ProjectID](time.Now()), Name: "demo", DefaultBranch: "main"}
	if err := g.Create(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *api.Config) { c.Git = g })
	s.when("Projects.Project", func(context.Context, []any) ([]any, error) { return []any{project}, nil })
	s.when("Projects.Pushed", func(context.Context, []any) ([]any, error) {
		return []any{nil}, sallyport.Errorf(sallyport.CodeUnavailable, "the disk is full")
	})
	w := work{t, t.TempDir()}
	w.must("init", "--quiet", "--initial-branch=main")
	w.must("commit", "--quiet", "--allow-empty", "-m", "one")
	out := w.must("push", strings.Replace(s.url, "://", "://x:"+goodToken+"@", 1)+"/demo.git", "main")
	if !strings.Contains(out, "could not be started yet: the disk is full") {
		t.Errorf("push printed\n%s", out)
	}
}
