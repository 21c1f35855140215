package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/policy/rights"
)

// action is something a principal may be allowed to do.
type action string

const (
	actRead     action = "read"     // see a project and what belongs to it
	actFetch    action = "fetch"    // read its repository
	actPush     action = "push"     // change its repository
	actOperate  action = "operate"  // cancel, dispatch
	actDeploy   action = "deploy"   // judge, deploy, roll back
	actSecrets  action = "secrets"  // set and delete its secrets
	actAdmin    action = "admin"    // create projects and tokens, read the trail
	actInstance action = "instance" // see how the installation is
	actYard     action = "yard"     // lease jobs

	actRequest   action = "request"   // ask for a grant
	actApprove   action = "approve"   // say yes or no to what others ask for
	actEmergency action = "emergency" // act alone, and be looked at afterwards
)

// allow says whether the principal in ctx may do a to the project; project ""
// is the installation. A denial is recorded before it is returned. What no policy
// permits is denied (package rights).
func (e *Engine) allow(ctx context.Context, a action, project sallyport.ProjectID) error {
	return e.allowIn(ctx, a, project, "")
}

// allowIn is allow for what is done to an environment of the project.
func (e *Engine) allowIn(ctx context.Context, a action, project sallyport.ProjectID, environment string) error {
	_, err := e.allowBy(ctx, a, project, environment)
	return err
}

// allowBy is allowIn, and returns the grant that let it; "" when none was needed. The use
// of a grant is recorded, and one that is good once is used up by it.
func (e *Engine) allowBy(ctx context.Context, a action, project sallyport.ProjectID, environment string) (sallyport.GrantID, error) {
	p := sallyport.PrincipalFrom(ctx)
	l, err := e.lawFor(ctx, p)
	if err != nil {
		return "", err
	}
	ok, why := l.may(p, a, project, environment, e.now())
	if ok {
		return "", nil
	}
	if id, by := l.mayByGrant(p, a, project, environment, e.now(), true); id != "" {
		used, err := e.useGrant(ctx, id, a, project, environment)
		if err != nil || used {
			return id, err
		}
		why = by // it is over, whatever the law still said
	}
	object := "instance"
	if project != "" {
		object = "project/" + string(project)
	}
	detail := map[string]any{"action": string(a)}
	if why != nil {
		detail["decision"] = why
	}
	if environment != "" {
		detail["environment"] = clip(environment, 64)
	}
	// The record must be written even when the one who asked hangs up.
	err = e.update(context.WithoutCancel(ctx), func(c *change) error {
		return c.record("access.denied", object, detail)
	})
	if err != nil {
		e.log.ErrorContext(ctx, "denial was not recorded", "error", err)
	}
	hint := "ask an administrator for a token that may " + string(a)
	if p.Kind == sallyport.Nobody {
		hint = "log in, or send a token"
	}
	return "", sallyport.Errorf(sallyport.CodeDenied, "%s may not %s here", p, a).WithHint("%s", hint)
}

// lawFor returns the law, and none for those about whom no policy is asked.
func (e *Engine) lawFor(ctx context.Context, p sallyport.Principal) (*law, error) {
	if p.Kind == sallyport.Nobody || p.Kind == sallyport.System {
		return nil, nil
	}
	return e.law(ctx)
}

// may says whether the principal may. The stages of the river are the engine
// itself and ask nobody; all others are judged by their credential's limits and
// then by the policies. Why is nil where no policy was asked.
func (l *law) may(p sallyport.Principal, a action, project sallyport.ProjectID, environment string, now time.Time) (ok bool, why *rights.Decision) {
	if p.Kind == sallyport.System {
		return true, nil
	}
	r, ok := l.request(p, a, project, environment, now)
	if !ok {
		return false, nil
	}
	d := l.set.Decide(l.world, r)
	return d.Allowed, &d
}

// mayByGrant returns the just-in-time grant by which the principal may, "" when there is
// none. With once unset those that are good once are left alone.
func (l *law) mayByGrant(p sallyport.Principal, a action, project sallyport.ProjectID, environment string, now time.Time, once bool) (sallyport.GrantID, *rights.Decision) {
	if l == nil {
		return "", nil
	}
	for _, g := range l.jit {
		if g.Holder.Kind != p.Kind || g.Holder.ID != p.ID || g.Action != string(a) || g.Once && !once || !g.Hours.Cover(now) {
			continue
		}
		r, ok := l.request(p, a, project, environment, now)
		if !ok {
			return "", nil
		}
		r.Grant = string(g.ID)
		if d := l.set.Decide(l.world, r); d.Allowed {
			return g.ID, &d
		}
	}
	return "", nil
}

// request is the question whether the principal may; false when its credential is not
// for that, or no policy can name it.
func (l *law) request(p sallyport.Principal, a action, project sallyport.ProjectID, environment string, now time.Time) (rights.Request, bool) {
	who, known := uidOf(p.Kind, p.ID)
	if !known || !within(p, a, project) {
		return rights.Request{}, false
	}
	r := rights.Request{Principal: who, Action: rights.Action(string(a)), Resource: rights.TheInstance(), At: now}
	if project != "" {
		name := l.projectName(project)
		r.Resource = rights.ProjectUID(name)
		if _, known := l.projects[project]; !known {
			r.Near = append(r.Near, rights.Project(name))
		}
		if environment != "" {
			r.Resource = rights.EnvironmentUID(name, environment)
			r.Near = append(r.Near, rights.Environment(name, environment))
		}
	}
	return r, true
}

// within reports whether the credential that p came with is for this.
func within(p sallyport.Principal, a action, project sallyport.ProjectID) bool {
	if len(p.Actions) > 0 && a != actInstance && !slices.Contains(p.Actions, string(a)) {
		return false
	}
	switch {
	case p.Kind == sallyport.Runner, p.Admin, a == actInstance:
		return true
	case len(p.Projects) > 0:
		return slices.Contains(p.Projects, project)
	}
	return p.Whole
}

// uidOf names a principal in policies.
func uidOf(kind sallyport.PrincipalKind, id string) (rights.UID, bool) {
	switch kind {
	case sallyport.Person:
		return rights.Of(rights.TypePerson, id), true
	case sallyport.Bot:
		return rights.Of(rights.TypeBot, id), true
	case sallyport.Agent:
		return rights.Of(rights.TypeAgent, id), true
	case sallyport.Runner:
		return rights.Of(rights.TypeRunner, id), true
	}
	return rights.UID{}, false
}

// sight returns what tells whether the principal in ctx may see a project, without
// recording anything: for filtering lists.
func (e *Engine) sight(ctx context.Context) (func(sallyport.ProjectID) bool, error) {
	p := sallyport.PrincipalFrom(ctx)
	l, err := e.lawFor(ctx, p)
	if err != nil {
		return nil, err
	}
	now := e.now()
	return func(project sallyport.ProjectID) bool {
		ok, _ := l.may(p, actRead, project, "", now)
		if !ok {
			id, _ := l.mayByGrant(p, actRead, project, "", now, false)
			ok = id != ""
		}
		return ok
	}, nil
}

var errNothing = errors.New("nothing to do")

func newSalt() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return b
}

type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

func stack() []byte { return debug.Stack() }
