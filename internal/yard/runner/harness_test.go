package runner

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// hostSandbox runs processes straight on the host: it isolates nothing and
// exists to test what steps mean. Its rooms see the job's directories where they are.
type hostSandbox struct {
	mu       sync.Mutex
	prepared int
	alive    int
	prepare  func() error
}

func (h *hostSandbox) Check(context.Context) (sallyport.Isolation, error) {
	return sallyport.Isolation{Level: "standard", Runtime: "host-test", Network: "none"}, nil
}

func (h *hostSandbox) Sweep(context.Context) error { return nil }

func (h *hostSandbox) Prepare(ctx context.Context, spec sallyport.RoomSpec) (sallyport.Room, error) {
	if h.prepare != nil {
		if err := h.prepare(); err != nil {
			return nil, err
		}
	}
	for _, b := range spec.Binds {
		if !strings.Contains(b.Target, "/"+actionsDir+"/") {
			continue // the job sees it where it is
		}
		if err := os.CopyFS(b.Target, os.DirFS(b.Source)); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prepared++
	h.alive++
	life, cancel := context.WithCancel(context.Background())
	return &hostRoom{box: h, life: life, cancel: cancel}, nil
}

type hostRoom struct {
	box    *hostSandbox
	life   context.Context
	cancel context.CancelFunc
	once   sync.Once
}

func (r *hostRoom) Isolation() sallyport.Isolation {
	i, _ := r.box.Check(context.Background())
	return i
}

func (r *hostRoom) Destroy(context.Context) error {
	r.once.Do(func() {
		r.cancel()
		r.box.mu.Lock()
		r.box.alive--
		r.box.mu.Unlock()
	})
	return nil
}

func (r *hostRoom) Exec(ctx context.Context, spec sallyport.ExecSpec) (sallyport.ExecResult, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(r.life, func() { stop(errors.New("the room is gone")) })()
	if ctx.Err() != nil {
		return sallyport.ExecResult{}, context.Cause(ctx)
	}
	var env []string
	bin := spec.Argv[0]
	for _, e := range spec.Env {
		env = append(env, e.Name+"="+e.Value)
		if e.Name == "PATH" && !strings.Contains(bin, "/") {
			for _, dir := range filepath.SplitList(e.Value) {
				if st, err := os.Stat(filepath.Join(dir, bin)); err == nil && st.Mode()&0o111 != 0 {
					bin = filepath.Join(dir, bin)
					break
				}
			}
		}
	}
	cmd := exec.Command(bin, spec.Argv[1:]...)
	cmd.Args[0] = spec.Argv[0]
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, spec.Dir, spec.Stdin, spec.Stdout, spec.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return sallyport.ExecResult{}, sallyport.Errorf(sallyport.CodeInvalid, "start %s: %v", spec.Argv[0], err)
	}
	unhook := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err := cmd.Wait()
	if !unhook() {
		return sallyport.ExecResult{ExitCode: 137, Signal: "killed"}, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return sallyport.ExecResult{}, err
	}
	res := sallyport.ExecResult{ExitCode: cmd.ProcessState.ExitCode()}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		res.ExitCode, res.Signal = 128+int(ws.Signal()), ws.Signal().String()
	}
	return res, nil
}

// fakeYard is a control plane for one runner, in memory.
type fakeYard struct {
	mu        sync.Mutex
	leases    chan *sallyport.Lease
	log       []byte
	reports   []sallyport.JobReport
	artifacts map[string][]byte
	claims    []sallyport.Claim
	caches    fakeCaches
	source    func(depth int) (io.ReadCloser, error)
	trees     map[sallyport.Digest][]byte
	order     sallyport.Order
	beatErr   error
	beats     int
	result    chan sallyport.JobResult
	appendErr func(n int) error // for the nth append
	appends   int
	seen      map[string]chan struct{} // closed when the log holds the key
}

func newFakeYard() *fakeYard {
	return &fakeYard{leases: make(chan *sallyport.Lease, 100), artifacts: map[string][]byte{}, order: sallyport.OrderContinue,
		result: make(chan sallyport.JobResult, 100), seen: map[string]chan struct{}{}}
}

func (y *fakeYard) Lease(ctx context.Context, _ sallyport.LeaseRequest) (*sallyport.Lease, error) {
	select {
	case l := <-y.leases:
		return l, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (y *fakeYard) Heartbeat(context.Context, sallyport.LeaseRef) (sallyport.Order, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.beats++
	return y.order, y.beatErr
}

func (y *fakeYard) AppendLog(_ context.Context, _ sallyport.LeaseRef, offset int64, data []byte) (int64, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.appends++
	if y.appendErr != nil {
		if err := y.appendErr(y.appends); err != nil {
			return int64(len(y.log)), err
		}
	}
	end := int64(len(y.log))
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return end, sallyport.Errorf(sallyport.CodeInvalid, "a piece of log must end with a line end")
	}
	if offset > end {
		return end, sallyport.Errorf(sallyport.CodeConflict, "offset %d is beyond %d", offset, end)
	}
	if skip := end - offset; skip < int64(len(data)) {
		y.log = append(y.log, data[skip:]...)
	}
	for key, ch := range y.seen {
		if bytes.Contains(y.log, []byte(key)) {
			close(ch)
			delete(y.seen, key)
		}
	}
	return int64(len(y.log)), nil
}

// await returns a channel that is closed when the log holds text.
func (y *fakeYard) await(text string) <-chan struct{} {
	y.mu.Lock()
	defer y.mu.Unlock()
	ch := make(chan struct{})
	y.seen[text] = ch
	return ch
}

func (y *fakeYard) setOrder(o sallyport.Order, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.order, y.beatErr = o, err
}

func (y *fakeYard) Report(_ context.Context, _ sallyport.LeaseRef, r sallyport.JobReport) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.reports = append(y.reports, r)
	return nil
}

func (y *fakeYard) Image(context.Context, sallyport.LeaseRef, string) (sallyport.Image, error) {
	return sallyport.Image{}, sallyport.Errorf(sallyport.CodeUnavailable, "no images")
}

func (y *fakeYard) ImageLayer(context.Context, sallyport.LeaseRef, string, sallyport.Digest) (io.ReadCloser, error) {
	return nil, sallyport.Errorf(sallyport.CodeNotFound, "no images")
}

// completed reports whether a report had the step as completed.
func (y *fakeYard) completed(step int) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.ContainsFunc(y.reports, func(r sallyport.JobReport) bool {
		return step < len(r.Steps) && r.Steps[step].Status == sallyport.StatusCompleted
	})
}

func (y *fakeYard) Source(_ context.Context, _ sallyport.LeaseRef, depth int) (io.ReadCloser, error) {
	if y.source == nil {
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no repository")
	}
	return y.source(depth)
}

func (y *fakeYard) Action(_ context.Context, _ sallyport.LeaseRef, tree sallyport.Digest) (io.ReadCloser, error) {
	b, ok := y.trees[tree]
	if !ok {
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no tree %s", tree)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (y *fakeYard) PutArtifact(_ context.Context, _ sallyport.LeaseRef, name string, content io.Reader) (sallyport.Artifact, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if _, taken := y.artifacts[name]; taken { // without reading what was sent
		return sallyport.Artifact{}, sallyport.Errorf(sallyport.CodeConflict, "the name %q is taken", name)
	}
	b, err := io.ReadAll(content)
	if err != nil {
		return sallyport.Artifact{}, err
	}
	y.artifacts[name] = b
	return sallyport.Artifact{ID: "artifact-" + sallyport.ArtifactID(name), Name: name, Digest: sallyport.DigestOf(b), Size: int64(len(b))}, nil
}

func (y *fakeYard) DeleteArtifact(_ context.Context, _ sallyport.LeaseRef, name string) (sallyport.Artifact, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if _, ok := y.artifacts[name]; !ok {
		return sallyport.Artifact{}, sallyport.Errorf(sallyport.CodeNotFound, "there is no artifact %q in this run", name)
	}
	delete(y.artifacts, name)
	return sallyport.Artifact{Name: name}, nil
}

func (y *fakeYard) GetArtifact(_ context.Context, _ sallyport.LeaseRef, _ sallyport.RunID, name string) (sallyport.Artifact, io.ReadCloser, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	b, ok := y.artifacts[name]
	if !ok {
		return sallyport.Artifact{}, nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no artifact %q in this run", name)
	}
	return sallyport.Artifact{Name: name}, io.NopCloser(bytes.NewReader(b)), nil
}

func (y *fakeYard) Artifacts(context.Context, sallyport.LeaseRef, sallyport.RunID) ([]sallyport.Artifact, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	var out []sallyport.Artifact
	for _, name := range slices.Sorted(maps.Keys(y.artifacts)) {
		out = append(out, sallyport.Artifact{ID: "artifact-" + sallyport.ArtifactID(name), Name: name})
	}
	return out, nil
}

func (y *fakeYard) IDToken(_ context.Context, _ sallyport.LeaseRef, audience string) (string, error) {
	return "id-token-for-" + audience, nil
}

func (y *fakeYard) Attest(_ context.Context, _ sallyport.LeaseRef, c sallyport.Claim) (sallyport.Statement, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.claims = append(y.claims, c)
	return sallyport.Statement{ID: "statement-1", LogIndex: 7, Bundle: []byte(`{"bundle":1}`), Identity: "https://ci.example/jobs/demo"}, nil
}

func (y *fakeYard) Record(context.Context, sallyport.LeaseRef, int, sallyport.DoorRecord) error {
	return nil
}

func (y *fakeYard) Finish(_ context.Context, _ sallyport.LeaseRef, r sallyport.JobResult) error {
	y.result <- r
	return nil
}

var (
	_ sallyport.Sandbox = (*hostSandbox)(nil)
	_ sallyport.Yard    = (*fakeYard)(nil)
)

func (*hostSandbox) Volume(context.Context, sallyport.Limits) (sallyport.Volume, error) {
	return nil, sallyport.Errorf(sallyport.CodeUnavailable, "no volumes on the host")
}

// trial is one job to try.
type trial struct {
	yaml     string                       // a workflow; its first job is run
	files    map[string]string            // of the repository: local actions
	remotes  map[string]map[string]string // of other repositories, by OWNER/NAME@REF
	github   map[string]any               // added to the github context
	contexts map[string]string
	secrets  map[string]string
	tainted  [][]string
	timeout  time.Duration
	ttl      time.Duration
	yard     *fakeYard
	box      *hostSandbox
	config   func(*Config)
	commit   string
	during   func(y *fakeYard) // runs beside the job
}

// ended is how a trial ended.
type ended struct {
	sallyport.JobResult
	lines []sallyport.LogLine
	yard  *fakeYard
}

// text returns the log's lines of output, without the runner's own and what is in the
// group that announces a step.
func (e ended) text() string {
	var b strings.Builder
	for _, l := range e.lines {
		if l.Kind == sallyport.LogOutput {
			b.WriteString(l.Text + "\n")
		}
	}
	return b.String()
}

func (e ended) all() string {
	var b strings.Builder
	for _, l := range e.lines {
		fmt.Fprintf(&b, "%d %s|%s\n", l.Step, l.Kind, l.Text)
	}
	return b.String()
}

func (e ended) step(n int) sallyport.Step { return e.Steps[n-1] }

func compile(t testing.TB, tr *trial, contexts map[string]json.RawMessage) *sallyport.Plan {
	t.Helper()
	file, diags := workflow.Parse(".github/workflows/ci.yml", []byte(tr.yaml))
	for _, d := range diags {
		if d.Severity == "error" {
			t.Fatalf("parse: %s", d)
		}
	}
	plan, diags := workflow.Compile(workflow.CompileInput{
		File: file, Event: workflow.Event{Name: "push", Ref: "refs/heads/main", Payload: json.RawMessage(`{}`)},
		Contexts: contexts,
		ReadFile: func(name string) ([]byte, error) {
			if s, ok := tr.files[name]; ok {
				return []byte(s), nil
			}
			return nil, sallyport.Errorf(sallyport.CodeNotFound, "no file %s", name)
		},
		Remote: tr.remote(t),
	})
	if plan == nil {
		t.Fatalf("compile: %v", diags)
	}
	return plan
}

// remote locks the trees of other repositories and gives them to the yard.
func (tr *trial) remote(t testing.TB) func(repository, ref string) (*workflow.Remote, error) {
	return func(repository, ref string) (*workflow.Remote, error) {
		files, ok := tr.remotes[repository+"@"+ref]
		if !ok {
			return nil, sallyport.Errorf(sallyport.CodeNotFound, "no repository %s@%s", repository, ref)
		}
		var entries []tarEntry
		for _, name := range slices.Sorted(maps.Keys(files)) {
			entries = append(entries, tarEntry{name: name, body: files[name]})
		}
		tree := makeTar(t, entries...)
		if tr.yard.trees == nil {
			tr.yard.trees = map[sallyport.Digest][]byte{}
		}
		tr.yard.trees[sallyport.DigestOf(tree)] = tree
		return &workflow.Remote{
			Source: sallyport.PlanSource{Repository: repository, Ref: ref, Commit: strings.Repeat("b", 40), Digest: sallyport.DigestOf(tree)},
			ReadFile: func(name string) ([]byte, error) {
				if s, ok := files[name]; ok {
					return []byte(s), nil
				}
				return nil, sallyport.Errorf(sallyport.CodeNotFound, "no file %s", name)
			},
		}, nil
	}
}

func newTestRunner(t testing.TB, yard sallyport.Yard, box sallyport.Sandbox, config func(*Config)) *Runner {
	t.Helper()
	cfg := Config{Yard: yard, Sandbox: box, WorkDir: t.TempDir(), ID: "runner-1", Name: "tester",
		Path: os.Getenv("PATH"), Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if config != nil {
		config(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.layout = func(parent, project string, volume sallyport.Volume) (*layout, error) {
		l, err := newLayout(parent, project, volume)
		if err == nil {
			l.home, l.given, l.work = filepath.Join(l.dir, "home"), filepath.Join(l.dir, "given"), filepath.Join(l.dir, "work")
			err = os.Mkdir(l.home, 0o755)
		}
		return l, err
	}
	return r
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) { w.t.Logf("%s", p); return len(p), nil }

func (tr *trial) lease(t testing.TB) *sallyport.Lease {
	t.Helper()
	github := map[string]any{
		"repository": "octo/hello", "repository_owner": "octo", "ref": "refs/heads/main", "ref_name": "main", "ref_type": "branch",
		"sha": strings.Repeat("a", 40), "event_name": "push", "actor": "mona", "run_id": "7", "run_number": "7",
		"run_attempt": "1", "workflow": "CI", "server_url": "http://sallyport.test", "event": map[string]any{},
	}
	for k, v := range tr.github {
		github[k] = v
	}
	raw, err := json.Marshal(github)
	if err != nil {
		t.Fatal(err)
	}
	contexts := map[string]json.RawMessage{"github": raw, "inputs": []byte(`{}`), "vars": []byte(`{"V":"var"}`), "needs": []byte(`{}`),
		"matrix": []byte(`{}`), "strategy": []byte(`{}`)}
	for k, v := range tr.contexts {
		contexts[k] = json.RawMessage(v)
	}
	plan := compile(t, tr, contexts)
	commit := tr.commit
	if commit == "" {
		commit = strings.Repeat("a", 40)
	}
	id := sallyport.NewID[sallyport.JobID](time.Now())
	return &sallyport.Lease{
		Ref: sallyport.LeaseRef{Job: id, Token: "t"}, TTL: tr.ttl, Project: "octo/hello",
		Run:  sallyport.Run{ID: "run", Ref: "refs/heads/main", Commit: commit},
		Job:  sallyport.Job{ID: id, Key: plan.Jobs[0].Key, Name: plan.Jobs[0].Key, Attempt: 1},
		Plan: plan, Timeout: tr.timeout, Contexts: contexts, Tainted: tr.tainted, Secrets: tr.secrets,
	}
}

// try runs a job through a runner, from lease to result.
func (tr trial) try(t testing.TB) ended {
	t.Helper()
	if tr.yard == nil {
		tr.yard = newFakeYard()
	}
	if tr.box == nil {
		tr.box = &hostSandbox{}
	}
	if tr.ttl == 0 {
		tr.ttl = time.Minute
	}
	r := newTestRunner(t, tr.yard, tr.box, tr.config)
	tr.yard.leases <- tr.lease(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	if tr.during != nil {
		go tr.during(tr.yard)
	}
	e := ended{yard: tr.yard}
	select {
	case e.JobResult = <-tr.yard.result:
	case err := <-done:
		t.Fatalf("Run ended: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("the job did not end")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	tr.yard.mu.Lock()
	defer tr.yard.mu.Unlock()
	e.lines = decodeLog(t, tr.yard.log)
	if e.LogEnd != int64(len(tr.yard.log)) {
		t.Errorf("LogEnd = %d, want %d", e.LogEnd, len(tr.yard.log))
	}
	tr.box.mu.Lock()
	defer tr.box.mu.Unlock()
	if tr.box.alive != 0 {
		t.Errorf("%d rooms are alive", tr.box.alive)
	}
	left, err := os.ReadDir(r.cfg.WorkDir)
	left = slices.DeleteFunc(left, func(e fs.DirEntry) bool { return e.Name() == treesDir })
	if err != nil || len(left) > 0 {
		t.Errorf("left in the work directory: %v, %v", left, err)
	}
	return e
}

func decodeLog(t testing.TB, b []byte) []sallyport.LogLine {
	t.Helper()
	var out []sallyport.LogLine
	for line := range bytes.Lines(b) {
		var l sallyport.LogLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		out = append(out, l)
	}
	return out
}

// steps returns a workflow with one job of the given steps.
func steps(yaml string) string {
	return "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n" + indent(yaml, 6)
}

func indent(s string, n int) string {
	var b strings.Builder
	for line := range strings.Lines(strings.Trim(s, "\n") + "\n") {
		b.WriteString(strings.Repeat(" ", n) + line)
	}
	return b.String()
}

type tarEntry struct {
	name, body string
	kind       byte
	mode       int64
	link       string
}

func makeTar(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o644
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.body)), Linkname: e.link}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarNames(t testing.TB, b []byte) map[string]fs.FileMode {
	t.Helper()
	out := map[string]fs.FileMode{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s has an owner or a time: %+v", h.Name, h)
		}
		out[h.Name] = fs.FileMode(h.Mode)
	}
}
