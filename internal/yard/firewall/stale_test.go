package firewall_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

// TestLearnedHostGetsNoCredential has a registry name another host for its files.
func TestLearnedHostGetsNoCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := &npmRegistry{base: "http://files.test"}
	w.hosts["npm.test"], w.hosts["files.test"] = n, n
	w.add(firewall.KindNPM, "http://npm.test").Authorization = sallyport.NewSecret([]byte("Bearer geheim"))
	pkg := n.publish(t, "pkg", "1.0.0", old, nil)
	for range 2 { // the second has the host from the file
		j := w.open()
		get(j, "http://npm.test/pkg")
		wantBody(t, get(j, "http://files.test/pkg/-/pkg-1.0.0.tgz"), pkg.Tarball)
		w.later(48 * time.Hour)
	}
	j := w.open()
	other := n.publish(t, "other", "1.0.0", old, nil)
	get(j, "http://npm.test/other")
	wantBody(t, get(j, "http://files.test/other/-/other-1.0.0.tgz"), other.Tarball)
	asked, sent := w.take(), w.headers
	for i, a := range asked {
		if has := sent[i].Get("Authorization") != ""; has != strings.Contains(a, " npm.test/") {
			raw, _ := json.Marshal(sent[i])
			t.Errorf("%s had %s", a, raw)
		}
	}
	if !slices.ContainsFunc(asked, func(a string) bool { return strings.Contains(a, "files.test/") }) {
		t.Errorf("nobody asked the host of files: %q", asked)
	}
}

// TestAbsentFileIsAskedForAgain has a registry that is late with an archive, and then wrong about it.
func TestAbsentFileIsAskedForAgain(t *testing.T) {
	t.Parallel()
	w, n := withNPM(t)
	pkg := n.publish(t, "pkg", "1.0.0", old, nil)
	fault := func(rw http.ResponseWriter, r *http.Request) { http.NotFound(rw, r) }
	w.hosts["npm.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".tgz") && fault != nil {
			fault(rw, r)
			return
		}
		n.ServeHTTP(rw, r)
	})
	j := w.open()
	wantRefused(t, get(j, tgz("pkg", "1.0.0")))
	w.later(2 * time.Minute)
	fault = func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("wrong")) }
	wantRefused(t, get(j, tgz("pkg", "1.0.0")), "checksum")
	fault = nil
	wantBody(t, get(j, tgz("pkg", "1.0.0")), pkg.Tarball)
}
