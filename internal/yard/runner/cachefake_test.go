package runner

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// fakeCaches are the caches of one scope, in memory. A fakeYard may be used by
// several jobs in turn.
type fakeCaches struct {
	entries  []sallyport.CacheEntry // oldest first
	content  map[sallyport.CacheID][]byte
	restored []sallyport.CacheID
	readOnly bool
	getErr   error
}

func (y *fakeYard) FindCache(_ context.Context, _ sallyport.LeaseRef, q sallyport.CacheQuery) (sallyport.CacheEntry, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if err := q.Check(); err != nil {
		return sallyport.CacheEntry{}, err
	}
	if q.Saving && y.caches.readOnly {
		return sallyport.CacheEntry{}, sallyport.Errorf(sallyport.CodeDenied, "cache write denied: as the test says")
	}
	newest := func(match func(key string) bool) (sallyport.CacheEntry, bool) {
		for i := len(y.caches.entries) - 1; i >= 0; i-- {
			if c := y.caches.entries[i]; c.Version == q.Version && match(c.Key) {
				return c, true
			}
		}
		return sallyport.CacheEntry{}, false
	}
	if c, ok := newest(func(key string) bool { return key == q.Key }); ok {
		return c, nil
	}
	for _, k := range append([]string{q.Key}, q.RestoreKeys...) {
		if c, ok := newest(func(key string) bool { return strings.HasPrefix(key, k) }); ok && !q.Saving {
			return c, nil
		}
	}
	return sallyport.CacheEntry{}, sallyport.Errorf(sallyport.CodeNotFound, "no cache matches")
}

func (y *fakeYard) GetCache(_ context.Context, _ sallyport.LeaseRef, id sallyport.CacheID) (sallyport.CacheEntry, io.ReadCloser, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, c := range y.caches.entries {
		if c.ID == id && y.caches.getErr == nil {
			y.caches.restored = append(y.caches.restored, id)
			return c, io.NopCloser(bytes.NewReader(y.caches.content[id])), nil
		}
	}
	if y.caches.getErr != nil {
		return sallyport.CacheEntry{}, nil, y.caches.getErr
	}
	return sallyport.CacheEntry{}, nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no such cache entry")
}

func (y *fakeYard) PutCache(_ context.Context, _ sallyport.LeaseRef, key, version string, content io.Reader) (sallyport.CacheEntry, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.caches.readOnly {
		return sallyport.CacheEntry{}, sallyport.Errorf(sallyport.CodeDenied, "cache write denied: as the test says")
	}
	for _, c := range y.caches.entries {
		if c.Key == key && c.Version == version {
			return sallyport.CacheEntry{}, sallyport.Errorf(sallyport.CodeConflict, "the run's scope has a cache %q already", key)
		}
	}
	b, err := io.ReadAll(content)
	if err != nil {
		return sallyport.CacheEntry{}, err
	}
	return y.addCache(key, version, b), nil
}

// addCache is for a test that holds y.mu, or has no job running.
func (y *fakeYard) addCache(key, version string, content []byte) sallyport.CacheEntry {
	c := sallyport.CacheEntry{ID: sallyport.CacheID(fmt.Sprintf("0190c0de-0000-7000-8000-%012x", len(y.caches.entries)+1)), Key: key, Version: version,
		Digest: sallyport.DigestOf(content), Size: int64(len(content)), Tier: sallyport.TierMember}
	y.caches.entries = append(y.caches.entries, c)
	if y.caches.content == nil {
		y.caches.content = map[sallyport.CacheID][]byte{}
	}
	y.caches.content[c.ID] = content
	return c
}
