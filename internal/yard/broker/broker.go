// Package broker lends credentials at a room's door: a job sends its request
// without one, or with a placeholder, and the broker puts the value in on the way out,
// where a rule of the project allows it: for an exact host, method and path.
// The value exists in the process of the door alone; what comes back is searched
// for it and scrubbed.
//
// It speaks HTTP with bearer, basic and header credentials (broker.go,
// forward.go), the token exchange of OCI registries (registry.go), Signature Version 4 of
// AWS (aws.go) and PostgreSQL (postgres.go). It listens to nothing and resolves no
// name: the door ends the job's connections and dials the upstream ones, and the
// runner composes the two for one lease.
//
// What it cannot do: who may use a credential may misuse it within the rule. And
// scrubbing is a seat belt: a server that encodes what it was sent in a way of its own would
// hand the value out. The boundary is that a rule names one host, which is trusted
// with the credential anyway.
package broker

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/redact"
)

// minValue is the least length of a value that is lent: a shorter one would be found by
// chance in what servers answer, and could be guessed.
const minValue = 8

// Lent is a credential for one lease.
type Lent struct {
	Rule  sallyport.CredentialRule
	Value sallyport.Secret
	// Placeholder is what the job holds instead of the value; "" for none.
	Placeholder string
}

// Config of a Broker. Upstream is needed for HTTP, Dial for PostgreSQL, Record always.
type Config struct {
	Lent []Lent
	// Upstream sends requests to https://HOST[:PORT] of a rule, and nowhere else is it asked to.
	// It must verify the server, follow no redirect, use no proxy and bound headers.
	Upstream http.RoundTripper
	// Dial connects to "HOST:PORT" of a rule.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Record takes each use and each refusal. It is called from several goroutines.
	Record func(sallyport.CredentialUse)
	// ClientTLS is how servers of PostgreSQL are verified; nil: by this host's roots.
	ClientTLS *tls.Config
	// ServerTLS, when set, is what jobs get that ask for TLS on a stream; without it they are told
	// that there is none, and speak in clear to the door.
	ServerTLS *tls.Config
	Step      func() int       // the step that runs now; nil: not known
	Clock     func() time.Time // nil: time.Now
	// Plain serves a request to a host of the rules that no rule lends to, as
	// though there were none; nil refuses it.
	Plain func(host string) http.Handler
	// Run is stamped on PostgreSQL sessions, so that an administrator finds who they are.
	Run string
}

// Broker lends the credentials of one lease.
type Broker struct {
	cfg   Config
	lent  []*lent
	mask  *redact.Set
	ctx   context.Context // ends with Close
	close context.CancelFunc

	sessions sync.Map // of PostgreSQL, by the pid that the job knows
}

// lent is a credential with what it needs at work.
type lent struct {
	Lent
	host   string
	port   int
	tokens *tokens // of a registry
}

// New checks the rules. An error names the rule and says nothing of a value.
func New(c Config) (*Broker, error) {
	if c.Record == nil {
		return nil, sallyport.Errorf(sallyport.CodeInternal, "a broker needs to record")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Step == nil {
		c.Step = func() int { return 0 }
	}
	b := &Broker{cfg: c, mask: redact.New(redact.Config{})}
	b.ctx, b.close = context.WithCancel(context.Background())
	for _, l := range c.Lent {
		if err := b.add(l); err != nil {
			b.close()
			return nil, err
		}
	}
	for _, l := range b.lent {
		if l.Rule.Expose { // it is as though it were used in every way at once
			c.Record(sallyport.CredentialUse{Credential: l.Rule.Name, Host: l.host, Method: sallyport.MethodExpose, Decision: sallyport.EgressAllowed,
				Reason: "the rule exposes the value: the job holds it", At: c.Clock()})
		}
	}
	return b, nil
}

func (b *Broker) add(l Lent) error {
	r := l.Rule
	bad := func(format string, args ...any) error {
		return sallyport.Errorf(sallyport.CodeInvalid, "%s: credential %s: %s", where(r), r.Name, fmt.Sprintf(format, args...))
	}
	value := string(l.Value.Reveal())
	if len(strings.TrimSpace(value)) < minValue {
		return bad("the secret %s has fewer than %d bytes", r.Secret, minValue).(*sallyport.Error).WithHint("a short value cannot be told from chance in an answer; use a longer one")
	}
	n := &lent{Lent: l, host: r.Host, port: r.Port}
	if n.port == 0 {
		n.port = 443
		if r.Kind == sallyport.CredentialPostgres {
			n.port = 5432
		}
	}
	switch r.Kind {
	case sallyport.CredentialBearer, sallyport.CredentialHeader, sallyport.CredentialBasic, sallyport.CredentialRegistry, sallyport.CredentialAWS:
		if b.cfg.Upstream == nil {
			return bad("there is no way to servers of HTTP")
		}
		if r.Kind != sallyport.CredentialAWS && strings.Trim(value, "\t !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~") != "" {
			return bad("the secret %s holds a line end or another byte that no header may have", r.Secret)
		}
	case sallyport.CredentialPostgres:
		if b.cfg.Dial == nil {
			return bad("there is no way to servers of PostgreSQL")
		}
	default:
		return bad("the kind %.40q is not known", r.Kind)
	}
	if err := b.mask.Add(value); err != nil {
		return bad("the secret %s: %v", r.Secret, err)
	}
	switch r.Kind {
	case sallyport.CredentialBasic, sallyport.CredentialRegistry:
		if strings.Contains(r.User, ":") {
			return bad("a user name of basic authentication has no colon")
		}
		if err := b.mask.Add(basic(r.User, value)); err != nil {
			return bad("the secret %s: %v", r.Secret, err)
		}
		n.tokens = newTokens()
	case sallyport.CredentialHeader:
		if !headerMayCarry(r.Header) {
			return bad("the header %.40q cannot carry a credential", r.Header)
		}
	}
	b.lent = append(b.lent, n)
	return nil
}

// headerMayCarry keeps rules from the headers that steer the connection or name the host.
func headerMayCarry(name string) bool {
	if name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return false
	}
	name = http.CanonicalHeaderKey(name)
	return !slices.Contains(hopHeaders, name) && !slices.Contains(steering, name) &&
		!slices.Contains([]string{"Host", "Content-Length", "Content-Type", "Content-Encoding", "Cookie", "Accept-Encoding", "Range", "Expect"}, name)
}

// Close ends what is still open. The broker lends nothing afterwards.
func (b *Broker) Close() { b.close() }

// Intercept returns the handler of requests to a host, nil when no rule of HTTP names it.
// Requests may have come over TLS that the door ended, or in clear.
func (b *Broker) Intercept(host string) http.Handler {
	for _, l := range b.lent {
		if l.host == host && l.Rule.Kind != sallyport.CredentialPostgres {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.serve(host, w, r) })
		}
	}
	return nil
}

// Stream returns what serves connections to a host and port of another protocol, nil when
// no rule names them. It returns when the connection has ended.
func (b *Broker) Stream(host string, port int) func(net.Conn) {
	var may []*lent
	for _, l := range b.lent {
		if l.host == host && l.port == port && l.Rule.Kind == sallyport.CredentialPostgres {
			may = append(may, l)
		}
	}
	if may == nil {
		return nil
	}
	return func(c net.Conn) { b.postgres(may, c) }
}

// serve lends to one request, or refuses it.
func (b *Broker) serve(host string, w http.ResponseWriter, r *http.Request) {
	use := sallyport.CredentialUse{Step: b.cfg.Step(), Host: host, Method: clip(r.Method, 20), At: b.cfg.Clock(), Decision: sallyport.EgressDenied,
		Path: sallyport.DigestOf([]byte(r.URL.RequestURI()))}
	refuse := func(status int, l *lent, reason, mend string) {
		if l != nil {
			use.Credential = l.Rule.Name
		}
		use.Status, use.Reason = status, reason
		b.cfg.Record(use)
		deny(w, status, reason, mend)
	}
	path, err := canonicalPath(r.URL)
	if err != nil {
		refuse(http.StatusForbidden, nil, err.Error(), "write the path plainly: no dot segments, empty segments or encoded slashes")
		return
	}
	name, port := splitHost(r)
	if name != host {
		refuse(http.StatusMisdirectedRequest, nil, fmt.Sprintf("the request names the host %.80q, the connection %s", name, host), "send the request to the host that it names")
		return
	}
	l, near := b.match(host, port, path, r)
	switch {
	case l == nil && b.registryPing(host, port, path, r):
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		w.WriteHeader(http.StatusOK)
		return
	case l == nil && b.cfg.Plain != nil:
		if h := b.cfg.Plain(host); h != nil {
			h.ServeHTTP(w, r)
			return
		}
		fallthrough
	case l == nil:
		reason, mend := nothingLends(host, path, r.Method, near)
		refuse(http.StatusForbidden, near, reason, mend)
		return
	}
	use.Credential = l.Rule.Name
	if reason, mend := unfit(r); reason != "" {
		refuse(http.StatusForbidden, l, reason, mend)
		return
	}
	b.forward(l, path, w, r, use)
}

// match returns the credential for a request; else one whose host fits, to explain by.
func (b *Broker) match(host string, port int, path string, r *http.Request) (l, near *lent) {
	var fits []*lent
	for _, l := range b.lent {
		if l.host != host || l.Rule.Kind == sallyport.CredentialPostgres || port != 0 && port != l.port {
			continue
		}
		if near == nil || allowsPath(l.Rule, path) {
			near = l
		}
		if allowsPath(l.Rule, path) && allowsMethod(l.Rule, r.Method) {
			fits = append(fits, l)
		}
	}
	for _, l := range fits { // the job says which one by its placeholder
		if l.Placeholder != "" && l.holdsPlaceholder(r.Header) {
			return l, near
		}
	}
	if len(fits) > 0 {
		return fits[0], near
	}
	return nil, near
}

func allowsMethod(r sallyport.CredentialRule, method string) bool {
	if len(r.Methods) == 0 {
		return method == http.MethodGet || method == http.MethodHead
	}
	return slices.Contains(r.Methods, method)
}

func nothingLends(host, path, method string, near *lent) (reason, mend string) {
	if near == nil {
		return "no credential is lent for this port of " + host, "name the port in the credential's rule in .sallyport/egress.yaml"
	}
	r := near.Rule
	if !allowsPath(r, path) {
		return fmt.Sprintf("the credential %s is not lent for this path of %s", r.Name, host),
			fmt.Sprintf("its rule (%s) allows %s; add the path there, on the protected branch, if the job should reach it", where(r), orAll(r.Paths))
	}
	methods := r.Methods
	if len(methods) == 0 {
		methods = []string{http.MethodGet, http.MethodHead}
	}
	return fmt.Sprintf("the credential %s is not lent for %s", r.Name, clip(method, 20)),
		fmt.Sprintf("its rule (%s) allows %s; add the method there, on the protected branch, if the job should use it", where(r), strings.Join(methods, ", "))
}

// where tells people which rule it is.
func where(r sallyport.CredentialRule) string {
	return fmt.Sprintf(".sallyport/egress.yaml:%d", r.Pos.Line)
}

func orAll(paths []string) string {
	if len(paths) == 0 {
		return "every path"
	}
	return strings.Join(paths, ", ")
}

// splitHost returns the host and port that the request names; port 0 when it names
// none, or the one of HTTP, which the door serves in place of that of HTTPS.
func splitHost(r *http.Request) (string, int) {
	host, port := r.Host, 0
	if h, p, err := net.SplitHostPort(r.Host); err == nil {
		host = h
		if port, err = strconv.Atoi(p); err != nil {
			port = -1
		}
	}
	if port == 80 && r.TLS == nil {
		port = 0
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")), port
}

func (l *lent) address() string { return net.JoinHostPort(l.host, strconv.Itoa(l.port)) }

// authority is the host as requests name it.
func (l *lent) authority() string {
	if l.port == 443 {
		if strings.Contains(l.host, ":") {
			return "[" + l.host + "]"
		}
		return l.host
	}
	return l.address()
}

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// deny answers in words that a person can read in the output of git or curl.
func deny(w http.ResponseWriter, status int, reason, mend string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintf(w, "sallyport: %s\nmend: %s\n", reason, mend)
}

func clip(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "?") }
