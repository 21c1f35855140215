package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
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

// upload hands files of the workspace to the control plane as one artifact.
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
	f, err := j.layout.find(lines, hidden)
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
	artifact, err := j.put(ctx, name, f.root(), f.files)
	if err != nil {
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			j.poke() // either the name is taken or the lease is lost
			return sallyport.Errorf(sallyport.CodeInvalid, "the artifact %q cannot be stored: %w", name, err).
				WithHint("artifacts are immutable; give each upload of a run a name of its own")
		}
		return err
	}
	s.out.print(sallyport.LogOutput, fmt.Sprintf("Artifact %s: %d files, %d bytes, %s.", artifact.Name, len(f.files), artifact.Size, artifact.Digest))
	if err := s.setOutput(workflow.Var{Name: "artifact-id", Value: string(artifact.ID)}); err != nil {
		return err
	}
	return s.setOutput(workflow.Var{Name: "artifact-digest", Value: artifact.Digest.Hex()})
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
func (j *job) put(ctx context.Context, name, root string, files []string) (artifact sallyport.Artifact, err error) {
	err = retry(ctx, func() error {
		r, w := io.Pipe()
		packed := make(chan error, 1)
		go func() {
			err := j.layout.pack(w, root, files)
			packed <- err
			_ = w.CloseWithError(err)
		}()
		var err error
		artifact, err = j.runner.cfg.Yard.PutArtifact(ctx, j.lease.Ref, name, r)
		_ = r.CloseWithError(io.ErrClosedPipe)
		if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
			return perr // that is why the upload failed
		}
		return err
	})
	return artifact, err
}

// download unpacks an artifact of the run beneath the workspace. The archive is
// checked here and unpacked inside the room, where links can do no harm.
func (s *step) download(ctx context.Context, in inputs) error {
	j := s.job
	name := in.text("name", "")
	if name == "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "download-artifact needs the name of an artifact").
			WithHint("add the input name; this runner does not download all artifacts or a pattern of them at once")
	}
	for _, other := range []string{"pattern", "artifact-ids", "run-id", "repository", "github-token"} {
		if in.text(other, "") != "" {
			return sallyport.Errorf(sallyport.CodeInvalid, "the input %s is not available: artifacts come from the same run, by name", other)
		}
	}
	if err := checkArtifactName(name); err != nil {
		return err
	}
	dir := j.layout.inWorkspace(in.text("path", "."))
	if _, ok := j.layout.inWork(dir); !ok {
		return sallyport.Errorf(sallyport.CodeInvalid, "the path %.200q is not beneath the workspace", in.text("path", ""))
	}
	var artifact sallyport.Artifact
	var content io.ReadCloser
	err := retry(ctx, func() (err error) {
		artifact, content, err = j.runner.cfg.Yard.GetArtifact(ctx, j.lease.Ref, name)
		return err
	})
	if err != nil {
		return err
	}
	defer content.Close()

	r, w := io.Pipe()
	type outcome struct {
		files int
		err   error
	}
	filtered := make(chan outcome, 1)
	go func() {
		n, err := filter(w, content)
		filtered <- outcome{n, err}
		_ = w.CloseWithError(err)
	}()
	err = s.tool(ctx, sallyport.ExecSpec{
		Argv: []string{"sh", "-ec", `mkdir -p -- "$1" && exec tar -x -f - -C "$1" --no-same-owner`, "sh", dir}, Stdin: r,
	})
	_ = r.CloseWithError(io.ErrClosedPipe)
	got := <-filtered
	if got.err != nil && !errors.Is(got.err, io.ErrClosedPipe) {
		return sallyport.Errorf(sallyport.CodeInvalid, "unpack the artifact: %w", got.err)
	}
	if err != nil {
		return err
	}
	s.out.print(sallyport.LogOutput, fmt.Sprintf("Artifact %s: %d files unpacked to %s.", artifact.Name, got.files, dir))
	return s.setOutput(workflow.Var{Name: "download-path", Value: dir})
}
