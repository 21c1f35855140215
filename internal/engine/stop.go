package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// stops implements sallyport.Stops: the kill switch. All that is ours stops in the
// transaction that throws it; what is kept elsewhere is asked for by the stage revoke.
type stops struct{ e *Engine }

const (
	actStop action = "stop" // throw the kill switch
	actLift action = "lift" // put it back

	// stopTries is how often a stop is judged anew when who may do what changes meanwhile.
	stopTries   = 10
	maxReported = 500
)

// Stop stops at once.
func (s stops) Stop(ctx context.Context, kind sallyport.StopKind, name, why string) (sallyport.StopReport, error) {
	stop, found := s.resolve(ctx, kind, name)
	if err := s.e.allow(ctx, actStop, stop.Project); err != nil {
		return sallyport.StopReport{}, err
	}
	if found != nil {
		return sallyport.StopReport{}, found
	}
	if len(why) > maxNote {
		return sallyport.StopReport{}, sallyport.Errorf(sallyport.CodeInvalid, "say why in at most %d bytes", maxNote)
	}
	stop.Why = why
	var report sallyport.StopReport
	for range stopTries {
		m, err := s.e.matter(ctx)
		if err != nil {
			return report, err
		}
		if standingStop(m.stops, kind, stop.Name) != nil {
			return report, sallyport.Errorf(sallyport.CodeConflict, "%s %s is stopped", kind, stop.Name).WithHint("sallyport kill lists what is")
		}
		now := s.e.now()
		stop.ID, stop.At, stop.By = sallyport.NewID[sallyport.StopID](now), now, sallyport.PartyOf(sallyport.PrincipalFrom(ctx))
		if err := m.keepsAnAdministrator(stop); err != nil {
			return report, err
		}
		meanwhile := false
		err = s.e.update(ctx, func(c *change) error {
			now := &matter{known: s.e.known}
			if err := now.read(c.Tx, c.now); err != nil {
				return err
			}
			if meanwhile = !m.same(now); meanwhile {
				return errNothing
			}
			report = sallyport.StopReport{Stop: stop}
			return s.e.throw(c, &report)
		})
		if !meanwhile {
			return report, err
		}
	}
	return report, sallyport.Errorf(sallyport.CodeConflict, "who may do what changes all the time").WithHint("try again")
}

// keepsAnAdministrator refuses a stop after which nobody could lift it. That there are
// policies which cannot be read stops nobody from stopping.
func (m *matter) keepsAnAdministrator(stop sallyport.Stop) error {
	next := *m
	next.stops = append(slices.Clone(m.stops), stop)
	after, err := next.enact()
	if err != nil {
		if after, err = next.emergency(err); err != nil {
			return err
		}
	}
	if err := after.set.KeepsAnAdministrator(after.world); err != nil {
		return sallyport.Errorf(sallyport.CodeConflict, "%s", err.Error()).WithHint("make another administrator first, or stop the host")
	}
	return nil
}

func standingStop(all []sallyport.Stop, kind sallyport.StopKind, name string) *sallyport.Stop {
	i := slices.IndexFunc(all, func(s sallyport.Stop) bool { return s.Kind == kind && s.Name == name })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// stopped returns the stop that holds of something; nil for none. A store that cannot
// tell is an error.
func stopped(tx sallyport.Tx, kind sallyport.StopKind, names ...string) (*sallyport.Stop, error) {
	all, err := tx.Stops().Standing()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if s := standingStop(all, kind, name); s != nil {
			return s, nil
		}
	}
	return nil, nil
}

// unstopped fails while something is stopped.
func unstopped(tx sallyport.Tx, kind sallyport.StopKind, names ...string) error {
	s, err := stopped(tx, kind, names...)
	if err == nil && s != nil {
		err = sallyport.Errorf(sallyport.CodeUnavailable, "%s %s is stopped", s.Kind, s.Name).WithHint("lift it with: sallyport unkill %s %s", s.Kind, s.Name)
	}
	return err
}

// resolve finds what a stop names.
func (s stops) resolve(ctx context.Context, kind sallyport.StopKind, name string) (sallyport.Stop, error) {
	stop := sallyport.Stop{Kind: kind, Name: name}
	missing := sallyport.Errorf(sallyport.CodeNotFound, "there is no %.20s %.100q", kind, name)
	if name == "" || len(name) > 400 {
		return stop, sallyport.Errorf(sallyport.CodeInvalid, "a stop names one thing")
	}
	switch kind {
	case sallyport.StopPerson, sallyport.StopBot, sallyport.StopAgent:
		m, err := s.e.matter(ctx)
		if err != nil {
			return stop, err
		}
		for _, id := range []string{name, string(kind) + "/" + name} {
			if slices.ContainsFunc(m.everybody(), func(a sallyport.Account) bool { return string(a.Kind) == string(kind) && a.ID == id }) {
				stop.Name = id
				return stop, nil
			}
		}
		return stop, missing.WithHint("list them with: sallyport people list, bots list or agents list")
	case sallyport.StopRunner:
		known := slices.ContainsFunc(s.e.known, func(p sallyport.Principal) bool {
			return p.Kind == sallyport.Runner && (p.ID == name || p.Name == name)
		}) ||
			slices.ContainsFunc(s.e.seen.list(s.e.now()), func(r sallyport.RunnerStatus) bool { return string(r.ID) == name || r.Name == name })
		if !known {
			return stop, missing.WithHint("the system page shows those that asked for work lately")
		}
		return stop, nil
	case sallyport.StopKey:
		if name == sallyport.KeySigning || name == sallyport.KeyIDToken || name == sallyport.KeySecrets {
			return stop, nil
		}
		return stop, missing.WithHint("use %s, %s or %s", sallyport.KeySigning, sallyport.KeyIDToken, sallyport.KeySecrets)
	case sallyport.StopProject, sallyport.StopSecret:
		project, rest, _ := strings.Cut(name, "/")
		environment, secret, inner := strings.Cut(rest, "/")
		if !inner {
			environment, secret = "", environment
		}
		err := s.e.view(ctx, func(tx sallyport.Tx) error {
			p, err := tx.Projects().ByName(project)
			if err != nil {
				return err
			}
			stop.Project = p.ID
			if kind == sallyport.StopProject {
				if rest != "" {
					return missing
				}
				return nil
			}
			stop.Name = secretPath(p.Name, strings.ToLower(environment), secret)
			_, _, err = tx.Secrets().Sealed(p.ID, strings.ToLower(environment), secret)
			return err
		})
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			return stop, missing.WithHint("write PROJECT, and PROJECT/NAME or PROJECT/ENVIRONMENT/NAME of a secret")
		}
		return stop, err
	}
	return stop, sallyport.Errorf(sallyport.CodeInvalid, "%.40q cannot be stopped", kind).WithHint("use person, bot, agent, runner, project, key or secret")
}

// secretPath is how stops name a secret.
func secretPath(project, environment, name string) string {
	if environment == "" {
		return project + "/" + name
	}
	return project + "/" + environment + "/" + name
}

// throw stops everything that the report's stop is about.
func (e *Engine) throw(c *change, r *sallyport.StopReport) error {
	c.law = true
	if err := c.Stops().Insert(r.Stop); err != nil {
		return err
	}
	t := &thrown{c: c, e: e, r: r, why: fmt.Sprintf("%s %s was stopped by %s%s", r.Stop.Kind, r.Stop.Name, c.actor, orColon(r.Stop.Why))}
	var err error
	switch r.Stop.Kind {
	case sallyport.StopPerson, sallyport.StopBot, sallyport.StopAgent:
		err = t.principal(sallyport.PrincipalKind(r.Stop.Kind), r.Stop.Name)
	case sallyport.StopRunner:
		err = t.runner(r.Stop.Name)
	case sallyport.StopProject:
		err = t.project(r.Stop.Project)
	case sallyport.StopKey:
		err = t.key(r.Stop.Name)
	case sallyport.StopSecret:
		err = t.secret()
	}
	if err != nil {
		return err
	}
	return c.record("stop.thrown", subjectOf("stop", r.Stop.ID), map[string]any{
		"kind": r.Stop.Kind, "name": r.Stop.Name, "why": r.Stop.Why, "stopped": len(r.Stopped), "left": len(r.Left),
	})
}

// thrown is one stop while it takes effect.
type thrown struct {
	c   *change
	e   *Engine
	r   *sallyport.StopReport
	why string
}

func (t *thrown) stopped(what, id, format string, args ...any) {
	if len(t.r.Stopped) < maxReported {
		t.r.Stopped = append(t.r.Stopped, sallyport.Stopped{What: what, ID: id, Text: fmt.Sprintf(format, args...)})
	}
}

func (t *thrown) left(what, id, format string, args ...any) {
	if len(t.r.Left) < maxReported {
		t.r.Left = append(t.r.Left, sallyport.Stopped{What: what, ID: id, Text: fmt.Sprintf(format, args...)})
	}
}

// principal burns credentials, ends what was granted and cancels what was started. The
// agents of a person stop with them.
func (t *thrown) principal(kind sallyport.PrincipalKind, id string) error {
	mine := map[string]bool{string(kind) + " " + id: true}
	accounts, err := t.c.Accounts().List()
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if kind == sallyport.Person && a.Sponsor == id && a.RemovedAt.IsZero() {
			mine[string(a.Kind)+" "+a.ID] = true
			t.stopped("agent", a.ID, "it may do nothing while its sponsor is stopped")
		}
	}
	is := func(kind sallyport.PrincipalKind, id string) bool { return mine[string(kind)+" "+id] }
	tokens, err := t.c.Tokens().List()
	if err != nil {
		return err
	}
	for _, k := range tokens {
		if !is(k.Principal.Kind, k.Principal.ID) {
			continue
		}
		if err := t.c.Tokens().Delete(k.ID); err != nil {
			return err
		}
		t.stopped(k.Kind, string(k.ID), "%s of %s", k.Name, k.Principal)
	}
	if slices.ContainsFunc(t.e.known, func(p sallyport.Principal) bool { return p.Kind == kind && p.ID == id }) {
		t.left("access", id, "whoever may open the control socket of the host is it again: take the host's account away")
	}
	if err := t.grants(func(g sallyport.Grant) bool { return is(g.Holder.Kind, g.Holder.ID) }); err != nil {
		return err
	}
	if err := t.requests(func(st sallyport.RequestStatus) bool {
		return st.Request.Kind == sallyport.RequestAccess && is(st.Request.By.Kind, st.Request.By.ID)
	}, sallyport.RequestWithdrawn); err != nil {
		return err
	}
	if err := t.runs(func(r sallyport.Run) (bool, error) {
		p, err := t.c.Pushes().Get(r.Push)
		return is(p.Actor.Kind, p.Actor.ID), err
	}); err != nil {
		return err
	}
	// What others would let through with their vote is asked for anew.
	return t.requests(func(st sallyport.RequestStatus) bool {
		return slices.ContainsFunc(st.Votes, func(v sallyport.AccessEvent) bool { return v.Word == sallyport.WordApprove && is(v.By.Kind, v.By.ID) })
	}, sallyport.RequestVoid)
}

func (t *thrown) grants(which func(sallyport.Grant) bool) error {
	live, err := openGrants(t.c.Tx, t.c.now)
	if err != nil {
		return err
	}
	for _, g := range live {
		if !which(g) {
			continue
		}
		if err := t.c.endGrant(g, t.why); err != nil {
			return err
		}
		t.stopped("grant", string(g.ID), "%s may not %s %s any more", g.Holder, g.Action, g.Resource)
		st, err := t.c.grant(g.ID)
		if err != nil {
			return err
		}
		for _, l := range st.Lent {
			switch {
			case l.Taken:
			case t.e.revokers[l.Kind] == nil:
				t.left(l.Kind, l.ID, "nobody here can take it back: revoke it where it was made")
			default:
				t.left(l.Kind, l.ID, "being taken back; the page of approvals and the alarms tell when that fails")
			}
		}
	}
	return nil
}

// requests ends open ones. Of a release that somebody waits for a new one is opened, or
// the deployment is refused.
func (t *thrown) requests(which func(sallyport.RequestStatus) bool, how sallyport.RequestState) error {
	open, err := t.c.Requests().Open()
	if err != nil {
		return err
	}
	for _, r := range open {
		st, err := standing(t.c.Tx, r, t.c.now)
		if err != nil {
			return err
		}
		if !st.State.Open() || r.Kind == sallyport.RequestReview || !which(st) {
			continue
		}
		switch {
		case how == sallyport.RequestVoid:
			err = t.e.void(t.c, r, t.why)
		case r.Kind == sallyport.RequestRelease:
			err = t.e.refuseRelease(t.c, r, how, t.why)
		default:
			err = t.c.endRequest(r, how, t.why, "")
		}
		if err != nil {
			return err
		}
		t.stopped("request", string(r.ID), "%s of %s is %s", r.Kind, r.By, how)
	}
	return nil
}

// runs cancels the unfinished runs that which picks: every job ends now.
func (t *thrown) runs(which func(sallyport.Run) (bool, error)) error {
	all, err := t.c.Runs().Unfinished()
	if err != nil {
		return err
	}
	for _, r := range all {
		mine, err := which(r)
		if err != nil {
			return err
		}
		if !mine {
			continue
		}
		if err := t.c.markCancelled(r.ID, clip(t.why, 500)); err != nil {
			return err
		}
		if err := t.jobs(r.ID, func(*sallyport.Job) bool { return true }); err != nil {
			return err
		}
		t.stopped("run", string(r.ID), "#%d of %s at %.10s", r.Number, r.Workflow, r.Commit)
	}
	return nil
}

// jobs ends jobs of a run that are not done, those that a runner has among them: its lease
// is gone, so that it destroys the room. What they held may be somewhere by now.
func (t *thrown) jobs(id sallyport.RunID, which func(*sallyport.Job) bool) error {
	s, err := t.e.loadSettlement(t.c, id)
	if err != nil {
		return err
	}
	ended := false
	for _, j := range s.jobs {
		if !which(j) {
			continue
		}
		switch {
		case j.Status == sallyport.StatusInProgress && j.Uses == "":
			if err := t.held(j); err != nil {
				return err
			}
			fallthrough
		case j.Status == sallyport.StatusWaiting || j.Status == sallyport.StatusQueued:
			if err := s.complete(j, sallyport.Cancelled, clip(t.why, 1000)); err != nil {
				return err
			}
			t.stopped("job", string(j.ID), "%s", j.Name)
			ended = true
		}
	}
	if !ended && s.run.Cancel == "" {
		return nil
	}
	return t.e.settleFrom(s)
}

// held tells what a job that runs has in its hands.
func (t *thrown) held(j *sallyport.Job) error {
	records, err := t.c.Audit().List(sallyport.AuditFilter{Action: "job.leased", Object: "job/" + string(j.ID), Limit: 1})
	if err != nil {
		return err
	}
	for _, r := range records {
		d := leasedDetail(r)
		for _, name := range d.Secrets {
			t.left("secret", name, "job %s on runner %s was lent it: change the value where it came from", j.Name, j.Runner)
		}
		if j.Lent && len(d.Secrets) == 0 {
			t.left("secret", "", "job %s on runner %s was lent secrets: change them where they came from", j.Name, j.Runner)
		}
	}
	issued, err := t.c.Audit().List(sallyport.AuditFilter{Action: "idtoken.issued", Object: "job/" + string(j.ID), Limit: maxIDTokens})
	if err != nil {
		return err
	}
	for _, r := range issued {
		t.token(r)
	}
	return nil
}

// token tells of an ID token that was issued: it is good until it ends, and what it was
// exchanged for may last longer.
func (t *thrown) token(r sallyport.AuditRecord) {
	var d struct {
		JTI string `json:"jti"`
		Aud any    `json:"aud"`
	}
	_ = json.Unmarshal(r.Detail, &d)
	end := r.At.Add(sallyport.IDTokenLife)
	state := "was good until"
	if t.c.now.Before(end) {
		state = "is good until"
	}
	t.left("id-token", d.JTI, "for %v, %s %s; credentials that it was exchanged for there live on: revoke them there", d.Aud, state, end.Format(time.RFC3339))
}

type leased struct {
	Secrets []string `json:"secrets"` // NAME@VERSION
}

func leasedDetail(r sallyport.AuditRecord) (d leased) {
	_ = json.Unmarshal(r.Detail, &d)
	return d
}

func (t *thrown) runner(name string) error {
	names := []string{name}
	for _, r := range t.e.seen.list(t.c.now) {
		if r.Name == name {
			names = append(names, string(r.ID))
		}
	}
	for _, p := range t.e.known {
		if p.Kind == sallyport.Runner && p.Name == name {
			names = append(names, p.ID)
		}
	}
	if err := t.eachRun(func(j *sallyport.Job) bool {
		return slices.Contains(names, string(j.Runner)) && j.Status == sallyport.StatusInProgress
	}); err != nil {
		return err
	}
	t.left("runner", name, "its process and what is on its host; it gets no job and its leases are gone")
	return nil
}

// eachRun ends the jobs that which picks, of all unfinished runs.
func (t *thrown) eachRun(which func(*sallyport.Job) bool) error {
	all, err := t.c.Runs().Unfinished()
	for _, r := range all {
		if err := t.jobs(r.ID, which); err != nil {
			return err
		}
	}
	return err
}

func (t *thrown) project(id sallyport.ProjectID) error {
	if err := t.runs(func(r sallyport.Run) (bool, error) { return r.Project == id, nil }); err != nil {
		return err
	}
	if err := t.requests(func(st sallyport.RequestStatus) bool { return st.Request.Project == id }, sallyport.RequestWithdrawn); err != nil {
		return err
	}
	if err := t.grants(func(g sallyport.Grant) bool { return g.Project == id }); err != nil {
		return err
	}
	under, err := t.c.Deployments().Unfinished()
	if err != nil {
		return err
	}
	for _, d := range under {
		if d.Project != id {
			continue
		}
		if d.RollbackOf != "" {
			t.left("deployment", string(d.ID), "#%d rolls %s back to what was healthy, and goes on", d.Number, d.Environment)
			continue
		}
		next := sallyport.DeployRefused
		switch d.State {
		case sallyport.DeployApplying:
			next = sallyport.DeployFailed
			if err := t.c.takeDown(d.ID); err != nil {
				return err
			}
		case sallyport.DeployWatching:
			t.left("deployment", string(d.ID), "#%d takes the traffic of %s, on trial: it rolls back by itself when it is unhealthy", d.Number, d.Environment)
			continue
		}
		if err := t.c.moveDeployment(&d, next, t.why); err != nil {
			return err
		}
		t.stopped("deployment", string(d.ID), "#%d to %s", d.Number, d.Environment)
	}
	environments, err := t.c.Environments().List(id)
	if err != nil {
		return err
	}
	for _, env := range environments {
		if env.Live != "" {
			t.left("deployment", string(env.Live), "what is live in %s goes on running: stop it with sallyport down, or on its host", env.Name)
		}
	}
	secrets, err := t.c.Secrets().List(id)
	if err != nil {
		return err
	}
	if len(secrets) > 0 {
		t.stopped("secret", "", "%d secrets are lent to no job", len(secrets))
	}
	return nil
}

func (t *thrown) key(name string) error {
	switch name {
	case sallyport.KeySigning:
		t.stopped("key", name, "nothing is signed, so nothing new is deployed; what is on trial stays so, and gives its traffic back when it is unhealthy")
		t.left("statement", "", "what it has signed still verifies: the trusted root has to be given out anew if the key is known to others")
	case sallyport.KeyIDToken:
		t.stopped("key", name, "no ID token is issued")
		recent, err := t.c.Audit().List(sallyport.AuditFilter{Action: "idtoken.issued", Limit: maxIDTokens})
		if err != nil {
			return err
		}
		for _, r := range recent {
			if t.c.now.Before(r.At.Add(sallyport.IDTokenLife)) {
				t.token(r)
			}
		}
		t.left("key", name, "others trust the key until they fetch the key set without it")
	case sallyport.KeySecrets:
		t.stopped("key", name, "no secret is lent, and none is kept")
		if err := t.eachRun(func(j *sallyport.Job) bool { return j.Lent && j.Status == sallyport.StatusInProgress }); err != nil {
			return err
		}
		t.left("secret", "", "whoever has the key and the database can read what it sealed: change all secrets where they came from")
	}
	return nil
}

func (t *thrown) secret() error {
	_, rest, _ := strings.Cut(t.r.Stop.Name, "/")
	name := rest[strings.LastIndexByte(rest, '/')+1:]
	entry, _, err := t.c.Secrets().Sealed(t.r.Stop.Project, strings.TrimSuffix(strings.TrimSuffix(rest, name), "/"), name)
	if err != nil {
		return err
	}
	t.stopped("secret", t.r.Stop.Name, "it is lent to no job")
	holds := func(j *sallyport.Job) bool {
		if !j.Lent || j.Status != sallyport.StatusInProgress {
			return false
		}
		records, err := t.c.Audit().List(sallyport.AuditFilter{Action: "job.leased", Object: "job/" + string(j.ID), Limit: 1})
		if err != nil || len(records) == 0 {
			return true // what cannot be told is taken to hold it
		}
		return slices.Contains(leasedDetail(records[0]).Secrets, name+"@"+string(entry.Version))
	}
	all, err := t.c.Runs().Unfinished()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Project != t.r.Stop.Project {
			continue
		}
		if err := t.jobs(r.ID, holds); err != nil {
			return err
		}
	}
	t.left("secret", t.r.Stop.Name, "whoever was lent it before may still have it: change the value where it came from, then set it here and lift the stop")
	return nil
}

// Lift ends a stop.
func (s stops) Lift(ctx context.Context, kind sallyport.StopKind, name, why string) (sallyport.Stop, error) {
	var all []sallyport.Stop
	found := s.e.view(ctx, func(tx sallyport.Tx) (err error) {
		all, err = tx.Stops().Standing()
		return err
	})
	stop := standingStop(all, kind, name)
	if stop == nil {
		stop = standingStop(all, kind, string(kind)+"/"+name)
	}
	project := sallyport.ProjectID("")
	if stop != nil {
		project = stop.Project
	}
	if err := s.e.allow(ctx, actLift, project); err != nil {
		return sallyport.Stop{}, err
	}
	switch {
	case found != nil:
		return sallyport.Stop{}, found
	case stop == nil:
		return sallyport.Stop{}, sallyport.Errorf(sallyport.CodeNotFound, "%.20s %.100q is not stopped", kind, name).WithHint("sallyport kill lists what is")
	case len(why) > maxNote:
		return sallyport.Stop{}, sallyport.Errorf(sallyport.CodeInvalid, "say why in at most %d bytes", maxNote)
	}
	return *stop, s.e.update(ctx, func(c *change) error {
		subject := subjectOf("stop", stop.ID)
		err := c.event(sallyport.AccessEvent{Subject: subject, Kind: sallyport.EventEnded, Note: why})
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			return sallyport.Errorf(sallyport.CodeConflict, "it was lifted meanwhile")
		}
		if err != nil {
			return err
		}
		c.law = true
		return c.record("stop.lifted", subject, map[string]any{"kind": stop.Kind, "name": stop.Name, "why": why})
	})
}

// Stops are for everybody to see who may see the installation: they say why things stand still.
func (s stops) Stops(ctx context.Context) ([]sallyport.Stop, error) {
	if err := s.e.allow(ctx, actInstance, ""); err != nil {
		return nil, err
	}
	var out []sallyport.Stop
	err := s.e.view(ctx, func(tx sallyport.Tx) (err error) {
		out, err = tx.Stops().Standing()
		return err
	})
	return out, err
}
