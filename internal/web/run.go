package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/sallyport-ci/sallyport"
)

// runRow is a run with the name of its project.
type runRow struct {
	sallyport.Run
	Project string
}

func rows(runs []sallyport.Run, projects []sallyport.Project) []runRow {
	names := make(map[sallyport.ProjectID]string, len(projects))
	for _, p := range projects {
		names[p.ID] = p.Name
	}
	out := make([]runRow, len(runs))
	for i, r := range runs {
		out[i] = runRow{r, names[r.Project]}
	}
	return out
}

type runsView struct {
	Runs     []runRow
	Projects []sallyport.Project
	Project  string // chosen, by name
	Status   string
	Older    string // URL of the next page, "" at the end
}

// statuses of a run that the list can be narrowed to.
var statuses = []sallyport.Status{sallyport.StatusWaiting, sallyport.StatusQueued, sallyport.StatusInProgress,
	sallyport.StatusCollecting, sallyport.StatusCompleted}

// Statuses are the choices of the filter, with their words.
func (runsView) Statuses() map[sallyport.Status]string {
	m := map[sallyport.Status]string{sallyport.StatusCompleted: "completed"}
	for _, st := range statuses[:4] {
		m[st] = progressBadge(st, "").Text
	}
	return m
}

func (s *server) runsPage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	v := runsView{Project: q.Get("project"), Status: q.Get("status")}
	var err error
	if v.Projects, err = s.Projects.Projects(r.Context()); err != nil {
		return err
	}
	f := sallyport.RunFilter{Status: sallyport.Status(v.Status), Page: sallyport.Page{Before: q.Get("before"), Limit: listPage}}
	if f.Project, err = projectID(v.Projects, v.Project); err != nil {
		return err
	}
	runs, err := s.Runs.Runs(r.Context(), f)
	if err != nil {
		return err
	}
	v.Runs = rows(runs, v.Projects)
	if len(runs) == listPage {
		v.Older = older("/runs", q, string(runs[len(runs)-1].ID))
	}
	return s.render(w, r, "runs", view{Title: "Runs", Nav: "runs", Body: v, Poll: 5, Refresh: 30})
}

// older returns the URL of the list's next page.
func older(path string, q url.Values, before string) string {
	q.Set("before", before)
	q.Del("note")
	return path + "?" + q.Encode()
}

// projectID finds a project by name among those listed; "" is all of them.
func projectID(projects []sallyport.Project, name string) (sallyport.ProjectID, error) {
	if name == "" {
		return "", nil
	}
	for _, p := range projects {
		if p.Name == name {
			return p.ID, nil
		}
	}
	return "", sallyport.Errorf(sallyport.CodeNotFound, "there is no project %.80q", name)
}

type runView struct {
	sallyport.Run
	Project    sallyport.Project
	Jobs       []sallyport.Job
	Graph      graph
	Failures   []failure
	Warnings   []sallyport.Diagnostic // of the plan
	Artifacts  []sallyport.Artifact
	Statements []statementView
	Verdicts   []sallyport.Verdict
	CacheUses  []cacheUse
	Refusals   []runDoor
	Missing    []string // parts that could not be had, in words
}

// Unfinished reports whether the run can still be cancelled.
func (v runView) Unfinished() bool { return v.Status != sallyport.StatusCompleted }

func (s *server) runPage(w http.ResponseWriter, r *http.Request) error {
	id := sallyport.RunID(r.PathValue("run"))
	run, jobs, err := s.Runs.Run(r.Context(), id)
	if err != nil {
		return err
	}
	p, err := s.Projects.Project(r.Context(), string(run.Project))
	if err != nil {
		return err
	}
	v := runView{Run: run, Project: p, Jobs: jobs, Graph: layOut(run.ID, jobs), Failures: s.failures(r.Context(), jobs)}
	s.runEvidence(r.Context(), &v)
	page := view{Title: runTitle(run), Nav: "runs", Body: v, Crumbs: []crumb{{p.Name, "/projects/" + p.Name}, {"Runs", "/runs?project=" + p.Name}}}
	if v.Unfinished() {
		page.Refresh = 10
		page.Live = "/runs/" + string(id) + "/events?have=" + fingerprint(run, jobs)
	}
	return s.render(w, r, "run", page)
}

func runTitle(r sallyport.Run) string {
	if r.Title != "" {
		return r.Title
	}
	return r.Name
}

// runEvidence adds what the run left behind; a part that cannot be had is named, not fatal.
func (s *server) runEvidence(ctx context.Context, v *runView) {
	var err error
	miss := func(what string, err error) {
		if m := s.missing(ctx, what, err); m != "" {
			v.Missing = append(v.Missing, m)
		}
	}
	v.Artifacts, err = s.Artifacts.Artifacts(ctx, v.ID)
	miss("artifacts", err)
	for _, a := range v.Artifacts[:min(len(v.Artifacts), 20)] {
		statements, err := s.Artifacts.Statements(ctx, a.Project, a.Digest)
		miss("statements", err)
		for _, st := range statements {
			v.Statements = append(v.Statements, statementView{Statement: st, About: a.Name})
		}
	}
	uses, err := s.Caches.CacheUses(ctx, v.ID)
	miss("caches", err)
	v.CacheUses = cacheUses(uses, v.Jobs)
	doors, err := s.Doors.Doors(ctx, v.ID)
	miss("what the jobs reached", err)
	v.Refusals = refusals(doors)
	verdicts, err := s.Gates.Verdicts(ctx, v.Run.Project, sallyport.Page{Limit: 200})
	miss("verdicts", err)
	for _, d := range verdicts {
		if d.Run == v.ID {
			v.Verdicts = append(v.Verdicts, d)
		}
	}
	if plan, err := s.Runs.Plan(ctx, v.ID); err == nil && plan != nil {
		v.Warnings = slices.DeleteFunc(slices.Clone(plan.Warnings), func(d sallyport.Diagnostic) bool { return d.Severity == "note" })
	} else {
		miss("plan", err)
	}
}

func (s *server) cancelRun(w http.ResponseWriter, r *http.Request) error {
	id := sallyport.RunID(r.PathValue("run"))
	if err := s.Runs.Cancel(r.Context(), id); err != nil {
		return err
	}
	return see(w, r, "/runs/"+string(id), "cancelled")
}
