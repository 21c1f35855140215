package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// enter logs a person of the provider in, and returns whose session it is.
func (h *house) enter(p sallyport.Proof) (context.Context, error) {
	h.t.Helper()
	session, _, err := h.e.LoginDesk().Enter(h.t.Context(), p, "")
	if err != nil {
		return nil, err
	}
	who, err := h.s.Access.Authenticate(h.t.Context(), sallyport.TokenSession, session)
	check(h.t, err)
	return sallyport.WithPrincipal(h.t.Context(), who), nil
}

// Where votes need a fresh login, neither an old one, nor a one-time link, nor a token
// will do.
func TestVotesNeedFreshLogin(t *testing.T) {
	t.Parallel()
	const issuer = "https://id.example"
	o := newOffice(t)
	o.e.logins = &LoginRules{Issuer: issuer, Fresh: 5 * time.Minute}
	for subject, id := range map[string]string{"1": "person/anna", "2": "person/ben"} {
		check(t, o.s.Rights.LinkLogin(o.admin, id, subject))
	}
	_, r := o.heldJob()
	var err error
	for name, at := range map[string]time.Time{"one of which the time is not known": {}, "an old one": o.e.now().Add(-6 * time.Minute)} {
		o.people["anna"], err = o.enter(sallyport.Proof{Issuer: issuer, Subject: "1", At: at})
		check(t, err)
		if err := o.vote("anna", "approve", r); sallyport.ErrorCode(err) != sallyport.CodeDenied || !errors.Is(err, sallyport.ErrLoginAgain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fresh, err := o.enter(sallyport.Proof{Issuer: issuer, Subject: "1", At: o.e.now()})
	check(t, err)

	// A credential made of a fresh session is not fresh.
	p := sallyport.PrincipalFrom(fresh)
	for _, kind := range []string{sallyport.TokenAPI, sallyport.TokenLogin} {
		value, _, err := o.s.Access.CreateToken(o.admin, "copy", kind, p, time.Hour)
		check(t, err)
		if kind == sallyport.TokenLogin {
			value, _, err = o.s.Access.Login(t.Context(), value)
			check(t, err)
			kind = sallyport.TokenSession
		}
		who, err := o.s.Access.Authenticate(t.Context(), kind, value)
		check(t, err)
		o.people["anna"] = sallyport.WithPrincipal(t.Context(), who)
		if err := o.vote("anna", "approve", r); !errors.Is(err, sallyport.ErrLoginAgain) {
			t.Errorf("by a %s token: %v", kind, err)
		}
	}
	o.people["anna"] = fresh
	check(t, o.vote("anna", "approve", r))
	// A no needs no more than it did.
	o.people["ben"], err = o.enter(sallyport.Proof{Issuer: issuer, Subject: "2"})
	check(t, err)
	check(t, o.vote("ben", "reject", r))
}

func TestWhoIsRefusedAtTheDesk(t *testing.T) {
	t.Parallel()
	const issuer = "https://id.example"
	h := newHouse(t)
	anna := h.account(sallyport.Account{Kind: sallyport.Person, Name: "anna"})
	if _, err := h.enter(sallyport.Proof{Issuer: issuer, Subject: "1"}); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("without rules: %v", err)
	}
	h.e.logins = &LoginRules{Issuer: issuer}
	check(t, h.s.Rights.LinkLogin(h.admin, "person/anna", "1"))
	if who, err := h.enter(sallyport.Proof{Issuer: issuer, Subject: "1"}); err != nil || sallyport.PrincipalFrom(who).ID != sallyport.PrincipalFrom(anna).ID {
		t.Fatalf("control: %v", err)
	}
	for name, p := range map[string]sallyport.Proof{
		"the subject of another issuer": {Issuer: "https://evil.example", Subject: "1"}, "nobody": {Issuer: issuer}, "no issuer": {Subject: "1"}, "a stranger": {Issuer: issuer, Subject: "2"},
	} {
		if _, err := h.enter(p); sallyport.ErrorCode(err) != sallyport.CodeDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := h.s.Stops.Stop(h.admin, sallyport.StopPerson, "person/anna", "the laptop was stolen")
	check(t, err)
	if _, err := h.enter(sallyport.Proof{Issuer: issuer, Subject: "1"}); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a person who is stopped: %v", err)
	}
	if got := h.records(loginRefused); len(got) != 6 {
		t.Errorf("%d refusals were recorded", len(got))
	}
}
