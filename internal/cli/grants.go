package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type requestCmd struct {
	remote
	output
	Action    string        `arg:"" help:"What to do: read, fetch, push, operate, deploy, secrets, admin."`
	Resource  string        `arg:"" help:"To what: PROJECT, PROJECT/ENVIRONMENT, instance, or as policies write it."`
	For       time.Duration `help:"For how long, from its activation." default:"30m"`
	Why       string        `required:"" help:"What it is needed for." placeholder:"TEXT"`
	Once      bool          `help:"Good for one use."`
	Hours     []string      `help:"Within hours alone (repeatable), as \"mon-fri 09:00-17:00 UTC\"." placeholder:"WINDOW" sep:"none"`
	Emergency bool          `help:"Now, without a yes. Everybody is told, and others have to look at it within a day."`
	Wait      bool          `help:"Wait until it is decided, and activate it."`
}

func (c requestCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	ask := sallyport.AccessAsk{Action: c.Action, Resource: resourceOf(c.Resource), For: c.For, Why: c.Why, Once: c.Once, Emergency: c.Emergency}
	for _, h := range c.Hours {
		ask.Hours = append(ask.Hours, sallyport.Window(h))
	}
	r, err := s.Approvals.Ask(e.ctx, ask)
	if err != nil {
		return err
	}
	if !c.Wait || r.Grant != "" {
		return c.print(e, r, func(w io.Writer) {
			fmt.Fprintln(w, r.Request.ID)
			if r.Grant != "" {
				fmt.Fprintf(e.stderr, "Grant %s lets it now, for %s. It is recorded as an emergency; somebody has to look at it within a day.\n", r.Grant, c.For)
				return
			}
			fmt.Fprintf(e.stderr, "It needs %d to approve: %s. Then: sallyport grants activate %s\n", r.Request.Needed, orAll(r.Request.Reviewers), r.Request.ID)
		})
	}
	fmt.Fprintf(e.stderr, "Request %s waits for %d to approve.\n", r.Request.ID, r.Request.Needed)
	for r.State == sallyport.RequestPending {
		select {
		case <-e.ctx.Done():
			return e.ctx.Err()
		case <-time.After(2 * time.Second):
		}
		if r, err = s.Approvals.Request(e.ctx, r.Request.ID); err != nil {
			return err
		}
	}
	if r.State != sallyport.RequestApproved {
		return sallyport.Errorf(sallyport.CodeDenied, "the request is %s%s", r.State, colon(r.Why))
	}
	g, err := s.Approvals.Activate(e.ctx, r.Request.ID)
	if err != nil {
		return err
	}
	return c.print(e, g, func(w io.Writer) { fmt.Fprintf(w, "%s until %s\n", g.Grant.ID, g.Grant.EndsAt.Format(time.RFC3339)) })
}

// resourceOf reads the short forms of a resource.
func resourceOf(s string) string {
	switch {
	case strings.Contains(s, "::"):
		return s
	case s == "instance":
		return `Instance::"instance"`
	case strings.Contains(s, "/"):
		return fmt.Sprintf("Environment::%q", s)
	}
	return fmt.Sprintf("Project::%q", s)
}

type grantsCmd struct {
	List     grantsListCmd     `cmd:"" default:"withargs" help:"List access that was granted for a while."`
	Activate grantsActivateCmd `cmd:"" help:"Begin the time of access that was approved."`
	Revoke   grantsRevokeCmd   `cmd:"" help:"End a grant now; what was handed out under it is taken back."`
}

type grantsListCmd struct {
	remote
	output
	Limit int `help:"At most so many." default:"50"`
}

func (c grantsListCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	list, err := s.Approvals.Grants(e.ctx, sallyport.Page{Limit: c.Limit})
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "ID\tSTATE\tHOLDER\tWHAT\tENDS\tUSES\tLENT", func(line func(...any)) {
			for _, g := range list {
				state := string(g.State)
				if g.Grant.Emergency {
					state += ", emergency"
				}
				left := 0
				for _, l := range g.Lent {
					if !l.Taken {
						left++
					}
				}
				line(g.Grant.ID, state, g.Grant.Holder, g.Grant.Action+" "+g.Grant.Resource, until(g.Grant.EndsAt), g.Uses, left)
			}
		})
	})
}

type grantsActivateCmd struct {
	requestArg
	output
}

func (c grantsActivateCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	g, err := s.Approvals.Activate(e.ctx, c.ID)
	if err != nil {
		return err
	}
	return c.print(e, g, func(w io.Writer) { fmt.Fprintf(w, "%s until %s\n", g.Grant.ID, g.Grant.EndsAt.Format(time.RFC3339)) })
}

type grantsRevokeCmd struct {
	remote
	ID  sallyport.GrantID `arg:"" help:"Id of the grant."`
	Why string            `help:"Why." placeholder:"TEXT"`
}

func (c grantsRevokeCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	return s.Approvals.Revoke(e.ctx, c.ID, c.Why)
}
