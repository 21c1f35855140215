package oidc_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/blobstore"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/forge"
	"github.com/sallyport-ci/sallyport/internal/oidc"
	"github.com/sallyport-ci/sallyport/internal/policy"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
	"github.com/sallyport-ci/sallyport/internal/web"
)

// site is an installation with its pages, and the provider where people log in.
type site struct {
	t        *testing.T
	url      string
	provider *strict
	store    sallyport.Store
	s        sallyport.Services
	admin    sallyport.Principal
}

const file = `
name: Example Corp
issuer: ISSUER
client_id: sallyport
teams:
  ops: [grp-ops]
  web: [grp-web]
admit: {email_domain: example.com, teams: [web]}
step_up: {max_age: 5m, amr: [hwk]}
`

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSite(t *testing.T) *site {
	t.Helper()
	var pages atomic.Pointer[http.Handler]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*pages.Load()).ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	s := &site{t: t, url: front.URL, provider: newStrict(t, front.URL+sallyport.LoginCallback), admin: sallyport.Principal{Kind: sallyport.Person, ID: "u1", Name: "ada", Admin: true}}
	f, err := oidc.ParseFile([]byte(strings.ReplaceAll(file, "ISSUER", s.provider.URL)))
	check(t, err)
	client, err := oidc.New(oidc.Config{File: f, Secret: sallyport.NewSecret([]byte(secret)), Redirect: s.provider.redirect, Now: time.Now})
	check(t, err)

	dir, log, keys := t.TempDir(), slog.New(slog.DiscardHandler), sallyporttest.NewKMS()
	store, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: "sqlite:" + filepath.Join(dir, "db"), Clock: time.Now, Log: log})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	blobs, err := blobstore.OpenDir(blobstore.Config{Dir: filepath.Join(dir, "blobs"), KMS: keys})
	check(t, err)
	logs, err := blobstore.OpenLogs(blobstore.Config{Dir: filepath.Join(dir, "logs"), KMS: keys})
	check(t, err)
	repos, err := forge.New(t.Context(), forge.Config{Dir: filepath.Join(dir, "repos"), Log: log})
	check(t, err)
	gates, err := policy.New()
	check(t, err)
	e, err := engine.New(engine.Config{Store: store, Repositories: repos, Blobs: blobs, Logs: logs, Gates: gates, Instance: attest.Instance("ci.example"), BaseURL: front.URL,
		Version: "test", Clock: time.Now, Log: log, Known: []sallyport.Principal{s.admin},
		Logins: &engine.LoginRules{Issuer: f.Issuer, Teams: f.Teams, Admit: &engine.Admission{EmailDomain: f.Admit.EmailDomain, Teams: f.Admit.Teams}, Fresh: f.StepUp.MaxAge}})
	check(t, err)
	s.store, s.s = store, e.Services()
	h, err := web.New(web.Config{Services: s.s, BaseURL: front.URL, Provider: client, Desk: e.LoginDesk()})
	check(t, err)
	pages.Store(&h)
	return s
}

// anna has an account, and is known to the provider as 1.
func (s *site) anna() {
	s.t.Helper()
	ctx := sallyport.WithPrincipal(s.t.Context(), s.admin)
	_, err := s.s.Rights.AddAccount(ctx, sallyport.Account{Kind: sallyport.Person, Name: "anna", Teams: []string{"ops", "own"}})
	check(s.t, err)
	check(s.t, s.s.Rights.LinkLogin(ctx, "person/anna", "1"))
	s.provider.person = claims{"sub": "1", "preferred_username": "anna"}
}

// browser keeps cookies and follows no redirect by itself.
type browser struct {
	*http.Client
	s *site
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	check(s.t, err)
	return &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, s}
}

func (b *browser) get(address string) (status int, location, body string) {
	b.s.t.Helper()
	resp, err := b.Get(address)
	check(b.s.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	check(b.s.t, err)
	return resp.StatusCode, resp.Header.Get("Location"), string(text)
}

// begin goes to the provider and back, and returns the address that it leads to.
func (b *browser) begin(query string) string {
	b.s.t.Helper()
	_, toProvider, body := b.get(b.s.url + "/login/provider" + query)
	if !strings.HasPrefix(toProvider, b.s.provider.URL+"/authorize?") {
		b.s.t.Fatalf("a login begins at %q: %s", toProvider, body)
	}
	status, back, body := b.get(toProvider)
	if status != http.StatusFound {
		b.s.t.Fatalf("the provider: %d %s", status, body)
	}
	return back
}

func (b *browser) cookie(name string) string {
	u, err := url.Parse(b.s.url)
	check(b.s.t, err)
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

func (b *browser) set(name, value string) {
	u, err := url.Parse(b.s.url)
	check(b.s.t, err)
	b.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// who is whom the browser's session is of; nobody without one.
func (b *browser) who() sallyport.Principal {
	p, err := b.s.s.Access.Authenticate(b.s.t.Context(), sallyport.TokenSession, b.cookie("sallyport"))
	if err != nil {
		return sallyport.Principal{}
	}
	return p
}

// records are the audit records with an action, by what they say.
func (s *site) records(action string) (details []string) {
	s.t.Helper()
	check(s.t, s.store.View(s.t.Context(), func(tx sallyport.Tx) error {
		all, err := tx.Audit().Range(0, 10_000)
		for _, r := range all {
			if r.Action == action {
				details = append(details, r.Actor+" "+string(r.Detail))
			}
		}
		return err
	}))
	return details
}

// refused checks that an answer lets nobody in, and that the reason is recorded.
func (b *browser) refused(what, callback, why string) {
	b.s.t.Helper()
	status, _, body := b.get(callback)
	if status != http.StatusForbidden || b.who().Kind != sallyport.Nobody {
		b.s.t.Errorf("%s: status %d, let in %v: %s", what, status, b.who(), body)
	}
	if got := b.s.records("login.refused"); len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "nobody ") || !strings.Contains(got[len(got)-1], why) {
		b.s.t.Errorf("%s: recorded %q, want %q", what, got, why)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.anna()
	b := s.browser()
	if status, to, _ := b.get(s.url + "/runs?project=shop"); status != http.StatusSeeOther || to != "/login?next=%2Fruns%3Fproject%3Dshop" {
		t.Errorf("a stranger: %d %s", status, to)
	}
	_, _, page := b.get(s.url + "/login?next=%2Fruns%3Fproject%3Dshop")
	if !strings.Contains(page, `href="/login/provider?next=%2Fruns%3Fproject%3Dshop"`) || !strings.Contains(page, "Sign in with Example Corp") {
		t.Errorf("the login page: %s", page)
	}
	status, to, body := b.get(b.begin("?next=%2Fruns%3Fproject%3Dshop"))
	if status != http.StatusSeeOther || to != "/runs?project=shop" {
		t.Fatalf("after the login: %d %s %s", status, to, body)
	}
	if p := b.who(); p.ID != "person/anna" || !p.ProvedAt.IsZero() {
		t.Errorf("let in %+v", p)
	}
	if got := s.records("login.succeeded"); len(got) != 1 || !strings.HasPrefix(got[0], "person:anna ") {
		t.Errorf("recorded %q", got)
	}
	if b.cookie("sallyport-attempt") != "" {
		t.Error("the attempt can be used again")
	}
	// Sessions are listed, kept as digests, and end at once.
	list, err := s.s.Access.Tokens(sallyport.WithPrincipal(t.Context(), s.admin))
	check(t, err)
	i := slices.IndexFunc(list, func(t sallyport.Token) bool { return t.Kind == sallyport.TokenSession })
	if i < 0 || list[i].Hash != sallyport.DigestOf([]byte(b.cookie("sallyport"))) {
		t.Fatalf("got tokens %+v", list)
	}
	check(t, s.s.Access.RevokeToken(sallyport.WithPrincipal(t.Context(), s.admin), list[i].ID))
	if b.who().Kind != sallyport.Nobody {
		t.Error("a revoked session goes on")
	}
}

// What the provider, or somebody in its place, could say wrongly. The first case is the
// same login with nothing wrong.
func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	for name, c := range map[string]struct {
		why    string // "": let in
		tamper func(header, body claims)
		seal   func(*strict) func(string) string
	}{
		"as it should be": {},
		"wrong nonce":     {"not for this login", func(_, b claims) { b["nonce"] = "another" }, nil},
		"no nonce":        {"not for this login", func(_, b claims) { delete(b, "nonce") }, nil},
		"other audience":  {"does not verify", func(_, b claims) { b["aud"] = "another" }, nil},
		"two audiences":   {"for others too", func(_, b claims) { b["aud"] = []string{clientID, "another"} }, nil},
		"other party":     {"for others too", func(_, b claims) { b["azp"] = "another" }, nil},
		"other issuer":    {"does not verify", func(_, b claims) { b["iss"] = "https://id.example" }, nil},
		"issuer and more": {"does not verify", func(_, b claims) { b["iss"] = b["iss"].(string) + "/" }, nil},
		"expired":         {"does not verify", func(_, b claims) { b["exp"] = time.Now().Add(-time.Minute).Unix() }, nil},
		"of the future":   {"of the future", func(_, b claims) { b["iat"] = time.Now().Add(time.Hour).Unix() }, nil},
		"no subject":      {"names the person", func(_, b claims) { delete(b, "sub") }, nil},
		"unknown subject": {"no account", func(_, b claims) { b["sub"] = "2" }, nil},
		"alg none":        {"does not verify", func(h, _ claims) { h["alg"] = "none" }, func(*strict) func(string) string { return func(string) string { return "" } }},
		"HS256 with the public key": {"does not verify", func(h, _ claims) { h["alg"] = "HS256" },
			func(p *strict) func(string) string { return p.byPublicKey }},
		"another key": {"does not verify", nil, func(p *strict) func(string) string {
			return func(signed string) string { return b64(p.sign(stranger, signed)) }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.anna()
			s.provider.tamper = c.tamper
			if c.seal != nil {
				s.provider.seal = c.seal(s.provider)
			}
			b := s.browser()
			callback := b.begin("")
			if c.why != "" {
				b.refused(name, callback, c.why)
				return
			}
			if status, to, body := b.get(callback); status != http.StatusSeeOther || to != "/" || b.who().ID != "person/anna" {
				t.Errorf("%d %s %s", status, to, body)
			}
		})
	}
}

// What a browser could bring that began no such login.
func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.anna()
	with := func(address, key, value string) string {
		u, err := url.Parse(address)
		check(t, err)
		q := u.Query()
		q.Set(key, value)
		u.RawQuery = q.Encode()
		return u.String()
	}
	b := s.browser()
	b.refused("another state", with(b.begin(""), "state", "another"), "this browser began")
	b.refused("a state twice", b.begin("")+"&state=another", "twice")
	b.refused("an error of the provider", with(with(b.begin(""), "code", ""), "error", "access_denied<script>"), "access_deniedscript")
	b.refused("no code", with(b.begin(""), "code", ""), "no code")
	// Somebody has the victim open the answer to a login of their own.
	b.refused("an answer to another browser", s.browser().begin(""), "begun no login")
	asked := s.provider.asked
	b.refused("an answer of another issuer", with(b.begin(""), "iss", "https://evil.example"), "another issuer")
	if s.provider.asked != asked {
		t.Error("a code that may be another provider's was sent to this one")
	}
	// Somebody edits what their browser keeps.
	forged := s.browser()
	callback := forged.begin("")
	payload, mac, _ := strings.Cut(forged.cookie("sallyport-attempt"), ".")
	kept, err := base64.RawURLEncoding.DecodeString(payload)
	check(t, err)
	edited := strings.Replace(string(kept), "}", `,"n":"/runs"}`, 1)
	forged.set("sallyport-attempt", base64.RawURLEncoding.EncodeToString([]byte(edited))+"."+mac)
	forged.refused("a forged attempt", callback, "begun no login")

	// A code counts once: neither the browser nor the provider takes it again.
	callback = b.begin("")
	cookie := b.cookie("sallyport-attempt")
	if status, _, body := b.get(callback); status != http.StatusSeeOther {
		t.Fatalf("control: %d %s", status, body)
	}
	again := s.browser()
	again.refused("an answer again", callback, "begun no login")
	again.set("sallyport-attempt", cookie)
	again.refused("a code again", callback, "did not take the code: invalid_grant")

	// Somebody puts the victim's code in an answer to a login of their own: the provider
	// misses the verifier; one that does not look at it signs the nonce of the victim.
	for _, lax := range []bool{false, true} {
		s.provider.lax = lax
		victim, thief := s.browser(), s.browser()
		u, err := url.Parse(victim.begin(""))
		check(t, err)
		why := "did not take the code"
		if lax {
			why = "not for this login"
		}
		thief.refused("a stolen code", with(thief.begin(""), "code", u.Query().Get("code")), why)
	}
}

func TestProviderThatNamesItself(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.anna()
	s.provider.names = true
	b := s.browser()
	callback := b.begin("")
	u, err := url.Parse(callback)
	check(t, err)
	q := u.Query()
	q.Del("iss")
	b.refused("an answer without an issuer", s.url+u.Path+"?"+q.Encode(), "another issuer")
	if status, _, body := b.get(b.begin("")); status != http.StatusSeeOther {
		t.Errorf("control: %d %s", status, body)
	}
}

func TestNobodyIsLedAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.anna()
	for next, want := range map[string]string{
		"/runs": "/runs", "/runs?a=b": "/runs?a=b", "": "/", "runs": "/", "https://evil.example": "/", "//evil.example": "/", "///evil.example": "/", `/\evil.example`: "/",
		"/%5cevil.example": "/", "/%2fevil.example": "/", "/\tevil": "/", "javascript:alert(1)": "/", "/login/provider": "/", "http:/evil": "/", "/ünsal": "/",
	} {
		b := s.browser()
		if _, to, _ := b.get(b.begin("?next=" + url.QueryEscape(next))); to != want {
			t.Errorf("%q leads to %q, want %q", next, to, want)
		}
	}
}

// A session that was there before a login is not the one after it, and ends.
func TestSessionsChangeAtLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.anna()
	b := s.browser()
	b.set("sallyport", "sls_fixed-by-somebody")
	b.get(b.begin(""))
	first := b.cookie("sallyport")
	if b.who().ID != "person/anna" || first == "sls_fixed-by-somebody" {
		t.Fatalf("session %q", first)
	}
	b.get(b.begin(""))
	if b.who().ID != "person/anna" || b.cookie("sallyport") == first {
		t.Error("the session was not changed")
	}
	if _, err := s.s.Access.Authenticate(t.Context(), sallyport.TokenSession, first); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("the session before goes on: %v", err)
	}
}

func TestWhoIsLetIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.anna()
	ctx := sallyport.WithPrincipal(t.Context(), s.admin)
	teams := func(id string) []string {
		list, err := s.s.Rights.Accounts(ctx)
		check(t, err)
		for _, a := range list {
			if a.ID == id {
				return a.Teams
			}
		}
		return nil
	}
	b := s.browser()
	// Groups at every login decide of the teams that the file names, by exact value.
	for _, c := range []struct{ groups, want []string }{
		{[]string{"grp-web", "GRP-OPS", "grp-ops-x"}, []string{"own", "web"}},
		{[]string{"grp-ops"}, []string{"ops", "own"}},
		{nil, []string{"own"}},
	} {
		s.provider.person = claims{"sub": "1", "groups": c.groups}
		b.get(b.begin(""))
		if got := teams("person/anna"); b.who().ID != "person/anna" || !slices.Equal(got, c.want) {
			t.Errorf("groups %v: teams %v, want %v", c.groups, got, c.want)
		}
	}
	// Without an account: both that the file says, and no less.
	for name, c := range map[string]struct {
		person claims
		why    string
	}{
		"an e-mail address alone":     {claims{"email": "eve@example.com", "email_verified": true}, "in no group"},
		"a group alone":               {claims{"groups": []string{"grp-web"}}, "no verified e-mail"},
		"an unverified address":       {claims{"email": "eve@example.com", "email_verified": false, "groups": []string{"grp-web"}}, "no verified e-mail"},
		"an address that says little": {claims{"email": "eve@example.com", "groups": []string{"grp-web"}}, "no verified e-mail"},
		"another domain":              {claims{"email": "eve@evil-example.com", "email_verified": true, "groups": []string{"grp-web"}}, "no verified e-mail"},
		"a domain below":              {claims{"email": "eve@example.com.evil.example", "email_verified": true, "groups": []string{"grp-web"}}, "no verified e-mail"},
		"another group":               {claims{"email": "eve@example.com", "email_verified": true, "groups": []string{"grp-ops"}}, "in no group"},
		"anna's name and address":     {claims{"email": "anna@other.example", "email_verified": true, "preferred_username": "anna"}, "no account"},
	} {
		c.person["sub"] = "3"
		s.provider.person = c.person
		stranger := s.browser()
		stranger.refused(name, stranger.begin(""), c.why)
	}
	s.provider.person = claims{"sub": "3", "preferred_username": "anna", "email": "Eve@Example.com", "email_verified": true, "groups": []string{"grp-web"}}
	eve := s.browser()
	eve.get(eve.begin(""))
	id := eve.who().ID
	if !strings.HasPrefix(id, "person/anna-") || !slices.Equal(teams(id), []string{"web"}) || eve.who().Admin {
		t.Fatalf("let in %+v in %v", eve.who(), teams(id))
	}
	s.provider.person = claims{"sub": "3"} // her address and groups are gone; the account is hers
	eve.get(eve.begin(""))
	if eve.who().ID != id || len(teams(id)) > 0 {
		t.Errorf("let in %+v in %v, want %s", eve.who(), teams(id), id)
	}
	// An account that was removed lets nobody in, and is not made again.
	check(t, s.s.Rights.RemoveAccount(ctx, id))
	s.provider.person = claims{"sub": "3", "email": "eve@example.com", "email_verified": true, "groups": []string{"grp-web"}}
	eve.refused("a removed account", eve.begin(""), "removed")
	// The subject of another account is not taken from it.
	_, err := s.s.Rights.AddAccount(ctx, sallyport.Account{Kind: sallyport.Person, Name: "ben"})
	check(t, err)
	if err := s.s.Rights.LinkLogin(ctx, "person/ben", "1"); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("a person with two accounts: %v", err)
	}
	// Who is unlinked is out, at once.
	check(t, s.s.Rights.LinkLogin(ctx, "person/anna", ""))
	if b.who().Kind != sallyport.Nobody {
		t.Error("the session of an account that is nobody's goes on")
	}
}

// A fresh login is one that the provider says was fresh and strong; asking is not enough.
func TestFreshLogins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.anna()
	now := time.Now()
	b := s.browser()
	for name, c := range map[string]claims{
		"no time":      {"amr": []string{"hwk"}},
		"long ago":     {"amr": []string{"hwk"}, "auth_time": now.Add(-10 * time.Minute).Unix()},
		"in future":    {"amr": []string{"hwk"}, "auth_time": now.Add(time.Hour).Unix()},
		"by password":  {"amr": []string{"pwd"}, "auth_time": now.Unix()},
		"nothing said": {"auth_time": now.Unix()},
	} {
		c["sub"] = "1"
		s.provider.person = c
		b.refused(name, b.begin("?fresh=1"), "prove")
	}
	if s.provider.last.Get("max_age") != "0" {
		t.Errorf("asked %v", s.provider.last)
	}
	s.provider.person = claims{"sub": "1", "amr": []string{"pwd"}, "auth_time": now.Unix()}
	b.get(b.begin(""))
	if p := b.who(); p.ID != "person/anna" || !p.ProvedAt.IsZero() {
		t.Errorf("a login that is not strong: %+v", p)
	}
	s.provider.person = claims{"sub": "1", "amr": []string{"pwd", "hwk"}, "auth_time": now.Unix()}
	b.get(b.begin("?fresh=1"))
	if p := b.who(); p.ID != "person/anna" || p.ProvedAt.Unix() != now.Unix() {
		t.Errorf("a fresh login: %+v", p)
	}
}
