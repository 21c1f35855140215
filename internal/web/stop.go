package web

import (
	"net/http"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

type stopsView struct {
	Stops  []sallyport.Stop
	Kinds  []sallyport.StopKind
	Report *sallyport.StopReport // of what was just stopped
}

// stopKinds are what the form offers, in the order in which one needs them.
var stopKinds = []sallyport.StopKind{sallyport.StopPerson, sallyport.StopBot, sallyport.StopAgent, sallyport.StopRunner, sallyport.StopProject, sallyport.StopSecret, sallyport.StopKey}

// stopsPage is the kill switch, and what it holds.
func (s *server) stopsPage(w http.ResponseWriter, r *http.Request) error {
	return s.showStops(w, r, nil)
}

func (s *server) showStops(w http.ResponseWriter, r *http.Request, report *sallyport.StopReport) error {
	list, err := s.Stops.Stops(r.Context())
	if err != nil {
		return err
	}
	return s.render(w, r, "stops", view{Title: "Kill switch", Nav: "approvals", Body: stopsView{Stops: list, Kinds: stopKinds, Report: report}, Crumbs: []crumb{{"Approvals", "/approvals"}}})
}

// throwStop stops what the form names, and shows what that did and what it could not undo.
func (s *server) throwStop(w http.ResponseWriter, r *http.Request) error {
	name := strings.TrimSpace(r.PostFormValue("name"))
	if name == "" {
		return invalid("the kill switch needs the name of what to stop")
	}
	report, err := s.Stops.Stop(r.Context(), sallyport.StopKind(r.PostFormValue("kind")), name, strings.TrimSpace(r.PostFormValue("why")))
	if err != nil {
		return err
	}
	return s.showStops(w, r, &report)
}

func (s *server) liftStop(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.Stops.Lift(r.Context(), sallyport.StopKind(r.PostFormValue("kind")), r.PostFormValue("name"), strings.TrimSpace(r.PostFormValue("why"))); err != nil {
		return err
	}
	return see(w, r, "/stops", "lifted")
}
