package runner

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestUnpackTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := makeTar(t, tarEntry{name: "action.yml", body: "a"}, tarEntry{name: "d/x.sh", body: "b", mode: 0o755},
		tarEntry{name: "d/l", kind: tar.TypeSymlink, link: "../action.yml"})
	if _, err := unpackTree(dir, bytes.NewReader(tree), sallyport.DigestOf(tree)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"action.yml": 0o644, "d/x.sh": 0o755, "d": fs.ModeDir | 0o755} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "d/l")); string(b) != "a" || err != nil {
		t.Errorf("link: %q %v", b, err)
	}
}

// Whatever an archive says, nothing is written outside of its directory.
func TestHostileTrees(t *testing.T) {
	t.Parallel()
	link := func(name, to string) tarEntry { return tarEntry{name: name, kind: tar.TypeSymlink, link: to} }
	for name, c := range map[string]struct {
		entries []tarEntry
		want    string
	}{
		"absolute":           {[]tarEntry{{name: "/etc/x", body: "x"}}, "leaves its directory"},
		"up":                 {[]tarEntry{{name: "../x", body: "x"}}, "leaves its directory"},
		"up within":          {[]tarEntry{{name: "a/../../x", body: "x"}}, "leaves its directory"},
		"not clean":          {[]tarEntry{{name: "a//x", body: "x"}}, "leaves its directory"},
		"control":            {[]tarEntry{{name: "a\nb", body: "x"}}, "control characters"},
		"absolute link":      {[]tarEntry{link("l", "/etc/passwd")}, "leads out of it"},
		"link up":            {[]tarEntry{link("a/l", "../../x")}, "leads out of it"},
		"hard link":          {[]tarEntry{{name: "h", kind: tar.TypeLink, link: "/etc/passwd"}}, "neither a file nor a link"},
		"device":             {[]tarEntry{{name: "d", kind: tar.TypeChar}}, "neither a file nor a link"},
		"pipe":               {[]tarEntry{{name: "p", kind: tar.TypeFifo}}, "neither a file nor a link"},
		"twice":              {[]tarEntry{{name: "a", body: "1"}, {name: "a", body: "2"}}, "two entries"},
		"file and directory": {[]tarEntry{{name: "a", body: "1"}, {name: "a/b", body: "2"}}, "two entries"},
		"link and file":      {[]tarEntry{link("a", "b"), {name: "a", body: "2"}}, "two entries"},
		"long":               {[]tarEntry{{name: strings.Repeat("a/", 600) + "x"}}, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, "in")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			tree := makeTar(t, c.entries...)
			_, err := unpackTree(dir, bytes.NewReader(tree), sallyport.DigestOf(tree))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if out, _ := os.ReadDir(parent); len(out) != 1 {
				t.Errorf("written outside: %v", out)
			}
		})
	}

	// A link to a directory is not a way into it: links are made last.
	parent := t.TempDir()
	dir := filepath.Join(parent, "in")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tree := makeTar(t, link("a/l", "../b"), tarEntry{name: "b/x", body: "1"}, tarEntry{name: "a/l/y", body: "2"})
	if _, err := unpackTree(dir, bytes.NewReader(tree), sallyport.DigestOf(tree)); err == nil {
		t.Error("a link took the place of a directory")
	}

	good := makeTar(t, tarEntry{name: "a", body: "x"})
	if _, err := unpackTree(t.TempDir(), bytes.NewReader(good), sallyport.DigestOf([]byte("other"))); err == nil || !strings.Contains(err.Error(), "is not what sha256:") {
		t.Errorf("another tree: %v", err)
	}
	for _, n := range []int{0, 100, 512, 600, 1024} {
		if _, err := unpackTree(t.TempDir(), bytes.NewReader(good[:n]), sallyport.DigestOf(good)); err == nil {
			t.Errorf("%d bytes of an archive were taken for it", n)
		}
	}
}

// A tree is fetched once for all jobs of a runner, also for those that ask at the same
// time; what failed is tried again.
func TestTreeCache(t *testing.T) {
	t.Parallel()
	c := trees{dir: filepath.Join(t.TempDir(), "trees")}
	d := sallyport.DigestOf(nil)
	if _, _, err := c.get(t.Context(), d, func(string) (int64, error) { return 0, errLost }); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	var fills atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			dir, release, err := c.get(t.Context(), d, func(dir string) (int64, error) {
				fills.Add(1)
				return 1, os.WriteFile(filepath.Join(dir, "x"), nil, 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if _, err := os.Stat(filepath.Join(dir, "x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if fills.Load() != 1 {
		t.Errorf("it was fetched %d times", fills.Load())
	}
	// What is used stays, whatever comes; of the rest the oldest go.
	used, release, err := c.get(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for i := range maxTrees + 5 {
		dir, release, err := c.get(t.Context(), sallyport.DigestOf([]byte{byte(i)}), func(string) (int64, error) { return 1, nil })
		if err != nil {
			t.Fatal(err)
		}
		release()
		release() // once is enough
		dirs = append(dirs, dir)
	}
	for dir, want := range map[string]bool{used: true, dirs[0]: false, dirs[len(dirs)-1]: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", dir, err, want)
		}
	}
	release()
	if left, err := os.ReadDir(c.dir); err != nil || len(left) != maxTrees {
		t.Errorf("%d trees are kept (%v), want %d", len(left), err, maxTrees)
	}
}

func FuzzUnpackTree(f *testing.F) {
	f.Add(makeTar(f, tarEntry{name: "action.yml", body: "a"}, tarEntry{name: "l", kind: tar.TypeSymlink, link: "action.yml"}))
	f.Add(makeTar(f, tarEntry{name: "../x", body: "a"}))
	f.Add(makeTar(f, tarEntry{name: "a/l", kind: tar.TypeSymlink, link: ".."}, tarEntry{name: "a/l/x", body: "a"}))
	f.Fuzz(func(t *testing.T, tree []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, _ = unpackTree(dir, bytes.NewReader(tree), sallyport.DigestOf(tree))
		if out, _ := os.ReadDir(parent); len(out) != 1 {
			t.Errorf("written outside: %v", out)
		}
		_ = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.Type()&fs.ModeSymlink == 0 {
				if d != nil && d.Type()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
					t.Errorf("%s is a %s", file, d.Type())
				}
				return nil
			}
			to, err := os.Readlink(file)
			if rel, _ := filepath.Rel(dir, filepath.Join(filepath.Dir(file), to)); err != nil || filepath.IsAbs(to) || !filepath.IsLocal(rel) {
				t.Errorf("%s leads to %s", file, to)
			}
			return nil
		})
	})
}

// BenchmarkUnpackTree is what the runner adds for a locked action of 5 MB, in one file
// and in a thousand.
func BenchmarkUnpackTree(b *testing.B) {
	line := "// a bundle of some packages\n"
	one := makeTar(b, tarEntry{name: "action.yml", body: "x"}, tarEntry{name: "dist/index.js", body: strings.Repeat(line, 180_000)})
	entries := []tarEntry{{name: "action.yml", body: "x"}}
	for i := range 1000 {
		entries = append(entries, tarEntry{name: fmt.Sprintf("node_modules/p%d/index%d.js", i/20, i), body: strings.Repeat(line, 180)})
	}
	for name, tree := range map[string][]byte{"one file": one, "1000 files": makeTar(b, entries...)} {
		b.Run(name, func(b *testing.B) {
			digest := sallyport.DigestOf(tree)
			for b.Loop() {
				dir := b.TempDir()
				if _, err := unpackTree(dir, bytes.NewReader(tree), digest); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				_ = os.RemoveAll(dir)
				b.StartTimer()
			}
		})
	}
}
