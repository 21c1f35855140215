package cli

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// crashWorkflows are several quick jobs with everything that must not happen
// twice: needs, a matrix, artifacts up and down, and a second workflow.
var crashWorkflows = files{
	".github/workflows/ci.yml": `name: ci
on: push
env: {MARK: MARKED}
jobs:
  first:
    runs-on: ubuntu-latest
    outputs: {word: "${{ steps.s.outputs.word }}"}
    steps:
      - uses: actions/checkout@v4
      - id: s
        run: echo "word=$(cat word.txt)" >> "$GITHUB_OUTPUT"
  part:
    needs: first
    runs-on: ubuntu-latest
    strategy: {fail-fast: false, matrix: {n: [1, 2]}}
    steps:
      - run: echo "${{ needs.first.outputs.word }} $(date +%s%N)" > "part-${{ matrix.n }}.txt"
      - uses: actions/upload-artifact@v4
        with: {name: "part-${{ matrix.n }}", path: "part-${{ matrix.n }}.txt"}
      - run: sleep 0.1
  whole:
    needs: [first, part]
    runs-on: ubuntu-latest
    steps:
      - uses: actions/download-artifact@v4
        with: {name: part-1}
      - uses: actions/download-artifact@v4
        with: {name: part-2}
      - run: cat part-1.txt part-2.txt | tee whole.txt; test "$(grep -c "${{ needs.first.outputs.word }}" whole.txt)" = 2
      - uses: actions/upload-artifact@v4
        with: {name: whole, path: whole.txt}
`,
	".github/workflows/lint.yml": `name: lint
on: push
env: {MARK: MARKED}
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - run: echo clean
`,
}

// crashes is how often up is killed, and crashPushes at how many of these a
// push is under way.
const (
	crashes     = 24
	crashPushes = 8
	crashWithin = 600 * time.Millisecond // of a start: a run takes about as long
)

// TestKill kills the control plane at random moments while work flows through
// it, and expects that afterwards everything that was pushed was done, once.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("kills a control plane many times")
	}
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newServer(t)
	r := s.project("crash")
	mark := fmt.Sprintf("sallyport-crash-%d-%d", os.Getpid(), seed) // in the environment of every process of a job
	for name, text := range crashWorkflows {
		r.commit("Add "+name, files{name: strings.ReplaceAll(text, "MARKED", mark)})
	}
	var commits []string
	slowest := time.Duration(0)
	for n := range crashes {
		pushed := make(chan result, 1)
		if n%(crashes/crashPushes) == 0 && len(commits) < crashPushes {
			commits = append(commits, r.commit(fmt.Sprint("Change ", n), files{"word.txt": fmt.Sprintf("word-%d\n", n)}))
			go func() { pushed <- r.tryPush() }()
		} else {
			pushed <- result{code: -1}
		}
		time.Sleep(time.Duration(random.Int64N(int64(crashWithin)))) // the random moment
		s.kill()
		tried := <-pushed
		began := time.Now()
		s.start()
		slowest = max(slowest, time.Since(began))
		if tried.code > 0 { // it was cut off: a user pushes again
			r.push()
		}
	}
	t.Logf("slowest start after a kill: %v", slowest)
	began := time.Now()
	want := make(map[string]bool)
	jobs := make(map[sallyport.JobID]bool)
	for _, c := range commits {
		want[c] = true
		for _, o := range r.runs(c, 2) {
			checkSurvivor(t, s.services(), o)
			for _, j := range o.jobs {
				jobs[j.ID] = true
			}
		}
	}
	t.Logf("the last run was completed %v after the last start", time.Since(began))
	for _, run := range r.all(t.Context(), s.services()) {
		if !want[run.Commit] {
			t.Errorf("run #%d is of commit %s, which was not pushed", run.Number, run.Commit)
		}
	}
	checkTrail(t, s, len(commits), len(jobs))
	s.ok("audit", "verify")
	s.stop()
	s.ok("audit", "verify")
	checkNothingLeft(t, s, mark)
}

// TestKillBetweenGitAndIntake kills the control plane while git takes a push
// in: git must not go on alone, or the ref would move after the next process
// has looked for what was missed, and the push would never run.
func TestKillBetweenGitAndIntake(t *testing.T) {
	t.Parallel()
	real, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	bin := t.TempDir()
	held, gate := filepath.Join(bin, "held"), filepath.Join(bin, "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	// The git of the server: its first receive-pack of a push waits at the gate.
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *\"receive-pack --stateless-rpc -- \"*)\n\tif mkdir %s 2>/dev/null; then read open < %s; fi\nesac\nexec %s \"$@\"\n", held, gate, real)
	if err := os.WriteFile(filepath.Join(bin, "git"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s := unstarted(t)
	s.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	s.start()
	r := s.project("between")
	id := r.commit("Change", files{".github/workflows/lint.yml": crashWorkflows[".github/workflows/lint.yml"]})
	pushed := make(chan result, 1)
	go func() { pushed <- r.tryPush() }()
	s.eventually("git to take the push in", func() bool { _, err := os.Stat(held); return err == nil })
	s.kill()
	if got := <-pushed; got.code == 0 {
		t.Errorf("git push succeeded although the server was killed: %s", got.stderr)
	}
	s.start()
	open, err := os.OpenFile(gate, os.O_RDWR, 0) // does not wait for a reader
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := open.WriteString("open\n"); err != nil {
		t.Fatal(err)
	}
	s.eventually("the end of the first git", func() bool {
		for _, line := range processes(t, s.data) {
			if strings.Contains(line, "receive-pack") {
				return false
			}
		}
		return true
	})
	r.push()
	if o := r.runs(id, 1)[0]; o.run.Conclusion != sallyport.Success {
		t.Error(o.explain())
	}
}

// TestKillAfterUpload kills the control plane when a job has kept an artifact
// and not ended: the next attempt keeps its own.
func TestKillAfterUpload(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.project("upload")
	id := r.commit("Change", files{".github/workflows/ci.yml": `name: ci
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - run: date +%s%N > out.txt
      - uses: actions/upload-artifact@v4
        with: {name: out, path: out.txt}
      - run: sleep 2
`})
	r.push()
	services := s.services()
	var run sallyport.RunID
	s.eventually("the artifact of the first attempt", func() bool {
		for _, o := range r.all(t.Context(), services) {
			run = o.ID
		}
		if run == "" {
			return false
		}
		list, err := services.Artifacts.Artifacts(t.Context(), run)
		return err == nil && len(list) == 1
	})
	s.kill()
	s.start()
	o := r.runs(id, 1)[0]
	if o.run.Conclusion != sallyport.Success || o.job("build").Attempt != 2 {
		t.Fatalf("want success at the second attempt: %s", o.explain())
	}
	out := t.TempDir()
	s.ok("artifacts", "download", string(run), "out", "--out", out)
	if _, err := os.Stat(filepath.Join(out, "out.sigstore.json")); err != nil {
		t.Errorf("the artifact of the second attempt has no evidence: %v", err)
	}
	s.ok("audit", "verify")
}

// TestKillWhileDeploying kills the control plane while a second release takes
// over from the first: what is deployed answers all the time, and at the end the
// second is live, by one deployment.
func TestKillWhileDeploying(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("the sample service needs python3")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newServer(t)
	r := s.project("shop")
	if o := r.ran("One", service); o.run.Conclusion != sallyport.Success {
		t.Fatal(o.explain())
	}
	r.serves("one")
	p, err := s.services().Projects.Project(t.Context(), r.project)
	if err != nil {
		t.Fatal(err)
	}
	envs, err := s.services().Deployments.Environments(t.Context(), p.ID)
	if err != nil || len(envs) != 1 {
		t.Fatalf("got environments %+v, %v", envs, err)
	}
	if o := r.ran("Two", files{"version.txt": "two\n"}); o.run.Conclusion != sallyport.Success {
		t.Fatal(o.explain())
	}
	for range 6 {
		time.Sleep(time.Duration(random.Int64N(int64(crashWithin / 2)))) // the random moment
		s.kill()
		if got := get(t, envs[0].URL); got != "one" && got != "two" {
			t.Errorf("while nothing ran, the service answered %q", got)
		}
		s.start()
	}
	r.serves("two")
	list, err := s.services().Deployments.Deployments(t.Context(), p.ID, "", sallyport.Page{})
	if err != nil || len(list) != 2 {
		t.Errorf("got %d deployments, want 2: %+v, %v", len(list), list, err)
	}
	s.ok("audit", "verify")
}

// TestStopDuringJob stops an installation as an operator does while a job runs:
// the job is not lost, and what became of it is said.
func TestStopDuringJob(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.project("stop")
	id := r.commit("Change", files{".github/workflows/ci.yml": "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo begun; sleep 3; echo ended\n"})
	r.push()
	services := s.services()
	s.eventually("the job to run", func() bool {
		for _, run := range r.all(t.Context(), services) {
			if run.Status == sallyport.StatusInProgress {
				return true
			}
		}
		return false
	})
	s.stop()
	s.start()
	o := r.runs(id, 1)[0]
	t.Log(o.explain())
	if o.run.Conclusion != sallyport.Success && o.run.Cause == "" {
		t.Errorf("nobody says why: %s", o.explain())
	}
	s.ok("audit", "verify")
}

// checkSurvivor checks one run that lived through kills.
func checkSurvivor(t *testing.T, services sallyport.Services, o outcome) {
	t.Helper()
	if o.run.Conclusion != sallyport.Success && !strings.Contains(o.run.Cause, "was lost during attempt") {
		t.Errorf("not by a rule: %s", o.explain())
	}
	list, err := services.Artifacts.Artifacts(t.Context(), o.run.ID)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, a := range list {
		if names[a.Name] {
			t.Errorf("artifact %s is there twice: %s", a.Name, o.explain())
		}
		names[a.Name] = true
		if o.run.Conclusion != sallyport.Success {
			continue
		}
		claims, err := services.Artifacts.Statements(t.Context(), a.Project, a.Digest)
		if err != nil {
			t.Fatal(err)
		}
		said := map[string]int{}
		for _, c := range claims {
			if said[c.PredicateType]++; c.Run != o.run.ID {
				t.Errorf("artifact %s of run #%d has a statement of run %s", a.Name, o.run.Number, c.Run)
			}
		}
		if want := map[string]int{sallyport.PredicateProvenance: 1, sallyport.PredicateTrace: 1}; !maps.Equal(said, want) {
			t.Errorf("artifact %s of run #%d has the statements %v, want %v", a.Name, o.run.Number, said, want)
		}
	}
	if want := 3; o.run.Name == "ci" && o.run.Conclusion == sallyport.Success && len(list) != want {
		t.Errorf("run #%d has %d artifacts, want %d", o.run.Number, len(list), want)
	}
}

// checkTrail checks that the audit trail tells of everything once.
func checkTrail(t *testing.T, s *server, pushes, jobs int) {
	t.Helper()
	ended := make(map[string]int)
	count := make(map[string]int)
	for _, r := range s.trail(t.Context()) {
		count[r.Action]++
		if r.Action == "job.completed" || r.Action == "run.completed" || r.Action == "run.created" {
			ended[r.Action+" "+r.Object]++
		}
	}
	for what, n := range ended {
		if n != 1 {
			t.Errorf("the trail has %d records %s, want 1", n, what)
		}
	}
	for action, want := range map[string]int{"push.received": pushes, "run.created": 2 * pushes, "run.completed": 2 * pushes, "job.completed": jobs} {
		if count[action] != want {
			t.Errorf("the trail has %d records %s, want %d", count[action], action, want)
		}
	}
	t.Logf("the trail: %v", count)
}

// trail returns all audit records, newest first.
func (s *server) trail(ctx context.Context) []sallyport.AuditRecord {
	s.t.Helper()
	services := s.services()
	var out []sallyport.AuditRecord
	f := sallyport.AuditFilter{Limit: 200}
	for {
		list, err := services.Audit.Records(ctx, f)
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, list...)
		if len(list) < f.Limit || list[len(list)-1].Seq == 0 {
			return out
		}
		f.Before = list[len(list)-1].Seq
	}
}

// checkNothingLeft checks that a stopped installation, and what its jobs
// started, leaves no process and no room.
func checkNothingLeft(t *testing.T, s *server, mark string) {
	t.Helper()
	for _, text := range []string{s.data, mark} {
		s.eventually("the end of all processes of "+text, func() bool { return len(processes(t, text)) == 0 })
	}
	for _, dir := range []string{"runner/rooms", "runner/jobs"} {
		entries, err := os.ReadDir(filepath.Join(s.data, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "job-") {
				t.Errorf("%s was left in %s", e.Name(), dir)
			}
		}
	}
}
