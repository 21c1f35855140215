package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/policy"
)

// approvals implements sallyport.Approvals.
type approvals struct{ e *Engine }

// AssertionVerifier checks what a person signed with a key of their own, such as a
// passkey: challenge is the digest of the request that they voted on. Without one no
// signature is taken, so that none is kept that nobody checked.
type AssertionVerifier interface {
	VerifyAssertion(ctx context.Context, person string, challenge sallyport.Digest, assertion []byte) error
}

const (
	requestLife  = 7 * 24 * time.Hour // of one that nobody answers
	reviewLife   = 24 * time.Hour     // to look at what was done in an emergency
	maxNote      = 500
	maxAssertion = 64 << 10
	maxInvolved  = 1000 // names in the commits that a request is about
	maxPushes    = 200  // that are looked at one by one
	maxShown     = 100  // paths, authors, people
	// admitAttempts: what waits for people is not given up because git was away.
	admitAttempts = 20
)

func subjectOf[T ~string](noun string, id T) string { return noun + "/" + string(id) }

// standing returns a request as it stands.
func standing(tx sallyport.Tx, r sallyport.AccessRequest, now time.Time) (sallyport.RequestStatus, error) {
	events, err := tx.AccessEvents().Of(subjectOf("request", r.ID))
	return r.Fold(events, now), err
}

func (c *change) status(id sallyport.RequestID) (sallyport.RequestStatus, error) {
	r, err := c.Requests().Get(id)
	if err != nil {
		return sallyport.RequestStatus{}, err
	}
	return standing(c.Tx, r, c.now)
}

// current returns the newest request about something; CodeNotFound when there is none.
func (c *change) current(subject string) (sallyport.RequestStatus, error) {
	list, err := c.Requests().About(subject)
	if err != nil {
		return sallyport.RequestStatus{}, err
	}
	if len(list) == 0 {
		return sallyport.RequestStatus{}, sallyport.Errorf(sallyport.CodeNotFound, "there is no request about %s", subject)
	}
	return standing(c.Tx, list[0], c.now)
}

// event adds what happened.
func (c *change) event(e sallyport.AccessEvent) error {
	e.At, e.By = c.now, c.who
	e.Note = clip(e.Note, 1000)
	return c.AccessEvents().Append(e)
}

// openRequest keeps a request, and sees to it that the clock is not forgotten.
func (c *change) openRequest(r sallyport.AccessRequest) (sallyport.AccessRequest, error) {
	r.ID, r.CreatedAt = newID[sallyport.RequestID](c), c.now
	if r.ExpiresAt.IsZero() {
		r.ExpiresAt = c.now.Add(requestLife)
	}
	if err := c.Requests().Insert(r); err != nil {
		return r, err
	}
	c.Touch(topicRequests)
	if err := c.record("approval.requested", subjectOf("request", r.ID), map[string]any{
		"kind": r.Kind, "project": r.Project, "environment": r.Environment, "about": r.Subject, "by": r.By.String(), "needed": r.Needed, "bound": r.Bound,
		"digest": r.Digest(), "action": r.Action, "resource": r.Resource, "for": r.For.String(), "expires": r.ExpiresAt,
	}); err != nil {
		return r, err
	}
	if err := c.again(r, "expiry", r.ExpiresAt); err != nil {
		return r, err
	}
	if r.Kind == sallyport.RequestJob || r.Kind == sallyport.RequestRelease {
		return r, c.alarm(r)
	}
	return r, nil
}

// alarm has the request looked at when its timer or its hours let it through.
func (c *change) alarm(r sallyport.AccessRequest) error {
	at := r.Opens(c.now)
	if at.IsZero() || !at.After(c.now) && r.Needed > 0 {
		return nil
	}
	return c.again(r, "opens/"+at.Format(time.RFC3339), at)
}

// again has the request looked at from a moment on. Each reason has a key of its
// own: what is under way may have looked already.
func (c *change) again(r sallyport.AccessRequest, why string, at time.Time) error {
	return c.enqueueAs(sallyport.QueueAdmit, string(r.ID)+"/"+why, subjectOf("request", r.ID), nil, at, admitAttempts)
}

// endRequest ends a request that is open. Nothing follows.
func (c *change) endRequest(r sallyport.AccessRequest, how sallyport.RequestState, why string, grant sallyport.GrantID) error {
	key := ""
	if grant != "" {
		key = subjectOf("grant", grant)
	}
	subject := subjectOf("request", r.ID)
	if err := c.event(sallyport.AccessEvent{Subject: subject, Kind: sallyport.EventEnded, Key: key, Word: string(how), Note: why}); err != nil {
		return err
	}
	c.Touch(topicRequests)
	return c.record("approval."+string(how), subject, map[string]any{"kind": r.Kind, "about": r.Subject, "why": why, "digest": r.Digest(), "grant": grant})
}

// withdraw ends the open request about something, if there is one.
func (c *change) withdraw(subject string, how sallyport.RequestState, why string) error {
	st, err := c.current(subject)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return nil
	}
	if err != nil || !st.State.Open() {
		return err
	}
	return c.endRequest(st.Request, how, why, "")
}

const topicRequests = "requests"

// involved lists who may not say yes to commits: who pushed or wrote them, and the
// sponsors of agents among those. Without a base, which is what was let in last and the
// push that brought it, they are those of what the commit adds to where it came from.
func (e *Engine) involved(ctx context.Context, push sallyport.Push, base string, after sallyport.PushID) ([]sallyport.Involved, error) {
	var pushes []sallyport.Push
	var sponsors map[string]string
	var project sallyport.Project
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if project, err = tx.Projects().Get(push.Project); err != nil {
			return err
		}
		if pushes, err = tx.Pushes().Between(push.Project, after, push.ID, maxPushes); err != nil {
			return err
		}
		sponsors, err = sponsorsOf(tx)
		return err
	}); err != nil {
		return nil, err
	}
	if base == "" {
		var err error
		if base, err = e.cameFrom(ctx, project, push, pushes); err != nil {
			return nil, err
		}
	}
	names, more, err := e.repos.Authors(ctx, push.Project, base, push.Commit, maxInvolved)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound && base != "" { // it was forced away
		base = ""
		names, more, err = e.repos.Authors(ctx, push.Project, "", push.Commit, maxInvolved)
	}
	if err != nil {
		return nil, err
	}
	if more {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "more than %d names stand in the commits, so that nobody can be told apart from their authors", maxInvolved)
	}
	var out []sallyport.Involved
	add := func(in sallyport.Involved) {
		if !slices.ContainsFunc(out, func(o sallyport.Involved) bool { return o.ID == in.ID && o.Author == in.Author }) {
			out = append(out, in)
		}
	}
	pushed := func(p sallyport.Push) {
		if p.Actor.Kind == sallyport.System {
			return
		}
		add(sallyport.Involved{ID: p.Actor.ID, How: "pushed or started what is to go in"})
		if s := sponsors[p.Actor.ID]; s != "" {
			add(sallyport.Involved{ID: s, How: "sponsors " + p.Actor.String() + ", which pushed what is to go in"})
		}
	}
	pushed(push)
	for _, p := range pushes {
		// On the ref itself whatever came since counts, also what a forced push replaced.
		if after != "" && p.Ref == push.Ref || p.Commit != "" && e.bringsIn(ctx, p, push.Commit, base) {
			pushed(p)
		}
	}
	for _, name := range names {
		add(sallyport.Involved{Author: name, How: "wrote commits that are to go in"})
	}
	return out, nil
}

// cameFrom is the commit that a push built upon: what its ref had before, also when it was
// pushed by one and started by another; of a branch that is new, the default branch.
func (e *Engine) cameFrom(ctx context.Context, project sallyport.Project, push sallyport.Push, pushes []sallyport.Push) (string, error) {
	for _, p := range append([]sallyport.Push{push}, pushes...) {
		if p.Commit == push.Commit && p.Before != "" && p.Before != push.Commit {
			return p.Before, nil
		}
	}
	refs, err := e.repos.Refs(ctx, project.ID)
	if err != nil {
		return "", err
	}
	if tip := refs[project.DefaultRef()]; tip != push.Commit {
		return tip, nil
	}
	return "", nil
}

// bringsIn reports whether what was pushed is in the commit and not in the base. What
// cannot be told is.
func (e *Engine) bringsIn(ctx context.Context, p sallyport.Push, commit, base string) bool {
	if p.Commit == commit {
		return true
	}
	in, err := e.repos.Contains(ctx, p.Project, commit, p.Commit)
	if err != nil || !in || base == "" {
		return in || err != nil
	}
	old, err := e.repos.Contains(ctx, p.Project, base, p.Commit)
	return err != nil || !old
}

// sponsorsOf returns the sponsor of each agent, by id. Removed ones too.
func sponsorsOf(tx sallyport.Tx) (map[string]string, error) {
	list, err := tx.Accounts().List()
	out := map[string]string{}
	for _, a := range list {
		if a.Sponsor != "" {
			out[a.ID] = a.Sponsor
		}
	}
	return out, err
}

// Vote takes one person's word. What the request is about must be what they saw.
func (s approvals) Vote(ctx context.Context, id sallyport.RequestID, v sallyport.Vote) (sallyport.RequestStatus, error) {
	r, err := s.find(ctx, actApprove, id)
	if err != nil {
		return sallyport.RequestStatus{}, err
	}
	switch {
	case v.Word != sallyport.WordApprove && v.Word != sallyport.WordReject:
		return sallyport.RequestStatus{}, sallyport.Errorf(sallyport.CodeInvalid, "%.40q is no vote", v.Word).WithHint("use approve or reject")
	case len(v.Note) > maxNote || len(v.Assertion) > maxAssertion:
		return sallyport.RequestStatus{}, sallyport.Errorf(sallyport.CodeInvalid, "a vote has a note of at most %d bytes", maxNote)
	case v.Word == sallyport.WordReject && strings.TrimSpace(v.Note) == "":
		return sallyport.RequestStatus{}, sallyport.Errorf(sallyport.CodeInvalid, "a no needs a reason").WithHint("say what has to change")
	case v.Digest != r.Digest():
		return sallyport.RequestStatus{}, sallyport.Errorf(sallyport.CodeConflict, "the vote is for something else than the request").WithHint("look at it again: sallyport approvals show %s", id)
	}
	if len(v.Assertion) > 0 {
		if s.e.assertions == nil {
			return sallyport.RequestStatus{}, sallyport.Errorf(sallyport.CodeUnavailable, "this instance cannot check signatures of people").WithHint("vote without one")
		}
		if err := s.e.assertions.VerifyAssertion(ctx, sallyport.PrincipalFrom(ctx).ID, r.Digest(), v.Assertion); err != nil {
			return sallyport.RequestStatus{}, err
		}
	} else if err := s.e.fresh(ctx); err != nil && v.Word == sallyport.WordApprove { // anybody's no does no harm
		return sallyport.RequestStatus{}, err
	}
	rules, err := s.e.rulesNow(ctx, r)
	if err != nil {
		return sallyport.RequestStatus{}, err
	}
	var out sallyport.RequestStatus
	var refused error
	err = s.e.update(ctx, func(c *change) error {
		refused = nil
		st, err := c.status(id)
		if err != nil {
			return err
		}
		if st.State != sallyport.RequestPending {
			return sallyport.Errorf(sallyport.CodeConflict, "the request is %s", st.State).WithHint("sallyport approvals list")
		}
		why, err := c.objection(r)
		if err != nil {
			return err
		}
		if why != "" {
			refused = sallyport.Errorf(sallyport.CodeDenied, "%s may not vote on this: %s", c.actor, why)
			return c.record("approval.denied", subjectOf("request", id), map[string]any{"why": why, "word": v.Word})
		}
		if !rules {
			refused = sallyport.Errorf(sallyport.CodeConflict, "the rules of environment %s are others now", r.Environment).WithHint("start the run again, or deploy again")
			return s.e.outdated(c, r)
		}
		if changed, err := s.e.changed(c, r); err != nil || changed != "" {
			if err != nil {
				return err
			}
			refused = sallyport.Errorf(sallyport.CodeConflict, "%s changed: the request is void", changed).WithHint("a new one is opened; look at that")
			return s.e.void(c, r, changed+" changed")
		}
		err = c.event(sallyport.AccessEvent{Subject: subjectOf("request", id), Kind: sallyport.EventVote, Key: c.who.ID, Word: v.Word, Note: v.Note, Digest: v.Digest, Assertion: v.Assertion})
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			return sallyport.Errorf(sallyport.CodeConflict, "%s has voted; a person counts once", c.actor)
		}
		if err != nil {
			return err
		}
		c.Touch(topicRequests)
		if err := c.record("approval.vote", subjectOf("request", id), map[string]any{"word": v.Word, "note": v.Note, "digest": v.Digest, "signed": len(v.Assertion) > 0}); err != nil {
			return err
		}
		if out, err = c.status(id); err != nil {
			return err
		}
		return s.e.voted(c, out)
	})
	if err == nil {
		err = refused
	}
	return out, err
}

// rulesNow reports whether the protected branch still declares for the environment what the
// request was opened under.
func (e *Engine) rulesNow(ctx context.Context, r sallyport.AccessRequest) (bool, error) {
	if r.Kind != sallyport.RequestJob && r.Kind != sallyport.RequestRelease {
		return true, nil
	}
	now, err := e.entryRules(ctx, r.Project, r.Environment)
	return now.Votes() == r.Needed && slices.Equal(now.Reviewers, r.Reviewers) && slices.Equal(now.Hours, r.Hours), err
}

// outdated ends a request that was opened under other rules, and what waits with it: it
// would wait under them again.
func (e *Engine) outdated(c *change, r sallyport.AccessRequest) error {
	const why = "the rules of the environment changed since: start it again"
	if r.Kind == sallyport.RequestRelease {
		return e.refuseRelease(c, r, sallyport.RequestWithdrawn, why)
	}
	if err := c.endRequest(r, sallyport.RequestWithdrawn, why, ""); err != nil {
		return err
	}
	return e.settle(c, r.Run)
}

// objection says why who asks may not vote, "" when they may. Whoever votes is a
// person with an account of their own.
func (c *change) objection(r sallyport.AccessRequest) (string, error) {
	a, err := c.Accounts().Get(c.who.ID)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound || err == nil && (a.Kind != c.who.Kind || !a.RemovedAt.IsZero()) {
		return "whoever votes is a person with an account: sallyport people add NAME", nil
	}
	if err != nil {
		return "", err
	}
	return r.Objection(sallyport.Party{Kind: a.Kind, ID: a.ID, Name: a.Name}, a.Teams, a.CreatedAt), nil
}

// voted does what follows from a vote.
func (e *Engine) voted(c *change, st sallyport.RequestStatus) error {
	if st.State == sallyport.RequestPending {
		return nil
	}
	r := st.Request
	switch r.Kind {
	case sallyport.RequestJob:
		return e.settle(c, r.Run) // those that wait go on or fail
	case sallyport.RequestRelease:
		if st.State == sallyport.RequestRejected {
			return e.refuseRelease(c, r, sallyport.RequestRejected, st.Why)
		}
		return c.again(r, "voted", c.now)
	case sallyport.RequestReview:
		return e.reviewed(c, st)
	}
	if st.State == sallyport.RequestRejected {
		return c.endRequest(r, sallyport.RequestRejected, st.Why, "")
	}
	return nil
}

// changed names what of the request's matter is not as it was, as far as the store
// knows; "" when all is. Of a release the evidence is gathered anew before it goes out.
func (e *Engine) changed(c *change, r sallyport.AccessRequest) (string, error) {
	switch r.Kind {
	case sallyport.RequestJob:
		s, err := e.loadSettlement(c, r.Run)
		if err != nil {
			return "", err
		}
		rule := ruleOf(s.plan, r.Environment)
		if rule == nil {
			return "the policy", nil
		}
		now, err := s.bound(rule)
		if err != nil {
			return "", err
		}
		return r.Bound.Differs(now), nil
	case sallyport.RequestRelease:
		base, _, err := c.baseOf(r.Project, r.Environment)
		if err != nil {
			return "", err
		}
		if base != r.Bound.Base {
			return "what is deployed now", nil
		}
	case sallyport.RequestAccess:
		now, err := c.policyNow()
		if err != nil {
			return "", err
		}
		if now != r.Bound.Policy {
			return "the policy", nil
		}
	}
	return "", nil
}

// void ends a request whose matter changed, and has a new one opened where somebody still waits.
func (e *Engine) void(c *change, r sallyport.AccessRequest, why string) error {
	if err := c.endRequest(r, sallyport.RequestVoid, why, ""); err != nil {
		return err
	}
	switch r.Kind {
	case sallyport.RequestJob:
		return e.settle(c, r.Run) // it asks anew
	case sallyport.RequestRelease:
		return c.enqueueAs(sallyport.QueueAdmit, string(r.ID)+"/void", r.Subject, nil, c.now, admitAttempts)
	}
	return nil
}

// policyNow is the digest of the operator's policies.
func (c *change) policyNow() (sallyport.Digest, error) {
	f, err := c.AccessFiles().Current()
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return sallyport.DigestOf(nil), nil
	}
	return f.Digest, err
}

// baseOf returns the commit that is live in an environment, and the push that brought it;
// "" when there is none.
func (c *change) baseOf(p sallyport.ProjectID, environment string) (string, sallyport.PushID, error) {
	return liveCommit(c.Tx, p, environment)
}

func liveCommit(tx sallyport.Tx, p sallyport.ProjectID, environment string) (string, sallyport.PushID, error) {
	env, err := tx.Environments().Get(p, environment)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound || err == nil && env.Live == "" {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	d, err := tx.Deployments().Get(env.Live)
	if err != nil {
		return "", "", err
	}
	rel, err := tx.Releases().Get(d.Release)
	if err != nil {
		return "", "", err
	}
	r, err := tx.Runs().Get(rel.Run)
	return d.Commit, r.Push, err
}

// find loads a request and judges by its project and environment. Who asked may always look.
func (s approvals) find(ctx context.Context, a action, id sallyport.RequestID) (sallyport.AccessRequest, error) {
	var r sallyport.AccessRequest
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		r, err = tx.Requests().Get(id)
		return err
	})
	if who := sallyport.PrincipalFrom(ctx); a == actRead && err == nil && who.Kind != sallyport.Nobody && who.ID == r.By.ID {
		return r, s.e.allow(ctx, actRequest, "")
	}
	if a == actRead && r.Project == "" {
		a = actAdmin // what is about the installation is not for everybody
	}
	if denied := s.e.allowIn(ctx, a, r.Project, r.Environment); denied != nil {
		return sallyport.AccessRequest{}, denied
	}
	return r, err
}

func (s approvals) Requests(ctx context.Context, p sallyport.ProjectID, open bool, page sallyport.Page) ([]sallyport.RequestStatus, error) {
	if err := s.e.allowList(ctx, p); err != nil {
		return nil, err
	}
	sees, err := s.e.sight(ctx)
	if err != nil {
		return nil, err
	}
	who := sallyport.PrincipalFrom(ctx)
	page = bound(page)
	var out []sallyport.RequestStatus
	err = s.e.view(ctx, func(tx sallyport.Tx) error {
		c := &change{Tx: tx, now: s.e.now(), actor: who.String(), who: sallyport.PartyOf(who)}
		var list []sallyport.AccessRequest
		var err error
		if open {
			if list, err = tx.Requests().Open(); err == nil {
				slices.Reverse(list)
			}
		} else {
			list, err = tx.Requests().List(p, page)
		}
		if err != nil {
			return err
		}
		for _, r := range list {
			if p != "" && r.Project != p || !sees(r.Project) && r.By.ID != who.ID || open && page.Before != "" && string(r.ID) >= page.Before {
				continue
			}
			st, err := standing(tx, r, c.now)
			if err != nil {
				return err
			}
			if open && !st.State.Open() {
				continue
			}
			if st.Objection, err = c.objection(r); err != nil {
				return err
			}
			if out = append(out, st); len(out) == page.Limit {
				break
			}
		}
		return nil
	})
	return out, err
}

func (s approvals) Request(ctx context.Context, id sallyport.RequestID) (sallyport.RequestStatus, error) {
	r, err := s.find(ctx, actRead, id)
	if err != nil {
		return sallyport.RequestStatus{}, err
	}
	st, err := s.status(ctx, r)
	if err != nil || !st.State.Open() {
		return st, err
	}
	if st.MayVote, err = s.voters(ctx, r); err != nil {
		return st, err
	}
	st.Effect, err = s.e.effect(ctx, r)
	return st, err
}

func (s approvals) status(ctx context.Context, r sallyport.AccessRequest) (sallyport.RequestStatus, error) {
	who := sallyport.PrincipalFrom(ctx)
	var st sallyport.RequestStatus
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		c := &change{Tx: tx, now: s.e.now(), actor: who.String(), who: sallyport.PartyOf(who)}
		var err error
		if st, err = standing(tx, r, c.now); err != nil {
			return err
		}
		st.Objection, err = c.objection(r)
		return err
	})
	return st, err
}

// voters returns the accounts that may vote, at most so many as are shown.
func (s approvals) voters(ctx context.Context, r sallyport.AccessRequest) ([]string, error) {
	l, err := s.e.law(ctx)
	if err != nil {
		return nil, err
	}
	now := s.e.now()
	var out []string
	for _, a := range l.accounts {
		party := sallyport.Party{Kind: a.Kind, ID: a.ID, Name: a.Name}
		if r.Objection(party, a.Teams, a.CreatedAt) != "" {
			continue
		}
		if ok, _ := l.may(sallyport.Principal{Kind: a.Kind, ID: a.ID, Name: a.Name, Whole: true}, actApprove, r.Project, r.Environment, now); !ok {
			continue
		}
		if out = append(out, a.ID); len(out) == maxShown {
			break
		}
	}
	return out, nil
}

func (s approvals) Withdraw(ctx context.Context, id sallyport.RequestID) error {
	r, err := s.find(ctx, actRead, id)
	if err != nil {
		return err
	}
	if who := sallyport.PrincipalFrom(ctx); who.ID != r.By.ID || r.Kind != sallyport.RequestAccess {
		return sallyport.Errorf(sallyport.CodeDenied, "who asked for access withdraws it").WithHint("reject it, or cancel the run")
	}
	return s.e.update(ctx, func(c *change) error {
		st, err := c.status(id)
		if err != nil {
			return err
		}
		if !st.State.Open() {
			return sallyport.Errorf(sallyport.CodeConflict, "the request is %s", st.State)
		}
		return c.endRequest(r, sallyport.RequestWithdrawn, "withdrawn by "+c.actor, "")
	})
}

// effect says what a yes would do.
func (e *Engine) effect(ctx context.Context, r sallyport.AccessRequest) (*sallyport.RequestEffect, error) {
	out := &sallyport.RequestEffect{From: r.Bound.Base, To: r.Bound.Commit}
	switch r.Kind {
	case sallyport.RequestAccess:
		change, err := e.letting(ctx, r)
		if err != nil {
			return nil, err
		}
		out.Access = &change
		return out, nil
	case sallyport.RequestReview:
		return nil, nil
	}
	if c, err := e.repos.Commit(ctx, r.Project, r.Bound.Commit); err == nil {
		out.Subject = clip(c.Subject, 200)
	}
	var err error
	out.Changed, out.More, err = e.repos.Changed(ctx, r.Project, r.Bound.Base, r.Bound.Commit, maxShown)
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		return nil, err
	}
	for _, in := range r.Involved {
		if in.Author != "" && len(out.Authors) < maxShown {
			out.Authors = append(out.Authors, in.Author)
		}
	}
	if r.Kind != sallyport.RequestRelease {
		return out, nil
	}
	return out, e.view(ctx, func(tx sallyport.Tx) error {
		_, id, _ := strings.Cut(r.Subject, "/")
		d, err := tx.Deployments().Get(sallyport.DeploymentID(id))
		if err != nil {
			return err
		}
		rel, err := tx.Releases().Get(d.Release)
		if err != nil {
			return err
		}
		v, err := tx.Verdicts().Get(rel.Verdict)
		out.Verdict, out.Decision, out.Reasons = v.ID, v.Decision, v.Reasons
		return err
	})
}

// boundOf is what a release is bound to: all evidence but when it was gathered and what
// we said of it ourselves.
func boundOf(doc policy.Evidence) (sallyport.Bound, error) {
	doc.Now, doc.Approvals = "", nil
	doc.Statements = slices.DeleteFunc(slices.Clone(doc.Statements), func(s policy.EvidenceStatement) bool {
		return s.PredicateType == sallyport.PredicateVSA && s.AssertedBy == ""
	})
	b, err := json.Marshal(doc)
	if err != nil {
		return sallyport.Bound{}, err
	}
	rules, err := json.Marshal(doc.Environment)
	if err != nil {
		return sallyport.Bound{}, err
	}
	return sallyport.Bound{Commit: doc.Run.Commit, Artifact: sallyport.Digest(doc.Subject.Digest), Evidence: sallyport.DigestOf(b), Policy: sallyport.DigestOf(rules)}, nil
}

// waitingFor says in a line what something waits for.
func waitingFor(st sallyport.RequestStatus) string {
	r := st.Request
	if st.State == sallyport.RequestPending {
		by := ""
		if len(r.Reviewers) > 0 {
			by = " by " + strings.Join(r.Reviewers, ", ")
		}
		return clip(fmt.Sprintf("waits for approval of environment %s%s: %d of %d; see sallyport approvals show %s", r.Environment, by, st.Approvals(), r.Needed, r.ID), 1000)
	}
	return fmt.Sprintf("waits for the time at which environment %s is entered", r.Environment)
}
