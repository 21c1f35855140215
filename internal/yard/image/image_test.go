package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// e is one entry of a layer: "d NAME", "f NAME CONTENT", "l NAME TARGET", "h NAME TARGET",
// "c NAME" (a device), "p NAME" (a FIFO).
type e struct{ kind, name, text string }

// layer writes a layer, gzipped.
func layer(t testing.TB, entries ...e) (sallyport.ImageLayer, []byte) {
	t.Helper()
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, x := range entries {
		h := &tar.Header{Name: x.name, Mode: 0o6755, Uid: 33, Gid: 70000, ModTime: time.Unix(1700000000, 0)}
		switch x.kind {
		case "d":
			h.Typeflag = tar.TypeDir
		case "f":
			h.Typeflag, h.Size = tar.TypeReg, int64(len(x.text))
		case "l":
			h.Typeflag, h.Linkname = tar.TypeSymlink, x.text
		case "h":
			h.Typeflag, h.Linkname = tar.TypeLink, x.text
		case "c":
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3
		case "p":
			h.Typeflag = tar.TypeFifo
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if x.kind == "f" {
			if _, err := io.WriteString(w, x.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return sallyport.ImageLayer{Digest: sallyport.DigestOf(packed.Bytes()), DiffID: sallyport.DigestOf(plain.Bytes()), Size: int64(packed.Len())}, packed.Bytes()
}

// image makes an image of layers, and what hands them out.
func image(t testing.TB, layers ...[]e) (sallyport.Image, Layers) {
	t.Helper()
	i := sallyport.Image{Reference: "test/image"}
	blobs := map[sallyport.Digest][]byte{}
	var all []byte
	for _, entries := range layers {
		l, blob := layer(t, entries...)
		i.Layers, blobs[l.Digest], all = append(i.Layers, l), blob, append(all, blob...)
	}
	i.Digest = sallyport.DigestOf(all)
	return i, func(_ context.Context, d sallyport.Digest) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(blobs[d])), nil
	}
}

// contents lists a tree as "name" of directories, "name=content" of files and
// "name->target" of links.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			name += "->" + to
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			name += "=" + string(b)
		}
		out = append(out, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		layers [][]e
		want   string
	}{
		"plain":         {[][]e{{{"d", "./", ""}, {"d", "etc/", ""}, {"f", "etc/a", "1"}, {"l", "b", "etc/a"}, {"h", "c", "etc/a"}}}, "b->etc/a c=1 etc etc/a=1"},
		"no directory":  {[][]e{{{"f", "a/b/c", "1"}}}, "a a/b a/b/c=1"},
		"replace":       {[][]e{{{"f", "a", "1"}, {"d", "d", ""}, {"f", "d/x", ""}}, {{"f", "a", "2"}, {"f", "d", "now a file"}}}, "a=2 d=now a file"},
		"merge":         {[][]e{{{"f", "d/x", "1"}}, {{"d", "d", ""}, {"f", "d/y", "2"}}}, "d d/x=1 d/y=2"},
		"whiteout":      {[][]e{{{"f", "d/x", "1"}, {"f", "d/y", "2"}}, {{"f", "d/.wh.x", ""}}}, "d d/y=2"},
		"whiteout tree": {[][]e{{{"f", "d/x/z", "1"}}, {{"f", ".wh.d", ""}}}, ""},
		"opaque":        {[][]e{{{"f", "d/x", "1"}, {"f", "d/s/t", "1"}}, {{"f", "d/y", "2"}, {"f", "d/s/u", "3"}, {"f", "d/.wh..wh..opq", ""}}}, "d d/s d/s/u=3 d/y=2"},
		"own whiteout":  {[][]e{{{"f", "x", "1"}, {"f", ".wh.x", ""}}}, "x=1"},
		"link to dir":   {[][]e{{{"d", "usr/bin", ""}, {"l", "bin", "usr/bin"}}, {{"f", "bin/sh", "#"}}}, "bin->usr/bin usr usr/bin usr/bin/sh=#"},
		"absolute link": {[][]e{{{"d", "run", ""}, {"l", "var/run", "/run"}}, {{"f", "var/run/x", "1"}}}, "run run/x=1 var var/run->/run"},
		"absolute name": {[][]e{{{"f", "/etc/a", "1"}}}, "etc etc/a=1"},
		"devices":       {[][]e{{{"c", "dev/null", ""}, {"p", "fifo", ""}}}, ""},
		// Hostile, and kept inside.
		"dots":            {[][]e{{{"f", "../../../etc/a", "1"}}}, "etc etc/a=1"},
		"link out":        {[][]e{{{"l", "out", "../../../../../../tmp"}, {"f", "out/evil", "1"}}}, "out->../../../../../../tmp tmp tmp/evil=1"},
		"link out, abs":   {[][]e{{{"l", "out", "/"}, {"f", "out/evil", "1"}}}, "evil=1 out->/"},
		"replaced parent": {[][]e{{{"f", "a", "1"}}, {{"f", "a/b", "2"}}}, "a a/b=2"},
		"file over link":  {[][]e{{{"l", "a", "/etc/passwd"}}, {{"f", "a", "mine"}}}, "a=mine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Open(filepath.Join(t.TempDir(), "images"))
			if err != nil {
				t.Fatal(err)
			}
			i, layers := image(t, c.layers...)
			dir, _, err := s.Root(t.Context(), i, layers)
			if err != nil {
				t.Fatal(err)
			}
			if got := contents(t, dir); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, layers := range map[string][][]e{
		"device":            {{{"c", "etc/kmem", ""}}},
		"hard link nowhere": {{{"h", "a", "nothing"}}},
		"hard link out":     {{{"h", "a", "../../../../../../etc/hostname"}}},
		"hard link to link": {{{"l", "l", "/etc/passwd"}, {"h", "a", "l"}}},
		"loop of links":     {{{"l", "a", "b"}, {"l", "b", "a"}, {"f", "a/x", ""}}},
		"links that grow":   {{{"d", strings.Repeat("n/", 120), ""}, {"l", "a", strings.Repeat("n/", 119) + "n"}, {"l", "a/b", strings.Repeat("m/", 119) + "m"}, {"f", "a/b/" + strings.Repeat("x/", 100) + "y", ""}}},
		"whiteout of dots":  {{{"f", "d/.wh...", ""}}},
		"whiteout of none":  {{{"f", "d/.wh.", ""}}},
		"deep":              {{{"f", strings.Repeat("d/", 300) + "x", ""}}},
		"long":              {{{"f", strings.Repeat("n", 300), ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "images")
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			i, open := image(t, layers...)
			if _, _, err := s.Root(t.Context(), i, open); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
				t.Errorf("got %v, want %s", err, sallyport.CodeInvalid)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestOtherContent(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	i, open := image(t, []e{{"f", "a", "1"}})
	i.Layers[0].DiffID = sallyport.DigestOf([]byte("another"))
	if _, _, err := s.Root(t.Context(), i, open); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("got %v, want %s", err, sallyport.CodeInvalid)
	}
}

func TestOwnersAndModes(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	i, open := image(t, []e{{"f", "a", "1"}})
	dir, _, err := s.Root(t.Context(), i, open)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o755 || info.ModTime().Unix() != 1700000000 {
		t.Errorf("mode %s, time %s: want 0755 without set-id bits, and the image's time", info.Mode(), info.ModTime())
	}
	if uid, gid, ok := owner(info); ok && os.Geteuid() == 0 && (uid != 33 || gid != 65534) {
		t.Errorf("owner %d:%d, want 33 and nobody for an id that no room has", uid, gid)
	}
}

// An image that several jobs ask for is unpacked once.
func TestUnpackedOnce(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	i, open := image(t, []e{{"f", "a", "1"}})
	var mu sync.Mutex
	opened := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, _, err := s.Root(t.Context(), i, func(ctx context.Context, d sallyport.Digest) (io.ReadCloser, error) {
				mu.Lock()
				opened++
				mu.Unlock()
				return open(ctx, d)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if opened != 1 {
		t.Errorf("the layer was opened %d times", opened)
	}
}

func FuzzLayer(f *testing.F) {
	for _, entries := range [][]e{
		{{"d", "etc/", ""}, {"f", "etc/a", "1"}, {"l", "b", "/etc"}, {"f", "b/c", "2"}, {"h", "d", "etc/a"}},
		{{"f", "d/.wh.x", ""}, {"f", "d/.wh..wh..opq", ""}, {"l", "a", "a"}, {"f", "a/x", ""}},
	} {
		_, blob := layer(f, entries...)
		f.Add(blob)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		outside := t.TempDir()
		top := filepath.Join(outside, "root")
		if err := os.Mkdir(top, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(top)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = (&tree{root: root}).lay(t.Context(), sallyport.ImageLayer{}, bytes.NewReader(blob)) // its digest is always wrong
		if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
			t.Errorf("written outside of the root: %v, %v", left, err)
		}
	})
}

// TestEviction keeps what is in use and what was used last, also over a restart.
func TestEviction(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "images")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.maxImages = 2
	use := func(s *Store, name string) (root string, release func()) {
		t.Helper()
		l, blob := layer(t, e{"f", name, name})
		i := sallyport.Image{Reference: name, Digest: sallyport.DigestOf([]byte(name)), Layers: []sallyport.ImageLayer{l}}
		root, release, err := s.Root(t.Context(), i, func(context.Context, sallyport.Digest) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(blob)), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return root, release
	}
	there := func(root string) bool { _, err := os.Stat(root); return err == nil }
	age := func(root string, by time.Duration) {
		t.Helper()
		at := time.Now().Add(-by)
		if err := os.Chtimes(filepath.Dir(root), at, at); err != nil {
			t.Fatal(err)
		}
	}
	a, releaseA := use(s, "a")
	b, releaseB := use(s, "b")
	c, releaseC := use(s, "c")
	age(a, 3*time.Hour)
	age(b, 2*time.Hour)
	age(c, time.Hour)
	releaseC() // three, two of them in use: the one that is not goes, though it was used last
	if !there(a) || !there(b) || there(c) {
		t.Errorf("in use: %v %v, not in use: %v", there(a), there(b), there(c))
	}
	releaseA()
	releaseB()
	releaseB() // counts once
	d, releaseD := use(s, "d")
	releaseD()
	if there(a) || !there(b) || !there(d) {
		t.Errorf("the oldest %v, the others %v %v", there(a), there(b), there(d))
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.maxBytes = 1 // of "b" and "d" one byte each
	age(b, 2*time.Hour)
	again.evict()
	if there(b) || !there(d) {
		t.Errorf("by bytes: %v %v", there(b), there(d))
	}
}
