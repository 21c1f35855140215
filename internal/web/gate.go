package web

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/sallyport-ci/sallyport"
)

type verdictRow struct {
	sallyport.Verdict
	ProjectName string
}

type gatesView struct {
	Verdicts []verdictRow
	Projects []sallyport.Project
	Project  string
	Older    string
}

// gatesPage lists verdicts: of one project page by page, of all the newest.
func (s *server) gatesPage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	v := gatesView{Project: q.Get("project")}
	var err error
	if v.Projects, err = s.Projects.Projects(r.Context()); err != nil {
		return err
	}
	chosen, err := projectID(v.Projects, v.Project)
	if err != nil {
		return err
	}
	for _, p := range v.Projects[:min(len(v.Projects), maxProjects)] {
		if chosen != "" && p.ID != chosen {
			continue
		}
		verdicts, err := s.Gates.Verdicts(r.Context(), p.ID, sallyport.Page{Before: q.Get("before"), Limit: listPage})
		if err != nil {
			return err
		}
		for _, d := range verdicts {
			v.Verdicts = append(v.Verdicts, verdictRow{d, p.Name})
		}
	}
	// Ids sort by time of creation, also across projects.
	slices.SortStableFunc(v.Verdicts, func(a, b verdictRow) int { return cmp.Compare(b.ID, a.ID) })
	if len(v.Verdicts) >= listPage {
		v.Verdicts = v.Verdicts[:listPage]
		v.Older = older("/gates", q, string(v.Verdicts[listPage-1].ID))
	}
	return s.render(w, r, "gates", view{Title: "Gates", Nav: "gates", Body: v, Poll: 10, Refresh: 60})
}

type verdictView struct {
	sallyport.Verdict
	Project     sallyport.Project
	ArtifactURL string             // "" when the artifact cannot be found
	Replayed    *sallyport.Verdict // nil: not replayed on this page
	Tried       bool               // with a policy other than its own
}

// maxShownInput bounds how much of an evidence document a page shows.
const maxShownInput = 64 << 10

// InputText is the evidence document, indented for people.
func (v verdictView) InputText() string {
	var b bytes.Buffer
	if json.Indent(&b, v.Input, "", "  ") != nil {
		return string(v.Input[:min(len(v.Input), maxShownInput)])
	}
	text := b.String()
	if len(text) > maxShownInput {
		return text[:maxShownInput] + "\n… " + formatBytes(int64(len(text))) + " in all; the API returns the whole document"
	}
	return text
}

// PolicyText is the policy that decided.
func (v verdictView) PolicyText() string { return string(v.Policy) }

// Same reports whether the replay came to the same decision for the same reasons.
func (v verdictView) Same() bool {
	return v.Replayed.Decision == v.Decision && slices.Equal(v.Replayed.Reasons, v.Reasons)
}

func (s *server) verdictPage(w http.ResponseWriter, r *http.Request) error {
	return s.showVerdict(w, r, func(*verdictView) error { return nil })
}

// replayVerdict decides again from the kept inputs and shows both decisions side by side.
func (s *server) replayVerdict(w http.ResponseWriter, r *http.Request) error {
	return s.showVerdict(w, r, func(v *verdictView) error {
		policy := r.PostFormValue("policy")
		again, err := s.Gates.Replay(r.Context(), v.ID, policy)
		v.Replayed, v.Tried = &again, policy != ""
		return err
	})
}

func (s *server) showVerdict(w http.ResponseWriter, r *http.Request, act func(*verdictView) error) error {
	d, err := s.Gates.Verdict(r.Context(), sallyport.VerdictID(r.PathValue("verdict")))
	if err != nil {
		return err
	}
	v := verdictView{Verdict: d}
	if v.Project, err = s.Projects.Project(r.Context(), string(d.Project)); err != nil {
		return err
	}
	if err := act(&v); err != nil {
		return err
	}
	if d.Run != "" && d.Artifact != "" {
		if a, err := s.Artifacts.FindArtifact(r.Context(), d.Run, d.Artifact); err == nil {
			v.ArtifactURL = "/artifacts/" + string(a.ID)
		}
	}
	return s.render(w, r, "verdict", view{Title: "Verdict on " + cmp.Or(d.Artifact, d.Subject.Short()), Nav: "gates", Body: v,
		Crumbs: []crumb{{v.Project.Name, "/projects/" + v.Project.Name}, {"Gates", "/gates?project=" + v.Project.Name}}})
}
