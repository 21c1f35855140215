package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/api"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

type answer struct {
	status int
	header http.Header
	body   string
}

func ask(t testing.TB, method, url, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func TestWhoIsLetIn(t *testing.T) {
	t.Parallel()
	const list, refs = "/api/v1/projects", "/demo.git/info/refs?service=git-upload-pack"
	for name, c := range map[string]struct {
		path, header, value string
		status              int
		text                string
		recorded            bool
	}{
		"token":                 {list, "Authorization", "Bearer " + goodToken, 200, "items", false},
		"scheme in other case":  {list, "Authorization", "bearer " + goodToken, 200, "items", false},
		"nothing":               {list, "X", "", 401, "no credential was given", true},
		"bad token":             {list, "Authorization", "Bearer bad", 401, "unknown, expired or revoked", true},
		"empty token":           {list, "Authorization", "Bearer ", 401, "malformed", true},
		"huge token":            {list, "Authorization", "Bearer " + strings.Repeat("x", 1000), 401, "malformed", true},
		"other scheme":          {list, "Authorization", "Digest x", 401, "malformed", true},
		"password for the API":  {list, "Authorization", "Basic dXNlcjpnb29kLXRva2Vu", 401, "malformed", true},
		"cookie":                {list, "Cookie", "session=" + goodToken, 401, "no credential", true},
		"database down":         {list, "Authorization", "Bearer storm", 503, "the database is down", false},
		"nobody":                {list, "Authorization", "Bearer nobody", 401, "unknown", true},
		"unknown address":       {"/api/v1/nothing", "Authorization", "Bearer " + goodToken, 404, "openapi.json", false},
		"unknown, no token":     {"/api/v1/nothing", "X", "", 401, "no credential", true},
		"metrics":               {"/metrics", "X", "", 401, "no credential", true},
		"openapi":               {"/api/v1/openapi.json", "X", "", 401, "no credential", true},
		"yard":                  {"/yard/v1/jobs/x/source", "X", "", 401, "no credential", true},
		"git asks first":        {refs, "X", "", 401, "use a token as the password", false},
		"git with a password":   {refs, "Authorization", "Basic dXNlcjpnb29kLXRva2Vu", 501, "no git here", false},
		"git with a bad one":    {refs, "Authorization", "Basic dXNlcjpiYWQ=", 401, "unknown, expired", true},
		"git with bearer":       {refs, "Authorization", "Bearer " + goodToken, 501, "no git here", false},
		"git, no base64":        {refs, "Authorization", "Basic %%%", 401, "malformed", true},
		"healthz":               {"/healthz", "X", "", 200, "ok", false},
		"readyz":                {"/readyz", "X", "", 200, "ready", false},
		"trust root":            {"/trust-root.json", "X", "", 200, "bytes", false},
		"discovery":             {"/.well-known/openid-configuration", "X", "", 200, "/.well-known/jwks", false},
		"keys":                  {"/.well-known/jwks", "X", "", 200, "bytes", false},
		"beside the trust root": {"/trust-root.json/", "X", "", 401, "no credential", true},
		"climbing":              {"/healthz/../api/v1/projects", "X", "", 401, "no credential", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.when("Access.Authenticate", func(context.Context, []any) ([]any, error) { return []any{sallyport.Principal{}}, nil })
			got := ask(t, "GET", s.url+c.path, "", c.header, c.value)
			if got.status != c.status || !strings.Contains(got.body, c.text) {
				t.Errorf("status %d, body %s; want %d, %q", got.status, got.body, c.status, c.text)
			}
			if got.status == 401 && got.header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
			if recorded := len(s.denials()) > 0; recorded != c.recorded {
				t.Errorf("recorded %q", s.denials())
			}
			if strings.Contains(fmt.Sprint(s.denials()), "xxxx") {
				t.Error("the credential was recorded")
			}
			if got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("CORS was allowed")
			}
		})
	}
}

// An address that sends one bad credential after another is told to wait, and
// does not fill the audit trail; a good credential from it still works.
func TestManyBadCredentials(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	s := start(t, func(c *api.Config) { c.Now = func() time.Time { return now } })
	limited := 0
	for range 50 {
		got := ask(t, "GET", s.url+"/api/v1/projects", "", "Authorization", "Bearer bad")
		if got.status == http.StatusTooManyRequests {
			limited++
			if got.header.Get("Retry-After") == "" {
				t.Fatal("no Retry-After")
			}
		}
	}
	if limited != 30 || len(s.denials()) != 20 {
		t.Errorf("%d were limited, %d recorded", limited, len(s.denials()))
	}
	if _, err := s.client(t).Services().Projects.Projects(t.Context()); err != nil {
		t.Errorf("a good token: %v", err)
	}
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	s := start(t)
	operator := sallyport.Principal{Kind: sallyport.Person, ID: "operator", Name: "operator", Admin: true}
	runner := sallyport.Principal{Kind: sallyport.Runner, ID: "local", Name: "local"}
	unixClient := func(h http.Handler, token string) *rpc.Client {
		c, err := rpc.Dial(rpc.Config{UnixSocket: socket(t, h), Token: sallyport.NewSecret([]byte(token))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	as := func(name string) sallyport.Principal {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.as[name]
	}
	if _, err := s.client(t).Services().Projects.Projects(t.Context()); err != nil || as("Projects.Projects").Name != "alice" {
		t.Errorf("asked as %v, %v", as("Projects.Projects"), err)
	}
	op := unixClient(api.WithOperator(s.handler, operator), "")
	if _, err := op.Services().Projects.Projects(t.Context()); err != nil || as("Projects.Projects").ID != "operator" {
		t.Errorf("asked as %v, %v", as("Projects.Projects"), err)
	}
	// A token that is given counts, also on the socket.
	if _, err := unixClient(api.WithOperator(s.handler, operator), "bob").Services().Projects.Projects(t.Context()); err != nil || as("Projects.Projects").Name != "bob" {
		t.Errorf("asked as %v, %v", as("Projects.Projects"), err)
	}
	r := unixClient(api.WithRunner(s.handler, runner), "")
	if _, err := r.Yard().Heartbeat(t.Context(), sallyport.LeaseRef{Job: "j", Token: "t"}); err != nil || as("Yard.Heartbeat").ID != "local" {
		t.Errorf("asked as %v, %v", as("Yard.Heartbeat"), err)
	}
	if _, err := r.Services().Projects.Projects(t.Context()); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("a runner's socket serves projects: %v", err)
	}
	// Over TCP the wrapper lets nobody in: there is no peer.
	tcp := start(t)
	tcp.server.Handler = api.WithOperator(tcp.handler, operator)
	if got := ask(t, "GET", tcp.url+"/api/v1/projects", ""); got.status != 403 {
		t.Errorf("WithOperator over TCP: %d %s", got.status, got.body)
	}
}

func TestCallsOfFaces(t *testing.T) {
	t.Parallel()
	s := start(t)
	bob := dial(t, s.url, "bob").Services()
	_, authErr := bob.Access.Authenticate(t.Context(), sallyport.TokenAPI, "x")
	_, pushedErr := bob.Projects.Pushed(t.Context(), "p", nil)
	bob.Access.Denied(t.Context(), "what", "why")
	for name, err := range map[string]error{"Authenticate": authErr, "Pushed": pushedErr,
		"Pushing": bob.Projects.Pushing(t.Context(), "p", nil)} {
		if sallyport.ErrorCode(err) != sallyport.CodeDenied {
			t.Errorf("%s by an ordinary token: %v", name, err)
		}
	}
	if len(s.denials()) != 0 {
		t.Errorf("recorded %q", s.denials())
	}
}

func TestInvalidRequests(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		text               string
	}{
		"not JSON":      {"POST", "/api/v1/projects", "{", 400, ""},
		"unknown key":   {"POST", "/api/v1/projects", `{"name":"a","default_branch":"main","x":1}`, 422, "body.x"},
		"missing key":   {"POST", "/api/v1/projects", `{"name":"a"}`, 422, "default_branch"},
		"wrong type":    {"POST", "/api/v1/projects", `{"name":1,"default_branch":"main"}`, 422, "body.name"},
		"too long":      {"POST", "/api/v1/projects", `{"name":"` + strings.Repeat("a", 100) + `","default_branch":"main"}`, 422, "body.name"},
		"too large":     {"POST", "/api/v1/projects", `{"name":"` + strings.Repeat("a", 2<<20) + `"}`, 413, ""},
		"bad number":    {"GET", "/api/v1/runs?limit=x", "", 422, "query.limit"},
		"out of range":  {"GET", "/api/v1/runs?limit=1000", "", 422, "query.limit"},
		"unknown query": {"GET", "/api/v1/runs?x=1", "", 422, "query.x"},
		"no lease":      {"POST", "/yard/v1/jobs/j/heartbeat", "", 422, "Sallyport-Lease"},
		"media type":    {"POST", "/api/v1/projects", "name=a", 415, ""},
	} {
		kind := "application/json"
		if name == "media type" {
			kind = "application/x-www-form-urlencoded"
		}
		got := ask(t, c.method, s.url+c.path, c.body, "Authorization", "Bearer "+goodToken, "Content-Type", kind)
		if got.status != c.status || !strings.Contains(got.body, c.text) || !strings.Contains(got.body, `"code":"invalid"`) {
			t.Errorf("%s: status %d, body %.300s; want %d, %q", name, got.status, got.body, c.status, c.text)
		}
		if ct := got.header.Get("Content-Type"); ct != rpc.ProblemType {
			t.Errorf("%s: content type %s", name, ct)
		}
	}
	if got := ask(t, "POST", s.url+"/api/v1/access/login", `{"value":"secret-credential","x":1}`, "Authorization", "Bearer "+goodToken, "Content-Type", "application/json"); strings.Contains(got.body, "secret-credential") {
		t.Errorf("a credential was sent back: %s", got.body)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.when("Projects.Projects", func(context.Context, []any) ([]any, error) { panic("at the disco") })
	_, err := s.client(t).Services().Projects.Projects(t.Context())
	if sallyport.ErrorCode(err) != sallyport.CodeInternal || strings.Contains(err.Error(), "disco") {
		t.Errorf("err = %v", err)
	}
	got := ask(t, "GET", s.url+"/api/v1/projects", "", "Authorization", "Bearer "+goodToken)
	if got.status != 500 || !strings.Contains(got.body, got.header.Get(rpc.HeaderRequest)) || got.header.Get(rpc.HeaderRequest) == "" {
		t.Errorf("%+v", got)
	}
}

func TestProjectByName(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.when("Projects.Project", func(_ context.Context, args []any) ([]any, error) {
		if args[0] != "demo" {
			return []any{nil}, sallyport.Errorf(sallyport.CodeNotFound, "no project %v", args[0])
		}
		return []any{sallyport.Project{ID: "the-id"}}, nil
	})
	svc := s.client(t).Services()
	if _, err := svc.Deployments.Environments(t.Context(), "demo"); err != nil || s.got("Deployments.Environments")[0] != sallyport.ProjectID("the-id") {
		t.Errorf("asked for %v, %v", s.got("Deployments.Environments"), err)
	}
	if _, err := svc.Runs.Runs(t.Context(), sallyport.RunFilter{Project: "none"}); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("err = %v", err)
	}
}

func TestNewRefusesGaps(t *testing.T) {
	t.Parallel()
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("New of nothing succeeded")
	}
}

func TestOwns(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/api/v1/runs": true, "/yard/v1/lease": true, "/demo.git/info/refs": true, "/healthz": true, "/metrics": true, "/trust-root.json": true, "/.well-known/jwks": true,
		"/": false, "/runs/1": false, "/demo": false, "/demo.git": false, "/static/app.js": false, "/apix": false, "/a/b.git/info/refs": false,
	} {
		if got := api.Owns(path); got != want {
			t.Errorf("Owns(%q) = %v", path, got)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := start(t)
	_ = ask(t, "GET", s.url+"/api/v1/runs/some-id", "", "Authorization", "Bearer "+goodToken)
	_ = ask(t, "GET", s.url+"/api/v1/runs/some-id", "", "Authorization", "Bearer bad")
	got := ask(t, "GET", s.url+"/metrics", "", "Authorization", "Bearer "+goodToken)
	for _, want := range []string{
		`sallyport_http_requests_total{route="/api/v1/runs/{run}",status="200"} 1`,
		`sallyport_http_requests_total{route="other",status="401"} 1`,
		"sallyport_http_bad_credentials_total 1", "sallyport_http_requests_in_flight 1",
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("no %s in\n%s", want, got.body)
		}
	}
}

func TestReadyz(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.when("Instance.Health", func(context.Context, []any) ([]any, error) {
		return []any{sallyport.InstanceHealth{Problems: []string{"disk full at /secret/path"}}}, nil
	})
	if got := ask(t, "GET", s.url+"/readyz", ""); got.status != 503 || got.body != "not ready\n" {
		t.Errorf("%d %q", got.status, got.body)
	}
	s.when("Instance.Health", func(context.Context, []any) ([]any, error) { return []any{nil}, errors.New("x") })
	if got := ask(t, "GET", s.url+"/readyz", ""); got.status != 503 {
		t.Errorf("%d %q", got.status, got.body)
	}
}
