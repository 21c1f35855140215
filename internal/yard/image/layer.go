package image

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Markers of deletions in a layer (OCI image specification, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// lay lays one layer over the tree. The content must be the tar that the image
// names by DiffID.
func (t *tree) lay(ctx context.Context, l sallyport.ImageLayer, blob io.Reader) error {
	plain, closer, err := decompress(blob)
	if err != nil {
		return err
	}
	defer closer()
	sum := sha256.New()
	in := io.TeeReader(io.LimitReader(plain, maxBytes+1), sum)
	t.fresh, t.marked = map[string]bool{}, 0
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return invalid("a layer is no tar: %v", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if t.entries++; t.entries > maxEntries {
			return invalid("it has more than %d files", maxEntries)
		}
		if h.Size < 0 || h.Size > maxBytes-t.bytes {
			return invalid("it has more than %d GiB", maxBytes>>30)
		}
		t.bytes += h.Size
		if err := t.entry(h, r); err != nil {
			return err
		}
	}
	if n, err := io.Copy(io.Discard, in); err != nil || n > 1<<20 { // padding
		return invalid("there is something behind the end of a layer")
	}
	if got := sallyport.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil))); got != l.DiffID {
		return invalid("a layer is %s, the image names %s", got.Short(), l.DiffID.Short())
	}
	return nil
}

// decompress tells by its first bytes how the blob is compressed.
func decompress(blob io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(blob, 1<<16)
	head, _ := b.Peek(4) // a shorter one is no tar, and found out there
	switch {
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, invalid("a layer is no gzip: %v", err)
		}
		return z, func() { _ = z.Close() }, nil
	case len(head) == 4 && string(head) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxMemory(1<<30), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, invalid("a layer is no zstd: %v", err)
		}
		return z, z.Close, nil
	}
	return b, func() {}, nil
}

// entry takes over one entry of a layer.
func (t *tree) entry(h *tar.Header, content io.Reader) error {
	place, err := t.locate(h.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(place)
	if base == opaqueMarker {
		return t.opaque(path.Clean(dir))
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		if hidden == "" || hidden == "." || hidden == ".." {
			return invalid("the whiteout %.200q names nothing", h.Name)
		}
		return t.whiteout(path.Join(dir, hidden))
	}
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
	case tar.TypeXGlobalHeader, tar.TypeFifo:
		return nil
	case tar.TypeChar, tar.TypeBlock:
		if strings.HasPrefix(place, "dev/") { // a room has its own
			return nil
		}
		return invalid("%.200q is a device", h.Name)
	default:
		return invalid("%.200q is of a kind that images do not have", h.Name)
	}
	if err := t.parents(place); err != nil {
		return fmt.Errorf("unpack an image: %w", err)
	}
	if err := t.make(place, h, content); err != nil {
		return err
	}
	if err := t.mark(place); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return nil // the other name's owner and mode
	}
	if err := t.dress(place, mode, h.Uid, h.Gid, h.ModTime, h.Typeflag == tar.TypeSymlink); err != nil {
		return fmt.Errorf("unpack an image: %w", err)
	}
	return nil
}

// make makes the entry itself.
func (t *tree) make(place string, h *tar.Header, content io.Reader) error {
	wrap := func(err error) error {
		var known *sallyport.Error
		if err == nil || errors.As(err, &known) {
			return err
		}
		return fmt.Errorf("unpack an image: %w", err)
	}
	if h.Typeflag == tar.TypeLink {
		return wrap(t.hardlink(place, h))
	}
	if err := t.clear(place, h.Typeflag == tar.TypeDir); err != nil {
		return wrap(err)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := t.root.Mkdir(place, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return wrap(err)
		}
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxPath {
			return invalid("the symlink %.200q leads nowhere", h.Name)
		}
		return wrap(t.root.Symlink(h.Linkname, place))
	case tar.TypeReg:
		f, err := t.root.OpenFile(place, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return wrap(err)
		}
		_, err = io.Copy(f, content)
		return wrap(errors.Join(err, f.Close()))
	}
	return nil
}

// hardlink gives a regular file of the image another name.
func (t *tree) hardlink(place string, h *tar.Header) error {
	from, err := t.locate(h.Linkname)
	if err != nil {
		return err
	}
	info, err := t.root.Lstat(from)
	if err != nil || !info.Mode().IsRegular() {
		return invalid("the hard link %.200q is to no file of the image", h.Name)
	}
	if from == place {
		return nil
	}
	if err := t.clear(place, false); err != nil {
		return err
	}
	return t.root.Link(from, place)
}
