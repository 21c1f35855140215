package rotate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/rotate"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func secret(s string) sallyport.Secret { return sallyport.NewSecret([]byte(s)) }

func TestSafe(t *testing.T) {
	t.Parallel()
	for name, mints := range map[string]bool{"given": false, "mints": true} {
		t.Run(name, func(t *testing.T) {
			sallyporttest.Rotator(t, func(t *testing.T) sallyporttest.RotationTarget {
				s := &sallyporttest.Safe{Mints: mints}
				old := sallyport.Login{Account: "a", Value: secret("old-value")}
				s.Put(old)
				return sallyporttest.RotationTarget{Rotator: s, Config: []byte("{}"), Old: old, Live: func() int { return len(s.Live()) }}
			})
		})
	}
}

// database is a real one with an administrator who is no superuser, as PostgreSQL 16 wants it too.
func database(t *testing.T) (*sallyporttest.Shop, sallyporttest.RotationTarget) {
	t.Helper()
	shop := sallyporttest.NewShop(t, "unused-password", false)
	shop.Exec("CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'keeper-password'; CREATE ROLE app_owner NOLOGIN; GRANT app_owner TO keeper WITH ADMIN OPTION; GRANT pg_signal_backend TO keeper; GRANT SELECT ON items TO app_owner; CREATE ROLE app_a LOGIN PASSWORD 'first-password'; GRANT app_owner TO app_a; ALTER ROLE app_a SET ROLE TO app_owner")
	config := fmt.Sprintf(`{"host":"127.0.0.1","port":%d,"database":"shop","users":["app_a","app_b"],"owner":"app_owner","admin_user":"keeper"}`, shop.Port)
	return shop, sallyporttest.RotationTarget{Rotator: rotate.Postgres{}, Config: []byte(config), Admin: secret("keeper-password"), Old: sallyport.Login{Value: secret("first-password")},
		Live: func() (n int) {
			if err := shop.Owner.QueryRow(t.Context(), "SELECT count(*) FROM pg_authid WHERE rolname IN ('app_a', 'app_b') AND rolcanlogin AND rolpassword IS NOT NULL").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	sallyporttest.Rotator(t, func(t *testing.T) sallyporttest.RotationTarget { _, target := database(t); return target })
}

// TestPostgresTurns rotates twice with a session open: it is ended, what was made belongs to the owner, and the
// first user's turn comes again.
func TestPostgresTurns(t *testing.T) {
	t.Parallel()
	shop, target := database(t)
	r, old := target.Rotator, target.Old
	for turn, want := range []string{"app_b", "app_a"} {
		user := old.Account
		if user == "" {
			user = "app_a"
		}
		config, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d dbname=shop sslmode=disable", shop.Port))
		if err != nil {
			t.Fatal(err)
		}
		config.User, config.Password = user, string(old.Value.Reveal())
		session, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close(context.Background())
		task := sallyport.RotationTask{ID: sallyport.RotationID(fmt.Sprint(turn)), Config: target.Config, Admin: target.Admin, Old: old}
		if task.New, err = r.Stage(t.Context(), task); err != nil || task.New.Account != want {
			t.Fatalf("staged %s, %v; want %s", task.New.Account, err, want)
		}
		for _, step := range []func(context.Context, sallyport.RotationTask) error{r.Apply, r.Retire} {
			if err := step(t.Context(), task); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := session.Exec(t.Context(), "SELECT 1"); err == nil {
			t.Error("a session of the old user went on")
		}
		var who string
		config.User, config.Password = task.New.Account, string(task.New.Value.Reveal())
		session, err = pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if err := session.QueryRow(t.Context(), "SELECT current_user FROM items").Scan(&who); err != nil || who != "app_owner" {
			t.Errorf("%s works as %q, %v", task.New.Account, who, err)
		}
		session.Close(t.Context())
		var kept string
		if err := shop.Owner.QueryRow(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = $1", task.New.Account).Scan(&kept); err != nil || !strings.HasPrefix(kept, "SCRAM-SHA-256$4096:") {
			t.Errorf("the server keeps %.20q, %v", kept, err)
		}
		old = task.New
	}
}

// TestPostgresRefuses looks at rules and roles that would hand out more than a credential of the application.
func TestPostgresRefuses(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"the administrator as a user": `{"host":"db","database":"d","users":["a","root"],"owner":"o","admin_user":"root"}`,
		"the owner as a user":         `{"host":"db","database":"d","users":["a","o"],"owner":"o","admin_user":"root"}`,
		"one user":                    `{"host":"db","database":"d","users":["a"],"owner":"o","admin_user":"root"}`,
		"one user twice":              `{"host":"db","database":"d","users":["a","a"],"owner":"o","admin_user":"root"}`,
		"a socket":                    `{"host":"/run/x","database":"d","users":["a","b"],"owner":"o","admin_user":"root"}`,
		"two hosts":                   `{"host":"a,b","database":"d","users":["a","b"],"owner":"o","admin_user":"root"}`,
		"no database":                 `{"host":"a","users":["a","b"],"owner":"o","admin_user":"root"}`,
	} {
		if err := (rotate.Postgres{}).Check(json.RawMessage(config)); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	shop, target := database(t)
	shop.Exec("CREATE ROLE app_b LOGIN SUPERUSER")
	task := sallyport.RotationTask{ID: "1", Config: target.Config, Admin: target.Admin, Old: target.Old, New: sallyport.Login{Account: "app_b", Value: secret("new-password-of-b")}}
	if err := target.Rotator.Apply(t.Context(), task); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a superuser got a password: %v", err)
	}
	task.New.Account = "app_a" // the one in use
	if err := target.Rotator.Apply(t.Context(), task); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("the user in use got another password: %v", err)
	}
	shop.Exec("REVOKE pg_signal_backend FROM keeper")
	task.New.Account = "app_b"
	if err := target.Rotator.Apply(t.Context(), task); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("an administrator who cannot end sessions began: %v", err)
	}
	task.New.Account = "keeper"
	if err := target.Rotator.Discard(t.Context(), task); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("the administrator was disabled: %v", err)
	}
	// A server that lets everybody in has accepted nothing.
	task.Config = json.RawMessage(strings.Replace(string(target.Config), "127.0.0.1", "localhost", 1))
	if ok, err := target.Rotator.Accepts(t.Context(), task, sallyport.Login{Account: "app_a", Value: secret("wrong-password")}); ok {
		t.Errorf("a wrong password: %v, %v", ok, err)
	}
}

// tokens is a service that makes tokens with labels, behind an administrator's token.
type tokens struct {
	mu   sync.Mutex
	by   map[string]string // token → label
	seen int
	lose bool // the answer to the first create breaks off
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	admin := r.Header.Get("Authorization") == "Bearer the-administrator"
	switch {
	case r.Method == "POST" && r.URL.Path == "/tokens" && admin:
		var in struct{ Label string }
		if json.NewDecoder(r.Body).Decode(&in) != nil {
			w.WriteHeader(400)
			return
		}
		s.seen++
		token := fmt.Sprintf("token-%06d", s.seen)
		s.by[token] = in.Label
		if s.lose {
			s.lose = false
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(201)
		fmt.Fprintf(w, `{"data":[{"token":%q,"id":%d}]}`, token, s.seen)
	case r.Method == "GET" && r.URL.Path == "/whoami":
		if _, ok := s.by[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]; !ok {
			w.WriteHeader(401)
		}
	case r.Method == "DELETE" && admin:
		label, token := r.URL.Query().Get("label"), r.URL.Query().Get("token")
		found := false
		for t, l := range s.by {
			if t == token || label != "" && l == label {
				delete(s.by, t)
				found = true
			}
		}
		if !found {
			w.WriteHeader(404)
		}
	default:
		w.WriteHeader(403)
	}
}

func service(t *testing.T) (*tokens, sallyporttest.RotationTarget) {
	t.Helper()
	s := &tokens{by: map[string]string{"token-first": ""}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	auth := map[string]string{"Authorization": "Bearer {{admin}}"}
	config, err := json.Marshal(rotate.HTTPConfig{
		Create: rotate.HTTPRequest{Method: "POST", URL: server.URL + "/tokens", Headers: auth, Body: `{"label":"{{rotation}}"}`}, Value: "/data/0/token",
		Test:    rotate.HTTPRequest{URL: server.URL + "/whoami", Headers: map[string]string{"Authorization": "Bearer {{value}}"}},
		Revoke:  rotate.HTTPRequest{Method: "DELETE", URL: server.URL + "/tokens?token={{value}}", Headers: auth},
		Discard: rotate.HTTPRequest{Method: "DELETE", URL: server.URL + "/tokens?label={{rotation}}", Headers: auth},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, sallyporttest.RotationTarget{Rotator: rotate.HTTP{}, Config: config, Admin: secret("the-administrator"), Old: sallyport.Login{Value: secret("token-first")},
		Live: func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.by) }}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	sallyporttest.Rotator(t, func(t *testing.T) sallyporttest.RotationTarget { _, target := service(t); return target })
	t.Run("a lost answer leaves nothing", func(t *testing.T) {
		s, target := service(t)
		s.lose = true
		task := sallyport.RotationTask{ID: "r1", Config: target.Config, Admin: target.Admin, Old: target.Old}
		if _, err := target.Rotator.Stage(t.Context(), task); err == nil || len(s.by) != 2 {
			t.Fatalf("%v; %d tokens, want the lost one beside the old", err, len(s.by))
		}
		if _, err := target.Rotator.Stage(t.Context(), task); err != nil || len(s.by) != 2 {
			t.Errorf("%v; %d tokens, want the new one beside the old", err, len(s.by))
		}
	})
}

// TestHTTPIsBounded has a service misbehave.
func TestHTTPIsBounded(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"endless":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, zeros{}, 8<<20) }, "longer than"},
		"hangs":    {func(_ http.ResponseWriter, r *http.Request) { <-hang }, "not answer in time"},
		"not JSON": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "no JSON"},
		"no value": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"v":7}`) }, "no text at /v"},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, "answered 307"},
		"is unwell":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "answered 500"},
		"breaks off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != "DELETE" {
					c.answer(w, r)
				}
			}))
			defer server.Close()
			if name == "hangs" {
				defer close(hang)
			}
			auth := map[string]string{"X-Token": "{{value}}{{rotation}}"}
			config, _ := json.Marshal(rotate.HTTPConfig{Value: "/v", Create: rotate.HTTPRequest{Method: "POST", URL: server.URL, Headers: auth}, Test: rotate.HTTPRequest{URL: server.URL, Headers: auth},
				Revoke: rotate.HTTPRequest{Method: "DELETE", URL: server.URL, Headers: auth}, Discard: rotate.HTTPRequest{Method: "DELETE", URL: server.URL, Headers: auth}})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if name == "hangs" {
				ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			}
			defer cancel()
			_, err := (rotate.HTTP{}).Stage(ctx, sallyport.RotationTask{ID: "r", Config: config})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if elsewhere > 0 {
		t.Error("a redirect was followed")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestHTTPRefuses(t *testing.T) {
	t.Parallel()
	good := `{"create":{"method":"POST","url":"https://h.example/t","body":"{\"l\":\"{{rotation}}\"}"},"value":"/v","test":{"url":"https://h.example/","headers":{"A":"{{value}}"}},"revoke":{"method":"DELETE","url":"https://h.example/{{value}}"},"discard":{"method":"DELETE","url":"https://h.example/{{rotation}}"}}`
	if err := (rotate.HTTP{}).Check([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"in clear":                {"https://h.example/t", "http://h.example/t"},
		"the host is put in":      {"https://h.example/t", "https://{{value}}.example/t"},
		"credentials in the url":  {"https://h.example/t", "https://u:p@h.example/t"},
		"a file":                  {"https://h.example/t", "file:///etc/passwd"},
		"another method":          {`"POST"`, `"CONNECT"`},
		"cannot be found again":   {"{{rotation}}", "x"},
		"tests nothing":           {`"A":"{{value}}"`, `"A":"x"`},
		"revokes nothing":         {"https://h.example/{{value}}", "https://h.example/"},
		"no pointer":              {`"/v"`, `"v"`},
		"a body that is not JSON": {`"{\"l\":\"{{rotation}}\"}"`, `"{{rotation}}"`},
	} {
		if err := (rotate.HTTP{}).Check([]byte(strings.Replace(good, change[0], change[1], 1))); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzCheck reads configurations that nobody wrote.
func FuzzCheck(f *testing.F) {
	f.Add(`{"create":{"url":"https://h/{{rotation}}"}}`)
	f.Fuzz(func(_ *testing.T, config string) {
		_ = rotate.HTTP{}.Check([]byte(config))
		_ = rotate.Postgres{}.Check([]byte(config))
	})
}
