package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

// service is a project whose release is a small HTTP service that says its version.
var service = files{
	".github/workflows/ci.yml": `name: ci
on: [push, workflow_dispatch]
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: |
          echo "building $(cat version.txt)"
          { echo '#!/usr/bin/env python3'; echo "VERSION = '$(cat version.txt)'"; cat service.py; } > app
          chmod +x app
      - uses: actions/upload-artifact@v4
        with: {name: app, path: app}
`,
	".sallyport/deploy.yaml": `environments:
  production:
    artifact: app
    workflow: .github/workflows/ci.yml
    port: 8080
    drain: 100ms
    health: {path: /, watch: 500ms}
`,
	"service.py": `import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(VERSION.encode())
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
`,
	"version.txt": "one\n",
}

// TestJourney goes from an empty directory to a rollback in production with the
// verbs that a user types, on SQLite and on PostgreSQL.
func TestJourney(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("the sample service needs python3")
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		journey(t, newServer(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		dsn := sallyporttest.Postgres(t, "fsync=off").Database(t)
		s := newServer(t, "--store", dsn)
		if _, err := os.Stat(filepath.Join(s.data, "sallyport.db")); err == nil {
			t.Error("there is an SQLite database beside the PostgreSQL one")
		}
		journey(t, s)
		s.args = nil // settings remember the store
		s.kill()
		s.start()
		s.ok("audit", "verify")
		if list := s.ok("runs"); !strings.Contains(list, "success") {
			t.Errorf("after a kill: got runs\n%s", list)
		}
	})
}

func journey(t *testing.T, s *server) {
	r := s.project("shop")
	var projects []sallyport.Project
	s.json(&projects, "project", "list")
	if len(projects) != 1 || projects[0].Name != "shop" {
		t.Fatalf("got projects %+v", projects)
	}
	one := r.ran("One", service)
	if one.run.Conclusion != sallyport.Success {
		t.Fatal(one.explain())
	}
	if got := r.serves("one"); got.Commit != one.run.Commit {
		t.Errorf("got deployment %+v, want one of commit %s", got, one.run.Commit)
	}
	runVerbs(t, s, one)
	artifactVerbs(t, s, one)
	gateVerbs(t, s)

	two := r.ran("Two", files{"version.txt": "two\n"})
	if two.run.Conclusion != sallyport.Success {
		t.Fatal(two.explain())
	}
	r.serves("two")
	var back sallyport.Deployment
	s.json(&back, "rollback", "production", "--reason", "the journey goes back")
	if back.RollbackOf == "" || back.Commit != one.run.Commit {
		t.Errorf("got rollback %+v, want one to commit %s", back, one.run.Commit)
	}
	r.serves("one")
	issuerVerbs(t, s)
	auditVerbs(t, s)
}

// serves waits until the newest deployment is live and its environment answers
// with the version.
func (r *repository) serves(version string) sallyport.Deployment {
	r.s.t.Helper()
	var got struct {
		Environments []sallyport.Environment
		Deployments  []sallyport.Deployment
	}
	r.s.eventually("a live deployment of version "+version, func() bool {
		r.s.json(&got, "deployments", "--project", r.project)
		if len(got.Deployments) == 0 || len(got.Environments) == 0 {
			return false
		}
		if d := got.Deployments[0]; d.State.Final() && d.State != sallyport.DeployLive {
			r.s.t.Fatalf("deployment #%d is %s: %s", d.Number, d.State, d.Cause)
		}
		return got.Deployments[0].State == sallyport.DeployLive && get(r.s.t, got.Environments[0].URL) == version
	})
	return got.Deployments[0]
}

func get(t testing.TB, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func runVerbs(t *testing.T, s *server, o outcome) {
	t.Helper()
	var list []sallyport.Run
	s.json(&list, "runs")
	if len(list) != 1 || list[0].ID != o.run.ID {
		t.Errorf("runs: got %+v", list)
	}
	var one runJSON
	s.json(&one, "runs", "#1")
	if one.ID != o.run.ID || len(one.Jobs) != 1 || one.Jobs[0].Conclusion != sallyport.Success {
		t.Errorf("runs #1: got %+v", one)
	}
	if text := s.ok("runs", string(o.run.ID)); !strings.Contains(text, "success") {
		t.Errorf("runs ID: got\n%s", text)
	}
	for _, args := range [][]string{{"logs", "1"}, {"logs", "-f", "1"}, {"logs", "1", "--job", "build"}} {
		if text := s.ok(args...); !strings.Contains(text, "building one") {
			t.Errorf("%q: got\n%s", args, text)
		}
		found := false
		for line := range strings.Lines(s.ok(append(args, "--json")...)) {
			var l logJSON
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.Type != "log" {
				t.Fatalf("%q --json: %v in line %q", args, err, line)
			}
			found = found || l.Job == "build" && l.Text == "building one"
		}
		if !found {
			t.Errorf("%q --json lacks the line of the step", args)
		}
	}
	if got := s.run("logs", "1", "--job", "nope"); got.code != exitFailed || !strings.Contains(got.stderr, "no such job") {
		t.Errorf("logs of no job: %+v", got)
	}
	if got := s.run("runs", "99"); got.code != exitFailed || !strings.Contains(got.stderr, "no run #99") {
		t.Errorf("no run: %+v", got)
	}
}

func artifactVerbs(t *testing.T, s *server, o outcome) {
	t.Helper()
	var list []sallyport.Artifact
	s.json(&list, "artifacts", "list", "1")
	if len(list) != 1 || list[0].Name != "app" || list[0].Run != o.run.ID {
		t.Fatalf("artifacts: got %+v", list)
	}
	dir := t.TempDir()
	var saved savedArtifact
	s.json(&saved, "artifacts", "download", "1", "app", "--out", dir)
	if saved.Digest != list[0].Digest || saved.Bundle != filepath.Join(dir, "app.sigstore.json") {
		t.Errorf("download: got %+v", saved)
	}
	root := filepath.Join(dir, "root.json")
	if err := os.WriteFile(root, []byte(s.ok("trust-root")), 0o644); err != nil {
		t.Fatal(err)
	}
	verify := []string{"verify", saved.File, "--bundle", saved.Bundle, "--trusted-root", root,
		"--identity", "https://sallyport.localhost/shop/.github/workflows/ci.yml@refs/heads/main", "--issuer", "https://sallyport.localhost"}
	if text := s.ok(verify...); !strings.Contains(text, "Verified OK") {
		t.Errorf("verify: got\n%s", text)
	}
	var checked struct {
		Verified bool
		sallyport.Checked
	}
	s.json(&checked, verify...)
	if !checked.Verified || checked.Subject != saved.Digest {
		t.Errorf("verify --json: got %+v", checked)
	}
	f, err := os.OpenFile(saved.File, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("#"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got := s.run(verify...); got.code != exitFailed || !strings.Contains(got.stderr, "NOT verified") {
		t.Errorf("verify an altered file: %+v", got)
	}
	if got := s.run(append(verify, "--json")...); got.code != exitFailed || !strings.Contains(got.stdout, `"verified":false`) {
		t.Errorf("verify an altered file --json: %+v", got)
	}
}

func gateVerbs(t *testing.T, s *server) {
	t.Helper()
	var list []sallyport.Verdict
	s.json(&list, "gate", "list")
	if len(list) != 1 || list[0].Decision != sallyport.Allow {
		t.Fatalf("gate list: got %+v", list)
	}
	id := string(list[0].ID)
	var shown sallyport.Verdict
	s.json(&shown, "gate", "show", id)
	if shown.ID != list[0].ID || shown.InputDigest == "" || shown.PolicyDigest == "" {
		t.Errorf("gate show: got %+v", shown)
	}
	var replayed struct {
		Same bool
		Now  sallyport.Verdict
	}
	s.json(&replayed, "gate", "replay", id)
	if !replayed.Same || replayed.Now.Decision != sallyport.Allow {
		t.Errorf("gate replay: got %+v", replayed)
	}
	if text := s.ok("gate", "replay", id); !strings.Contains(text, "same decision") {
		t.Errorf("gate replay: got\n%s", text)
	}
}

func auditVerbs(t *testing.T, s *server) {
	t.Helper()
	var list []sallyport.AuditRecord
	s.json(&list, "audit", "list", "--action", "deploy", "--limit", "200")
	if len(list) == 0 {
		t.Error("the trail tells nothing of deployments")
	}
	for _, r := range list {
		if !strings.HasPrefix(r.Action, "deploy") {
			t.Errorf("audit list --action deploy shows %s", r.Action)
		}
	}
	report := s.verified(exitOK)
	if text := s.ok("audit", "verify"); !strings.HasPrefix(text, "OK: ") || report.Records == 0 {
		t.Errorf("audit verify: %+v\n%s", report, text)
	}
	var tokens []sallyport.Token
	s.json(&tokens, "token", "list")
	for _, token := range tokens {
		if strings.HasPrefix(token.Name, "pusher") {
			s.ok("token", "revoke", string(token.ID))
		}
	}
}

// issuerVerbs publishes the keys of ID tokens, compares them with those that anybody may
// fetch, and has new ones made.
func issuerVerbs(t *testing.T, s *server) {
	t.Helper()
	var st, next sallyport.IssuerStatus
	s.json(&st, "issuer", "show")
	if len(st.Keys) != len(sallyport.IssuerAlgorithms()) || st.Issuer == "" {
		t.Fatalf("issuer show: %+v", st)
	}
	dir := t.TempDir()
	s.ok("issuer", "publish", dir)
	for _, path := range []string{sallyport.DiscoveryPath, sallyport.KeySetPath} {
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		if served := get(t, st.Issuer+path); strings.TrimSpace(served) != strings.TrimSpace(string(b)) {
			t.Errorf("%s: published\n%s\nserved\n%s", path, b, served)
		}
	}
	s.json(&next, "issuer", "rotate", "--lead", "1h")
	if len(next.Keys) != 2*len(st.Keys) {
		t.Errorf("issuer rotate: %+v", next)
	}
	if text := s.ok("issuer"); !strings.Contains(text, "waits") || !strings.Contains(text, "signs") {
		t.Errorf("issuer:\n%s", text)
	}
}

// TestDoor is about who is let in to push, and what the server refuses to do at start.
func TestDoor(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.project("door")
	r.commit("One", files{"README": "hello\n"})
	right := r.token
	for _, wrong := range []string{"", "wrong", right + "x", right[:len(right)-1]} {
		r.token = wrong
		got := r.tryPush()
		if got.code == 0 || !strings.Contains(got.stderr, "Authentication failed") && !strings.Contains(got.stderr, "401") {
			t.Errorf("push with token %q: exit code %d\n%s", wrong, got.code, got.stderr)
		}
	}
	s.ok("project", "create", "other")
	r.token = strings.TrimSpace(s.ok("token", "create", "elsewhere", "--project", "other"))
	if got := r.tryPush(); got.code == 0 {
		t.Errorf("push with another project's token: exit code 0\n%s", got.stderr)
	}
	var denied []sallyport.AuditRecord
	s.json(&denied, "audit", "list", "--action", "access.denied")
	if len(denied) == 0 {
		t.Error("refused pushes are not in the trail")
	}
	r.token = right
	if said := r.push(); !strings.Contains(said, "main -> main") {
		t.Errorf("the right token: git said\n%s", said)
	}

	other := t.TempDir()
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	future := filepath.Join(other, "future")
	if err := os.MkdirAll(future, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(future, "settings.json"), []byte(`{"version":99,"instance":"sallyport.localhost"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"port in use", []string{"--data", filepath.Join(other, "a"), "--listen", in.Addr().String()}, exitFailed, []string{in.Addr().String() + " is in use", "→ stop what uses it"}},
		{"second up on the same directory", []string{"--data", s.data, "--listen", "127.0.0.1:0"}, exitFailed, []string{"another Sallyport runs on " + s.data, "→ stop it first"}},
		{"data directory of another version", []string{"--data", future, "--listen", "127.0.0.1:0"}, exitFailed, []string{"layout of version 99", "→ use the Sallyport that made it"}},
		{"every address without TLS", []string{"--data", filepath.Join(other, "b"), "--listen", "0.0.0.0:0"}, exitUsage, []string{"without TLS", "→ give --tls-cert"}},
		{"every IPv6 address without TLS", []string{"--data", filepath.Join(other, "b"), "--listen", "[::]:0"}, exitUsage, []string{"without TLS"}},
		{"a name without TLS", []string{"--data", filepath.Join(other, "b"), "--listen", "example.com:0"}, exitUsage, []string{"without TLS"}},
		{"no address", []string{"--data", filepath.Join(other, "b"), "--listen", "7357"}, exitUsage, []string{"is not an address", "→ write HOST:PORT"}},
		{"half a certificate", []string{"--data", filepath.Join(other, "b"), "--listen", "127.0.0.1:0", "--tls-cert", "c.pem"}, exitUsage, []string{"needs its key"}},
		{"another name", []string{"--data", filepath.Join(other, "b"), "--listen", "127.0.0.1:0", "--instance", "not a host"}, exitUsage, []string{"→"}},
	} {
		got := command(t, os.Environ(), "sallyport", append([]string{"up"}, c.args...)...)
		if got.code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", c.name, got.code, c.code, got.stderr)
		}
		for _, want := range c.says {
			if !strings.Contains(got.stderr, want) {
				t.Errorf("%s: stderr lacks %q:\n%s", c.name, want, got.stderr)
			}
		}
	}
	s.ok("audit", "verify") // the one that runs was not disturbed
}

// TestHostile lets jobs do their worst: the system goes on, and the next run is good.
func TestHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("loads the machine")
	}
	t.Parallel()
	s := newServer(t, "--capacity", "2")
	mark := fmt.Sprintf("sallyport-hostile-%d-%d", os.Getpid(), time.Now().UnixNano())
	hostile := func(name, minutes, script string) (outcome, *repository) {
		t.Helper()
		r := s.project(name)
		o := r.ran(name, files{".github/workflows/ci.yml": fmt.Sprintf("on: push\nenv: {MARK: %s}\njobs:\n  bad:\n    runs-on: ubuntu-latest\n    timeout-minutes: %s\n    steps:\n      - run: |\n          %s\n",
			mark, minutes, strings.ReplaceAll(script, "\n", "\n          "))})
		return o, r
	}
	// good checks that a following run of the same project succeeds and nothing is left of the bad one.
	good := func(r *repository) {
		t.Helper()
		o := r.ran("Good", files{".github/workflows/ci.yml": crashWorkflows[".github/workflows/lint.yml"]})
		if o.run.Conclusion != sallyport.Success {
			t.Errorf("the run after it: %s", o.explain())
		}
		s.eventually("the end of the bad job's processes", func() bool { return len(processes(t, mark)) == 0 })
	}

	t.Run("300 MB without a line end", func(t *testing.T) {
		o, r := hostile("endless", "2", "head -c 300000000 /dev/zero | tr '\\0' x")
		if o.run.Conclusion != sallyport.Success {
			t.Error(o.explain())
		}
		const most = 400 << 20 // bytes; what the processes need without it is about 70 MB each
		for pid, line := range processes(t, s.data) {
			if peak := peakMemory(t, pid); peak > most {
				t.Errorf("%.80s used %d MB", line, peak>>20)
			} else {
				t.Logf("%.80s: peak %d MB", line, peak>>20)
			}
		}
		good(r)
	})
	t.Run("fork bomb", func(t *testing.T) {
		o, r := hostile("fork", "0.05", "bomb() { bomb | bomb & }; bomb; sleep 60")
		timedOut(t, o)
		good(r)
	})
	t.Run("full disk", func(t *testing.T) {
		o, r := hostile("disk", "2", "fallocate -l 1T /tmp/fill; head -c 1G /dev/zero > /tmp/more")
		if o.run.Conclusion != sallyport.Failure {
			t.Error(o.explain())
		}
		good(r)
	})
	t.Run("daemons", func(t *testing.T) {
		o, r := hostile("daemons", "2", "setsid sleep 1000 > /dev/null 2>&1 &\n(nohup sleep 1001 > /dev/null 2>&1 &)\nsetsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' &\necho left")
		if o.run.Conclusion != sallyport.Success {
			t.Error(o.explain())
		}
		good(r)
	})
	t.Run("timeout", func(t *testing.T) {
		o, r := hostile("slow", "0.02", "trap '' TERM INT; while :; do sleep 1; done")
		timedOut(t, o)
		good(r)
	})
	t.Run("cancel", func(t *testing.T) {
		r := s.project("cancel")
		id := r.commit("Long", files{".github/workflows/ci.yml": "on: push\nenv: {MARK: " + mark + "}\njobs:\n  long:\n    runs-on: ubuntu-latest\n    steps:\n      - run: sleep 1000\n"})
		r.push()
		services := s.services()
		s.eventually("the step to run", func() bool {
			for _, run := range r.all(t.Context(), services) {
				_, jobs, err := services.Runs.Run(t.Context(), run.ID)
				if err == nil && len(jobs) == 1 && len(jobs[0].Steps) > 0 && jobs[0].Steps[0].Status == sallyport.StatusInProgress {
					return true
				}
			}
			return false
		})
		s.ok("cancel", "1", "--project", "cancel")
		if o := r.runs(id, 1)[0]; o.run.Conclusion != sallyport.Cancelled {
			t.Error(o.explain())
		}
		good(r)
	})
	t.Run("10,000 files", func(t *testing.T) {
		r := s.project("many")
		many := make(files)
		for n := range 10_000 {
			many[fmt.Sprintf("d%02d/f%04d.txt", n%100, n)] = fmt.Sprintf("file %d\n", n)
		}
		many[".github/workflows/ci.yml"] = "on: push\njobs:\n  count:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - run: test \"$(find d* -type f | wc -l)\" = 10000\n"
		if o := r.ran("Many", many); o.run.Conclusion != sallyport.Success {
			t.Error(o.explain())
		}
	})
	s.ok("audit", "verify")
	s.stop()
	checkNothingLeft(t, s, mark)
}

// timedOut checks that a run was ended by its time limit, as GitHub does it: cancelled.
func timedOut(t *testing.T, o outcome) {
	t.Helper()
	if o.run.Conclusion != sallyport.Cancelled || !strings.Contains(o.job("bad").Cause, "ran longer than") {
		t.Errorf("want it cancelled by its time limit: %s", o.explain())
	}
}

// peakMemory returns the most memory a process has had resident, in bytes.
func peakMemory(t testing.TB, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) || err == syscall.ESRCH {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}
