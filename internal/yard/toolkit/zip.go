package toolkit

import (
	"archive/tar"
	"archive/zip"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// The toolkit sends and expects an artifact as a zip; the control plane takes and
// gives a tar. These bounds are not wider than the control plane's own.
const (
	maxFiles     = 20_000
	maxPath      = 1024
	maxFileBytes = 4 << 30 // of all files, unpacked
	// maxDirectory bounds what is read of a zip before its entries can be counted: room
	// for maxFiles entries with paths of some 300 bytes.
	maxDirectory = 8 << 20
)

// tarFromZip copies the regular files of a zip, in the order of their names, into
// a tar. It refuses what is not a plain archive of files: the control plane will
// look again.
func tarFromZip(w io.Writer, r io.ReaderAt, size int64) error {
	refuse := func(format string, args ...any) error {
		return sallyport.Errorf(sallyport.CodeInvalid, "the artifact was refused: "+format, args...)
	}
	budget := &bounded{r: r, left: maxDirectory}
	z, err := zip.NewReader(budget, size)
	switch {
	case budget.spent:
		return refuse("the directory of its zip has more than %d MiB", maxDirectory>>20)
	case err != nil:
		return refuse("it is not a zip: %v", err)
	}
	budget.off = true
	var files []*zip.File
	var total uint64
	for _, f := range z.File {
		mode := f.Mode()
		name := f.Name
		if mode.IsDir() {
			name = strings.TrimSuffix(name, "/")
		}
		switch {
		case !mode.IsDir() && !mode.IsRegular():
			return refuse("%.200q is not a regular file", f.Name)
		case !fs.ValidPath(name) || name == "." || len(name) > maxPath || strings.ContainsAny(name, "\\\x00"):
			return refuse("%.200q is not a clean relative path", f.Name)
		case mode.IsDir():
			continue
		case len(files) >= maxFiles:
			return refuse("it holds more than %d files", maxFiles)
		case f.UncompressedSize64 > maxFileBytes-total:
			return refuse("it is larger than %d MiB", maxFileBytes>>20)
		}
		total += f.UncompressedSize64
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b *zip.File) int { return strings.Compare(a.Name, b.Name) })
	out := tar.NewWriter(w)
	for i, f := range files {
		if i > 0 && files[i-1].Name == f.Name {
			return refuse("%.200q stands in it twice", f.Name)
		}
		if err := tarFile(out, f); err != nil {
			return err
		}
	}
	return out.Close()
}

func tarFile(out *tar.Writer, f *zip.File) error {
	refuse := func(err error) error {
		return sallyport.Errorf(sallyport.CodeInvalid, "the artifact was refused: %.200q cannot be unpacked: %v", f.Name, err)
	}
	in, err := f.Open()
	if err != nil {
		return refuse(err)
	}
	defer in.Close()
	size := int64(f.UncompressedSize64) // bounded above
	if err := out.WriteHeader(plainFile(f.Name, f.Mode(), size)); err != nil {
		return err
	}
	var bad error
	n, err := io.Copy(out, watched{in, &bad})
	switch {
	case bad != nil: // of size and checksum too
		return refuse(bad)
	case errors.Is(err, tar.ErrWriteTooLong):
		return refuse(errors.New("it is longer than its entry says"))
	case err != nil:
		return err // whoever reads the tar has given up
	case n < size:
		return refuse(io.ErrUnexpectedEOF)
	}
	return nil
}

// plainFile is the tar header of a regular file with no owner and no time.
func plainFile(name string, mode fs.FileMode, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode.Perm()), Size: size, ModTime: time.Unix(0, 0)}
}

// watched remembers the error of a reader.
type watched struct {
	r   io.Reader
	err *error
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		*w.err = err
	}
	return n, err
}

// bounded lets no more than so many bytes be read until it is off.
type bounded struct {
	r          io.ReaderAt
	left       int64
	off, spent bool
}

func (b *bounded) ReadAt(p []byte, at int64) (int, error) {
	if !b.off {
		if b.left -= int64(len(p)); b.left < 0 {
			b.spent = true
			return 0, errors.New("too much of the zip is its directory")
		}
	}
	return b.r.ReadAt(p, at)
}

// zipFromTar copies the files of the control plane's tar into a zip. They are not
// compressed, as it goes no further than the loopback, but as deflate streams, whose end
// a reader that cannot seek finds.
func zipFromTar(w io.Writer, r io.Reader) error {
	out := zip.NewWriter(w)
	out.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.NoCompression) })
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return fmt.Errorf("read the artifact: %w", err)
		}
		if h.Typeflag != tar.TypeReg || !fs.ValidPath(h.Name) {
			return fmt.Errorf("read the artifact: %.200q is no plain file", h.Name)
		}
		header := &zip.FileHeader{Name: h.Name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
		header.SetMode(fs.FileMode(h.Mode).Perm())
		f, err := out.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, in); err != nil {
			return err
		}
	}
}
