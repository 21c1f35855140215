package toolkit

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// issuer is a control plane that issues ID tokens to all but one audience.
type issuer struct {
	sallyport.Yard
	asked []string
}

func (y *issuer) IDToken(_ context.Context, l sallyport.LeaseRef, audience string) (string, error) {
	y.asked = append(y.asked, audience)
	if audience == "refused" {
		return "", sallyport.Errorf(sallyport.CodeDenied, "the job may not have ID tokens").WithHint("a hint")
	}
	return "token.of." + string(l.Job) + "." + audience, nil
}

func mayHaveTokens(c *Config) {
	c.Lease.Plan.Permissions = sallyport.Permissions{"id-token": "write"}
}

func TestIDTokens(t *testing.T) {
	t.Parallel()
	y := &issuer{}
	var masked []string
	s := newService(t, y, func(c *Config) {
		mayHaveTokens(c)
		c.Mask = func(m string) { masked = append(masked, m) }
	})
	var url, token string
	for _, e := range s.Env(false) { // scripts too
		switch e.Name {
		case "ACTIONS_ID_TOKEN_REQUEST_URL":
			url = e.Value
		case "ACTIONS_ID_TOKEN_REQUEST_TOKEN":
			token = e.Value
		default:
			t.Errorf("a script gets %s", e.Name)
		}
	}
	if w := send(s, "GET", url+"&audience=a%2Fb", "", "Authorization", "Bearer "+token); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"value":"token.of.job1.a/b"}` {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if got := masked[len(masked)-1]; got != "token.of.job1.a/b" {
		t.Errorf("masked %q last", got)
	}
	if w := send(s, "GET", url+"&audience=refused", "", "Authorization", "Bearer "+token); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "a hint") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	for _, other := range []string{"", s.token, token + "0"} {
		if w := send(s, "GET", url, "", "Authorization", "Bearer "+other); w.Code != http.StatusForbidden {
			t.Errorf("with the token %.10q: %d", other, w.Code)
		}
	}
	if w := send(s, "POST", "/twirp/"+artifactService+"/ListArtifacts", "{}", "Authorization", "Bearer "+token, "Content-Type", "application/json"); w.Code != http.StatusForbidden {
		t.Errorf("the ID token's token opens the rest: %d", w.Code)
	}
	if len(y.asked) != 2 {
		t.Errorf("the control plane was asked for %q", y.asked)
	}
}

// TestTokenParts masks what a program may print of a token alone.
func TestTokenParts(t *testing.T) {
	t.Parallel()
	if got := parts("header.claims.signature"); len(got) != 2 || got[0] != "claims" || got[1] != "signature" {
		t.Errorf("got %q", got)
	}
	if got := parts("no token"); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestMayHaveIDToken(t *testing.T) {
	t.Parallel()
	write, read := sallyport.Permissions{"id-token": "write"}, sallyport.Permissions{"id-token": "read"}
	for name, c := range map[string]struct {
		plan, job sallyport.Permissions
		tier      sallyport.Tier
		want      bool
	}{
		"none": {}, "workflow": {plan: write, want: true}, "job": {plan: read, job: write, want: true}, "job narrows": {plan: write, job: sallyport.Permissions{}},
		"read": {plan: read}, "untrusted": {plan: write, tier: sallyport.TierUntrusted},
	} {
		l := &sallyport.Lease{Job: sallyport.Job{Key: "outer/build"}, Run: sallyport.Run{Tier: c.tier},
			Plan: &sallyport.Plan{Permissions: c.plan, Jobs: []sallyport.PlanJob{{Key: "build", Permissions: c.job}}}}
		if got := MayHaveIDToken(l); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	s := newService(t, noYard{}, nil)
	if w := send(s, "GET", "/idtoken", "", "Authorization", "Bearer "); w.Code != http.StatusNotFound {
		t.Errorf("a job that may have none: %d", w.Code)
	}
}

// TestCoreToolkit has the unmodified @actions/core ask for ID tokens.
func TestCoreToolkit(t *testing.T) {
	t.Parallel()
	y := &issuer{}
	out := newNPMRoom(t, y, mayHaveTokens).run(t, "idtoken.mjs")
	if !strings.HasSuffix(out, "all is well\n") {
		t.Errorf("the script said:\n%s", out)
	}
	if got := strings.Join(y.asked, " "); got != " sts.example refused" {
		t.Errorf("asked for %q", got)
	}
}

type principalKey struct{}

// who is a control plane that tells who asks it.
type who struct{ sallyport.Yard }

func (who) IDToken(ctx context.Context, _ sallyport.LeaseRef, _ string) (string, error) {
	name, _ := ctx.Value(principalKey{}).(string)
	return name, nil
}

// TestServeAsksAsTheRunner has a request reach the control plane with what the
// runner's context holds: who it is, above all.
func TestServeAsksAsTheRunner(t *testing.T) {
	t.Parallel()
	s := newService(t, who{}, mayHaveTokens)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.WithValue(t.Context(), principalKey{}, "the runner"), ln) }()
	r, err := http.NewRequest("GET", "http://"+ln.Addr().String()+"/idtoken", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.idToken)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body := string(readAll(t, res.Body))
	res.Body.Close()
	if !strings.Contains(body, `"the runner"`) {
		t.Errorf("got %s", body)
	}
	if err := errors.Join(s.Close(), <-served); err != nil {
		t.Error(err)
	}
}
