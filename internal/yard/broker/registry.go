package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/sallyport-ci/sallyport"
)

// Bounds of a registry's word.
const (
	maxTokenAnswer = 256 << 10
	maxTokens      = 256 // repositories and actions of one job
	// tokenTime is how long a token is good that says nothing of it (Distribution's
	// token specification), tokenSlack what is left for the request that uses it.
	tokenTime  = time.Minute
	tokenSlack = 10 * time.Second
)

// tokens are those that a registry gave for the credential. They stay here: with one the
// job could push from elsewhere as long as it is good.
type tokens struct {
	mu        sync.Mutex
	challenge *challenge
	by        map[string]token // by scope
}

type token struct {
	value string
	until time.Time
}

// challenge is how the registry wants to be asked (RFC 6750, 3; RFC 7617).
type challenge struct {
	scheme, realm, service string
}

func newTokens() *tokens { return &tokens{by: map[string]token{}} }

func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.challenge, t.by = nil, map[string]token{}
}

// registryPing answers for GET /v2/, by which clients find out whether they must
// authenticate: they need not, since that is done here.
func (b *Broker) registryPing(host string, port int, path string, r *http.Request) bool {
	if path != "/v2/" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for _, l := range b.lent {
		if l.Rule.Kind == sallyport.CredentialRegistry && l.host == host && (port == 0 || port == l.port) {
			return true
		}
	}
	return false
}

// repository returns the name in a path of the distribution API: /v2/NAME/{manifests,blobs,tags,referrers}/….
func repository(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok || strings.Contains(rest, "%") {
		return "", false
	}
	end := -1
	for _, part := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
		end = max(end, strings.LastIndex(rest, part))
	}
	if end <= 0 {
		return "", false
	}
	return rest[:end], true
}

// putToken gives a request to a registry what it accepts, for the repository of its path alone.
func (b *Broker) putToken(ctx context.Context, l *lent, out *http.Request) error {
	name, ok := repository(out.URL.EscapedPath())
	if !ok {
		return refuse("a registry's credential is lent for a repository's manifests, blobs and tags", "ask for /v2/NAME/manifests/… or its like")
	}
	actions := "pull"
	if out.Method != http.MethodGet && out.Method != http.MethodHead {
		actions = "pull,push"
	}
	scopes := []string{"repository:" + name + ":" + actions}
	mounts := out.URL.Query()["from"]
	if len(mounts) > 1 {
		return refuse("the request names several repositories from which a blob is to be mounted", "send from= once")
	}
	if len(mounts) == 1 && mounts[0] != "" { // a blob of another repository is mounted
		from := mounts[0]
		path, err := canonical("/v2/" + from + "/blobs/")
		if err == nil {
			path, err = canonicalPath(&url.URL{Path: path}) // without dot segments
		}
		if err != nil || !allowsPath(l.Rule, path) {
			return refuse(fmt.Sprintf("the credential %s is not lent for the repository %.80q, from which a blob is to be mounted", l.Rule.Name, from), "push the blob itself, or add the repository's path to the rule")
		}
		scopes = append(scopes, "repository:"+from+":pull")
	}

	l.tokens.mu.Lock()
	defer l.tokens.mu.Unlock()
	if l.tokens.challenge == nil {
		c, err := b.ask(ctx, l)
		if err != nil {
			return err
		}
		l.tokens.challenge = c
	}
	c := l.tokens.challenge
	switch c.scheme {
	case "":
		return nil // an open registry
	case "basic":
		out.SetBasicAuth(l.Rule.User, string(l.Value.Reveal()))
		return nil
	}
	key := strings.Join(scopes, " ")
	t, ok := l.tokens.by[key]
	if !ok || !b.cfg.Clock().Before(t.until) {
		var err error
		if t, err = b.fetchToken(ctx, l, c, scopes); err != nil {
			return err
		}
		if len(l.tokens.by) >= maxTokens {
			l.tokens.by = map[string]token{}
		}
		l.tokens.by[key] = t
	}
	out.Header.Set("Authorization", "Bearer "+t.value)
	return nil
}

// ask finds out how the registry authenticates.
func (b *Broker) ask(ctx context.Context, l *lent) (*challenge, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+l.authority()+"/v2/", nil)
	if err != nil {
		return nil, err
	}
	answer, err := b.cfg.Upstream.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		return &challenge{}, nil
	}
	for _, h := range answer.Header.Values("Www-Authenticate") {
		if c := parseChallenge(h); c != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("the registry %s asks for an authentication that is not known", l.host)
}

// parseChallenge reads one challenge, Bearer or Basic.
func parseChallenge(h string) *challenge {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(h), " ")
	switch strings.ToLower(scheme) {
	case "basic":
		return &challenge{scheme: "basic"}
	case "bearer":
	default:
		return nil
	}
	c := &challenge{scheme: "bearer"}
	for rest = strings.TrimLeft(rest, " ,"); rest != ""; rest = strings.TrimLeft(rest, " ,") {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		var value string
		if quoted, ok := strings.CutPrefix(after, `"`); ok {
			end := strings.IndexByte(quoted, '"') // no escapes: realms and services have no quotes
			if end < 0 {
				return nil
			}
			value, rest = quoted[:end], quoted[end+1:]
		} else {
			value, rest, _ = strings.Cut(after, ",")
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "realm":
			c.realm = value
		case "service":
			c.service = value
		}
	}
	if c.realm == "" {
		return nil
	}
	return c
}

// mayRealm checks where the registry sends its clients for tokens: the credential goes to
// its own host, or to one of the same registrable domain.
func mayRealm(l *lent, realm string) (*url.URL, error) {
	u, err := url.Parse(realm)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Hostname() == "" {
		return nil, refuse("the registry names no usable place for its tokens", "its realm must be an https address")
	}
	host := strings.ToLower(u.Hostname())
	if host == l.host {
		return u, nil
	}
	ours, err1 := publicsuffix.EffectiveTLDPlusOne(l.host)
	theirs, err2 := publicsuffix.EffectiveTLDPlusOne(host)
	if err1 != nil || err2 != nil || ours != theirs {
		return nil, refuse(fmt.Sprintf("the registry %s wants the credential %s sent to %.80q, which belongs to somebody else", l.host, l.Rule.Name, host), "lend the credential for a registry whose tokens come from its own domain")
	}
	return u, nil
}

// fetchToken trades the credential for a token of the scopes.
func (b *Broker) fetchToken(ctx context.Context, l *lent, c *challenge, scopes []string) (token, error) {
	u, err := mayRealm(l, c.realm)
	if err != nil {
		return token{}, err
	}
	q := u.Query()
	q.Del("scope")
	for _, s := range scopes {
		q.Add("scope", s)
	}
	if c.service != "" {
		q.Set("service", c.service)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return token{}, err
	}
	req.SetBasicAuth(l.Rule.User, string(l.Value.Reveal()))
	answer, err := b.cfg.Upstream.RoundTrip(req)
	if err != nil {
		return token{}, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return token{}, &refusal{http.StatusBadGateway, fmt.Sprintf("the registry gave no token for %s: %d", strings.Join(scopes, " "), answer.StatusCode), "see whether the credential " + l.Rule.Name + " is good and may do this"}
	}
	var got struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxTokenAnswer)).Decode(&got); err != nil {
		return token{}, fmt.Errorf("the registry's token is not readable: %w", err)
	}
	value := got.Token
	if value == "" {
		value = got.AccessToken
	}
	if len(value) < minValue {
		return token{}, fmt.Errorf("the registry of %s gave no token", l.host)
	}
	if err := b.mask.Add(value); err != nil {
		return token{}, fmt.Errorf("the registry's token: %w", err)
	}
	good := tokenTime
	if got.ExpiresIn > 0 {
		good = time.Duration(min(got.ExpiresIn, 24*3600)) * time.Second
	}
	return token{value: value, until: b.cfg.Clock().Add(max(good-tokenSlack, tokenSlack))}, nil
}
