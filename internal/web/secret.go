package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

type secretsView struct {
	Project sallyport.Project
	Secrets []sallyport.SecretEntry
	// Rotations are those of the secrets that have any, by rotationKey.
	Rotations map[string]sallyport.RotationStatus
}

// Rotation returns how a secret is rotated; nil: it is not.
func (v secretsView) Rotation(e sallyport.SecretEntry) *sallyport.RotationStatus {
	if r, ok := v.Rotations[rotationKey(e.Environment, e.Name)]; ok {
		return &r
	}
	return nil
}

func rotationKey(environment, name string) string { return name + " " + environment }

func (s *server) secretsPage(w http.ResponseWriter, r *http.Request) error {
	p, err := s.Projects.Project(r.Context(), r.PathValue("project"))
	if err != nil {
		return err
	}
	v := secretsView{Project: p}
	if v.Secrets, err = s.Secrets.Secrets(r.Context(), p.ID); err != nil {
		return err
	}
	rotations, err := s.Secrets.Rotations(r.Context(), p.ID)
	if err != nil {
		return err
	}
	v.Rotations = map[string]sallyport.RotationStatus{}
	for _, x := range rotations {
		v.Rotations[rotationKey(x.Rule.Environment, x.Rule.Name)] = x
	}
	return s.render(w, r, "secrets", view{Title: "Secrets of " + p.Name, Nav: "projects", Body: v, Crumbs: []crumb{{"Projects", "/projects"}, {p.Name, "/projects/" + p.Name}}})
}

// setSecret takes a value in; no page ever shows one.
func (s *server) setSecret(w http.ResponseWriter, r *http.Request) error {
	p, err := s.Projects.Project(r.Context(), r.PathValue("project"))
	if err != nil {
		return err
	}
	// Forms send line ends as CRLF; keys have LF.
	value := sallyport.NewSecret([]byte(strings.ReplaceAll(r.PostFormValue("value"), "\r\n", "\n")))
	if _, err := s.Secrets.SetSecret(r.Context(), p.ID, strings.TrimSpace(r.PostFormValue("environment")), strings.TrimSpace(r.PostFormValue("name")), value); err != nil {
		return err
	}
	return see(w, r, "/projects/"+url.PathEscape(p.Name)+"/secrets", "secret-set")
}

func (s *server) deleteSecret(w http.ResponseWriter, r *http.Request) error {
	p, err := s.Projects.Project(r.Context(), r.PathValue("project"))
	if err != nil {
		return err
	}
	if err := s.Secrets.DeleteSecret(r.Context(), p.ID, r.PostFormValue("environment"), r.PathValue("name")); err != nil {
		return err
	}
	return see(w, r, "/projects/"+url.PathEscape(p.Name)+"/secrets", "secret-deleted")
}

func (s *server) rotateSecret(w http.ResponseWriter, r *http.Request) error {
	p, err := s.Projects.Project(r.Context(), r.PathValue("project"))
	if err != nil {
		return err
	}
	if _, err := s.Secrets.Rotate(r.Context(), p.ID, r.PostFormValue("environment"), r.PathValue("name")); err != nil {
		return err
	}
	return see(w, r, "/projects/"+url.PathEscape(p.Name)+"/secrets", "secret-rotating")
}
