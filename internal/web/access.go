package web

import (
	"encoding/json"
	"net/http"

	"github.com/sallyport-ci/sallyport"
)

type accessView struct {
	Accounts []sallyport.Account
	Projects map[sallyport.ProjectID]string
	Rules    sallyport.AccessRules
	Actions  []string
	Known    []string // resources that the form offers

	Action, Resource string // what was asked; "" when nothing was
	Holders          []sallyport.Holder
	Refused          string // why the question has no answer

	Last   *sallyport.AuditRecord  // of the last change of the file
	Change *sallyport.AccessChange // what it let
}

// accessActions are what people may be asked about on the page.
var accessActions = []string{"read", "fetch", "push", "operate", "deploy", "secrets", "admin", "instance"}

// accessPage shows who may do what. It changes nothing: policies are files that are
// checked and compared before they are set.
func (s *server) accessPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v := accessView{Projects: map[sallyport.ProjectID]string{}, Actions: accessActions, Known: []string{`Instance::"instance"`},
		Action: r.FormValue("action"), Resource: r.FormValue("resource")}
	var err error
	if v.Rules, err = s.Rights.AccessRules(ctx); err != nil {
		return err
	}
	if v.Accounts, err = s.Rights.Accounts(ctx); err != nil {
		return err
	}
	projects, err := s.Projects.Projects(ctx)
	if err != nil {
		return err
	}
	for _, p := range projects[:min(len(projects), maxProjects)] {
		v.Projects[p.ID] = p.Name
		v.Known = append(v.Known, `Project::"`+p.Name+`"`)
		list, err := s.Deployments.Environments(ctx, p.ID)
		if err != nil {
			return err
		}
		for _, e := range list {
			v.Known = append(v.Known, `Environment::"`+p.Name+`/`+e.Name+`"`)
		}
	}
	if v.Action != "" && v.Resource != "" {
		v.Holders, err = s.Rights.WhoCan(ctx, v.Action, v.Resource)
		switch sallyport.ErrorCode(err) {
		case "":
		case sallyport.CodeInvalid, sallyport.CodeNotFound:
			v.Refused, _ = sallyport.ErrorMessage(err)
		default:
			return err
		}
	}
	if err := s.lastChange(r, &v); err != nil {
		return err
	}
	return s.render(w, r, "access", view{Title: "Access", Nav: "access", Body: v})
}

// lastChange finds what the trail says of the file that is in force.
func (s *server) lastChange(r *http.Request, v *accessView) error {
	list, err := s.Audit.Records(r.Context(), sallyport.AuditFilter{Action: "access.changed", Limit: 1})
	if err != nil || len(list) == 0 {
		return err
	}
	var change sallyport.AccessChange
	if err := json.Unmarshal(list[0].Detail, &change); err != nil {
		return err
	}
	v.Last, v.Change = &list[0], &change
	return nil
}
