package runner

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// actionsDir holds the actions of other repositories, as OWNER/NAME/REF, beneath what
	// the runner gives to the job. It is read-only there.
	actionsDir = "_actions"
	// Bounds of an action; they are those of the control plane, which made the
	// archive, and are checked again here.
	maxTreeBytes = 1 << 30
	maxTreeFiles = 100_000
	maxTreePath  = 1024
)

// fetchActions gets the actions of other repositories that the job's steps come to, before
// the room is made.
func (j *job) fetchActions(ctx context.Context) error {
	for i := range j.plan.Steps {
		if err := j.fetchAction(ctx, &j.plan.Steps[i], 0); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) fetchAction(ctx context.Context, s *sallyport.PlanStep, depth int) error {
	for i := range s.Parallel {
		if err := j.fetchAction(ctx, &s.Parallel[i], depth); err != nil {
			return err
		}
	}
	a, ok := j.lease.Plan.Actions[s.Uses]
	if !ok || depth > maxDepth {
		return nil
	}
	if a.Source != nil && j.trees[a.Source.Digest] == "" {
		if err := j.fetchTree(ctx, *a.Source); err != nil {
			return fmt.Errorf("get the action %s: %w", s.Uses, err)
		}
	}
	for i := range a.Steps {
		if err := j.fetchAction(ctx, &a.Steps[i], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// fetchTree makes a tree one of those that the room will see.
func (j *job) fetchTree(ctx context.Context, s sallyport.PlanSource) error {
	name := path.Join(actionsDir, safeName(s.Repository), strings.ReplaceAll(safeName(s.Ref), "/", "_"))
	for _, taken := range j.trees {
		if taken == name { // two refs that differ in what a path cannot hold
			name += "_" + s.Digest.Short()
		}
	}
	dir, release, err := j.runner.trees.get(ctx, s.Digest, func(dir string) (int64, error) {
		var content io.ReadCloser
		if err := retry(ctx, func() (err error) {
			content, err = j.runner.cfg.Yard.Action(ctx, j.lease.Ref, s.Digest)
			return err
		}); err != nil {
			return 0, err
		}
		defer content.Close()
		return unpackTree(dir, content, s.Digest)
	})
	if err != nil {
		return err
	}
	j.release = append(j.release, release)
	at := filepath.Join(j.layout.dir, "given", filepath.FromSlash(name))
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	for ; at != filepath.Join(j.layout.dir, "given"); at = filepath.Dir(at) { // the umask may have taken bits away
		if err := os.Chmod(at, 0o755); err != nil {
			return err
		}
	}
	j.trees[s.Digest] = name
	j.layout.shared[name] = dir
	return nil
}

// safeName is a name that the control plane has checked, made fit for a path
// all the same.
func safeName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == '-' || r == '_' || r == '.' || r == '+' || r == '@' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, strings.ReplaceAll(strings.Trim(s, "/"), "..", "__"))
}

// actionDir is the directory of an action in the room.
func (j *job) actionDir(a *sallyport.PlanAction) (string, error) {
	if a.Source == nil {
		return path.Join(j.layout.workspace(), a.Path), nil
	}
	name, ok := j.trees[a.Source.Digest]
	if !ok {
		return "", fmt.Errorf("the tree of %s was not fetched", a.Source.Repository)
	}
	return path.Join(j.layout.given, name, a.Path), nil
}

// unpackTree writes a tree beneath dir, and nothing elsewhere, whatever it says.
// The tree must be the one that the digest names. It returns the bytes of its files.
func unpackTree(dir string, content io.Reader, digest sallyport.Digest) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	pr, pw := io.Pipe()
	sum := make(chan sallyport.Digest, 1)
	go func() {
		d, _, err := sallyport.DigestReader(pr)
		pr.CloseWithError(err)
		sum <- d
	}()
	in := io.TeeReader(io.LimitReader(content, maxTreeBytes+maxTreeFiles*2048), pw)
	u := treeUnpacker{root: root, dirs: map[string]bool{".": true}, left: maxTreeBytes}
	err = u.unpack(in)
	if err == nil {
		_, err = io.Copy(io.Discard, in) // the padding
	}
	pw.CloseWithError(err)
	if got := <-sum; err == nil && got != digest {
		err = badTree("its content is not what %s names", digest)
	}
	return maxTreeBytes - u.left, err
}

func badTree(format string, args ...any) error {
	return sallyport.Errorf(sallyport.CodeInvalid, "the archive of the action cannot be used: %s", fmt.Sprintf(format, args...))
}

type treeUnpacker struct {
	root  *os.Root
	dirs  map[string]bool // that were made
	files int
	left  int64
	links []tar.Header
}

func (u *treeUnpacker) unpack(in io.Reader) error {
	tr := tar.NewReader(in)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return badArchive(err)
		}
		if u.files++; u.files > maxTreeFiles {
			return badTree("it has more than %d files", maxTreeFiles)
		}
		if why := badPath(h.Name); why != "" {
			return badTree("the name %.100q %s", h.Name, why)
		}
		for record := range h.PAXRecords {
			if strings.HasPrefix(record, "GNU.sparse.") { // it says a size that the archive does not hold
				return badTree("%.100q is a sparse file", h.Name)
			}
		}
		switch h.Typeflag {
		case tar.TypeReg:
			err = u.file(h, tr)
		case tar.TypeSymlink:
			if !stays(h.Name, h.Linkname) {
				return badTree("the link %.100q leads out of it", h.Name)
			}
			// Links come last, so that no file is ever written through one.
			u.links = append(u.links, *h)
		default:
			return badTree("%.100q is neither a file nor a link", h.Name)
		}
		if err != nil {
			return err
		}
	}
	for _, h := range u.links {
		if err := u.mkdir(path.Dir(h.Name)); err != nil {
			return err
		}
		if err := u.root.Symlink(h.Linkname, h.Name); err != nil {
			return u.writeError(h.Name, err)
		}
	}
	return nil
}

func (u *treeUnpacker) file(h *tar.Header, in io.Reader) error {
	if u.left -= h.Size; h.Size < 0 || u.left < 0 {
		return badTree("its files have more than %d MiB", maxTreeBytes>>20)
	}
	if err := u.mkdir(path.Dir(h.Name)); err != nil {
		return err
	}
	f, err := u.root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return u.writeError(h.Name, err)
	}
	_, err = io.CopyN(f, in, h.Size)
	mode := fs.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return badArchive(err)
	}
	return nil
}

func (u *treeUnpacker) mkdir(dir string) error {
	if u.dirs[dir] {
		return nil
	}
	if err := u.mkdir(path.Dir(dir)); err != nil {
		return err
	}
	if err := u.root.Mkdir(dir, 0o755); err != nil {
		return u.writeError(dir, err)
	}
	u.dirs[dir] = true
	return u.root.Chmod(dir, 0o755)
}

func (u *treeUnpacker) writeError(name string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return badTree("it has two entries for %.100q", name)
	}
	return err
}

// badArchive tells a broken archive from a broken transfer.
func badArchive(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return badTree("it is not a whole archive")
	}
	return err
}

// badPath says what is wrong with the name of an entry; "" if nothing is.
func badPath(name string) string {
	switch {
	case name == "" || len(name) > maxTreePath:
		return "is empty or too long"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }):
		return "has control characters or backslashes"
	case !filepath.IsLocal(name) || path.Clean(name) != name || name == ".":
		return "leaves its directory"
	}
	return ""
}

// stays reports whether a link at a path points to something beneath the top.
func stays(at, target string) bool {
	if target == "" || len(target) > maxTreePath || path.IsAbs(target) || strings.ContainsRune(target, 0) {
		return false
	}
	return filepath.IsLocal(path.Join(path.Dir(at), target))
}
