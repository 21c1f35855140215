package engine

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// LoginRules say whom logins at a provider let in. Without an account nobody is, but
// for those whom Admit gives one.
type LoginRules struct {
	Issuer string
	// Teams are the groups that put a person in each team, exact. At every login a person
	// is put in those teams and taken from the others that stand here; teams that do not
	// are left alone.
	Teams map[string][]string
	Admit *Admission // nil: nobody gets an account by a login
	// Fresh is how lately somebody must have proved who they are to vote; 0: at no time.
	Fresh time.Duration
}

// Admission is who gets an account at the first login: whoever meets all that it says.
type Admission struct {
	EmailDomain string   // of the address that the provider verified; "": any or none
	Teams       []string // in one of which their groups put them; none: any or none
}

const (
	loginSucceeded = "login.succeeded"
	loginRefused   = "login.refused"
	loginTries     = 5 // while who may do what changes under it
)

// desk implements sallyport.LoginDesk.
type desk struct{ e *Engine }

// LoginDesk returns what lets people in by what a provider proved.
func (e *Engine) LoginDesk() sallyport.LoginDesk { return desk{e} }

// refusal is why a person whom the provider knows is not let in.
type refusal struct{ why, hint string }

func (r refusal) Error() string { return r.why }

func (d desk) Enter(ctx context.Context, p sallyport.Proof, old string) (session string, expires time.Time, err error) {
	ctx = system(ctx, "login")
	for range loginTries {
		session, expires, err = d.enter(ctx, p, old)
		if sallyport.ErrorCode(err) != sallyport.CodeConflict {
			break
		}
	}
	var no refusal
	if sallyport.ErrorCode(err) == sallyport.CodeConflict {
		message, hint := sallyport.ErrorMessage(err)
		no = refusal{message, hint}
	} else if !errors.As(err, &no) {
		return session, expires, err
	}
	d.refused(ctx, "login", map[string]any{"why": no.why, "issuer": clip(p.Issuer, 200), "subject": clip(p.Subject, 200)})
	return "", time.Time{}, sallyport.Errorf(sallyport.CodeDenied, "you are not let in: %s", no.why).WithHint("%s", no.hint)
}

func (d desk) enter(ctx context.Context, p sallyport.Proof, old string) (string, time.Time, error) {
	var session string
	var expires time.Time
	rules := d.e.logins
	if rules == nil || p.Issuer != rules.Issuer || p.Subject == "" {
		return session, expires, refusal{"this provider lets nobody in here", "log in with a one-time link"}
	}
	a, err := d.account(ctx, p)
	if err != nil {
		return session, expires, err
	}
	err = d.e.update(ctx, func(c *change) error {
		// Again, for this session: what was read before is over.
		if a, err = entitled(c.Tx, p); err != nil {
			return err
		}
		if old != "" && tokenShaped(sallyport.TokenSession, old) {
			t, err := c.Tokens().ByHash(sallyport.TokenSession, sallyport.DigestOf([]byte(old)))
			if err == nil {
				err = c.Tokens().Delete(t.ID)
			}
			if err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
				return err
			}
		}
		who := sallyport.Principal{Kind: a.Kind, ID: a.ID, Name: a.Name, Admin: a.Admin, Whole: true, ProvedAt: p.At}
		c.actor, c.law = who.String(), true
		var t sallyport.Token
		session, t = newToken(c.now, "session", sallyport.TokenSession, who, sessionTTL)
		expires = t.ExpiresAt
		if err := c.Tokens().Insert(t); err != nil {
			return err
		}
		return c.record(loginSucceeded, subjectOf("token", t.ID), map[string]any{"account": a.ID, "issuer": p.Issuer, "subject": p.Subject, "proved": p.At})
	})
	return session, expires, err
}

// entitled returns the account of a person of the provider, when it may be entered.
func entitled(tx sallyport.Tx, p sallyport.Proof) (sallyport.Account, error) {
	l, err := tx.Logins().Get(p.Issuer, p.Subject)
	if err != nil {
		return sallyport.Account{}, err
	}
	a, err := tx.Accounts().Get(l.Account)
	if err != nil {
		return a, err
	}
	if !a.RemovedAt.IsZero() {
		return a, refusal{"the account was removed", "ask an administrator"}
	}
	stops, err := tx.Stops().Standing()
	if slices.ContainsFunc(stops, func(s sallyport.Stop) bool { return s.Kind == sallyport.StopPerson && s.Name == a.ID }) {
		return a, refusal{"the account is stopped", "ask an administrator"}
	}
	return a, err
}

// account returns that of the person, in the teams that their groups put it in. It makes
// one when the rules admit them.
func (d desk) account(ctx context.Context, p sallyport.Proof) (sallyport.Account, error) {
	var a sallyport.Account
	err := d.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		a, err = entitled(tx, p)
		return err
	})
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return d.admit(ctx, p)
	}
	if err != nil {
		return a, err
	}
	teams := d.e.logins.teams(a.Teams, p.Groups)
	if slices.Equal(teams, a.Teams) {
		return a, nil
	}
	if len(teams) > maxTeams {
		return a, refusal{"the groups put the account in too many teams", "ask an administrator"}
	}
	_, err = d.e.amend(ctx, "account.teams", subjectOf("account", a.ID), func(m *matter) error {
		i := slices.IndexFunc(m.accounts, func(b sallyport.Account) bool { return b.ID == a.ID })
		if i < 0 {
			return sallyport.Errorf(sallyport.CodeConflict, "the account went meanwhile")
		}
		m.accounts[i].Teams = teams
		return nil
	}, func(c *change) error { return c.Accounts().SetTeams(a.ID, teams) })
	return a, err
}

// teams are those of a person after a login with the groups, in order.
func (r LoginRules) teams(had, groups []string) []string {
	var out []string
	for _, t := range had {
		if _, ours := r.Teams[t]; !ours {
			out = append(out, t)
		}
	}
	for t, names := range r.Teams {
		if slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(names, g) }) {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// admits says why the person gets no account, "" when they do.
func (r LoginRules) admits(p sallyport.Proof, teams []string) string {
	const unknown = "the person has no account here"
	if r.Admit == nil || r.Admit.EmailDomain == "" && len(r.Admit.Teams) == 0 {
		return unknown
	}
	if want := r.Admit.EmailDomain; want != "" {
		at := strings.LastIndexByte(p.Email, '@')
		if at < 1 || p.Email[at+1:] != want {
			return unknown + ", and no verified e-mail address that would give one"
		}
	}
	if len(r.Admit.Teams) > 0 && !slices.ContainsFunc(r.Admit.Teams, func(t string) bool { return slices.Contains(teams, t) }) {
		return unknown + ", and is in no group that would give one"
	}
	return ""
}

func (d desk) admit(ctx context.Context, p sallyport.Proof) (sallyport.Account, error) {
	teams := d.e.logins.teams(nil, p.Groups)
	if why := d.e.logins.admits(p, teams); why != "" {
		return sallyport.Account{}, refusal{why, "ask an administrator for one: sallyport people add, and people link"}
	}
	if len(teams) > maxTeams {
		return sallyport.Account{}, refusal{"the groups put the account in too many teams", "ask an administrator"}
	}
	a := sallyport.Account{Kind: sallyport.Person, Name: admittedName(p), Teams: teams, CreatedAt: d.e.now()}
	a.ID = string(a.Kind) + "/" + a.Name
	_, err := d.e.amend(ctx, accountAdded, subjectOf("account", a.ID), func(m *matter) error {
		if len(m.accounts) >= maxAccounts {
			return refusal{"there are too many accounts", "ask an administrator"}
		}
		m.accounts = append(m.accounts, a)
		return nil
	}, func(c *change) error {
		if err := c.Accounts().Insert(a); err != nil {
			if sallyport.ErrorCode(err) == sallyport.CodeConflict {
				return refusal{"the account was removed", "ask an administrator"}
			}
			return err
		}
		return c.Logins().Put(sallyport.LoginLink{Issuer: p.Issuer, Subject: p.Subject, Account: a.ID, CreatedAt: c.now})
	})
	return a, err
}

// admittedName is one that people recognise and that nobody can choose: policies that
// name another person never come to mean this one.
func admittedName(p sallyport.Proof) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	sum := sha256.Sum256([]byte(p.Issuer + "\x00" + p.Subject))
	id := base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).EncodeToString(sum[:10])
	label, _, _ := strings.Cut(strings.ToLower(p.Label), "@")
	label = strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, clip(label, 20)), "-")
	if name := label + "-" + id; label != "" && sallyport.ValidName("person", name) == nil {
		return name
	}
	return "login-" + id
}

func (d desk) Refused(ctx context.Context, why string) {
	d.refused(ctx, "login", map[string]any{"why": clip(why, 200)})
}

// refused records a login that was refused, as sparingly as what other strangers try.
func (d desk) refused(ctx context.Context, object string, detail map[string]any) {
	more, now := d.e.strangers.take(d.e.now())
	if !now {
		return
	}
	if more > 0 {
		detail["not_recorded_before"] = more
	}
	err := d.e.update(sallyport.WithPrincipal(context.WithoutCancel(ctx), sallyport.Principal{}), func(c *change) error {
		return c.record(loginRefused, object, detail)
	})
	if err != nil {
		d.e.log.ErrorContext(ctx, "refused login was not recorded", "error", err)
	}
}

// fresh says whether who asks proved lately enough who they are for what is sensitive. A
// session of a one-time link never did: whoever administers makes such links.
func (e *Engine) fresh(ctx context.Context) error {
	if e.logins == nil || e.logins.Fresh == 0 {
		return nil
	}
	p := sallyport.PrincipalFrom(ctx)
	if !p.ProvedAt.IsZero() && e.now().Sub(p.ProvedAt) <= e.logins.Fresh {
		return nil
	}
	return (&sallyport.Error{Code: sallyport.CodeDenied, Message: "this needs a login at the company's provider of the last " + e.logins.Fresh.String(), Err: sallyport.ErrLoginAgain}).
		WithHint("log in again on the pages, and say it there")
}

func (s accounts) LinkLogin(ctx context.Context, id, subject string) error {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return err
	}
	switch {
	case s.e.logins == nil:
		return sallyport.Errorf(sallyport.CodeConflict, "no provider lets people in here").WithHint("name one: sallyport up --oidc FILE")
	case len(subject) > 255:
		return sallyport.Errorf(sallyport.CodeInvalid, "a subject has at most 255 bytes")
	}
	return s.e.update(ctx, func(c *change) error {
		a, err := c.Accounts().Get(id)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound || err == nil && (a.Kind != sallyport.Person || !a.RemovedAt.IsZero()) {
			return sallyport.Errorf(sallyport.CodeNotFound, "there is no person %.80q", id).WithHint("list them with: sallyport people list")
		}
		if err != nil {
			return err
		}
		if subject == "" {
			err = c.Logins().Delete(s.e.logins.Issuer, id)
		} else {
			err = c.Logins().Put(sallyport.LoginLink{Issuer: s.e.logins.Issuer, Subject: subject, Account: id, CreatedAt: c.now})
		}
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			return sallyport.Errorf(sallyport.CodeConflict, "another account is of that person").WithHint("take it from that one first: sallyport people link ID ''")
		}
		if err != nil {
			return err
		}
		list, err := c.Tokens().List()
		if err != nil {
			return err
		}
		for _, t := range list {
			if t.Kind == sallyport.TokenSession && t.Principal.Kind == a.Kind && t.Principal.ID == id {
				if err := c.Tokens().Delete(t.ID); err != nil {
					return err
				}
			}
		}
		c.law = true
		return c.record("account.linked", subjectOf("account", id), map[string]any{"issuer": s.e.logins.Issuer, "subject": subject})
	})
}
