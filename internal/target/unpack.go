package target

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport"
)

// Bounds of an artifact; a job made it.
const (
	maxContent = 8 << 30 // what fits a room's default disk
	maxEntries = 100_000
	maxName    = 1024 // bytes of a path
	maxDepth   = 40
)

// unpack writes the artifact into the new directory dir. When it returns
// nil, all of content was read and is what a.Digest names; otherwise dir may hold
// a part. Nothing outside dir is touched, whatever content says.
func unpack(ctx context.Context, dir string, a sallyport.Artifact, content io.Reader) error {
	if a.Size < 0 || a.Size > maxContent {
		return sallyport.Errorf(sallyport.CodeInvalid, "artifact %s has %d bytes, more than the %d that can be deployed", a.Name, a.Size, int64(maxContent)).
			WithHint("deploy a smaller artifact")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return diskError("unpack", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return diskError("unpack", err)
	}
	defer root.Close()
	sum := sha256.New()
	counted := &counter{r: io.LimitReader(content, a.Size+1), ctx: ctx}
	in := io.TeeReader(counted, sum)
	u := unpacker{root: root, name: a.Name, left: a.Size, dirs: make(map[string]bool)}
	if isArchive(a) {
		err = u.archive(in)
	} else {
		err = u.file(singleName(a), 0o755, in)
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // an archive's padding
		return fmt.Errorf("read artifact: %w", err)
	}
	if got := sallyport.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil))); counted.n != a.Size || got != a.Digest {
		return sallyport.Errorf(sallyport.CodeInvalid, "the content of artifact %s is not what %s names", a.Name, a.Digest.Short()).
			WithHint("it was altered after it was kept; do not deploy it")
	}
	return u.open()
}

// isArchive tells the two forms of an artifact apart.
func isArchive(a sallyport.Artifact) bool { return len(a.Files) > 1 }

// singleName is the name under which an artifact of one file is run.
func singleName(a sallyport.Artifact) string {
	name := a.Filename
	if len(a.Files) == 1 {
		name = path.Base(a.Files[0].Path)
	}
	if name = path.Base(name); checkName(name) != nil || name == "." {
		return "release"
	}
	return name
}

type unpacker struct {
	root    *os.Root
	name    string // of the artifact
	left    int64  // bytes that may still be written
	entries int
	dirs    map[string]bool
}

func (u *unpacker) archive(in io.Reader) error {
	tr := tar.NewReader(in)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			return u.refuse("is not a whole archive")
		}
		if err != nil {
			return fmt.Errorf("read artifact: %w", err)
		}
		if u.entries++; u.entries > maxEntries {
			return u.refuse("has more than %d entries", maxEntries)
		}
		if err := checkName(h.Name); err != nil {
			return u.refuse("has an entry %.100q, which %v", h.Name, err)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = u.mkdir(name)
		case tar.TypeReg:
			// A sparse file says a size that the archive does not hold.
			if h.Size > u.left {
				return u.refuse("has an entry %.100q that is larger than the archive", h.Name)
			}
			mode := fs.FileMode(0o644)
			if h.Mode&0o111 != 0 {
				mode = 0o755
			}
			err = u.file(name, mode, tr)
		default:
			return u.refuse("has an entry %.100q that is neither a file nor a directory", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

func (u *unpacker) refuse(format string, args ...any) error {
	return sallyport.Errorf(sallyport.CodeInvalid, "artifact %s cannot be unpacked: it %s", u.name, fmt.Sprintf(format, args...)).
		WithHint("upload plain files and directories")
}

// checkName accepts a relative path that stays where it is and can be shown.
func checkName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("is empty or longer than %d bytes", maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }):
		return errors.New("has control characters or backslashes")
	case path.IsAbs(name) || !filepath.IsLocal(name):
		return errors.New("leaves its directory")
	}
	elems := strings.Split(strings.TrimSuffix(name, "/"), "/")
	if len(elems) > maxDepth {
		return fmt.Errorf("is nested deeper than %d", maxDepth)
	}
	for _, e := range elems {
		if e == ".." || len(e) > 255 {
			return errors.New("leaves its directory, or has too long an element")
		}
	}
	return nil
}

func (u *unpacker) mkdir(name string) error {
	if name == "." || u.dirs[name] {
		return nil
	}
	if err := u.root.MkdirAll(name, 0o700); err != nil {
		return u.writeError(name, err)
	}
	for ; name != "." && !u.dirs[name]; name = path.Dir(name) {
		u.dirs[name] = true
	}
	return nil
}

// file writes one file; two of one name are refused.
func (u *unpacker) file(name string, mode fs.FileMode, in io.Reader) error {
	if err := u.mkdir(path.Dir(name)); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return u.writeError(name, err)
	}
	n, err := io.Copy(f, io.LimitReader(in, u.left+1))
	if err == nil {
		err = f.Chmod(mode)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return u.writeError(name, err)
	}
	if u.left -= n; u.left < 0 {
		return u.refuse("holds more than the %s that it is said to have", "bytes")
	}
	return nil
}

// open lets the release's user, whoever that is in its room, read what was
// unpacked; until it was verified only we could.
func (u *unpacker) open() error {
	for name := range u.dirs {
		if err := u.root.Chmod(name, 0o755); err != nil {
			return u.writeError(name, err)
		}
	}
	if err := u.root.Chmod(".", 0o755); err != nil {
		return u.writeError(".", err)
	}
	return nil
}

func (u *unpacker) writeError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return u.refuse("has two entries for %.100q", name)
	case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
		return u.refuse("is not a whole archive")
	default:
		return diskError("unpack", err)
	}
}

// diskError gives a full disk its meaning.
func diskError(doing string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return sallyport.Errorf(sallyport.CodeUnavailable, "no space left on this host's disk").
			WithHint("free disk space; the deployment can then be repeated")
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// counter counts what is read, and stops reading when ctx ends.
type counter struct {
	r   io.Reader
	n   int64
	ctx context.Context // of the one call that reads
}

func (c *counter) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
