package tools

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sallyport-ci/sallyport"
)

// Add takes a tool in from an archive (.tar, .tar.gz, .tar.zst, .zip) or a directory. The
// digest is that of the archive, or of the directory's files as List shows it; an archive
// must have one. A single directory around everything in an archive is left out.
func (c *Cache) Add(ctx context.Context, name, version, arch, source string, want sallyport.Digest) (Tool, error) {
	t := Tool{Name: CanonicalName(name), Version: version, Arch: arch}
	if t.Arch == "" {
		t.Arch = Arch()
	}
	if strings.Count(version, ".") == 1 && !strings.ContainsAny(version, "-+") {
		t.Version += ".0"
	}
	if err := t.check(); err != nil {
		return t, err
	}
	info, err := os.Stat(source)
	if err != nil {
		return t, sallyport.Errorf(sallyport.CodeInvalid, "%s cannot be read: %v", source, errors.Unwrap(err))
	}
	if !info.IsDir() && want == "" {
		return t, sallyport.Errorf(sallyport.CodeInvalid, "an archive needs its digest").WithHint("give --sha256 with what the publisher names for this file, and not what you find in it")
	}
	err = c.change(func(list []Tool) ([]Tool, error) {
		if slices.ContainsFunc(list, t.same) {
			return nil, sallyport.Errorf(sallyport.CodeConflict, "the tool cache has %s already", t.Dir()).
				WithHint("remove it first: sallyport tools remove %s %s --arch %s", t.Name, t.Version, t.Arch)
		}
		if len(list) >= maxTools {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "a tool cache has at most %d tools", maxTools)
		}
		if err := c.take(ctx, &t, source, info.IsDir(), want); err != nil {
			return nil, err
		}
		return append(list, t), nil
	})
	return t, err
}

// take brings the files to their place in the cache.
func (c *Cache) take(ctx context.Context, t *Tool, source string, isDir bool, want sallyport.Digest) error {
	tmp, err := os.MkdirTemp(c.dir, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root, err := os.OpenRoot(tmp)
	if err != nil {
		return err
	}
	defer root.Close()
	w := &writer{root: root}
	if isDir {
		err = w.copyDir(ctx, source)
	} else {
		t.Archive = want
		err = w.unpack(ctx, source, want)
	}
	if err != nil {
		return err
	}
	top := "."
	if !isDir {
		top = w.top()
	}
	inner, err := root.OpenRoot(top)
	if err != nil {
		return err
	}
	defer inner.Close()
	measured, err := measure(ctx, inner)
	if err != nil {
		return err
	}
	if isDir && want != "" && measured.Tree != want {
		return sallyport.Errorf(sallyport.CodeInvalid, "the files have digest %s, not %s", measured.Tree, want).WithHint("it is not what you meant to add")
	}
	if err := hasProgram(inner, t.Name); err != nil {
		return err
	}
	t.Tree, t.Files, t.Bytes, t.AddedAt = measured.Tree, measured.Files, measured.Bytes, time.Now().UTC().Truncate(time.Second)
	at := filepath.Join(c.dir, filepath.FromSlash(t.Dir()))
	for dir := filepath.Dir(at); dir != c.dir; dir = filepath.Dir(dir) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o755); err != nil { // the umask may have taken bits away
			return err
		}
	}
	if err := os.RemoveAll(at); err != nil { // what a try before left
		return err
	}
	if err := os.Rename(filepath.Join(tmp, filepath.FromSlash(top)), at); err != nil {
		return err
	}
	if err := os.Chmod(c.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(at+".complete", nil, 0o644)
}

// programs are what a tool must have, one of them.
var programs = map[string][]string{"go": {"bin/go"}, "node": {"bin/node"}, "Python": {"bin/python3", "bin/python"}}

func hasProgram(root *os.Root, name string) error {
	list, known := programs[name]
	if !known || slices.ContainsFunc(list, func(p string) bool { info, err := root.Stat(p); return err == nil && info.Mode()&0o111 != 0 }) {
		return nil
	}
	return sallyport.Errorf(sallyport.CodeInvalid, "it holds no %s", list[0]).WithHint("give the archive as the publisher packs it for this architecture, not its sources")
}

// writer puts the entries of a foreign archive beneath root.
type writer struct {
	root  *os.Root
	tops  map[string]bool // first segments of names; true for directories
	bytes int64
	files int
}

// top is the one directory around everything, "." when there is none.
func (w *writer) top() string {
	for name, isDir := range w.tops {
		if len(w.tops) == 1 && isDir {
			return name
		}
	}
	return "."
}

func refused(format string, args ...any) *sallyport.Error {
	return sallyport.Errorf(sallyport.CodeInvalid, "the tool was refused: %s", fmt.Sprintf(format, args...))
}

func (w *writer) unpack(ctx context.Context, source string, want sallyport.Digest) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	got, size, err := sallyport.DigestReader(f)
	if err != nil {
		return err
	}
	if got != want {
		return sallyport.Errorf(sallyport.CodeInvalid, "%s has digest %s, not %s", filepath.Base(source), got, want).WithHint("it is not the file that you meant; fetch it again")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	begin := bufio.NewReader(f)
	magic, _ := begin.Peek(6)
	switch {
	case bytes.HasPrefix(magic, []byte("PK\x03\x04")):
		return w.unzip(ctx, f, size)
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(begin)
		if err != nil {
			return refused("%v", err)
		}
		return w.untar(ctx, r)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(begin, zstd.WithDecoderMaxWindow(512<<20))
		if err != nil {
			return refused("%v", err)
		}
		defer r.Close()
		return w.untar(ctx, r)
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return refused("archives of xz are not read").WithHint("take the .tar.gz of the same version, or unpack it and add the directory")
	}
	return w.untar(ctx, begin)
}

func (w *writer) untar(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return refused("its archive is broken: %v", err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = w.mkdir(h.Name)
		case tar.TypeReg:
			err = w.file(h.Name, h.FileInfo().Mode(), tr)
		case tar.TypeSymlink:
			err = w.link(h.Name, h.Linkname)
		case tar.TypeLink:
			err = w.again(h.Name, h.Linkname)
		case tar.TypeXGlobalHeader:
		default:
			err = refused("%.200q is neither file, directory nor link", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

func (w *writer) unzip(ctx context.Context, f *os.File, size int64) error {
	zr, err := zip.NewReader(f, size)
	if err != nil {
		return refused("%v", err)
	}
	for _, e := range zr.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch mode := e.Mode(); {
		case mode.IsDir():
			err = w.mkdir(e.Name)
		case mode.IsRegular(), mode&fs.ModeSymlink != 0:
			var r io.ReadCloser
			if r, err = e.Open(); err != nil {
				return refused("%v", err)
			}
			if mode.IsRegular() {
				err = w.file(e.Name, mode, r)
			} else {
				var target []byte
				if target, err = io.ReadAll(io.LimitReader(r, maxPath+1)); err == nil {
					err = w.link(e.Name, string(target))
				}
			}
			r.Close()
		default:
			err = refused("%.200q is neither file, directory nor link", e.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyDir takes a directory of this host.
func (w *writer) copyDir(ctx context.Context, source string) error {
	from, err := os.OpenRoot(source)
	if err != nil {
		return err
	}
	defer from.Close()
	return fs.WalkDir(from.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || name == "." {
			return err
		}
		switch {
		case e.IsDir():
			return w.mkdir(name)
		case e.Type()&fs.ModeSymlink != 0:
			target, err := from.Readlink(name)
			if err != nil {
				return err
			}
			return w.link(name, target)
		case !e.Type().IsRegular():
			return refused("%.200q is neither file, directory nor link", name)
		}
		f, err := from.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return w.file(name, info.Mode(), f)
	})
}

// clean returns an entry's name if it stays within the tool.
func (w *writer) clean(name string, isDir bool) (string, error) {
	clean := path.Clean(name)
	if !fs.ValidPath(clean) || len(clean) > maxPath || strings.ContainsAny(clean, "\\\x00") {
		return "", refused("%.200q leads out of it", name)
	}
	if w.files++; w.files > 2*maxFiles { // with its directories
		return "", refused("it has more than %d files", maxFiles)
	}
	if first, _, nested := strings.Cut(clean, "/"); clean != "." {
		if w.tops == nil {
			w.tops = map[string]bool{}
		}
		w.tops[first] = w.tops[first] || nested || isDir
	}
	return clean, nil
}

func (w *writer) mkdir(name string) error {
	name, err := w.clean(name, true)
	if err != nil {
		return err
	}
	return w.dirs(name)
}

// dirs makes a directory and those above it, open to everybody whatever the umask.
func (w *writer) dirs(name string) error {
	if info, err := w.root.Lstat(name); err == nil && info.IsDir() {
		return nil
	}
	if err := w.dirs(path.Dir(name)); err != nil {
		return err
	}
	if err := w.root.Mkdir(name, 0o755); err != nil {
		return refused("%v", err)
	}
	return w.root.Chmod(name, 0o755)
}

func (w *writer) file(name string, mode fs.FileMode, r io.Reader) error {
	name, err := w.clean(name, false)
	if err != nil {
		return err
	}
	if err := w.dirs(path.Dir(name)); err != nil {
		return err
	}
	f, err := w.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return refused("%v", err)
	}
	n, err := io.Copy(f, io.LimitReader(r, maxBytes-w.bytes+1))
	var ours *fs.PathError
	if err != nil && !errors.As(err, &ours) {
		err = refused("its archive is broken: %v", err)
	}
	if w.bytes += n; err == nil && w.bytes > maxBytes {
		err = refused("it has more than %d bytes", int64(maxBytes))
	}
	return errors.Join(err, f.Chmod(modeOf(mode)), f.Close())
}

// link makes a symbolic link that leads to something of the tool.
func (w *writer) link(name, target string) error {
	name, err := w.clean(name, false)
	if err != nil {
		return err
	}
	if to := path.Join(path.Dir(name), target); target == "" || path.IsAbs(target) || to == ".." || strings.HasPrefix(to, "../") || len(target) > maxPath {
		return refused("the link %.200q leads out of it", name)
	}
	if err := w.dirs(path.Dir(name)); err != nil {
		return err
	}
	if err := w.root.Symlink(target, name); err != nil {
		return refused("%v", err)
	}
	return nil
}

// again makes a hard link to an entry before it.
func (w *writer) again(name, target string) error {
	name, err := w.clean(name, false)
	if err != nil {
		return err
	}
	to := path.Clean(target)
	if info, err := w.root.Lstat(to); !fs.ValidPath(to) || err != nil || !info.Mode().IsRegular() {
		return refused("the link %.200q leads to no file before it", name)
	}
	if err := w.dirs(path.Dir(name)); err != nil {
		return err
	}
	if err := w.root.Link(to, name); err != nil {
		return refused("%v", err)
	}
	return nil
}
