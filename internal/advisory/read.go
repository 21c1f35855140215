package advisory

import (
	"archive/zip"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Bounds of a dump. The largest public one has some 250,000 entries and 1 GiB.
const (
	maxFiles = 2_000_000
	maxBytes = 8 << 30
	maxZip   = 2 << 30 // of one packed file
	maxNames = 4_000_000
	maxDepth = 4
)

// Read reads a dump in the layout of OSV's own: DIR/ECOSYSTEM/all.zip with ID.json in it, or
// DIR/ECOSYSTEM/…/ID.json. Besides, malicious-names.tsv or .tsv.gz in DIR may list
// names: ecosystem, name, id and "all", tab-separated; other rows of it are passed over, for they do not say
// which versions are meant. One broken entry fails the whole: a dump that is half read would let through what
// its other half names.
func Read(dir fs.FS) (*Index, error) {
	r := &reader{index: &Index{}}
	top, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("read advisories: %w", err)
	}
	for _, d := range top {
		switch {
		case d.IsDir() && !strings.HasPrefix(d.Name(), "."):
			err = r.directory(dir, d.Name(), 1)
		case d.Name() == "all.zip":
			err = r.archive(dir, d.Name())
		case d.Name() == "malicious-names.tsv" || d.Name() == "malicious-names.tsv.gz":
			err = r.names(dir, d.Name())
		}
		if err != nil {
			return nil, fmt.Errorf("read advisories: %w", err)
		}
	}
	if r.files == 0 && r.index.n == 0 {
		return nil, errors.New("read advisories: there are none; the layout is ECOSYSTEM/all.zip or ECOSYSTEM/ID.json")
	}
	return r.index, nil
}

// reader holds what was read of a dump so far.
type reader struct {
	index *Index
	files int
	bytes int64
}

func (r *reader) directory(dir fs.FS, name string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: directories are more than %d deep", name, maxDepth)
	}
	list, err := fs.ReadDir(dir, name)
	if err != nil {
		return err
	}
	for _, d := range list {
		p := path.Join(name, d.Name())
		switch {
		case d.IsDir():
			err = r.directory(dir, p, depth+1)
		case d.Name() == "all.zip":
			err = r.archive(dir, p)
		case path.Ext(p) == ".json" && d.Type().IsRegular():
			err = r.file(dir, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) file(dir fs.FS, name string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.entry(name, f)
}

func (r *reader) archive(dir fs.FS, name string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	at, ok := f.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("%s cannot be read at an offset", name)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxZip {
		return fmt.Errorf("%s has more than %d MiB", name, maxZip>>20)
	}
	z, err := zip.NewReader(at, info.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, m := range z.File {
		if path.Ext(m.Name) != ".json" {
			continue
		}
		c, err := m.Open()
		if err != nil {
			return fmt.Errorf("%s: %.80q: %w", name, m.Name, err)
		}
		err = r.entry(name+": "+m.Name, c)
		c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// entry reads one entry, whatever size its archive says it has.
func (r *reader) entry(name string, from io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(from, maxEntry+1))
	if err != nil {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	r.files++
	r.bytes += int64(len(raw))
	if r.files > maxFiles || r.bytes > maxBytes {
		return fmt.Errorf("there are more than %d entries or %d MiB", maxFiles, maxBytes>>20)
	}
	if err := parse(raw, r.index.add); err != nil {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	return nil
}

// names reads a table of names.
func (r *reader) names(dir fs.FS, name string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var from io.Reader = f
	if path.Ext(name) == ".gz" {
		z, err := gzip.NewReader(f)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		from = io.LimitReader(z, maxBytes)
	}
	lines := bufio.NewScanner(from)
	for n := 1; lines.Scan(); n++ {
		if n > maxNames {
			return fmt.Errorf("%s has more than %d rows", name, maxNames)
		}
		f := strings.Split(lines.Text(), "\t")
		if len(f) != 4 || f[0] == "" || f[1] == "" || f[2] == "" {
			return fmt.Errorf("%s:%d: it is not ecosystem, name, id and versions", name, n)
		}
		if f[3] == "all" && len(f[1]) <= maxName && len(f[2]) <= maxName {
			r.index.add(f[0], f[1], entry{id: f[2], ranges: []span{{}}})
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// state sums up what a dump's files looked like, to tell whether it changed.
func state(dir fs.FS) (string, error) {
	var b strings.Builder
	n := 0
	err := fs.WalkDir(dir, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// Files that are added, renamed or removed change their directory; an archive that is
		// written in place changes itself. Single entries are too many to look at.
		if !d.IsDir() && path.Ext(p) == ".json" {
			return nil
		}
		if n++; n > 10_000 {
			return fmt.Errorf("there are more than 10000 directories and archives")
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %d %s\n", p, info.Size(), info.ModTime().Format(time.RFC3339Nano))
		return nil
	})
	return b.String(), err
}
