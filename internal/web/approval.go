package web

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/sallyport-ci/sallyport"
)

type approvalsView struct {
	Waiting  []sallyport.RequestStatus // open ones, newest first
	Over     []sallyport.RequestStatus // the last that are over
	Grants   []sallyport.GrantStatus
	Projects map[sallyport.ProjectID]string
}

// shownOver bounds the requests that are over on the page.
const shownOver = 20

// approvalsPage is the inbox: what waits for a person, and access that was granted for a while.
func (s *server) approvalsPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v := approvalsView{Projects: map[sallyport.ProjectID]string{}}
	var err error
	if v.Waiting, err = s.Approvals.Requests(ctx, "", true, sallyport.Page{Limit: listPage}); err != nil {
		return err
	}
	recent, err := s.Approvals.Requests(ctx, "", false, sallyport.Page{Limit: listPage})
	if err != nil {
		return err
	}
	for _, q := range recent {
		if !q.State.Open() && len(v.Over) < shownOver {
			v.Over = append(v.Over, q)
		}
	}
	if v.Grants, err = s.Approvals.Grants(ctx, sallyport.Page{Limit: listPage}); err != nil {
		return err
	}
	projects, err := s.Projects.Projects(ctx)
	if err != nil {
		return err
	}
	for _, p := range projects {
		v.Projects[p.ID] = p.Name
	}
	return s.render(w, r, "approvals", view{Title: "Approvals", Nav: "approvals", Poll: 30, Body: v})
}

type approvalView struct {
	sallyport.RequestStatus
	Project string // its name
	Mine    bool   // who looks asked for it
	Waits   string // address of what waits
}

// approvalPage shows what a yes would do, and takes it.
func (s *server) approvalPage(w http.ResponseWriter, r *http.Request) error {
	st, err := s.Approvals.Request(r.Context(), sallyport.RequestID(r.PathValue("request")))
	if err != nil {
		return err
	}
	v := approvalView{RequestStatus: st, Mine: st.Request.By.ID == sallyport.PrincipalFrom(r.Context()).ID}
	if st.Request.Project != "" {
		if p, err := s.Projects.Project(r.Context(), string(st.Request.Project)); err == nil {
			v.Project = p.Name
		}
	}
	switch st.Request.Kind {
	case sallyport.RequestJob:
		v.Waits = "/runs/" + url.PathEscape(string(st.Request.Run))
	case sallyport.RequestRelease:
		v.Waits = "/" + "deployments/" + url.PathEscape(st.Request.Subject[len("deployment/"):])
	}
	return s.render(w, r, "approval", view{Title: "Approval", Nav: "approvals", Body: v, Crumbs: []crumb{{"Approvals", "/approvals"}}})
}

// vote takes a yes or a no for exactly what the page showed.
func (s *server) vote(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("request")
	v := sallyport.Vote{Word: r.PostFormValue("word"), Note: r.PostFormValue("note"), Digest: sallyport.Digest(r.PostFormValue("digest"))}
	_, err := s.Approvals.Vote(r.Context(), sallyport.RequestID(id), v)
	if errors.Is(err, sallyport.ErrLoginAgain) && s.provider != nil {
		return s.loginAgain(w, r, "/approvals/"+url.PathEscape(id))
	}
	if err != nil {
		return err
	}
	return see(w, r, "/approvals/"+url.PathEscape(id), "voted")
}

func (s *server) activateGrant(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.Approvals.Activate(r.Context(), sallyport.RequestID(r.PathValue("request"))); err != nil {
		return err
	}
	return see(w, r, "/approvals", "activated")
}

func (s *server) withdrawRequest(w http.ResponseWriter, r *http.Request) error {
	if err := s.Approvals.Withdraw(r.Context(), sallyport.RequestID(r.PathValue("request"))); err != nil {
		return err
	}
	return see(w, r, "/approvals", "withdrawn")
}

func (s *server) revokeGrant(w http.ResponseWriter, r *http.Request) error {
	if err := s.Approvals.Revoke(r.Context(), sallyport.GrantID(r.PathValue("grant")), r.PostFormValue("why")); err != nil {
		return err
	}
	return see(w, r, "/approvals", "grant-revoked")
}

// requestBadge shows where a request stands.
func requestBadge(s sallyport.RequestState) badge {
	switch s {
	case sallyport.RequestPending:
		return badge{"wait", "waits for a yes"}
	case sallyport.RequestApproved:
		return badge{"ok", "approved"}
	case sallyport.RequestDone:
		return badge{"ok", "let through"}
	case sallyport.RequestRejected:
		return badge{"bad", "rejected"}
	case sallyport.RequestVoid:
		return badge{"warn", "void"}
	case sallyport.RequestExpired:
		return badge{"off", "expired"}
	case sallyport.RequestWithdrawn:
		return badge{"off", "withdrawn"}
	default:
		return badge{"warn", "unknown"}
	}
}

func grantBadge(s sallyport.GrantState) badge {
	switch s {
	case sallyport.GrantActive:
		return badge{"busy", "active"}
	case sallyport.GrantResting:
		return badge{"wait", "outside its hours"}
	case sallyport.GrantUsed:
		return badge{"off", "used"}
	case sallyport.GrantExpired:
		return badge{"off", "expired"}
	case sallyport.GrantRevoked:
		return badge{"off", "revoked"}
	default:
		return badge{"warn", "unknown"}
	}
}
