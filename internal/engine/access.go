package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// access implements sallyport.Access: tokens in, principals out. Values are
// random and kept only as digests, so that a copy of the store opens nothing.
type access struct{ e *Engine }

// tokenPrefix makes our tokens recognisable to secret scanners (package sallyport,
// NewCredential). API tokens of before began otherwise, and work until they expire.
var tokenPrefix = map[string]string{sallyport.TokenAPI: "sp_", sallyport.TokenLogin: "sll_", sallyport.TokenSession: "sls_"}

const oldTokenPrefix = "slp_"

const (
	maxTokenTTL   = 366 * 24 * time.Hour
	sessionTTL    = 12 * time.Hour
	useResolution = time.Minute // UsedAt is not written more often
)

var badCredential = &sallyport.Error{Code: sallyport.CodeDenied, Message: "the token is unknown, used up or expired",
	Hint: "make a new one with: sallyport login, or on the tokens page"}

func (s access) Authenticate(ctx context.Context, kind, value string) (sallyport.Principal, error) {
	if kind != sallyport.TokenAPI && kind != sallyport.TokenSession || !tokenShaped(kind, value) {
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
	return s.e.today(ctx, t.Principal)
}

// today takes from a principal the name of administrator when it is none any more:
// a face goes by it.
func (e *Engine) today(ctx context.Context, p sallyport.Principal) (sallyport.Principal, error) {
	if !p.Admin {
		return p, nil
	}
	l, err := e.law(ctx)
	if err != nil {
		return sallyport.Principal{}, err
	}
	if ok, _ := l.may(p, actAdmin, "", "", e.now()); !ok {
		p.Admin, p.Whole = false, true
	}
	return p, nil
}

func (s access) Login(ctx context.Context, value string) (string, time.Time, error) {
	var session string
	var expires time.Time
	if !tokenShaped(sallyport.TokenLogin, value) {
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
		c.actor, c.law = t.Principal.String(), true
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

// tokenShaped reports whether the value may be one of ours; what cannot be is not
// looked up. Values of before have another prefix, or no checksum.
func tokenShaped(kind, value string) bool {
	prefix := tokenPrefix[kind]
	if kind == sallyport.TokenAPI {
		return sallyport.ValidCredential(prefix, value) || strings.HasPrefix(value, oldTokenPrefix) && len(value) <= 200
	}
	return strings.HasPrefix(value, prefix) && len(value) <= 200
}

// limitable are the actions that a token may be limited to.
var limitable = []action{actRead, actFetch, actPush, actOperate, actDeploy, actSecrets, actAdmin, actInstance, actRequest, actApprove, actEmergency, actStop, actLift}

func newToken(now time.Time, name, kind string, p sallyport.Principal, ttl time.Duration) (string, sallyport.Token) {
	value := sallyport.NewCredential(tokenPrefix[kind])
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
	grant, err := s.e.allowBy(ctx, actAdmin, "", "")
	if err != nil {
		return "", sallyport.Token{}, err
	}
	switch {
	case name == "" || len(name) > 100:
		return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "a token needs a name of at most 100 bytes")
	case kind != sallyport.TokenAPI && kind != sallyport.TokenLogin:
		return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "%.40q is not a kind of token", kind).WithHint("use api or login")
	case p.Kind != sallyport.Person && p.Kind != sallyport.Bot && p.Kind != sallyport.Agent || p.ID == "" || p.Name == "" || len(p.Name) > 100 || len(p.ID) > 200:
		return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "a token is for a person, a bot or an agent with an id and a name")
	case p.Kind == sallyport.Agent && p.Admin:
		return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "an agent administers nothing")
	case ttl <= 0 || ttl > maxTokenTTL:
		return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "a token lives for at most %d days", int(maxTokenTTL.Hours()/24))
	}
	p.ProvedAt = time.Time{} // whoever has the token proves nothing by it
	for _, a := range p.Actions {
		if !slices.Contains(limitable, action(a)) {
			return "", sallyport.Token{}, sallyport.Errorf(sallyport.CodeInvalid, "%.40q is not an action", a).WithHint("use some of %v", limitable)
		}
	}
	var value string
	var t sallyport.Token
	err = s.e.update(ctx, func(c *change) error {
		account, err := c.Accounts().Get(p.ID)
		switch {
		case err == nil && (account.Kind != p.Kind || !account.RemovedAt.IsZero()):
			return sallyport.Errorf(sallyport.CodeConflict, "%s was removed", p.ID).WithHint("its id is not given twice; choose another name")
		case sallyport.ErrorCode(err) == sallyport.CodeNotFound && (p.Kind == sallyport.Agent || p.Whole):
			return sallyport.Errorf(sallyport.CodeNotFound, "there is no %s %.80q", p.Kind, p.ID).WithHint("add it first: sallyport people add, bots add or agents add")
		case err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound:
			return err
		}
		c.law = true // without an account, a principal may what its credentials say
		value, t = newToken(c.now, name, kind, p, ttl)
		if err := c.Tokens().Insert(t); err != nil {
			return err
		}
		if grant != "" { // it is burnt when the grant ends
			if err := c.lend(grant, lentToken, string(t.ID)); err != nil {
				return err
			}
		}
		return c.record("token.created", "token/"+string(t.ID), map[string]any{"name": name, "kind": kind, "for": p.String(), "admin": p.Admin, "expires": t.ExpiresAt,
			"projects": p.Projects, "actions": p.Actions, "whole": p.Whole})
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
		c.law = true
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
