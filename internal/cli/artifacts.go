package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sallyport-ci/sallyport"
)

type artifactsCmd struct {
	List     artifactsListCmd     `cmd:"" default:"withargs" help:"List the artifacts of a run."`
	Download artifactsDownloadCmd `cmd:"" help:"Save an artifact and its Sigstore bundle."`
}

type artifactsListCmd struct {
	remote
	output
	ID      string `arg:"" name:"run" help:"Id or number of the run."`
	Project string `help:"The project, when a number is given." placeholder:"NAME"`
}

func (c artifactsListCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	id, err := findRun(e.ctx, s, c.Project, c.ID)
	if err != nil {
		return err
	}
	list, err := s.Artifacts.Artifacts(e.ctx, id)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "NAME\tSIZE\tFILES\tTIER\tDIGEST\tID", func(line func(...any)) {
			for _, a := range list {
				line(a.Name, size(a.Size), len(a.Files), a.Tier, a.Digest, a.ID)
			}
		})
	})
}

type artifactsDownloadCmd struct {
	remote
	output
	ID      string `arg:"" name:"run" help:"Id or number of the run."`
	Name    string `arg:"" help:"Name of the artifact."`
	Project string `help:"The project, when a number is given." placeholder:"NAME"`
	Out     string `help:"Directory to save it in." default:"." placeholder:"DIR"`
}

func (c artifactsDownloadCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	id, err := findRun(e.ctx, s, c.Project, c.ID)
	if err != nil {
		return err
	}
	saved, err := saveArtifact(e.ctx, s, id, c.Name, c.Out)
	if err != nil {
		return err
	}
	return c.print(e, saved, func(w io.Writer) {
		fmt.Fprintf(w, "%s  %s\n", saved.File, saved.Digest)
		if saved.Bundle != "" {
			fmt.Fprintf(w, "%s\n", saved.Bundle)
		} else {
			fmt.Fprintln(w, "It has no provenance.")
		}
	})
}

// savedArtifact is where an artifact was saved.
type savedArtifact struct {
	File   string           `json:"file"`
	Bundle string           `json:"bundle,omitempty"`
	Digest sallyport.Digest `json:"digest"`
}

// saveArtifact writes the file and NAME.sigstore.json into dir. The content is
// verified before the file gets its name.
func saveArtifact(ctx context.Context, s sallyport.Services, run sallyport.RunID, name, dir string) (savedArtifact, error) {
	a, err := s.Artifacts.FindArtifact(ctx, run, name)
	if err != nil {
		return savedArtifact{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return savedArtifact{}, err
	}
	root, err := os.OpenRoot(dir) // the name comes from a job
	if err != nil {
		return savedArtifact{}, err
	}
	defer root.Close()
	out := savedArtifact{File: filepath.Join(dir, a.Filename), Digest: a.Digest}
	content, err := s.Artifacts.Open(ctx, a.ID)
	if err != nil {
		return out, err
	}
	defer content.Close()
	if err := saveVerified(root, a, content); err != nil {
		return out, err
	}
	statements, err := s.Artifacts.Statements(ctx, a.Project, a.Digest)
	if err != nil {
		return out, err
	}
	for _, st := range statements {
		if st.PredicateType != sallyport.PredicateProvenance || st.AssertedByJob() || st.Run != run {
			continue
		}
		bundle, err := s.Artifacts.Bundle(ctx, st.ID)
		if err != nil {
			return out, err
		}
		file := a.Name + ".sigstore.json"
		out.Bundle = filepath.Join(dir, file)
		return out, root.WriteFile(file, bundle, 0o644)
	}
	return out, nil
}

func saveVerified(root *os.Root, a sallyport.Artifact, content io.Reader) error {
	part := "." + a.Filename + ".part"
	mode := os.FileMode(0o644)
	if len(a.Files) == 1 && a.Files[0].Mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := root.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer root.Remove(part) // gone already when all went well
	digest, _, err := sallyport.DigestReader(io.TeeReader(content, f))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if digest != a.Digest {
		return sallyport.Errorf(sallyport.CodeConflict, "what came has digest %s, not %s", digest, a.Digest).WithHint("run sallyport audit verify on the host")
	}
	return root.Rename(part, a.Filename)
}
