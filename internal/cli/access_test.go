package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestAccess goes from accounts to policies in force with the verbs that an
// operator types, and tries what they let with a token over HTTP.
func TestAccess(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--no-runner")
	s.ok("project", "create", "shop")
	if got := s.ok("people", "add", "anna", "--team", "ops"); got != "person/anna\n" {
		t.Errorf("people add printed %q", got)
	}
	s.ok("bots", "add", "ci", "--project", "shop")
	s.ok("agents", "add", "fix", "--sponsor", "anna", "--project", "shop")
	var agents []sallyport.Account
	s.json(&agents, "agents", "list")
	if len(agents) != 1 || agents[0].Sponsor != "person/anna" {
		t.Errorf("agents are %+v", agents)
	}
	if text := s.ok("bots", "list"); !strings.Contains(text, "bot/ci  shop") {
		t.Errorf("bots list printed\n%s", text)
	}

	// A token over HTTP: all that its account may, and less when it says so.
	token := func(args ...string) string {
		return strings.TrimSpace(s.ok(append([]string{"token", "create"}, args...)...))
	}
	as := func(token string, args ...string) result {
		return command(t, append(os.Environ(), "SALLYPORT_URL="+s.url, "SALLYPORT_TOKEN="+token), "sallyport", args...)
	}
	all, fixer := token("all", "--for", "bot/ci"), token("fixer", "--for", "agent/fix")
	if r := as(all, "runs", "--project", "shop"); r.code != exitOK {
		t.Errorf("a bot of the project lists its runs: %+v", r)
	}
	if r := as(token("push", "--for", "bot/ci", "--action", "push"), "runs", "--project", "shop"); r.code != exitFailed || !strings.Contains(r.stderr, "may not read") {
		t.Errorf("a token to push reads: %+v", r)
	}
	if r := as(all, "people", "list"); r.code != exitFailed {
		t.Errorf("a bot lists people: %+v", r)
	}
	if r := as(fixer, "runs", "--project", "shop"); r.code != exitFailed {
		t.Errorf("an agent reads what its sponsor may not: %+v", r)
	}

	file := func(source string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "rules.cedar")
		if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rules := file(`permit (principal in Team::"ops", action == Action::"read", resource in Project::"shop");`)
	const newly = `+ newly lets Person::"person/anna" read Project::"shop"`
	if text := s.ok("access", "diff", rules); !strings.Contains(text, newly) || !strings.Contains(text, `+ newly lets Agent::"agent/fix" read`) {
		t.Errorf("access diff printed\n%s", text)
	}
	if text := s.ok("access", "who-can", "read", `Project::"shop"`); strings.Contains(text, "anna") {
		t.Errorf("a diff changed who can read:\n%s", text)
	}
	var change sallyport.AccessChange
	s.json(&change, "access", "set", rules)
	if len(change.Gained) != 2 || len(change.Lost) != 0 {
		t.Errorf("access set told %+v", change)
	}
	if text := s.ok("access", "who-can", "read", `Project::"shop"`); !strings.Contains(text, "Person::\"person/anna\"\n") {
		t.Errorf("who can read:\n%s", text)
	}
	if r := as(fixer, "runs", "--project", "shop"); r.code != exitOK {
		t.Errorf("an agent reads what its sponsor may: %+v", r)
	}
	if text := s.ok("access", "show"); !strings.Contains(text, `principal in Team::"ops"`) || !strings.Contains(text, `@id("work/shop/bot/bot/ci")`) {
		t.Errorf("access show printed\n%s", text)
	}
	if r := s.run("access", "set", file("forbid (principal, action, resource);")); r.code != exitFailed || !strings.Contains(r.stderr, "nobody could change the policies any more") {
		t.Errorf("everybody was locked out: %+v", r)
	}
	if r := s.run("people", "remove", "person/anna"); r.code != exitFailed || !strings.Contains(r.stderr, "sponsors agent/fix") {
		t.Errorf("a sponsor was removed: %+v", r)
	}
	s.ok("agents", "remove", "agent/fix")
	if r := as(fixer, "runs", "--project", "shop"); r.code != exitFailed {
		t.Errorf("a token outlives its account: %+v", r)
	}
	s.ok("people", "remove", "person/anna")

	// It is so after a start, too, and the trail tells of it.
	s.stop()
	s.start()
	var shown sallyport.AccessRules
	s.json(&shown, "access", "show")
	if shown.File.Digest == "" || !strings.Contains(shown.File.Source, "ops") {
		t.Errorf("after a start the file is %+v", shown.File)
	}
	var trail []sallyport.AuditRecord
	s.json(&trail, "audit", "list", "--action", "access.changed")
	if len(trail) != 1 || !strings.Contains(string(trail[0].Detail), "person/anna") {
		t.Errorf("the trail tells %v", trail)
	}
}
