package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestApprovals goes from asking for access over a yes to its end, and throws the kill
// switch, with the verbs that people type, over HTTP with tokens of their own.
func TestApprovals(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--no-runner")
	s.ok("project", "create", "shop")
	for _, name := range []string{"anna", "ben"} {
		s.ok("people", "add", name, "--project", "shop")
	}
	tokens := map[string]string{}
	for _, name := range []string{"anna", "ben"} {
		tokens[name] = strings.TrimSpace(s.ok("token", "create", name, "--for", "person/"+name))
	}
	as := func(who string, args ...string) result {
		return command(t, append(os.Environ(), "SALLYPORT_URL="+s.url, "SALLYPORT_TOKEN="+tokens[who]), "sallyport", args...)
	}
	fine := func(who string, args ...string) string {
		t.Helper()
		r := as(who, args...)
		if r.code != exitOK {
			t.Fatalf("%s: sallyport %s: %+v", who, strings.Join(args, " "), r)
		}
		return r.stdout
	}
	id := strings.TrimSpace(fine("anna", "request", "secrets", "shop", "--for", "30m", "--why", "rotate it", "--once"))
	if r := as("anna", "approvals", "approve", id); r.code != exitFailed || !strings.Contains(r.stderr, "whoever asks does not approve") {
		t.Errorf("anna approved what she asked for: %+v", r)
	}
	if r := s.run("approvals", "approve", id); r.code != exitFailed || !strings.Contains(r.stderr, "a person with an account") {
		t.Errorf("the operator's socket approved: %+v", r)
	}
	if text := fine("ben", "approvals"); !strings.Contains(text, id) || !strings.Contains(text, "0 of 1") {
		t.Errorf("approvals printed\n%s", text)
	}
	if text := fine("ben", "approvals", "show", id); !strings.Contains(text, `+ lets     Person::"person/anna" secrets Project::"shop"`) || !strings.Contains(text, "rotate it") {
		t.Errorf("approvals show printed\n%s", text)
	}
	if r := as("ben", "approvals", "approve", id, "--digest", "sha256:"+strings.Repeat("0", 64)); r.code != exitFailed {
		t.Errorf("a vote for something else: %+v", r)
	}
	if text := fine("ben", "approvals", "approve", id, "--note", "fine"); text != "approved: 1 of 1\n" {
		t.Errorf("approve printed %q", text)
	}
	fine("anna", "grants", "activate", id)
	if text := fine("anna", "grants"); !strings.Contains(text, "active") || !strings.Contains(text, "person:anna") {
		t.Errorf("grants printed\n%s", text)
	}
	var trail []sallyport.AuditRecord
	s.json(&trail, "audit", "list", "--action", "grant.activated")
	if len(trail) != 1 || trail[0].Actor != "person:anna" {
		t.Errorf("the trail tells %+v", trail)
	}

	if r := as("ben", "kill", "person", "anna"); r.code != exitFailed {
		t.Errorf("ben threw the kill switch: %+v", r)
	}
	if text := s.ok("kill", "person", "anna", "--why", "laptop stolen"); !strings.Contains(text, "Stopped:") || !strings.Contains(text, "grant") {
		t.Errorf("kill printed\n%s", text)
	}
	if r := as("anna", "runs"); r.code != exitFailed {
		t.Errorf("anna goes on: %+v", r)
	}
	s.stop()
	s.start()
	if text := s.ok("kill"); !strings.Contains(text, "person/anna") || !strings.Contains(text, "laptop stolen") {
		t.Errorf("after a start kill lists\n%s", text)
	}
	s.ok("unkill", "person", "anna")
	if text := s.ok("kill"); strings.Contains(text, "anna") {
		t.Errorf("after it was lifted kill lists\n%s", text)
	}
}
