package runner

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// maxArchiveFiles and maxArchiveBytes bound an artifact, and a repository.
	maxArchiveFiles = 200_000
	maxArchiveBytes = 8 << 30
	// maxArchiveName is the longest path that Linux opens in one call.
	maxArchiveName = 4095
)

// archive reads the entries of a foreign tar. Only regular files and
// directories with clean relative names pass, within the bounds.
type archive struct {
	r     *tar.Reader
	files int
	bytes int64
}

// next returns the next file or directory, io.EOF at the end. Of the header
// only name, mode, size and kind may be used.
func (a *archive) next() (*tar.Header, error) {
	h, err := a.r.Next()
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "read the archive: %v", err)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir:
	default:
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the archive entry %.200q is neither file nor directory", h.Name)
	}
	name := path.Clean(h.Name)
	if !fs.ValidPath(name) || len(name) > maxArchiveName || hasNUL(name) {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the archive entry %.200q leads out of its directory", h.Name)
	}
	h.Name = name
	if a.files++; a.files > maxArchiveFiles {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the archive has more than %d entries", maxArchiveFiles)
	}
	if h.Size < 0 || h.Size > maxArchiveBytes-a.bytes {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the archive has more than %d MiB", maxArchiveBytes>>20)
	}
	a.bytes += h.Size
	return h, nil
}

func hasNUL(s string) bool {
	for i := range len(s) {
		if s[i] == 0 {
			return true
		}
	}
	return false
}

// unpack writes the tar's files beneath root, which is the runner's own and
// empty. Files become readable for everybody; modes in the archive are not taken over.
func unpack(root *os.Root, r io.Reader) error {
	a := archive{r: tar.NewReader(r)}
	for {
		h, err := a.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			if err := makeDirs(root, h.Name); err != nil {
				return err
			}
			continue
		}
		if err := makeDirs(root, path.Dir(h.Name)); err != nil {
			return err
		}
		f, err := root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		_, err = io.Copy(f, a.r)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("unpack %.200q: %w", h.Name, err)
		}
	}
}

// makeDirs makes the directory and those above it.
func makeDirs(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	err := root.Mkdir(dir, 0o755)
	switch {
	case err == nil || errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := makeDirs(root, path.Dir(dir)); err != nil {
			return err
		}
		return root.Mkdir(dir, 0o755)
	}
	return err
}

// filter copies a foreign tar of files to w as one that holds nothing but
// regular files with clean names and permission bits, and returns how many. rename says what
// an entry is called there, or that it has no place in it.
func filter(w io.Writer, r io.Reader, rename func(name string) (string, error)) (files int, err error) {
	a, out := archive{r: tar.NewReader(r)}, tar.NewWriter(w)
	for {
		h, err := a.next()
		if errors.Is(err, io.EOF) {
			return files, out.Close()
		}
		if err != nil {
			return files, err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		name, err := rename(h.Name)
		if err != nil {
			return files, err
		}
		if err := out.WriteHeader(plainHeader(name, fs.FileMode(h.Mode), h.Size)); err != nil {
			return files, err
		}
		if _, err := io.Copy(out, a.r); err != nil {
			return files, err
		}
		files++
	}
}

// sameName is the rename of a filter that keeps all names.
func sameName(name string) (string, error) { return name, nil }

// plainHeader is that of a regular file with no owner and no time.
func plainHeader(name string, mode fs.FileMode, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode.Perm()), Size: size, ModTime: time.Unix(0, 0)}
}

// pack writes a tar of files beneath the work directory, named relative to dir.
func (l *layout) pack(w io.Writer, dir string, files []string) error {
	out := tar.NewWriter(w)
	left := int64(maxArchiveBytes)
	for _, name := range files {
		err := l.packFile(out, name, relativeTo(dir, name), &left)
		if errors.Is(err, io.ErrClosedPipe) {
			return err // whoever reads has given up and knows why
		}
		if err != nil {
			return sallyport.Errorf(sallyport.CodeInvalid, "pack %.200q: %w", relativeTo(dir, name), err)
		}
	}
	return out.Close()
}

func (l *layout) packFile(out *tar.Writer, name, as string, left *int64) error {
	if !fs.ValidPath(as) {
		return errors.New("its name is not valid UTF-8")
	}
	f, info, err := openRegular(l.workRoot, name)
	if err != nil {
		return err
	}
	defer f.Close()
	size := info.Size()
	if size > *left {
		return sallyport.Errorf(sallyport.CodeInvalid, "the artifact has more than %d MiB", maxArchiveBytes>>20)
	}
	*left -= size
	if err := out.WriteHeader(plainHeader(as, info.Mode(), size)); err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(f, size))
	if err == nil && n < size {
		err = errors.New("it became shorter while it was read")
	}
	return err
}

// relativeTo returns name, which lies beneath dir, relative to dir.
func relativeTo(dir, name string) string {
	if dir == "." {
		return name
	}
	return name[len(dir)+1:]
}
