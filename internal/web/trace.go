package web

import (
	"net/http"
	"strconv"

	"github.com/sallyport-ci/sallyport"
)

type traceView struct {
	jobView
	Trace *sallyport.Trace // nil when nothing was recorded
}

// tracePage shows what was seen of a job from outside its room.
func (s *server) tracePage(w http.ResponseWriter, r *http.Request) error {
	v, job, err := s.findJob(r)
	if err != nil {
		return err
	}
	if v.Project, err = s.Projects.Project(r.Context(), string(v.Run.Project)); err != nil {
		return err
	}
	t := traceView{jobView: v}
	if job.Trace != "" {
		seen, err := s.Runs.Trace(r.Context(), job.ID)
		if err != nil {
			return err
		}
		t.Trace = &seen
	}
	return s.render(w, r, "trace", view{Title: "What " + job.Name + " did", Nav: "runs", Body: t, Crumbs: []crumb{
		{v.Project.Name, "/projects/" + v.Project.Name}, {"Run #" + strconv.FormatInt(v.Run.Number, 10), "/runs/" + string(v.Run.ID)}, {job.Name, v.Base()}}})
}
