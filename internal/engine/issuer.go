package engine

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// TokenIssuer signs ID tokens with keys of this installation.
type TokenIssuer interface {
	// Make makes a key and returns its thumbprint.
	Make(ctx context.Context, id sallyport.KeyID, algorithm string) (kid string, err error)
	// Drop destroys a key; none is no error.
	Drop(ctx context.Context, id sallyport.KeyID) error
	// Sign returns the JSON Web Token with these claims.
	Sign(ctx context.Context, key sallyport.IssuerKey, claims []byte) (string, error)
	// KeySet returns the JSON Web Key Set of the keys.
	KeySet(ctx context.Context, keys sallyport.IssuerKeys) ([]byte, error)
}

// issuers implements sallyport.Issuers.
type issuers struct{ e *Engine }

const (
	// tendPause is how often the engine looks whether a key is due.
	tendPause = time.Minute
	// maxLead bounds how long a key may wait, so that one is always near.
	maxLead = 30 * 24 * time.Hour
)

// tendIssuer makes keys that are due and destroys those that are gone, until ctx ends.
func (e *Engine) tendIssuer(ctx context.Context) {
	if e.tokens == nil {
		return
	}
	ctx = system(ctx, "issuer")
	tick := time.NewTicker(tendPause)
	defer tick.Stop()
	for {
		if _, err := e.issuerKeys(ctx); err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "keys of ID tokens were not tended", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// issuerKeys returns the keys after making those that are due.
func (e *Engine) issuerKeys(ctx context.Context) (sallyport.IssuerKeys, error) {
	keys, err := e.storedKeys(ctx)
	if err != nil || !stale(keys, e.now()) {
		return keys, err
	}
	return e.renewKeys(system(ctx, "issuer"), sallyport.RotateIssuer{}, due)
}

func (e *Engine) storedKeys(ctx context.Context) (keys sallyport.IssuerKeys, err error) {
	err = e.view(ctx, func(tx sallyport.Tx) error {
		keys, err = tx.Issuer().List()
		return err
	})
	return keys, err
}

// stale reports whether a key is due, or one that is gone is still there.
func stale(keys sallyport.IssuerKeys, now time.Time) bool {
	for _, a := range sallyport.IssuerAlgorithms() {
		if due(keys, a, now) {
			return true
		}
	}
	return len(keys.Published(now)) != len(keys)
}

func due(keys sallyport.IssuerKeys, algorithm string, now time.Time) bool {
	return !keys.Due(algorithm).After(now)
}

// renewKeys makes a key of each algorithm that wants one. Keys are made before the transaction
// that has them sign, and destroyed before the one that forgets them, so that what is
// published always exists; a key that a crash leaves behind signs nothing.
func (e *Engine) renewKeys(ctx context.Context, in sallyport.RotateIssuer, want func(sallyport.IssuerKeys, string, time.Time) bool) (sallyport.IssuerKeys, error) {
	e.renewing.Lock()
	defer e.renewing.Unlock()
	keys, err := e.storedKeys(ctx)
	if err != nil {
		return nil, err
	}
	now := e.now()
	var made sallyport.IssuerKeys
	for _, a := range sallyport.IssuerAlgorithms() {
		if !want(keys, a, now) {
			continue
		}
		id := sallyport.KeyID(sallyport.TokenKey + strings.ToLower(string(sallyport.NewID[sallyport.TokenID](now))) + "-" + strings.ToLower(a))
		kid, err := e.tokens.Make(ctx, id, a)
		if err != nil {
			return nil, errors.Join(err, e.drop(ctx, made))
		}
		made = append(made, sallyport.IssuerKey{ID: id, Kid: kid, Algorithm: a})
	}
	gone := keysGone(keys, now)
	if err := e.drop(ctx, gone); err != nil {
		return nil, err
	}
	lead := in.Lead
	if lead == 0 {
		lead = sallyport.IssuerLead
	}
	err = e.update(ctx, func(c *change) error {
		if keys, err = c.Issuer().List(); err != nil {
			return err
		}
		for _, k := range gone {
			if err := c.Issuer().Delete(k.ID); err != nil {
				return err
			}
			if err := c.record("issuer.key-destroyed", "issuer", k); err != nil {
				return err
			}
		}
		for _, k := range made {
			next, changed := keys.Succeed(k, c.now, lead, in.Compromised)
			for _, k := range append(changed, next) {
				if err := c.Issuer().Put(k); err != nil {
					return err
				}
			}
			if err := c.record("issuer.key-made", "issuer", map[string]any{"key": next, "compromised": in.Compromised, "before": changed}); err != nil {
				return err
			}
		}
		keys, err = c.Issuer().List()
		return err
	})
	if err != nil {
		return nil, errors.Join(err, e.drop(ctx, made))
	}
	if in.Compromised {
		// Unpublished keys are of no use to us and of some to a thief.
		return keys, e.drop(ctx, keysGone(keys, e.now()))
	}
	return keys, nil
}

func keysGone(keys sallyport.IssuerKeys, now time.Time) (gone sallyport.IssuerKeys) {
	for _, k := range keys {
		if !k.GoneAt.IsZero() && !now.Before(k.GoneAt) {
			gone = append(gone, k)
		}
	}
	return gone
}

func (e *Engine) drop(ctx context.Context, keys sallyport.IssuerKeys) error {
	var all []error
	for _, k := range keys {
		all = append(all, e.tokens.Drop(context.WithoutCancel(ctx), k.ID))
	}
	return errors.Join(all...)
}

// tokenIssuer is the issuer's name in ID tokens: where its keys are found.
func (e *Engine) tokenIssuer() string {
	if e.issuer != "" {
		return e.issuer
	}
	return strings.TrimRight(e.baseURL, "/")
}

// TokenIssuer is public: whoever is shown a token needs it.
func (s instance) TokenIssuer(ctx context.Context) (string, []byte, error) {
	if err := s.e.allow(ctx, actInstance, ""); err != nil {
		return "", nil, err
	}
	if s.e.tokens == nil {
		return "", nil, noIssuer()
	}
	keys, err := s.e.issuerKeys(ctx)
	if err != nil {
		return "", nil, err
	}
	set, err := s.e.tokens.KeySet(ctx, keys.Published(s.e.now()))
	return s.e.tokenIssuer(), set, err
}

func noIssuer() error {
	return sallyport.Errorf(sallyport.CodeUnavailable, "this instance issues no ID tokens")
}

func (s issuers) IssuerStatus(ctx context.Context) (sallyport.IssuerStatus, error) {
	if err := s.e.allow(ctx, actInstance, ""); err != nil {
		return sallyport.IssuerStatus{}, err
	}
	if s.e.tokens == nil {
		return sallyport.IssuerStatus{}, noIssuer()
	}
	keys, err := s.e.issuerKeys(ctx)
	return s.e.issuerStatus(keys), err
}

func (e *Engine) issuerStatus(keys sallyport.IssuerKeys) sallyport.IssuerStatus {
	st := sallyport.IssuerStatus{Issuer: e.tokenIssuer(), Keys: keys.Published(e.now())}
	for _, a := range sallyport.IssuerAlgorithms() {
		if due := keys.Due(a); st.Next.IsZero() || due.Before(st.Next) {
			st.Next = due
		}
	}
	return st
}

// RotateIssuer makes new keys now. Those that wait already are not overtaken: two changes
// within the time that others keep keys would have a token verify nowhere.
func (s issuers) RotateIssuer(ctx context.Context, in sallyport.RotateIssuer) (sallyport.IssuerStatus, error) {
	var st sallyport.IssuerStatus
	e := s.e
	if err := e.allow(ctx, actAdmin, ""); err != nil {
		return st, err
	}
	if e.tokens == nil {
		return st, noIssuer()
	}
	if in.Lead != 0 && (in.Lead < sallyport.IssuerCache || in.Lead > maxLead) {
		return st, sallyport.Errorf(sallyport.CodeInvalid, "a key must be published for %s to %s before it signs: those who check tokens keep keys that long", sallyport.IssuerCache, maxLead).
			WithHint("where keys are known to others, say that they are compromised")
	}
	if in.Compromised && in.Lead != 0 {
		return st, sallyport.Errorf(sallyport.CodeInvalid, "keys that follow compromised ones sign at once")
	}
	keys, err := e.issuerKeys(ctx)
	if err != nil {
		return st, err
	}
	for _, a := range sallyport.IssuerAlgorithms() {
		if k, waits := keys.Pending(a, e.now()); waits && !in.Compromised {
			return st, sallyport.Errorf(sallyport.CodeConflict, "the keys are changing: one for %s signs from %s", a, k.SignsFrom.Format(time.RFC3339)).
				WithHint("wait until then; where keys are known to others, say that they are compromised")
		}
	}
	keys, err = e.renewKeys(ctx, in, func(sallyport.IssuerKeys, string, time.Time) bool { return true })
	if err != nil {
		return st, err
	}
	return e.issuerStatus(keys), nil
}

// IssuedTokens tells of a job's tokens from the trail.
func (s issuers) IssuedTokens(ctx context.Context, id sallyport.JobID) ([]sallyport.IssuedToken, error) {
	if _, err := load(ctx, s.e, actRead, func(tx sallyport.Tx) (sallyport.Job, sallyport.ProjectID, error) {
		j, err := tx.Jobs().Get(id)
		if err != nil {
			return j, "", err
		}
		r, err := tx.Runs().Get(j.Run)
		return j, r.Project, err
	}); err != nil {
		return nil, err
	}
	var records []sallyport.AuditRecord
	if err := s.e.view(ctx, func(tx sallyport.Tx) (err error) {
		records, err = tx.Audit().List(sallyport.AuditFilter{Action: "idtoken.", Object: "job/" + string(id), Limit: maxIDTokens})
		return err
	}); err != nil {
		return nil, err
	}
	var out []sallyport.IssuedToken
	for _, r := range records {
		var d issuedDetail
		if err := json.Unmarshal(r.Detail, &d); err != nil {
			return nil, err
		}
		t := sallyport.IssuedToken{At: r.At, Job: id, Audience: d.Audience, Subject: d.Subject, ID: d.ID, Kid: d.Kid, Step: d.Step, Refused: d.Why}
		if d.Expires != 0 {
			t.Expires = time.Unix(d.Expires, 0).UTC()
		}
		out = append(out, t)
	}
	return out, nil
}

// issuedDetail is what the trail keeps of a token that was issued or refused.
type issuedDetail struct {
	Run      sallyport.RunID `json:"run"`
	Attempt  int             `json:"attempt,omitempty"`
	Step     int             `json:"step,omitempty"`
	Audience string          `json:"aud"`
	Subject  string          `json:"sub,omitempty"`
	ID       string          `json:"jti,omitempty"`
	Kid      string          `json:"kid,omitempty"`
	Expires  int64           `json:"exp,omitempty"`
	Why      string          `json:"why,omitempty"`
}
