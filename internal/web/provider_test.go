package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type fakeProvider struct{}

func (fakeProvider) Name() string { return "Example Corp" }
func (fakeProvider) Begin(context.Context, sallyport.LoginAttempt) (string, error) {
	return "https://id.example/authorize", nil
}
func (fakeProvider) Finish(context.Context, sallyport.LoginAttempt, url.Values) (sallyport.Proof, error) {
	return sallyport.Proof{}, nil
}

type fakeDesk struct{ f *fake }

func (d fakeDesk) Enter(context.Context, sallyport.Proof, string) (string, time.Time, error) {
	return "good", sampleNow.Add(time.Hour), nil
}
func (d fakeDesk) Refused(_ context.Context, why string) { d.f.did("Refused %s", why) }

// A vote that needs a fresh login leads to one and back, by a link: it works without script.
func TestVoteLeadsToFreshLogin(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	f.stale = true
	h, err := New(Config{Services: f.services(), BaseURL: "http://127.0.0.1:8080", Provider: fakeProvider{}, Desk: fakeDesk{f.fake}, Now: func() time.Time { return sampleNow }})
	if err != nil {
		t.Fatal(err)
	}
	f.handler = h
	resp := f.do(t, false, "POST", "/approvals/r1/vote", url.Values{"word": {"approve"}})
	page := body(t, resp)
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(page, `href="/login/provider?fresh=1&amp;next=%2Fapprovals%2Fr1"`) || !strings.Contains(page, "Nothing was recorded yet") {
		t.Errorf("%d %s", resp.StatusCode, page)
	}
	checkMarkup(t, page)
	if page = body(t, f.do(t, true, "GET", "/login?next=%2Fruns", nil)); !strings.Contains(page, `href="/login/provider?next=%2Fruns"`) {
		t.Errorf("the login page: %s", page)
	}
	checkMarkup(t, page)
	resp = f.do(t, false, "GET", "/login/provider?fresh=1&next=%2Fapprovals%2Fr1", nil)
	c := resp.Cookies()[0]
	if resp.Header.Get("Location") != "https://id.example/authorize" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 600 {
		t.Errorf("%v %+v", resp.Header, c)
	}
	// An attempt that lasted too long is none.
	late, err := New(Config{Services: f.services(), BaseURL: "http://127.0.0.1:8080", Provider: fakeProvider{}, Desk: fakeDesk{f.fake}})
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.Handler{"another process": late, "this one": f.handler} {
		f.handler = h
		resp = f.do(t, true, "GET", sallyport.LoginCallback+"?code=x&state=y", nil, "Cookie", c.Name+"="+c.Value)
		if want := map[string]int{"another process": http.StatusForbidden, "this one": http.StatusSeeOther}[name]; resp.StatusCode != want {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	// Without a provider there is no such page.
	if status, _ := newFront(t).get(t, "/login/provider"); status != http.StatusNotFound {
		t.Errorf("without a provider: %d", status)
	}
}
