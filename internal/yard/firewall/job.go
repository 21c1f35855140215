package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/advisory"
)

// Config says what a Firewall stands between.
type Config struct {
	Upstreams Upstreams
	// Transport reaches the registries. It must refuse what jobs may not reach through them: the
	// Firewall decides which hosts are registries, not which addresses they may have.
	Transport http.RoundTripper
	// Advisories know malicious packages; nil knows none.
	Advisories *advisory.Store
	// CacheDir is for Firewalls alone, of this process and others; jobs must not reach it. CacheBytes 0 is 10 GiB.
	CacheDir   string
	CacheBytes int64
	Now        func() time.Time
	Log        *slog.Logger
}

// Firewall is shared by the jobs of a runner. Its methods may be called by many at once.
type Firewall struct {
	upstreams  Upstreams
	transport  http.RoundTripper
	advisories *advisory.Store
	cache      *cache
	now        func() time.Time
	log        *slog.Logger
	lookalikes map[Kind]*lookalikes
	sums       *sums // nil: no checksum database is known

	flights singleflight.Group
	slots   chan struct{}
	parsers chan struct{}
	early   sync.WaitGroup // fetches that no job waits for

	mu      sync.Mutex
	learned map[string][]*Upstream // hosts that registries keep files on
	notes   string                 // the file that they are in
	seen    map[*Upstream][]string // suites of apt archives that jobs asked for
	facts   *simplelru.LRU[string, any]
	places  *simplelru.LRU[string, version] // of archives at addresses that do not tell whose they are
}

// New opens the cache. It reaches for no registry yet.
func New(c Config) (*Firewall, error) {
	if c.Transport == nil || c.Now == nil || c.Log == nil || c.CacheDir == "" {
		return nil, errors.New("firewall: a transport, a clock, a logger and a directory are needed")
	}
	dir, err := openCache(filepath.Join(c.CacheDir, "packages"), c.CacheBytes, c.Now(), func(err error) {
		c.Log.Warn("packages of earlier jobs cannot be used", "err", err)
	})
	if err != nil {
		return nil, err
	}
	facts, err := simplelru.NewLRU[string, any](maxFacts, nil)
	if err != nil {
		return nil, err
	}
	places, err := simplelru.NewLRU[string, version](maxPlaces, nil)
	if err != nil {
		return nil, err
	}
	f := &Firewall{
		upstreams: c.Upstreams, transport: c.Transport, advisories: c.Advisories, cache: dir, now: c.Now, log: c.Log,
		lookalikes: newLookalikes(), slots: make(chan struct{}, maxFetches), parsers: make(chan struct{}, maxParsers), learned: map[string][]*Upstream{}, notes: filepath.Join(c.CacheDir, "files.json"), seen: map[*Upstream][]string{}, facts: facts, places: places,
	}
	f.relearn()
	f.sums = newSums(f, filepath.Join(c.CacheDir, "sumdb"))
	return f, nil
}

const (
	maxFacts   = 2048 // parsed answers that are held
	maxPlaces  = 100_000
	maxLearned = 64 // hosts of files
)

// parsing keeps the number of pages that are in memory small: one may have maxPage bytes, and
// a multiple of it when it is parsed.
func (f *Firewall) parsing(ctx context.Context, parse func() (any, error)) (any, error) {
	select {
	case f.parsers <- struct{}{}:
		defer func() { <-f.parsers }()
		return parse()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// fact returns what was parsed under key, or parses it. Two may do so at once; the last one stays.
func (f *Firewall) fact(key string, parse func() (any, error)) (any, error) {
	f.mu.Lock()
	got, ok := f.facts.Get(key)
	f.mu.Unlock()
	if ok {
		return got, nil
	}
	got, err := parse()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.facts.Add(key, got)
	f.mu.Unlock()
	return got, nil
}

// JobConfig says for whom packages are fetched.
type JobConfig struct {
	Rules sallyport.PackageRules
	// Record takes every package version that the job asked for. It is called from many goroutines.
	Record func(sallyport.PackageFetch)
	// Step is the number of the step that runs; nil: nobody knows.
	Step func() int
}

// Job is the Firewall as one job sees it.
type Job struct {
	f      *Firewall
	allow  []sallyport.PackageAllow // with plain package URLs
	minAge time.Duration
	locked map[string][]string // checksums by plain package URL
	record func(sallyport.PackageFetch)
	step   func() int

	turns chan struct{} // of requests
	slots chan struct{} // of fetches that the job began
	early chan struct{} // of fetches that the job has not asked for yet
}

// Bounds of one job, so that it leaves something to the others.
const (
	maxTurns    = 32 // requests at once
	maxJobSlots = 16 // fetches at once
	maxEarly    = 8  // of them, before they were asked for
)

// jobSlots is the key under which a context has the slots of the job that began a fetch.
type jobSlots struct{}

// Job returns the Firewall for a job.
func (f *Firewall) Job(c JobConfig) *Job {
	j := &Job{f: f, minAge: minAgeOf(c.Rules), locked: map[string][]string{}, record: c.Record, step: c.Step, turns: make(chan struct{}, maxTurns), slots: make(chan struct{}, maxJobSlots), early: make(chan struct{}, maxEarly)}
	for _, a := range c.Rules.Allow {
		a.PURL = plain(a.PURL)
		j.allow = append(j.allow, a)
	}
	for _, l := range c.Rules.Locked {
		key := plain(l.PURL)
		j.locked[key] = append(j.locked[key], l.Sums...)
	}
	if j.record == nil {
		j.record = func(sallyport.PackageFetch) {}
	}
	if j.step == nil {
		j.step = func() int { return 0 }
	}
	return j
}

func (j *Job) advisories() *advisory.Index { return j.f.advisories.Index() }

// Handler returns what answers a job's requests to host, nil when host is no registry's. It serves plain
// HTTP and what was HTTPS alike, and asks the registry in the registry's own way.
func (j *Job) Handler(host string) http.Handler {
	host = hostname(host)
	if len(j.f.on(host)) == 0 {
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case j.turns <- struct{}{}:
			defer func() { <-j.turns }()
		case <-r.Context().Done():
			return
		}
		j.serve(w, r.WithContext(context.WithValue(r.Context(), jobSlots{}, j.slots)), host)
	})
}

// on returns the registries on a host, the longest addresses first.
func (f *Firewall) on(host string) []*Upstream {
	var out []*Upstream
	for i := range f.upstreams.List {
		if u := &f.upstreams.List[i]; hostname(u.Base.Host) == host {
			out = append(out, u)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(out, f.learned[host]...)
}

// serve finds the registry that a request is for.
func (j *Job) serve(w http.ResponseWriter, r *http.Request, host string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		deny(w, r, http.StatusMethodNotAllowed, fmt.Sprintf("packages can be fetched through this door, and not published or changed: %s is refused", printable(r.Method, 20)))
		return
	}
	path := r.URL.EscapedPath()
	if !safePath(path) {
		deny(w, r, http.StatusBadRequest, "the path is not one of a registry")
		return
	}
	var best *Upstream
	rest := ""
	for _, u := range j.f.on(host) {
		if tail, ok := u.below(path); ok && (best == nil || len(u.Base.Path) > len(best.Base.Path)) {
			best, rest = u, tail
		}
	}
	if best == nil {
		deny(w, r, http.StatusNotFound, fmt.Sprintf("there is no registry at this path of %s", printable(host, 100)))
		return
	}
	a := answer{w, r, j, best}
	var err error
	switch best.Kind {
	case KindGo:
		err = a.module(rest)
	case KindNPM:
		err = a.npm(rest)
	case KindPyPI:
		err = a.pypi(rest)
	case KindCargo:
		err = a.cargo(rest)
	case KindDebian:
		err = a.debian(rest)
	case kindFiles:
		err = a.files(rest)
	default:
		err = &upstreamError{http.StatusNotImplemented, "no such kind of registry"}
	}
	if err != nil {
		a.fail(err)
	}
}

// safePath refuses paths that mean another thing to another reader.
func safePath(path string) bool {
	if len(path) > 2048 {
		return false
	}
	lower := strings.ToLower(path)
	for _, bad := range []string{"%00", "%5c", "\\", "%2e", "%0a", "%0d", "%25"} {
		if strings.Contains(lower, bad) {
			return false
		}
	}
	for part := range strings.SplitSeq(strings.ReplaceAll(lower, "%2f", "/"), "/") {
		if part == ".." || part == "." {
			return false
		}
	}
	return true
}
