package engine

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// access implements sallyport.Access: tokens in, principals out. Values are
// random and kept only as digests, so that a copy of the store opens nothing.
type access struct{ e *Engine }

// tokenPrefix makes our tokens recognisable to secret scanners.
var tokenPrefix = map[string]string{sallyport.TokenAPI: "slp_", sallyport.TokenLogin: "sll_", sallyport.TokenSession: "sls_"}

const (
	maxTokenTTL   = 366 * 24 * time.Hour
	sessionTTL    = 12 * time.Hour
	useResolution = time.Minute // UsedAt is not written more often
)

var badCredential = &sallyport.Error{Code: sallyport.CodeDenied, Message: "the token is unknown, used up or expired",
	Hint: "make a new one with: sallyport login, or on the tokens page"}

func (s access) Authenticate(ctx context.Context, kind, value string) (sallyport.Principal, error) {
	if kind != sallyport.TokenAPI && kind != sallyport.TokenSession || !strings.HasPrefix(value, tokenPrefix[kind]) || len(value) > 200 {
		return sallyport.Principal{}, badCredential
	}
	var t sallyport.Token
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		t, err = tx.Tokens().ByHash(kind, sallyport.DigestOf([]byte(value)))
		return err
	})
	now := s.e.now()
	switch {
	case sallyport.ErrorCode(err) == sallyport.CodeNotFound || err == nil && !now.Before(t.ExpiresAt):
		return sallyport.Principal{}, badCredential
	case err != nil:
		return sallyport.Principal{}, err
	}
	if now.Sub(t.UsedAt) > useResolution {
		if err := s.e.update(ctx, func(c *change) error { return c.Tokens().Use(t.ID, now) }); err != nil {
			return sallyport.Principal{}, err
		}
	}
	return t.Principal, nil
}

func (s access) Login(ctx context.Context, value string) (string, time.Time, error) {
	var session string
	var expires time.Time
	if !strings.HasPrefix(value, tokenPrefix[sallyport.TokenLogin]) || len(value) > 200 {
		return "", expires, badCredential
	}
	err := s.e.update(ctx, func(c *change) error {
		t, err := c.Tokens().ByHash(sallyport.TokenLogin, sallyport.DigestOf([]byte(value)))
		if err != nil {
			return err
		}
		if err := c.Tokens().Delete(t.ID); err != nil { // burnt, also when it is too late
			return err
		}
		if !c.now.Before(t.ExpiresAt) {
			return c.record("login.expired", "token/"+string(t.ID), nil)
		}
		c.actor = t.Principal.String()
		var st sallyport.Token
		session, st = newToken(c.now, "session", sallyport.TokenSession, t.Principal, sessionTTL)
		expires = st.ExpiresAt
		if err := c.Tokens().Insert(st); err != nil {
			return err
		}
		return c.record("login.succeeded", "token/"+string(st.ID), nil)
	})
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound || err == nil && session == "" {
		return "", expires, badCredential
	}
	return session, expires, err
}

func newToken(now time.Time, name, kind string, p sallyport.Principal, ttl time.Duration) (string, sallyport.Token) {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	value := tokenPrefix[kind] + base64.RawURLEncoding.EncodeToString(b)
	return value, sallyport.Token{
		ID: sallyport.NewID[sallyport.TokenID](now), Name: name, Hash: sallyport.DigestOf([]byte(value)), Kind: kind, Principal: p,
		CreatedAt: now, ExpiresAt: now.Add(ttl),
	}
}

// Logout ends the session; whoever holds its value may end it.
func (s access) Logout(ctx context.Context, session string) error {
	if err := s.e.allow(ctx, actInstance, ""); err != nil {
		return err
	}
	return s.e.update(ctx, func(c *change) error {
		t, err := c.Tokens().ByHash(sallyport.TokenSession, sallyport.DigestOf([]byte(session)))
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.Tokens().Delete(t.ID); err != nil {
			return err
		}
		return c.record("login.ended", "token/"+string(t.ID), nil)
	})
}

func (s access) CreateToken(ctx context.Context, name, kind string, p sallyport.Principal, ttl time.Duration) (string, sallyport.Token, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return "", sallyport.Token{}, err
	}
	switch {
	case name == "" || len(name) > 100:
		return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "a token needs a name of at most 100 bytes")
	case kind != sallyport.TokenAPI && kind != sallyport.TokenLogin:
		return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "%.40q is not a kind of token", kind).WithHint("use api or login")
	case p.Kind != sallyport.Person && p.Kind != sallyport.Bot || p.ID == "" || p.Name == "" || len(p.Name) > 100:
		return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "a token is for a person or a bot with an id and a name")
	case ttl <= 0 || ttl > maxTokenTTL:
		return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "a token lives for at most %d days", int(maxTokenTTL.Hours()/24))
	}
	var value string
	var t sallyport.Token
	err := s.e.update(ctx, func(c *change) error {
		value, t = newToken(c.now, name, kind, p, ttl)
		if err := c.Tokens().Insert(t); err != nil {
			return err
		}
		return c.record("token.created", "token/"+string(t.ID), map[string]any{"name": name, "kind": kind, "for": p.String(), "admin": p.Admin, "expires": t.ExpiresAt})
	})
	return value, t, err
}

func (s access) Tokens(ctx context.Context) ([]sallyport.Token, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return nil, err
	}
	var out []sallyport.Token
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		out, err = tx.Tokens().List()
		return err
	})
	return out, err
}

func (s access) RevokeToken(ctx context.Context, id sallyport.TokenID) error {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return err
	}
	return s.e.update(ctx, func(c *change) error {
		if err := c.Tokens().Delete(id); err != nil {
			return err
		}
		return c.record("token.revoked", "token/"+string(id), nil)
	})
}

// Denied records a refused credential. Nobody may call it too: that is whom it
// is about. What comes faster than the trail should grow is counted, and the next
// record says how many it stands for.
func (s access) Denied(ctx context.Context, what, why string) {
	more, now := s.e.strangers.take(s.e.now())
	if !now {
		return
	}
	err := s.e.update(context.WithoutCancel(ctx), func(c *change) error {
		detail := map[string]any{"why": clip(why, 200)}
		if more > 0 {
			detail["not_recorded_before"] = more
		}
		return c.record("access.denied", clip(what, 200), detail)
	})
	if err != nil {
		s.e.log.ErrorContext(ctx, "denial was not recorded", "error", err)
	}
}

// Denials of strangers that get a record of their own: a burst shows who tries
// what, and what one writes who sends bad credentials without end stays below
// 90,000 records a day.
const (
	strangersBurst     = 200
	strangersPerSecond = 1
)

// denials spaces the records about those who have no credential.
type denials struct {
	mu   sync.Mutex
	room float64 // records that may be written now
	at   time.Time
	held int // denials without a record since the last one
}

// take reports whether a denial is to be recorded, and how many before it were not.
func (d *denials) take(now time.Time) (more int, record bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at.IsZero() {
		d.room = strangersBurst
	} else if past := now.Sub(d.at).Seconds(); past > 0 {
		d.room = min(strangersBurst, d.room+past*strangersPerSecond)
	}
	d.at = now
	if d.room < 1 {
		d.held++
		return 0, false
	}
	d.room--
	more, d.held = d.held, 0
	return more, true
}
