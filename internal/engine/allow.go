package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/sallyport-ci/sallyport"
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
)

// allow says whether the principal in ctx may do a to the project; project ""
// is the installation. A denial is recorded before it is returned. The rules
// stand in this one function: whatever it does not name is denied.
func (e *Engine) allow(ctx context.Context, a action, project sallyport.ProjectID) error {
	p := sallyport.PrincipalFrom(ctx)
	if may(p, a, project) {
		return nil
	}
	object := "instance"
	if project != "" {
		object = "project/" + string(project)
	}
	// The record must be written even when the one who asked hangs up.
	err := e.update(context.WithoutCancel(ctx), func(c *change) error {
		return c.record("access.denied", object, map[string]string{"action": string(a)})
	})
	if err != nil {
		e.log.ErrorContext(ctx, "denial was not recorded", "error", err)
	}
	hint := "ask an administrator for a token that may " + string(a)
	if p.Kind == sallyport.Nobody {
		hint = "log in, or send a token"
	}
	return sallyport.Errorf(sallyport.CodeDenied, "%s may not %s here", p, a).WithHint("%s", hint)
}

func may(p sallyport.Principal, a action, project sallyport.ProjectID) bool {
	switch p.Kind {
	case sallyport.System:
		return true
	case sallyport.Runner:
		return a == actYard
	case sallyport.Person, sallyport.Bot:
		switch a {
		case actYard:
			return false
		case actAdmin, actSecrets:
			return p.Admin
		case actInstance:
			return true
		case actRead, actFetch, actPush, actOperate, actDeploy:
			return p.Admin || project != "" && slices.Contains(p.Projects, project)
		}
	}
	return false
}

// sees tells whether the principal may see the project, without recording
// anything: for filtering lists.
func sees(ctx context.Context, project sallyport.ProjectID) bool {
	return may(sallyport.PrincipalFrom(ctx), actRead, project)
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
