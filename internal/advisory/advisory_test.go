package advisory_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sallyport-ci/sallyport/internal/advisory"
)

const worm = `{"id":"MAL-2026-1","affected":[{"package":{"ecosystem":"npm","name":"left-pab"},"versions":["1.0.1","1.0.2"]}]}`

func packed(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, body := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMalicious(t *testing.T) {
	t.Parallel()
	var names bytes.Buffer
	z := gzip.NewWriter(&names)
	io.WriteString(z, "ecosystem\tname\tid\tversions\nPyPI\tRe_Quests\tMAL-2026-9\tall\nnpm\tsometimes\tMAL-2026-10\tsome\n")
	z.Close()
	x, err := advisory.Read(fstest.MapFS{
		"npm/all.zip": {Data: packed(t, map[string]string{"MAL-2026-1.json": worm,
			"GHSA-1.json": `{"id":"GHSA-1","affected":[{"package":{"ecosystem":"npm","name":"weak"},"versions":["1.0.0"]}]}`,
			"GHSA-2.json": `{"id":"GHSA-2","database_specific":{"cwe_ids":["CWE-506"]},"affected":[{"package":{"ecosystem":"npm","name":"hijacked"},
				"ranges":[{"type":"SEMVER","events":[{"introduced":"1.2.0"},{"fixed":"1.2.3"},{"introduced":"2.0.0"},{"last_affected":"2.1.0"}]}]}]}`,
			"MAL-2026-3.json": `{"id":"MAL-2026-3","withdrawn":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":"wronged"}}]}`,
			"README.md":       "not an entry"})},
		"Go/MAL-2026-2.json":     {Data: []byte(`{"id":"MAL-2026-2","affected":[{"package":{"ecosystem":"Go","name":"example.com/evil"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}`)},
		"malicious-names.tsv.gz": {Data: names.Bytes()},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ ecosystem, name, version, want string }{
		{"npm", "left-pab", "1.0.1", "MAL-2026-1"},
		{"npm", "left-pab", "1.0.0", ""},
		{"npm", "weak", "1.0.0", ""},
		{"npm", "hijacked", "1.1.9", ""},
		{"npm", "hijacked", "1.2.0", "GHSA-2"},
		{"npm", "hijacked", "1.2.3", ""},
		{"npm", "hijacked", "2.1.0", "GHSA-2"},
		{"npm", "hijacked", "2.1.1", ""},
		{"npm", "hijacked", "not a version", "GHSA-2"}, // its order is not known
		{"npm", "wronged", "1.0.0", ""},
		{"npm", "sometimes", "1.0.0", ""},
		{"Go", "example.com/evil", "v1.4.0", "MAL-2026-2"},
		{"PyPI", "re-quests", "3", "MAL-2026-9"},
		{"npm", "re-quests", "3", ""},
	} {
		if got := x.Malicious(c.ecosystem, c.name, c.version); got != c.want {
			t.Errorf("%s %s %s: got %q, want %q", c.ecosystem, c.name, c.version, got, c.want)
		}
	}
	if got := x.MaliciousName("Go", "example.com/evil"); got != "MAL-2026-2" {
		t.Errorf("every version of the Go module is malicious; got %q", got)
	}
	if got := x.MaliciousName("npm", "left-pab"); got != "" {
		t.Errorf("only some versions are malicious; got %q", got)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]fstest.MapFS{
		"an empty directory":      {},
		"an archive that is none": {"npm/all.zip": {Data: []byte("PK")}},
		"an entry that is cut":    {"npm/MAL-1.json": {Data: []byte(worm[:60])}},
		"an entry without an id":  {"npm/MAL-1.json": {Data: []byte(`{"aliases":["MAL-1"]}`)}},
		"a range that only ends":  {"npm/MAL-1.json": {Data: []byte(`{"id":"MAL-1","affected":[{"package":{"ecosystem":"npm","name":"x"},"ranges":[{"type":"SEMVER","events":[{"fixed":"1.0.0"}]}]}]}`)}},
		"an event of the future":  {"npm/MAL-1.json": {Data: []byte(`{"id":"MAL-1","affected":[{"package":{"ecosystem":"npm","name":"x"},"ranges":[{"type":"SEMVER","events":[{"until":"1.0.0"}]}]}]}`)}},
		"an endless entry":        {"npm/MAL-1.json": {Data: []byte(`{"id":"MAL-1","details":"` + strings.Repeat("x", 5<<20) + `"}`)}},
		"a bomb in an archive":    {"npm/all.zip": {Data: packed(t, map[string]string{"MAL-1.json": strings.Repeat(" ", 8<<20)})}},
		"directories without end": {"a/b/c/d/e/f/MAL-1.json": {Data: []byte(worm)}},
		"a row without versions":  {"malicious-names.tsv": {Data: []byte("npm\tname\n")}},
	} {
		if _, err := advisory.Read(dir); err == nil {
			t.Errorf("%s: it was read", name)
		}
	}
}

// TestStoreReadsAnew changes the dump under a store, first to something broken.
func TestStoreReadsAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(body string, at time.Time) {
		t.Helper()
		if err := os.MkdirAll(dir+"/npm", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/npm/MAL.json", []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir+"/npm", at, at); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	put(worm, at)
	s, err := advisory.Open(os.DirFS(dir), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	put(worm[:40], at.Add(time.Minute))
	s.Reload()
	if s.Index().Malicious("npm", "left-pab", "1.0.1") == "" {
		t.Error("a dump that cannot be read made the earlier one be forgotten")
	}
	put(strings.ReplaceAll(worm, "left-pab", "other"), at.Add(2*time.Minute))
	s.Reload()
	if s.Index().Malicious("npm", "left-pab", "1.0.1") != "" || s.Index().Malicious("npm", "other", "1.0.1") == "" {
		t.Error("the changed dump was not taken")
	}
}

// TestPublicDump reads a dump of real advisories.
func TestPublicDump(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("SALLYPORT_TEST_OSV")
	if dir == "" {
		dir = "../../../shared/data/osv"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("there is no dump of advisories: %v; SALLYPORT_TEST_OSV may name one", err)
	}
	x, err := advisory.Read(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if x.Len() < 1000 {
		t.Errorf("the dump names %d malicious packages", x.Len())
	}
	if x.MaliciousName(advisory.Go, "github.com/boltdb-go/bolt") == "" {
		t.Error("a well-known impostor of a Go module is not in it")
	}
	for _, honest := range []string{"react", "lodash", "left-pad", "express"} {
		if id := x.MaliciousName(advisory.NPM, honest); id != "" {
			t.Errorf("%s is said to be malicious by %s", honest, id)
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte(worm))
	f.Add([]byte(`{"id":"GHSA-2","aliases":["MAL-3"],"affected":[{"package":{"ecosystem":"PyPI","name":"x"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2"}]}]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := advisory.Read(fstest.MapFS{"npm/MAL-1.json": {Data: raw}})
		if err == nil {
			x.Malicious("npm", "left-pab", "1.0.1")
		}
	})
}
