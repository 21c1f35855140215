package toolkit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	sallyport "github.com/sallyport-ci/sallyport"
)

// The protocol of @actions/cache from version 4 on ("cache service v2").
const cacheService = "github.actions.results.api.v1.CacheService"

// maxFound bounds the entries that a job has found and may fetch; the control plane
// hands out no more of them to one job.
const maxFound = 500

// caches are the job's caches on their way in and out.
type caches struct {
	content string // what signs the URLs of contents

	mu     sync.Mutex
	coming map[cacheKey]*saving   // what was reserved
	byID   map[int64]*saving      // the same, for version 1
	last   int64                  // id given out
	found  map[string]*foundCache // by the entry's id
}

type cacheKey struct{ key, version string }

// saving is a cache that was reserved and is not finalized, or was finalized by this job.
type saving struct {
	cacheKey
	id     int64
	upload *upload
	chunks map[int64]segment // of version 1, by offset; guarded by mu

	mu   sync.Mutex // held while it is finalized
	done *sallyport.CacheEntry
}

// foundCache is an entry that a search named.
type foundCache struct {
	entry sallyport.CacheEntry

	mu    sync.Mutex // held while it is fetched
	local *upload    // its content, once a part of it was asked for
}

func (s *Service) serveCaches() {
	s.caches = &caches{content: random(), coming: map[cacheKey]*saving{}, byID: map[int64]*saving{}, found: map[string]*foundCache{}}
	rpc(s, cacheService, "CreateCacheEntry", s.createCache)
	rpc(s, cacheService, "FinalizeCacheEntryUpload", s.finalizeCache)
	rpc(s, cacheService, "GetCacheEntryDownloadURL", s.signCache)
	s.serveCachesV1()
	s.mux.HandleFunc("GET /blobs/caches/{id}", s.getCache) // and HEAD
}

// cacheRead and cacheWrite are how the toolkits know a refusal by rule, which they tell
// once as a warning, from a failure.
const (
	cacheReadDenied  = "cache read denied:"
	cacheWriteDenied = "cache write denied:"
)

// reserve begins a cache. The error is CodeConflict when there is one already.
func (s *Service) reserve(ctx context.Context, k cacheKey) (*saving, error) {
	if s.cfg.Secret(k.key) {
		return nil, sallyport.Errorf(sallyport.CodeDenied, cacheWriteDenied+" the key holds a secret; keys are kept and shown in clear")
	}
	_, err := s.cfg.Yard.FindCache(ctx, s.cfg.Lease.Ref, sallyport.CacheQuery{Key: k.key, Version: k.version, Saving: true})
	switch {
	case err == nil:
		return nil, sallyport.Errorf(sallyport.CodeConflict, "a cache with this key and version exists already; caches do not change")
	case sallyport.ErrorCode(err) != sallyport.CodeNotFound:
		s.refused(err) // a conflict is that of the lease
		return nil, err
	}
	u, err := s.uploads.begin()
	if err != nil {
		return nil, err
	}
	c := s.caches
	c.mu.Lock()
	old := c.coming[k]
	c.last++
	n := &saving{cacheKey: k, id: c.last, upload: u, chunks: map[int64]segment{}}
	c.coming[k], c.byID[n.id] = n, n
	if old != nil {
		delete(c.byID, old.id)
	}
	c.mu.Unlock()
	if old != nil {
		old.upload.finish() // a try that was given up
	}
	return n, nil
}

// finalize hands a complete upload to the control plane. Asked again, it answers again.
func (s *Service) finalize(ctx context.Context, n *saving, size int64) (sallyport.CacheEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done != nil {
		return *n.done, nil
	}
	content, err := n.upload.read()
	if err != nil {
		return sallyport.CacheEntry{}, err
	}
	if size != content.Size() {
		return sallyport.CacheEntry{}, sallyport.Errorf(sallyport.CodeInvalid, "the cache has %d bytes, not %d", content.Size(), size)
	}
	entry, err := s.cfg.Yard.PutCache(ctx, s.cfg.Lease.Ref, n.key, n.version, content)
	if err != nil {
		return entry, err
	}
	n.done = &entry
	n.upload.finish()
	return entry, nil
}

// lookUp finds what the job may restore and where it is fetched.
func (s *Service) lookUp(ctx context.Context, q sallyport.CacheQuery) (entry sallyport.CacheEntry, url string, err error) {
	if entry, err = s.cfg.Yard.FindCache(ctx, s.cfg.Lease.Ref, q); err != nil {
		return entry, "", err
	}
	id := string(entry.ID)
	c := s.caches
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found[id] == nil {
		if len(c.found) >= maxFound {
			return entry, "", sallyport.Errorf(sallyport.CodeDenied, cacheReadDenied+" a job restores at most %d caches", maxFound)
		}
		c.found[id] = &foundCache{entry: entry}
	}
	return entry, base + "/blobs/caches/" + id + "?sig=" + c.content, nil
}

type (
	createCacheIn struct {
		Key     string `json:"key"`
		Version string `json:"version"`
	}
	createCacheOut struct {
		OK      bool   `json:"ok"`
		URL     string `json:"signed_upload_url"`
		Message string `json:"message,omitempty"`
	}
)

func (s *Service) createCache(ctx context.Context, in createCacheIn) (createCacheOut, error) {
	n, err := s.reserve(ctx, cacheKey{in.Key, in.Version})
	switch code := sallyport.ErrorCode(err); {
	case code == sallyport.CodeConflict: // the client has words of its own for it
		return createCacheOut{}, nil
	case code == sallyport.CodeDenied:
		message, _ := sallyport.ErrorMessage(err)
		return createCacheOut{Message: message}, nil
	case err != nil:
		return createCacheOut{}, err
	}
	return createCacheOut{OK: true, URL: n.upload.url()}, nil
}

type (
	finalizeCacheIn struct {
		Key     string `json:"key"`
		Version string `json:"version"`
		Size    number `json:"size_bytes"`
	}
	finalizeCacheOut struct {
		OK      bool   `json:"ok"`
		ID      number `json:"entry_id"`
		Message string `json:"message,omitempty"`
	}
)

func (s *Service) finalizeCache(ctx context.Context, in finalizeCacheIn) (finalizeCacheOut, error) {
	s.caches.mu.Lock()
	n := s.caches.coming[cacheKey{in.Key, in.Version}]
	s.caches.mu.Unlock()
	if n == nil {
		return finalizeCacheOut{}, sallyport.Errorf(sallyport.CodeNotFound, "no cache %.80q was created", in.Key).WithHint("call CreateCacheEntry first")
	}
	entry, err := s.finalize(ctx, n, int64(in.Size))
	switch code := sallyport.ErrorCode(err); {
	case code == sallyport.CodeConflict:
		s.refused(err) // it may be the lease
		return finalizeCacheOut{}, nil
	case code == sallyport.CodeDenied || code == sallyport.CodeInvalid:
		message, _ := sallyport.ErrorMessage(err)
		return finalizeCacheOut{Message: message}, nil
	case err != nil:
		return finalizeCacheOut{}, err
	}
	return finalizeCacheOut{OK: true, ID: cacheNumber(entry.ID)}, nil
}

// cacheNumber is the id of an entry as the toolkits know it: a number that JavaScript can hold.
func cacheNumber(id sallyport.CacheID) number {
	sum := sha256.Sum256([]byte(id))
	return number(binary.BigEndian.Uint64(sum[:]) >> (64 - 53))
}

type (
	signCacheIn struct {
		Key         string   `json:"key"`
		RestoreKeys []string `json:"restore_keys"`
		Version     string   `json:"version"`
	}
	signCacheOut struct {
		OK      bool   `json:"ok"`
		URL     string `json:"signed_download_url"`
		Matched string `json:"matched_key"`
	}
)

func (s *Service) signCache(ctx context.Context, in signCacheIn) (signCacheOut, error) {
	entry, url, err := s.lookUp(ctx, sallyport.CacheQuery{Key: in.Key, RestoreKeys: in.RestoreKeys, Version: in.Version})
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return signCacheOut{}, nil
	} else if err != nil {
		return signCacheOut{}, err
	}
	return signCacheOut{true, url, entry.Key}, nil
}

// getCache answers GET and HEAD of /blobs/caches/{id}, in whole or in parts. The
// control plane judges again whether the job may have it.
func (s *Service) getCache(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.caches.mu.Lock()
	f := s.caches.found[id]
	s.caches.mu.Unlock()
	if f == nil || !equal(r.URL.Query().Get("sig"), s.caches.content) {
		blobError(w, sallyport.Errorf(sallyport.CodeNotFound, "there is no such cache"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("ETag", `"`+f.entry.Digest.Hex()+`"`)
	h.Set("x-ms-blob-type", "BlockBlob")
	h.Set("x-ms-version", "2021-12-02")
	// Azure's client asks for parts by a header of its own.
	if part := r.Header.Get("x-ms-range"); part != "" {
		r.Header.Set("Range", part)
	}
	switch {
	case r.Method == http.MethodHead:
		h.Set("Accept-Ranges", "bytes")
		h.Set("Content-Length", strconv.FormatInt(f.entry.Size, 10))
		h.Set("Last-Modified", f.entry.CreatedAt.UTC().Format(http.TimeFormat))
	case r.Header.Get("Range") == "":
		s.sendCache(w, r, f)
	default:
		content, err := s.fetched(r.Context(), f)
		if err != nil {
			s.refused(err)
			blobError(w, err)
			return
		}
		http.ServeContent(w, r, "", f.entry.CreatedAt, content)
	}
}

// sendCache passes the content on as it comes.
func (s *Service) sendCache(w http.ResponseWriter, r *http.Request, f *foundCache) {
	entry, content, err := s.cfg.Yard.GetCache(r.Context(), s.cfg.Lease.Ref, f.entry.ID)
	if err != nil {
		s.refused(err)
		blobError(w, err)
		return
	}
	defer content.Close()
	w.Header().Set("Content-Length", strconv.FormatInt(entry.Size, 10))
	if n, err := io.Copy(w, content); err != nil || n != entry.Size {
		s.cfg.Log.Warn("cache was not sent whole", "cache", entry.ID, "err", err)
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
}

// fetched returns the whole content, of which a client wants parts. It is fetched
// once, and lies beside the uploads until the job ends.
func (s *Service) fetched(ctx context.Context, f *foundCache) (*io.SectionReader, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.local == nil {
		u, err := s.uploads.begin()
		if err != nil {
			return nil, err
		}
		if err := s.fetch(ctx, u, f.entry.ID); err != nil {
			u.finish()
			return nil, err
		}
		f.local = u
	}
	return f.local.read()
}

func (s *Service) fetch(ctx context.Context, into *upload, id sallyport.CacheID) error {
	entry, content, err := s.cfg.Yard.GetCache(ctx, s.cfg.Lease.Ref, id)
	if err != nil {
		return err
	}
	defer content.Close()
	piece, err := into.write(content, entry.Size)
	if err != nil {
		return err
	}
	// The stream's end is where its digest is checked.
	if n, err := io.Copy(io.Discard, content); err != nil || n > 0 {
		return errors.Join(err, fmt.Errorf("cache %s has %d bytes too many", entry.ID, n))
	}
	into.commit(piece)
	return nil
}
