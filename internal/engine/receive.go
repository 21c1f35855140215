package engine

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// Bounds of what a job may hand in; the runner keeps tighter ones.
const (
	maxArtifactBytes = 4 << 30
	maxJobBytes      = 8 << 30 // of all artifacts of a job: sparse files cost a job nothing, us their whole size
	maxArtifactFiles = 20_000
	maxArtifactPath  = 1024
)

// PutArtifact takes a tar from the runner and keeps its canonical form: one
// file as itself, several as a tar whose bytes depend on names, permission bits and
// content alone. All digests are computed here.
func (y yard) PutArtifact(ctx context.Context, l sallyport.LeaseRef, name string, content io.Reader) (sallyport.Artifact, error) {
	e := y.e
	if err := e.allow(ctx, actYard, ""); err != nil {
		return sallyport.Artifact{}, err
	}
	if err := validArtifactName(name); err != nil {
		return sallyport.Artifact{}, err
	}
	j, r, err := e.peek(ctx, l)
	if err != nil {
		return sallyport.Artifact{}, err
	}
	left, err := e.roomForArtifact(ctx, j, name)
	if err != nil {
		return sallyport.Artifact{}, err
	}
	now := e.now()
	a := sallyport.Artifact{
		ID: sallyport.NewID[sallyport.ArtifactID](now), Project: r.Project, Run: r.ID, Job: j.ID, Name: name, Tier: r.Tier, CreatedAt: now,
	}
	if err := e.keepContent(ctx, &a, content, left); err != nil {
		return sallyport.Artifact{}, err
	}
	err = e.holding(ctx, l, func(c *change, _ sallyport.Work, _ sallyport.Job) error {
		if err := c.Artifacts().Insert(a); err != nil {
			return err
		}
		c.Touch(topicRun(a.Run))
		return c.record("artifact.kept", "artifact/"+string(a.ID), map[string]any{
			"run": a.Run, "job": a.Job, "name": a.Name, "digest": a.Digest, "size": a.Size, "tier": a.Tier,
		})
	})
	return a, err
}

func validArtifactName(name string) error {
	if name == "" || len(name) > 256 || name == "." || name == ".." || strings.ContainsAny(name, "\"<>|:*?\r\n\\/\x00") {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not a valid artifact name", name).
			WithHint(`use 1 to 256 characters without " < > | : * ? \ / and line ends`)
	}
	return nil
}

// roomForArtifact returns how many bytes the job may still hand in.
func (e *Engine) roomForArtifact(ctx context.Context, j sallyport.Job, name string) (left int64, err error) {
	left = maxJobBytes
	err = e.view(ctx, func(tx sallyport.Tx) error {
		have, err := tx.Artifacts().ByRun(j.Run)
		if err != nil {
			return err
		}
		mine := 0
		for _, a := range have {
			if a.Name == name {
				return sallyport.Errorf(sallyport.CodeConflict, "the run has an artifact %q already; artifacts do not change", name).
					WithHint("give each artifact of a run its own name, for example with the matrix values in it, or upload it with overwrite: true")
			}
			if a.Job == j.ID {
				mine++
				left -= a.Size
			}
		}
		if mine >= maxArtifacts || left <= 0 {
			return sallyport.Errorf(sallyport.CodeInvalid, "a job keeps at most %d artifacts of %d bytes in all", maxArtifacts, int64(maxJobBytes))
		}
		return nil
	})
	return left, err
}

// keepContent stores the content of a and fills in what it finds.
func (e *Engine) keepContent(ctx context.Context, a *sallyport.Artifact, content io.Reader, left int64) error {
	pr, pw := io.Pipe()
	listed := make(chan error, 1)
	go func() {
		files, err := canonicalTar(pw, content)
		a.Files = files
		pw.CloseWithError(err)
		listed <- err
	}()
	digest, size, err := e.blobs.Put(ctx, a.Scope(), pr, "", min(left, maxArtifactBytes))
	pr.CloseWithError(errors.New("the content was not kept"))
	if lerr := <-listed; lerr != nil && (err == nil || sallyport.ErrorCode(lerr) == sallyport.CodeInvalid) {
		err = lerr
	}
	if err != nil {
		return err
	}
	if len(a.Files) != 1 {
		a.Digest, a.Size, a.Filename, a.MediaType = digest, size, a.Name+".tar", "application/x-tar"
		return nil
	}
	// One file is kept as itself, so that its digest is the artifact's.
	only := a.Files[0]
	file, err := e.openInTar(ctx, *a, digest)
	if err != nil {
		return err
	}
	defer file.Close()
	if a.Digest, a.Size, err = e.blobs.Put(ctx, a.Scope(), file, only.Digest, maxArtifactBytes); err != nil {
		return err
	}
	a.Filename, a.MediaType = path.Base(only.Path), "application/octet-stream"
	return e.blobs.Delete(ctx, a.Scope(), digest)
}

func (e *Engine) openInTar(ctx context.Context, a sallyport.Artifact, digest sallyport.Digest) (io.ReadCloser, error) {
	blob, err := e.blobs.Get(ctx, a.Scope(), digest)
	if err != nil {
		return nil, err
	}
	tr := tar.NewReader(blob)
	if _, err := tr.Next(); err != nil {
		blob.Close()
		return nil, fmt.Errorf("read back artifact: %w", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{tr, blob}, nil
}

// canonicalTar copies the regular files of a tar into its canonical form and
// lists them. Anything but a regular file or a directory is refused, and so is a name that is not clean,
// relative, unique and in order.
func canonicalTar(w io.Writer, r io.Reader) ([]sallyport.ArtifactFile, error) {
	refuse := func(format string, args ...any) error {
		return sallyport.Errorf(sallyport.CodeInvalid, "the artifact was refused: "+format, args...)
	}
	var files []sallyport.ArtifactFile
	var total int64
	seen := make(map[string]bool)
	in, out := tar.NewReader(r), tar.NewWriter(w)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, refuse("its archive is broken: %v", err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		name := h.Name
		switch {
		case h.Typeflag != tar.TypeReg:
			return nil, refuse("%.200q is not a regular file", name)
		case !fs.ValidPath(name) || name == "." || len(name) > maxArtifactPath || strings.ContainsAny(name, "\\\x00"):
			return nil, refuse("%.200q is not a clean relative path", name)
		case seen[name]:
			return nil, refuse("%.200q stands in it twice", name)
		case len(files) >= maxArtifactFiles:
			return nil, refuse("it holds more than %d files", maxArtifactFiles)
		}
		if total += h.Size; total > maxArtifactBytes {
			return nil, refuse("it is larger than %d bytes", int64(maxArtifactBytes))
		}
		seen[name] = true
		f, err := copyEntry(out, in, name, h)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, refuse("it holds no files")
	}
	return files, out.Close()
}

func copyEntry(out *tar.Writer, in io.Reader, name string, h *tar.Header) (sallyport.ArtifactFile, error) {
	mode := fs.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode), Size: h.Size, Format: tar.FormatPAX}); err != nil {
		return sallyport.ArtifactFile{}, err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), in); err != nil {
		return sallyport.ArtifactFile{}, err
	}
	return sallyport.ArtifactFile{Path: name, Mode: mode, Size: h.Size, Digest: sallyport.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil)))}, nil
}

func wrapInTar(w io.Writer, content io.Reader, a sallyport.Artifact) error {
	out := tar.NewWriter(w)
	f := a.Files[0]
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: int64(f.Mode.Perm()), Size: f.Size}); err != nil {
		return err
	}
	if _, err := io.Copy(out, content); err != nil {
		return err
	}
	return out.Close()
}
