package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// The largest JSON answer: a plan with its actions.
	maxAnswer = 64 << 20
	// How often a call is tried whose connection failed, and the first pause;
	// each pause is up to twice the one before: 2 s in all.
	tries      = 5
	firstPause = 100 * time.Millisecond
	// How long the server may take to begin its answer: the longest wait, and
	// the time of a slow machine.
	answerTimeout = MaxWait + 70*time.Second
)

// Config says where the server is and who asks. Either URL or UnixSocket is required.
type Config struct {
	// URL is the address of the server, https unless it is on this host.
	URL string
	// UnixSocket is the path of the server's socket on this host; it lets its
	// owner in without a token.
	UnixSocket string
	// Token is the API token.
	Token sallyport.Secret
	// Transport replaces the connection to URL, for certificates of one's own.
	Transport http.RoundTripper
	// UserAgent names the program; default "sallyport".
	UserAgent string
}

// Client speaks to one server. It may be used by several goroutines.
type Client struct {
	base  *url.URL
	where string // for people
	token sallyport.Secret
	agent string
	http  *http.Client
	pause time.Duration
}

// Dial returns a client; it connects when the first call is made.
func Dial(c Config) (*Client, error) {
	client := &Client{token: c.Token, agent: c.UserAgent, pause: firstPause}
	if client.agent == "" {
		client.agent = "sallyport"
	}
	transport := c.Transport
	switch {
	case c.UnixSocket != "" && c.URL != "":
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "both an address and a socket are given").WithHint("give one of them")
	case c.UnixSocket != "":
		client.base, client.where = &url.URL{Scheme: "http", Host: "sallyport"}, c.UnixSocket
		transport = newTransport(nil, func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.UnixSocket)
		})
	case c.URL != "":
		base, err := parseBase(c.URL, !c.Token.Empty())
		if err != nil {
			return nil, err
		}
		client.base, client.where = base, base.String()
		if transport == nil {
			transport = newTransport(http.ProxyFromEnvironment, (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext)
		}
	default:
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "no server is given").WithHint("give its address or its socket")
	}
	client.http = &http.Client{
		Transport: transport,
		// A redirect would carry the token to somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return client, nil
}

func newTransport(proxy func(*http.Request) (*url.URL, error), dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Proxy:                 proxy,
		DialContext:           dial,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   64, // a runner's jobs report at the same time
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: answerTimeout,
	}
}

// parseBase checks the address. A token is sent in clear to this host alone.
func parseBase(address string, secret bool) (*url.URL, error) {
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil || base.RawQuery != "" {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not the address of a server", address).
			WithHint("write it as https://HOST:PORT, without a user and a query")
	}
	if base.Scheme == "http" && secret && !loopback(base.Hostname()) {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "a token is not sent to %s without TLS", base.Host).
			WithHint("use https://%s", base.Host)
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	return base, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// do makes a call and decodes its JSON answer.
func do[In, Out any](ctx context.Context, c *Client, call Call[In, Out], in In) (Out, error) {
	var out Out
	resp, err := send(ctx, c, call, in, nil)
	if err != nil {
		return out, err
	}
	defer drain(resp.Body)
	if _, none := any(out).(None); none {
		return out, nil
	}
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if err := dec.Decode(&out); err != nil {
		return out, c.broken(ctx, err)
	}
	return out, nil
}

// read makes a call and returns the content that it answers with, at most max bytes.
func read[In any](ctx context.Context, c *Client, call Call[In, Bytes], in In, max int64) ([]byte, http.Header, error) {
	resp, err := send(ctx, c, call, in, nil)
	if err != nil {
		return nil, nil, err
	}
	defer drain(resp.Body)
	b, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err != nil {
		return nil, nil, c.broken(ctx, err)
	}
	if int64(len(b)) > max {
		return nil, nil, &sallyport.Error{Code: sallyport.CodeInternal, Message: fmt.Sprintf("%s answered %s with more than %d bytes", c.where, call.ID, max)}
	}
	return b, resp.Header, nil
}

// send makes a call, again when its connection fails and that cannot do harm,
// and returns the answer if it is a success. content replaces the JSON body.
func send[In, Out any](ctx context.Context, c *Client, call Call[In, Out], in In, content io.Reader) (*http.Response, error) {
	req, err := encode(call.Method, call.Path, in)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", call.ID, err)
	}
	for try := 1; ; try++ {
		resp, err := c.once(ctx, req, content)
		if err == nil {
			return c.success(ctx, resp)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		again := unsent(err) || call.Repeatable && content == nil
		if !again || try == tries {
			return nil, c.unreachable(err)
		}
		pause := c.pause << (try - 1)
		pause += rand.N(pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// unsent reports whether err means that the server saw nothing of the request.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func (c *Client) once(ctx context.Context, in *request, content io.Reader) (*http.Response, error) {
	u := *c.base
	u.Path, u.RawPath = c.base.Path+in.path, c.base.EscapedPath()+in.rawPath
	u.RawQuery = in.query.Encode()
	var body io.Reader
	switch {
	case content != nil:
		body = io.NopCloser(content) // it is the caller's to close
	case in.body != nil:
		body = bytes.NewReader(in.body)
	}
	req, err := http.NewRequestWithContext(ctx, in.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	for k, v := range in.header {
		req.Header[k] = v
	}
	if in.contentType != "" {
		req.Header.Set("Content-Type", in.contentType)
	} else if content != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	req.Header.Set("User-Agent", c.agent)
	if !c.token.Empty() {
		req.Header.Set("Authorization", "Bearer "+string(c.token.Reveal()))
	}
	return c.http.Do(req)
}

// success returns the answer, or the error that it carries.
func (c *Client) success(ctx context.Context, resp *http.Response) (*http.Response, error) {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer drain(resp.Body)
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	p := problemOf(resp.StatusCode, kind, b)
	if p.End != nil {
		return nil, WithLogEnd(p.err(), *p.End)
	}
	return nil, p.err()
}

// unreachable is the error of a call that got no answer.
func (c *Client) unreachable(err error) error {
	e := &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "Sallyport at " + c.where + " does not answer",
		Hint: "check the address, and that the server runs: sallyport up", Err: err}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		e.Message = "Sallyport does not run at " + c.where
	case errors.Is(err, syscall.EACCES):
		e.Message = "access to " + c.where + " is refused by the system"
		e.Hint = "run the command as the user who runs sallyport up, or give a token"
	}
	return e
}

// broken is the error of an answer that broke off.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the answer of Sallyport at " + c.where + " broke off", Hint: "try again", Err: err}
}

// drain lets the connection be used again where little is left to read.
func drain(r io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, r, 4<<10)
	_ = r.Close()
}
