package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/blobstore"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/forge"
	"github.com/sallyport-ci/sallyport/internal/kms"
	"github.com/sallyport-ci/sallyport/internal/oci"
	"github.com/sallyport-ci/sallyport/internal/policy"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
	"github.com/sallyport-ci/sallyport/internal/yard/runner"
	"github.com/sallyport-ci/sallyport/internal/yard/sandbox"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
)

// LocalConfig says what to run without a server.
type LocalConfig struct {
	Dir       string   // a directory as it is now: if it has no workflows of its own, the git work tree around it
	Workflows []string // paths relative to the repository; empty: all
	Event     string   // "" = push, or what the named workflows can be started by
	Payload   []byte   // the event's payload, JSON
	Job       string   // this job and those it needs
	Inputs    []byte   // of workflow_dispatch, a JSON object
	Secrets   map[string]string
	Vars      map[string]string
	Matrix    map[string]string  // only the cells with these values
	Env       []sallyport.EnvVar // before the workflow's own env
	Capacity  int
	Level     string // of isolation; "" = standard
	Actions   ActionsConfig
	Egress    EgressConfig
	Tools     *tools.Cache
	// Visit, when set, is called in the room of each job that failed, before the room goes.
	Visit func(ctx context.Context, job sallyport.Job, open Open)
	Log   *slog.Logger
}

// Open runs a command in the room of a job.
type Open = runner.Open

// Local runs the workflows of a directory with the same engine and the same
// rooms as a server, in this process and a throw-away directory. watch is called with the
// runs as soon as they are started; when it returns everything ends. When nothing
// starts because workflows are invalid, it is an *InvalidWorkflow.
//
// There is nothing to sign with here: a laptop vouches for nothing.
func Local(ctx context.Context, c LocalConfig, watch func(ctx context.Context, s sallyport.Services, runs []sallyport.Run) error) error {
	tmp, err := os.MkdirTemp("", "sallyport-run-")
	if err != nil {
		return err
	}
	ctx = sallyport.WithPrincipal(ctx, operator())
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var l *local
	var parts sync.WaitGroup
	defer func() {
		stop(errors.New("done"))
		parts.Wait()
		if l != nil {
			l.close()
		}
		os.RemoveAll(tmp)
	}()

	// A person waits: the host is readied for rooms while the repository is read.
	var box *sandbox.Sandbox
	var boxErr error
	boxReady := make(chan struct{})
	parts.Go(func() {
		warm := sandbox.Warm{Rooms: 1, Once: true, Like: runner.RoomLike(sallyport.Limits{}), AtOnce: c.capacity()}
		box, boxErr = newSandbox(filepath.Join(tmp, "rooms"), c.Level, warm, c.Log)
		close(boxReady)
		if boxErr == nil {
			box.Warm(work)
		}
	})
	if l, err = openLocal(ctx, c, tmp); err != nil {
		return err
	}
	parts.Go(func() { _ = l.engine.Run(work) }) // ends with its context alone

	watching, endWatch := context.WithCancelCause(ctx)
	defer endWatch(nil)
	yard, stopRunner := context.WithCancelCause(sallyport.WithPrincipal(work, localRunner()))
	runnerGone := make(chan struct{})
	go func() {
		defer close(runnerGone)
		<-boxReady
		if boxErr != nil {
			return
		}
		if err := l.serve(yard, c, box, filepath.Join(tmp, "jobs")); err != nil && yard.Err() == nil {
			endWatch(err)
		}
	}()
	defer func() {
		stopRunner(errors.New("done"))
		<-runnerGone
	}()
	runs, err := l.start(ctx, c)
	if err != nil {
		return err
	}
	if <-boxReady; boxErr != nil {
		return boxErr
	}
	err = watch(watching, l.engine.Services(), runs)
	if cause := context.Cause(watching); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// capacity is how many jobs run at the same time.
func (c LocalConfig) capacity() int {
	if c.Capacity > 0 {
		return c.Capacity
	}
	return max(2, runtime.NumCPU())
}

// serve is the runner: it does jobs in rooms until ctx ends.
func (l *local) serve(ctx context.Context, c LocalConfig, box *sandbox.Sandbox, dir string) error {
	reach, err := c.Egress.open(packageCache(dir+"-packages"), os.Getenv, c.Log)
	if err != nil {
		return err
	}
	r, err := runner.New(runner.Config{
		Yard: l.engine.Yard(), Sandbox: box, WorkDir: dir, ID: "local", Name: "local",
		Labels: labels(), Capacity: c.capacity(), Log: c.Log, Clock: time.Now, Visit: c.Visit, Tools: c.Tools, Egress: reach,
	})
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

type local struct {
	engine  *engine.Engine
	repos   *forge.Git
	project sallyport.Project
	closers []func() error
}

func (l *local) close() {
	for i := len(l.closers) - 1; i >= 0; i-- {
		_ = l.closers[i]() // all of it is thrown away
	}
}

func openLocal(ctx context.Context, c LocalConfig, tmp string) (_ *local, err error) {
	l := &local{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	keys, err := kms.NewMemory()
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.Open(ctx, sqlstore.Config{DSN: "sqlite:" + filepath.Join(tmp, "run.db"), Volatile: true, Clock: time.Now, Log: c.Log})
	if err != nil {
		return nil, err
	}
	l.closers = append(l.closers, store.Close)
	blobs, err := blobstore.OpenDir(blobstore.Config{Dir: filepath.Join(tmp, "blobs"), KMS: keys, Volatile: true})
	if err != nil {
		return nil, err
	}
	l.closers = append(l.closers, blobs.Close)
	logs, err := blobstore.OpenLogs(blobstore.Config{Dir: filepath.Join(tmp, "logs"), KMS: keys, Volatile: true})
	if err != nil {
		return nil, err
	}
	l.closers = append(l.closers, logs.Close)
	if l.repos, err = forge.New(ctx, forge.Config{Dir: filepath.Join(tmp, "repos"), Log: c.Log}); err != nil {
		return nil, err
	}
	images, err := oci.New(oci.Config{Blobs: blobs, Registries: []string{"*"}}) // whoever runs it chose the workflow
	if err != nil {
		return nil, err
	}
	gates, err := policy.New()
	if err != nil {
		return nil, err
	}
	cfg := engine.Config{
		Images: images, Store: store, Repositories: l.repos, Blobs: blobs, Logs: logs, Gates: gates, Instance: attest.Instance("local.invalid"),
		BaseURL: "http://local.invalid", Version: Version(), Clock: time.Now, Log: c.Log, Vars: c.Vars, Known: []sallyport.Principal{operator(), localRunner()},
	}
	if len(c.Secrets) > 0 {
		cfg.Lend = func(context.Context, sallyport.Run, sallyport.Job) (map[string]string, error) { return c.Secrets, nil }
	}
	from, err := l.repos.Actions(forge.ActionsConfig{Servers: c.Actions.Servers, Blobs: actionCache(tmp)})
	if err != nil {
		return nil, err
	}
	cfg.Repository = repository(ctx, l.repos, c)
	cfg.Actions, cfg.Egress = c.Actions.engine(from), c.Egress.Level
	cfg.Actions.OwnLock, cfg.OwnEgress = true, true // a work tree has no other branch that could decide
	l.engine, err = engine.New(cfg)
	return l, err
}

func localRunner() sallyport.Principal {
	return sallyport.Principal{Kind: sallyport.Runner, ID: "local", Name: "local"}
}

// LocalPlan compiles the workflows that Local would start, and runs nothing. What they use of
// others may be missing from the plans, with a warning.
func LocalPlan(ctx context.Context, c LocalConfig) ([]engine.Planned, error) {
	tmp, err := os.MkdirTemp("", "sallyport-plan-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	ctx = sallyport.WithPrincipal(ctx, operator())
	l, err := openLocal(ctx, c, tmp)
	if err != nil {
		return nil, err
	}
	defer l.close()
	ctx, push, sel, err := l.event(ctx, c)
	if err != nil {
		return nil, err
	}
	if push.Event == "" {
		if push.Event, err = l.engine.EventFor(ctx, push, sel); err != nil {
			return nil, err
		}
	}
	sel.Outline = true
	return l.engine.Plan(ctx, push, sel)
}

// start imports the directory and triggers its workflows.
func (l *local) start(ctx context.Context, c LocalConfig) ([]sallyport.Run, error) {
	ctx, push, sel, err := l.event(ctx, c)
	if err != nil {
		return nil, err
	}
	return l.engine.Trigger(ctx, push, sel)
}

// event imports the directory and says what happens to it: the push, what of it
// is asked for, and the context of who does it.
func (l *local) event(ctx context.Context, c LocalConfig) (context.Context, sallyport.Push, engine.Selection, error) {
	fail := func(err error) (context.Context, sallyport.Push, engine.Selection, error) {
		return ctx, sallyport.Push{}, engine.Selection{}, err
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return fail(err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fail(sallyport.Errorf(sallyport.CodeInvalid, "%s is not a directory", c.Dir).WithHint("name a repository with -C"))
	}
	if l.project, err = l.engine.Services().Projects.CreateProject(ctx, projectName(dir), "main"); err != nil {
		return fail(err)
	}
	commit, branch, err := l.repos.Import(ctx, l.project.ID, dir)
	if err != nil {
		return fail(err)
	}
	files, err := l.workflows(ctx, c, dir, commit)
	if err != nil {
		return fail(err)
	}
	push := sallyport.Push{
		Project: l.project.ID, Event: c.Event, Ref: "refs/heads/" + branch, Commit: commit, Tier: sallyport.TierMember,
		Payload: c.Payload, Inputs: c.Inputs,
	}
	if push.Event == "" && len(c.Inputs) > 0 {
		push.Event = "workflow_dispatch"
	}
	actor, err := fromPayload(&push)
	if err != nil {
		return fail(err)
	}
	if actor != "" {
		who := sallyport.PrincipalFrom(ctx)
		who.Name = actor
		ctx = sallyport.WithPrincipal(ctx, who)
	}
	return ctx, push, engine.Selection{Workflows: files, Job: c.Job, Lenient: len(c.Payload) == 0, Matrix: c.Matrix, Env: c.Env}, nil
}

// fromPayload takes from a given payload what an event's ref and type are, and
// who caused it; "" if it does not say.
func fromPayload(p *sallyport.Push) (actor string, err error) {
	if len(p.Payload) == 0 {
		return "", nil
	}
	var v struct {
		Action string `json:"action"`
		Ref    string `json:"ref"`
		Number int64  `json:"number"`
		Sender struct {
			Login string `json:"login"`
		} `json:"sender"`
	}
	if err := json.Unmarshal(p.Payload, &v); err != nil || !bytes.HasPrefix(bytes.TrimSpace(p.Payload), []byte("{")) {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "the payload is not an event: a JSON object with its action, ref, number and sender").
			WithHint("give the event as GitHub would send it")
	}
	p.Action = v.Action
	switch {
	case strings.HasPrefix(v.Ref, "refs/"):
		p.Ref = v.Ref
	case p.Event == "pull_request" && v.Number > 0:
		p.Ref = fmt.Sprintf("refs/pull/%d/merge", v.Number)
	}
	if login.MatchString(v.Sender.Login) {
		actor = v.Sender.Login
	}
	return actor, nil
}

// login is the name of an account.
var login = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.\[\]-]{0,60}$`)

// workflows turns the files that were named, relative to the directory or to
// the repository, into paths in the repository.
func (l *local) workflows(ctx context.Context, c LocalConfig, dir, commit string) ([]string, error) {
	var out []string
	for _, w := range c.Workflows {
		p, err := l.inRepository(ctx, dir, commit, w)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (l *local) inRepository(ctx context.Context, dir, commit, file string) (string, error) {
	candidates := []string{filepath.ToSlash(filepath.Clean(file)), ".github/workflows/" + filepath.Base(file)}
	if abs, err := filepath.Abs(file); err == nil {
		for at := dir; at != "/"; at = filepath.Dir(at) { // the repository's root is dir or above it
			if rel, err := filepath.Rel(at, abs); err == nil && filepath.IsLocal(rel) {
				candidates = append(candidates, filepath.ToSlash(rel))
			}
		}
	}
	for _, p := range candidates {
		if !filepath.IsLocal(p) {
			continue
		}
		if _, err := l.repos.ReadFile(ctx, l.project.ID, commit, p, 1<<20); err == nil {
			return p, nil
		}
	}
	return "", sallyport.Errorf(sallyport.CodeInvalid, "there is no workflow %s in the repository", file).WithHint("give its path in the repository, as .github/workflows/ci.yml")
}

// repository is what github.repository is in a local run: what the payload says, else what the
// work tree's origin is, else local/ and the name of the directory.
func repository(ctx context.Context, repos *forge.Git, c LocalConfig) string {
	var v struct {
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
	}
	_ = json.Unmarshal(c.Payload, &v) // one of another shape is refused later
	if fullName.MatchString(v.Repository.FullName) {
		return v.Repository.FullName
	}
	if owner, name, ok := repos.Origin(ctx, c.Dir); ok {
		return owner + "/" + name
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		dir = c.Dir
	}
	return "local/" + projectName(dir)
}

var fullName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

// projectName makes a project's name from a directory's.
func projectName(dir string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		default:
			return '-'
		}
	}, filepath.Base(dir)), "-_.")
	if len(name) > 60 {
		name = name[:60]
	}
	if sallyport.ValidName("project", name) != nil || engine.Reserved(name) {
		return "local"
	}
	return name
}

// Unservable returns the jobs that wait for a runner which is not here, with the labels it would need.
func Unservable(jobs []sallyport.Job) map[string][]string {
	have := labels()
	out := make(map[string][]string)
	for _, j := range jobs {
		if j.Status != sallyport.StatusQueued {
			continue
		}
		for _, l := range j.Labels {
			if !slices.ContainsFunc(have, func(h string) bool { return strings.EqualFold(h, l) }) {
				out[j.Name] = j.Labels
			}
		}
	}
	return out
}

// InvalidWorkflow is the error of a workflow that does not compile, with every place.
type InvalidWorkflow = engine.InvalidWorkflow

func itoa(n int) string { return fmt.Sprint(n) }
