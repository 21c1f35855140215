package tlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
)

// Bounds of the files of a log directory, whose content is not trusted.
const (
	maxCheckpointFile = 64 << 10
	maxBundleFile     = layout.EntryBundleWidth * (2 + 1<<16) // 256 entries with their lengths
	maxTileFile       = layout.TileWidth * hashSize
)

// logDir reads a log directory (C2SP tlog-tiles) without opening the log.
type logDir struct{ root *os.Root }

func openLogDir(dir string) (*logDir, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &logDir{root}, nil
}

func (d *logDir) close() error { return d.root.Close() }

func (d *logDir) checkpoint() ([]byte, error) {
	return d.read(layout.CheckpointPath, maxCheckpointFile)
}

// entries returns the n-th bundle of a log of the given size.
func (d *logDir) entries(n, size uint64) ([][]byte, error) {
	raw, err := d.readWidest(func(p uint8) string { return layout.EntriesPath(n, p) }, layout.PartialTileSize(0, n, size), maxBundleFile)
	if err != nil {
		return nil, err
	}
	var b api.EntryBundle
	if err := b.UnmarshalText(raw); err != nil {
		return nil, fmt.Errorf("malformed bundle of entries: %w", err)
	}
	return b.Entries, nil
}

// leafHashes returns the n-th tile of leaf hashes of a log of the given size.
func (d *logDir) leafHashes(n, size uint64) ([][]byte, error) {
	raw, err := d.readWidest(func(p uint8) string { return layout.TilePath(0, n, p) }, layout.PartialTileSize(0, n, size), maxTileFile)
	if err != nil {
		return nil, err
	}
	var t api.HashTile
	if err := t.UnmarshalText(raw); err != nil {
		return nil, fmt.Errorf("malformed tile: %w", err)
	}
	return t.Nodes, nil
}

// readWidest reads a partial file, or the full one that has replaced it since.
func (d *logDir) readWidest(path func(partial uint8) string, partial uint8, max int64) ([]byte, error) {
	b, err := d.read(path(partial), max)
	if partial != 0 && errors.Is(err, fs.ErrNotExist) {
		return d.read(path(0), max)
	}
	return b, err
}

func (d *logDir) read(path string, max int64) ([]byte, error) {
	f, err := d.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a regular file", path), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(b)) > max {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, max)
	}
	return b, err
}

// leafReader walks over the entries of a log directory in order.
type leafReader struct {
	dir    *logDir
	bundle [][]byte
	tile   [][]byte
}

// read returns entry i of a log of the given size, its Merkle leaf hash, and
// false for inTile when the log's own tile has another hash: where the entries do
// not add up to the root, this is then the one that was altered.
func (r *leafReader) read(i, size uint64) (entry, hash []byte, inTile bool, err error) {
	n, at := i/layout.EntryBundleWidth, int(i%layout.EntryBundleWidth)
	if r.bundle == nil || at == 0 || at >= len(r.bundle) {
		if r.bundle, err = r.dir.entries(n, size); err != nil {
			return nil, nil, false, err
		}
		r.tile, _ = r.dir.leafHashes(n, size) // a hint only
	}
	if at >= len(r.bundle) {
		return nil, nil, false, errors.New("entry is missing from its bundle")
	}
	entry = r.bundle[at]
	hash = rfc6962.DefaultHasher.HashLeaf(entry)
	return entry, hash, at >= len(r.tile) || bytes.Equal(r.tile[at], hash), nil
}
