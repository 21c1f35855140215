package runner

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestUnpackTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := makeTar(t, tarEntry{name: "action.yml", body: "a"}, tarEntry{name: "d/x.sh", body: "b", mode: 0o755},
		tarEntry{name: "d/l", kind: tar.TypeSymlink, link: "../action.yml"})
	if err := unpackTree(dir, bytes.NewReader(tree), sallyport.DigestOf(tree)); err != nil {
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
			err := unpackTree(dir, bytes.NewReader(tree), sallyport.DigestOf(tree))
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
	if err := unpackTree(dir, bytes.NewReader(tree), sallyport.DigestOf(tree)); err == nil {
		t.Error("a link took the place of a directory")
	}

	good := makeTar(t, tarEntry{name: "a", body: "x"})
	if err := unpackTree(t.TempDir(), bytes.NewReader(good), sallyport.DigestOf([]byte("other"))); err == nil || !strings.Contains(err.Error(), "is not what sha256:") {
		t.Errorf("another tree: %v", err)
	}
	for _, n := range []int{0, 100, 512, 600, 1024} {
		if err := unpackTree(t.TempDir(), bytes.NewReader(good[:n]), sallyport.DigestOf(good)); err == nil {
			t.Errorf("%d bytes of an archive were taken for it", n)
		}
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
		_ = unpackTree(dir, bytes.NewReader(tree), sallyport.DigestOf(tree))
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
