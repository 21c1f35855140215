package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/policy/rights"
)

// accounts implements sallyport.Rights.
type accounts struct{ e *Engine }

// Bounds of accounts. The law is made from all of them.
const (
	maxAccounts     = 20_000
	maxTeams        = 50
	maxGranted      = 200
	maxTold         = 50 // of a change, in the trail
	maxEntityName   = 300
	accessObject    = "instance"
	accessChanged   = "access.changed"
	accountAdded    = "account.added"
	accountRemoved  = "account.removed"
	lockoutHint     = "leave at least one person a permit to administer that no forbid meets"
	accessCheckHint = "find them with: sallyport access check FILE"
)

func (s accounts) Accounts(ctx context.Context) ([]sallyport.Account, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return nil, err
	}
	l, err := s.e.law(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(l.accounts), nil
}

func (s accounts) AddAccount(ctx context.Context, a sallyport.Account) (sallyport.Account, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return sallyport.Account{}, err
	}
	if err := validAccount(a); err != nil {
		return sallyport.Account{}, err
	}
	a.ID, a.CreatedAt, a.RemovedAt = string(a.Kind)+"/"+a.Name, s.e.now(), time.Time{}
	_, err := s.e.amend(ctx, accountAdded, "account/"+a.ID, func(m *matter) error {
		if len(m.accounts) >= maxAccounts {
			return sallyport.Errorf(sallyport.CodeConflict, "there are %d accounts already", maxAccounts)
		}
		for _, p := range a.Projects {
			if !slices.ContainsFunc(m.projects, func(known sallyport.Project) bool { return known.ID == p }) {
				return sallyport.Errorf(sallyport.CodeNotFound, "there is no project %.80q", p)
			}
		}
		if a.Kind == sallyport.Agent && !slices.ContainsFunc(m.everybody(), func(b sallyport.Account) bool { return b.Kind == sallyport.Person && b.ID == a.Sponsor }) {
			return sallyport.Errorf(sallyport.CodeNotFound, "there is no person %.80q to sponsor the agent", a.Sponsor).WithHint("add them first: sallyport people add NAME")
		}
		m.accounts = append(m.accounts, a)
		return nil
	}, func(c *change) error {
		err := c.Accounts().Insert(a)
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			return sallyport.Errorf(sallyport.CodeConflict, "%s exists, or did; an id is not given twice", a.ID).WithHint("choose another name")
		}
		return err
	})
	return a, err
}

func validAccount(a sallyport.Account) error {
	switch a.Kind {
	case sallyport.Person, sallyport.Bot, sallyport.Agent:
	default:
		return sallyport.Errorf(sallyport.CodeInvalid, "%.40q has no accounts", a.Kind).WithHint("use person, bot or agent")
	}
	if err := sallyport.ValidName(string(a.Kind), a.Name); err != nil {
		return err
	}
	switch {
	case (a.Kind == sallyport.Agent) != (a.Sponsor != ""):
		return sallyport.Errorf(sallyport.CodeInvalid, "an agent has a person who sponsors it, and nobody else has")
	case a.Kind == sallyport.Agent && a.Admin:
		return sallyport.Errorf(sallyport.CodeInvalid, "an agent administers nothing")
	case a.Kind != sallyport.Person && len(a.Teams) > 0:
		return sallyport.Errorf(sallyport.CodeInvalid, "teams are of people")
	case len(a.Teams) > maxTeams || len(a.Projects) > maxGranted:
		return sallyport.Errorf(sallyport.CodeInvalid, "an account has at most %d teams and %d projects", maxTeams, maxGranted)
	}
	for _, t := range a.Teams {
		if err := sallyport.ValidName("team", t); err != nil {
			return err
		}
	}
	return nil
}

func (s accounts) RemoveAccount(ctx context.Context, id string) error {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return err
	}
	var gone sallyport.Account
	_, err := s.e.amend(ctx, accountRemoved, "account/"+clip(id, 100), func(m *matter) error {
		i := slices.IndexFunc(m.accounts, func(a sallyport.Account) bool { return a.ID == id && a.RemovedAt.IsZero() })
		if i < 0 {
			return sallyport.Errorf(sallyport.CodeNotFound, "there is no account %.80q", id).WithHint("list them with: sallyport people list")
		}
		if j := slices.IndexFunc(m.accounts, func(a sallyport.Account) bool { return a.Sponsor == id && a.RemovedAt.IsZero() }); j >= 0 {
			return sallyport.Errorf(sallyport.CodeConflict, "%s sponsors %s", id, m.accounts[j].ID).WithHint("remove the agent first")
		}
		gone = m.accounts[i]
		m.accounts[i].RemovedAt = s.e.now()
		return nil
	}, func(c *change) error {
		if err := c.Accounts().Remove(id, c.now); err != nil {
			return err
		}
		list, err := c.Tokens().List()
		if err != nil {
			return err
		}
		for _, t := range list {
			if t.Principal.Kind == gone.Kind && t.Principal.ID == id {
				if err := c.Tokens().Delete(t.ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return err
}

func (s accounts) AccessRules(ctx context.Context) (sallyport.AccessRules, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return sallyport.AccessRules{}, err
	}
	l, err := s.e.law(ctx)
	if err != nil {
		return sallyport.AccessRules{}, err
	}
	out := sallyport.AccessRules{Digest: l.set.Digest(), File: l.file}
	for _, p := range l.set.Policies() {
		out.Rules = append(out.Rules, sallyport.AccessRule(p))
	}
	return out, nil
}

func (s accounts) WhoCan(ctx context.Context, action, resource string) ([]sallyport.Holder, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return nil, err
	}
	what, err := rights.ParseUID(resource)
	if err != nil {
		return nil, err
	}
	l, err := s.e.law(ctx)
	if err != nil {
		return nil, err
	}
	list, err := l.set.WhoCan(ctx, l.world, rights.Action(clip(action, maxEntityName)), what)
	if err != nil {
		return nil, err
	}
	out := make([]sallyport.Holder, len(list))
	for i, h := range list {
		out[i] = sallyport.Holder{Principal: h.Principal.String(), Always: h.Always}
	}
	return out, nil
}

func (s accounts) CompareRules(ctx context.Context, source string) (sallyport.AccessChange, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return sallyport.AccessChange{}, err
	}
	m, err := s.e.matter(ctx)
	if err != nil {
		return sallyport.AccessChange{}, err
	}
	change, _, err := s.e.proposed(ctx, m, func(m *matter) error { return setFile(m, source) })
	return change, err
}

func setFile(m *matter, source string) error {
	if len(source) > rights.MaxSource {
		return sallyport.Errorf(sallyport.CodeInvalid, "the policies are larger than %d bytes", rights.MaxSource)
	}
	m.file.Source, m.file.Digest = source, sallyport.DigestOf([]byte(source))
	return nil
}

func (s accounts) SetRules(ctx context.Context, source string) (sallyport.AccessChange, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return sallyport.AccessChange{}, err
	}
	return s.e.amend(ctx, accessChanged, accessObject, func(m *matter) error { return setFile(m, source) }, func(c *change) error {
		return c.AccessFiles().Put(sallyport.AccessFile{Digest: sallyport.DigestOf([]byte(source)), Source: source, Actor: c.actor, At: c.now})
	})
}

// proposed says what the law would be after a change of what it is made from, and
// what would be different. It refuses policies that are not valid or wider than a
// permit may be, and a law under which nobody could change it again.
func (e *Engine) proposed(ctx context.Context, m *matter, alter func(*matter) error) (sallyport.AccessChange, *law, error) {
	var out sallyport.AccessChange
	before, err := m.enact()
	if err != nil {
		if before, err = m.emergency(err); err != nil {
			return out, nil, err
		}
	}
	next := *m
	next.accounts, next.jit, next.stops = slices.Clone(m.accounts), slices.Clone(m.jit), slices.Clone(m.stops)
	if err := alter(&next); err != nil {
		return out, nil, err
	}
	after, err := next.enact()
	var found rights.Findings
	if errors.As(err, &found) {
		return out, nil, sallyport.Errorf(sallyport.CodeInvalid, "the policies are refused:\n%s", found.Error()).WithHint(accessCheckHint)
	}
	if err != nil {
		return out, nil, err
	}
	if err := after.set.KeepsAnAdministrator(after.world); err != nil {
		return out, nil, sallyport.Errorf(sallyport.CodeConflict, "%s", err.Error()).WithHint(lockoutHint)
	}
	d, err := rights.Compare(ctx, before.set, before.world, after.set, after.world)
	if err != nil {
		return out, nil, fmt.Errorf("compare policies: %w", err)
	}
	return sallyport.AccessChange{From: before.set.Digest(), To: after.set.Digest(), Gained: reaches(d.Gained), Lost: reaches(d.Lost), More: d.More, Asked: d.Asked}, after, nil
}

func reaches(list []rights.Reach) []sallyport.Reach {
	var out []sallyport.Reach
	for _, r := range list {
		out = append(out, sallyport.Reach{Principal: r.Principal.String(), Action: string(r.Action.ID), Resource: r.Resource.String()})
	}
	return out
}

// amend changes what the law is made from, in one transaction with the record of
// what the change lets. What it was judged by must still be so then.
func (e *Engine) amend(ctx context.Context, action, object string, alter func(*matter) error, save func(*change) error) (sallyport.AccessChange, error) {
	m, err := e.matter(ctx)
	if err != nil {
		return sallyport.AccessChange{}, err
	}
	told, _, err := e.proposed(ctx, m, alter)
	if err != nil {
		return told, err
	}
	err = e.update(ctx, func(c *change) error {
		now := &matter{known: e.known}
		if err := now.read(c.Tx, c.now); err != nil {
			return err
		}
		if !m.same(now) {
			return sallyport.Errorf(sallyport.CodeConflict, "who may do what was changed meanwhile").WithHint("look at it, and try again")
		}
		c.law = true
		if err := save(c); err != nil {
			return err
		}
		detail := told
		detail.More += max(0, len(told.Gained)-maxTold) + max(0, len(told.Lost)-maxTold)
		detail.Gained, detail.Lost = told.Gained[:min(len(told.Gained), maxTold)], told.Lost[:min(len(told.Lost), maxTold)]
		return c.record(action, object, detail)
	})
	return told, err
}

// same reports whether the law made from both is the same.
func (m *matter) same(other *matter) bool {
	accounts := slices.EqualFunc(m.accounts, other.accounts, func(a, b sallyport.Account) bool {
		return a.ID == b.ID && a.RemovedAt.Equal(b.RemovedAt) && slices.Equal(a.Teams, b.Teams)
	})
	jit := slices.EqualFunc(m.jit, other.jit, func(a, b sallyport.Grant) bool { return a.ID == b.ID })
	stops := slices.EqualFunc(m.stops, other.stops, func(a, b sallyport.Stop) bool { return a.ID == b.ID })
	return accounts && jit && stops && m.file.Digest == other.file.Digest
}
