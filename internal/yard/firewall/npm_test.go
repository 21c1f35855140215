package firewall_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func tgz(name, number string) string {
	return "http://npm.test/" + name + "/-/" + name[strings.LastIndexByte(name, '/')+1:] + "-" + number + ".tgz"
}

func TestNPMHandsOutWhatIsGood(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	r := n.publish(t, "@acme/tool", "1.0.0", old, nil)
	j := w.open("npm other")
	for _, path := range []string{"http://npm.test/@acme%2ftool", "http://npm.test/@acme/tool"} {
		got := get(j, path, "Accept", "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*")
		if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), `"1.0.0"`) {
			t.Fatalf("%s: got %d %s", path, got.Code, got.Body)
		}
	}
	if got := get(j, "http://npm.test/@acme%2ftool/latest"); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), `"version":"1.0.0"`) {
		t.Errorf("the manifest of a tag: got %d %s", got.Code, got.Body)
	}
	wantBody(t, get(j, tgz("@acme/tool", "1.0.0")), r.Tarball)
	wantBody(t, get(j, tgz("@acme/tool", "1.0.0")), r.Tarball)
	if got := get(j, tgz("@acme/tool", "1.0.0"), "Range", "bytes=0-3"); got.Code != http.StatusPartialContent || got.Body.Len() != 4 {
		t.Errorf("a range: got %d and %d bytes", got.Code, got.Body.Len())
	}
	got := w.recorded()
	want := sallyport.PackageFetch{Step: 2, PURL: "pkg:npm/%40acme/tool@1.0.0", Digest: sallyport.DigestOf(r.Tarball), Source: "http://npm.test",
		Size: int64(len(r.Tarball)), Decision: sallyport.EgressAllowed, At: today}
	if len(got) != 3 || got[0] != want {
		t.Fatalf("got the records %+v, want first %+v", got, want)
	}
	if want.Cached = true; got[1] != want {
		t.Errorf("got the second record %+v, want %+v", got[1], want)
	}
}

func TestNPMRefuses(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	n.publish(t, "worm", "1.0.0", old, nil)
	n.publish(t, "evil", "1.0.0", old, nil)
	n.publish(t, "evil", "2.0.0", old, nil)
	n.publish(t, "brand-new", "1.0.0", fresh, nil)
	n.publish(t, "lodahs", "1.0.0", today.AddDate(0, -1, 0), nil)
	n.publish(t, "loadash", "1.0.0", old, nil)
	n.publish(t, "taken-over", "1.0.0", old, nil).Deprecated = "this version was compromised, see our blog"
	n.publish(t, "superseded", "1.0.0", old, nil).Deprecated = "use 2.x"
	n.publish(t, "swapped", "1.0.0", old, nil).Integrity = integrity([]byte("another"))
	n.publish(t, "weak", "1.0.0", old, nil).NoSums = true
	j := w.open("npm worm", "npm evil 2.0.0", "npm removed 1.0.0")
	wantRefused(t, get(j, "http://npm.test/worm"), "npm package worm is refused", "known to be malicious (MAL-2026-1)")
	wantRefused(t, get(j, tgz("worm", "1.0.0")), "npm package worm is refused", "MAL-2026-1")
	wantRefused(t, get(j, tgz("evil", "2.0.0")), "evil@2.0.0 is refused", "MAL-2026-2")
	if got := get(j, tgz("evil", "1.0.0")); got.Code != http.StatusOK {
		t.Errorf("the version that is good: got %d %s", got.Code, got.Body)
	}
	wantRefused(t, get(j, tgz("brand-new", "1.0.0")), "published 5 hours ago", "72 hours", "allow pkg:npm/brand-new@1.0.0 under packages in .sallyport/egress.yaml")
	wantRefused(t, get(j, "http://npm.test/brand-new"), "published 5 hours ago")
	wantRefused(t, get(j, tgz("lodahs", "1.0.0")), "like that of the well-known lodash", "allow pkg:npm/lodahs ")
	wantRefused(t, get(j, "http://npm.test/lodahs"), "lodash")
	if got := get(j, tgz("loadash", "1.0.0")); got.Code != http.StatusOK {
		t.Errorf("a name that has existed for years: got %d %s", got.Code, got.Body)
	}
	wantRefused(t, get(j, tgz("taken-over", "1.0.0")), "withdrawn", "compromised")
	if got := get(j, tgz("superseded", "1.0.0")); got.Code != http.StatusOK {
		t.Errorf("an ordinary deprecation: got %d %s", got.Code, got.Body)
	}
	wantRefused(t, get(j, tgz("swapped", "1.0.0")), "sha512 checksum is not the one that the registry states")
	wantRefused(t, get(j, tgz("weak", "1.0.0")), "states no checksum")
	wantRefused(t, get(j, tgz("absent", "1.0.0")))
	wantRefused(t, get(j, "http://npm.test/removed"), "malicious in some versions (MAL-2026-3)", "has it no longer")
	for _, p := range w.recorded() {
		if p.Decision == sallyport.EgressDenied && p.Reason == "" || p.Decision == sallyport.EgressDenied && p.Digest != "" {
			t.Errorf("the record of a refusal is %+v", p)
		}
	}
	// The body is what npm prints.
	var body struct{ Error string }
	if err := json.Unmarshal(get(j, "http://npm.test/worm", "User-Agent", "npm/11 node/v20").Body.Bytes(), &body); err != nil || !strings.Contains(body.Error, "malicious") {
		t.Errorf("npm reads %+v, %v", body, err)
	}
}

// TestNPMOffersWhatMayBeHad hides versions that are too young or malicious, so that a range finds another.
func TestNPMOffersWhatMayBeHad(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	n.publish(t, "pkg", "1.0.0", old, nil)
	n.publish(t, "pkg", "1.1.0", old, nil)
	n.publish(t, "pkg", "1.2.0", old, nil)
	n.publish(t, "pkg", "1.3.0", fresh, nil)
	j := w.open("npm pkg 1.2.0")
	for _, accept := range []string{"application/json", "application/vnd.npm.install-v1+json"} {
		var doc struct {
			Tags     map[string]string `json:"dist-tags"`
			Versions map[string]any
			Time     map[string]any
		}
		if err := json.Unmarshal(get(j, "http://npm.test/pkg", "Accept", accept).Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if len(doc.Versions) != 2 || doc.Tags["latest"] != "1.1.0" || doc.Time["1.3.0"] != nil {
			t.Errorf("%s: got %v, tags %v", accept, doc.Versions, doc.Tags)
		}
	}
	w.later(72 * time.Hour)
	if got := get(j, "http://npm.test/pkg").Body.String(); !strings.Contains(got, `"1.3.0"`) {
		t.Errorf("days later: got %s", got)
	}
	wantRefused(t, get(j, tgz("pkg", "1.2.0")), "malicious")
}

func TestRules(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	for _, name := range []string{"by-name", "by-version", "expired", "@own/thing", "locked", "worm", "worm-exact"} {
		n.publish(t, name, "1.0.0", fresh, nil)
	}
	wrong := n.publish(t, "locked-wrong", "1.0.0", fresh, nil)
	w.rules = sallyport.PackageRules{
		Allow: []sallyport.PackageAllow{
			{PURL: "pkg:npm/by-name"}, {PURL: "pkg:npm/by-version@1.0.0", Until: today.Add(time.Hour)}, {PURL: "pkg:npm/expired", Until: today},
			{PURL: "pkg:npm/%40own/*"}, {PURL: "pkg:npm/worm"}, {PURL: "pkg:npm/worm-exact@1.0.0"}, {PURL: "pkg:/*"}, {PURL: "pkg:npm/lo"},
		},
		Locked: []sallyport.LockedPackage{
			{PURL: "pkg:npm/locked@1.0.0", Sums: []string{integrity(n.pkgs["locked"].Versions["1.0.0"].Tarball)}},
			{PURL: "pkg:npm/locked-wrong@1.0.0", Sums: []string{integrity([]byte("what was merged"))}},
		},
	}
	j := w.open("npm worm", "npm worm-exact")
	for name, words := range map[string]string{
		"by-name": "", "by-version": "", "expired": "published", "@own/thing": "", "locked": "", "worm": "malicious", "worm-exact": "", "locked-wrong": "not the one in the lock file",
	} {
		w.take()
		got := get(j, tgz(name, "1.0.0"))
		if words == "" && got.Code != http.StatusOK {
			t.Errorf("%s: got %d %s", name, got.Code, got.Body)
		} else if words != "" {
			wantRefused(t, got, words)
		}
		if asked := w.take(); name == "locked" && len(asked) != 1 {
			t.Errorf("what a lock file vouches for took %q", asked)
		}
	}
	if strings.Contains(get(j, tgz("locked-wrong", "1.0.0")).Body.String(), string(wrong.Tarball)) {
		t.Error("refused bytes reached the job")
	}
	zero := 0
	w.rules = sallyport.PackageRules{MinAgeHours: &zero}
	if got := get(w.job(), tgz("expired", "1.0.0")); got.Code != http.StatusOK {
		t.Errorf("without an age: got %d %s", got.Code, got.Body)
	}
}

// TestOtherRequests refuses what is not fetching, and paths that mean something else to somebody else.
func TestOtherRequests(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	n.publish(t, "pkg", "1.0.0", old, nil)
	j := w.open()
	for _, method := range []string{"PUT", "POST", "DELETE", "PATCH", "OPTIONS"} {
		wantRefused(t, send(j, method, "http://npm.test/pkg"), "not published or changed")
	}
	if got := send(j, "HEAD", "http://npm.test/pkg"); got.Code != http.StatusOK || got.Body.Len() != 0 {
		t.Errorf("HEAD: got %d and %d bytes", got.Code, got.Body.Len())
	}
	for _, path := range []string{"/pkg/../secret", "/pkg%2f..%2f..%2fsecret", "/%2e%2e/x", "/pkg%00", "/pkg%5c..", "/-/user/org.couchdb.user:me", "/-/v1/search?text=x",
		"/@scope", "/pkg/-/../../x-1.0.0.tgz", "/pkg/-/other-1.0.0.tgz", "/pkg/1.0.0/deeper", "/" + strings.Repeat("x", 3000), "/.hidden", "//pkg"} {
		w.take()
		get(j, "http://npm.test/ok")
		r := get(j, "http://npm.test"+path)
		if r.Code < 400 {
			t.Errorf("%.60s: got %d", path, r.Code)
		}
		for _, asked := range w.take() {
			if !strings.HasSuffix(asked, "/ok") {
				t.Errorf("%.60s reached the registry as %s", path, asked)
			}
		}
	}
	if j.Handler("elsewhere.test") != nil {
		t.Error("a host that is no registry's is answered for")
	}
}

// TestCredentialsStayHere sends the host's credential to the registry, and not to where it leads.
func TestCredentialsStayHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := &npmRegistry{base: "http://npm.test"}
	pkg := n.publish(t, "pkg", "1.0.0", old, nil)
	w.hosts["npm.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "robot" || password != "hunter2" {
			http.Error(rw, "who are you?", http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(r.URL.Path, ".tgz") {
			http.Redirect(rw, r, "http://files.test/a?signature=1", http.StatusFound)
			return
		}
		n.ServeHTTP(rw, r)
	})
	leaked := ""
	w.hosts["files.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		leaked = r.Header.Get("Authorization")
		rw.Write(pkg.Tarball)
	})
	u := w.add("npm", "http://robot:hunter2@npm.test")
	if strings.Contains(u.Base.String(), "hunter2") {
		t.Fatal("the address holds the password")
	}
	j := w.open()
	wantRefused(t, get(j, tgz("pkg", "1.0.0")), "leads to files.test, which is no registry's host")
	w.upstreams.Redirects = []string{"files.test"}
	j = w.open()
	got := get(j, tgz("pkg", "1.0.0"), "Authorization", "Bearer the-jobs-own", "Cookie", "a=b")
	wantBody(t, got, pkg.Tarball)
	if leaked != "" {
		t.Errorf("the redirect's host was sent %q", leaked)
	}
	for _, h := range w.headers {
		if h.Get("Cookie") != "" || strings.Contains(h.Get("Authorization"), "jobs-own") {
			t.Errorf("the job's own headers reached a registry: %v", h)
		}
	}
	for _, e := range w.f.Env() {
		if strings.Contains(e.Value, "hunter2") {
			t.Errorf("the job is told %s=%s", e.Name, e.Value)
		}
	}
	for _, p := range w.recorded() {
		if strings.Contains(p.Source, "hunter2") {
			t.Errorf("a record holds the password: %+v", p)
		}
	}
}

func TestNPMHostile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add("npm", "http://npm.test")
	answer := ""
	w.hosts["npm.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, answer) })
	j := w.open()
	for i, doc := range []string{"", "{", "[]", "null", `{"name":"other","versions":{}}`, `{"versions":{"1.0.0":{"dist":[]}}}`, `{"versions":[]}`, `{"versions":{"1.0.0":null}}`,
		`{"time":{"1.0.0":{}},"versions":{"1.0.0":{"dist":{"tarball":"http://[::1","integrity":"sha512-!!"}}}}`, "<html>"} {
		answer = doc
		name := "pkg" + string(rune('a'+i))
		if got := get(j, tgz(name, "1.0.0")); got.Code < 400 {
			t.Errorf("%s: the archive was handed out", doc)
		}
		if got := get(j, "http://npm.test/"+name); got.Code >= 500 && got.Code != http.StatusBadGateway {
			t.Errorf("%s: got %d %s", doc, got.Code, got.Body)
		}
	}
}
