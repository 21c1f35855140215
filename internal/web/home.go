package web

import (
	"net/http"

	"github.com/sallyport-ci/sallyport"
)

type homeView struct {
	Projects     []sallyport.Project
	Running      []runRow
	Failed       []runRow // among the last homeReach runs
	Recent       []runRow // the others
	Environments []environmentView
	Health       *sallyport.InstanceHealth // nil when the asker may not know
	Alarms       []string
}

const (
	homeReach  = 50 // runs among which failures are looked for
	homeRecent = 12
	homeFailed = 5
)

// homePage says what is going on: what runs, what failed, what is where.
func (s *server) homePage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	projects, err := s.Projects.Projects(ctx)
	if err != nil {
		return err
	}
	runs, err := s.Runs.Runs(ctx, sallyport.RunFilter{Page: sallyport.Page{Limit: homeReach}})
	if err != nil {
		return err
	}
	v := homeView{Projects: projects}
	v.sortRuns(rows(runs, projects))
	if v.Environments, err = s.environments(ctx, projects, 4); err != nil {
		return err
	}
	v.Health, v.Alarms = s.alarms(ctx)
	return s.render(w, r, "home", view{Title: "What is going on", Nav: "home", Body: v, Poll: 5, Refresh: 30})
}

func (v *homeView) sortRuns(all []runRow) {
	for _, r := range all {
		switch {
		case r.Status != sallyport.StatusCompleted:
			v.Running = append(v.Running, r)
		case r.Conclusion == sallyport.Failure && len(v.Failed) < homeFailed:
			v.Failed = append(v.Failed, r)
		case len(v.Recent) < homeRecent:
			v.Recent = append(v.Recent, r)
		}
	}
}

// Unhealthy counts the environments whose live deployment failed its last check.
func (v homeView) Unhealthy() int {
	n := 0
	for _, e := range v.Environments {
		if e.Live != nil && !e.Health.OK && !e.Health.At.IsZero() {
			n++
		}
	}
	return n
}
