package web

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// environmentView is an environment with what runs in it and what did.
type environmentView struct {
	sallyport.Environment
	ProjectName string
	Live        *sallyport.Deployment // nil: nothing takes traffic
	Health      sallyport.Health      // of Live; zero At: not known
	Traffic     sallyport.Traffic
	Weights     []sallyport.Deployment // those that take traffic, the heaviest first
	History     []sallyport.Deployment // newest first
	Older       string
}

// Bars are the parts of the traffic bar on a scale of 100.
func (v environmentView) Bars() []bar {
	var bars []bar
	x := 0
	for _, d := range v.Weights {
		b, _ := badgeOf(d.State)
		bars = append(bars, bar{X: x, W: d.Weight, Tone: b.Tone, Deployment: d})
		x += d.Weight
	}
	return bars
}

// bar is one part of a traffic bar.
type bar struct {
	X, W       int
	Tone       string
	Deployment sallyport.Deployment
}

// CanRollBack reports whether there is a healthy release to go back to.
func (v environmentView) CanRollBack() bool { return v.Live != nil && v.Previous != "" }

// Path is the environment's page.
func (v environmentView) Path() string {
	return "/projects/" + v.ProjectName + "/environments/" + v.Name
}

// environments returns those of the projects with the newest of their deployments.
func (s *server) environments(ctx context.Context, projects []sallyport.Project, history int) ([]environmentView, error) {
	var out []environmentView
	for _, p := range projects[:min(len(projects), maxProjects)] {
		envs, err := s.Deployments.Environments(ctx, p.ID)
		if err != nil {
			return nil, err
		}
		for _, env := range envs {
			v, err := s.environment(ctx, p, env, sallyport.Page{Limit: history})
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
	}
	return out, nil
}

func (s *server) environment(ctx context.Context, p sallyport.Project, env sallyport.Environment, page sallyport.Page) (environmentView, error) {
	v := environmentView{Environment: env, ProjectName: p.Name}
	var err error
	if v.History, err = s.Deployments.Deployments(ctx, p.ID, env.Name, page); err != nil {
		return v, err
	}
	for _, d := range v.History {
		if d.Weight > 0 {
			v.Weights = append(v.Weights, d)
		}
	}
	slices.SortStableFunc(v.Weights, func(a, b sallyport.Deployment) int { return b.Weight - a.Weight })
	if env.Live == "" {
		return v, nil
	}
	if live, err := s.Deployments.Deployment(ctx, env.Live); err == nil {
		v.Live = &live
		if len(v.Weights) == 0 && live.Weight > 0 {
			v.Weights = []sallyport.Deployment{live}
		}
	}
	v.Health, v.Traffic, err = s.Deployments.Health(ctx, env.Live)
	s.missing(ctx, "health", err) // the page says that it is not known
	return v, nil
}

type deploymentsView struct{ Environments []environmentView }

func (s *server) deploymentsPage(w http.ResponseWriter, r *http.Request) error {
	projects, err := s.Projects.Projects(r.Context())
	if err != nil {
		return err
	}
	v := deploymentsView{}
	if v.Environments, err = s.environments(r.Context(), projects, 8); err != nil {
		return err
	}
	return s.render(w, r, "deployments", view{Title: "Deployments", Nav: "deployments", Body: v, Poll: 5, Refresh: 30})
}

// environmentPage shows one environment with its whole history.
func (s *server) environmentPage(w http.ResponseWriter, r *http.Request) error {
	p, env, err := s.findEnvironment(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	v, err := s.environment(r.Context(), p, env, sallyport.Page{Before: q.Get("before"), Limit: listPage})
	if err != nil {
		return err
	}
	if len(v.History) == listPage {
		v.Older = older(v.Path(), q, string(v.History[listPage-1].ID))
	}
	return s.render(w, r, "environment", view{Title: p.Name + " · " + env.Name, Nav: "deployments", Body: v, Poll: 5, Refresh: 30,
		Crumbs: []crumb{{"Deployments", "/deployments"}, {p.Name, "/projects/" + p.Name}}})
}

func (s *server) findEnvironment(r *http.Request) (p sallyport.Project, env sallyport.Environment, err error) {
	if p, err = s.Projects.Project(r.Context(), r.PathValue("project")); err != nil {
		return p, env, err
	}
	envs, err := s.Deployments.Environments(r.Context(), p.ID)
	if err != nil {
		return p, env, err
	}
	i := slices.IndexFunc(envs, func(e sallyport.Environment) bool { return e.Name == r.PathValue("environment") })
	if i < 0 {
		return p, env, sallyport.Errorf(sallyport.CodeNotFound, "project %s has no such environment", p.Name).
			WithHint("declare it in .sallyport/deploy.yaml on the default branch")
	}
	return p, envs[i], nil
}

func (s *server) rollback(w http.ResponseWriter, r *http.Request) error {
	p, env, err := s.findEnvironment(r)
	if err != nil {
		return err
	}
	reason := strings.TrimSpace(r.PostFormValue("reason"))
	if reason == "" {
		return invalid("a rollback needs a reason: it is written into the audit trail")
	}
	d, err := s.Deployments.Rollback(r.Context(), p.ID, env.Name, reason)
	if err != nil {
		return err
	}
	return see(w, r, "/deployments/"+string(d.ID), "rollback")
}

type deploymentView struct {
	sallyport.Deployment
	Project  sallyport.Project
	Artifact *sallyport.Artifact // nil: it cannot be told
	Verdict  *sallyport.Verdict  // the newest about this digest and environment; nil: none
	Health   sallyport.Health
	Traffic  sallyport.Traffic
	Output   string // end of the release's own log
	Missing  []string
}

// ErrorRate is the share of failed requests in percent.
func (v deploymentView) ErrorRate() float64 {
	if v.Traffic.Requests == 0 {
		return 0
	}
	return 100 * float64(v.Traffic.Errors) / float64(v.Traffic.Requests)
}

func (s *server) deploymentPage(w http.ResponseWriter, r *http.Request) error {
	d, err := s.Deployments.Deployment(r.Context(), sallyport.DeploymentID(r.PathValue("deployment")))
	if err != nil {
		return err
	}
	v := deploymentView{Deployment: d}
	if v.Project, err = s.Projects.Project(r.Context(), string(d.Project)); err != nil {
		return err
	}
	s.deploymentDetails(r.Context(), &v)
	env := environmentView{ProjectName: v.Project.Name, Environment: sallyport.Environment{Name: d.Environment}}
	page := view{Title: d.Environment + " #" + strconv.FormatInt(d.Number, 10), Nav: "deployments", Body: v, Poll: 5,
		Crumbs: []crumb{{v.Project.Name, "/projects/" + v.Project.Name}, {d.Environment, env.Path()}}}
	if !d.State.Final() {
		page.Refresh, page.Poll = 5, 2
	}
	return s.render(w, r, "deployment", page)
}

// deploymentDetails adds what may be missing.
func (s *server) deploymentDetails(ctx context.Context, v *deploymentView) {
	var err error
	if v.Health, v.Traffic, err = s.Deployments.Health(ctx, v.ID); err != nil && !v.State.Final() {
		v.Missing = append(v.Missing, s.missing(ctx, "health", err))
	}
	if out, err := s.Deployments.Output(ctx, v.ID); err == nil {
		v.Output = string(out)
	}
	if a, ok := s.artifactOf(ctx, v.Deployment); ok {
		v.Artifact = &a
	}
	verdicts, err := s.Gates.Verdicts(ctx, v.Deployment.Project, sallyport.Page{Limit: 200})
	if m := s.missing(ctx, "verdicts", err); m != "" {
		v.Missing = append(v.Missing, m)
	}
	for i := range verdicts {
		if d := &verdicts[i]; d.Subject == v.Digest && d.Environment == v.Environment {
			v.Verdict = d
			break
		}
	}
}
