package web

import (
	"net/http"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

type projectRow struct {
	sallyport.Project
	Last *runRow // newest run; nil for none
}

type projectsView struct{ Projects []projectRow }

func (s *server) projectsPage(w http.ResponseWriter, r *http.Request) error {
	projects, err := s.Projects.Projects(r.Context())
	if err != nil {
		return err
	}
	v := projectsView{}
	for i, p := range projects {
		row := projectRow{Project: p}
		if i < maxProjects {
			runs, err := s.Runs.Runs(r.Context(), sallyport.RunFilter{Project: p.ID, Page: sallyport.Page{Limit: 1}})
			if err != nil {
				return err
			}
			if len(runs) > 0 {
				row.Last = &rows(runs, projects)[0]
			}
		}
		v.Projects = append(v.Projects, row)
	}
	return s.render(w, r, "projects", view{Title: "Projects", Nav: "projects", Body: v})
}

func (s *server) createProject(w http.ResponseWriter, r *http.Request) error {
	name, branch := strings.TrimSpace(r.PostFormValue("name")), strings.TrimSpace(r.PostFormValue("default_branch"))
	if branch == "" {
		branch = "main"
	}
	p, err := s.Projects.CreateProject(r.Context(), name, branch)
	if err != nil {
		return err
	}
	return see(w, r, "/projects/"+p.Name, "created")
}

type projectView struct {
	sallyport.Project
	Runs         []runRow
	Workflows    []string // of the runs shown, to start one again
	Environments []environmentView
	Remote       string // URL to push to
}

func (s *server) projectPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	p, err := s.Projects.Project(ctx, r.PathValue("project"))
	if err != nil {
		return err
	}
	runs, err := s.Runs.Runs(ctx, sallyport.RunFilter{Project: p.ID, Page: sallyport.Page{Limit: 20}})
	if err != nil {
		return err
	}
	v := projectView{Project: p, Runs: rows(runs, []sallyport.Project{p}), Remote: s.base.JoinPath(p.Name + ".git").String()}
	v.Workflows = workflowsOf(runs)
	if v.Environments, err = s.environments(ctx, []sallyport.Project{p}, 4); err != nil {
		return err
	}
	return s.render(w, r, "project", view{Title: p.Name, Nav: "projects", Body: v, Poll: 5, Refresh: 30,
		Crumbs: []crumb{{"Projects", "/projects"}}})
}

func workflowsOf(runs []sallyport.Run) []string {
	var names []string
	seen := map[string]bool{}
	for _, r := range runs {
		if !seen[r.Workflow] {
			seen[r.Workflow] = true
			names = append(names, r.Workflow)
		}
	}
	return names
}

// dispatch starts a workflow by hand.
func (s *server) dispatch(w http.ResponseWriter, r *http.Request) error {
	p, err := s.Projects.Project(r.Context(), r.PathValue("project"))
	if err != nil {
		return err
	}
	inputs := strings.TrimSpace(r.PostFormValue("inputs"))
	if inputs == "" {
		inputs = "{}"
	}
	ref := strings.TrimSpace(r.PostFormValue("ref"))
	if !strings.HasPrefix(ref, "refs/") {
		ref = "refs/heads/" + ref
	}
	runs, err := s.Runs.Dispatch(r.Context(), p.ID, r.PostFormValue("workflow"), ref, []byte(inputs))
	if err != nil {
		return err
	}
	if len(runs) == 1 {
		return see(w, r, "/runs/"+string(runs[0].ID), "dispatched")
	}
	return see(w, r, "/projects/"+p.Name, "dispatched")
}
