package firewall_test

import (
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/internal/advisory"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

// TestPublicAdvisories asks for packages that really were malicious, and for honest ones, with a dump of
// public advisories. The registry would hand out all of them.
func TestPublicAdvisories(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("SALLYPORT_TEST_OSV")
	if dir == "" {
		dir = "../../../../shared/data/osv"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("there is no dump of advisories: %v; SALLYPORT_TEST_OSV may name one", err)
	}
	known, err := advisory.Open(os.DirFS(dir), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w, n := withNPM(t)
	g := &goProxy{}
	w.hosts["go.test"] = g
	w.add(firewall.KindGo, "http://go.test")
	n.publish(t, "squaredev-next-online-payments-example", "99.0.0", old, nil)
	for _, name := range []string{"lodash", "react", "left-pad", "is-odd", "@types/node"} {
		n.publish(t, name, "1.0.0", old, nil)
	}
	g.publish(t, "github.com/boltdb-go/bolt", "v1.3.1", old)
	g.publish(t, "github.com/boltdb/bolt", "v1.3.1", old)
	f, err := firewall.New(firewall.Config{Upstreams: w.upstreams, Transport: w.transport(), Advisories: known, CacheDir: t.TempDir(), Now: func() time.Time { return today }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	j := f.Job(firewall.JobConfig{})
	wantRefused(t, get(j, tgz("squaredev-next-online-payments-example", "99.0.0")), "known to be malicious (MAL-2024-1)")
	wantRefused(t, get(j, "http://go.test/github.com/boltdb-go/bolt/@v/v1.3.1.zip"), "known to be malicious (MAL-2025-2545)")
	for _, asked := range w.take() {
		if strings.HasSuffix(asked, ".tgz") || strings.HasSuffix(asked, ".zip") {
			t.Errorf("what is malicious was fetched: %s", asked)
		}
	}
	for _, name := range []string{"lodash", "react", "left-pad", "is-odd", "@types/node"} {
		if got := get(j, tgz(name, "1.0.0")); got.Code != http.StatusOK {
			t.Errorf("%s: got %d %s", name, got.Code, got.Body)
		}
	}
	if got := get(j, "http://go.test/github.com/boltdb/bolt/@v/v1.3.1.zip"); got.Code != http.StatusOK {
		t.Errorf("the real one: got %d %s", got.Code, got.Body)
	}
}
