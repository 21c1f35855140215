package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/toolkit"
)

// checkArtifactName refuses what GitHub refuses: names must be usable as a
// directory everywhere.
func checkArtifactName(name string) error {
	if name == "" || len(name) > 256 || !utf8.ValidString(name) || strings.ContainsAny(name, "\":<>|*?\r\n\\/\x00") || strings.Trim(name, ".") == "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not the name of an artifact", name).
			WithHint("use at most 256 characters without \" : < > | * ? \\ / and line ends")
	}
	return nil
}

// upload hands files of the room to the control plane as one artifact.
func (s *step) upload(ctx context.Context, in inputs) error {
	j := s.job
	name := in.text("name", "artifact")
	if err := checkArtifactName(name); err != nil {
		return err
	}
	lines := strings.Split(in.text("path", ""), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "the input path is missing").WithHint("name the files to upload, one path or pattern a line")
	}
	missing := in.text("if-no-files-found", "warn")
	if missing != "warn" && missing != "error" && missing != "ignore" {
		return sallyport.Errorf(sallyport.CodeInvalid, "if-no-files-found is %.40q; it must be warn, error or ignore", missing)
	}
	hidden, err := in.boolean("include-hidden-files", false)
	if err != nil {
		return err
	}
	overwrite, err := in.boolean("overwrite", false)
	if err != nil {
		return err
	}
	f, err := s.gather(ctx, lines, hidden)
	if err != nil {
		return err
	}
	if f.nlinks > 0 {
		s.out.print(sallyport.LogWarning, fmt.Sprintf("%d symbolic links are left out, such as %s: an artifact holds regular files only.", f.nlinks, strings.Join(f.links, ", ")))
	}
	if len(f.files) == 0 {
		message := "No files were found with the path: " + strings.Join(lines, ", ") + ". No artifact is uploaded."
		switch missing {
		case "error":
			return &failure{message: message}
		case "warn":
			s.out.print(sallyport.LogWarning, message)
		default:
			s.out.print(sallyport.LogOutput, message)
		}
		return nil
	}
	if len(f.files) > maxArchiveFiles {
		return sallyport.Errorf(sallyport.CodeInvalid, "the artifact has more than %d files", maxArchiveFiles).WithHint("pack them into one archive first")
	}
	if overwrite {
		err := retry(ctx, func() error { _, err := j.runner.cfg.Yard.DeleteArtifact(ctx, j.lease.Ref, name); return err })
		if err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			return err
		}
	}
	artifact, err := j.put(ctx, name, func(w io.Writer) error {
		if f.inRoom {
			return s.packInRoom(ctx, w, f)
		}
		return j.layout.pack(w, f.root(), f.files)
	})
	if err != nil {
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			j.poke() // either the name is taken or the lease is lost
			return sallyport.Errorf(sallyport.CodeInvalid, "the artifact %q cannot be stored: %w", name, err).
				WithHint("artifacts are immutable; give each upload of a run a name of its own, or set overwrite: true")
		}
		return err
	}
	s.out.print(sallyport.LogOutput, fmt.Sprintf("Artifact %s: %d files, %d bytes, %s.", artifact.Name, len(f.files), artifact.Size, artifact.Digest))
	server, _ := s.frame.scope.Get("github").Get("server_url")
	for _, x := range []workflow.Var{
		{Name: "artifact-id", Value: strconv.FormatInt(toolkit.ArtifactNumber(artifact.ID), 10)},
		{Name: "artifact-url", Value: server.String() + "/artifacts/" + string(artifact.ID)},
		{Name: "artifact-digest", Value: artifact.Digest.Hex()},
	} {
		if err := s.setOutput(x); err != nil {
			return err
		}
	}
	return nil
}

// root is the directory that the paths in the artifact are relative to: the least
// common ancestor of where the search began.
func (f *found) root() string {
	if len(f.searches) == 1 {
		if len(f.files) == 1 && f.files[0] == f.searches[0] {
			return path.Dir(f.files[0])
		}
		return f.searches[0]
	}
	common := strings.Split(f.searches[0], "/")
	for _, s := range f.searches[1:] {
		other := strings.Split(s, "/")
		n := 0
		for n < len(common) && n < len(other) && common[n] == other[n] {
			n++
		}
		common = common[:n]
	}
	if len(common) == 0 {
		return "."
	}
	return path.Join(common...)
}

// put sends the files; when the control plane is away for a moment, it does so again from the start.
func (j *job) put(ctx context.Context, name string, pack func(w io.Writer) error) (artifact sallyport.Artifact, err error) {
	err = retry(ctx, func() error {
		r, w := io.Pipe()
		packed := make(chan error, 1)
		go func() {
			err := pack(w)
			packed <- err
			_ = w.CloseWithError(err)
		}()
		var err error
		artifact, err = j.yard().PutArtifact(ctx, j.lease.Ref, name, r)
		_ = r.CloseWithError(io.ErrClosedPipe)
		if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
			return perr // that is why the upload failed
		}
		return err
	})
	return artifact, err
}
