package broker

import (
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"encoding/pem"

	"github.com/sallyport-ci/sallyport"
)

// TestGitClonesAndPushesWithoutACredential uses the system's git on both sides.
func TestGitClonesAndPushesWithoutACredential(t *testing.T) {
	t.Parallel()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("there is no git")
	}
	backend := filepath.Join(strings.TrimSpace(string(path)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("there is no git-http-backend")
	}
	root := t.TempDir()
	git := func(n *bench, dir string, args ...string) (string, error) {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + root, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com"}
		if n != nil {
			ca := filepath.Join(root, "ca.pem")
			if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.front.Certificate().Raw}), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(cmd.Env, "GIT_SSL_CAINFO="+ca, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.curloptResolve",
				fmt.Sprintf("GIT_CONFIG_VALUE_0=git.example.com:%d:127.0.0.1", n.port))
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(n *bench, dir string, args ...string) {
		t.Helper()
		if out, err := git(n, dir, args...); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{"app.git", "other.git"} {
		must(nil, root, "init", "-q", "--bare", "-b", "main", name)
		must(nil, filepath.Join(root, name), "config", "http.receivepack", "true")
	}
	server := &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + root}}
	n := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "bot" || password != canary {
			w.Header().Set("Www-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		server.ServeHTTP(w, r)
	}), sallyport.CredentialRule{Kind: sallyport.CredentialBasic, User: "bot", Host: "git.example.com", Methods: []string{"GET", "POST"}, Paths: []string{"/app.git/"}})

	base := fmt.Sprintf("https://git.example.com:%d/", n.port)
	must(n, root, "clone", "-q", base+"app.git", "work")
	work := filepath.Join(root, "work")
	big := strings.Repeat("some text that is long enough to be sent in chunks\n", 60_000)
	if err := os.WriteFile(filepath.Join(work, "file"), []byte(big), 0o600); err != nil {
		t.Fatal(err)
	}
	must(n, work, "add", "file")
	must(n, work, "commit", "-q", "-m", "one")
	must(n, work, "-c", "http.postBuffer=1000", "push", "-q", "origin", "HEAD:main")
	must(n, root, "clone", "-q", base+"app.git", "again")
	if got, err := os.ReadFile(filepath.Join(root, "again", "file")); err != nil || string(got) != big {
		t.Errorf("what was pushed did not come back: %v", err)
	}
	out, err := git(n, root, "clone", base+"other.git", "stolen")
	if err == nil || !strings.Contains(out, "403") || !strings.Contains(out, "not lent for this path") {
		t.Errorf("another repository: %v\n%s", err, out)
	}
	if out, err := exec.Command("grep", "-rlF", canary, work, filepath.Join(root, "again")).CombinedOutput(); err == nil {
		t.Errorf("the value is in the job's files: %s", out)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	posts := 0
	for _, u := range n.uses {
		if u.Method == "POST" && u.Decision == sallyport.EgressAllowed && u.Credential == "cred0" {
			posts++
		}
	}
	if posts < 2 {
		t.Errorf("%d uses with POST are recorded of %d", posts, len(n.uses))
	}
}
