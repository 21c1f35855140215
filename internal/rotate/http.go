package rotate

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// HTTP rotates by requests that a rule declares.
type HTTP struct {
	// Transport sends the requests; nil is one that uses no proxy. Redirects are never followed.
	Transport http.RoundTripper
}

var _ sallyport.Rotator = HTTP{}

// HTTPConfig is the configuration of a rule. Strings of requests may hold {{admin}}, {{rotation}}, {{value}}
// and {{account}}: the rule's credential, the rotation's id, and the value and account of the credential that a
// request is about. In a URL they are escaped, in a JSON body quoted inside its strings.
type HTTPConfig struct {
	// Create makes a credential. It must carry {{rotation}}, so that Discard finds what it made.
	Create HTTPRequest `json:"create"`
	// Value and Account are JSON pointers (RFC 6901) into Create's answer; Account may be empty.
	Value   string `json:"value"`
	Account string `json:"account,omitempty"`
	// Test uses a credential: 2xx is accepted, 401 and 403 are refused, all else says nothing.
	Test HTTPRequest `json:"test"`
	// Revoke ends the credential {{account}} or {{value}}; 404 and 410 say that it is gone.
	Revoke HTTPRequest `json:"revoke"`
	// Discard ends every credential that carries {{rotation}}.
	Discard HTTPRequest `json:"discard"`
}

// HTTPRequest is one request.
type HTTPRequest struct {
	Method  string            `json:"method,omitempty"` // GET
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"` // JSON
}

func parseHTTP(raw json.RawMessage) (HTTPConfig, error) {
	var c HTTPConfig
	if err := decode(raw, &c); err != nil {
		return c, err
	}
	for name, r := range map[string]HTTPRequest{"create": c.Create, "test": c.Test, "revoke": c.Revoke, "discard": c.Discard} {
		if err := r.check(); err != nil {
			return c, sallyport.Errorf(sallyport.CodeInvalid, "the configuration of the rotation: %s: %v", name, err)
		}
	}
	bad := ""
	switch {
	case !strings.HasPrefix(c.Value, "/") || c.Account != "" && !strings.HasPrefix(c.Account, "/"):
		bad = "value and account are JSON pointers, such as /data/token"
	case !c.Create.has("{{rotation}}") || !c.Discard.has("{{rotation}}"):
		bad = "create and discard carry {{rotation}}, or a credential whose answer was lost could never be found again"
	case !c.Test.has("{{value}}"):
		bad = "test carries {{value}}, or it tests nothing"
	case !c.Revoke.has("{{value}}") && (!c.Revoke.has("{{account}}") || c.Account == ""):
		bad = "revoke carries {{value}}, or {{account}} with a pointer to it"
	}
	if bad != "" {
		return c, sallyport.Errorf(sallyport.CodeInvalid, "the configuration of the rotation: %s", bad)
	}
	return c, nil
}

func (r HTTPRequest) has(what string) bool {
	if strings.Contains(r.URL+r.Body, what) {
		return true
	}
	for _, v := range r.Headers {
		if strings.Contains(v, what) {
			return true
		}
	}
	return false
}

func (r HTTPRequest) check() error {
	u, err := url.Parse(strings.NewReplacer("{{", "", "}}", "").Replace(r.URL))
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return errors.New("url is an https:// address")
	case u.Scheme != "https" && !(u.Scheme == "http" && private(u.Hostname())):
		return errors.New("url is an https:// address; http:// is for private addresses")
	case strings.Contains(strings.SplitN(strings.SplitN(r.URL, "://", 2)[1], "/", 2)[0], "{{"):
		return errors.New("nothing is put into the host of a url")
	case len(r.Headers) > 20:
		return errors.New("there are at most 20 headers")
	case r.Body != "" && !json.Valid([]byte(r.Body)):
		return errors.New("body is JSON")
	}
	switch r.Method {
	case "", "GET", "POST", "PUT", "PATCH", "DELETE":
		return nil
	}
	return fmt.Errorf("the method %.20q is not taken", r.Method)
}

func (h HTTP) Check(raw json.RawMessage) error {
	_, err := parseHTTP(raw)
	return err
}

// Stage has a value made, after what an earlier call made, whose answer was lost, is gone.
func (h HTTP) Stage(ctx context.Context, t sallyport.RotationTask) (sallyport.Login, error) {
	c, err := parseHTTP(t.Config)
	if err != nil {
		return sallyport.Login{}, err
	}
	if err := h.ended(ctx, c.Discard, t, sallyport.Login{}); err != nil {
		return sallyport.Login{}, err
	}
	status, body, err := h.send(ctx, c.Create, t, sallyport.Login{})
	if err != nil {
		return sallyport.Login{}, err
	}
	if status/100 != 2 {
		return sallyport.Login{}, answered(status)
	}
	var doc any
	if err := json.Unmarshal(body, &doc); err != nil {
		return sallyport.Login{}, sallyport.Errorf(sallyport.CodeUnavailable, "the answer to create is no JSON")
	}
	value, ok := pointer(doc, c.Value)
	if !ok {
		return sallyport.Login{}, sallyport.Errorf(sallyport.CodeInvalid, "the answer to create has no text at %s", c.Value)
	}
	l := sallyport.Login{Value: sallyport.NewSecret([]byte(value))}
	if c.Account != "" {
		if l.Account, ok = pointer(doc, c.Account); !ok {
			return sallyport.Login{}, sallyport.Errorf(sallyport.CodeInvalid, "the answer to create has no text at %s", c.Account)
		}
	}
	return l, nil
}

// Apply has nothing to do: the target made the value itself.
func (h HTTP) Apply(context.Context, sallyport.RotationTask) error { return nil }

func (h HTTP) Accepts(ctx context.Context, t sallyport.RotationTask, l sallyport.Login) (bool, error) {
	c, err := parseHTTP(t.Config)
	if err != nil {
		return false, err
	}
	status, _, err := h.send(ctx, c.Test, t, l)
	switch {
	case err != nil:
		return false, err
	case status/100 == 2:
		return true, nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return false, nil
	default:
		return false, answered(status)
	}
}

func (h HTTP) Retire(ctx context.Context, t sallyport.RotationTask) error {
	c, err := parseHTTP(t.Config)
	if err != nil {
		return err
	}
	return h.ended(ctx, c.Revoke, t, t.Old)
}

// Destroy has nothing to do: what is revoked is gone.
func (h HTTP) Destroy(context.Context, sallyport.RotationTask) error { return nil }

func (h HTTP) Discard(ctx context.Context, t sallyport.RotationTask) error {
	c, err := parseHTTP(t.Config)
	if err != nil {
		return err
	}
	return h.ended(ctx, c.Discard, t, t.New)
}

// ended sends a request after which something is gone.
func (h HTTP) ended(ctx context.Context, r HTTPRequest, t sallyport.RotationTask, l sallyport.Login) error {
	status, _, err := h.send(ctx, r, t, l)
	if err == nil && status/100 != 2 && status != http.StatusNotFound && status != http.StatusGone {
		err = answered(status)
	}
	return err
}

func answered(status int) error {
	return sallyport.Errorf(sallyport.CodeUnavailable, "the target answered %d", status)
}

func (h HTTP) send(ctx context.Context, r HTTPRequest, t sallyport.RotationTask, l sallyport.Login) (int, []byte, error) {
	fill := func(s string, quote func(string) string) string {
		return strings.NewReplacer("{{admin}}", quote(string(t.Admin.Reveal())), "{{rotation}}", quote(string(t.ID)),
			"{{value}}", quote(string(l.Value.Reveal())), "{{account}}", quote(l.Account)).Replace(s)
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	var body io.Reader
	if r.Body != "" {
		body = strings.NewReader(fill(r.Body, jsonInner))
	}
	req, err := http.NewRequestWithContext(ctx, method, fill(r.URL, url.PathEscape), body)
	if err != nil {
		return 0, nil, sallyport.Errorf(sallyport.CodeInvalid, "a request of the rotation cannot be made")
	}
	for name, v := range r.Headers {
		// Basic authentication is written as "Basic {{account}}:{{value}}".
		filled := fill(v, func(s string) string { return s })
		if pair, ok := strings.CutPrefix(filled, "Basic "); ok && strings.Contains(pair, ":") {
			filled = "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
		}
		req.Header.Set(name, filled)
	}
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	transport := h.Transport
	if transport == nil {
		// A connection for each request: rotations are rare, and nothing lingers.
		transport = &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return 0, nil, sallyport.Errorf(sallyport.CodeUnavailable, "the target did not answer in time")
		}
		return 0, nil, sallyport.Errorf(sallyport.CodeUnavailable, "the target cannot be reached") // the error names the URL, which may hold a value
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(b) > maxAnswer {
		return 0, nil, sallyport.Errorf(sallyport.CodeUnavailable, "the target's answer breaks off, or is longer than %d KiB", maxAnswer>>10)
	}
	return resp.StatusCode, b, nil
}

// jsonInner is text as it stands inside the quotes of a JSON string.
func jsonInner(s string) string {
	b, _ := json.Marshal(s) // a string cannot fail
	return string(b[1 : len(b)-1])
}

// pointer finds text in a document by a JSON pointer.
func pointer(doc any, p string) (string, bool) {
	for _, part := range strings.Split(p, "/")[1:] {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch v := doc.(type) {
		case map[string]any:
			doc = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) {
				return "", false
			}
			doc = v[i]
		default:
			return "", false
		}
	}
	s, ok := doc.(string)
	return s, ok && s != ""
}
