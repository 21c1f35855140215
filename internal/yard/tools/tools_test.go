package tools

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

type entry struct {
	name, body string
	kind       byte
	mode       int64
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.body))}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag != tar.TypeReg {
			h.Linkname, h.Size = e.body, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(e.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// place writes a file and returns its path and digest.
func place(t testing.TB, b []byte) (string, sallyport.Digest) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, sallyport.DigestOf(b)
}

var goTool = []entry{{"go/", "", tar.TypeDir, 0o700}, {"go/bin/go", "#!/bin/sh\n", 0, 0o700}, {"go/VERSION", "go1.26.0", 0, 0o600}, {"go/bin/gofmt", "go", tar.TypeSymlink, 0}}

func TestAddAndVerify(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	c := Open(dir)
	if list, err := c.List(); list != nil || err != nil {
		t.Fatalf("of no directory: %v, %v", list, err)
	}
	file, digest := place(t, gzipped(t, tarOf(t, goTool...)))
	got, err := c.Add(t.Context(), "golang", "1.26", "x64", file, digest)
	if err != nil {
		t.Fatal(err)
	}
	if got.Dir() != "go/1.26.0/x64" || got.Archive != digest || got.Files != 3 || got.Bytes != 18 {
		t.Errorf("got %+v", got)
	}
	for name, mode := range map[string]os.FileMode{"bin/go": 0o755, "VERSION": 0o644, "bin": os.ModeDir | 0o755} {
		if info, err := os.Stat(filepath.Join(dir, "go/1.26.0/x64", name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want %v", name, info, err, mode)
		}
	}
	list, err := c.List()
	if err != nil || len(list) != 1 || list[0] != got {
		t.Fatalf("list: %+v, %v", list, err)
	}
	if err := Open(dir).Verify(t.Context(), got); err != nil {
		t.Errorf("verify: %v", err)
	}
	if _, err := c.Add(t.Context(), "go", "1.26.0", "x64", file, digest); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("twice: %v", err)
	}

	// The same files as a directory have the same digest.
	same, err := c.Add(t.Context(), "go", "1.26.1", "x64", filepath.Join(dir, "go/1.26.0/x64"), got.Tree)
	if err != nil || same.Tree != got.Tree || same.Archive != "" {
		t.Errorf("a directory: %+v, %v", same, err)
	}
	for what, change := range map[string]func(at string) error{
		"content": func(at string) error { return os.WriteFile(filepath.Join(at, "VERSION"), []byte("go1.26.9"), 0o644) },
		"mode":    func(at string) error { return os.Chmod(filepath.Join(at, "VERSION"), 0o755) },
		"more":    func(at string) error { return os.WriteFile(filepath.Join(at, "bin/gcc"), nil, 0o755) },
		"less":    func(at string) error { return os.Remove(filepath.Join(at, "VERSION")) },
		"link": func(at string) error {
			_ = os.Remove(filepath.Join(at, "bin/gofmt"))
			return os.Symlink("../VERSION", filepath.Join(at, "bin/gofmt"))
		},
		"half": func(at string) error { return os.Remove(at + ".complete") },
		"gone": os.RemoveAll,
	} {
		t.Run(what, func(t *testing.T) {
			c := Open(filepath.Join(t.TempDir(), "cache"))
			added, err := c.Add(t.Context(), "go", "1.26.0", "x64", file, digest)
			if err != nil {
				t.Fatal(err)
			}
			if err := change(filepath.Join(c.Path(), "go/1.26.0/x64")); err != nil {
				t.Fatal(err)
			}
			if err := c.Verify(t.Context(), added); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
				t.Errorf("got %v", err)
			}
			if err := c.Remove("go", "1.26.0", "x64"); err != nil {
				t.Errorf("remove: %v", err)
			}
			if left, err := c.List(); len(left) != 0 || err != nil {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func TestZip(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: "node-v22/bin/node"}
	h.SetMode(0o755)
	f, err := w.CreateHeader(h)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write([]byte("x"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file, digest := place(t, b.Bytes())
	c := Open(t.TempDir())
	got, err := c.Add(t.Context(), "node", "22.1.0", "", file, digest)
	if err != nil || got.Arch != Arch() || got.Files != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	good := gzipped(t, tarOf(t, goTool...))
	evil := func(e ...entry) []byte { return tarOf(t, append(goTool[:len(goTool):len(goTool)], e...)...) }
	for name, c := range map[string]struct {
		tool, version string
		content       []byte
		digest        sallyport.Digest // "" = that of the content
		want          string
	}{
		"another digest":      {"go", "1.26.0", good, sallyport.DigestOf(nil), "has digest"},
		"a name with a path":  {"../go", "1.26.0", good, "", "not the name of a tool"},
		"not a version":       {"go", "latest", good, "", "not a version"},
		"version with a path": {"go", "1.2.3-../..", good, "", "not a version"},
		"no program":          {"node", "22.0.0", good, "", "holds no bin/node"},
		"xz":                  {"go", "1.26.0", []byte("\xfd7zXZ\x00 and more"), "", "archives of xz"},
		"not an archive":      {"go", "1.26.0", []byte(strings.Repeat("text ", 200)), "", "broken"},
		"cut short":           {"go", "1.26.0", good[:len(good)/2], "", "broken"},
		"out by dots":         {"go", "1.26.0", evil(entry{"../x", "", 0, 0o644}), "", "leads out"},
		"absolute":            {"go", "1.26.0", evil(entry{"/etc/x", "", 0, 0o644}), "", "leads out"},
		"link out":            {"go", "1.26.0", evil(entry{"go/l", "../../x", tar.TypeSymlink, 0}), "", "leads out"},
		"absolute link":       {"go", "1.26.0", evil(entry{"go/l", "/etc/passwd", tar.TypeSymlink, 0}), "", "leads out"},
		"through a link":      {"go", "1.26.0", evil(entry{"go/l", "bin", tar.TypeSymlink, 0}, entry{"go/l/x", "", 0, 0o644}), "", "refused"},
		"hard link out":       {"go", "1.26.0", evil(entry{"go/l", "../../etc/passwd", tar.TypeLink, 0}), "", "no file before it"},
		"twice":               {"go", "1.26.0", evil(entry{"go/VERSION", "x", 0, 0o644}), "", "refused"},
		"a device":            {"go", "1.26.0", evil(entry{"go/null", "", tar.TypeChar, 0o644}), "", "neither file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, digest := place(t, c.content)
			if c.digest != "" {
				digest = c.digest
			}
			cache := Open(filepath.Join(t.TempDir(), "a", "cache"))
			_, err := cache.Add(t.Context(), c.tool, c.version, "x64", file, digest)
			if sallyport.ErrorCode(err) != sallyport.CodeInvalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if list, lerr := cache.List(); len(list) != 0 || lerr != nil {
				t.Errorf("kept %v, %v", list, lerr)
			}
			left, _ := filepath.Glob(filepath.Join(cache.Path(), "*"))
			if hidden, _ := filepath.Glob(filepath.Join(cache.Path(), ".new-*")); len(left) > 1 || len(hidden) > 0 {
				t.Errorf("left behind: %v %v", left, hidden)
			}
		})
	}
	file, _ := place(t, good)
	if _, err := Open(t.TempDir()).Add(t.Context(), "go", "1.26.0", "x64", file, ""); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("without a digest: %v", err)
	}
}

func FuzzLock(f *testing.F) {
	f.Add([]byte(`{"version":1,"tools":[{"name":"go","version":"1.26.0","arch":"x64","tree":"sha256:` + strings.Repeat("0", 64) + `"}]}`))
	f.Add([]byte(`{"version":1,"tools":[{"name":"..","version":"1.2.3","arch":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Open(t.TempDir())
		if err := os.WriteFile(filepath.Join(c.Path(), lockName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := c.List()
		if err != nil {
			return
		}
		for _, tool := range list {
			if !filepath.IsLocal(tool.Dir()) || strings.Count(tool.Dir(), "/") != 2 {
				t.Errorf("%q leads out of the cache", tool.Dir())
			}
		}
	})
}

func FuzzAdd(f *testing.F) {
	f.Add(tarOf(f, goTool...))
	f.Add(tarOf(f, entry{"a/b", "c", 0, 0o644}, entry{"a/l", "b", tar.TypeSymlink, 0}, entry{"a/h", "a/b", tar.TypeLink, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		outside := t.TempDir()
		file, digest := place(t, b)
		c := Open(filepath.Join(outside, "cache"))
		added, err := c.Add(t.Context(), "any", "1.0.0", "x64", file, digest)
		if err == nil {
			err = c.Verify(t.Context(), added)
			if err != nil {
				t.Errorf("what was added does not verify: %v", err)
			}
		}
		if found, _ := filepath.Glob(filepath.Join(outside, "*")); len(found) > 1 {
			t.Errorf("written outside: %v", found)
		}
	})
}
