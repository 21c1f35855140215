package toolkit

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// The protocol of @actions/cache before version 4 ("cache service v1"), which the
// newest speaks too where it takes the server for a company's own.

const (
	cacheV1 = "/_apis/artifactcache"
	// maxChunks bounds the pieces of a cache: 8 GiB in pieces of the least size that
	// a client would send.
	maxChunks = 50_000
)

func (s *Service) serveCachesV1() {
	s.handle("GET "+cacheV1+"/cache", s.findCacheV1)
	s.handle("GET "+cacheV1+"/caches", s.listCachesV1)
	s.handle("POST "+cacheV1+"/caches", s.reserveCacheV1)
	s.handle("PATCH "+cacheV1+"/caches/{id}", s.putChunkV1)
	s.handle("POST "+cacheV1+"/caches/{id}", s.commitCacheV1)
}

// problemV1 is an error as version 1 tells it.
type problemV1 struct {
	Message string `json:"message"`
}

func (s *Service) failV1(w http.ResponseWriter, err error) {
	s.refused(err)
	status := http.StatusInternalServerError
	switch sallyport.ErrorCode(err) {
	case sallyport.CodeInvalid:
		status = http.StatusBadRequest
	case sallyport.CodeDenied:
		status = http.StatusForbidden
	case sallyport.CodeNotFound:
		status = http.StatusNotFound
	case sallyport.CodeConflict:
		status = http.StatusConflict
	case sallyport.CodeUnavailable:
		status = http.StatusServiceUnavailable
	}
	message, _ := sallyport.ErrorMessage(err)
	answer(w, status, problemV1{message})
}

type foundV1 struct {
	Result   string `json:"result"`
	Location string `json:"archiveLocation"`
	Key      string `json:"cacheKey"`
	Version  string `json:"cacheVersion"`
	Scope    string `json:"scope"`
	Created  string `json:"creationTime"`
}

// findCacheV1 answers GET …/cache?keys=KEY,RESTORE-KEY,…&version=V.
func (s *Service) findCacheV1(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	keys := strings.Split(query.Get("keys"), ",")
	entry, url, err := s.lookUp(r.Context(), sallyport.CacheQuery{Key: keys[0], RestoreKeys: keys[1:], Version: query.Get("version")})
	switch {
	case sallyport.ErrorCode(err) == sallyport.CodeNotFound:
		w.WriteHeader(http.StatusNoContent)
	case err != nil:
		s.failV1(w, err)
	default:
		answer(w, http.StatusOK, foundV1{"hit", url, entry.Key, entry.Version, entry.Ref, entry.CreatedAt.UTC().Format("2006-01-02T15:04:05.999Z")})
	}
}

// listCachesV1 tells nothing: it is for messages about what nearly matched.
func (s *Service) listCachesV1(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"totalCount": 0, "artifactCaches": []any{}})
}

type reserveV1 struct {
	Key     string `json:"key"`
	Version string `json:"version"`
	Size    int64  `json:"cacheSize"`
}

// reserveCacheV1 answers POST …/caches.
func (s *Service) reserveCacheV1(w http.ResponseWriter, r *http.Request) {
	var in reserveV1
	err := readMessage(w, r, &in)
	if err == nil && in.Size > maxUploadBytes {
		err = sallyport.Errorf(sallyport.CodeInvalid, "Cache size of %d bytes is over the limit of %d MiB, not saving cache.", in.Size, maxUploadBytes>>20)
	}
	var n *saving
	if err == nil {
		n, err = s.reserve(r.Context(), cacheKey{in.Key, in.Version})
	}
	if err != nil {
		s.failV1(w, err)
		return
	}
	answer(w, http.StatusCreated, map[string]int64{"cacheId": n.id})
}

func (s *Service) savingV1(r *http.Request) (*saving, error) {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	s.caches.mu.Lock()
	defer s.caches.mu.Unlock()
	if n := s.caches.byID[id]; n != nil {
		return n, nil
	}
	return nil, sallyport.Errorf(sallyport.CodeNotFound, "no cache %.20q was reserved", r.PathValue("id"))
}

// putChunkV1 answers PATCH …/caches/ID with a piece of the content, which may come in
// any order and again.
func (s *Service) putChunkV1(w http.ResponseWriter, r *http.Request) {
	n, err := s.savingV1(r)
	if err == nil {
		err = n.putChunk(r)
	}
	if err != nil {
		s.failV1(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (n *saving) putChunk(r *http.Request) error {
	at, size, err := parseContentRange(r.Header.Get("Content-Range"))
	if err != nil {
		return err
	}
	n.mu.Lock()
	_, known := n.chunks[at]
	full := !known && len(n.chunks) >= maxChunks
	n.mu.Unlock()
	if full {
		return sallyport.Errorf(sallyport.CodeInvalid, "the cache comes in more than %d pieces", maxChunks)
	}
	piece, err := n.upload.write(r.Body, size)
	if err != nil {
		return err
	}
	if more, _ := r.Body.Read(make([]byte, 1)); more > 0 {
		return sallyport.Errorf(sallyport.CodeInvalid, "the piece has more bytes than its Content-Range says")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.chunks[at] = piece
	return nil
}

// parseContentRange reads "bytes FIRST-LAST/*".
func parseContentRange(text string) (at, size int64, err error) {
	rest, isBytes := strings.CutPrefix(text, "bytes ")
	span, _, _ := strings.Cut(rest, "/")
	first, last, both := strings.Cut(span, "-")
	a, aerr := strconv.ParseUint(first, 10, 62)
	b, berr := strconv.ParseUint(last, 10, 62)
	if !isBytes || !both || aerr != nil || berr != nil || b < a {
		return 0, 0, sallyport.Errorf(sallyport.CodeInvalid, "the Content-Range %.80q is not of the form bytes FIRST-LAST/*", text)
	}
	return int64(a), int64(b-a) + 1, nil
}

// commitCacheV1 answers POST …/caches/ID when all pieces were sent.
func (s *Service) commitCacheV1(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Size int64 `json:"size"`
	}
	err := readMessage(w, r, &in)
	var n *saving
	if err == nil {
		n, err = s.savingV1(r)
	}
	if err == nil {
		err = n.assemble()
	}
	if err == nil {
		_, err = s.finalize(r.Context(), n, in.Size)
	}
	if err != nil {
		s.failV1(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// assemble puts the pieces in order. They must follow each other without a gap.
func (n *saving) assemble() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done != nil {
		return nil
	}
	var content []segment
	var end int64
	for _, at := range slices.Sorted(maps.Keys(n.chunks)) {
		if at != end {
			return sallyport.Errorf(sallyport.CodeInvalid, "the pieces of the cache do not follow each other at byte %d", end)
		}
		content = append(content, n.chunks[at])
		end += n.chunks[at].size
	}
	n.upload.commit(content...)
	return nil
}
