package forge

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport"
)

const (
	// maxTreeFiles and maxTreeBytes bound the files of an action; node_modules of
	// the largest have some 20,000 files.
	maxTreeFiles = 100_000
	maxTreeBytes = 1 << 30
	// maxTreeDepth bounds directories within each other.
	maxTreeDepth = 60
	// maxTreePath bounds a path, so that no tool is surprised by it.
	maxTreePath = 1024
	// maxLink bounds where a symbolic link points.
	maxLink = 1024
)

const modeLink = "120000"

// treeFile is a file of a commit by its path.
type treeFile struct {
	treeEntry
	path string
	link string // of a symbolic link
}

// keepTree makes the tar of the commit's tree and keeps it.
func (a *Actions) keepTree(ctx context.Context, repo string, s sallyport.PlanSource) (digest sallyport.Digest, err error) {
	err = a.git.talk(ctx, command{repo: repo, args: []string{"cat-file", "--batch"}, timeout: fetchTimeout}, func(in io.WriteCloser, out io.Reader) error {
		o := &objects{in: in, out: bufio.NewReaderSize(out, 256<<10)}
		files, err := o.files(s.Commit)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			// A ref was fetched that names another commit by now.
			return sallyport.Errorf(sallyport.CodeNotFound, "%s@%s does not name the commit %s any more, and the server does not give it out", s.Repository, s.Ref, s.Commit)
		}
		if err != nil {
			return err
		}
		pr, pw := io.Pipe()
		written := make(chan error, 1)
		go func() {
			err := o.archive(files, pw)
			pw.CloseWithError(err)
			written <- err
		}()
		digest, _, err = a.blobs.Put(ctx, treeScope, pr, "", maxTreeBytes+maxTreeFiles*1024)
		pr.CloseWithError(io.ErrClosedPipe)
		if werr := <-written; err == nil {
			err = werr
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("keep action %s: %w", s.Repository, err)
	}
	return digest, nil
}

// files lists a commit's files in the order of the tar. What a job could not use is left
// out, as it is in the archives that GitHub makes: submodules, and links that lead out of the tree.
func (o *objects) files(commit string) ([]treeFile, error) {
	var files []treeFile
	var walk func(id, dir string, depth int) error
	walk = func(id, dir string, depth int) error {
		_, data, err := o.get(id, "tree", maxTree)
		if err != nil {
			return err
		}
		var entries []treeEntry
		if err := eachEntry(data, func(e treeEntry) bool {
			entries = append(entries, e)
			return len(entries) <= maxTreeFiles
		}); err != nil {
			return sallyport.Errorf(sallyport.CodeInvalid, "the repository holds a broken directory")
		}
		for _, e := range entries {
			f := treeFile{treeEntry: e, path: path.Join(dir, e.name)}
			if !plainName(e.name) || len(f.path) > maxTreePath {
				return sallyport.Errorf(sallyport.CodeInvalid, "the action has a file %.100q, which cannot be unpacked everywhere", f.path)
			}
			switch {
			case e.mode == modeTree:
				if depth == maxTreeDepth {
					return sallyport.Errorf(sallyport.CodeInvalid, "the action has directories nested deeper than %d", maxTreeDepth)
				}
				if err := walk(e.id, f.path, depth+1); err != nil {
					return err
				}
				continue
			case e.mode == modeLink:
				_, target, err := o.get(e.id, "blob", maxLink)
				if err != nil {
					return err
				}
				if f.link = string(target); !staysInside(f.path, f.link) {
					continue
				}
			case !e.regular() && e.mode != "100664": // which old versions of git wrote
				continue
			}
			if files = append(files, f); len(files) > maxTreeFiles {
				return sallyport.Errorf(sallyport.CodeInvalid, "the action has more than %d files", maxTreeFiles)
			}
		}
		return nil
	}
	if err := walk(commit, "", 0); err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b treeFile) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.path, b.path))
	})
	return files, nil
}

// rank puts what planning reads in front: 0 for it, 1 for the rest.
func rank(f treeFile) int {
	if f.mode != modeLink && sallyport.ActionMetadata(f.path) {
		return 0
	}
	return 1
}

// plainName refuses names that some file system or terminal reads as something else.
func plainName(name string) bool {
	return name != "." && name != ".." && !strings.EqualFold(name, ".git") && len(name) <= 255 && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == '\\' })
}

// staysInside reports whether a link at a path points to something within the tree.
func staysInside(at, target string) bool {
	if target == "" || path.IsAbs(target) || !plainName(strings.ReplaceAll(target, "/", "_")+"x") {
		return false
	}
	to := path.Join(path.Dir(at), target)
	return to != ".." && !strings.HasPrefix(to, "../")
}

// archive writes the tar.
func (o *objects) archive(files []treeFile, w io.Writer) error {
	t := tar.NewWriter(w)
	var total int64
	for _, f := range files {
		h := tar.Header{Name: f.path, Mode: 0o644}
		if f.link != "" {
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
			if err := t.WriteHeader(&h); err != nil {
				return err
			}
			continue
		}
		h.Typeflag = tar.TypeReg
		if f.mode == modeExecutable {
			h.Mode = 0o755
		}
		var err error
		if h.Size, err = o.ask(f.id); err != nil {
			return err
		}
		if total += h.Size; total > maxTreeBytes {
			return sallyport.Errorf(sallyport.CodeInvalid, "the files of the action have more than %d MiB", int64(maxTreeBytes>>20))
		}
		if err := t.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := io.CopyN(t, o.out, h.Size); err != nil {
			return err
		}
		if _, err := o.out.Discard(1); err != nil { // line end
			return err
		}
	}
	return t.Close()
}

// ask asks for a blob, whose content then stands in out, and returns its size.
func (o *objects) ask(id string) (int64, error) {
	if _, err := fmt.Fprintf(o.in, "%s\n", id); err != nil {
		return 0, fmt.Errorf("ask git: %w", err)
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("read from git: %w", err)
	}
	f := strings.Fields(line)
	if len(f) != 3 || f[1] != "blob" {
		return 0, sallyport.Errorf(sallyport.CodeNotFound, "the repository has no blob %s", id)
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size < 0 {
		return 0, fmt.Errorf("size %q from git", f[2])
	}
	return size, nil
}
