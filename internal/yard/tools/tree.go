package tools

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/sallyport-ci/sallyport"
)

// Bounds of one tool. The largest that are published have about 60,000 files in 4 GiB.
const (
	maxFiles = 300_000
	maxBytes = 16 << 30
	maxPath  = 1024
	maxDepth = 100
)

// measure returns the digest, files and bytes of a tree: the SHA-256 of a line for each
// file and link, in order of their paths: kind, mode, content (its SHA-256, or the
// link's target quoted), path quoted. Directories without files do not count.
func measure(ctx context.Context, root *os.Root) (Tool, error) {
	m := meter{ctx: ctx, root: root, tree: sha256.New()}
	err := m.dir(".", 0)
	m.out.Tree = sallyport.Digest("sha256:" + hex.EncodeToString(m.tree.Sum(nil)))
	return m.out, err
}

type meter struct {
	ctx  context.Context
	root *os.Root
	tree hash.Hash
	out  Tool
}

func (m *meter) dir(name string, depth int) error {
	if depth > maxDepth {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.200q is nested deeper than %d", name, maxDepth)
	}
	entries, err := fs.ReadDir(m.root.FS(), name) // sorted
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		file := path.Join(name, e.Name())
		if e.IsDir() {
			err = m.dir(file, depth+1)
		} else {
			err = m.file(file, e.Type())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *meter) file(name string, kind fs.FileMode) error {
	if m.out.Files++; m.out.Files > maxFiles {
		return sallyport.Errorf(sallyport.CodeInvalid, "a tool has at most %d files", maxFiles)
	}
	switch {
	case kind.IsRegular():
		f, err := m.root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		sum := sha256.New()
		n, err := io.Copy(sum, io.LimitReader(f, maxBytes-m.out.Bytes+1))
		if err != nil {
			return err
		}
		if m.out.Bytes += n; m.out.Bytes > maxBytes {
			return sallyport.Errorf(sallyport.CodeInvalid, "a tool has at most %d bytes", int64(maxBytes))
		}
		fmt.Fprintf(m.tree, "f %o %x %q\n", modeOf(info.Mode()), sum.Sum(nil), name)
	case kind&fs.ModeSymlink != 0:
		target, err := m.root.Readlink(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(m.tree, "l 0 %q %q\n", target, name)
	default:
		return sallyport.Errorf(sallyport.CodeInvalid, "%.200q is neither file, directory nor link", name)
	}
	return nil
}

// modeOf is the mode that a file gets: who may run it is all that is kept.
func modeOf(mode fs.FileMode) fs.FileMode {
	if mode&0o111 != 0 {
		return 0o755
	}
	return 0o644
}
