package firewall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Bounds of what is asked of upstreams.
const (
	maxRedirects = 5
	maxFetches   = 64              // at once, of all jobs
	idleTimeout  = time.Minute     // between two pieces of an answer
	pageTimeout  = 3 * time.Minute // for a whole answer about packages
	fileTimeout  = 30 * time.Minute
	maxWords     = 2 << 10 // of an upstream's refusal, to be shown

	maxPage    = 128 << 20 // the largest packuments of npm have half of it
	maxParsers = 4         // of pages, at once
	maxFile    = 4 << 30   // wheels with GPU libraries come near
)

// Ages up to which an answer is taken without asking again. Content that a checksum
// vouches for has none.
const (
	pageAge   = 5 * time.Minute  // which versions there are
	factsAge  = time.Hour        // what is said about a version that is already kept
	absentAge = time.Minute      // that there is nothing
	fixedAge  = 24 * time.Hour   // what should never change, but that nothing vouches for
	roughAge  = 10 * time.Minute // indexes of archives
)

// upstreamError is an answer that is none, in words for the job.
type upstreamError struct {
	status int // that the job gets
	words  string
}

func (e *upstreamError) Error() string { return e.words }

// absent reports whether the upstream has no such thing.
func absent(err error) bool {
	var u *upstreamError
	return errors.As(err, &u) && (u.status == http.StatusNotFound || u.status == http.StatusGone)
}

// ask names something to fetch.
type ask struct {
	up     *Upstream
	url    *url.URL
	accept string        // of HTTP; part of the key
	age    time.Duration // up to which a kept answer will do; negative: for ever
	limit  int64
	file   bool // it may take long
	check  func(n *note, path string) error
}

func (a ask) key() string { return a.accept + " " + a.url.String() }

// page asks for an answer about packages that is at most age old.
func page(up *Upstream, u *url.URL, accept string, age time.Duration) ask {
	return ask{up: up, url: u, accept: accept, age: age, limit: maxPage}
}

// get returns an answer from the cache or the upstream; cached says which. Those who ask for the same at a time
// share one request, which goes on when one of them leaves.
func (f *Firewall) get(ctx context.Context, a ask) (got *content, cached bool, err error) {
	key := a.key()
	if n, ok := f.cache.look(key); ok && (a.age < 0 && n.Status == 0 || f.now().Sub(n.Fetched) < ageOf(n, a.age)) {
		if got, err := f.cache.open(key, f.now()); err == nil {
			return f.answered(got, true)
		}
	}
	done := f.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pageTimeout)
		if a.file {
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), fileTimeout)
		}
		defer cancel()
		return f.refresh(ctx, a)
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, false, r.Err
		}
		if c, ok := r.Val.(*content); ok && c != nil {
			return f.answered(c.again(), false)
		}
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	got, err = f.cache.open(key, f.now())
	if errors.Is(err, fs.ErrNotExist) {
		err = &upstreamError{http.StatusServiceUnavailable, "the package cache is too small for what is asked of it"}
	}
	if err != nil {
		return nil, false, err
	}
	return f.answered(got, false)
}

// ageOf is the age up to which n will do. That there is nothing is never true for ever.
func ageOf(n note, age time.Duration) time.Duration {
	switch {
	case n.Status != 0 && age < 0:
		return absentAge
	case n.Status != 0:
		return min(age, absentAge)
	}
	return age
}

// answered turns a kept refusal into an error.
func (f *Firewall) answered(c *content, cached bool) (*content, bool, error) {
	if c.note.Status == 0 {
		return c, cached, nil
	}
	defer c.Close()
	raw, _ := io.ReadAll(io.LimitReader(c, maxWords))
	return nil, cached, &upstreamError{c.note.Status, string(raw)}
}

// bytes is get for answers that are read whole.
func (f *Firewall) bytes(ctx context.Context, a ask) ([]byte, note, error) {
	c, _, err := f.get(ctx, a)
	if err != nil {
		return nil, note{}, err
	}
	defer c.Close()
	raw, err := io.ReadAll(c)
	return raw, c.note, err
}

// refresh fetches an answer into the cache, and returns it if it is small. An answer that is kept stays good when
// the upstream says so or cannot be reached.
func (f *Firewall) refresh(ctx context.Context, a ask) (*content, error) {
	if own, ok := ctx.Value(jobSlots{}).(chan struct{}); ok { // of the job that began it
		select {
		case own <- struct{}{}:
			defer func() { <-own }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	old, known := f.cache.look(a.key())
	known = known && old.Status == 0
	c, err := f.fetch(ctx, a, old, known)
	if known && !a.file && transient(err) {
		f.log.Warn("a registry could not be reached; its earlier answer is used", "registry", a.up.source(), "err", err)
		f.cache.renew(a.key(), f.now().Add(absentAge-a.age)) // and is asked again in a while
		return nil, nil
	}
	return c, err
}

// fetch asks the upstream, whether what is kept is still good if it is known. It returns what is small.
func (f *Firewall) fetch(ctx context.Context, a ask, old note, known bool) (*content, error) {
	header := http.Header{}
	if known && old.ETag != "" {
		header.Set("If-None-Match", old.ETag)
	} else if known && !old.Modified.IsZero() {
		header.Set("If-Modified-Since", old.Modified.UTC().Format(http.TimeFormat))
	}
	res, cancel, err := f.do(ctx, a, header)
	if err != nil {
		return nil, err
	}
	defer cancel()
	defer res.Body.Close()
	n := note{Key: a.key(), Type: res.Header.Get("Content-Type"), ETag: res.Header.Get("ETag"), Fetched: f.now()}
	n.Modified, _ = http.ParseTime(res.Header.Get("Last-Modified")) // the zero time is none
	switch {
	case res.StatusCode == http.StatusNotModified && known:
		f.cache.renew(a.key(), f.now())
		return nil, nil
	case res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone:
		n.Status = res.StatusCode
		return f.cache.put(n, strings.NewReader(words(res)), maxWords, nil)
	case res.StatusCode != http.StatusOK:
		return nil, &upstreamError{refusalStatus(res.StatusCode), fmt.Sprintf("the registry %s answered %d: %s", a.up.source(), res.StatusCode, words(res))}
	case res.ContentLength > a.limit:
		return nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry %s sends too much: %v", a.up.source(), errTooLarge(a.limit))}
	}
	c, err := f.cache.put(n, res.Body, a.limit, a.check)
	if err != nil {
		return nil, inWords(a.up, err)
	}
	if c.held == nil {
		return nil, c.Close() // who asks opens it for himself
	}
	return c, nil
}

// inWords makes an error one that a job may see.
func inWords(up *Upstream, err error) error {
	var known *upstreamError
	var large errTooLarge
	var refused *refusal
	switch {
	case errors.As(err, &known), errors.As(err, &refused):
		return err
	case errors.As(err, &large):
		return &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry %s sends too much: %v", up.source(), large)}
	}
	return &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry %s could not be read to the end", up.source())}
}

// refusalStatus is what a job gets for an upstream's answer: clients try again on some.
func refusalStatus(status int) int {
	switch status {
	case http.StatusForbidden, http.StatusUnauthorized, http.StatusUnavailableForLegalReasons:
		return http.StatusForbidden
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// transient reports whether err may be gone the next time.
func transient(err error) bool {
	var u *upstreamError
	return errors.As(err, &u) && (u.status == http.StatusBadGateway || u.status == http.StatusServiceUnavailable)
}

// words returns the beginning of a refusal, when it is text.
func words(res *http.Response) string {
	raw, _ := io.ReadAll(io.LimitReader(res.Body, maxWords))
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind == "text/html" {
		return http.StatusText(res.StatusCode)
	}
	if text := printable(string(raw), maxWords); text != "" {
		return text
	}
	return http.StatusText(res.StatusCode)
}

// do sends a GET and follows redirects, to hosts that registries may lead to and to nobody
// else. The credential goes to the registry's own host alone.
func (f *Firewall) do(ctx context.Context, a ask, header http.Header) (*http.Response, context.CancelFunc, error) {
	at := a.url
	for range maxRedirects + 1 {
		ctx, cancel := context.WithCancel(ctx)
		idle := time.AfterFunc(idleTimeout, cancel)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			idle.Stop()
			cancel()
			return nil, nil, &upstreamError{http.StatusBadGateway, "the registry's address is malformed"}
		}
		req.Header = header.Clone()
		req.Header.Set("User-Agent", "sallyport")
		if a.accept != "" {
			req.Header.Set("Accept", a.accept)
		}
		if a.file {
			req.Header.Set("Accept-Encoding", "identity") // the checksums are those of what lies there
		}
		if !a.up.Authorization.Empty() && at.Scheme == a.up.Base.Scheme && strings.EqualFold(at.Host, a.up.Base.Host) {
			req.Header.Set("Authorization", string(a.up.Authorization.Reveal()))
		}
		res, err := f.transport.RoundTrip(req)
		if err != nil {
			idle.Stop()
			cancel()
			f.log.Debug("a registry could not be reached", "registry", a.up.source(), "err", err)
			return nil, nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry %s cannot be reached: %s", a.up.source(), reason(err))}
		}
		res.Body = &watched{res.Body, idle}
		location := res.Header.Get("Location")
		if res.StatusCode < 300 || res.StatusCode == http.StatusNotModified || res.StatusCode >= 400 || location == "" {
			return res, func() { idle.Stop(); cancel() }, nil
		}
		res.Body.Close()
		idle.Stop()
		cancel()
		next, err := at.Parse(location)
		if err != nil || next.User != nil || next.Scheme != "https" && next.Scheme != at.Scheme {
			return nil, nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry %s leads to no safe address", a.up.source())}
		}
		if !f.mayLead(next.Hostname()) {
			return nil, nil, &upstreamError{http.StatusForbidden, fmt.Sprintf("the registry %s leads to %s, which is no registry's host; an operator allows it as a redirect in the file of registries", a.up.source(), printable(next.Hostname(), 100))}
		}
		at = next
	}
	return nil, nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry %s leads in circles", a.up.source())}
}

// mayLead reports whether a registry may redirect to a host.
func (f *Firewall) mayLead(host string) bool {
	host = hostname(host)
	return slices.Contains(f.upstreams.Redirects, host) || len(f.on(host)) > 0
}

// reason is why a connection failed, without addresses.
func reason(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, &timeout) && timeout.Timeout():
		return "it does not answer in time"
	case strings.Contains(err.Error(), "certificate"):
		return "its certificate is not trusted"
	}
	return "no connection"
}

// watched ends an answer that no longer comes forward.
type watched struct {
	io.ReadCloser
	idle *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.idle.Reset(idleTimeout)
	}
	return n, err
}
