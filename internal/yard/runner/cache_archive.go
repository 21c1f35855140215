package runner

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// maxCacheUnpacked bounds what the archive of a cache holds; what it takes
	// compressed is bounded by the control plane.
	maxCacheUnpacked = 16 << 30
	// maxCacheWindow bounds the memory that an archive can make its reader take. It
	// is what the zstd format recommends readers to accept.
	maxCacheWindow = 8 << 20
)

// pack looks through the tar that the room made and writes it, compressed, as the
// content of a cache. It reads to the very end, so that a tar that failed is not taken for whole.
func (p cachePaths) pack(w io.Writer, r io.Reader) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxCacheWindow))
	if err != nil {
		return err
	}
	err = p.copy(z, r, func(name string) (string, bool) { return p.stored(name), p.selects(name) }, true)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err != nil {
		return err // what was written so far is good for nothing
	}
	return z.Close()
}

// unpack looks through the content of a cache and writes it as a tar that the room
// unpacks at its root. The content is foreign: a job made it, maybe with tools of its own.
func (p cachePaths) unpack(w io.Writer, r io.Reader) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxCacheWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	err = p.copy(w, z, func(name string) (string, bool) {
		placed, ok := p.placed(name)
		return placed, ok && p.selects(placed)
	}, false)
	if err == nil {
		_, err = io.Copy(io.Discard, z) // the digest is checked at the end
	}
	return err
}

// copy passes on regular files, directories and symbolic links that rename allows. An
// entry beneath a link is refused: it would land somewhere else. With skip what is
// neither file, directory nor link is left out, else it is refused.
func (p cachePaths) copy(w io.Writer, r io.Reader, rename func(string) (string, bool), skip bool) error {
	from := &source{r: r}
	in, out := tar.NewReader(from), tar.NewWriter(w)
	links := map[string]bool{}
	left, entries := int64(maxCacheUnpacked), 0
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return from.broken(err)
		}
		if entries++; entries > maxWalk {
			return sallyport.Errorf(sallyport.CodeInvalid, "the archive has more than %d entries", maxWalk)
		}
		header, err := cacheHeader(h)
		if header == nil && err == nil && skip {
			continue
		}
		if header == nil && err == nil {
			err = sallyport.Errorf(sallyport.CodeInvalid, "the archive entry %.200q is neither file, directory nor symbolic link", h.Name)
		}
		if err != nil {
			return err
		}
		name, ok := rename(header.Name)
		if !ok {
			return sallyport.Errorf(sallyport.CodeInvalid, "the archive entry %.200q is not among the paths of the cache", h.Name)
		}
		for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) { // by where it lands: one place has several stored names
			if links[dir] {
				return sallyport.Errorf(sallyport.CodeInvalid, "the archive entry %.200q lies beneath a symbolic link", h.Name)
			}
		}
		if links[name] = header.Typeflag == tar.TypeSymlink; !links[name] {
			delete(links, name) // only links take memory
		}
		if left -= header.Size; left < 0 {
			return sallyport.Errorf(sallyport.CodeInvalid, "the archive has more than %d MiB", maxCacheUnpacked>>20)
		}
		header.Name = name
		if header.Typeflag == tar.TypeDir {
			header.Name += "/"
		}
		if err := out.WriteHeader(header); err != nil {
			return fmt.Errorf("pass on the archive: %w", err)
		}
		if _, err := io.Copy(out, in); from.err != nil || errors.Is(err, io.ErrUnexpectedEOF) {
			return from.broken(err)
		} else if err != nil {
			return fmt.Errorf("pass on the archive: %w", err)
		}
	}
}

// cacheHeader is what of a header is passed on, with a clean name; nil for what is
// neither file, directory nor symbolic link.
func cacheHeader(h *tar.Header) (*tar.Header, error) {
	out := &tar.Header{Typeflag: h.Typeflag, Name: path.Clean(h.Name), Mode: int64(fs.FileMode(h.Mode).Perm()), ModTime: h.ModTime, Format: tar.FormatPAX}
	switch h.Typeflag {
	case tar.TypeReg:
		out.Size = h.Size
	case tar.TypeDir:
	case tar.TypeSymlink:
		if out.Linkname = h.Linkname; out.Linkname == "" || hasNUL(out.Linkname) || len(out.Linkname) > maxArchiveName {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the symbolic link %.200q in the archive leads nowhere", h.Name)
		}
	default:
		return nil, nil
	}
	if !utf8.ValidString(h.Name) {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the name of the archive entry %.200q is not valid UTF-8", h.Name)
	}
	if strings.HasPrefix(h.Name, "/") || !fs.ValidPath(out.Name) || out.Name == "." || len(out.Name) > maxArchiveName || hasNUL(out.Name) {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the archive entry %.200q leads out of its directory", h.Name)
	}
	if out.Size < 0 {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the archive entry %.200q has no size", h.Name)
	}
	return out, nil
}

// source remembers with what its reader failed, to tell that from a writer's failure.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// broken is the error of an archive that cannot be read: it is no archive, or its
// stream broke off.
func (s *source) broken(err error) error {
	var ours *sallyport.Error
	if s.err != nil && (errors.Is(s.err, io.ErrClosedPipe) || errors.As(s.err, &ours)) {
		return s.err
	}
	return sallyport.Errorf(sallyport.CodeInvalid, "read the archive: %v", err)
}
