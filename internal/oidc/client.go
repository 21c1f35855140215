// Package oidc asks the company's provider of identities who somebody is: the
// authorization code flow of OpenID Connect Core 1.0 with PKCE (RFC 7636). It
// verifies, and decides nothing: whom the proof lets in is for the engine.
//
// Daemon makes its Client, web calls it.
package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	provider "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/sallyport-ci/sallyport"
)

// Config of a client. File, Redirect and Now are required.
type Config struct {
	File
	Secret    sallyport.Secret  // of the client; "" for one that has none
	Redirect  string            // address of ours to which the provider sends browsers back
	Transport http.RoundTripper // nil: http.DefaultTransport
	Now       func() time.Time
	Log       *slog.Logger // nil: discard
}

// Client is a sallyport.LoginProvider.
type Client struct {
	c     Config
	http  *http.Client
	turn  chan struct{} // one at a time asks what the provider can
	found *found        // guarded by turn
}

var _ sallyport.LoginProvider = (*Client)(nil)

const (
	callTime  = 10 * time.Second // of one question to the provider
	maxAnswer = 1 << 20          // of the provider
	maxParam  = 8 << 10          // of what a browser brings
	maxToken  = 64 << 10
	maxID     = 255 // of a subject, OpenID Connect Core 1.0, section 2
	maxGroups = 1000
	skew      = time.Minute // between the provider's clock and ours
)

// algorithms are those of signatures that the provider alone can make: "none" and
// those with a shared secret are not among them, whatever the provider offers.
var algorithms = []string{provider.RS256, provider.RS384, provider.RS512, provider.ES256, provider.ES384, provider.ES512, provider.PS256, provider.PS384, provider.PS512, provider.EdDSA}

// New asks nobody yet: an installation starts while its provider is down.
func New(c Config) (*Client, error) {
	if c.Redirect == "" || c.Now == nil {
		return nil, errors.New("oidc: redirect and clock are needed")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{c: c, turn: make(chan struct{}, 1), http: &http.Client{
		Transport: bounded{c.Transport}, Timeout: callTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// bounded cuts answers that are too long.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// Name is what people know the provider by.
func (c *Client) Name() string { return c.c.Name }

// found is what the provider said of itself.
type found struct {
	oauth    oauth2.Config
	verifier *provider.IDTokenVerifier
	namesIss bool // it names itself in its answers (RFC 9207)
}

// discover returns what the provider said of itself, and asks it once.
func (c *Client) discover(ctx context.Context) (*found, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-c.turn }()
	if c.found != nil {
		return c.found, nil
	}
	p, err := provider.NewProvider(provider.ClientContext(ctx, c.http), c.c.Issuer)
	if err != nil {
		return nil, c.away(err)
	}
	var says struct {
		Keys     string   `json:"jwks_uri"`
		Methods  []string `json:"token_endpoint_auth_methods_supported"`
		NamesIss bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := p.Claims(&says); err != nil {
		return nil, c.away(err)
	}
	f := &found{namesIss: says.NamesIss, verifier: p.Verifier(&provider.Config{ClientID: c.c.ClientID, SupportedSigningAlgs: algorithms, Now: c.c.Now})}
	f.oauth = oauth2.Config{ClientID: c.c.ClientID, ClientSecret: string(c.c.Secret.Reveal()), Endpoint: p.Endpoint(), RedirectURL: c.c.Redirect, Scopes: []string{provider.ScopeOpenID}}
	for _, s := range c.c.Scopes {
		if s != provider.ScopeOpenID {
			f.oauth.Scopes = append(f.oauth.Scopes, s)
		}
	}
	// One way to name the client, and no other after it failed: a code is sent once.
	f.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if c.c.Secret.Empty() || len(says.Methods) > 0 && !slices.Contains(says.Methods, "client_secret_basic") {
		f.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	for _, address := range []string{f.oauth.Endpoint.AuthURL, f.oauth.Endpoint.TokenURL, says.Keys} {
		if err := secure(address); err != nil {
			return nil, c.away(errors.New("an address that it names is not secure"))
		}
	}
	c.found = f
	return f, nil
}

func (c *Client) away(err error) error {
	return (&sallyport.Error{Code: sallyport.CodeUnavailable, Message: c.c.Name + " does not answer as it should", Err: err}).
		WithHint("try again in a moment, or log in with a one-time link")
}

// Begin returns the provider's login page, with the attempt's part in it.
func (c *Client) Begin(ctx context.Context, a sallyport.LoginAttempt) (string, error) {
	f, err := c.discover(ctx)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{provider.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)}
	if a.Fresh {
		options = append(options, oauth2.SetAuthURLParam("max_age", "0"))
		if c.c.StepUp != nil && len(c.c.StepUp.ACR) > 0 {
			options = append(options, oauth2.SetAuthURLParam("acr_values", strings.Join(c.c.StepUp.ACR, " ")))
		}
	}
	return f.oauth.AuthCodeURL(a.State, options...), nil
}

func denied(format string, args ...any) error {
	return sallyport.Errorf(sallyport.CodeDenied, format, args...).WithHint("log in again")
}

// Finish verifies the answer of an attempt.
func (c *Client) Finish(ctx context.Context, a sallyport.LoginAttempt, answer url.Values) (sallyport.Proof, error) {
	var none sallyport.Proof
	for _, name := range []string{"state", "code", "iss", "error"} {
		if len(answer[name]) > 1 || len(answer.Get(name)) > maxParam {
			return none, denied("the answer has %s twice or too long", name)
		}
	}
	if a.State == "" || !same(answer.Get("state"), a.State) {
		return none, denied("the answer is not for a login that this browser began")
	}
	f, err := c.discover(ctx)
	if err != nil {
		return none, err
	}
	// Before the code goes anywhere: it may be another provider's (RFC 9207, section 2.4).
	if iss, named := answer.Get("iss"), answer.Has("iss"); named && iss != c.c.Issuer || !named && f.namesIss {
		return none, denied("the answer is of another issuer")
	}
	if why := answer.Get("error"); why != "" {
		return none, denied("%s refused: %s", c.c.Name, plain(why))
	}
	if answer.Get("code") == "" {
		return none, denied("the answer has no code")
	}
	token, err := f.oauth.Exchange(provider.ClientContext(ctx, c.http), answer.Get("code"), oauth2.VerifierOption(a.Verifier))
	if refused := new(oauth2.RetrieveError); errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode < 500 {
		return none, denied("%s did not take the code: %s", c.c.Name, plain(refused.ErrorCode))
	}
	if err != nil {
		return none, c.away(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" || len(raw) > maxToken {
		return none, denied("%s sent no ID token, or one that is too long", c.c.Name)
	}
	return c.proof(ctx, f, a, raw)
}

// claims are those that every token has, or that are read whatever the file says.
type claims struct {
	AuthorizedParty string   `json:"azp"`
	AuthTime        int64    `json:"auth_time"`
	ACR             string   `json:"acr"`
	AMR             []string `json:"amr"`
	Email           string   `json:"email"`
	EmailVerified   any      `json:"email_verified"` // some write "true"
	Label           string   `json:"preferred_username"`
}

// proof verifies an ID token (OpenID Connect Core 1.0, section 3.1.3.7) and reads it.
func (c *Client) proof(ctx context.Context, f *found, a sallyport.LoginAttempt, raw string) (sallyport.Proof, error) {
	var none sallyport.Proof
	token, err := f.verifier.Verify(provider.ClientContext(ctx, c.http), raw)
	if err != nil {
		c.c.Log.WarnContext(ctx, "id token was refused", "error", err)
		return none, (&sallyport.Error{Code: sallyport.CodeDenied, Message: "the ID token does not verify", Err: err}).WithHint("log in again")
	}
	now := c.c.Now()
	var says claims
	every := map[string]json.RawMessage{}
	if err := errors.Join(token.Claims(&says), token.Claims(&every)); err != nil {
		return none, denied("the ID token cannot be read")
	}
	switch {
	case token.Issuer != c.c.Issuer:
		return none, denied("the ID token is of another issuer")
	case len(token.Audience) != 1 || token.Audience[0] != c.c.ClientID, says.AuthorizedParty != "" && says.AuthorizedParty != c.c.ClientID:
		return none, denied("the ID token is for others too")
	case a.Nonce == "" || !same(token.Nonce, a.Nonce):
		return none, denied("the ID token is not for this login")
	case token.IssuedAt.After(now.Add(skew)):
		return none, denied("the ID token is of the future")
	}
	p := sallyport.Proof{Issuer: token.Issuer, Label: says.Label}
	if err := json.Unmarshal(every[c.c.Account], &p.Subject); err != nil || p.Subject == "" || len(p.Subject) > maxID {
		return none, denied("the ID token has no claim %s that names the person", c.c.Account)
	}
	if verified := says.EmailVerified; verified == true || verified == "true" {
		p.Email = strings.ToLower(says.Email)
	}
	if p.Groups, err = groups(every[c.c.Groups]); err != nil {
		return none, denied("the claim %s of the ID token is not a list of groups", c.c.Groups)
	}
	var proved time.Time
	if says.AuthTime > 0 {
		proved = time.Unix(says.AuthTime, 0).UTC()
	}
	if proved.After(now.Add(skew)) {
		return none, denied("the person proved who they are in the future")
	}
	if c.strong(says) {
		p.At = proved
	}
	if a.Fresh && (p.At.IsZero() || p.At.Before(a.At.Add(-skew))) {
		return none, denied("%s did not have the person prove anew who they are, or not strongly enough", c.c.Name)
	}
	return p, nil
}

// strong reports whether the way in which the person proved who they are is enough
// for what is sensitive.
func (c *Client) strong(says claims) bool {
	s := c.c.StepUp
	if s == nil {
		return true
	}
	return (len(s.ACR) == 0 || slices.Contains(s.ACR, says.ACR)) &&
		(len(s.AMR) == 0 || slices.ContainsFunc(says.AMR, func(m string) bool { return slices.Contains(s.AMR, m) }))
}

// groups reads a list of names, or one name; none when the claim is missing.
func groups(raw json.RawMessage) ([]string, error) {
	if raw == nil {
		return nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	if len(list) > maxGroups {
		return nil, errors.New("too many")
	}
	return list, nil
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// plain keeps of an error code what such codes are made of (RFC 6749, section 4.1.2.1).
func plain(code string) string {
	out := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' {
			return r
		}
		return -1
	}, code)
	if out == "" {
		return "no reason"
	}
	return out[:min(len(out), 60)]
}
