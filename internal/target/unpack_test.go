package target

import (
	"archive/tar"
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

type entry struct {
	name string
	kind byte
	body string
	mode int64
	link string
}

func archiveOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.body)), Linkname: e.link}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func artifactOf(content []byte, files int) sallyport.Artifact {
	return sallyport.Artifact{
		Name: "site", Filename: "site", Digest: sallyport.DigestOf(content), Size: int64(len(content)),
		Files: make([]sallyport.ArtifactFile, files),
	}
}

func TestUnpackArchive(t *testing.T) {
	t.Parallel()
	content := archiveOf(t,
		entry{name: "bin/", kind: tar.TypeDir, mode: 0o700},
		entry{name: "bin/server", body: "#!", mode: 0o6711},
		entry{name: "static/deep/page.html", body: "<p>", mode: 0o600},
		entry{name: "empty", mode: 0o644},
	)
	dir := filepath.Join(t.TempDir(), "root")
	if err := unpack(t.Context(), dir, artifactOf(content, 3), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	got := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		got[strings.TrimPrefix(path, dir)] = fi.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{
		"": fs.ModeDir | 0o755, "/bin": fs.ModeDir | 0o755, "/bin/server": 0o755, "/static": fs.ModeDir | 0o755,
		"/static/deep": fs.ModeDir | 0o755, "/static/deep/page.html": 0o644, "/empty": 0o644,
	} {
		if got[name] != mode {
			t.Errorf("%q: mode %v, want %v", name, got[name], mode)
		}
	}
	if len(got) != 7 {
		t.Errorf("unpacked: %v", got)
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("d/", maxDepth) + "f"
	sparse := archiveOf(t, entry{name: "f", body: "x"})
	copy(sparse[124:136], "77777777777\x00") // a size of 8 GiB in a header that is made right again
	checksum(sparse[:512])
	for name, entries := range map[string][]entry{
		"parent":          {{name: "../evil", body: "x"}},
		"hidden parent":   {{name: "a/../../evil", body: "x"}},
		"inner parent":    {{name: "a/../b", body: "x"}},
		"absolute":        {{name: "/etc/evil", body: "x"}},
		"symlink":         {{name: "l", kind: tar.TypeSymlink, link: "/etc"}},
		"through symlink": {{name: "l", kind: tar.TypeSymlink, link: ".."}, {name: "l/evil", body: "x"}},
		"hard link":       {{name: "l", kind: tar.TypeLink, link: "/etc/passwd"}},
		"device":          {{name: "d", kind: tar.TypeBlock}},
		"character":       {{name: "d", kind: tar.TypeChar}},
		"fifo":            {{name: "p", kind: tar.TypeFifo}},
		"twice":           {{name: "f", body: "1"}, {name: "f", body: "2"}},
		"twice unclean":   {{name: "f", body: "1"}, {name: "./f", body: "2"}},
		"file, then dir":  {{name: "f", body: "1"}, {name: "f/g", body: "2"}},
		"dir, then file":  {{name: "f/g", body: "1"}, {name: "f", body: "2"}},
		"deep":            {{name: deep, body: "x"}},
		"long":            {{name: strings.Repeat("n/", maxName/2) + "f", body: "x"}},
		"long element":    {{name: strings.Repeat("n", 256), body: "x"}},
		"control":         {{name: "a\x1b[31m", body: "x"}},
		"backslash":       {{name: `a\b`, body: "x"}},
		"too large":       nil,
		"cut off":         nil,
		"not an archive":  nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content := archiveOf(t, entries...)
			switch name {
			case "too large":
				content = sparse
			case "cut off":
				content = archiveOf(t, entry{name: "f", body: strings.Repeat("x", 5000)})[:2000]
			case "not an archive":
				content = bytes.Repeat([]byte("garbage "), 1000)
			}
			outer := t.TempDir()
			if err := os.Mkdir(filepath.Join(outer, "in"), 0o700); err != nil {
				t.Fatal(err)
			}
			err := unpack(t.Context(), filepath.Join(outer, "in", "root"), artifactOf(content, 2), bytes.NewReader(content))
			if sallyport.ErrorCode(err) != sallyport.CodeInvalid || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("got %v", err)
			}
			for _, dir := range []string{outer, filepath.Join(outer, "in")} {
				if there, _ := os.ReadDir(dir); len(there) != 1 {
					t.Errorf("it left its directory: %v", there)
				}
			}
		})
	}
}

// checksum makes a tar header's checksum right (POSIX pax, ustar interchange format).
func checksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header {
		sum += int(c)
	}
	copy(header[148:156], []byte{'0' + byte(sum>>15&7), '0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0, ' '})
}

func TestSingleName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filename string
		files    []string
		want     string
	}{
		{"hello", nil, "hello"},
		{"saved-as", []string{"bin/hello"}, "hello"},
		{"../../x", nil, "x"},
		{"", nil, "release"},
		{"..", nil, "release"},
		{"a\nb", nil, "release"},
		{"/", nil, "release"},
	} {
		a := sallyport.Artifact{Filename: c.filename}
		for _, f := range c.files {
			a.Files = append(a.Files, sallyport.ArtifactFile{Path: f})
		}
		if got := singleName(a); got != c.want {
			t.Errorf("%q %v: got %q, want %q", c.filename, c.files, got, c.want)
		}
	}
}

func TestEnviron(t *testing.T) {
	t.Parallel()
	env := environ(sallyport.EnvironmentSpec{Name: "e", Port: 80, Env: []sallyport.EnvVar{
		{Name: "A", Value: "1"}, {Name: "PORT", Value: "evil"}, {Name: "HOME", Value: "/srv"}, {Name: "A", Value: "2"},
	}})
	got := map[string]string{}
	for _, v := range env {
		if _, twice := got[v.Name]; twice {
			t.Errorf("%s stands twice", v.Name)
		}
		got[v.Name] = v.Value
	}
	for name, want := range map[string]string{"A": "2", "PORT": "80", "HOME": "/srv", "PATH": roomPath} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
}

// FuzzUnpack: whatever the archive says, nothing appears beside the directory,
// and what appears in it is files and directories of a bounded size.
func FuzzUnpack(f *testing.F) {
	f.Add(archiveOf(f, entry{name: "bin/server", body: "x", mode: 0o755}, entry{name: "a", body: "b"}))
	f.Add(archiveOf(f, entry{name: "../evil", body: "x"}))
	f.Add(archiveOf(f, entry{name: "l", kind: tar.TypeSymlink, link: "/"}, entry{name: "l/x", body: "x"}))
	f.Add(archiveOf(f, entry{name: "d/", kind: tar.TypeDir}, entry{name: "d", body: "x"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		outer, err := os.MkdirTemp("", "unpack")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(outer)
		dir := filepath.Join(outer, "root")
		a := artifactOf(content, 2)
		_ = unpack(context.Background(), dir, a, bytes.NewReader(content))
		var size int64
		err = filepath.WalkDir(outer, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if path != outer && path != dir && !strings.HasPrefix(path, dir+"/") {
				t.Errorf("outside: %q", path)
			}
			fi, err := d.Info()
			if err != nil {
				return err
			}
			if !d.IsDir() && !fi.Mode().IsRegular() || fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
				t.Errorf("%q is %v", path, fi.Mode())
			}
			if !d.IsDir() {
				size += fi.Size()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if size > a.Size+1 {
			t.Errorf("%d bytes out of %d", size, a.Size)
		}
	})
}

func TestTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if b, err := tail(path, 10); err != nil || b != nil {
		t.Errorf("of no file: %q, %v", b, err)
	}
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for max, want := range map[int64]string{0: "", -1: "", 3: "789", 10: "0123456789", 99: "0123456789"} {
		if b, err := tail(path, max); err != nil || !slices.Equal(b, []byte(want)) {
			t.Errorf("%d: got %q, %v", max, b, err)
		}
	}
}
