package firewall

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// answer is one answer to a job. Its methods for the protocols return what keeps them from giving it.
type answer struct {
	w  http.ResponseWriter
	r  *http.Request
	j  *Job
	up *Upstream
}

// fail says why there is no answer, as the registry's clients print it.
func (a answer) fail(err error) {
	var r *refusal
	var u *upstreamError
	switch {
	case errors.As(err, &r):
		a.j.f.log.Info("a package was refused", "purl", r.of.purl(), "reason", r.words)
		a.note(r.of, nil, false, r.words)
		deny(a.w, a.r, http.StatusForbidden, r.Error())
	case errors.As(err, &u):
		deny(a.w, a.r, u.status, u.words)
	case a.r.Context().Err() != nil: // nobody listens
	default:
		a.j.f.log.Error("a package could not be served", "registry", a.up.source(), "err", err)
		deny(a.w, a.r, http.StatusInternalServerError, "the package firewall failed; the runner's log says why")
	}
}

// note records that the job asked for v, and what it got.
func (a answer) note(v version, n *note, cached bool, refused string) {
	if a.r.Method == http.MethodHead {
		return
	}
	p := sallyport.PackageFetch{Step: a.j.step(), PURL: v.purl(), Source: a.up.source(), Cached: cached, Decision: sallyport.EgressAllowed, At: a.j.f.now()}
	if refused != "" {
		p.Decision, p.Reason = sallyport.EgressDenied, refused
	}
	if n != nil {
		p.Digest, p.Size = n.Digest, n.Size
	}
	a.j.record(p)
}

// deny answers with a text. Clients of npm print the member "error" of a JSON body, go prints a plain
// body, and pip and apt print the words after the status, which net/http does not let a handler choose: the
// answer is written by hand where the connection can be had.
func deny(w http.ResponseWriter, r *http.Request, status int, words string) {
	kind, body := "text/plain; charset=utf-8", words+"\n"
	if accept := r.Header.Get("Accept"); strings.Contains(accept, "json") && !strings.Contains(accept, "text/html") || strings.HasPrefix(r.UserAgent(), "npm/") {
		raw, err := json.Marshal(map[string]string{"error": words})
		if err == nil {
			kind, body = "application/json", string(raw)
		}
	}
	if r.ProtoMajor == 1 && status >= 400 && speaksStatus(r.UserAgent()) {
		if conn, buffered, err := http.NewResponseController(w).Hijack(); err == nil {
			defer conn.Close()
			_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second)) // a reader that does not read gets nothing
			fmt.Fprintf(buffered, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", status, printable(words, 400), kind, len(body))
			if r.Method != http.MethodHead {
				_, _ = buffered.WriteString(body)
			}
			_ = buffered.Flush() // who has hung up hears nothing
			return
		}
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, body)
	}
}

// speaksStatus reports whether a client shows its user the words after a status and not the body.
func speaksStatus(agent string) bool {
	for _, name := range []string{"pip/", "Debian APT", "uv/", "Python-urllib", "python-requests"} {
		if strings.Contains(agent, name) {
			return true
		}
	}
	return false
}

// text serves a text about packages.
func (a answer) text(kind string, body []byte) error {
	a.w.Header().Set("Content-Type", kind)
	a.w.Header().Set("ETag", `"`+sallyport.DigestOf(body).Hex()+`"`)
	http.ServeContent(a.w, a.r, "", time.Time{}, bytes.NewReader(body))
	return nil
}

// send serves content as it is.
func (a answer) send(c *content) {
	kind := c.note.Type
	if kind == "" {
		kind = "application/octet-stream"
	}
	a.w.Header().Set("Content-Type", kind)
	a.w.Header().Set("ETag", `"`+c.note.Digest.Hex()+`"`)
	http.ServeContent(a.w, a.r, "", c.note.Modified, c)
}

// pass serves a page of the registry as it is.
func (a answer) pass(q ask) error {
	c, _, err := a.j.f.get(a.r.Context(), q)
	if err != nil {
		return err
	}
	defer c.Close()
	a.send(c)
	return nil
}

// ahead begins to fetch what the job will ask for next, so that it waits for the registry once and not twice. It goes
// to the cache, and is judged when it is asked for. Where a job has enough of them on their way, it does nothing.
func (a answer) ahead(q ask) {
	if _, cached := a.j.f.cache.look(q.key()); cached {
		return
	}
	select {
	case a.j.early <- struct{}{}:
	default:
		return
	}
	ctx := context.WithoutCancel(a.r.Context())
	a.j.f.early.Go(func() {
		defer func() { <-a.j.early }()
		if c, _, err := a.j.f.get(ctx, q); err == nil { // who asks for it hears of an error
			c.Close()
		}
	})
}

// hand fetches the file of a package version, while facts finds out what the registry says of it, judges
// both and hands the file to the job. The file is fetched early because most are taken; no byte of it is handed out
// before. What a lock file of the protected branch names with a checksum needs no word of the registry.
func (a answer) hand(v version, q ask, facts func(context.Context) (version, map[string][]string, error)) error {
	if r := a.j.known(v); r != nil { // nothing need be asked
		return r
	}
	ctx, cancel := context.WithCancel(a.r.Context())
	defer cancel()
	if v.locked = a.j.isLocked(v); v.locked {
		if sums := a.j.lockSums(v); len(sums) > 0 {
			facts = func(context.Context) (version, map[string][]string, error) { return v, sums, nil }
		}
	}
	type fetched struct {
		c      *content
		cached bool
		err    error
	}
	q.file, q.age = true, -1
	file := make(chan fetched, 1)
	go func() {
		c, cached, err := a.j.f.get(ctx, q)
		file <- fetched{c, cached, err}
	}()
	said, want, err := facts(ctx)
	said.locked = v.locked
	dated := !said.published.IsZero()
	if err == nil && dated {
		err = asError(a.j.judge(said))
	}
	if err != nil {
		cancel() // what is on its way goes to the cache, not to the job
	}
	got := <-file
	if got.c != nil {
		defer got.c.Close()
	}
	if err != nil {
		return err
	}
	if got.err != nil {
		return got.err
	}
	if !dated {
		if said.kind != KindGo { // a file's date is the registry's word, too
			said.published = got.c.note.Modified
		}
		if r := a.j.judge(said); r != nil {
			return r
		}
	}
	r := a.j.fits(said, got.c.note.Sums)
	if r == nil {
		r = agree(said, want, got.c.note.Sums)
	}
	if r != nil {
		a.j.f.cache.forget(q.key()) // the right bytes may come the next time
		return r
	}
	a.note(said, &got.c.note, got.cached, "")
	a.send(got.c)
	return nil
}

func asError(r *refusal) error {
	if r == nil {
		return nil
	}
	return r
}

// agree compares the checksums that a registry states, by algorithm, with those of the bytes. One at least must be
// stated, and of each algorithm one must fit. A nil want says that the protocol states none.
func agree(v version, want map[string][]string, have map[string]string) *refusal {
	if want == nil {
		return nil
	}
	compared := false
	for algorithm, sums := range want {
		sum, ok := have[algorithm]
		if !ok || len(sums) == 0 {
			continue
		}
		compared = true
		fits := false
		for _, s := range sums {
			fits = fits || s == sum
		}
		if !fits {
			stated := "the registry"
			if algorithm == "h1" {
				stated = "the checksum database"
			}
			return &refusal{v, fmt.Sprintf("its %s checksum is not the one that %s states", algorithm, stated)}
		}
	}
	if !compared {
		return &refusal{v, "the registry states no checksum of it"}
	}
	return nil
}
