package broker

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/redact"
)

// hopHeaders belong to one connection (RFC 9110, 7.6.1).
var hopHeaders = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings"}

// steering are request headers by which some servers take another method, path or
// host than the request line says, past the rule that it was compared with.
var steering = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url", "X-Original-Host",
	"X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-For", "X-Real-Ip", "X-Host", "Forwarded"}

// own are the credentials that a job may have sent of its own. Cookies are among them: with
// one, a job could tie the lent credential to a session that somebody else knows.
var own = []string{"Authorization", "Proxy-Authorization", "Cookie", "Cookie2"}

// telling are response headers that hand out credentials or ask for them.
var telling = []string{"Set-Cookie", "Set-Cookie2", "Www-Authenticate", "Proxy-Authenticate", "Authentication-Info", "Proxy-Authentication-Info",
	"Authentication-Control", "Optional-Www-Authenticate", "Authorization", "X-Auth-Token", "X-Subject-Token", "Alt-Svc"}

// Bounds of what is exchanged; bodies stream and are not bounded here.
const (
	maxTrailers = 64
	// maxAround is how much a job may write around its placeholder in a header: "token ", not a text.
	maxAround = 256
)

// unfit says why a request cannot be made with a credential whatever the rules say.
func unfit(r *http.Request) (reason, mend string) {
	switch {
	case r.Method == http.MethodTrace || r.Method == http.MethodConnect:
		return "the method " + r.Method + " is not passed on with a credential", "TRACE sends back what it gets, and CONNECT hides it"
	case r.Header.Get("Upgrade") != "" || r.ProtoMajor == 2 && r.Method == http.MethodConnect:
		return "a connection with a lent credential cannot change its protocol", "WebSocket and its like cannot be searched for the credential; use plain requests"
	}
	return "", ""
}

// forward sends the request on with its credential and the answer back without.
func (b *Broker) forward(l *lent, path string, w http.ResponseWriter, r *http.Request, use sallyport.CredentialUse) {
	_ = http.NewResponseController(w).EnableFullDuplex() // a server may answer before it has read all; HTTP/2 does so anyway
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()

	sent := &counter{from: r.Body}
	out, err := b.outgoing(ctx, l, path, r, sent)
	if err == nil {
		err = b.putIn(ctx, l, out, r)
	}
	var answer *http.Response
	if err == nil {
		answer, err = b.send(ctx, l, out)
	}
	var refused *refusal
	if errors.As(err, &refused) {
		use.Status, use.Reason = refused.status, refused.reason
		b.cfg.Record(use)
		deny(w, refused.status, refused.reason, refused.mend)
		return
	}
	use.Decision = sallyport.EgressAllowed
	if err != nil {
		use.Status, use.Reason, use.Sent = http.StatusBadGateway, "the server could not be reached", sent.count()
		b.cfg.Record(use)
		// The text of the error may hold what the server said.
		deny(w, http.StatusBadGateway, b.mask.Text(fmt.Sprintf("%s did not answer: %v", l.host, unwrapURL(err))), "see whether the host is up and its certificate is trusted where the runner runs")
		return
	}
	defer answer.Body.Close()
	use.Status = answer.StatusCode
	err = b.answer(w, answer, &use)
	use.Sent = sent.count()
	if err != nil {
		use.Reason = "the answer ended early"
	}
	b.cfg.Record(use)
	if err != nil {
		panic(http.ErrAbortHandler) // so that the job does not take half an answer for a whole one
	}
}

// outgoing makes the request that is sent on: to the host of the rule, whatever the job wrote.
func (b *Broker) outgoing(ctx context.Context, l *lent, path string, r *http.Request, body io.Reader) (*http.Request, error) {
	plain, err := url.PathUnescape(path)
	if err != nil {
		return nil, err
	}
	u := &url.URL{Scheme: "https", Host: l.authority(), Path: plain, RawPath: path, RawQuery: r.URL.RawQuery}
	if r.ContentLength == 0 {
		body = http.NoBody
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, u.String(), body)
	if err != nil {
		return nil, err
	}
	out.URL, out.Host = u, l.authority()
	out.ContentLength = r.ContentLength
	out.Header = r.Header.Clone()
	for _, list := range r.Header.Values("Connection") {
		for name := range strings.SplitSeq(list, ",") {
			out.Header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range slices.Concat(hopHeaders, steering, own, []string{"Expect", "Accept-Encoding"}) {
		out.Header.Del(name)
	}
	for name := range out.Header { // CGI and its like read an underscore as a hyphen
		if strings.Contains(name, "_") && slices.ContainsFunc(slices.Concat(hopHeaders, steering, own), func(n string) bool { return strings.EqualFold(n, strings.ReplaceAll(name, "_", "-")) }) {
			delete(out.Header, name)
		}
	}
	if l.Rule.Kind != sallyport.CredentialAWS {
		// Parts of an answer, put together by the job, would hold what no part does.
		out.Header.Del("Range")
		out.Header.Del("If-Range")
		out.Header.Set("Accept-Encoding", "identity")
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // not Go's
	}
	return out, nil
}

// refusal is why a request is not sent, in the job's terms.
type refusal struct {
	status       int
	reason, mend string
}

func (r *refusal) Error() string { return r.reason }

func refuse(reason, mend string) error { return &refusal{http.StatusForbidden, reason, mend} }

// putIn gives the request the credential.
func (b *Broker) putIn(ctx context.Context, l *lent, out, in *http.Request) error {
	value := string(l.Value.Reveal())
	switch l.Rule.Kind {
	case sallyport.CredentialBearer:
		out.Header.Set("Authorization", "Bearer "+value)
	case sallyport.CredentialBasic:
		out.Header.Set("Authorization", "Basic "+basic(l.Rule.User, value))
	case sallyport.CredentialHeader:
		out.Header.Set(l.Rule.Header, l.inPlace(in.Header.Get(l.Rule.Header), value))
	case sallyport.CredentialRegistry:
		return b.putToken(ctx, l, out)
	case sallyport.CredentialAWS:
		return b.resign(l, out, in)
	default:
		return fmt.Errorf("the kind %q is not one of HTTP", l.Rule.Kind)
	}
	return nil
}

// inPlace puts the value where the job wrote its placeholder, as in "token PLACEHOLDER"; else
// it is all there is.
func (l *lent) inPlace(had, value string) string {
	if l.Placeholder == "" || strings.Count(had, l.Placeholder) != 1 || len(had)-len(l.Placeholder) > maxAround {
		return value
	}
	return strings.Replace(had, l.Placeholder, value, 1)
}

// holdsPlaceholder reports whether the job wrote this credential's placeholder where its kind looks for one.
func (l *lent) holdsPlaceholder(h http.Header) bool {
	switch l.Rule.Kind {
	case sallyport.CredentialHeader:
		return strings.Contains(h.Get(l.Rule.Header), l.Placeholder)
	case sallyport.CredentialBasic, sallyport.CredentialRegistry:
		_, password, ok := (&http.Request{Header: h}).BasicAuth()
		return ok && password == l.Placeholder
	}
	return strings.Contains(h.Get("Authorization"), l.Placeholder)
}

// send makes the exchange; of a registry it renews a token that was refused.
func (b *Broker) send(ctx context.Context, l *lent, out *http.Request) (*http.Response, error) {
	answer, err := b.cfg.Upstream.RoundTrip(out)
	if err != nil || l.Rule.Kind != sallyport.CredentialRegistry || answer.StatusCode != http.StatusUnauthorized || out.Body != http.NoBody {
		return answer, err
	}
	answer.Body.Close()
	l.tokens.forget()
	again := out.Clone(ctx)
	again.Header.Del("Authorization")
	if err := b.putToken(ctx, l, again); err != nil {
		return nil, err
	}
	return b.cfg.Upstream.RoundTrip(again)
}

// answer passes the answer on, scrubbed.
func (b *Broker) answer(w http.ResponseWriter, answer *http.Response, use *sallyport.CredentialUse) error {
	body := io.Reader(answer.Body)
	encoding := strings.ToLower(strings.TrimSpace(answer.Header.Get("Content-Encoding")))
	length := answer.ContentLength
	switch {
	case answer.StatusCode == http.StatusSwitchingProtocols:
		return b.unreadable(w, use, "the server changed the protocol although nobody asked")
	case encoding == "" || encoding == "identity" || use.Method == http.MethodHead:
	case encoding == "gzip" || encoding == "x-gzip":
		z, err := gzip.NewReader(answer.Body)
		if err != nil {
			return b.unreadable(w, use, "the server's answer says that it is compressed, and is not")
		}
		body, length = z, -1
		answer.Header.Del("Content-Encoding")
		answer.Header.Del("Content-Length")
	default:
		return b.unreadable(w, use, "the server compressed its answer although it was asked not to, so that it cannot be searched")
	}

	h := w.Header()
	for name, values := range answer.Header {
		if slices.Contains(hopHeaders, name) || slices.Contains(telling, name) || connectionNames(answer.Header, name) {
			continue
		}
		for _, v := range values {
			h.Add(b.scrub(name, use), b.scrub(v, use))
		}
	}
	if length < 0 {
		h.Del("Content-Length")
	}
	w.WriteHeader(answer.StatusCode)
	got := &counter{to: w}
	scrubber := b.mask.NewScrubber(got)
	err := stream(http.NewResponseController(w), scrubber, body)
	if err == nil {
		err = scrubber.Flush()
	}
	use.Received = got.count()
	use.Scrubbed += scrubber.Masked()
	for i, name := range slices.Sorted(maps.Keys(answer.Trailer)) { // now that the body is read, they are known
		if slices.Contains(telling, name) || i >= maxTrailers {
			continue
		}
		values := answer.Trailer[name]
		for _, v := range values {
			h.Add(http.TrailerPrefix+b.scrub(name, use), b.scrub(v, use))
		}
	}
	return err
}

func (b *Broker) unreadable(w http.ResponseWriter, use *sallyport.CredentialUse, why string) error {
	use.Status, use.Reason = http.StatusBadGateway, why
	deny(w, http.StatusBadGateway, why, "the answer is not passed on; ask the server for plain answers")
	return nil
}

func connectionNames(h http.Header, name string) bool {
	for _, list := range h.Values("Connection") {
		for n := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(n), name) {
				return true
			}
		}
	}
	return false
}

// scrub masks the credential in a piece of a header.
func (b *Broker) scrub(s string, use *sallyport.CredentialUse) string {
	if !b.mask.Contains(s) {
		return s
	}
	var out bytes.Buffer
	w := b.mask.NewScrubber(&out)
	_, _ = w.Write([]byte(s)) // a bytes.Buffer does not fail
	_ = w.Flush()
	use.Scrubbed += w.Masked()
	return strings.NewReplacer("\r", "*", "\n", "*").Replace(out.String())
}

// stream copies as it comes and flushes, since a client may wait for what there is.
func stream(rc *http.ResponseController, to *redact.Writer, from io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			_ = rc.Flush()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// counter counts what passes. A request's body may still be read when the answer is there.
type counter struct {
	from io.Reader
	to   io.Writer
	n    atomic.Int64
}

func (c *counter) count() int64 { return c.n.Load() }

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// unwrapURL drops the address that net/http puts before its errors.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
