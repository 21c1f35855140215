package toolkit

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
)

// The protocol of @actions/artifact from version 2 on ("artifact v4").
const artifactService = "github.actions.results.api.v1.ArtifactService"

// artifacts are the job's artifacts on their way in, by name.
type artifacts struct {
	mu      sync.Mutex
	coming  map[string]*artifact
	content string // what signs the URLs of contents
}

// artifact is one that was created and is not finalized, or was finalized by this job.
type artifact struct {
	upload *upload
	single bool // the content is a file, not a zip of files

	mu   sync.Mutex // held while it is finalized
	done *sallyport.Artifact
}

func (s *Service) serveArtifacts() {
	s.artifacts = &artifacts{coming: map[string]*artifact{}, content: random()}
	rpc(s, artifactService, "CreateArtifact", s.createArtifact)
	rpc(s, artifactService, "FinalizeArtifact", s.finalizeArtifact)
	rpc(s, artifactService, "ListArtifacts", s.listArtifacts)
	rpc(s, artifactService, "GetSignedArtifactURL", s.signArtifact)
	rpc(s, artifactService, "DeleteArtifact", s.deleteArtifact)
	s.mux.HandleFunc("GET /blobs/artifacts/{name}", s.getArtifact)
}

// of names the run and the job that a call is about.
type of struct {
	Run string `json:"workflow_run_backend_id"`
	Job string `json:"workflow_job_run_backend_id"`
}

// check refuses calls about other runs: their artifacts are not this job's affair.
func (s *Service) check(o of) error {
	if o.Run != string(s.cfg.Lease.Run.ID) {
		return sallyport.Errorf(sallyport.CodeNotFound, "artifacts of other runs are not available").
			WithHint("to use what another run made, let that run publish it")
	}
	return nil
}

type createIn struct {
	of
	Name     string `json:"name"`
	Version  int    `json:"version"`
	MIMEType string `json:"mime_type"`
}

type createOut struct {
	OK  bool   `json:"ok"`
	URL string `json:"signed_upload_url"`
}

// createArtifact begins an artifact. Its name is taken by what the run has already.
func (s *Service) createArtifact(ctx context.Context, in createIn) (createOut, error) {
	if err := s.check(in.of); err != nil {
		return createOut{}, err
	}
	if in.Version < 4 {
		return createOut{}, sallyport.Errorf(sallyport.CodeInvalid, "artifacts of version %d are not taken", in.Version).WithHint("use @actions/artifact 2 or later")
	}
	if err := checkArtifactName(in.Name); err != nil {
		return createOut{}, err
	}
	have, err := s.cfg.Yard.Artifacts(ctx, s.cfg.Lease.Ref, "")
	if err != nil {
		return createOut{}, err
	}
	for _, a := range have {
		if a.Name == in.Name {
			return createOut{}, sallyport.Errorf(sallyport.CodeConflict, "an artifact with this name already exists on the workflow run").
				WithHint("give each upload of a run a name of its own, or overwrite it")
		}
	}
	u, err := s.uploads.begin()
	if err != nil {
		return createOut{}, err
	}
	a := &artifact{upload: u, single: in.MIMEType != "" && in.MIMEType != "application/zip"}
	s.artifacts.mu.Lock()
	old := s.artifacts.coming[in.Name]
	s.artifacts.coming[in.Name] = a
	s.artifacts.mu.Unlock()
	if old != nil {
		old.upload.finish() // a try that was given up
	}
	return createOut{true, u.url()}, nil
}

// checkArtifactName refuses what GitHub refuses.
func checkArtifactName(name string) error {
	if name == "" || len(name) > 256 || !utf8.ValidString(name) || strings.ContainsAny(name, "\":<>|*?\r\n\\/\x00") || strings.Trim(name, ".") == "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not the name of an artifact", name).
			WithHint("use at most 256 characters without \" : < > | * ? \\ / and line ends")
	}
	return nil
}

type finalizeIn struct {
	of
	Name string `json:"name"`
	Size number `json:"size"`
	Hash string `json:"hash"`
}

type artifactOut struct {
	OK bool   `json:"ok"`
	ID number `json:"artifact_id"`
}

// finalizeArtifact hands a complete upload to the control plane. Asked again, it
// answers again.
func (s *Service) finalizeArtifact(ctx context.Context, in finalizeIn) (artifactOut, error) {
	if err := s.check(in.of); err != nil {
		return artifactOut{}, err
	}
	s.artifacts.mu.Lock()
	a := s.artifacts.coming[in.Name]
	s.artifacts.mu.Unlock()
	if a == nil {
		return artifactOut{}, sallyport.Errorf(sallyport.CodeNotFound, "no artifact %.80q was created", in.Name).WithHint("call CreateArtifact first")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done == nil {
		content, err := a.upload.read()
		if err != nil {
			return artifactOut{}, err
		}
		if err := matches(content, in); err != nil {
			return artifactOut{}, err
		}
		kept, err := s.put(ctx, in.Name, a, content)
		if err != nil {
			return artifactOut{}, err
		}
		a.done = &kept
		a.upload.finish()
	}
	return artifactOut{true, number(ArtifactNumber(a.done.ID))}, nil
}

// matches compares the content with what the client says it sent.
func matches(content *io.SectionReader, in finalizeIn) error {
	if int64(in.Size) != content.Size() {
		return sallyport.Errorf(sallyport.CodeInvalid, "the artifact has %d bytes, not %d", content.Size(), in.Size)
	}
	if in.Hash == "" {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, in.Hash) {
		return sallyport.Errorf(sallyport.CodeInvalid, "the artifact is %s, not %.80s", got, in.Hash)
	}
	return nil
}

// put sends the content to the control plane as a tar.
func (s *Service) put(ctx context.Context, name string, a *artifact, content *io.SectionReader) (sallyport.Artifact, error) {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		var err error
		if a.single {
			err = tarOne(w, name, io.NewSectionReader(content, 0, content.Size()))
		} else {
			err = tarFromZip(w, content, content.Size())
		}
		packed <- err
		_ = w.CloseWithError(err)
	}()
	kept, err := s.cfg.Yard.PutArtifact(ctx, s.cfg.Lease.Ref, name, r)
	_ = r.CloseWithError(io.ErrClosedPipe)
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		return sallyport.Artifact{}, perr // that is why it was not kept
	}
	return kept, err
}

func tarOne(w io.Writer, name string, content *io.SectionReader) error {
	if content.Size() > maxFileBytes {
		return sallyport.Errorf(sallyport.CodeInvalid, "the artifact was refused: it is larger than %d MiB", maxFileBytes>>20)
	}
	out := tar.NewWriter(w)
	if err := out.WriteHeader(plainFile(name, 0o644, content.Size())); err != nil {
		return err
	}
	if _, err := io.Copy(out, content); err != nil {
		return err
	}
	return out.Close()
}

// ArtifactNumber is the id of an artifact as the toolkits know it: they want a
// number that JavaScript can hold.
func ArtifactNumber(id sallyport.ArtifactID) int64 {
	sum := sha256.Sum256([]byte(id))
	return int64(binary.BigEndian.Uint64(sum[:]) >> (64 - 53))
}

type listIn struct {
	of
	Name *string `json:"name_filter"`
	ID   *number `json:"id_filter"`
}

type listOut struct {
	Artifacts []listed `json:"artifacts"`
}

// listed is an artifact of the run. It has no digest: the toolkit would compare
// that with the zip it downloads, and what is kept are the files.
type listed struct {
	of
	ID        number    `json:"database_id"`
	Name      string    `json:"name"`
	Size      number    `json:"size"`
	CreatedAt time.Time `json:"created_at"`
}

func (s *Service) listArtifacts(ctx context.Context, in listIn) (listOut, error) {
	if err := s.check(in.of); err != nil {
		return listOut{}, err
	}
	all, err := s.cfg.Yard.Artifacts(ctx, s.cfg.Lease.Ref, "")
	if err != nil {
		return listOut{}, err
	}
	out := listOut{Artifacts: []listed{}}
	for _, a := range all {
		if in.Name != nil && *in.Name != a.Name || in.ID != nil && *in.ID != number(ArtifactNumber(a.ID)) {
			continue
		}
		out.Artifacts = append(out.Artifacts, listed{
			of: of{in.Run, string(a.Job)}, ID: number(ArtifactNumber(a.ID)), Name: a.Name, Size: number(a.Size), CreatedAt: a.CreatedAt.UTC(),
		})
	}
	return out, nil
}

type named struct {
	of
	Name string `json:"name"`
}

type signOut struct {
	URL string `json:"signed_url"`
}

// signArtifact says where the content of an artifact is.
func (s *Service) signArtifact(ctx context.Context, in named) (signOut, error) {
	if _, err := s.findArtifact(ctx, in); err != nil {
		return signOut{}, err
	}
	return signOut{base + "/blobs/artifacts/" + hex.EncodeToString([]byte(in.Name)) + "?sig=" + s.artifacts.content}, nil
}

func (s *Service) findArtifact(ctx context.Context, in named) (sallyport.Artifact, error) {
	if err := s.check(in.of); err != nil {
		return sallyport.Artifact{}, err
	}
	all, err := s.cfg.Yard.Artifacts(ctx, s.cfg.Lease.Ref, "")
	if err != nil {
		return sallyport.Artifact{}, err
	}
	for _, a := range all {
		if a.Name == in.Name {
			return a, nil
		}
	}
	return sallyport.Artifact{}, sallyport.Errorf(sallyport.CodeNotFound, "the run has no artifact %.80q", in.Name).
		WithHint("the job that uploads it must be in needs:")
}

// getArtifact answers GET /blobs/artifacts/{name} with a zip of the files.
func (s *Service) getArtifact(w http.ResponseWriter, r *http.Request) {
	name, err := hex.DecodeString(r.PathValue("name"))
	if err != nil || !equal(r.URL.Query().Get("sig"), s.artifacts.content) {
		blobError(w, sallyport.Errorf(sallyport.CodeNotFound, "there is no such artifact"))
		return
	}
	a, content, err := s.cfg.Yard.GetArtifact(r.Context(), s.cfg.Lease.Ref, "", string(name))
	if err != nil {
		s.refused(err)
		blobError(w, err)
		return
	}
	defer content.Close()
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="artifact.zip"`)
	if err := zipFromTar(w, content); err != nil {
		s.cfg.Log.Warn("artifact was not sent whole", "artifact", a.ID, "err", err)
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
}

// deleteArtifact removes an artifact of the run, as overwriting one begins.
func (s *Service) deleteArtifact(ctx context.Context, in named) (artifactOut, error) {
	a, err := s.findArtifact(ctx, in)
	if err != nil {
		return artifactOut{}, err
	}
	if a, err = s.cfg.Yard.DeleteArtifact(ctx, s.cfg.Lease.Ref, in.Name); err != nil {
		return artifactOut{}, err
	}
	s.artifacts.mu.Lock()
	delete(s.artifacts.coming, in.Name) // one that this job had finalized
	s.artifacts.mu.Unlock()
	return artifactOut{true, number(ArtifactNumber(a.ID))}, nil
}
