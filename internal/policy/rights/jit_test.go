package rights

import (
	"testing"
	"time"
)

// A just-in-time grant lets what it names, to whom it names, in its time, and to requests
// that come with it alone.
func TestJustInTimeGrants(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	anna, ben := Of(TypePerson, "person/anna"), Of(TypePerson, "person/ben")
	fix := Of(TypeAgent, "agent/fix")
	production := EnvironmentUID("shop", "production")
	w, err := NewWorld([]Entity{Instance(), Project("shop"), Environment("shop", "production"), Environment("shop", "staging"), Person("person/anna"), Person("person/ben"), Agent("agent/fix", ben)})
	if err != nil {
		t.Fatal(err)
	}
	jit := Layer{Name: "jit", Grants: []Grant{
		{ID: "jit/g", Principal: anna, Actions: []string{"deploy"}, Resource: production, Only: "g", From: from, Until: from.Add(time.Hour)},
		{ID: "jit/h", Principal: fix, Actions: []string{"deploy"}, Resource: production, Only: "h", From: from, Until: from.Add(time.Hour)},
	}}
	s, err := Compile(jit)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		who   UID
		do    string
		what  UID
		at    time.Duration
		grant string
		want  bool
	}{
		{"in its time", anna, "deploy", production, 0, "g", true},
		{"in its last moment", anna, "deploy", production, time.Hour - time.Millisecond, "g", true},
		{"after it", anna, "deploy", production, time.Hour, "g", false},
		{"before it", anna, "deploy", production, -time.Millisecond, "g", false},
		{"without it", anna, "deploy", production, 0, "", false},
		{"with another", anna, "deploy", production, 0, "h", false},
		{"somebody else", ben, "deploy", production, 0, "g", false},
		{"something else", anna, "push", production, 0, "g", false},
		{"somewhere else", anna, "deploy", EnvironmentUID("shop", "staging"), 0, "g", false},
		{"on the project", anna, "deploy", ProjectUID("shop"), 0, "g", false},
		{"an agent whose sponsor may not", fix, "deploy", production, 0, "h", false},
	} {
		if d := s.Decide(w, Request{Principal: c.who, Action: Action(c.do), Resource: c.what, At: from.Add(c.at), Grant: c.grant}); d.Allowed != c.want {
			t.Errorf("%s: %v (%s)", c.name, d.Allowed, d.Why())
		}
	}
	// It is told as what depends on the circumstances, and a forbid beats it.
	holders, err := s.WhoCan(t.Context(), w, Action("deploy"), production)
	if err != nil || len(holders) != 1 || holders[0] != (Holder{anna, false}) {
		t.Errorf("who can deploy: %v, %v", holders, err)
	}
	banned, err := Compile(jit, Layer{Name: "stops", Bans: []Ban{{ID: "stop/person/anna", Principal: anna}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := banned.Decide(w, Request{Principal: anna, Action: Action("deploy"), Resource: production, At: from, Grant: "g"}); d.Allowed {
		t.Error("who is stopped deploys by a grant")
	}
	shut, err := Compile(jit, Layer{Name: "stops", Bans: []Ban{{ID: "stop/project/shop", Actions: []string{"deploy", "push"}, Resource: ProjectUID("shop")}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := shut.Decide(w, Request{Principal: anna, Action: Action("deploy"), Resource: production, At: from, Grant: "g"}); d.Allowed {
		t.Error("something is deployed in a project that is stopped")
	}
	// A file gives no policy the id of a grant or a stop.
	for _, id := range []string{"jit/g", "stop/x"} {
		if _, err := Compile(Layer{Name: "f", Source: []byte(`@id("` + id + `") forbid (principal, action, resource);`)}); err == nil {
			t.Errorf("a file has %s", id)
		}
	}
}
