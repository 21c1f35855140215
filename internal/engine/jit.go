package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/policy/rights"
)

// Just-in-time access: a grant lets one principal do one thing for a while. Each
// decision asks the clock whether it still does; the stage revoke only cleans up.

// Revoker takes back what was handed out under a grant and is kept elsewhere.
// Revoke may be called again for what is revoked already, and ends with its context.
type Revoker interface {
	Revoke(ctx context.Context, id string) error
}

const (
	lentToken = "token" // an API token or a login link: ours

	maxGrantTime     = 12 * time.Hour
	maxEmergencyTime = time.Hour
	revokeTime       = 30 * time.Second // for each attempt to take something back
	// alarmEvery is how many failures in a row make an alert.
	alarmEvery    = 3
	revokeForever = 1 << 30
)

// grantable are the actions that may be asked for. To approve, to act in an emergency
// and to ask are not: who may those is for policies to say.
var grantable = []action{actRead, actFetch, actPush, actOperate, actDeploy, actSecrets, actAdmin}

// openGrants returns the grants that may let something, now or later.
func openGrants(tx sallyport.Tx, now time.Time) ([]sallyport.Grant, error) {
	all, err := tx.Grants().Open()
	if err != nil {
		return nil, err
	}
	var out []sallyport.Grant
	for _, g := range all {
		events, err := tx.AccessEvents().Of(subjectOf("grant", g.ID))
		if err != nil {
			return nil, err
		}
		if !g.Fold(events, now).State.Over() {
			out = append(out, g)
		}
	}
	return out, nil
}

func (c *change) grant(id sallyport.GrantID) (sallyport.GrantStatus, error) {
	g, err := c.Grants().Get(id)
	if err != nil {
		return sallyport.GrantStatus{}, err
	}
	events, err := c.AccessEvents().Of(subjectOf("grant", id))
	return g.Fold(events, c.now), err
}

// useGrant records a use. False when the grant lets nothing at this moment, whatever was
// known of it before: of two that use up one grant one does.
func (e *Engine) useGrant(ctx context.Context, id sallyport.GrantID, a action, project sallyport.ProjectID, environment string) (used bool, err error) {
	err = e.update(ctx, func(c *change) error {
		used = false
		st, err := c.grant(id)
		if err != nil || st.State != sallyport.GrantActive {
			return err
		}
		subject := subjectOf("grant", id)
		if err := c.event(sallyport.AccessEvent{Subject: subject, Kind: sallyport.EventUsed, Key: sallyport.UseKey(st.Uses + 1), Word: string(a)}); err != nil {
			return err
		}
		c.law = c.law || st.Grant.Once
		used = true
		return c.record("grant.used", subject, map[string]any{"action": a, "project": project, "environment": environment, "use": st.Uses + 1, "once": st.Grant.Once})
	})
	return used && err == nil, err
}

// lend notes that something was handed out under a grant.
func (c *change) lend(id sallyport.GrantID, kind, what string) error {
	st, err := c.grant(id)
	if err != nil {
		return err
	}
	// One that was good once is used by this very call.
	if st.State != sallyport.GrantActive && st.State != sallyport.GrantUsed {
		return sallyport.Errorf(sallyport.CodeDenied, "the grant is %s", st.State)
	}
	return c.event(sallyport.AccessEvent{Subject: subjectOf("grant", id), Kind: sallyport.EventLent, Key: what, Word: kind})
}

// lapsed reports whether what was handed out under a grant must be taken back: its time
// is over, or it was revoked. One that is used up keeps what its use handed out till then.
func lapsed(st sallyport.GrantStatus, now time.Time) bool {
	return st.State == sallyport.GrantRevoked || !now.Before(st.Grant.EndsAt)
}

func (c *change) revokeAt(id sallyport.GrantID, why string, at time.Time) error {
	return c.enqueueAs(sallyport.QueueRevoke, string(id)+"/"+why, subjectOf("grant", id), nil, at, revokeForever)
}

// place finds the project and the environment that a resource is.
func (e *Engine) place(ctx context.Context, resource string) (rights.UID, sallyport.ProjectID, string, error) {
	u, err := rights.ParseUID(resource)
	if err != nil {
		return u, "", "", err
	}
	name, environment, _ := strings.Cut(string(u.ID), "/")
	switch string(u.Type) {
	case rights.TypeInstance:
		if u == rights.TheInstance() {
			return u, "", "", nil
		}
	case rights.TypeProject, rights.TypeEnvironment:
		if (environment != "") != (string(u.Type) == rights.TypeEnvironment) || environment != strings.ToLower(environment) {
			break
		}
		var p sallyport.Project
		err := e.view(ctx, func(tx sallyport.Tx) (err error) {
			p, err = tx.Projects().ByName(name)
			return err
		})
		return u, p.ID, environment, err
	}
	return u, "", "", sallyport.Errorf(sallyport.CodeInvalid, "access to %.200s cannot be asked for", u).
		WithHint(`name a project or one of its environments, as in Environment::"shop/production", or Instance::"instance"`)
}

func (s approvals) Ask(ctx context.Context, a sallyport.AccessAsk) (sallyport.RequestStatus, error) {
	var none sallyport.RequestStatus
	if err := s.e.allow(ctx, actRequest, ""); err != nil {
		return none, err
	}
	limit := maxGrantTime
	if a.Emergency {
		limit = maxEmergencyTime
	}
	switch {
	case !slices.Contains(grantable, action(a.Action)):
		return none, sallyport.Errorf(sallyport.CodeInvalid, "%.40q cannot be asked for", a.Action).WithHint("use one of %v", grantable)
	case a.For < time.Minute || a.For > limit:
		return none, sallyport.Errorf(sallyport.CodeInvalid, "access is for a minute to %s", limit)
	case strings.TrimSpace(a.Why) == "" || len(a.Why) > maxNote:
		return none, sallyport.Errorf(sallyport.CodeInvalid, "say why, in at most %d bytes", maxNote)
	case len(a.Hours) > 20:
		return none, sallyport.Errorf(sallyport.CodeInvalid, "at most 20 windows of hours")
	}
	for i, w := range a.Hours {
		var err error
		if a.Hours[i], err = sallyport.ParseWindow(string(w)); err != nil {
			return none, err
		}
	}
	what, project, environment, err := s.e.place(ctx, a.Resource)
	if err != nil {
		return none, err
	}
	if action(a.Action) == actAdmin && project != "" {
		return none, sallyport.Errorf(sallyport.CodeInvalid, "one administers the installation: ask for Instance::%q", "instance")
	}
	who := sallyport.PrincipalFrom(ctx)
	if a.Emergency {
		if who.Kind != sallyport.Person {
			return none, sallyport.Errorf(sallyport.CodeDenied, "only people act in an emergency")
		}
		if err := s.e.allowIn(ctx, actEmergency, project, environment); err != nil {
			return none, err
		}
	}
	r := sallyport.AccessRequest{
		Kind: sallyport.RequestAccess, Project: project, Environment: environment, By: sallyport.PartyOf(who), Why: a.Why, Action: a.Action, Resource: what.String(),
		For: a.For, Once: a.Once, Emergency: a.Emergency, Hours: a.Hours, Needed: 1,
	}
	if environment != "" {
		rules, err := s.e.entryRules(ctx, project, environment)
		if err != nil {
			return none, err
		}
		r.Needed, r.Reviewers = max(1, rules.Votes()), rules.Reviewers
		if !a.Emergency {
			r.Hours = append(slices.Clone(r.Hours), rules.Hours...)
			if len(a.Hours) > 0 && len(rules.Hours) > 0 {
				return none, sallyport.Errorf(sallyport.CodeInvalid, "environment %s has hours of its own: %s", environment, rules.Hours).WithHint("ask without hours")
			}
		}
	}
	l, err := s.e.law(ctx)
	if err != nil {
		return none, err
	}
	if ok, _ := l.may(sallyport.Principal{Kind: who.Kind, ID: who.ID, Whole: true}, action(a.Action), project, environment, s.e.now()); ok {
		return none, sallyport.Errorf(sallyport.CodeConflict, "%s may %s there already", who, a.Action)
	}
	var id sallyport.RequestID
	err = s.e.update(ctx, func(c *change) error {
		sponsors, err := sponsorsOf(c.Tx)
		if err != nil {
			return err
		}
		ask := r
		if sponsor := sponsors[who.ID]; sponsor != "" {
			ask.Involved = []sallyport.Involved{{ID: sponsor, How: "sponsors " + who.String() + ", which asks"}}
		}
		if ask.Bound.Policy, err = c.policyNow(); err != nil {
			return err
		}
		if known, err := c.asked(ask); err != nil || known != "" {
			id = known
			return err
		}
		if a.Emergency {
			id, err = c.breakGlass(ask)
			return err
		}
		made, err := c.openRequest(ask)
		id = made.ID
		return err
	})
	if err != nil {
		return none, err
	}
	err = s.e.view(ctx, func(tx sallyport.Tx) error {
		made, err := tx.Requests().Get(id)
		if err != nil {
			return err
		}
		none, err = standing(tx, made, s.e.now())
		return err
	})
	return none, err
}

// entryRules are what the protected branch declares now.
func (e *Engine) entryRules(ctx context.Context, p sallyport.ProjectID, environment string) (sallyport.EntryRules, error) {
	project, err := e.project(ctx, p)
	if err != nil {
		return sallyport.EntryRules{}, err
	}
	refs, err := e.repos.Refs(ctx, p)
	if err != nil {
		return sallyport.EntryRules{}, err
	}
	commit := refs[project.DefaultRef()]
	if commit == "" {
		return sallyport.EntryRules{}, nil
	}
	specs, err := e.environments(ctx, p, commit)
	for _, s := range specs {
		if strings.EqualFold(s.Name, environment) {
			return s.EntryRules, err
		}
	}
	return sallyport.EntryRules{}, err
}

// asked finds a request for the same that is open, and refuses one for what a grant
// lets already.
func (c *change) asked(r sallyport.AccessRequest) (sallyport.RequestID, error) {
	same := func(by sallyport.Party, what, on string) bool {
		return by.Kind == r.By.Kind && by.ID == r.By.ID && what == r.Action && on == r.Resource
	}
	live, err := openGrants(c.Tx, c.now)
	if err != nil {
		return "", err
	}
	for _, g := range live {
		if same(g.Holder, g.Action, g.Resource) {
			return "", sallyport.Errorf(sallyport.CodeConflict, "grant %s lets it until %s", g.ID, g.EndsAt.Format(time.RFC3339)).WithHint("use that, or revoke it first")
		}
	}
	open, err := c.Requests().Open()
	if err != nil {
		return "", err
	}
	n := 0
	for _, o := range open {
		if o.Kind == sallyport.RequestReview && r.Emergency && o.By.ID == r.By.ID && !c.now.Before(o.ExpiresAt) {
			return "", sallyport.Errorf(sallyport.CodeDenied, "what %s did in an emergency before has not been looked at", o.By).WithHint("have somebody review it: sallyport approvals show %s", o.ID)
		}
		if o.Kind != sallyport.RequestAccess || o.By.ID != r.By.ID {
			continue
		}
		st, err := standing(c.Tx, o, c.now)
		if err != nil {
			return "", err
		}
		if !st.State.Open() {
			continue
		}
		if n++; n >= maxOpenAsks {
			return "", sallyport.Errorf(sallyport.CodeConflict, "%s has %d requests that are open", r.By, n).WithHint("withdraw some")
		}
		if same(o.By, o.Action, o.Resource) && o.For == r.For && o.Once == r.Once && !r.Emergency {
			return o.ID, nil
		}
	}
	return "", nil
}

// maxOpenAsks bounds what one may put before the others at once.
const maxOpenAsks = 20

// breakGlass lets it at once, and has others look at it within a day.
func (c *change) breakGlass(r sallyport.AccessRequest) (sallyport.RequestID, error) {
	a, err := c.Accounts().Get(c.who.ID)
	if err != nil || !a.RemovedAt.IsZero() || a.Kind != sallyport.Person {
		return "", sallyport.Errorf(sallyport.CodeDenied, "whoever acts in an emergency is a person with an account")
	}
	review := sallyport.AccessRequest{
		Kind: sallyport.RequestReview, Project: r.Project, Environment: r.Environment, By: r.By, Why: r.Why, Action: r.Action, Resource: r.Resource, For: r.For,
		Emergency: true, Needed: 1, Reviewers: r.Reviewers, Bound: r.Bound, ExpiresAt: c.now.Add(reviewLife),
	}
	r.Needed, r.Reviewers = 0, nil
	made, err := c.openRequest(r)
	if err != nil {
		return "", err
	}
	g, err := c.activate(made)
	if err != nil {
		return "", err
	}
	review.Subject = subjectOf("grant", g.ID)
	if review, err = c.openRequest(review); err != nil {
		return "", err
	}
	return made.ID, c.record("alert.break_glass", subjectOf("grant", g.ID), map[string]any{
		"by": r.By.String(), "action": r.Action, "resource": r.Resource, "why": r.Why, "until": g.EndsAt, "review": review.ID, "review_until": review.ExpiresAt,
	})
}

// activate begins the time of a request that was approved.
func (c *change) activate(r sallyport.AccessRequest) (sallyport.Grant, error) {
	g := sallyport.Grant{
		ID: newID[sallyport.GrantID](c), Request: r.ID, Holder: r.By, Action: r.Action, Resource: r.Resource, Project: r.Project, Environment: r.Environment,
		Once: r.Once, Emergency: r.Emergency, Hours: r.Hours, StartsAt: c.now, EndsAt: c.now.Add(r.For),
	}
	if err := c.Grants().Insert(g); err != nil {
		return g, err
	}
	if err := c.endRequest(r, sallyport.RequestDone, "activated", g.ID); err != nil {
		return g, err
	}
	c.law = true
	if err := c.revokeAt(g.ID, "ends", g.EndsAt); err != nil {
		return g, err
	}
	return g, c.record("grant.activated", subjectOf("grant", g.ID), map[string]any{
		"holder": g.Holder.String(), "action": g.Action, "resource": g.Resource, "until": g.EndsAt, "once": g.Once, "request": r.ID, "emergency": g.Emergency,
	})
}

func (s approvals) Activate(ctx context.Context, id sallyport.RequestID) (sallyport.GrantStatus, error) {
	r, err := s.find(ctx, actRead, id)
	if err != nil {
		return sallyport.GrantStatus{}, err
	}
	if who := sallyport.PrincipalFrom(ctx); r.Kind != sallyport.RequestAccess || who.ID != r.By.ID || who.Kind != r.By.Kind {
		return sallyport.GrantStatus{}, sallyport.Errorf(sallyport.CodeDenied, "who asked for access activates it")
	}
	var out sallyport.GrantStatus
	var refused error
	err = s.e.update(ctx, func(c *change) error {
		refused = nil
		st, err := c.status(id)
		if err != nil {
			return err
		}
		switch st.State {
		case sallyport.RequestApproved:
		case sallyport.RequestPending:
			return sallyport.Errorf(sallyport.CodeConflict, "%d of %d have approved it so far", st.Approvals(), r.Needed)
		default:
			return sallyport.Errorf(sallyport.CodeConflict, "the request is %s", st.State)
		}
		if !r.Hours.Cover(c.now) {
			return sallyport.Errorf(sallyport.CodeConflict, "it is outside the hours %s", r.Hours).WithHint("activate it from %s on", r.Hours.Next(c.now).Format(time.RFC3339))
		}
		if what, err := s.e.changed(c, r); err != nil || what != "" {
			if err == nil {
				refused = sallyport.Errorf(sallyport.CodeConflict, "%s changed: the approval is void", what).WithHint("ask again")
				err = s.e.void(c, r, what+" changed")
			}
			return err
		}
		g, err := c.activate(r)
		if err != nil {
			return err
		}
		out, err = c.grant(g.ID)
		return err
	})
	if err == nil {
		err = refused
	}
	return out, err
}

func (s approvals) Grants(ctx context.Context, page sallyport.Page) ([]sallyport.GrantStatus, error) {
	if err := s.e.allow(ctx, actInstance, ""); err != nil {
		return nil, err
	}
	who := sallyport.PrincipalFrom(ctx)
	l, err := s.e.lawFor(ctx, who)
	if err != nil {
		return nil, err
	}
	now := s.e.now()
	all, _ := l.may(who, actAdmin, "", "", now)
	var out []sallyport.GrantStatus
	page = bound(page)
	err = s.e.view(ctx, func(tx sallyport.Tx) error {
		list, err := tx.Grants().List(page)
		if err != nil {
			return err
		}
		for _, g := range list {
			if !all && (g.Holder.ID != who.ID || g.Holder.Kind != who.Kind) {
				continue
			}
			events, err := tx.AccessEvents().Of(subjectOf("grant", g.ID))
			if err != nil {
				return err
			}
			st := g.Fold(events, now)
			if g.Emergency {
				about, err := tx.Requests().About(subjectOf("grant", g.ID))
				if err != nil {
					return err
				}
				for _, r := range about {
					st.Review = r.ID
				}
			}
			out = append(out, st)
		}
		return nil
	})
	return out, err
}

func (s approvals) Revoke(ctx context.Context, id sallyport.GrantID, why string) error {
	var g sallyport.Grant
	found := s.e.view(ctx, func(tx sallyport.Tx) (err error) {
		g, err = tx.Grants().Get(id)
		return err
	})
	need := actAdmin
	if who := sallyport.PrincipalFrom(ctx); found == nil && who.Kind != sallyport.Nobody && who.Kind == g.Holder.Kind && who.ID == g.Holder.ID {
		need = actRequest
	}
	if err := s.e.allow(ctx, need, ""); err != nil {
		return err
	}
	if found != nil {
		return found
	}
	if len(why) > maxNote {
		return sallyport.Errorf(sallyport.CodeInvalid, "say why in at most %d bytes", maxNote)
	}
	return s.e.update(ctx, func(c *change) error {
		st, err := c.grant(id)
		if err != nil {
			return err
		}
		if st.State.Over() {
			return sallyport.Errorf(sallyport.CodeConflict, "the grant is %s", st.State)
		}
		return c.endGrant(st.Grant, "revoked by "+c.actor+orColon(why))
	})
}

func orColon(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// endGrant ends a grant that is not over. What it lent is taken back.
func (c *change) endGrant(g sallyport.Grant, why string) error {
	subject := subjectOf("grant", g.ID)
	if err := c.event(sallyport.AccessEvent{Subject: subject, Kind: sallyport.EventEnded, Note: why}); err != nil {
		return err
	}
	c.law = true
	if err := c.takeTokens(g.ID); err != nil {
		return err
	}
	if err := c.revokeAt(g.ID, "revoked", c.now); err != nil {
		return err
	}
	return c.record("grant.revoked", subject, map[string]any{"holder": g.Holder.String(), "action": g.Action, "resource": g.Resource, "why": why})
}

// takeTokens burns what of the lent is ours.
func (c *change) takeTokens(id sallyport.GrantID) error {
	st, err := c.grant(id)
	if err != nil {
		return err
	}
	for _, l := range st.Lent {
		if l.Kind != lentToken || l.Taken {
			continue
		}
		if err := c.Tokens().Delete(sallyport.TokenID(l.ID)); err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			return err
		}
		if err := c.taken(id, l); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) taken(id sallyport.GrantID, l sallyport.Lent) error {
	c.law = true
	subject := subjectOf("grant", id)
	if err := c.event(sallyport.AccessEvent{Subject: subject, Kind: sallyport.EventTaken, Key: l.ID}); err != nil {
		return err
	}
	return c.record("grant.taken_back", subject, map[string]any{"kind": l.Kind, "id": l.ID})
}

// revoke is the stage that cleans up after a grant: it takes back what was handed out
// under it, and asks again until whoever keeps it has said that it is gone. Each
// step is recorded by itself, and may be done twice.
func (e *Engine) revoke(ctx context.Context, w sallyport.Work) error {
	id := sallyport.GrantID(strings.TrimPrefix(w.Subject, "grant/"))
	var st sallyport.GrantStatus
	over := false
	if err := e.update(ctx, func(c *change) error {
		var err error
		over = false
		if st, err = c.grant(id); err != nil || !lapsed(st, c.now) {
			return err
		}
		over = true
		return c.takeTokens(id)
	}); err != nil {
		return err
	}
	if !over { // it is too early: the clock went back
		return e.finish(ctx, w, func(c *change) error {
			if st, err := c.grant(id); err != nil || lapsed(st, c.now) {
				return errors.Join(err, errTooEarly)
			}
			return c.revokeAt(id, "ends/"+c.now.Format(time.RFC3339Nano), st.Grant.EndsAt)
		})
	}
	var failed error
	for _, l := range st.Lent {
		if l.Taken || l.Kind == lentToken {
			continue
		}
		err := e.takeBack(ctx, l)
		if err := e.update(ctx, func(c *change) error { return c.answered(id, l, err) }); err != nil {
			return err
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return sallyport.Errorf(sallyport.CodeUnavailable, "take back what grant %s lent: %v", id, failed)
	}
	return e.finish(ctx, w, func(c *change) error {
		st, err := c.grant(id)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(st.Lent, func(l sallyport.Lent) bool { return !l.Taken }) {
			return errTooEarly
		}
		c.law = true
		err = c.event(sallyport.AccessEvent{Subject: subjectOf("grant", id), Kind: sallyport.EventClosed})
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			return nil // by other work about it
		}
		if err != nil {
			return err
		}
		return c.record("grant.closed", subjectOf("grant", id), map[string]any{"state": st.State, "uses": st.Uses, "lent": len(st.Lent)})
	})
}

var errTooEarly = sallyport.Errorf(sallyport.CodeUnavailable, "the grant changed meanwhile")

// takeBack asks whoever keeps what was lent.
func (e *Engine) takeBack(ctx context.Context, l sallyport.Lent) error {
	r := e.revokers[l.Kind]
	if r == nil {
		return fmt.Errorf("nobody here can take back a %s", l.Kind)
	}
	ctx, cancel := context.WithTimeout(ctx, e.revokeTime)
	defer cancel()
	return r.Revoke(ctx, l.ID)
}

// answered keeps what came of an attempt to take something back.
func (c *change) answered(id sallyport.GrantID, l sallyport.Lent, failure error) error {
	st, err := c.grant(id)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(st.Lent, func(o sallyport.Lent) bool { return o.ID == l.ID })
	if i < 0 || st.Lent[i].Taken {
		return nil
	}
	if failure == nil {
		return c.taken(id, l)
	}
	subject, n := subjectOf("grant", id), st.Lent[i].Missed+1
	if err := c.event(sallyport.AccessEvent{Subject: subject, Kind: sallyport.EventMissed, Key: fmt.Sprintf("%s/%d", l.ID, n), Word: l.ID, Note: userText(failure)}); err != nil {
		return err
	}
	if n%alarmEvery != 0 {
		return nil
	}
	return c.record("alert.not_taken_back", subject, map[string]any{"kind": l.Kind, "id": l.ID, "attempts": n, "cause": userText(failure)})
}

// revokeFailed is for what is not a grant: all others are tried for ever.
func (e *Engine) revokeFailed(ctx context.Context, w sallyport.Work, cause error) error {
	return e.finish(ctx, w, func(c *change) error {
		return c.record("alert.not_taken_back", w.Subject, map[string]string{"cause": userText(cause)})
	})
}

// reviewed ends the review of what was done in an emergency. A no ends the grant too.
func (e *Engine) reviewed(c *change, st sallyport.RequestStatus) error {
	_, id, _ := strings.Cut(st.Request.Subject, "/")
	if st.State == sallyport.RequestApproved {
		return c.endRequest(st.Request, sallyport.RequestDone, "looked at", "")
	}
	if err := c.endRequest(st.Request, st.State, st.Why, ""); err != nil {
		return err
	}
	g, err := c.grant(sallyport.GrantID(id))
	if err != nil {
		return err
	}
	if !g.State.Over() {
		if err := c.endGrant(g.Grant, st.Why); err != nil {
			return err
		}
	}
	return c.record("alert.break_glass_rejected", subjectOf("grant", id), map[string]any{"review": st.Request.ID, "why": st.Why})
}

// unreviewed raises the alarm when nobody looked in time, once. The review stays open.
func (e *Engine) unreviewed(c *change, st sallyport.RequestStatus) error {
	subject := subjectOf("request", st.Request.ID)
	err := c.event(sallyport.AccessEvent{Subject: subject, Kind: sallyport.EventMissed, Key: "overdue"})
	if sallyport.ErrorCode(err) == sallyport.CodeConflict {
		return nil
	}
	if err != nil {
		return err
	}
	_, id, _ := strings.Cut(st.Request.Subject, "/")
	g, err := c.grant(sallyport.GrantID(id))
	if err != nil {
		return err
	}
	if !g.State.Over() {
		if err := c.endGrant(g.Grant, "nobody looked at it in time"); err != nil {
			return err
		}
	}
	return c.record("alert.break_glass_unreviewed", subjectOf("grant", id), map[string]any{"review": st.Request.ID, "by": st.Request.By.String()})
}

// letting tells what the request would newly let.
func (e *Engine) letting(ctx context.Context, r sallyport.AccessRequest) (sallyport.AccessChange, error) {
	m, err := e.matter(ctx)
	if err != nil {
		return sallyport.AccessChange{}, err
	}
	now := e.now()
	change, _, err := e.proposed(ctx, m, func(m *matter) error {
		m.jit = append(m.jit, sallyport.Grant{ID: "asked", Holder: r.By, Action: r.Action, Resource: r.Resource, StartsAt: now, EndsAt: now.Add(r.For)})
		return nil
	})
	return change, err
}

// alarms are emergencies that nobody looked at in time, and what could not be taken back.
func alarms(tx sallyport.Tx, now time.Time) (out []string, err error) {
	open, err := tx.Requests().Open()
	if err != nil {
		return nil, err
	}
	for _, r := range open {
		if r.Kind == sallyport.RequestReview && !now.Before(r.ExpiresAt) {
			out = append(out, fmt.Sprintf("nobody has looked at what %s did in an emergency: sallyport approvals show %s", r.By, r.ID))
		}
	}
	grants, err := tx.Grants().Open()
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		events, err := tx.AccessEvents().Of(subjectOf("grant", g.ID))
		if err != nil {
			return nil, err
		}
		for _, l := range g.Fold(events, now).Lent {
			if !l.Taken && l.Missed >= alarmEvery {
				out = append(out, fmt.Sprintf("%s %s, lent under grant %s, could not be taken back: %s", l.Kind, l.ID, g.ID, l.Error))
			}
		}
	}
	return out, nil
}
