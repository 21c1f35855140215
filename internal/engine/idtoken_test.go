package engine

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/issuer"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func withTokens(t *testing.T) func(*Config) {
	t.Helper()
	return func(c *Config) {
		c.Tokens, c.BaseURL, c.LeaseTTL = issuer.New(sallyporttest.NewKMS()), "https://ci.example/", 1000*time.Hour
	}
}

func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("token %q", token)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	check(t, err)
	var claims map[string]any
	check(t, json.Unmarshal(b, &claims))
	return claims
}

const tokenFlow = `on: push
permissions: {id-token: write}
jobs:
  build: {runs-on: ubuntu-latest, steps: [{run: make}]}
  narrow: {runs-on: ubuntu-latest, permissions: {contents: read}, steps: [{run: make}]}
  ship: {runs-on: ubuntu-latest, environment: "prod eu", steps: [{run: make}]}
  call: {runs-on: ubuntu-latest, steps: [{run: make}]}
  callNarrow: {runs-on: ubuntu-latest, permissions: {contents: read}, steps: [{run: make}]}
`

func TestIDToken(t *testing.T) {
	t.Parallel()
	h := newHouse(t, withTokens(t))
	const called = "on: push\npermissions: {id-token: write}\njobs:\n  inner: {runs-on: ubuntu-latest, steps: [{run: make}]}\n"
	plan := compiled(t, tokenFlow)
	plan.Rules = &sallyport.PlanRules{Audiences: sallyport.Audiences{{Name: "sts.example"}, {Name: "x"}, {Name: "https://ci.example/" + h.p.Name}}}
	h.begin(calls(plan, map[string]*sallyport.PlanCall{"call": callee(t, called), "callNarrow": callee(t, called)}))
	leases := map[string]*sallyport.Lease{}
	for l := h.lease(); l != nil; l = h.lease() {
		leases[l.Job.Key] = l
	}
	ask := func(job, audience string) (string, error) {
		t.Helper()
		l := leases[job]
		if l == nil {
			t.Fatalf("job %s was not leased", job)
		}
		return h.y.IDToken(h.runner, l.Ref, audience)
	}
	name := h.p.Name
	repo := "repo:" + name + "-" + string(h.p.ID)
	for job, want := range map[string]map[string]any{
		"build": {"sub": repo + ":ref:refs/heads/main", "aud": "sts.example", "iss": "https://ci.example", "tier": "protected", "event_name": "push",
			"job_workflow_ref": name + "/" + workflowFile + "@refs/heads/main", "workflow_ref": name + "/" + workflowFile + "@refs/heads/main",
			"ref": "refs/heads/main", "repository": name, "environment": nil, "job": "build", "runner_environment": "self-hosted"},
		"ship":       {"sub": repo + ":environment:prod eu", "environment": "prod eu", "environment_tier": "protected"},
		"call/inner": {"sub": repo + ":ref:refs/heads/main", "job_workflow_ref": name + "/.github/workflows/called.yml@refs/heads/main"},
	} {
		token, err := ask(job, "sts.example")
		check(t, err)
		claims := claimsOf(t, token)
		for key, v := range want {
			if claims[key] != v {
				t.Errorf("%s: %s is %v, want %v", job, key, claims[key], v)
			}
		}
		now := float64(h.clock().Unix())
		if claims["exp"] != now+300 || claims["iat"] != now || claims["sha"] != leases[job].Run.Commit || claims["run_id"] != runNumber(leases[job].Run) {
			t.Errorf("%s: claims %v", job, claims)
		}
	}
	token, err := ask("build", "")
	check(t, err)
	if got, want := claimsOf(t, token)["aud"], "https://ci.example/"+ownerOf(name); got != want {
		t.Errorf("default audience %v, want %s", got, want)
	}
	for _, job := range []string{"narrow", "callNarrow/inner"} {
		if token, err := ask(job, "x"); sallyport.ErrorCode(err) != sallyport.CodeDenied || token != "" {
			t.Errorf("%s: got %q, %v", job, token, err)
		}
	}
	for _, audience := range []string{strings.Repeat("x", maxAudience+1), "a\nb", "\xff"} {
		if _, err := ask("build", audience); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("audience %.20q: %v", audience, err)
		}
	}
	if got := h.trail("idtoken."); got["idtoken.issued"] != 4 || got["idtoken.refused"] != 2 {
		t.Errorf("recorded %v", got)
	}
	h.finish(leases["build"], sallyport.Success, nil)
	if _, err := ask("build", "x"); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("after the job: %v", err)
	}
	for range maxIDTokens - 1 {
		_, err := ask("ship", "x")
		check(t, err)
	}
	if _, err := ask("ship", "x"); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("token %d: %v", maxIDTokens+1, err)
	}
	url, keys, err := h.s.Instance.TokenIssuer(h.admin)
	if err != nil || url != "https://ci.example" || !strings.Contains(string(keys), `"kty":"RSA"`) {
		t.Errorf("issuer %s %s, %v", url, keys, err)
	}
}

// trail counts the records that begin with prefix.
func (h *house) trail(prefix string) map[string]int { return (&caching{house: h}).actions(prefix) }

// TestIDTokenByOrigin asks for ID tokens in runs that different people and events cause.
func TestIDTokenByOrigin(t *testing.T) {
	t.Parallel()
	h := newCaching(t, withTokens(t))
	const flow = "on: [push, pull_request, pull_request_target, issue_comment]\npermissions: {id-token: write}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: make}]\n"
	h.commit = h.push("main", files{workflowFile: flow, ".sallyport/deploy.yaml": "audiences: [x]\n"}).Commit
	h.finish(h.house.lease(), sallyport.Success, nil)
	trusted := target
	trusted.tier = sallyport.TierMember
	for name, c := range map[string]struct {
		origin cacheRun
		sub    string // "" when there is none
	}{
		"branch": {branch, ":ref:refs/heads/side"}, "main": {release, ":ref:refs/heads/main"}, "own pull request": {ownPull, ":pull_request"},
		"fork": {fork, ""}, "comment": {stranger, ""}, "pull_request_target": {target, ""}, "pull_request_target of a member": {trusted, ""},
	} {
		token, err := h.y.IDToken(h.runner, h.lend(c.origin).Ref, "x")
		if c.sub == "" {
			if sallyport.ErrorCode(err) != sallyport.CodeDenied {
				t.Errorf("%s: got %q, %v", name, token, err)
			}
			continue
		}
		if err != nil || claimsOf(t, token)["sub"] != "repo:"+h.p.Name+"-"+string(h.p.ID)+c.sub {
			t.Errorf("%s: got %q, %v", name, token, err)
		}
	}
}

func TestNoTokenIssuer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.begin(compiled(t, tokenFlow))
	if _, err := h.y.IDToken(h.runner, h.lease().Ref, "x"); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("got %v", err)
	}
	if _, _, err := h.s.Instance.TokenIssuer(h.admin); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("got %v", err)
	}
}

// TestIDTokenAudience asks for tokens for audiences that are and are not declared.
func TestIDTokenAudience(t *testing.T) {
	t.Parallel()
	const own = "https://ci.example/"
	list := func(names ...string) sallyport.Audiences {
		out := sallyport.Audiences{}
		for _, n := range names {
			out = append(out, sallyport.Audience{Name: n})
		}
		return out
	}
	for name, c := range map[string]struct {
		rules   *sallyport.PlanRules
		ship    string // the job in environment prod
		build   string // the one in none
		refused string
	}{
		"nobody declared any":   {nil, "sts.amazonaws.com", "pypi", "vault"},
		"a project's":           {&sallyport.PlanRules{Audiences: list("vault")}, "vault", "vault", "sts.amazonaws.com"},
		"an environment's":      {&sallyport.PlanRules{Audiences: list("vault"), Environments: []sallyport.PlanEnvironmentRule{{Name: "Prod", Audiences: list("bank")}}}, "bank", "vault", "pypi"},
		"none for all":          {&sallyport.PlanRules{Audiences: list()}, "", "", "sts.amazonaws.com"},
		"case counts":           {&sallyport.PlanRules{Audiences: list("vault")}, "vault", "vault", "Vault"},
		"a prefix is another":   {&sallyport.PlanRules{Audiences: list("vault")}, "vault", "vault", "vault/x"},
		"declarations unread":   {&sallyport.PlanRules{Broken: "line 1"}, "", "", "sts.amazonaws.com"},
		"an environment's none": {&sallyport.PlanRules{Environments: []sallyport.PlanEnvironmentRule{{Name: "prod", Audiences: list()}}}, "", "pypi", "vault"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, withTokens(t))
			plan := compiled(t, "on: push\npermissions: {id-token: write}\njobs:\n  build: {runs-on: ubuntu-latest, steps: [{run: make}]}\n  ship: {runs-on: ubuntu-latest, environment: prod, steps: [{run: make}]}\n")
			plan.Rules = c.rules
			h.begin(plan)
			for l := h.lease(); l != nil; l = h.lease() {
				good := map[string]string{"ship": c.ship, "build": c.build}[l.Job.Key]
				for _, audience := range []string{c.ship, c.build, c.refused, own + h.p.Name, "bank", "*", ""} {
					token, err := h.y.IDToken(h.runner, l.Ref, audience)
					want := good != "" && audience == good
					if c.rules == nil {
						want = audience != c.refused && audience != "bank" && audience != "*"
					} else if c.build == "pypi" && l.Job.Key == "build" {
						want = audience == "pypi" || audience == "" || audience == own+h.p.Name
					}
					if want != (err == nil) || err != nil && (token != "" || sallyport.ErrorCode(err) != sallyport.CodeDenied) {
						t.Errorf("%s for %q: got %.10q, %v; want one: %v", l.Job.Key, audience, token, err, want)
					}
				}
			}
		})
	}
}

// TestSubject checks that no two projects, environments or refs have one subject.
func TestSubject(t *testing.T) {
	t.Parallel()
	p := sallyport.Project{ID: "01J", Name: "api"}
	run := sallyport.Run{Ref: "refs/heads/main", Event: "push"}
	for env, want := range map[string]string{
		"":        "repo:api-01J:ref:refs/heads/main",
		"prod":    "repo:api-01J:environment:prod",
		"Prod EU": "repo:api-01J:environment:Prod EU",
		"prod:eu": "", "prod%3Aeu": "", "pr\u043ed": "", "prod*": "", "prod\n": "", " prod": "", "prod ": "", "\u200bprod": "", "\u212aelvin": "",
		strings.Repeat("x", 256): "",
	} {
		got, err := subject(p, run, env)
		if want == "" {
			if sallyport.ErrorCode(err) != sallyport.CodeDenied {
				t.Errorf("environment %q: got %q, %v", env, got, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("environment %q: got %q, %v", env, got, err)
		}
	}
	if got, err := subject(p, sallyport.Run{Event: "pull_request", Ref: "refs/pull/1/merge"}, ""); err != nil || got != "repo:api-01J:pull_request" {
		t.Errorf("pull request: %q, %v", got, err)
	}
	// A project of the same name that comes later, and one whose name ends as another's id.
	seen := map[string]bool{}
	for _, p := range []sallyport.Project{{ID: "01J", Name: "api"}, {ID: "01K", Name: "api"}, {ID: "01J", Name: "api-01k"}} {
		got, err := subject(p, run, "prod")
		if err != nil || seen[got] {
			t.Errorf("%v: %q, %v", p, got, err)
		}
		seen[got] = true
	}
	for _, ref := range []string{"refs/heads/a:b", "refs/heads/\u0430", "refs/heads/%3A"} {
		if got, err := subject(p, sallyport.Run{Event: "push", Ref: ref}, ""); err == nil {
			t.Errorf("ref %q: got %q", ref, got)
		}
	}
}

func TestSessionTags(t *testing.T) {
	t.Parallel()
	got := sessionTags(map[string]any{"repository": "api", "ref": "refs/heads/a#b", "environment": "prod", "actor": strings.Repeat("x", 257)})
	b, err := json.Marshal(got)
	check(t, err)
	if want := `{"principal_tags":{"environment":["prod"],"repository":["api"]},"transitive_tag_keys":["repository","environment"]}`; string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
}
