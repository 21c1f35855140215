package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/blobstore"
	"github.com/sallyport-ci/sallyport/internal/forge"
	"github.com/sallyport-ci/sallyport/internal/policy"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
)

// house is an engine on a real store, real repositories and real blobs. Its
// clock is set by hand.
type house struct {
	t      *testing.T
	e      *Engine
	store  sallyport.Store
	s      sallyport.Services
	y      sallyport.Yard
	admin  context.Context
	runner context.Context
	p      sallyport.Project
	dir    string
	skip   string          // a queue that work leaves alone
	pusher context.Context // who pushes; nil = admin
	says   string          // message of the next commits; "" = change BRANCH

	mu  sync.Mutex
	now time.Time
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// files of a repository, by path.
type files map[string]string

func newHouse(t *testing.T, change ...func(*Config)) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	log := slog.New(slog.DiscardHandler)
	var err error
	h.store, err = sqlstore.Open(t.Context(), sqlstore.Config{DSN: "sqlite:" + filepath.Join(h.dir, "db"), Clock: h.clock, Log: log})
	check(t, err)
	t.Cleanup(func() { check(t, h.store.Close()) })
	keys := sallyporttest.NewKMS()
	blobs, err := blobstore.OpenDir(blobstore.Config{Dir: filepath.Join(h.dir, "blobs"), KMS: keys})
	check(t, err)
	logs, err := blobstore.OpenLogs(blobstore.Config{Dir: filepath.Join(h.dir, "logs"), KMS: keys})
	check(t, err)
	repos, err := forge.New(t.Context(), forge.Config{Dir: filepath.Join(h.dir, "repos"), Log: log})
	check(t, err)
	gates, err := policy.New()
	check(t, err)
	c := Config{Store: h.store, Repositories: repos, Blobs: blobs, Logs: logs, Gates: gates, Instance: attest.Instance("ci.example"), Untrusted: StrangersStandard,
		BaseURL: "http://ci.example", Version: "test", Clock: h.clock, Log: log,
		Known: []sallyport.Principal{{Kind: sallyport.Person, ID: "u1", Name: "ada", Admin: true}, {Kind: sallyport.Runner, ID: "r1", Name: "r1"}}}
	for _, f := range change {
		f(&c)
	}
	h.e, err = New(c)
	check(t, err)
	h.s, h.y = h.e.Services(), h.e.Yard()
	h.admin = sallyport.WithPrincipal(t.Context(), sallyport.Principal{Kind: sallyport.Person, ID: "u1", Name: "ada", Admin: true})
	h.runner = sallyport.WithPrincipal(t.Context(), sallyport.Principal{Kind: sallyport.Runner, ID: "r1", Name: "r1"})
	h.p, err = h.s.Projects.CreateProject(h.admin, "demo", "main")
	check(t, err)
	return h
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// work runs the stages' work that is due until there is none. Watching is left
// out, for that of a live deployment has no end.
func (h *house) work() {
	h.t.Helper()
	for busy := true; busy; {
		busy = false
		for _, s := range h.e.river() {
			if s.queue == sallyport.QueueWatch || s.queue == h.skip {
				continue
			}
			w, _, err := h.e.claim(h.t.Context(), s.queue)
			check(h.t, err)
			if w != nil {
				busy = true
				h.e.do(system(h.t.Context(), s.queue), s, *w)
			}
		}
	}
}

// push commits the files on a branch and takes the push in.
func (h *house) push(branch string, f files) sallyport.Push {
	h.t.Helper()
	tree := h.t.TempDir()
	for name, content := range f {
		check(h.t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755))
		check(h.t, os.WriteFile(filepath.Join(tree, name), []byte(content), 0o644))
	}
	bare := filepath.Join(h.dir, "repos", string(h.p.ID)+".git")
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-c", "user.name=ada", "-c", "user.email=ada@example.com"}, args...)...)
		cmd.Dir = tree
		out, err := cmd.CombinedOutput()
		if err != nil {
			h.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", branch)
	git("add", "-A")
	message := "change " + branch
	if h.says != "" {
		message = h.says
	}
	git("commit", "-q", "-m", message)
	git("push", "-q", "-f", bare, branch)
	by := h.admin
	if h.pusher != nil {
		by = h.pusher
	}
	pushes, err := h.s.Projects.Pushed(by, h.p.ID, []sallyport.RefUpdate{{Ref: "refs/heads/" + branch, Old: sallyport.ZeroCommit, New: git("rev-parse", "HEAD")}})
	check(h.t, err)
	if len(pushes) != 1 {
		h.t.Fatalf("got %d pushes, want 1", len(pushes))
	}
	h.work()
	return pushes[0]
}

const workflowFile = ".github/workflows/ci.yml"

// run pushes a workflow to main and returns its run.
func (h *house) run(workflow string) sallyport.RunID {
	h.t.Helper()
	push := h.push("main", files{workflowFile: workflow, "salt": h.clock().String()})
	list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Push: push.ID})
	check(h.t, err)
	if len(list) != 1 {
		h.t.Fatalf("got %d runs, want 1", len(list))
	}
	return list[0].ID
}

// lease takes the next job; nil when there is none.
func (h *house) lease() *sallyport.Lease {
	h.t.Helper()
	l, err := (yard{h.e}).tryLease(h.runner, sallyport.LeaseRequest{Runner: "r1", Labels: []string{"linux", "ubuntu-latest"}})
	check(h.t, err)
	return l
}

// finish ends a leased job.
func (h *house) finish(l *sallyport.Lease, how sallyport.Conclusion, outputs map[string]string) {
	h.t.Helper()
	check(h.t, h.y.Finish(h.runner, l.Ref, sallyport.JobResult{Conclusion: how, Outputs: outputs, Cause: "as the test says"}))
	h.work()
}

// states returns "key=state" of all jobs, in order.
func (h *house) states(id sallyport.RunID) string {
	h.t.Helper()
	r, jobs, err := h.s.Runs.Run(h.admin, id)
	check(h.t, err)
	var out []string
	for _, j := range jobs {
		st := string(j.Status)
		if j.Status == sallyport.StatusCompleted {
			st = string(j.Conclusion)
		}
		out = append(out, j.Name+"="+st)
	}
	st := string(r.Status)
	if r.Status == sallyport.StatusCompleted {
		st = string(r.Conclusion)
	}
	return strings.Join(out, " ") + " run=" + st
}

func (h *house) want(id sallyport.RunID, want string) {
	h.t.Helper()
	if got := h.states(id); got != want {
		h.t.Errorf("got  %s\nwant %s", got, want)
	}
}

const head = "on: push\njobs:\n"

func step(name string) string {
	return "    runs-on: ubuntu-latest\n    steps: [{run: " + name + "}]\n"
}

func TestNeedsAndConditions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run(head +
		"  a:\n" + step("a") +
		"  b:\n    needs: a\n" + step("b") +
		"  c:\n    needs: [a, b]\n    if: always()\n" + step("c") +
		"  d:\n    needs: c\n" + step("d") +
		"  e:\n    needs: a\n    if: failure()\n" + step("e"))
	h.want(id, "a=queued b=waiting c=waiting d=waiting e=waiting run=queued")
	l := h.lease()
	h.want(id, "a=in_progress b=waiting c=waiting d=waiting e=waiting run=in_progress")
	if h.lease() != nil {
		t.Fatal("a job was leased before those it needs were done")
	}
	h.finish(l, sallyport.Failure, nil)
	h.want(id, "a=failure b=skipped c=queued d=waiting e=queued run=in_progress")
	h.finish(h.lease(), sallyport.Success, nil)
	h.finish(h.lease(), sallyport.Success, nil)
	// d is skipped: an ancestor failed, whatever stood between.
	h.want(id, "a=failure b=skipped c=success d=skipped e=success run=failure")
}

func TestOutputsReachThoseWhoNeedThem(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run(head + "  a:\n" + step("a") + "  b:\n    needs: a\n    if: needs.a.outputs.go == 'yes'\n    name: got ${{ needs.a.outputs.what }}\n" + step("b"))
	h.finish(h.lease(), sallyport.Success, map[string]string{"go": "yes", "what": "it"})
	h.want(id, "a=success got it=queued run=in_progress")
	l := h.lease()
	var needs map[string]struct {
		Result  string
		Outputs map[string]string
	}
	check(t, json.Unmarshal(l.Contexts["needs"], &needs))
	if needs["a"].Result != "success" || needs["a"].Outputs["what"] != "it" {
		t.Errorf("got needs %s", l.Contexts["needs"])
	}
}

func TestTaintReachesThoseWhoNeedIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.run(head + "  a:\n" + step("a") + "  b:\n    needs: a\n    strategy: {matrix: {n: ['${{ needs.a.outputs.title }}']}}\n" + step("b") +
		"  c:\n    needs: a\n    strategy: {matrix: {n: ['${{ needs.a.outputs.count }}']}}\n" + step("c"))
	a := h.lease()
	if a.Tainted != nil {
		t.Errorf("a job that needs none has %q", a.Tainted)
	}
	check(t, h.y.Finish(h.runner, a.Ref, sallyport.JobResult{Conclusion: sallyport.Success,
		Outputs: map[string]string{"title": "$(id)", "count": "1"}, Tainted: []string{"title", "not an output"}}))
	h.work()
	title := []string{"needs", "a", "outputs", "title"}
	if b := h.lease(); !reflect.DeepEqual(b.Tainted, [][]string{title, {"matrix"}}) {
		t.Errorf("b has %q", b.Tainted)
	}
	if c := h.lease(); !reflect.DeepEqual(c.Tainted, [][]string{title}) {
		t.Errorf("c has %q", c.Tainted)
	}
}

func TestInputsInThePayload(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const on = "on:\n  workflow_dispatch:\n    inputs:\n      level: {default: low}\n      dry: {type: boolean}\n      n: {type: number, default: 1.50}\njobs:\n"
	push := h.push("main", files{workflowFile: on + "  a:\n    if: github.event.inputs.dry == 'true' && inputs.dry\n" + step("a")})
	_, err := h.s.Runs.Dispatch(h.admin, push.Project, workflowFile, "", []byte(`{"dry":"true"}`))
	check(t, err)
	var github struct {
		Event struct {
			Inputs map[string]string
			Ref    string
		}
	}
	check(t, json.Unmarshal(h.lease().Contexts["github"], &github))
	if want := map[string]string{"level": "low", "dry": "true", "n": "1.5"}; !maps.Equal(github.Event.Inputs, want) || github.Event.Ref != "refs/heads/main" {
		t.Errorf("event %+v, want inputs %v", github.Event, want)
	}
}

func TestMatrix(t *testing.T) {
	t.Parallel()
	const matrix = "  a:\n    strategy: {max-parallel: 2, fail-fast: %s, matrix: {n: [1, 2, 3]}}\n"
	t.Run("fail-fast", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		id := h.run(head + strings.Replace(matrix, "%s", "true", 1) + step("a"))
		h.want(id, "a (1)=queued a (2)=queued a (3)=waiting run=queued")
		one, two := h.lease(), h.lease()
		h.finish(one, sallyport.Failure, nil)
		h.want(id, "a (1)=failure a (2)=in_progress a (3)=cancelled run=in_progress")
		order, err := h.y.Heartbeat(h.runner, two.Ref)
		if err != nil || order != sallyport.OrderCancel {
			t.Errorf("heartbeat: got %q, %v; want cancel", order, err)
		}
		h.finish(two, sallyport.Cancelled, nil)
		h.want(id, "a (1)=failure a (2)=cancelled a (3)=cancelled run=failure")
	})
	t.Run("all of it", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		id := h.run(head + strings.Replace(matrix, "%s", "false", 1) + step("a"))
		h.finish(h.lease(), sallyport.Failure, nil)
		h.finish(h.lease(), sallyport.Success, nil)
		h.finish(h.lease(), sallyport.Success, nil)
		h.want(id, "a (1)=failure a (2)=success a (3)=success run=failure")
	})
	t.Run("from an output", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		id := h.run(head + "  list:\n" + step("l") + "  a:\n    needs: list\n    strategy: {matrix: {n: '${{ fromJSON(needs.list.outputs.all) }}'}}\n" + step("a"))
		h.finish(h.lease(), sallyport.Success, map[string]string{"all": `["x","y"]`})
		h.want(id, "list=success a (x)=queued a (y)=queued run=in_progress")
	})
	t.Run("tolerated", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		id := h.run(head + "  a:\n    continue-on-error: true\n" + step("a") + "  b:\n    needs: a\n" + step("b"))
		h.finish(h.lease(), sallyport.Failure, nil)
		h.finish(h.lease(), sallyport.Success, nil)
		h.want(id, "a=failure b=success run=success")
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run(head + "  a:\n" + step("a") + "  b:\n    needs: a\n" + step("b") + "  tidy:\n    needs: a\n    if: always()\n" + step("tidy"))
	l := h.lease()
	check(t, h.s.Runs.Cancel(h.admin, id))
	h.want(id, "a=in_progress b=waiting tidy=waiting run=in_progress")
	h.finish(l, sallyport.Cancelled, nil)
	h.want(id, "a=cancelled b=cancelled tidy=queued run=in_progress")
	h.finish(h.lease(), sallyport.Success, nil)
	h.want(id, "a=cancelled b=cancelled tidy=success run=cancelled")
	if err := h.s.Runs.Cancel(h.admin, id); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("cancelling a completed run: %v", err)
	}
}

func TestConcurrencyGroup(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	flow := "on: push\nconcurrency: {group: 'g-${{ github.ref }}'}\njobs:\n  a:\n" + step("a")
	one := h.run(flow)
	l := h.lease()
	h.pass(time.Second)
	two := h.run(flow)
	h.pass(time.Second)
	three := h.run(flow)
	h.want(one, "a=in_progress run=in_progress")
	h.want(two, "a=cancelled run=cancelled") // replaced while it waited
	h.want(three, "a=waiting run=waiting")
	if h.lease() != nil {
		t.Fatal("two runs of a group are in progress")
	}
	h.finish(l, sallyport.Success, nil)
	h.want(three, "a=queued run=queued")

	h.pass(time.Second)
	newest := h.run(strings.Replace(flow, "}'}", "}', cancel-in-progress: true}", 1))
	h.want(three, "a=cancelled run=cancelled")
	h.want(newest, "a=queued run=queued")
}

func TestJobConcurrencyGroup(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	flow := head + "  a:\n    concurrency: deploy\n" + step("a")
	one := h.run(flow)
	h.pass(time.Second)
	two := h.run(flow)
	l := h.lease()
	if l == nil || h.lease() != nil {
		t.Fatal("want exactly one job of the group in progress")
	}
	h.finish(l, sallyport.Success, nil)
	h.want(one, "a=success run=success")
	h.want(two, "a=queued run=queued")
}

func TestInvalidWorkflowIsSeen(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run("on: push\njobs:\n  a:\n    needs: nothing\n" + step("a"))
	r, _, err := h.s.Runs.Run(h.admin, id)
	check(t, err)
	if r.Conclusion != sallyport.Failure || !strings.HasPrefix(r.Cause, workflowFile+":4:") {
		t.Errorf("got %s, cause %q; want a failure with the place", r.Conclusion, r.Cause)
	}
}

// A run is called by its run-name, else by what was pushed.
func TestTitle(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, c := range []struct{ workflow, want string }{
		{head + "  a:\n" + step("a"), "change main"},
		{"run-name: Ship ${{ github.ref_name }}\n" + head + "  a:\n" + step("a"), "Ship main"},
		{"on: push\njobs: nothing\n", "change main"},
	} {
		r, _, err := h.s.Runs.Run(h.admin, h.run(c.workflow))
		check(t, err)
		if r.Title != c.want {
			t.Errorf("%q: got title %q, want %q", c.workflow, r.Title, c.want)
		}
	}
}

// A runner that dies leaves its job to be tried again, not more than twice,
// and what it still sends is refused.
func TestLostRunner(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run(head + "  a:\n" + step("a"))
	var last *sallyport.Lease
	for attempt := 1; attempt <= maxJobAttempts; attempt++ {
		l := h.lease()
		if l == nil || l.Job.Attempt != attempt {
			t.Fatalf("attempt %d: got lease %+v", attempt, l)
		}
		if last != nil {
			if _, err := h.y.Heartbeat(h.runner, last.Ref); sallyport.ErrorCode(err) != sallyport.CodeConflict {
				t.Errorf("the lost lease still beats: %v", err)
			}
			if err := h.y.Finish(h.runner, last.Ref, sallyport.JobResult{Conclusion: sallyport.Success}); sallyport.ErrorCode(err) != sallyport.CodeConflict {
				t.Errorf("the lost lease still finishes: %v", err)
			}
		}
		last = l
		h.pass(2 * h.e.leaseTTL)
	}
	if h.lease() != nil {
		t.Fatal("the job was tried too often")
	}
	h.want(id, "a=failure run=failure")
	_, jobs, err := h.s.Runs.Run(h.admin, id)
	check(t, err)
	if !strings.Contains(jobs[0].Cause, "was lost during attempt 3") {
		t.Errorf("got cause %q", jobs[0].Cause)
	}
}

func TestLostRunnerWithSecretsIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) {
		c.Lend = func(context.Context, sallyport.Run, sallyport.Job) (map[string]string, error) {
			return map[string]string{"TOKEN": "12345678"}, nil
		}
	})
	id := h.run(head + "  a:\n" + step("a"))
	if l := h.lease(); l.Secrets["TOKEN"] != "12345678" {
		t.Fatalf("got secrets %v", l.Secrets)
	}
	check(t, h.e.RunnerGone(t.Context(), "r1"))
	h.want(id, "a=failure run=failure")
}

func TestReconcileTakesInWhatACrashLeft(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.push("main", files{workflowFile: head + "  a:\n" + step("a")})
	bare := filepath.Join(h.dir, "repos", string(h.p.ID)+".git")
	out, err := exec.Command("git", "-C", bare, "update-ref", "refs/heads/feature", "main").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h.pass(time.Second)
	for range 2 { // twice: it is idempotent
		check(t, h.e.Reconcile(t.Context()))
		h.work()
	}
	list, err := h.s.Runs.Runs(h.admin, sallyport.RunFilter{Project: h.p.ID})
	check(t, err)
	if len(list) != 2 || list[0].Ref != "refs/heads/feature" || list[0].Tier != sallyport.TierMember || list[1].Tier != sallyport.TierProtected {
		t.Errorf("got runs %+v", list)
	}
}

// Who may push may still not say what git did: a commit of another branch, or an
// old one, under the name of the protected branch would be signed as built from it.
func TestPushedBelievesTheRepositoryAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	first := h.push("main", files{"x": "1"})
	h.pass(time.Second)
	h.push("main", files{"x": "2"})
	h.pass(time.Second)
	feature := h.push("feature", files{"x": "3"})
	for _, u := range []sallyport.RefUpdate{
		{Ref: "refs/heads/main", New: feature.Commit},
		{Ref: "refs/heads/main", New: first.Commit},
		{Ref: "refs/heads/main", New: sallyport.ZeroCommit},
		{Ref: "refs/pull/1/head", New: feature.Commit},
	} {
		got, err := h.s.Projects.Pushed(h.admin, h.p.ID, []sallyport.RefUpdate{u})
		if sallyport.ErrorCode(err) != sallyport.CodeDenied || len(got) != 0 {
			t.Errorf("%s at %s: got %v, %v; want a denial", u.Ref, u.New, got, err)
		}
	}
}

func TestArtifacts(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run(head + "  a:\n" + step("a"))
	l := h.lease()
	one := tarOf(t, tarFile{"dir/app", "#!app", 0o755})
	a, err := h.y.PutArtifact(h.runner, l.Ref, "app", bytes.NewReader(one))
	check(t, err)
	if a.Digest != sallyport.DigestOf([]byte("#!app")) || a.Filename != "app" || a.Size != 5 || a.Tier != sallyport.TierProtected {
		t.Errorf("one file: got %+v", a)
	}
	if _, err := h.y.PutArtifact(h.runner, l.Ref, "app", bytes.NewReader(one)); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("an artifact was replaced: %v", err)
	}
	two, err := h.y.PutArtifact(h.runner, l.Ref, "two", bytes.NewReader(tarOf(t, tarFile{"a", "1", 0o600}, tarFile{"b/c", "2", 0o777})))
	check(t, err)
	same, err := h.y.PutArtifact(h.runner, l.Ref, "same", bytes.NewReader(tarOf(t, tarFile{"a", "1", 0o644}, tarFile{"b/c", "2", 0o755})))
	check(t, err)
	if two.Digest != same.Digest || len(two.Files) != 2 {
		t.Errorf("equal content has digests %s and %s", two.Digest, same.Digest)
	}
	got, content, err := h.y.GetArtifact(h.runner, l.Ref, "", "app")
	check(t, err)
	b, err := io.ReadAll(content)
	check(t, err)
	if !bytes.Contains(b, []byte("dir/app")) || got.Digest != a.Digest {
		t.Error("the artifact did not come back as a tar of its file")
	}
	near, err := h.y.Artifacts(h.runner, l.Ref, "")
	check(t, err)
	if len(near) != 3 || near[0].Name != "app" || near[1].Name != "same" || near[2].Name != "two" || near[2].Files != nil {
		t.Errorf("the job sees the artifacts %+v", near)
	}
	h.finish(l, sallyport.Success, nil)
	if _, err := h.y.Artifacts(h.runner, l.Ref, ""); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("artifacts were listed without a lease: %v", err)
	}
	list, err := h.s.Artifacts.Artifacts(h.admin, id)
	check(t, err)
	if len(list) != 3 {
		t.Errorf("got %d artifacts", len(list))
	}
}

// As nobody, every method of every service is denied, and each denial is recorded.
func TestNobodyMayDoAnything(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	open := map[string]bool{"Authenticate": true, "Login": true, "Denied": true}
	services := reflect.ValueOf(h.s)
	targets := []reflect.Value{reflect.ValueOf(h.y)}
	for i := range services.NumField() {
		targets = append(targets, services.Field(i).Elem())
	}
	called := 0
	for _, v := range targets {
		for i := range v.NumMethod() {
			name := v.Type().Method(i).Name
			m := v.Method(i)
			if open[name] || !v.Type().Method(i).IsExported() {
				continue
			}
			called++
			args := []reflect.Value{reflect.ValueOf(t.Context())}
			for k := 1; k < m.Type().NumIn(); k++ {
				args = append(args, reflect.Zero(m.Type().In(k)))
			}
			out := m.Call(args)
			err, _ := out[len(out)-1].Interface().(error)
			if sallyport.ErrorCode(err) != sallyport.CodeDenied {
				t.Errorf("%s.%s as nobody: got %v, want a denial", v.Type(), name, err)
			}
		}
	}
	if called < 40 {
		t.Fatalf("only %d methods were called", called)
	}
	denials := 0
	check(t, h.store.View(t.Context(), func(tx sallyport.Tx) error {
		all, err := tx.Audit().Range(0, 10_000)
		for _, r := range all {
			if r.Action == "access.denied" && r.Actor == "nobody" {
				denials++
			}
		}
		return err
	}))
	if denials != called {
		t.Errorf("%d denials were recorded, want %d", denials, called)
	}
}

// A token of one project opens no other, and a runner opens nothing but the yard.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.run(head + "  a:\n" + step("a"))
	other, err := h.s.Projects.CreateProject(h.admin, "other", "main")
	check(t, err)
	bot := h.holder(sallyport.Principal{Kind: sallyport.Bot, ID: "b", Name: "b", Projects: []sallyport.ProjectID{other.ID}})
	if _, _, err := h.s.Runs.Run(bot, id); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("another project's run: %v", err)
	}
	if list, err := h.s.Runs.Runs(bot, sallyport.RunFilter{}); err != nil || len(list) != 0 {
		t.Errorf("got runs %v, %v", list, err)
	}
	if list, err := h.s.Projects.Projects(bot); err != nil || len(list) != 1 || list[0].ID != other.ID {
		t.Errorf("got projects %v, %v", list, err)
	}
	if _, err := h.s.Projects.CreateProject(bot, "third", ""); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a bot made a project: %v", err)
	}
	if _, _, err := h.s.Runs.Run(h.runner, id); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a runner read a run: %v", err)
	}
	if _, err := h.y.Lease(h.admin, sallyport.LeaseRequest{Runner: "x"}); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a person leased a job: %v", err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	person := sallyport.Principal{Kind: sallyport.Person, ID: "u2", Name: "bob", Admin: true}
	link, _, err := h.s.Access.CreateToken(h.admin, "first", sallyport.TokenLogin, person, time.Minute)
	check(t, err)
	session, _, err := h.s.Access.Login(t.Context(), link)
	check(t, err)
	if _, _, err := h.s.Access.Login(t.Context(), link); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a link worked twice: %v", err)
	}
	p, err := h.s.Access.Authenticate(t.Context(), sallyport.TokenSession, session)
	if err != nil || p.Name != "bob" {
		t.Errorf("got %v, %v", p, err)
	}
	if _, err := h.s.Access.Authenticate(t.Context(), sallyport.TokenAPI, session); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a session was taken for an API token: %v", err)
	}
	check(t, h.s.Access.Logout(sallyport.WithPrincipal(t.Context(), p), session))
	if _, err := h.s.Access.Authenticate(t.Context(), sallyport.TokenSession, session); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a session outlived its end: %v", err)
	}
	value, _, err := h.s.Access.CreateToken(h.admin, "api", sallyport.TokenAPI, person, time.Hour)
	check(t, err)
	h.pass(2 * time.Hour)
	if _, err := h.s.Access.Authenticate(t.Context(), sallyport.TokenAPI, value); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("an expired token opened the door: %v", err)
	}
}

// Whoever has no credential cannot fill the trail, and is counted all the same.
func TestStrangersCannotFillTheTrail(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	records := func() (all []sallyport.AuditRecord) {
		check(t, h.store.View(t.Context(), func(tx sallyport.Tx) error {
			list, err := tx.Audit().Range(0, 10_000)
			for _, r := range list {
				if r.Action == "access.denied" {
					all = append(all, r)
				}
			}
			return err
		}))
		return all
	}
	for range strangersBurst + 50 {
		h.s.Access.Denied(t.Context(), "POST /login", "wrong")
	}
	if got := len(records()); got != strangersBurst {
		t.Errorf("%d records were written, want %d", got, strangersBurst)
	}
	h.pass(2 * time.Second)
	h.s.Access.Denied(t.Context(), "POST /login", "wrong")
	h.s.Access.Denied(t.Context(), "POST /login", "wrong")
	got := records()
	if len(got) != strangersBurst+2 {
		t.Fatalf("%d records were written, want %d", len(got), strangersBurst+2)
	}
	if first := string(got[strangersBurst].Detail); !strings.Contains(first, `"not_recorded_before":50`) {
		t.Errorf("the record says %s, want that it stands for 50 more", first)
	}
}

// The run of an earlier push that ends after a later one does not bring its
// release back, neither while the later one is under way nor when it is live.
func TestSlowRunDoesNotGoBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var runs []sallyport.Run
	for range 2 {
		r, _, err := h.s.Runs.Run(h.admin, h.run(head+"  a:\n"+step("a")))
		check(t, err)
		runs = append(runs, r)
		h.pass(time.Second)
	}
	spec := sallyport.EnvironmentSpec{Name: "production", Artifact: "app", Workflow: workflowFile}
	ends := func(r sallyport.Run) (d sallyport.Deployment) {
		j := judgement{
			verdict:  sallyport.Verdict{ID: sallyport.VerdictID("v-" + r.ID), Project: h.p.ID, Run: r.ID, Environment: spec.Name, Decision: sallyport.Allow, Reasons: []string{"r"}},
			artifact: sallyport.Artifact{ID: "a", Project: h.p.ID, Run: r.ID, Name: "app"}, run: r, spec: spec,
			statement: sallyport.Statement{ID: sallyport.StatementID("s-" + r.ID), Project: h.p.ID, Run: r.ID, Subjects: []sallyport.Digest{"sha256:0"}},
		}
		check(t, h.e.update(h.admin, func(c *change) (err error) {
			if j.overtaken, err = c.overtaken(j); err != nil {
				return err
			}
			d, err = c.keepJudgement(j)
			return err
		}))
		return d
	}
	later := ends(runs[1])
	if later.State != sallyport.DeployPending {
		t.Fatalf("the later push is %s: %s", later.State, later.Cause)
	}
	if d := ends(runs[0]); d.State != sallyport.DeploySuperseded || !strings.Contains(d.Cause, "#1, of a later push") {
		t.Errorf("while the later one is under way: %s, %q; want it superseded", d.State, d.Cause)
	}
	check(t, h.e.update(h.admin, func(c *change) error {
		for _, next := range []sallyport.DeploymentState{sallyport.DeployApplying, sallyport.DeployWatching, sallyport.DeployLive} {
			if err := c.moveDeployment(&later, next, ""); err != nil {
				return err
			}
		}
		return c.Environments().Put(sallyport.Environment{Project: h.p.ID, Name: spec.Name, Live: later.ID})
	}))
	check(t, h.e.update(h.admin, func(c *change) error {
		why, err := c.overtaken(judgement{artifact: sallyport.Artifact{Project: h.p.ID}, run: runs[0], spec: spec})
		if err == nil && why == "" {
			t.Error("when the later one is live: it goes out")
		}
		return err
	}))
}

func TestPushingRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.push("main", files{"x": "1"})
	zero, some := sallyport.ZeroCommit, strings.Repeat("1", 40)
	for _, c := range []struct {
		name   string
		update sallyport.RefUpdate
		ok     bool
	}{
		{"a branch", sallyport.RefUpdate{Ref: "refs/heads/x", Old: zero, New: some}, true},
		{"a new tag", sallyport.RefUpdate{Ref: "refs/tags/v1", Old: zero, New: some}, true},
		{"delete the default branch", sallyport.RefUpdate{Ref: "refs/heads/main", Old: some, New: zero}, false},
		{"move a tag", sallyport.RefUpdate{Ref: "refs/tags/v1", Old: some, New: some}, false},
		{"another namespace", sallyport.RefUpdate{Ref: "refs/pull/1/head", Old: zero, New: some}, false},
		{"a long name", sallyport.RefUpdate{Ref: "refs/heads/" + strings.Repeat("x", 600), Old: zero, New: some}, false},
	} {
		err := h.s.Projects.Pushing(h.admin, h.p.ID, []sallyport.RefUpdate{c.update})
		if (err == nil) != c.ok {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}
