package toolkit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// shed is a control plane that keeps the caches of one scope.
type shed struct {
	sallyport.Yard
	mu      sync.Mutex
	kept    []sallyport.CacheEntry
	bytes   map[sallyport.CacheID][]byte
	fetched int
	write   error // of everything that saves, when set
	read    error // of everything that restores
	cut     bool  // contents break off
}

func newShed() *shed { return &shed{bytes: map[sallyport.CacheID][]byte{}} }

func (y *shed) FindCache(_ context.Context, _ sallyport.LeaseRef, q sallyport.CacheQuery) (sallyport.CacheEntry, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if err := q.Check(); err != nil {
		return sallyport.CacheEntry{}, err
	}
	if q.Saving && y.write != nil {
		return sallyport.CacheEntry{}, y.write
	}
	if !q.Saving && y.read != nil {
		return sallyport.CacheEntry{}, y.read
	}
	for i, k := range append([]string{q.Key, q.Key}, q.RestoreKeys...) {
		for n := len(y.kept) - 1; n >= 0; n-- {
			if c := y.kept[n]; c.Version == q.Version && (c.Key == k || i > 0 && !q.Saving && strings.HasPrefix(c.Key, k)) {
				return c, nil
			}
		}
	}
	return sallyport.CacheEntry{}, sallyport.Errorf(sallyport.CodeNotFound, "no cache matches")
}

func (y *shed) GetCache(_ context.Context, _ sallyport.LeaseRef, id sallyport.CacheID) (sallyport.CacheEntry, io.ReadCloser, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.fetched++
	if y.read != nil {
		return sallyport.CacheEntry{}, nil, y.read
	}
	for _, c := range y.kept {
		if c.ID == id {
			r := io.Reader(bytes.NewReader(y.bytes[id]))
			if y.cut {
				r = io.MultiReader(io.LimitReader(r, 3), iotest.ErrReader(sallyport.Errorf(sallyport.CodeUnavailable, "broken off")))
			}
			return c, io.NopCloser(r), nil
		}
	}
	return sallyport.CacheEntry{}, nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no such cache entry")
}

func (y *shed) PutCache(_ context.Context, l sallyport.LeaseRef, key, version string, content io.Reader) (sallyport.CacheEntry, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.write != nil {
		return sallyport.CacheEntry{}, y.write
	}
	b, err := io.ReadAll(content)
	if err != nil {
		return sallyport.CacheEntry{}, err
	}
	c := sallyport.CacheEntry{ID: sallyport.CacheID(fmt.Sprintf("cache-%d", len(y.kept)+1)), Key: key, Version: version, Ref: "refs/heads/main",
		Digest: sallyport.DigestOf(b), Size: int64(len(b)), Job: l.Job, CreatedAt: time.Unix(1e9, 0)}
	y.kept, y.bytes[c.ID] = append(y.kept, c), b
	return c, nil
}

const cacheCall = base + "/twirp/" + cacheService + "/"

// callCache makes a call with the job's token.
func callCache[T any](t *testing.T, s *Service, method, body string) (out T, status int) {
	t.Helper()
	w := send(s, http.MethodPost, cacheCall+method, body, "Content-Type", "application/json", "Authorization", "Bearer "+s.token)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil && w.Code == http.StatusOK {
		t.Fatalf("%s: %s", method, w.Body)
	}
	return out, w.Code
}

func saveV2(t *testing.T, s *Service, key, content string) finalizeCacheOut {
	t.Helper()
	c, status := callCache[createCacheOut](t, s, "CreateCacheEntry", fmt.Sprintf(`{"metadata":{},"key":%q,"version":"v"}`, key))
	if !c.OK || status != http.StatusOK {
		t.Fatalf("created %+v, %d", c, status)
	}
	if w := send(s, http.MethodPut, c.URL, content, "x-ms-blob-type", "BlockBlob"); w.Code != http.StatusCreated {
		t.Fatalf("sent: %d %s", w.Code, w.Body)
	}
	f, status := callCache[finalizeCacheOut](t, s, "FinalizeCacheEntryUpload", fmt.Sprintf(`{"key":%q,"version":"v","size_bytes":"%d"}`, key, len(content)))
	if status != http.StatusOK {
		t.Fatalf("finalized: %d", status)
	}
	return f
}

func TestCacheV2(t *testing.T) {
	t.Parallel()
	yard := newShed()
	s := newService(t, yard, func(c *Config) { c.Secret = func(text string) bool { return strings.Contains(text, "hunter2") } })
	if out, _ := callCache[signCacheOut](t, s, "GetCacheEntryDownloadURL", `{"key":"k-1","restore_keys":["k-"],"version":"v"}`); out.OK {
		t.Errorf("found %+v before anything was saved", out)
	}
	if f := saveV2(t, s, "k-1", "content of it"); !f.OK || f.ID <= 0 || f.ID >= 1<<53 {
		t.Fatalf("finalized %+v", f)
	}
	// Asked again, because the answer was lost.
	if f, _ := callCache[finalizeCacheOut](t, s, "FinalizeCacheEntryUpload", `{"key":"k-1","version":"v","size_bytes":13}`); !f.OK || len(yard.kept) != 1 {
		t.Errorf("finalized again: %+v, kept %d", f, len(yard.kept))
	}
	if c, status := callCache[createCacheOut](t, s, "CreateCacheEntry", `{"key":"k-1","version":"v"}`); c.OK || c.Message != "" || status != http.StatusOK {
		t.Errorf("created what exists: %+v, %d", c, status)
	}
	if c, _ := callCache[createCacheOut](t, s, "CreateCacheEntry", `{"key":"k-hunter2","version":"v"}`); c.OK || !strings.HasPrefix(c.Message, "cache write denied:") {
		t.Errorf("created with a secret as key: %+v", c)
	}
	if _, status := callCache[createCacheOut](t, s, "CreateCacheEntry", `{"key":"a,b","version":"v"}`); status != http.StatusBadRequest {
		t.Errorf("created with a comma in the key: %d", status)
	}
	if _, status := callCache[finalizeCacheOut](t, s, "FinalizeCacheEntryUpload", `{"key":"other","version":"v","size_bytes":13}`); status != http.StatusNotFound {
		t.Errorf("finalized what was not created: %d", status)
	}
	out, _ := callCache[signCacheOut](t, s, "GetCacheEntryDownloadURL", `{"key":"k-2","restore_keys":["k-"],"version":"v"}`)
	if !out.OK || out.Matched != "k-1" {
		t.Fatalf("found %+v", out)
	}
	if w := send(s, http.MethodGet, out.URL, ""); w.Body.String() != "content of it" || w.Header().Get("Content-Length") != "13" {
		t.Errorf("fetched %q, %v", w.Body, w.Header())
	}
	if w := send(s, http.MethodHead, out.URL, ""); w.Code != http.StatusOK || w.Header().Get("Content-Length") != "13" || w.Header().Get("x-ms-blob-type") != "BlockBlob" {
		t.Errorf("HEAD: %d, %v", w.Code, w.Header())
	}
	before := yard.fetched
	for _, c := range []struct {
		header, value, want string
		status              int
	}{
		{"Range", "bytes=0-6", "content", http.StatusPartialContent}, {"x-ms-range", "bytes=8-9", "of", http.StatusPartialContent},
		{"Range", "bytes=-2", "it", http.StatusPartialContent}, {"Range", "bytes=11-100", "it", http.StatusPartialContent}, {"Range", "bytes=100-", "", http.StatusRequestedRangeNotSatisfiable},
	} {
		if w := send(s, http.MethodGet, out.URL, "", c.header, c.value); w.Code != c.status || c.want != "" && w.Body.String() != c.want {
			t.Errorf("%s %s: %d %q", c.header, c.value, w.Code, w.Body)
		}
	}
	if n := yard.fetched - before; n != 1 {
		t.Errorf("the content was fetched %d times for its parts", n)
	}
	for _, url := range []string{strings.TrimSuffix(out.URL, out.URL[len(out.URL)-4:]) + "0000", base + "/blobs/caches/cache-9?sig=" + s.caches.content, base + "/blobs/caches/cache-1"} {
		if w := send(s, http.MethodGet, url, ""); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", url, w.Code)
		}
	}
	for _, method := range []string{"CreateCacheEntry", "FinalizeCacheEntryUpload", "GetCacheEntryDownloadURL"} {
		if w := send(s, http.MethodPost, cacheCall+method, "{}", "Content-Type", "application/json"); w.Code != http.StatusForbidden {
			t.Errorf("%s without the token: %d", method, w.Code)
		}
	}
}

func TestCacheV2Refused(t *testing.T) {
	t.Parallel()
	yard := newShed()
	lost := 0
	s := newService(t, yard, func(c *Config) { c.Lost = func() { lost++ } })
	c, _ := callCache[createCacheOut](t, s, "CreateCacheEntry", `{"key":"k","version":"v"}`)
	if f, status := callCache[finalizeCacheOut](t, s, "FinalizeCacheEntryUpload", `{"key":"k","version":"v","size_bytes":0}`); f.OK || status != http.StatusOK || f.Message == "" {
		t.Errorf("finalized without content: %+v, %d", f, status)
	}
	send(s, http.MethodPut, c.URL, "abc", "x-ms-blob-type", "BlockBlob")
	if f, _ := callCache[finalizeCacheOut](t, s, "FinalizeCacheEntryUpload", `{"key":"k","version":"v","size_bytes":"4"}`); f.OK || !strings.Contains(f.Message, "3 bytes, not 4") {
		t.Errorf("finalized with another size: %+v", f)
	}
	yard.write = sallyport.Errorf(sallyport.CodeDenied, "cache write denied: says the test")
	if f, _ := callCache[finalizeCacheOut](t, s, "FinalizeCacheEntryUpload", `{"key":"k","version":"v","size_bytes":"3"}`); f.OK || f.Message != "cache write denied: says the test" {
		t.Errorf("finalized what is denied: %+v", f)
	}
	if c, _ := callCache[createCacheOut](t, s, "CreateCacheEntry", `{"key":"k2","version":"v"}`); c.OK || c.Message != "cache write denied: says the test" {
		t.Errorf("created what is denied: %+v", c)
	}
	yard.write = sallyport.Errorf(sallyport.CodeConflict, "the lease is lost")
	if f, _ := callCache[finalizeCacheOut](t, s, "FinalizeCacheEntryUpload", `{"key":"k","version":"v","size_bytes":"3"}`); f.OK || lost != 1 {
		t.Errorf("finalized without the lease: %+v, lost %d", f, lost)
	}
	yard.write = nil
	if f := saveV2(t, s, "k", "content"); !f.OK { // a new try replaces the one that was given up
		t.Fatalf("saved %+v", f)
	}
	out, _ := callCache[signCacheOut](t, s, "GetCacheEntryDownloadURL", `{"key":"k","version":"v"}`)
	yard.cut = true
	func() {
		defer func() {
			if recover() == nil {
				t.Error("half a content was sent as the whole")
			}
		}()
		send(s, http.MethodGet, out.URL, "")
	}()
	if w := send(s, http.MethodGet, out.URL, "", "Range", "bytes=0-1"); w.Code != http.StatusServiceUnavailable && w.Code != http.StatusBadRequest && w.Code != http.StatusInternalServerError {
		t.Errorf("a part of what broke off: %d %q", w.Code, w.Body)
	}
	yard.cut = false
	if w := send(s, http.MethodGet, out.URL, "", "Range", "bytes=0-1"); w.Body.String() != "co" {
		t.Errorf("a part, after that: %d %q", w.Code, w.Body)
	}
	yard.read = sallyport.Errorf(sallyport.CodeDenied, "cache read denied: says the test")
	if w := send(s, http.MethodGet, out.URL, ""); w.Code == http.StatusOK {
		t.Errorf("fetched what is denied: %q", w.Body)
	}
	if _, status := callCache[signCacheOut](t, s, "GetCacheEntryDownloadURL", `{"key":"k","version":"v"}`); status != http.StatusForbidden {
		t.Errorf("found what is denied: %d", status)
	}
}

func TestCacheV1(t *testing.T) {
	t.Parallel()
	yard := newShed()
	s := newService(t, yard, nil)
	const url = base + cacheV1
	ask := func(method, path, body string, headers ...string) (int, string) {
		w := send(s, method, url+path, body, append(headers, "Authorization", "Bearer "+s.token, "Content-Type", "application/json")...)
		return w.Code, w.Body.String()
	}
	if status, _ := ask("GET", "/cache?keys=k-1,k-&version=v", ""); status != http.StatusNoContent {
		t.Errorf("found before anything was saved: %d", status)
	}
	status, body := ask("POST", "/caches", `{"key":"k-1","version":"v","cacheSize":10}`)
	if status != http.StatusCreated || body != `{"cacheId":1}`+"\n" {
		t.Fatalf("reserved: %d %s", status, body)
	}
	for _, c := range []struct {
		span, body string
		want       int
	}{
		{"bytes 4-9/*", "456789", 204}, {"bytes 0-3/*", "xxxx", 204}, {"bytes 0-3/*", "0123", 204}, // again, for the answer was lost
		{"bytes 0-3/*", "01", 400}, {"bytes 0-3/*", "01234", 400}, {"bytes 3-1/*", "x", 400}, {"4-9", "x", 400}, {"", "x", 400}, {"bytes -1-3/*", "x", 400}, {"bytes 0-9223372036854775807/*", "x", 400},
	} {
		if status, body := ask("PATCH", "/caches/1", c.body, "Content-Range", c.span); status != c.want {
			t.Errorf("piece %q of %d bytes: %d %s, want %d", c.span, len(c.body), status, body, c.want)
		}
	}
	if status, body := ask("POST", "/caches/1", `{"size":11}`); status != http.StatusBadRequest {
		t.Errorf("committed with another size: %d %s", status, body)
	}
	for range 2 {
		if status, body := ask("POST", "/caches/1", `{"size":10}`); status != http.StatusNoContent {
			t.Fatalf("committed: %d %s", status, body)
		}
	}
	if len(yard.kept) != 1 || string(yard.bytes[yard.kept[0].ID]) != "0123456789" {
		t.Fatalf("kept %+v", yard.kept)
	}
	if status, body := ask("POST", "/caches", `{"key":"k-1","version":"v"}`); status != http.StatusConflict || !strings.Contains(body, "exists already") {
		t.Errorf("reserved what exists: %d %s", status, body)
	}
	if status, _ := ask("POST", "/caches", fmt.Sprintf(`{"key":"k-2","version":"v","cacheSize":%d}`, int64(maxUploadBytes)+1)); status != http.StatusBadRequest {
		t.Errorf("reserved what is too large: %d", status)
	}
	// A gap is noticed.
	ask("POST", "/caches", `{"key":"k-3","version":"v"}`)
	ask("PATCH", "/caches/2", "x", "Content-Range", "bytes 1-1/*")
	if status, body := ask("POST", "/caches/2", `{"size":1}`); status != http.StatusBadRequest || !strings.Contains(body, "do not follow") {
		t.Errorf("committed with a gap: %d %s", status, body)
	}
	for _, path := range []string{"/caches/99", "/caches/x"} {
		if status, _ := ask("POST", path, `{"size":1}`); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	status, body = ask("GET", "/cache?keys=k-2,k-&version=v", "")
	var found foundV1
	if err := json.Unmarshal([]byte(body), &found); err != nil || status != http.StatusOK || found.Key != "k-1" || found.Result != "hit" {
		t.Fatalf("found: %d %s", status, body)
	}
	if w := send(s, "GET", found.Location, ""); w.Body.String() != "0123456789" {
		t.Errorf("fetched %q", w.Body)
	}
	if status, body := ask("GET", "/caches?key=k", ""); status != http.StatusOK || !strings.Contains(body, `"totalCount":0`) {
		t.Errorf("listed: %d %s", status, body)
	}
	yard.read, yard.write = sallyport.Errorf(sallyport.CodeDenied, "cache read denied: says the test"), sallyport.Errorf(sallyport.CodeDenied, "cache write denied: says the test")
	if status, body := ask("GET", "/cache?keys=k-1&version=v", ""); status != http.StatusForbidden || !strings.Contains(body, `"message":"cache read denied: says the test"`) {
		t.Errorf("found what is denied: %d %s", status, body)
	}
	if status, body := ask("POST", "/caches", `{"key":"k-9","version":"v"}`); status != http.StatusForbidden || !strings.Contains(body, "cache write denied:") {
		t.Errorf("reserved what is denied: %d %s", status, body)
	}
	for _, c := range []struct{ method, path string }{{"GET", "/cache?keys=k-1&version=v"}, {"POST", "/caches"}, {"PATCH", "/caches/1"}, {"POST", "/caches/1"}, {"GET", "/caches"}} {
		if w := send(s, c.method, url+c.path, "{}", "Content-Type", "application/json"); w.Code != http.StatusForbidden {
			t.Errorf("%s %s without the token: %d", c.method, c.path, w.Code)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-1/*", "bytes 5-5/10", "bytes 9-1/*", "bytes", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if at, size, err := parseContentRange(s); err == nil && (at < 0 || size <= 0 || at+size < 0) {
			t.Errorf("%q is %d bytes at %d", s, size, at)
		}
	})
}

// TestCacheToolkit has the unmodified toolkits save and restore, in both versions of the protocol.
func TestCacheToolkit(t *testing.T) {
	t.Parallel()
	for _, module := range []string{"@actions/cache", "cache-3"} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			yard := newShed()
			r := newNPMRoom(t, yard, nil)
			if out := r.run(t, "cache.mjs", module, "all"); !strings.HasSuffix(out, "all is well\n") {
				t.Errorf("the script said:\n%s", out)
			}
			if len(yard.kept) != 1 || yard.kept[0].Size < 40<<20 {
				t.Errorf("kept %+v", yard.kept)
			}
			yard.write = sallyport.Errorf(sallyport.CodeDenied, "cache write denied: says the test")
			yard.read = sallyport.Errorf(sallyport.CodeDenied, "cache read denied: says the test")
			out := r.run(t, "cache.mjs", module, "refused")
			for _, want := range []string{"cache write denied: says the test", "::warning::Failed to restore: "} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in what the script said:\n%s", want, out)
				}
			}
			if module == "@actions/cache" && !strings.Contains(out, "::warning::Failed to save: Unable to reserve cache with key mine. More details: cache write denied: says the test") {
				t.Errorf("the script said:\n%s", out)
			}
		})
	}
}
