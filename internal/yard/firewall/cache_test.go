package firewall

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func opened(t *testing.T, dir string, limit int64) *cache {
	t.Helper()
	c, err := openCache(dir, limit, noon, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	c.once.Do(c.read)
	return c
}

func (c *cache) keep(t *testing.T, key, body string) {
	t.Helper()
	got, err := c.put(note{Key: key, Fetched: noon}, strings.NewReader(body), 100<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	got.Close()
}

func (c *cache) body(t *testing.T, key string) (string, bool) {
	t.Helper()
	got, err := c.open(key, noon)
	if err == fs.ErrNotExist {
		return "", false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	raw, err := io.ReadAll(got)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw), true
}

// TestCacheForgetsWhatChanged flips bytes of each file that the cache has, one at a time.
func TestCacheForgetsWhatChanged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body  string
		kinds []string
	}{
		{"small", []string{"notes"}},
		{strings.Repeat("x", maxWithin), []string{"notes"}},
		{strings.Repeat("y", maxWithin+1), []string{"content", "notes"}},
		{strings.Repeat("large content ", maxHeld/10), []string{"content", "notes"}},
	} {
		for _, kind := range c.kinds {
			for _, at := range []float64{0.1, 0.5, 0.999} {
				for _, again := range []bool{false, true} {
					forgets(t, c.body, kind, at, again)
				}
			}
		}
	}
}

func forgets(t *testing.T, body, kind string, at float64, again bool) {
	dir := t.TempDir()
	c := opened(t, dir, 0)
	c.keep(t, "key", body)
	files, err := filepath.Glob(filepath.Join(dir, kind, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s has %q, %v", kind, files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[int(float64(len(raw))*at)] ^= 1
	if err := os.WriteFile(files[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if again {
		c = opened(t, dir, 0)
	} else if kind == "notes" && len(body) > maxWithin {
		return // it is held in memory
	}
	if got, ok := c.body(t, "key"); ok {
		t.Errorf("a changed file of %s (reopened: %v) gave %d bytes", kind, again, len(got))
	}
	c.keep(t, "key", body)
	if got, ok := c.body(t, "key"); !ok || got != body {
		t.Errorf("%s: what was put again is not there", kind)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := opened(t, dir, 1000)
	for i := range 20 {
		c.keep(t, fmt.Sprint("key", i), strings.Repeat(string(rune('a'+i)), 100))
		c.body(t, "key0") // which stays in use
	}
	if c.bytes > 1000 {
		t.Errorf("the cache has %d bytes of 1000", c.bytes)
	}
	if _, ok := c.body(t, "key0"); !ok {
		t.Error("what was used all the time is gone")
	}
	if _, ok := c.body(t, "key1"); ok {
		t.Error("what was used longest ago is still there")
	}
	for kind, want := range map[string]int{"content": 0, "notes": 10} {
		files, err := os.ReadDir(filepath.Join(dir, kind))
		if err != nil || len(files) != want {
			t.Errorf("there are %d files in %s, %v", len(files), kind, err)
		}
	}
	c = opened(t, dir, 500)
	if c.bytes > 500 || len(c.known) != 5 {
		t.Errorf("opened with less room it has %d bytes", c.bytes)
	}
}

// TestCacheSharesContent puts the same content under two names.
func TestCacheSharesContent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := opened(t, dir, 0)
	same, other := strings.Repeat("s", maxWithin+1), strings.Repeat("o", maxWithin+5)
	c.keep(t, "a", same)
	c.keep(t, "b", same)
	c.keep(t, "b", same)
	c.keep(t, "a", other)
	if got, _ := c.body(t, "b"); got != same {
		t.Errorf("b is %.10q", got)
	}
	c.forget("b")
	if files, _ := os.ReadDir(filepath.Join(dir, "content")); len(files) != 1 || c.bytes != maxWithin+5 {
		t.Errorf("there are %d contents of %d bytes", len(files), c.bytes)
	}
}

func TestCacheAtOnce(t *testing.T) {
	t.Parallel()
	c := opened(t, t.TempDir(), 2000)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for k := range 50 {
				key := fmt.Sprint((i + k) % 30)
				body := strings.Repeat(key+" ", 50)
				if got, err := c.put(note{Key: key, Fetched: noon}, strings.NewReader(body), 1000, nil); err == nil {
					got.Close()
				} else {
					t.Error(err)
				}
				got, err := c.open(key, noon)
				if err == fs.ErrNotExist {
					continue
				}
				if err != nil {
					t.Error(err)
					continue
				}
				raw, _ := io.ReadAll(got)
				got.Close()
				if string(raw) != body {
					t.Errorf("key %s has %.20q", key, raw)
				}
			}
		})
	}
	wait.Wait()
}

func TestCacheTakesNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := opened(t, dir, 0)
	if _, err := c.put(note{Key: "k", Fetched: noon}, bytes.NewReader(make([]byte, 1001)), 1000, nil); err == nil {
		t.Error("too much was kept")
	}
	if _, err := c.put(note{Key: "k", Fetched: noon}, strings.NewReader("x"), 1000, func(*note, string) error { return errCorrupt }); err == nil {
		t.Error("what the check refused was kept")
	}
	if _, ok := c.body(t, "k"); ok {
		t.Error("something is there")
	}
	for _, kind := range []string{"content", "notes", "new"} {
		if files, _ := os.ReadDir(filepath.Join(dir, kind)); len(files) != 0 {
			t.Errorf("%s has %d files", kind, len(files))
		}
	}
}

func TestLikeness(t *testing.T) {
	t.Parallel()
	all := newLookalikes()
	for _, c := range []struct {
		kind       Kind
		name, want string
	}{
		{KindNPM, "lodash", ""}, {KindNPM, "lodahs", "lodash"}, {KindNPM, "loodash", "lodash"}, {KindNPM, "1odash", "lodash"}, {KindNPM, "crossenv", "cross-env"},
		{KindNPM, "cross_env", "cross-env"}, {KindNPM, "expresss", "express"}, {KindNPM, "exprss", "express"}, {KindNPM, "electorn", "electron"}, {KindNPM, "discordjs", "discord.js"},
		{KindNPM, "angularcore", "@angular/core"}, {KindNPM, "@babeI/core", ""}, {KindNPM, "@bable/core", "@babel/core"}, {KindNPM, "@types/lodash", ""}, {KindNPM, "@acme/lodahs", ""},
		{KindNPM, "lodash-es", ""}, {KindNPM, "express-session", ""}, {KindNPM, "moments", ""}, {KindNPM, "preact", ""}, {KindNPM, "vite", ""}, {KindNPM, "is-odd", ""}, {KindNPM, "nest", ""},
		{KindPyPI, "requets", "requests"}, {KindPyPI, "reqeusts", "requests"}, {KindPyPI, "scikitlearn", "scikit-learn"}, {KindPyPI, "python3-dateutil", "python-dateutil"}, {KindPyPI, "requests-oauthlib", ""},
		{KindPyPI, "request", ""}, {KindPyPI, "nurnpy", "numpy"}, {KindPyPI, "pytest-mock", ""},
		{KindCargo, "serde-json", "serde_json"}, {KindCargo, "rustdecimal", "rust_decimal"}, {KindCargo, "serde_with", ""},
		{KindGo, "github.com/gorilla1/mux", "github.com/gorilla/mux"}, {KindGo, "github.com/gorila/mux", "github.com/gorilla/mux"}, {KindGo, "github.com/gorilla/muxx", ""},
		{KindGo, "github.com/acme/mux", ""}, {KindGo, "gitlab.com/gorila/mux", ""}, {KindGo, "example.com/x", ""},
		{KindDebian, "lodahs", ""},
	} {
		if got := all[c.kind].of(c.name); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.kind, c.name, got, c.want)
		}
	}
}

func TestPURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v    version
		want string
	}{
		{version{kind: KindNPM, name: "@acme/tool", version: "1.0.0+b"}, "pkg:npm/%40acme/tool@1.0.0%2Bb"},
		{version{kind: KindPyPI, name: "Typing_Extensions", version: "4"}, "pkg:pypi/typing-extensions@4"},
		{version{kind: KindGo, name: "github.com/a/b/v2", version: "v2.0.0+incompatible"}, "pkg:golang/github.com/a/b/v2@v2.0.0%2Bincompatible"},
		{version{kind: KindDebian, name: "libstdc++6", version: "1:2.0-1", arch: "amd64"}, "pkg:deb/debian/libstdc%2B%2B6@1:2.0-1?arch=amd64"},
		{version{kind: KindCargo, name: "serde"}, "pkg:cargo/serde"},
	} {
		if got := c.v.purl(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestSums(t *testing.T) {
	t.Parallel()
	if a, s := strongest("sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk= sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="); a != "sha512" || len(s) != 1 || !strings.HasPrefix(s[0], "cf83e135") {
		t.Errorf("got %s %v", a, s)
	}
	if a, _ := strongest("sha512-!!! md5-xxxx"); a != "" {
		t.Errorf("nonsense has the algorithm %s", a)
	}
}

// TestCacheIsShared opens a directory twice, as two processes do.
func TestCacheIsShared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := opened(t, dir, 0)
	a.keep(t, "first", "of a")
	b := opened(t, dir, 0)
	a.keep(t, "second", "of a, too")
	b.keep(t, "second", "of b")
	if got, ok := b.body(t, "first"); !ok || got != "of a" {
		t.Errorf("b has %q of a's", got)
	}
	if got, ok := a.body(t, "second"); ok {
		t.Errorf("a has %q, where b put something else", got)
	}
	if got, ok := b.body(t, "second"); ok { // a has removed what it did not know
		t.Errorf("b has %q", got)
	}
	a.keep(t, "second", "of a, too")
	if got, ok := a.body(t, "second"); !ok || got != "of a, too" {
		t.Errorf("a has %q", got)
	}
	b.forget("first")
	if got, ok := a.body(t, "first"); ok {
		t.Errorf("a has %q, which b removed", got)
	}
	a.keep(t, "first", "again")
	if got, _ := a.body(t, "first"); got != "again" {
		t.Errorf("a has %q", got)
	}
	for _, name := range []string{"new/left", "content/left", "new/young"} {
		at := noon.Add(-24 * time.Hour)
		if name == "new/young" {
			at = noon
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	opened(t, dir, 0)
	for name, want := range map[string]bool{"new/left": false, "content/left": false, "new/young": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: it is there: %v", name, err == nil)
		}
	}
}
