package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// holder makes a token for a principal and returns a context of who sends it.
func (h *house) holder(p sallyport.Principal) context.Context {
	h.t.Helper()
	value, _, err := h.s.Access.CreateToken(h.admin, "of "+p.Name, sallyport.TokenAPI, p, time.Hour)
	check(h.t, err)
	who, err := h.s.Access.Authenticate(h.t.Context(), sallyport.TokenAPI, value)
	check(h.t, err)
	return sallyport.WithPrincipal(h.t.Context(), who)
}

// account makes an account and returns a context of who comes with a token of it.
func (h *house) account(a sallyport.Account) context.Context {
	h.t.Helper()
	a, err := h.s.Rights.AddAccount(h.admin, a)
	check(h.t, err)
	return h.holder(sallyport.Principal{Kind: a.Kind, ID: a.ID, Name: a.Name, Whole: true})
}

// Every method of every service, as every kind of principal without a grant, about
// no project, a project and each environment: denied, but for what the table says
// that the kind may.
func TestEveryMethodEveryPrincipalEveryEnvironment(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	check(t, h.store.Update(t.Context(), func(tx sallyport.Tx) error {
		for _, name := range []string{"production", "staging"} {
			if err := tx.Environments().Put(sallyport.Environment{Project: h.p.ID, Name: name, At: h.now}); err != nil {
				return err
			}
		}
		return nil
	}))
	h.e.laws.drop()
	person := h.account(sallyport.Account{Kind: sallyport.Person, Name: "eve"})
	ghost := func(kind sallyport.PrincipalKind) context.Context {
		return sallyport.WithPrincipal(t.Context(), sallyport.Principal{Kind: kind, ID: "ghost", Name: "ghost", Admin: true, Whole: true})
	}
	// Whoever has an account may see how the installation is, and end a session.
	instance := []string{"TrustRoot", "Identity", "Health", "TokenIssuer", "IssuerStatus", "Projects", "Runs", "Logout", "Requests", "Ask", "Grants", "Stops"}
	kinds := map[string]struct {
		ctx context.Context
		may []string
	}{
		"a person":               {person, instance},
		"a bot":                  {h.account(sallyport.Account{Kind: sallyport.Bot, Name: "ci"}), instance},
		"an agent":               {h.account(sallyport.Account{Kind: sallyport.Agent, Name: "fix", Sponsor: "person/eve"}), instance},
		"nobody":                 {t.Context(), nil},
		"an unknown person":      {ghost(sallyport.Person), nil},
		"an unknown bot":         {ghost(sallyport.Bot), nil},
		"an unknown agent":       {ghost(sallyport.Agent), nil},
		"an unknown runner":      {ghost(sallyport.Runner), nil},
		"a kind that there isnt": {ghost("robot"), nil},
	}
	open := []string{"Authenticate", "Login", "Denied"}
	targets := []reflect.Value{reflect.ValueOf(h.y)}
	services := reflect.ValueOf(h.s)
	for i := range services.NumField() {
		targets = append(targets, services.Field(i).Elem())
	}
	called := 0
	for name, kind := range kinds {
		for _, v := range targets {
			for i := range v.NumMethod() {
				method := v.Type().Method(i)
				if slices.Contains(open, method.Name) {
					continue
				}
				for _, project := range []sallyport.ProjectID{"", h.p.ID, "unknown"} {
					for _, environment := range []string{"", "production", "staging", "other"} {
						called++
						err := callAbout(kind.ctx, v.Method(i), project, environment)
						denied := sallyport.ErrorCode(err) == sallyport.CodeDenied
						// A deployment's health is not the installation's: it is about a project.
						may := slices.Contains(kind.may, method.Name) && !(method.Name == "Health" && v.Type() == reflect.TypeFor[deployments]())
						if method.Name == "Runs" || method.Name == "Requests" {
							may = may && project == "" // the filter below carries none
						}
						if denied == may {
							t.Errorf("%s calls %s.%s about %q, %q: %v", name, v.Type(), method.Name, project, environment, err)
						}
					}
				}
			}
		}
	}
	if called < 4000 {
		t.Errorf("only %d calls were made", called)
	}
}

// callAbout calls a method with the project and the environment wherever it takes one.
func callAbout(ctx context.Context, m reflect.Value, project sallyport.ProjectID, environment string) error {
	args := []reflect.Value{reflect.ValueOf(ctx)}
	for k := 1; k < m.Type().NumIn(); k++ {
		in := reflect.New(m.Type().In(k)).Elem()
		switch p := in.Addr().Interface().(type) {
		case *sallyport.ProjectID:
			*p = project
		case *string:
			*p = environment
		case *sallyport.RunFilter:
			p.Project = project
		}
		args = append(args, in)
	}
	out := m.Call(args)
	err, _ := out[len(out)-1].Interface().(error)
	return err
}

// Tokens that were made before there were accounts open what they opened, through
// exact policies, and nothing else.
func TestTokensOfBeforeAreExactPolicies(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other, err := h.s.Projects.CreateProject(h.admin, "other", "main")
	check(t, err)
	old := []sallyport.Token{
		{ID: "t1", Name: "all", Principal: sallyport.Principal{Kind: sallyport.Bot, ID: "bot/all", Name: "all", Admin: true}},
		{ID: "t2", Name: "ci", Principal: sallyport.Principal{Kind: sallyport.Bot, ID: "bot/ci", Name: "ci", Projects: []sallyport.ProjectID{h.p.ID}}},
		{ID: "t3", Name: "ci", Principal: sallyport.Principal{Kind: sallyport.Bot, ID: "bot/ci", Name: "ci", Projects: []sallyport.ProjectID{other.ID}}},
		{ID: "t4", Name: "bare", Principal: sallyport.Principal{Kind: sallyport.Person, ID: "local/7", Name: "bare"}},
		{ID: "t5", Name: "past", Principal: sallyport.Principal{Kind: sallyport.Bot, ID: "bot/past", Name: "past", Admin: true}},
	}
	value := func(t sallyport.Token) string { return "slp_" + string(t.ID) }
	check(t, h.store.Update(t.Context(), func(tx sallyport.Tx) error {
		for _, token := range old {
			token.Kind, token.Hash, token.CreatedAt, token.ExpiresAt = sallyport.TokenAPI, sallyport.DigestOf([]byte(value(token))), h.now, h.now.Add(time.Hour)
			if token.ID == "t5" {
				token.ExpiresAt = h.now
			}
			if err := tx.Tokens().Insert(token); err != nil {
				return err
			}
		}
		return nil
	}))
	h.e.laws.drop() // as after a start
	as := func(i int) context.Context {
		p, err := h.s.Access.Authenticate(t.Context(), sallyport.TokenAPI, value(old[i]))
		check(t, err)
		return sallyport.WithPrincipal(t.Context(), p)
	}
	for _, c := range []struct {
		token  int
		action action
		what   sallyport.ProjectID
		want   bool
	}{
		{0, actAdmin, "", true}, {0, actPush, h.p.ID, true}, {0, actDeploy, other.ID, true}, {0, actYard, "", false},
		{1, actPush, h.p.ID, true}, {1, actDeploy, h.p.ID, true}, {1, actInstance, "", true}, {1, actAdmin, "", false},
		{1, actPush, other.ID, false}, // which its owner may with another token
		{2, actPush, other.ID, true}, {2, actPush, h.p.ID, false},
		{3, actInstance, "", true}, {3, actRead, h.p.ID, false},
	} {
		if err := h.e.allowIn(as(c.token), c.action, c.what, ""); (err == nil) != c.want {
			t.Errorf("%s %s %q: %v, want allowed %v", old[c.token].Name, c.action, c.what, err, c.want)
		}
	}
	// Names that look like parts of others' ids are nobody else's.
	for _, name := range []string{"ci/demo", "ci on demo", `x", resource); permit (principal`} {
		h.holder(sallyport.Principal{Kind: sallyport.Bot, ID: "bot/" + name, Name: name, Projects: []sallyport.ProjectID{h.p.ID}})
	}
	check(t, h.e.allow(as(1), actPush, h.p.ID))
	rules, err := h.s.Rights.AccessRules(h.admin)
	check(t, err)
	got := map[string]string{}
	for _, r := range rules.Rules {
		got[r.ID] = r.Text
	}
	if text := got["work/demo/bot/bot/ci"]; !strings.Contains(text, `principal == Bot::"bot/ci"`) || !strings.Contains(text, `resource in Project::"demo"`) {
		t.Errorf("the policy of a token reads %q", text)
	}
	if _, there := got["grant/bot/bot/past"]; there {
		t.Error("an expired token has a policy")
	}
	// It ends with the token.
	check(t, h.s.Access.RevokeToken(h.admin, "t2"))
	check(t, h.s.Access.RevokeToken(h.admin, "t3"))
	tokens, err := h.s.Access.Tokens(h.admin)
	check(t, err)
	for _, token := range tokens {
		if strings.HasPrefix(token.Name, "of ") {
			check(t, h.s.Access.RevokeToken(h.admin, token.ID))
		}
	}
	holders, err := h.s.Rights.WhoCan(h.admin, "push", `Project::"demo"`)
	check(t, err)
	if fmt.Sprint(holders) != `[{Bot::"bot/all" true} {Person::"u1" true}]` {
		t.Errorf("after the revocation %v can push", holders)
	}
}

func TestTokensThatAreLimited(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.account(sallyport.Account{Kind: sallyport.Bot, Name: "ci", Projects: []sallyport.ProjectID{h.p.ID}})
	reader := h.holder(sallyport.Principal{Kind: sallyport.Bot, ID: "bot/ci", Name: "ci", Whole: true, Actions: []string{"read"}})
	check(t, h.e.allow(reader, actRead, h.p.ID))
	if err := h.e.allow(reader, actPush, h.p.ID); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a token to read pushes: %v", err)
	}
	// What a token says gives an account nothing that it has not.
	proud := h.holder(sallyport.Principal{Kind: sallyport.Bot, ID: "bot/ci", Name: "ci", Admin: true})
	if err := h.e.allow(proud, actAdmin, ""); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a bot administers by its token: %v", err)
	}
	if p := sallyport.PrincipalFrom(proud); p.Admin {
		t.Errorf("a face takes %+v for an administrator", p)
	}
	check(t, h.e.allow(proud, actPush, h.p.ID)) // which its account may
	for name, p := range map[string]sallyport.Principal{
		"an action that there is not": {Kind: sallyport.Bot, ID: "bot/ci", Name: "ci", Whole: true, Actions: []string{"fly"}},
		"an agent without an account": {Kind: sallyport.Agent, ID: "agent/x", Name: "x"},
		"an account that is missing":  {Kind: sallyport.Bot, ID: "bot/x", Name: "x", Whole: true},
		"another kind":                {Kind: sallyport.Person, ID: "bot/ci", Name: "ci"},
	} {
		if _, _, err := h.s.Access.CreateToken(h.admin, "x", sallyport.TokenAPI, p, time.Hour); err == nil {
			t.Errorf("%s got a token", name)
		}
	}
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for name, a := range map[string]sallyport.Account{
		"a runner":             {Kind: sallyport.Runner, Name: "r"},
		"no name":              {Kind: sallyport.Person},
		"a name with a quote":  {Kind: sallyport.Person, Name: `a"; permit (principal`},
		"an agent of nobody":   {Kind: sallyport.Agent, Name: "a"},
		"an agent of a ghost":  {Kind: sallyport.Agent, Name: "a", Sponsor: "person/ghost"},
		"an agent that admins": {Kind: sallyport.Agent, Name: "a", Sponsor: "u1", Admin: true},
		"a bot in a team":      {Kind: sallyport.Bot, Name: "a", Teams: []string{"ops"}},
		"an unknown project":   {Kind: sallyport.Bot, Name: "a", Projects: []sallyport.ProjectID{"x"}},
	} {
		if _, err := h.s.Rights.AddAccount(h.admin, a); err == nil {
			t.Errorf("%s was added", name)
		}
	}
	anna := h.account(sallyport.Account{Kind: sallyport.Person, Name: "anna", Teams: []string{"ops"}, Projects: []sallyport.ProjectID{h.p.ID}})
	check(t, h.e.allow(anna, actPush, h.p.ID))
	fix := h.account(sallyport.Account{Kind: sallyport.Agent, Name: "fix", Sponsor: "person/anna", Projects: []sallyport.ProjectID{h.p.ID}})
	check(t, h.e.allow(fix, actPush, h.p.ID))
	if err := h.s.Rights.RemoveAccount(h.admin, "person/anna"); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("a sponsor was removed: %v", err)
	}
	// A forbid that meets the sponsor meets the agent.
	_, err := h.s.Rights.SetRules(h.admin, `@id("no-ops") forbid (principal in Team::"ops", action == Action::"push", resource);`)
	check(t, err)
	if err := h.e.allow(fix, actPush, h.p.ID); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("an agent does what its sponsor may not: %v", err)
	}
	check(t, h.e.allow(fix, actRead, h.p.ID))
	check(t, h.s.Rights.RemoveAccount(h.admin, "agent/fix"))
	if err := h.e.allow(fix, actRead, h.p.ID); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a removed agent reads: %v", err)
	}
	tokens, err := h.s.Access.Tokens(h.admin)
	check(t, err)
	if slices.ContainsFunc(tokens, func(t sallyport.Token) bool { return t.Principal.ID == "agent/fix" }) {
		t.Error("a removed agent keeps its token")
	}
	if _, err := h.s.Rights.AddAccount(h.admin, sallyport.Account{Kind: sallyport.Agent, Name: "fix", Sponsor: "person/anna"}); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("an id was given twice: %v", err)
	}
}

func TestSetRules(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ben := h.account(sallyport.Account{Kind: sallyport.Person, Name: "ben", Teams: []string{"ops"}})
	if err := h.e.allowIn(ben, actDeploy, h.p.ID, "production"); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("deployed without a policy: %v", err)
	}
	const source = `permit (principal in Team::"ops", action in [Action::"read", Action::"deploy"], resource == Environment::"demo/production");`
	dry, err := h.s.Rights.CompareRules(h.admin, source)
	check(t, err)
	if rules, err := h.s.Rights.AccessRules(h.admin); err != nil || rules.File.Source != "" {
		t.Errorf("comparing set %q, %v", rules.File.Source, err)
	}
	told, err := h.s.Rights.SetRules(h.admin, source)
	check(t, err)
	if !reflect.DeepEqual(dry, told) {
		t.Errorf("set %+v, compared %+v", told, dry)
	}
	check(t, h.e.allowIn(ben, actDeploy, h.p.ID, "production"))
	for _, env := range []string{"staging", "", `production"`, "production/x"} {
		if err := h.e.allowIn(ben, actDeploy, h.p.ID, env); sallyport.ErrorCode(err) != sallyport.CodeDenied {
			t.Errorf("deployed to %q: %v", env, err)
		}
	}
	for name, c := range map[string]struct {
		source string
		code   sallyport.Code
		want   string
	}{
		"a wildcard":  {"permit (principal, action, resource);", sallyport.CodeInvalid, "a permit names its principal"},
		"no syntax":   {"permit", sallyport.CodeInvalid, "access.cedar"},
		"a lockout":   {`@id("all") forbid (principal, action, resource);`, sallyport.CodeConflict, `Person::"u1": policy all`},
		"too large":   {strings.Repeat("/", 1<<20), sallyport.CodeInvalid, "larger"},
		"a type none": {`forbid (principal is Robot, action, resource);`, sallyport.CodeInvalid, "Robot"},
	} {
		if _, err := h.s.Rights.SetRules(h.admin, c.source); sallyport.ErrorCode(err) != c.code || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, h.e.allowIn(ben, actDeploy, h.p.ID, "production")) // a refused file changes nothing
	// The change stands in the trail, with what it lets.
	var last sallyport.AuditRecord
	check(t, h.store.View(t.Context(), func(tx sallyport.Tx) error {
		list, err := tx.Audit().List(sallyport.AuditFilter{Action: "access.changed", Limit: 10})
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("%d changes are recorded, want one", len(list))
		}
		if err == nil {
			last = list[0]
		}
		return err
	}))
	var detail sallyport.AccessChange
	check(t, json.Unmarshal(last.Detail, &detail))
	if detail.From != told.From || detail.To != told.To || detail.Asked == 0 || last.Actor != "person:ada" {
		t.Errorf("the trail says %s of %s", last.Detail, last.Actor)
	}
	// A denial tells what decided.
	denied := h.e.allowIn(ben, actPush, h.p.ID, "")
	if sallyport.ErrorCode(denied) != sallyport.CodeDenied {
		t.Fatal(denied)
	}
	check(t, h.store.View(t.Context(), func(tx sallyport.Tx) error {
		list, err := tx.Audit().List(sallyport.AuditFilter{Action: "access.denied", Limit: 1})
		if err == nil && !strings.Contains(string(list[0].Detail), `"policies":"sha256:`) {
			err = fmt.Errorf("a denial is recorded as %s", list[0].Detail)
		}
		return err
	}))
}

// Policies that this version cannot read let nobody in but who runs the installation,
// who can set others.
func TestRulesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ben := h.account(sallyport.Account{Kind: sallyport.Person, Name: "ben", Projects: []sallyport.ProjectID{h.p.ID}})
	check(t, h.e.allow(ben, actRead, h.p.ID))
	check(t, h.store.Update(t.Context(), func(tx sallyport.Tx) error {
		return tx.AccessFiles().Put(sallyport.AccessFile{Digest: "d", Source: "of another time", At: h.now})
	}))
	h.e.laws.drop()
	if err := h.e.allow(ben, actRead, h.p.ID); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("allowed without policies: %v", err)
	}
	_, err := h.s.Rights.SetRules(h.admin, "")
	check(t, err)
	check(t, h.e.allow(ben, actRead, h.p.ID))
}

// TestAgentWithoutASponsor is left out of the law, which stays in force for everybody else.
func TestAgentWithoutASponsor(t *testing.T) {
	t.Parallel()
	m := &matter{accounts: []sallyport.Account{
		{ID: "agent/fix", Kind: sallyport.Agent, Name: "fix", Sponsor: "person/gone"},
		{ID: "person/anna", Kind: sallyport.Person, Name: "anna"},
		{ID: "agent/mend", Kind: sallyport.Agent, Name: "mend", Sponsor: "person/anna"},
	}}
	l, err := m.enact()
	check(t, err)
	for id, want := range map[string]bool{"agent/fix": false, "agent/mend": true} {
		who, ok := uidOf(sallyport.Agent, id)
		if !ok {
			t.Fatalf("%s is no principal", id)
		}
		if _, got := l.world.Get(who); got != want {
			t.Errorf("%s is in the law: %v", id, got)
		}
	}
}
