package web

import (
	"context"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type artifactView struct {
	sallyport.Artifact
	Project      sallyport.Project
	Chain        evidence
	Environments []sallyport.Environment
	Commands     commands
	Missing      []string
}

func (s *server) artifactPage(w http.ResponseWriter, r *http.Request) error {
	a, err := s.Artifacts.Artifact(r.Context(), sallyport.ArtifactID(r.PathValue("artifact")))
	if err != nil {
		return err
	}
	v := artifactView{Artifact: a}
	if v.Project, err = s.Projects.Project(r.Context(), string(a.Project)); err != nil {
		return err
	}
	v.Chain = s.evidence(r.Context(), v.Project, a)
	v.Commands = s.commands(r.Context(), v.Project, a, v.Chain)
	v.Environments, err = s.Deployments.Environments(r.Context(), a.Project)
	if m := s.missing(r.Context(), "environments", err); m != "" {
		v.Missing = append(v.Missing, m)
	}
	run := v.Chain.Run
	return s.render(w, r, "artifact", view{Title: a.Name, Nav: "runs", Body: v, Crumbs: []crumb{
		{v.Project.Name, "/projects/" + v.Project.Name},
		{"Run #" + strconv.FormatInt(run.Number, 10), "/runs/" + string(a.Run)}}})
}

// downloadArtifact sends the content. Its digest is checked on the way; when it
// does not match, the answer is cut short, which a client sees by its length.
func (s *server) downloadArtifact(w http.ResponseWriter, r *http.Request) error {
	a, err := s.Artifacts.Artifact(r.Context(), sallyport.ArtifactID(r.PathValue("artifact")))
	if err != nil {
		return err
	}
	content, err := s.Artifacts.Open(r.Context(), a.ID)
	if err != nil {
		return err
	}
	defer content.Close()
	patient(w)
	attachment(w, a.Filename, "application/octet-stream", a.Size)
	w.Header().Set("Digest", "sha-256="+a.Digest.Hex())
	if _, err := io.Copy(w, content); err != nil {
		s.log.ErrorContext(r.Context(), "download broke off", "artifact", a.ID, "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// patient gives a download its time.
func patient(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTimeout)) // not every server supports one
}

// attachment makes the answer a file to save, never one to show. size -1 is unknown.
func attachment(w http.ResponseWriter, name, mediaType string, size int64) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	disposition := mime.FormatMediaType("attachment", map[string]string{"filename": name})
	if disposition == "" {
		disposition = "attachment"
	}
	h.Set("Content-Disposition", disposition)
	if size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
}

func (s *server) downloadBundle(w http.ResponseWriter, r *http.Request) error {
	id := sallyport.StatementID(r.PathValue("statement"))
	b, err := s.Artifacts.Bundle(r.Context(), id)
	if err != nil {
		return err
	}
	name := string(id)
	if artifact := r.URL.Query().Get("name"); sallyport.ValidName("file", artifact) == nil {
		name = artifact
	}
	attachment(w, name+".sigstore.json", "application/vnd.dev.sigstore.bundle.v0.3+json", int64(len(b)))
	_, err = w.Write(b)
	return gone(err)
}

// judgeArtifact asks the gate, and deploys nothing.
func (s *server) judgeArtifact(w http.ResponseWriter, r *http.Request) error {
	d, err := s.Gates.Judge(r.Context(), sallyport.ArtifactID(r.PathValue("artifact")), r.PostFormValue("environment"))
	if err != nil {
		return err
	}
	return see(w, r, "/verdicts/"+string(d.ID), "")
}

func (s *server) deployArtifact(w http.ResponseWriter, r *http.Request) error {
	d, err := s.Deployments.Deploy(r.Context(), sallyport.ArtifactID(r.PathValue("artifact")), r.PostFormValue("environment"))
	if err != nil {
		return err
	}
	return see(w, r, "/deployments/"+string(d.ID), "deploying")
}

// artifactOf finds the artifact that a deployment brought out, by the run which the
// evidence about its digest names; ok is false when it cannot be told.
func (s *server) artifactOf(ctx context.Context, d sallyport.Deployment) (a sallyport.Artifact, ok bool) {
	statements, err := s.Artifacts.Statements(ctx, d.Project, d.Digest)
	if err != nil {
		return a, false
	}
	for _, st := range statements {
		if st.Run == "" {
			continue
		}
		if a, err := s.Artifacts.FindArtifact(ctx, st.Run, d.Spec.Artifact); err == nil && a.Digest == d.Digest {
			return a, true
		}
	}
	return a, false
}
