package web

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

var (
	inlineScript = regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>`)
	inlineStyle  = regexp.MustCompile(`(?i)<style|\sstyle\s*=|\son[a-z]+\s*=\s*["']`)
	headings     = regexp.MustCompile(`<h1[ >]`)
	images       = regexp.MustCompile(`<img [^>]*>`)
	fields       = regexp.MustCompile(`<(?:input|select|textarea) [^>]*>`)
	elementIDs   = regexp.MustCompile(`\sid="([^"]+)"`)
)

func TestPages(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	for _, p := range pages {
		t.Run(p.name, func(t *testing.T) {
			status, html := f.get(t, p.path)
			want := http.StatusOK
			if p.name == "missing" {
				want = http.StatusNotFound
			}
			if status != want {
				t.Fatalf("GET %s: status %d, want %d", p.path, status, want)
			}
			for _, w := range p.want {
				if !strings.Contains(html, w) {
					t.Errorf("GET %s: %q is missing", p.path, w)
				}
			}
			checkMarkup(t, html)
		})
	}
	if calls := f.done(); len(calls) > 0 {
		t.Errorf("GETs changed something: %q", calls)
	}
}

// checkMarkup demands what every page must have and must not.
func checkMarkup(t *testing.T, html string) {
	t.Helper()
	for _, s := range inlineScript.FindAllString(html, -1) {
		if !strings.Contains(s, `type="module" src="/static/`) {
			t.Errorf("script %q is not ours", s)
		}
	}
	if s := inlineStyle.FindString(html); s != "" {
		t.Errorf("inline style or handler %q", s)
	}
	if n := len(headings.FindAllString(html, -1)); n != 1 {
		t.Errorf("%d h1, want 1", n)
	}
	for _, s := range images.FindAllString(html, -1) {
		if !strings.Contains(s, " alt=") {
			t.Errorf("image without alt: %s", s)
		}
	}
	for _, s := range fields.FindAllString(html, -1) {
		at := strings.Index(html, s)
		if open, closed := strings.LastIndex(html[:at], "<label"), strings.LastIndex(html[:at], "</label>"); open <= closed && !strings.Contains(s, `type="hidden"`) {
			t.Errorf("field without label: %s", s)
		}
	}
	seen := map[string]bool{}
	for _, m := range elementIDs.FindAllStringSubmatch(html, -1) {
		if seen[m[1]] {
			t.Errorf("id %q stands twice", m[1])
		}
		seen[m[1]] = true
	}
	for _, w := range []string{`<html lang="en">`, `class="skip" href="#main"`, `<main id="main"`, `aria-live="polite"`, `name="viewport"`} {
		if !strings.Contains(html, w) {
			t.Errorf("%q is missing", w)
		}
	}
	if strings.Contains(html, "ZgotmplZ") || strings.Contains(html, "&lt;nil&gt;") || strings.Contains(html, "%!") {
		t.Error("a template filled in something unfit")
	}
}

// Of the remarks about a workflow, notes are kept with the plan and not shown.
func TestNotesAreNotShown(t *testing.T) {
	t.Parallel()
	_, html := newFront(t).get(t, "/runs/"+string(runNow))
	if !strings.Contains(html, "ci.yml:14:9") || strings.Contains(html, "ci.yml:15:9") || strings.Contains(html, "of no consequence") {
		t.Error("the page shows a note, or not the warning")
	}
}

func TestFreshInstallation(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	*f.fake = fake{changed: make(chan struct{}), instance: sallyport.InstanceHealth{Problems: []string{"no OCI runtime was found"}}}
	for path, want := range map[string]string{"/": "Start here", "/projects": "No project yet.", "/runs": "No run matches.", "/deployments": "No environment yet.",
		"/gates": "No gate has decided anything yet.", "/audit": "No record matches.", "/tokens": "No token.", "/access": "No account.", "/system": "no OCI runtime was found"} {
		status, html := f.get(t, path)
		if status != http.StatusOK || !strings.Contains(html, want) {
			t.Errorf("GET %s: status %d, want %q", path, status, want)
		}
		checkMarkup(t, html)
	}
}

func TestHeadersOnEveryAnswer(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	targets := []string{"/login", "/no/such/page", "/static/none", "/trusted-root.json", "/artifacts/" + string(f.artifacts[0].ID) + "/download"}
	for _, p := range pages {
		targets = append(targets, p.path)
	}
	for _, target := range targets {
		h := f.do(t, false, "GET", target, nil).Header
		want := map[string]string{"Content-Security-Policy": contentPolicy, "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store"}
		for name, value := range want {
			if got := h.Get(name); got != value {
				t.Errorf("GET %s: %s is %q, want %q", target, name, got, value)
			}
		}
		if len(h.Get("X-Request-Id")) != 16 {
			t.Errorf("GET %s: no request id", target)
		}
	}
}

func TestHostileTextIsEscaped(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	for _, p := range []string{"/", "/runs", "/runs/" + string(runHostile), "/runs/" + string(runHostile) + "/jobs/" + string(jobHostile),
		"/deployments/" + string(f.deployments[0].ID), "/artifacts/" + string(f.artifacts[2].ID), "/projects/shop",
		"/audit?actor=" + url.QueryEscape(hostile), "/runs?before=" + url.QueryEscape(hostile), "/login?token=" + url.QueryEscape(hostile)} {
		status, html := f.get(t, p)
		if status != http.StatusOK {
			t.Fatalf("GET %s: status %d", p, status)
		}
		for _, bad := range []string{"<script>alert", "<img src=x", "<i>evil", "<b>x", "<script>\"", "\"><b>"} {
			if strings.Contains(html, bad) {
				t.Errorf("GET %s: %q came through", p, bad)
			}
		}
		checkMarkup(t, html)
	}
	if _, html := f.get(t, "/runs/"+string(runHostile)); !strings.Contains(html, "&lt;script&gt;alert(&#34;title&#34;)") {
		t.Error("the hostile title is not shown as text")
	}
}

func TestSigningIn(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	if resp := f.do(t, true, "GET", "/runs", nil); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/login" {
		t.Errorf("without a session: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp := f.do(t, true, "POST", "/projects", url.Values{"name": {"x"}}); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("POST without a session: %d", resp.StatusCode)
	}
	if resp := f.do(t, true, "GET", "/runs/"+string(runNow)+"/events", nil, "Accept", "text/event-stream"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("stream without a session: %d", resp.StatusCode)
	}
	html := body(t, f.do(t, true, "GET", "/login?token=once", nil))
	if !strings.Contains(html, `value="once"`) || !strings.Contains(html, `method="post"`) || len(f.done()) != 0 {
		t.Errorf("the link must show a button and burn nothing: %q", f.done())
	}
	checkMarkup(t, html)
	resp := f.do(t, true, "POST", "/login", url.Values{"token": {"once"}})
	c := resp.Cookies()
	if len(c) != 1 || c[0].Value != "good" || !c[0].HttpOnly || c[0].SameSite != http.SameSiteLaxMode || c[0].Secure || c[0].MaxAge != 3600 {
		t.Errorf("session cookie: %+v", c)
	}
	if resp := f.do(t, true, "POST", "/login", url.Values{"token": {"twice"}}); resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) != 0 {
		t.Errorf("used link: %d", resp.StatusCode)
	}
	if slices.Contains(f.done(), "Logout good") {
		t.Errorf("a session that was not there ended: %q", f.done())
	}
	f.do(t, false, "POST", "/login", url.Values{"token": {"once"}})
	if !slices.Contains(f.done(), "Logout good") {
		t.Errorf("the session before the login goes on: %q", f.done())
	}
	before := len(f.done())
	if resp := f.do(t, false, "POST", "/logout", url.Values{}); resp.Cookies()[0].MaxAge >= 0 || !slices.Contains(f.done()[before:], "Logout good") {
		t.Errorf("signing out kept the session: %q", f.done())
	}
	bad := f.do(t, true, "GET", "/", nil, "Cookie", "sallyport=stolen")
	if bad.StatusCode != http.StatusSeeOther || bad.Cookies()[0].MaxAge >= 0 || !slices.Contains(f.done(), "Denied GET /") {
		t.Errorf("bad session: %d, %q", bad.StatusCode, f.done())
	}
}

func TestSecureCookie(t *testing.T) {
	t.Parallel()
	f := newFake()
	h, err := New(Config{Services: f.services(), BaseURL: "https://ci.example.org", Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	c := (&front{f, h}).do(t, true, "POST", "/login", url.Values{"token": {"once"}}).Cookies()
	if len(c) != 1 || c[0].Name != "__Host-sallyport" || !c[0].Secure || c[0].Path != "/" || c[0].Domain != "" {
		t.Errorf("cookie over TLS: %+v", c)
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	artifact := "/artifacts/" + id[string]("a100", 1)
	verdict := "/verdicts/" + id[string]("7100", 9)
	cases := []struct {
		path   string
		form   url.Values
		status int
		call   string // that must have been made; "" = none at all
		text   string
	}{
		{"/projects", url.Values{"name": {"new"}}, 303, "CreateProject new main", ""},
		{"/projects", url.Values{"name": {"Bad Name"}}, 400, "CreateProject Bad Name main", "is not a valid name"},
		{"/projects/shop/dispatch", url.Values{"workflow": {"ci.yml"}, "ref": {"main"}}, 303, "Dispatch ci.yml refs/heads/main {}", ""},
		{"/runs/" + string(runNow) + "/cancel", nil, 303, "Cancel " + string(runNow), ""},
		{artifact + "/judge", url.Values{"environment": {"production"}}, 303, "Judge " + id[string]("a100", 1) + " production", ""},
		{artifact + "/deploy", url.Values{"environment": {"staging"}}, 303, "Deploy " + id[string]("a100", 1) + " staging", ""},
		{"/projects/shop/environments/production/rollback", url.Values{"reason": {"it burns"}}, 303, `Rollback production "it burns"`, ""},
		{"/projects/shop/environments/production/rollback", url.Values{"reason": {" "}}, 400, "", "needs a reason"},
		{"/projects/shop/environments/moon/rollback", url.Values{"reason": {"x"}}, 404, "", "no such environment"},
		{verdict + "/replay", nil, 200, "Replay " + id[string]("7100", 9) + ` ""`, "Same decision."},
		{verdict + "/replay", url.Values{"policy": {"package p"}}, 200, "Replay " + id[string]("7100", 9) + ` "package p"`, "A different decision:"},
		{"/audit/verify", nil, 200, "", "The trail is whole."},
		{"/tokens", url.Values{"name": {"ci"}, "days": {"30"}}, 200, "CreateToken ci api person:anna 720h0m0s", "sap_f3Kq0sNn1mYw8bGZ2vXc7RtLdJ4uHe6A"},
		{"/tokens", url.Values{"name": {"ci"}, "days": {"9999"}}, 400, "", "1 to 365 days"},
		{"/projects/shop/caches/" + id[string]("ca00", 2) + "/delete", nil, 303, "DeleteCache " + id[string]("ca00", 2), ""},
		{"/projects/shop/secrets", url.Values{"name": {"DEPLOY_KEY"}, "environment": {"prod"}, "value": {"one\r\ntwo-three"}}, 303,
			`SetSecret p-shop "prod" DEPLOY_KEY ` + sallyport.DigestOf([]byte("one\ntwo-three")).Short(), ""},
		{"/projects/shop/secrets/REGISTRY_TOKEN/delete", url.Values{"environment": {""}}, 303, `DeleteSecret p-shop "" REGISTRY_TOKEN`, ""},
		{"/projects/shop/secrets/DATABASE_PASSWORD/rotate", url.Values{"environment": {"prod"}}, 303, `Rotate p-shop "prod" DATABASE_PASSWORD`, ""},
		{"/projects/shop/secrets/NONE/rotate", nil, 404, "", "there is no such rotation"},
		{"/projects/shop/secrets/NONE/delete", nil, 404, "", "there is no such secret"},
		{"/projects/shop/caches/none/delete", nil, 404, "", "there is no such cache entry"},
		{"/approvals/r1/vote", url.Values{"word": {"approve"}, "note": {"read it"}, "digest": {"sha256:1"}}, 303, "Vote r1 approve read it sha256:1", ""},
		{"/approvals/r1/activate", nil, 303, "Activate r1", ""},
		{"/approvals/r1/withdraw", nil, 303, "Withdraw r1", ""},
		{"/grants/g1/revoke", url.Values{"why": {"done"}}, 303, "Revoke g1 done", ""},
		{"/stops", url.Values{"kind": {"person"}, "name": {" ben "}, "why": {"odd"}}, 200, "Stop person ben odd", "What could not be taken back from here"},
		{"/stops", url.Values{"kind": {"person"}}, 400, "", "needs the name"},
		{"/stops/lift", url.Values{"kind": {"runner"}, "name": {"yard-7"}}, 303, "Lift runner yard-7 ", ""},
		{"/tokens/t1/revoke", nil, 303, "RevokeToken t1", ""},
		{"/projects", url.Values{"name": {strings.Repeat("x", maxForm)}}, 400, "CreateProject  main", ""},
	}
	for _, c := range cases {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			f := newFront(t)
			if c.form == nil {
				c.form = url.Values{}
			}
			resp := f.do(t, false, "POST", c.path, c.form, "Sec-Fetch-Site", "same-origin")
			html := body(t, resp)
			if resp.StatusCode != c.status || !strings.Contains(html, c.text) {
				t.Errorf("POST %s: status %d, want %d with %q", c.path, resp.StatusCode, c.status, c.text)
			}
			if calls := f.done(); c.call == "" && len(calls) > 0 || c.call != "" && !slices.Contains(calls, c.call) {
				t.Errorf("POST %s called %q, want %q", c.path, calls, c.call)
			}
			cross := newFront(t)
			if resp := cross.do(t, false, "POST", c.path, c.form, "Sec-Fetch-Site", "cross-site"); resp.StatusCode != 403 || len(cross.done()) > 0 {
				t.Errorf("POST %s from another site: %d, %q", c.path, resp.StatusCode, cross.done())
			}
			if resp := cross.do(t, false, "GET", c.path, nil); resp.StatusCode < 400 && !slices.Contains([]string{"/projects", "/tokens", "/projects/shop/secrets", "/stops"}, c.path) || len(cross.done()) > 0 {
				t.Errorf("GET %s acted: %d, %q", c.path, resp.StatusCode, cross.done())
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	f.denied = true
	status, html := f.get(t, "/runs/"+string(runNow))
	if status != http.StatusForbidden || !strings.Contains(html, "The door stays shut") || !strings.Contains(html, "ask an administrator") {
		t.Errorf("denied: status %d", status)
	}
	checkMarkup(t, html)
	f.denied = false
	for path, want := range map[string]int{"/nothing": 404, "/runs/none": 404, "/runs/none/events": 404, "/audit?before=x": 400,
		"/runs/" + string(runNow) + "/jobs/none": 404, "/runs?project=none": 404, "/statements/none/bundle": 404, "/static/none": 404} {
		if status, _ := f.get(t, path); status != want {
			t.Errorf("GET %s: status %d, want %d", path, status, want)
		}
	}
	f.verifyErr = sallyport.Errorf(sallyport.CodeInvalid, "log entry 401 has no inclusion proof")
	if _, html := f.get(t, "/artifacts/"+string(f.artifacts[0].ID)); !strings.Contains(html, "does not verify.") || !strings.Contains(html, "no inclusion proof") {
		t.Error("a failed verification is not shown")
	}
	var nothing sallyport.Services // every call panics
	h, _ := New(Config{Services: nothing, BaseURL: "http://127.0.0.1"})
	resp := (&front{f.fake, h}).do(t, false, "GET", "/", nil)
	if html := body(t, resp); resp.StatusCode != 500 || !strings.Contains(html, "internal error") || strings.Contains(html, "goroutine") || strings.Contains(html, ".go:") {
		t.Errorf("panic: status %d", resp.StatusCode)
	}
}

func TestDownloads(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	a := f.artifacts[0]
	resp := f.do(t, false, "GET", "/artifacts/"+string(a.ID)+"/download", nil)
	if got := body(t, resp); got != f.content[a.ID] || resp.Header.Get("Content-Disposition") != "attachment; filename=shop" || resp.ContentLength != a.Size {
		t.Errorf("download: %q, %v", got, resp.Header)
	}
	resp = f.do(t, false, "GET", "/statements/"+string(f.statements[0].ID)+"/bundle?name=shop", nil)
	if resp.Header.Get("Content-Disposition") != "attachment; filename=shop.sigstore.json" {
		t.Errorf("bundle: %v", resp.Header)
	}
	_, log := f.get(t, "/runs/"+string(runHostile)+"/jobs/"+string(jobHostile)+"/log")
	if want := hostile + "\n[\"><script>] " + hostile + "\n" + hostile + "\n[system] this line of the log cannot be read\n"; log != want {
		t.Errorf("raw log:\n%q\nwant\n%q", log, want)
	}
	resp = f.do(t, false, "GET", "/runs/"+string(runPassed)+"/jobs/"+string(jobBig)+"/log", nil)
	if text := body(t, resp); strings.Count(text, "\n") != bigLines || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("raw log has %d lines, want %d", strings.Count(text, "\n"), bigLines)
	}
}

func TestStatic(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	_, html := f.get(t, "/")
	for _, name := range []string{"app.css", "app.js", "logo.svg"} {
		url := regexp.MustCompile(`/static/[0-9a-f]{12}/` + regexp.QuoteMeta(name)).FindString(html)
		resp := f.do(t, true, "GET", url, nil)
		if resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("GET %q: %d, %v", url, resp.StatusCode, resp.Header)
		}
		if text := body(t, resp); strings.Contains(text, "http://") && !strings.Contains(text, "http://www.w3.org/2000/svg") || strings.Contains(text, "https://") || strings.Contains(text, "@import") {
			t.Errorf("%s reaches for another site", name)
		}
	}
	if status, _ := f.get(t, "/static/000000000000/app.css"); status != 404 {
		t.Errorf("another hash: %d", status)
	}
}

// TestLogWithoutScript walks through a whole log by its "next" links.
func TestLogWithoutScript(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	next := regexp.MustCompile(`rel="next" href="([^"]+)"`)
	path, lines, seen := "/runs/"+string(runPassed)+"/jobs/"+string(jobBig), 0, 0
	for pageNo := 0; path != "" && pageNo < 5; pageNo++ {
		_, html := f.get(t, path)
		lines += strings.Count(html, `<div class="ln`)
		if !strings.Contains(html, `id="L`+strconv.Itoa(seen+1)+`"`) {
			t.Fatalf("page %d does not begin at line %d", pageNo, seen+1)
		}
		seen = lines
		m := next.FindStringSubmatch(html)
		if m == nil {
			t.Fatal("no next link")
		}
		path, _, _ = strings.Cut(strings.ReplaceAll(m[1], "&amp;", "&"), "#")
	}
	if _, html := f.get(t, "/runs/"+string(runFailed)+"/jobs/"+string(jobFailed)); strings.Contains(html, `rel="next"`) {
		t.Error("a short log has a next page")
	}
}

func BenchmarkPages(b *testing.B) {
	f := newFront(b)
	for _, p := range pages {
		b.Run(p.name, func(b *testing.B) {
			for b.Loop() {
				f.get(b, p.path)
			}
		})
	}
}
