package cli

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// TestASecretIsNowhere plants a canary as a secret, lends it to a job that prints and keeps all that it
// has, and looks for the canary in everything that the installation wrote. A word of the
// same job that is no secret is found by the same search.
func TestASecretIsNowhere(t *testing.T) {
	t.Parallel()
	const canary, control = "cnry.7b1e0f2a9c4d/8e6f", "control.5a3c9e1d7b2f"
	s := newServer(t)
	r := s.project("keeper")
	got := commandWith(t, canary+"\n", append(os.Environ(), "SALLYPORT_DATA="+s.data), "sallyport", "secrets", "set", "DEPLOY_TOKEN", "--project", "keeper")
	if got.code != exitOK || strings.Contains(got.stdout+got.stderr, canary) {
		t.Fatalf("secrets set: %+v", got)
	}
	if got := s.run("secrets", "set", "DEPLOY_TOKEN", canary, "--project", "keeper"); got.code != exitUsage {
		t.Errorf("a value as an argument: %+v", got)
	}
	o := r.ran("Use it ("+control+")", files{
		".sallyport/egress.yaml": "network: listed\ncredentials:\n  - {name: api, secret: DEPLOY_TOKEN, kind: bearer, host: api.example.com}\n",
		".github/workflows/ci.yml": `on: push
jobs:
  build:
    runs-on: ubuntu-latest
    env: {T: '${{ secrets.DEPLOY_TOKEN }}'}
    steps:
      - run: |
          echo "` + control + ` of ${#T} letters: $T" | tee out; env; cat /proc/*/environ || :
          [ "${T#lent-}" != "$T" ]
      - uses: actions/upload-artifact@v4
        with: {name: out, path: out}
`})
	if o.run.Conclusion != sallyport.Success {
		t.Fatal(o.explain() + "\n" + s.ok("logs", string(o.run.ID)))
	}
	rotated := rotateCanary(t, s, canary)
	text := s.ok("logs", string(o.run.ID)) + s.ok("secrets", "list", "keeper") + s.ok("secrets", "list", "keeper", "--json") +
		s.ok("secrets", "rotation", "--project", "keeper") + s.ok("secrets", "rotation", "--project", "keeper", "--json") +
		s.ok("audit", "list", "--json") + s.ok("runs", string(o.run.ID), "--json")
	if !strings.Contains(text, "DEPLOY_TOKEN") || !strings.Contains(text, control) {
		t.Errorf("nothing to look through:\n%s", text)
	}
	s.stop()
	text += s.log.tail(100_000)

	forms := func(v string) (out []string) {
		b := []byte(v)
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for skip := range 3 { // wherever it stands in what was encoded
				f := e.EncodeToString(b[skip:])
				out = append(out, f[:len(f)-2])
			}
		}
		return append(out, v, hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)))
	}
	find := func(v string) (found []string) {
		for _, form := range forms(v) {
			if strings.Contains(text, form) {
				found = append(found, "an output")
			}
		}
		files := 0
		err := filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			files++
			b, err := os.ReadFile(path)
			for _, form := range forms(v) {
				if strings.Contains(string(b), form) {
					found = append(found, fmt.Sprintf("%s as %s", path, form))
				}
			}
			return err
		})
		if err != nil || files < 20 {
			t.Fatalf("looked through %d files, %v", files, err)
		}
		return found
	}
	for _, v := range append(rotated, canary) {
		if found := find(v); len(found) > 0 {
			t.Errorf("the secret is in %q", found)
		}
	}
	if found := find(control); len(found) == 0 || found[0] != "an output" {
		t.Errorf("the control is in %q", found)
	}
}

// rotateCanary rotates the secret twice at a service, the first time with a target that is unwell in between, and returns the
// values that were in play: what the service gave out, and its administrator's.
func rotateCanary(t *testing.T, s *server, first string) []string {
	t.Helper()
	const admin = "cnry.adm1n-2d4f6b8a0c1e"
	var mu sync.Mutex
	live, made, unwell := map[string]bool{first: true}, []string{admin}, 2
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		token := r.Header.Get("X-Token")
		switch {
		case r.URL.Path == "/make" && r.Header.Get("X-Admin") == admin:
			if unwell--; unwell >= 0 {
				http.Error(w, "I do not like "+admin, http.StatusServiceUnavailable)
				return
			}
			v := fmt.Sprintf("cnry.made-%d-9e7c5a3b1d", len(made))
			live[v], made = true, append(made, v)
			fmt.Fprintf(w, `{"token":%q}`, v)
		case r.URL.Path == "/use" && live[token]:
		case r.URL.Path == "/end" && r.Header.Get("X-Admin") == admin:
			delete(live, token)
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer service.Close()
	file := filepath.Join(t.TempDir(), "rule.yaml")
	rule := strings.ReplaceAll(`rotator: http
config:
  create: {method: POST, url: "URL/make", headers: {X-Admin: "{{admin}}"}, body: '{"name":"{{rotation}}"}'}
  value: /token
  test: {url: "URL/use", headers: {X-Token: "{{value}}"}}
  revoke: {method: DELETE, url: "URL/end", headers: {X-Token: "{{value}}", X-Admin: "{{admin}}"}}
  discard: {method: DELETE, url: "URL/end?name={{rotation}}", headers: {X-Token: "{{value}}", X-Admin: "{{admin}}"}}
`, "URL", service.URL)
	if err := os.WriteFile(file, []byte(rule), 0o600); err != nil {
		t.Fatal(err)
	}
	got := commandWith(t, admin+"\n", append(os.Environ(), "SALLYPORT_DATA="+s.data), "sallyport", "secrets", "rotation", "DEPLOY_TOKEN", "--project", "keeper", "--file", file)
	if got.code != exitOK || strings.Contains(got.stdout+got.stderr, admin) {
		t.Fatalf("secrets rotation: %+v", got)
	}
	for turn := range 3 {
		if turn < 2 {
			s.ok("secrets", "rotate", "DEPLOY_TOKEN", "--project", "keeper")
		} else if told := s.ok("secrets", "leak", "DEPLOY_TOKEN", "--project", "keeper", "--where", "a paste"); !strings.Contains(told, "unkill secret keeper/DEPLOY_TOKEN") || !strings.Contains(told, "replaces it now") {
			t.Errorf("leak said:\n%s", told)
		}
		deadline := time.Now().Add(time.Minute)
		for !strings.Contains(s.ok("secrets", "rotation", "DEPLOY_TOKEN", "--project", "keeper"), "idle") {
			if time.Now().After(deadline) {
				t.Fatal("the rotation does not end:\n" + s.ok("secrets", "rotation", "--project", "keeper", "--json"))
			}
			time.Sleep(100 * time.Millisecond)
		}
		mu.Lock()
		if len(made) != turn+2 || len(live) != 1 || !live[made[turn+1]] {
			t.Errorf("after turn %d the service made %d and accepts %d", turn, len(made)-1, len(live))
		}
		mu.Unlock()
	}
	return made
}
