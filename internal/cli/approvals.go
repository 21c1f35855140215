package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type approvalsCmd struct {
	List     approvalsListCmd     `cmd:"" default:"withargs" help:"List what asks for approval."`
	Show     approvalsShowCmd     `cmd:"" help:"Show a request: what a yes would do, who may say it, who did."`
	Approve  approvalsApproveCmd  `cmd:"" help:"Say yes to a request."`
	Reject   approvalsRejectCmd   `cmd:"" help:"Say no to a request; one no stops it."`
	Withdraw approvalsWithdrawCmd `cmd:"" help:"Withdraw access that you asked for."`
}

type approvalsListCmd struct {
	remote
	output
	Project string `help:"Of one project." placeholder:"NAME"`
	All     bool   `help:"Also those that are over."`
	Limit   int    `help:"At most so many." default:"50"`
}

func (c approvalsListCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	var project sallyport.ProjectID
	if c.Project != "" {
		p, err := s.Projects.Project(e.ctx, c.Project)
		if err != nil {
			return err
		}
		project = p.ID
	}
	list, err := s.Approvals.Requests(e.ctx, project, !c.All, sallyport.Page{Limit: c.Limit})
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "ID\tSTATE\tYES\tBY\tWHAT\tEXPIRES", func(line func(...any)) {
			for _, r := range list {
				expires := "-"
				if r.State == sallyport.RequestPending {
					expires = until(r.Request.ExpiresAt)
				}
				line(r.Request.ID, r.State, fmt.Sprintf("%d of %d", r.Approvals(), r.Request.Needed), r.Request.By, whatAsks(r.Request), expires)
			}
		})
	})
}

// whatAsks says in a few words what a request wants.
func whatAsks(r sallyport.AccessRequest) string {
	switch r.Kind {
	case sallyport.RequestAccess:
		text := fmt.Sprintf("%s %s for %s", r.Action, r.Resource, r.For)
		if r.Once {
			text += ", once"
		}
		return text
	case sallyport.RequestReview:
		return fmt.Sprintf("look at an emergency: %s %s", r.Action, r.Resource)
	}
	return fmt.Sprintf("%s enters %s at %.10s", r.Kind, r.Environment, r.Bound.Commit)
}

// until is how long something still lasts.
func until(t time.Time) string {
	d := time.Until(t).Round(time.Minute)
	if d <= 0 {
		return "over"
	}
	return "in " + strings.TrimSuffix(d.String(), "0s")
}

type requestArg struct {
	remote
	ID sallyport.RequestID `arg:"" help:"Id of the request."`
}

type approvalsShowCmd struct {
	requestArg
	output
}

func (c approvalsShowCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	r, err := s.Approvals.Request(e.ctx, c.ID)
	if err != nil {
		return err
	}
	return c.print(e, r, func(w io.Writer) { printRequest(w, r) })
}

func printRequest(w io.Writer, st sallyport.RequestStatus) {
	r := st.Request
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", name, plain(fmt.Sprintf(format, args...)))
	}
	row("request", "%s", r.ID)
	row("state", "%s%s", st.State, colon(st.Why))
	row("what", "%s", whatAsks(r))
	row("by", "%s%s", r.By, colon(r.Why))
	if len(r.Hours) > 0 {
		row("hours", "%s", r.Hours)
	}
	if r.Needed > 0 {
		row("needs", "%d of %s", r.Needed, orAll(r.Reviewers))
	}
	for _, v := range st.Votes {
		row("vote", "%s: %s%s", v.By, v.Word, colon(v.Note))
	}
	if st.State == sallyport.RequestPending {
		row("expires", "%s", r.ExpiresAt.Format(time.RFC3339))
		row("may vote", "%s", orDash(strings.Join(st.MayVote, ", ")))
		if st.Objection != "" {
			row("you", "may not: %s", st.Objection)
		}
	}
	if st.Grant != "" {
		row("grant", "%s", st.Grant)
	}
	if b := r.Bound; b.Commit != "" {
		row("commits", "%s..%s", orDash(b.Base), b.Commit)
		row("plan", "%s", orDash(string(b.Plan)))
		row("artifact", "%s", b.Artifact)
		row("evidence", "%s", b.Evidence)
	}
	row("digest", "%s", st.Digest)
	if x := st.Effect; x != nil {
		if x.Subject != "" {
			row("subject", "%s", x.Subject)
		}
		for _, f := range x.Changed {
			row("changes", "%s", f)
		}
		if x.More {
			row("changes", "… and more")
		}
		if x.Decision != "" {
			row("gate", "%s", x.Decision)
		}
		for _, why := range x.Reasons {
			row("", "%s", why)
		}
		if x.Access != nil {
			for _, g := range x.Access.Gained {
				row("+ lets", "%s %s %s", g.Principal, g.Action, g.Resource)
			}
		}
	}
	if r.Kind == sallyport.RequestAccess && st.State == sallyport.RequestApproved {
		fmt.Fprintf(w, "\nWho asked begins its time with: sallyport grants activate %s\n", r.ID)
	}
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func orAll(reviewers []string) string {
	if len(reviewers) == 0 {
		return "all whom policies let approve"
	}
	return strings.Join(reviewers, ", ")
}

type votes struct {
	requestArg
	output
	Note   string           `help:"What you have to say of it." placeholder:"TEXT"`
	Digest sallyport.Digest `help:"Of the request that you have seen; default: as it is now." placeholder:"SHA256"`
}

func (c votes) vote(e *env, word string) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	if c.Digest == "" {
		r, err := s.Approvals.Request(e.ctx, c.ID)
		if err != nil {
			return err
		}
		c.Digest = r.Digest
	}
	r, err := s.Approvals.Vote(e.ctx, c.ID, sallyport.Vote{Word: word, Note: c.Note, Digest: c.Digest})
	if err != nil {
		return err
	}
	return c.print(e, r, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d of %d\n", r.State, r.Approvals(), r.Request.Needed)
	})
}

type approvalsApproveCmd struct{ votes }

func (c approvalsApproveCmd) Run(e *env) error { return c.vote(e, sallyport.WordApprove) }

type approvalsRejectCmd struct{ votes }

func (c approvalsRejectCmd) Run(e *env) error { return c.vote(e, sallyport.WordReject) }

type approvalsWithdrawCmd struct{ requestArg }

func (c approvalsWithdrawCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	return s.Approvals.Withdraw(e.ctx, c.ID)
}
