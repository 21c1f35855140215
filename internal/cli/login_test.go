package cli

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An installation starts while the provider of identities is down, says so to people who
// want to log in there, and keeps the ways that do not need it.
func TestUpWithProvider(t *testing.T) {
	t.Parallel()
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := write("secret", "of the client\n")
	good := write("oidc.yaml", fmt.Sprintf("name: Example Corp\nissuer: http://%s\nclient_id: sallyport\nclient_secret_file: %s\n", down.Addr(), secret))
	for name, c := range map[string]struct{ file, want string }{
		"no such file": {filepath.Join(dir, "none"), "--oidc"},
		"a bad file":   {write("bad.yaml", "issuer: https://id.example.com\nclient: x\n"), "field client not found"},
		"no secret":    {write("nosecret.yaml", "issuer: https://id.example.com\nclient_id: x\nclient_secret_file: /nonexistent\n"), "client_secret_file"},
	} {
		r := command(t, os.Environ(), "sallyport", "up", "--data", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0", "--no-runner", "--oidc", c.file)
		if r.code == exitOK || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}

	s := newServer(t, "--no-runner", "--oidc", good)
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if status, page := get("/login"); status != http.StatusOK || !strings.Contains(page, "Sign in with Example Corp") {
		t.Errorf("the login page: %d %s", status, page)
	}
	if status, page := get("/login/provider"); status != http.StatusServiceUnavailable || !strings.Contains(page, "Example Corp does not answer") {
		t.Errorf("a provider that is down: %d %s", status, page)
	}
	s.ok("people", "add", "anna")
	s.ok("people", "link", "person/anna", "1")
	s.ok("people", "link", "person/anna", "")
	if text := s.ok("audit", "list"); strings.Count(text, "account.linked") != 2 {
		t.Errorf("the trail:\n%s", text)
	}
}
