package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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
      - run: cat part-1/part-1.txt part-2/part-2.txt | tee whole.txt; test "$(grep -c "${{ needs.first.outputs.word }}" whole.txt)" = 2
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
	crashes     = 22
	crashPushes = 8
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
	mark := fmt.Sprintf("sallyport-crash-%d-%d", os.Getpid(), seed)
	for name, text := range crashWorkflows {
		crashWorkflows := strings.ReplaceAll(text, "MARKED", mark)
		r.commit("Add "+name, files{name: crashWorkflows})
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
		time.Sleep(time.Duration(random.Int64N(int64(1200 * time.Millisecond)))) // the random moment
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
	for _, c := range commits {
		want[c] = true
		for _, o := range r.runs(c, 2) {
			checkSurvivor(t, s.services(), o)
		}
	}
	t.Logf("the last run was completed %v after the last start", time.Since(began))
	for _, run := range r.all(t.Context(), s.services()) {
		if !want[run.Commit] {
			t.Errorf("run #%d is of commit %s, which was not pushed", run.Number, run.Commit)
		}
	}
	checkTrail(t, s, len(commits))
	s.ok("audit", "verify")
	s.stop()
	s.ok("audit", "verify")
	checkNothingLeft(t, s, mark)
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
		if len(claims) != 1 || claims[0].Run != o.run.ID {
			t.Errorf("artifact %s of run #%d has %d statements, want one: %+v", a.Name, o.run.Number, len(claims), claims)
		}
	}
	if want := 3; o.run.Name == "ci" && o.run.Conclusion == sallyport.Success && len(list) != want {
		t.Errorf("run #%d has %d artifacts, want %d", o.run.Number, len(list), want)
	}
}

// checkTrail checks that the audit trail tells of everything once.
func checkTrail(t *testing.T, s *server, pushes int) {
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
	for action, want := range map[string]int{"push.received": pushes, "run.created": 2 * pushes, "run.completed": 2 * pushes, "job.completed": 5 * pushes} {
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
