package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

// These tests run the product as its users do: `sallyport up` is a process of
// its own, started again on the same directory as often as a test likes, with
// the runner, the proxy and the releases as its children; git pushes over HTTP;
// verbs are processes that ask the control socket.

// patience bounds every wait for something that must happen: it is there to
// end a test that would hang, and is no claim about speed.
const patience = 8 * time.Minute

// poll is how often something is looked at that sends no event.
const poll = 20 * time.Millisecond

// server is one installation, running or not.
type server struct {
	t    testing.TB
	data string
	args []string // of up, beside --data and --listen
	env  []string

	url  string
	cmd  *exec.Cmd
	gone chan struct{} // closed when the process ended
	exit error         // valid then
	log  logbook       // stderr of all starts
}

// newServer starts an installation in a new directory. At the end of the test
// everything of it is stopped.
func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := unstarted(t, args...)
	s.start()
	return s
}

func unstarted(t testing.TB, args ...string) *server {
	t.Helper()
	needRuntime(t)
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	dir, err := os.MkdirTemp("", "sp-") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, data: filepath.Join(dir, "d"), args: args, env: []string{"SALLYPORT_UNTRUSTED_IN=standard"}} // a host need not have gVisor
	t.Cleanup(func() {
		s.end()
		if t.Failed() {
			t.Logf("log of the control plane:\n%s", s.log.tail(60))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the data directory: %v", err)
		}
	})
	return s
}

// start runs up and returns when it serves.
func (s *server) start() {
	s.t.Helper()
	cmd := exec.Command("sallyport", append([]string{"up", "--data", s.data, "--listen", "127.0.0.1:0"}, s.args...)...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stderr = &s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // it must not outlive a killed test
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.gone = cmd, make(chan struct{})
	serves := make(chan string, 1)
	go func() {
		defer close(s.gone)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if url, ok := strings.CutPrefix(lines.Text(), "Sallyport serves "); ok {
				serves <- url
			}
		}
		s.exit = cmd.Wait()
	}()
	select {
	case s.url = <-serves:
	case <-s.gone:
		s.t.Fatalf("up ended before it served: %v\n%s", s.exit, s.log.tail(30))
	case <-time.After(patience):
		s.t.Fatalf("up does not serve\n%s", s.log.tail(30))
	}
}

// kill ends up as a power cut would, and nothing else.
func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatalf("kill up: %v", err)
	}
	<-s.gone
}

// stop ends up as an operator does; what runs is drained.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatalf("stop up: %v", err)
	}
	select {
	case <-s.gone:
	case <-time.After(patience):
		s.t.Fatal("up does not end after SIGTERM")
	}
	if s.exit != nil {
		s.t.Errorf("up after SIGTERM: %v, want exit code 0\n%s", s.exit, s.log.tail(30))
	}
}

func (s *server) running() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.gone:
		return false
	default:
		return true
	}
}

// end stops up with its releases.
func (s *server) end() {
	if s.running() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.gone:
		case <-time.After(patience):
			_ = s.cmd.Process.Kill()
			<-s.gone
			s.t.Error("up does not end after SIGTERM")
		}
	}
	if _, err := os.Stat(filepath.Join(s.data, "deploy")); err == nil {
		if err := daemon.StopReleases(context.Background(), s.data); err != nil {
			s.t.Errorf("stop releases: %v", err)
		}
	}
}

// services asks the control socket; it must be got anew after each start.
func (s *server) services() sallyport.Services {
	s.t.Helper()
	got, err := remote{Data: s.data}.services()
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// result is how one command ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a verb that may fail.
func (s *server) run(args ...string) result {
	s.t.Helper()
	return command(s.t, append(os.Environ(), "SALLYPORT_DATA="+s.data), "sallyport", args...)
}

// ok runs a verb that must succeed, and returns its stdout.
func (s *server) ok(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != exitOK {
		s.t.Fatalf("sallyport %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// json runs a verb with --json that must succeed, and reads its output into v.
func (s *server) json(v any, args ...string) {
	s.t.Helper()
	out := s.ok(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		s.t.Fatalf("sallyport %s --json: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// command runs a program to its end.
func command(t testing.TB, env []string, name string, args ...string) result {
	t.Helper()
	return commandWith(t, "", env, name, args...)
}

// commandWith is command with something on stdin.
func commandWith(t testing.TB, stdin string, env []string, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// repository is a work tree with its project on a server.
type repository struct {
	s       *server
	project string
	dir     string
	token   string
}

// files are the contents of a commit by path.
type files map[string]string

// project makes a project, a token for it and a work tree to push from.
func (s *server) project(name string) *repository {
	s.t.Helper()
	s.ok("project", "create", name)
	token := strings.TrimSpace(s.ok("token", "create", "pusher of "+name, "--project", name))
	r := &repository{s: s, project: name, dir: s.t.TempDir(), token: token}
	r.git("init", "-q", "-b", "main")
	return r
}

// environ lets git ask for nothing and depend on nothing of this host.
func (r *repository) environ() []string {
	return append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com",
		"TOKEN="+r.token, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=credential.helper",
		`GIT_CONFIG_VALUE_0=!f() { echo username=ada; echo "password=$TOKEN"; }; f`)
}

func (r *repository) git(args ...string) string {
	r.s.t.Helper()
	got := command(r.s.t, r.environ(), "git", append([]string{"-C", r.dir}, args...)...)
	if got.code != 0 {
		r.s.t.Fatalf("git %s: exit code %d\n%s", strings.Join(args, " "), got.code, got.stderr)
	}
	return strings.TrimSpace(got.stdout)
}

// commit adds files and returns the new commit.
func (r *repository) commit(message string, content files) string {
	r.s.t.Helper()
	for name, text := range content {
		file := filepath.Join(r.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			r.s.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			r.s.t.Fatal(err)
		}
	}
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
	return r.git("rev-parse", "HEAD")
}

// tryPush pushes main to where the server is now. It may run while the server is killed.
func (r *repository) tryPush() result {
	return command(r.s.t, r.environ(), "git", "-C", r.dir, "push", r.s.url+"/"+r.project+".git", "main")
}

// push pushes main, which must succeed, and returns what the server said.
func (r *repository) push() string {
	r.s.t.Helper()
	got := r.tryPush()
	if got.code != 0 {
		r.s.t.Fatalf("git push: exit code %d\n%s", got.code, got.stderr)
	}
	return got.stderr
}

// outcome is a completed run with its jobs.
type outcome struct {
	run  sallyport.Run
	jobs []sallyport.Job
}

func (o outcome) job(key string) sallyport.Job {
	for _, j := range o.jobs {
		if j.Key == key {
			return j
		}
	}
	return sallyport.Job{}
}

// explain says how a run ended, for the message of a test that fails.
func (o outcome) explain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "run #%d of %s at %s: %s %s %s", o.run.Number, o.run.Workflow, commit(o.run.Commit), o.run.Status, o.run.Conclusion, o.run.Cause)
	for _, j := range o.jobs {
		fmt.Fprintf(&b, "\n  %s %s %s attempt %d: %s", j.Name, j.Status, j.Conclusion, j.Attempt, j.Cause)
	}
	return b.String()
}

// runs waits until every run of the commit, of which there must be n, is
// completed, in order of workflow.
func (r *repository) runs(commitID string, n int) []outcome {
	r.s.t.Helper()
	services := r.s.services()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		var of []sallyport.Run
		for _, run := range r.all(ctx, services) {
			if run.Commit == commitID {
				of = append(of, run)
			}
		}
		if len(of) >= n {
			out := make([]outcome, 0, n)
			for _, run := range of {
				out = append(out, r.s.completed(ctx, services, run.ID))
			}
			if len(of) != n {
				r.s.t.Fatalf("commit %s has %d runs, want %d: %+v", commit(commitID), len(of), n, of)
			}
			return out
		}
		r.s.tick(ctx, fmt.Sprintf("%d runs of commit %s", n, commit(commitID)))
	}
}

// all returns every run of the project.
func (r *repository) all(ctx context.Context, services sallyport.Services) []sallyport.Run {
	r.s.t.Helper()
	p, err := services.Projects.Project(ctx, r.project)
	if err != nil {
		r.s.t.Fatal(err)
	}
	var out []sallyport.Run
	page := sallyport.Page{Limit: 200}
	for {
		list, err := services.Runs.Runs(ctx, sallyport.RunFilter{Project: p.ID, Page: page})
		if err != nil {
			r.s.t.Fatal(err)
		}
		if out = append(out, list...); len(list) < page.Limit {
			return out
		}
		page.Before = string(list[len(list)-1].ID)
	}
}

// completed waits for the end of a run.
func (s *server) completed(ctx context.Context, services sallyport.Services, id sallyport.RunID) outcome {
	s.t.Helper()
	return s.when(ctx, services, id, func(o outcome) bool { return o.run.Status == sallyport.StatusCompleted })
}

// when waits until something is true of a run.
func (s *server) when(ctx context.Context, services sallyport.Services, id sallyport.RunID, what func(outcome) bool) outcome {
	s.t.Helper()
	for {
		var o outcome
		var err error
		if o.run, o.jobs, err = services.Runs.Run(ctx, id); err != nil {
			s.t.Fatal(err)
		}
		if what(o) {
			return o
		}
		if o.run.Status == sallyport.StatusCompleted {
			s.t.Fatalf("the run ended before: %s", o.explain())
		}
		if err := waitRun(ctx, services, id); err != nil {
			s.t.Fatalf("%v\n%s", err, o.explain())
		}
	}
}

// ran pushes a commit with one workflow and waits for its run.
func (r *repository) ran(message string, content files) outcome {
	r.s.t.Helper()
	id := r.commit(message, content)
	r.push()
	return r.runs(id, 1)[0]
}

// eventually waits until f is true.
func (s *server) eventually(what string, f func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !f() {
		s.tick(ctx, what)
	}
}

func (s *server) tick(ctx context.Context, what string) {
	s.t.Helper()
	if err := pause(ctx, poll); err != nil {
		s.t.Fatalf("waited in vain for %s\n%s", what, s.log.tail(30))
	}
}

// processes returns the command lines, by pid, of the processes that mention
// text in their command line or, as far as it can be read, their environment.
func processes(t testing.TB, text string) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int]string)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")) // it may have ended
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if bytes.Contains(line, []byte(text)) || bytes.Contains(environ, []byte(text)) {
			found[pid] = strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// logbook keeps the end of what processes say.
type logbook struct {
	mu   sync.Mutex
	text []byte
}

var _ io.Writer = (*logbook)(nil)

func (l *logbook) Write(p []byte) (int, error) {
	const most = 1 << 20
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text = append(l.text, p...); len(l.text) > 2*most {
		l.text = append([]byte(nil), l.text[len(l.text)-most:]...)
	}
	return len(p), nil
}

// String returns all that is kept.
func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// tail returns the last lines.
func (l *logbook) tail(n int) string {
	lines := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
