package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

func withTokens(t *testing.T) func(*Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	issuer, err := attest.NewTokenIssuer(key)
	check(t, err)
	return func(c *Config) { c.Tokens, c.BaseURL, c.LeaseTTL = issuer, "https://ci.example/", 1000*time.Hour }
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
  ship: {runs-on: ubuntu-latest, environment: "prod:eu", steps: [{run: make}]}
  call: {runs-on: ubuntu-latest, steps: [{run: make}]}
  callNarrow: {runs-on: ubuntu-latest, permissions: {contents: read}, steps: [{run: make}]}
`

func TestIDToken(t *testing.T) {
	t.Parallel()
	h := newHouse(t, withTokens(t))
	const called = "on: push\npermissions: {id-token: write}\njobs:\n  inner: {runs-on: ubuntu-latest, steps: [{run: make}]}\n"
	h.begin(calls(compiled(t, tokenFlow), map[string]*sallyport.PlanCall{"call": callee(t, called), "callNarrow": callee(t, called)}))
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
	for job, want := range map[string]map[string]any{
		"build": {"sub": "repo:" + name + ":ref:refs/heads/main", "aud": "sts.example", "iss": "https://ci.example", "tier": "protected", "event_name": "push",
			"job_workflow_ref": name + "/" + workflowFile + "@refs/heads/main", "workflow_ref": name + "/" + workflowFile + "@refs/heads/main",
			"ref": "refs/heads/main", "repository": name, "environment": nil, "job": "build", "runner_environment": "self-hosted"},
		"ship":       {"sub": "repo:" + name + ":environment:prod%3Aeu", "environment": "prod:eu"},
		"call/inner": {"sub": "repo:" + name + ":ref:refs/heads/main", "job_workflow_ref": name + "/.github/workflows/called.yml@refs/heads/main"},
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
		if claims["exp"] != now+300 || claims["iat"] != now || claims["sha"] != leases[job].Run.Commit || claims["run_id"] != string(leases[job].Run.ID) {
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
	issuer, keys, err := h.s.Instance.TokenIssuer(h.admin)
	if err != nil || issuer != "https://ci.example" || !strings.Contains(string(keys), `"kty":"EC"`) {
		t.Errorf("issuer %s %s, %v", issuer, keys, err)
	}
}

// trail counts the records that begin with prefix.
func (h *house) trail(prefix string) map[string]int { return (&caching{house: h}).actions(prefix) }

// TestIDTokenByOrigin asks for ID tokens in runs that different people and events cause.
func TestIDTokenByOrigin(t *testing.T) {
	t.Parallel()
	h := newCaching(t, withTokens(t))
	const flow = "on: [push, pull_request, pull_request_target, issue_comment]\npermissions: {id-token: write}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: make}]\n"
	h.commit = h.push("main", files{workflowFile: flow}).Commit
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
		if err != nil || claimsOf(t, token)["sub"] != "repo:"+h.p.Name+c.sub {
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
