package rights

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// town is a small world: two projects, three environments, each kind of principal.
func town(t testing.TB) *World {
	t.Helper()
	anna, ben := Of(TypePerson, "person/anna"), Of(TypePerson, "person/ben")
	pipeline := Pipeline("shop", "ci.yml", sallyport.DigestOf([]byte("ci")), "protected", sallyport.TierProtected)
	low := Pipeline("shop", "ci.yml", sallyport.DigestOf([]byte("ci")), "member", sallyport.TierMember)
	w, err := NewWorld([]Entity{
		Instance(), Project("shop"), Project("blog"),
		Environment("shop", "production"), Environment("shop", "staging"), Environment("blog", "production"),
		Secret("shop", "production", "db", sallyport.TierProtected), Secret("shop", "staging", "db", sallyport.TierMember),
		Team("all"), Team("ops", Of(TypeTeam, "all")),
		Person("person/anna", Of(TypeTeam, "ops")), Person("person/ben"),
		Bot("bot/ci"), Agent("agent/fix", anna), Agent("agent/help", ben), Runner("r1"),
		pipeline, low,
		Job("j1", pipeline.UID, sallyport.TierProtected, EnvironmentUID("shop", "production")),
		Job("j2", pipeline.UID, sallyport.TierProtected, EnvironmentUID("shop", "staging")),
		Job("j3", low.UID, sallyport.TierMember, EnvironmentUID("shop", "production")),
		Service("shop", "production", "web"), Service("shop", "staging", "web"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func compile(t testing.TB, source string) *Set {
	t.Helper()
	s, err := Compile(Layer{Name: "access.cedar", Source: []byte(source)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ask(s *Set, w *World, who UID, action string, what UID) Decision {
	return s.Decide(w, Request{Principal: who, Action: Action(action), Resource: what, At: noon})
}

func TestDecide(t *testing.T) {
	t.Parallel()
	w := town(t)
	const base = `
permit (principal in Team::"ops", action in [Action::"read", Action::"deploy"], resource in Project::"shop");
permit (principal == Agent::"agent/fix", action == Action::"deploy", resource == Environment::"shop/staging");
permit (principal == Agent::"agent/help", action == Action::"deploy", resource == Environment::"shop/staging");
permit (principal == Agent::"agent/fix", action == Action::"admin", resource == Instance::"instance");
permit (principal == Person::"person/anna", action == Action::"admin", resource == Instance::"instance");
permit (principal in Pipeline::"shop/ci.yml@` + "PIPE" + `/protected", action == Action::"use", resource in Environment::"shop/production");
permit (principal in Pipeline::"shop/ci.yml@` + "PIPE" + `/member", action == Action::"use", resource in Environment::"shop/production");
permit (principal == Service::"shop/staging/web", action == Action::"use", resource == Secret::"shop/production/db");
permit (principal == Service::"shop/staging/web", action == Action::"use", resource == Secret::"shop/staging/db");
`
	source := strings.ReplaceAll(base, "PIPE", sallyport.DigestOf([]byte("ci")).Short())
	anna, fix, help := Of(TypePerson, "person/anna"), Of(TypeAgent, "agent/fix"), Of(TypeAgent, "agent/help")
	production, staging := EnvironmentUID("shop", "production"), EnvironmentUID("shop", "staging")
	secret := SecretUID("shop", "production", "db")
	for _, c := range []struct {
		name   string
		extra  string
		who    UID
		action string
		what   UID
		want   bool
		why    string
	}{
		{"a team's right reaches what is in the project", "", anna, "deploy", production, true, "policy access.cedar#1"},
		{"and no other project", "", anna, "deploy", EnvironmentUID("blog", "production"), false, "no policy permits it"},
		{"and no other action", "", anna, "push", ProjectUID("shop"), false, "no policy permits it"},
		{"nobody else", "", Of(TypePerson, "person/ben"), "read", ProjectUID("shop"), false, "no policy permits it"},
		{"a stranger", "", Of(TypePerson, "person/eve"), "read", ProjectUID("shop"), false, "the principal is unknown"},
		{"an action that no runner asks", "", Of(TypeRunner, "r1"), "read", ProjectUID("shop"), false, "knows no request"},
		{"an action that is none", "", anna, "fly", ProjectUID("shop"), false, "knows no request"},
		{"a forbid beats a permit", `@id("frozen") forbid (principal, action == Action::"deploy", resource == Environment::"shop/production");`,
			anna, "deploy", production, false, "policy frozen"},
		{"a forbid that fails denies", `@id("sum") forbid (principal is Job, action, resource is Secret) when { principal.tier + 9223372036854775807 < 0 };`,
			Of(TypeJob, "j1"), "use", secret, false, "policy sum"},
		{"an agent does what its sponsor may too", "", fix, "deploy", staging, true, "policy access.cedar#2"},
		{"but not what its sponsor may not", "", help, "deploy", staging, false, "its sponsor may not"},
		{"nor what only its sponsor may", "", fix, "deploy", production, false, "no policy permits it"},
		{"nor administer", "", fix, "admin", TheInstance(), false, "policy builtin/agents-administer-nothing"},
		{"a job uses its environment's secret", "", Of(TypeJob, "j1"), "use", secret, true, "policy access.cedar#6"},
		{"not another environment's", "", Of(TypeJob, "j2"), "use", secret, false, "policy builtin/environments-are-apart"},
		{"not from a lower tier", "", Of(TypeJob, "j3"), "use", secret, false, "policy builtin/lower-tiers-reach-no-higher"},
		{"a service of staging", "", Of(TypeService, "shop/staging/web"), "use", secret, false, "policy builtin/environments-are-apart"},
		{"at home", "", Of(TypeService, "shop/staging/web"), "use", SecretUID("shop", "staging", "db"), true, "policy access.cedar#9"},
		{"a condition on the time", `permit (principal == Person::"person/ben", action == Action::"push", resource == Project::"blog") when { context.at < datetime("2026-11-29") };`,
			Of(TypePerson, "person/ben"), "push", ProjectUID("blog"), true, "policy access.cedar#10"},
		{"that has passed", `permit (principal == Person::"person/ben", action == Action::"push", resource == Project::"blog") when { context.at < datetime("2026-11-28") };`,
			Of(TypePerson, "person/ben"), "push", ProjectUID("blog"), false, "no policy permits it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := ask(compile(t, source+c.extra), w, c.who, c.action, c.what)
			if d.Allowed != c.want || !strings.Contains(d.Why(), c.why) {
				t.Errorf("allowed %v because %q, want %v because %q", d.Allowed, d.Why(), c.want, c.why)
			}
		})
	}
}

func TestTheRecordOfADecision(t *testing.T) {
	t.Parallel()
	w := town(t)
	s := compile(t, `permit (principal == Bot::"bot/ci", action == Action::"push", resource == Project::"shop");`)
	b, err := json.Marshal(ask(s, w, Of(TypeBot, "bot/ci"), "push", ProjectUID("shop")))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"allowed": true, "principal": `Bot::"bot/ci"`, "action": "push", "resource": `Project::"shop"`,
		"policies": string(s.Digest()), "entities": string(w.Digest()), "engine": EngineVersion} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if c, _ := got["context"].(map[string]any); c["at"] != "2026-11-28T12:00:00Z" {
		t.Errorf("the context is %v", got["context"])
	}
	if d, _ := got["determining"].([]any); len(d) != 1 || d[0] != "access.cedar#1" {
		t.Errorf("determined by %v", got["determining"])
	}
}

func TestPoliciesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ source, want string }{
		"no syntax":          {"permit (", "access.cedar"},
		"a wildcard":         {"permit (principal, action, resource);", "a permit names its principal"},
		"any action":         {`permit (principal == Bot::"b", action, resource == Project::"p");`, "a permit names its actions"},
		"any resource":       {`permit (principal == Bot::"b", action == Action::"read", resource);`, "a permit names its resource"},
		"a type of resource": {`permit (principal == Bot::"b", action == Action::"read", resource is Project);`, "a permit names its resource"},
		"a type of people":   {`permit (principal is Person, action == Action::"read", resource == Project::"p");`, "a permit names its principal"},
		"unknown type":       {`permit (principal == Robot::"b", action == Action::"read", resource == Project::"p");`, "Robot"},
		"unknown action":     {`permit (principal == Bot::"b", action == Action::"raed", resource == Project::"p");`, "raed"},
		"unknown attribute":  {`forbid (principal is Job, action, resource) when { principal.tire == 1 };`, "tire"},
		"wrong type":         {`forbid (principal, action, resource) when { context.at == "noon" };`, "String"},
		"optional unguarded": {`forbid (principal is Job, action, resource) when { principal.environment == Environment::"a/b" };`, "environment"},
		"no such request":    {`permit (principal == Runner::"r", action == Action::"push", resource == Project::"p");`, "action"},
		"a template":         {`permit (principal == ?principal, action == Action::"read", resource == Project::"p");`, "access.cedar"},
		"a name twice":       {`@id("x") forbid (principal, action, resource); @id("x") forbid (principal, action, resource);`, "another policy has this @id"},
		"a grant's name":     {`@id("work/shop/bot/bot/ci") forbid (principal, action, resource);`, "given by Sallyport alone"},
		"a builtin's name":   {`@id("builtin/environments-are-apart") forbid (principal, action, resource);`, "another policy has this @id"},
		"deep":               {"forbid (principal, action, resource) when { " + strings.Repeat("(", 100_000) + "true", "nested deeper"},
		"long":               {"forbid (principal, action, resource) when { true" + strings.Repeat(" && true", 3000) + "};", "operators in one policy"},
		"large":              {strings.Repeat("//", MaxSource), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Compile(Layer{Name: "access.cedar", Source: []byte(c.source)})
			var found Findings
			if !errors.As(err, &found) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a finding with %q", err, c.want)
			}
		})
	}
}

func TestAFindingHasItsPlace(t *testing.T) {
	t.Parallel()
	_, err := Compile(Layer{Name: "access.cedar", Source: []byte("// why\n\n  permit (principal, action == Action::\"read\", resource == Project::\"p\");")})
	if err == nil || !strings.HasPrefix(err.Error(), "access.cedar:3:3: policy access.cedar#1: a permit names its principal") {
		t.Errorf("got %v", err)
	}
}

func TestWorldsThatAreRefused(t *testing.T) {
	t.Parallel()
	a, b := Of(TypeTeam, "a"), Of(TypeTeam, "b")
	for name, c := range map[string]struct {
		entities []Entity
		want     string
	}{
		"teams in a circle":        {[]Entity{Team("a", b), Team("b", a)}, "is in itself"},
		"a team in itself":         {[]Entity{Team("a", a)}, "is in itself"},
		"twice":                    {[]Entity{Team("a"), Team("a")}, "twice"},
		"an agent of nobody":       {[]Entity{Agent("x", Of(TypePerson, "p"))}, "sponsor"},
		"an agent of a bot":        {[]Entity{Bot("b"), Agent("x", Of(TypeBot, "b"))}, "Agent"},
		"a person in a project":    {[]Entity{Person("p", ProjectUID("x"))}, "Person"},
		"an environment in one":    {[]Entity{entity(EnvironmentUID("s", "prod"), nil, EnvironmentUID("s", "dev"))}, "Environment"},
		"a job without its tier":   {[]Entity{entity(Of(TypeJob, "j"), nil)}, "Job"},
		"a type that there is not": {[]Entity{entity(Of("Robot", "r"), nil)}, "Robot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := NewWorld(c.entities); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestWhoCan(t *testing.T) {
	t.Parallel()
	w := town(t)
	s := compile(t, `
permit (principal in Team::"all", action == Action::"deploy", resource in Project::"shop");
permit (principal == Person::"person/ben", action == Action::"deploy", resource == Environment::"shop/production") when { context.at < datetime("2020-01-01") };
permit (principal == Agent::"agent/fix", action == Action::"deploy", resource in Project::"shop");
permit (principal == Bot::"bot/ci", action in [Action::"deploy", Action::"read"], resource in Project::"shop");
forbid (principal == Bot::"bot/ci", action == Action::"deploy", resource == Environment::"shop/production");
forbid (principal in Team::"ops", action, resource == Environment::"shop/staging") when { context.at > datetime("2030-01-01") };
`)
	names := func(action string, what UID) string {
		t.Helper()
		list, err := s.WhoCan(t.Context(), w, Action(action), what)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, h := range list {
			name := string(h.Principal.ID)
			if !h.Always {
				name += "?"
			}
			out = append(out, name)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		action string
		what   UID
		want   string
	}{
		{"deploy", EnvironmentUID("shop", "production"), "agent/fix person/anna person/ben?"},
		{"deploy", EnvironmentUID("shop", "staging"), "agent/fix? bot/ci person/anna?"},
		{"deploy", EnvironmentUID("blog", "production"), ""},
		{"read", ProjectUID("shop"), "bot/ci"},
	} {
		if got := names(c.action, c.what); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.action, c.what, got, c.want)
		}
	}
	if _, err := s.WhoCan(t.Context(), w, Action("deploy"), ProjectUID("none")); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("an unknown resource: %v", err)
	}
	if _, err := s.WhoCan(t.Context(), w, Action("fly"), ProjectUID("shop")); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("an unknown action: %v", err)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	w := town(t)
	before := compile(t, `permit (principal == Bot::"bot/ci", action in [Action::"read", Action::"deploy"], resource in Project::"shop");`)
	after := compile(t, `permit (principal == Bot::"bot/ci", action in [Action::"read"], resource in Project::"shop");
permit (principal in Team::"ops", action == Action::"deploy", resource == Environment::"shop/production");`)
	d, err := Compare(t.Context(), before, w, after, w)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Gained) != 1 || d.Gained[0] != (Reach{Of(TypePerson, "person/anna"), Action("deploy"), EnvironmentUID("shop", "production")}) {
		t.Errorf("gained %v", d.Gained)
	}
	if len(d.Lost) != 3 {
		t.Errorf("lost %v", d.Lost)
	}
	// People, bots and agents ask 6 actions about 6 things and 3 about the instance; people 2 more about all things, and
	// with bots they stop projects; a runner, and jobs and such about secrets.
	askers, people, shut := len(w.Of(TypePerson, TypeBot, TypeAgent)), len(w.Of(TypePerson)), len(w.Of(TypeInstance, TypeProject))
	if want := int64(6*askers*6 + 3*askers + 2*people*6 + (2*people+len(w.Of(TypeBot)))*shut + 1 + len(w.Of(TypePipeline, TypeJob, TypeService, TypeEnvironment))*2); d.Asked != want {
		t.Errorf("asked %d, want %d", d.Asked, want)
	}
	// The same policies, another world: a person joins a team.
	joined, err := NewWorld([]Entity{Instance(), Project("shop"), Environment("shop", "production"), Team("ops"), Person("person/ben", Of(TypeTeam, "ops"))})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := NewWorld([]Entity{Instance(), Project("shop"), Environment("shop", "production"), Team("ops"), Person("person/ben")})
	if err != nil {
		t.Fatal(err)
	}
	if d, err = Compare(t.Context(), after, alone, after, joined); err != nil || len(d.Gained) != 1 || len(d.Lost) != 0 {
		t.Errorf("joining a team: %+v, %v", d, err)
	}
}

func TestLockingEverybodyOut(t *testing.T) {
	t.Parallel()
	w := town(t)
	const admin = `permit (principal == Person::"person/anna", action == Action::"admin", resource == Instance::"instance");`
	for name, c := range map[string]struct{ source, want string }{
		"one is left":        {admin, ""},
		"a forbid for all":   {admin + `@id("all") forbid (principal, action, resource);`, `Person::"person/anna": policy all`},
		"a forbid some day":  {admin + `@id("late") forbid (principal, action == Action::"admin", resource) when { context.at > datetime("2027-01-01") };`, "policy late"},
		"a permit till then": {`permit (principal == Person::"person/anna", action == Action::"admin", resource == Instance::"instance") when { context.at < datetime("2027-01-01") };`, "nobody could change"},
		"only a bot":         {`permit (principal == Bot::"bot/ci", action == Action::"admin", resource == Instance::"instance");`, "nobody could change"},
		"a stranger":         {`permit (principal == Person::"person/eve", action == Action::"admin", resource == Instance::"instance");`, "nobody could change"},
		"nothing":            {"", "nobody could change"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := compile(t, c.source).KeepsAnAdministrator(w)
			var l *Lockout
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.As(err, &l) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestGrants(t *testing.T) {
	t.Parallel()
	w := town(t)
	s, err := Compile(Layer{Name: "grants", Grants: []Grant{
		{ID: `g/"odd"`, Principal: Of(TypeBot, `b"; permit (principal, action, resource); //`), Actions: []string{"read"}, Resource: ProjectUID("shop")},
		{ID: "g/ci", Principal: Of(TypeBot, "bot/ci"), Actions: []string{"read", "deploy"}, Resource: ProjectUID("shop")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if d := ask(s, w, Of(TypeBot, "bot/ci"), "deploy", EnvironmentUID("shop", "staging")); !d.Allowed {
		t.Error(d.Why())
	}
	// What is shown is what is in force: it compiles to the same policies.
	var text strings.Builder
	for _, p := range s.Policies() {
		if !strings.HasPrefix(p.ID, "builtin/") {
			text.WriteString(p.Text + "\n")
		}
	}
	again := compile(t, text.String())
	if again.Digest() != s.Digest() {
		t.Errorf("shown as\n%s", text.String())
	}
}

func TestParseUID(t *testing.T) {
	t.Parallel()
	if u, err := ParseUID(`Environment::"shop/production"`); err != nil || u != EnvironmentUID("shop", "production") {
		t.Errorf("%v, %v", u, err)
	}
	for _, bad := range []string{"", "shop", `Environment::shop`, `::"x"`, `A::"x" B::"y"`, strings.Repeat("A", 2000)} {
		if u, err := ParseUID(bad); err == nil {
			t.Errorf("%.50q was read as %v", bad, u)
		}
	}
}
