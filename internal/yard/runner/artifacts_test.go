package runner

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/toolkit"
)

func TestUpload(t *testing.T) {
	t.Parallel()
	const tree = "- run: |\n    mkdir -p dist/sub .cache other\n    echo 1 > dist/a.txt; echo 22 > dist/sub/b.txt; echo 3 > dist/c.bin; echo x > .cache/h; echo y > dist/.hidden; echo z > other/z.txt\n    chmod 700 dist/c.bin; ln -s a.txt dist/link; ln -s /etc dist/etc; mkfifo dist/pipe\n"
	for _, c := range []struct {
		name, with string
		want       string // names in the artifact
		fails      string
		log        string
	}{
		{name: "a directory", with: "path: dist", want: "a.txt c.bin sub/b.txt", log: "2 symbolic links are left out"},
		{name: "one file", with: "path: dist/sub/b.txt", want: "b.txt"},
		{name: "a pattern", with: "path: dist/*.txt", want: "a.txt"},
		{name: "any depth", with: "path: 'dist/**/*.txt'", want: "a.txt sub/b.txt"},
		{name: "a pattern for a directory", with: "path: 'd*/s?b'", want: "dist/sub/b.txt"},
		{name: "several with a common ancestor", with: "path: |\n        dist/sub\n        other", want: "dist/sub/b.txt other/z.txt"},
		{name: "exclusion", with: "path: |\n        dist\n        !dist/**/*.bin\n        !dist/sub", want: "a.txt"},
		{name: "exclusion and back", with: "path: |\n        dist\n        !dist/sub\n        dist/sub/b.txt", want: "a.txt c.bin sub/b.txt"},
		{name: "whole workspace", with: "path: .", want: "dist/a.txt dist/c.bin dist/sub/b.txt other/z.txt"},
		{name: "hidden files", with: "{ path: ., include-hidden-files: true }", want: ".cache/h dist/.hidden dist/a.txt dist/c.bin dist/sub/b.txt other/z.txt"},
		{name: "absolute", with: "path: ${{ github.workspace }}/dist/a.txt", want: "a.txt"},
		{name: "from the temporary directory", with: "path: ${{ runner.temp }}/t.txt", want: "t.txt"},
		{name: "character class", with: "path: 'dist/[!c].*'", want: "a.txt"},
		{name: "nothing", with: "path: none", log: "No files were found"},
		{name: "nothing is an error", with: "{ path: none, if-no-files-found: error }", fails: "No files were found"},
		{name: "outside", with: "path: ${{ runner.temp }}/../../out/d", want: "a.txt sub/b.txt", log: "1 symbolic links are left out"},
		{name: "outside, hidden files too", with: "{ path: '${{ runner.temp }}/../../out', include-hidden-files: true }", want: ".d/h d/.h d/a.txt d/sub/b.txt"},
		{name: "outside, one file", with: "path: ${{ runner.temp }}/../../out/d/a.txt", want: "a.txt"},
		{name: "outside, a pattern", with: "path: ${{ runner.temp }}/../../out/**/*.txt", want: "d/a.txt d/sub/b.txt"},
		{name: "outside and inside", with: "path: |\n        ${{ runner.temp }}/../../out/d/a.txt\n        dist/a.txt\n        !dist/sub", want: "out/d/a.txt work/hello/hello/dist/a.txt"},
		{name: "outside, nothing", with: "path: ${{ runner.temp }}/../../out/none*", log: "No files were found"},
		{name: "everything", with: "path: /", fails: "cannot be uploaded"},
		{name: "everything by a pattern", with: "path: /*/passwd", fails: "cannot be uploaded"},
		{name: "the kernel's", with: "path: /proc/self/environ", fails: "cannot be uploaded"},
		{name: "through a link", with: "path: dist/etc/passwd", fails: "look for"},
		{name: "bad name", with: "{ path: dist, name: a/b }", fails: "not the name of an artifact"},
		{name: "bad pattern", with: "path: 'dist/[a'", fails: "not a valid pattern"},
		{name: "no path", with: "name: x", fails: "path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			with := c.with
			if !strings.HasPrefix(with, "{") {
				with = "\n" + indent(with, 4)
			}
			e := trial{yaml: steps(tree + "- run: echo t > $RUNNER_TEMP/t.txt; cd $RUNNER_TEMP/../..; mkdir -p out/d/sub out/.d; echo 1 > out/d/a.txt; echo 2 > out/d/sub/b.txt; echo h | tee out/d/.h > out/.d/h; ln -s a.txt out/d/l\n- id: up\n  uses: actions/upload-artifact@v4\n  with: " + with +
				"\n- run: echo '${{ steps.up.outputs.artifact-id }}/${{ steps.up.outputs.artifact-digest }}'")}.try(t)
			if c.fails != "" {
				if e.Conclusion != sallyport.Failure || !strings.Contains(strings.ToLower(e.Cause), strings.ToLower(c.fails)) {
					t.Errorf("%s: %q", e.Conclusion, e.Cause)
				}
				return
			}
			if e.Conclusion != sallyport.Success {
				t.Fatalf("%s: %q\n%s", e.Conclusion, e.Cause, e.all())
			}
			if !strings.Contains(e.all(), c.log) {
				t.Errorf("the log lacks %q:\n%s", c.log, e.all())
			}
			content, stored := e.yard.artifacts["artifact"]
			if c.want == "" {
				if stored {
					t.Error("an artifact was stored")
				}
				return
			}
			got := tarNames(t, content)
			if names := strings.Join(slices.Sorted(maps.Keys(got)), " "); names != c.want {
				t.Errorf("names %q, want %q", names, c.want)
			}
			if mode, ok := got["c.bin"]; ok && mode != 0o700 {
				t.Errorf("mode %o", mode)
			}
			if want := fmt.Sprint(toolkit.ArtifactNumber("artifact-artifact"), "/") + sallyport.DigestOf(content).Hex(); !strings.Contains(e.text(), want) {
				t.Errorf("outputs: %q, want %q", e.text(), want)
			}
		})
	}
}

func TestArtifactsAreImmutable(t *testing.T) {
	t.Parallel()
	e := trial{yaml: steps("- run: echo 1 > a\n- { uses: actions/upload-artifact@v4, with: { path: a } }\n- { uses: actions/upload-artifact@v4, with: { path: a } }")}.try(t)
	if e.Conclusion != sallyport.Failure || !strings.Contains(e.all(), "artifacts are immutable") {
		t.Errorf("%s\n%s", e.Conclusion, e.all())
	}
	e = trial{yaml: steps("- run: echo 1 > a; echo 2 > b\n- { uses: actions/upload-artifact@v4, with: { path: a, overwrite: true } }\n- { uses: actions/upload-artifact@v4, with: { path: b, overwrite: true } }")}.try(t)
	if got := e.yard.artifacts["artifact"]; e.Conclusion != sallyport.Success || !bytes.Contains(got, []byte("2\n")) || bytes.Contains(got, []byte("1\n")) {
		t.Errorf("%s\n%s", e.Conclusion, e.all())
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		content []byte
		with    string
		text    string
		fails   string
	}{
		{name: "files", with: "{ name: a, path: in }", text: "in/d/y\nin/x\nrun me\n",
			content: makeTar(t, tarEntry{name: "d/", kind: tar.TypeDir}, tarEntry{name: "d/y", body: "y"}, tarEntry{name: "x", body: "#!/bin/sh\necho run me\n", mode: 0o4755})},
		{name: "no such artifact", with: "{ name: b }", fails: "there is no artifact"},
		{name: "of another project", with: "{ name: a, repository: acme/other }", fails: "artifacts come from runs of this project"},
		{name: "out of the workspace", with: "{ name: a, path: '${{ runner.temp }}/../../out' }", text: "out/x\nrun me\n",
			content: makeTar(t, tarEntry{name: "x", body: "#!/bin/sh\necho run me\n", mode: 0o755})},
		{name: "out of the workspace by dots", with: "{ name: a, path: '${{ runner.temp }}/../../out' }", fails: "leads out", content: makeTar(t, tarEntry{name: "../evil", body: "x"})},
		{name: "dots", with: "{ name: a, path: in }", fails: "leads out", content: makeTar(t, tarEntry{name: "ok", body: "1"}, tarEntry{name: "../evil", body: "x"})},
		{name: "absolute", with: "{ name: a, path: in }", fails: "leads out", content: makeTar(t, tarEntry{name: "/tmp/evil", body: "x"})},
		{name: "link", with: "{ name: a, path: in }", fails: "neither file nor directory", content: makeTar(t, tarEntry{name: "l", kind: tar.TypeSymlink, link: "/etc"})},
		{name: "hard link", with: "{ name: a, path: in }", fails: "neither file nor directory", content: makeTar(t, tarEntry{name: "l", kind: tar.TypeLink, link: "x"})},
		{name: "device", with: "{ name: a, path: in }", fails: "neither file nor directory", content: makeTar(t, tarEntry{name: "l", kind: tar.TypeChar})},
		{name: "pipe", with: "{ name: a, path: in }", fails: "neither file nor directory", content: makeTar(t, tarEntry{name: "l", kind: tar.TypeFifo})},
		{name: "garbage", with: "{ name: a, path: in }", fails: "read the archive", content: bytes.Repeat([]byte("x"), 2000)},
		{name: "cut short", with: "{ name: a, path: in }", fails: "unpack", content: makeTar(t, tarEntry{name: "x", body: strings.Repeat("x", 5000)})[:3000]},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			yard := newFakeYard()
			if c.content != nil {
				yard.artifacts["a"] = c.content
			}
			e := trial{yard: yard, yaml: steps("- { uses: actions/download-artifact@v4, with: " + c.with + " }\n- run: d=in; test -d in || { cd $RUNNER_TEMP/../..; d=out; }; find $d -type f | sort; $d/x; test ! -u $d/x")}.try(t)
			if c.fails != "" {
				if e.Conclusion != sallyport.Failure || !strings.Contains(strings.ToLower(e.Cause), strings.ToLower(c.fails)) {
					t.Errorf("%s: %q\n%s", e.Conclusion, e.Cause, e.all())
				}
				return
			}
			if e.Conclusion != sallyport.Success || !strings.HasSuffix(e.text(), c.text) {
				t.Errorf("%s: output %q, want %q\n%s", e.Conclusion, e.text(), c.text, e.all())
			}
		})
	}
}

func TestDownloadSeveral(t *testing.T) {
	t.Parallel()
	one := func(name string) []byte { return makeTar(t, tarEntry{name: name, body: name}) }
	for _, c := range []struct {
		name, with, want, fails string
	}{
		{name: "all", with: "{ path: in }", want: "in/.dot/d in/log-1/b in/log-2/c in/x/a"},
		{name: "all into the workspace", want: "./.dot/d ./log-1/b ./log-2/c ./x/a"},
		{name: "merged", with: "{ path: in, merge-multiple: true }", want: "in/a in/b in/c in/d"},
		{name: "pattern", with: "{ path: in, pattern: log-* }", want: "in/log-1/b in/log-2/c"},
		{name: "pattern and merged", with: "{ path: in, pattern: 'log-?', merge-multiple: true }", want: "in/b in/c"},
		{name: "pattern for one", with: "{ path: in, pattern: x }", want: "in/x/a"},
		{name: "star is not for dots", with: "{ path: in, pattern: '*' }", want: "in/log-1/b in/log-2/c in/x/a"},
		{name: "alternatives", with: "{ path: in, pattern: '{x,log-{2,3}}' }", want: "in/log-2/c in/x/a"},
		{name: "class", with: "{ path: in, pattern: 'log-[!1]' }", want: "in/log-2/c"},
		{name: "negated", with: "{ path: in, pattern: '!log-*' }", want: "in/.dot/d in/x/a"},
		{name: "none matches", with: "{ path: ., pattern: none-* }", want: ""},
		{name: "a name comes before a pattern", with: "{ path: in, name: x, pattern: 'log-*' }", want: "in/a"},
		{name: "one id", with: "{ path: in, artifact-ids: artifact-x }", want: "in/a"},
		{name: "two ids", with: "{ path: in, artifact-ids: 'artifact-x, artifact-log-1' }", want: "in/log-1/b in/x/a"},
		{name: "unknown id", with: "{ path: in, artifact-ids: 7 }", fails: "no artifact with the id"},
		{name: "id and name", with: "{ name: x, artifact-ids: 7 }", fails: "cannot be used together"},
		{name: "bad pattern", with: "{ pattern: '[' }", fails: "not a valid pattern"},
		{name: "too many alternatives", with: "{ pattern: '" + strings.Repeat("{a,b}", 20) + "' }", fails: "alternatives"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			yard := newFakeYard()
			yard.artifacts = map[string][]byte{"x": one("a"), "log-1": one("b"), "log-2": one("c"), ".dot": one("d")}
			with := ""
			if c.with != "" {
				with = ", with: " + c.with
			}
			e := trial{yard: yard, yaml: steps("- { uses: actions/download-artifact@v4" + with + " }\n- run: find $(ls -d in || echo .) -type f | sort | paste -sd ' '")}.try(t)
			if c.fails != "" {
				if e.Conclusion != sallyport.Failure || !strings.Contains(e.Cause, c.fails) {
					t.Errorf("%s: %q\n%s", e.Conclusion, e.Cause, e.all())
				}
				return
			}
			lines := strings.Split(strings.TrimRight(e.text(), "\n"), "\n")
			if got := lines[len(lines)-1]; e.Conclusion != sallyport.Success || got != c.want && !(c.want == "" && strings.HasPrefix(got, "ls: ")) {
				t.Errorf("%s: files %q, want %q\n%s", e.Conclusion, got, c.want, e.all())
			}
		})
	}
}

// A control plane that lies about names must not make the runner write elsewhere.
func TestDownloadHostileName(t *testing.T) {
	t.Parallel()
	yard := newFakeYard()
	yard.artifacts = map[string][]byte{"../../evil": makeTar(t, tarEntry{name: "x", body: "x"})}
	e := trial{yard: yard, yaml: steps("- uses: actions/download-artifact@v4")}.try(t)
	if e.Conclusion != sallyport.Failure || !strings.Contains(e.Cause, "not the name of an artifact") {
		t.Errorf("%s: %q\n%s", e.Conclusion, e.Cause, e.all())
	}
}

func TestMatchSegments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a", false}, {"a", "a/b/c", true}, {"*", "x/y", true}, {"*/z", "x/y", false},
		{"**", "a/b", true}, {"a/**/c", "a/c", true}, {"a/**/c", "a/b/b/c/d", true}, {"**/*.go", "x/y.go", true}, {"**/*.go", "y.go", true},
		{"a/**", "a", true}, {"a/**", "b/a", false}, {"**/a/**/b", strings.Repeat("a/", 500) + "c", false}, {"a/?", "a/bc", false},
	} {
		if got := matchSegments(strings.Split(c.pattern, "/"), strings.Split(c.name, "/")); got != c.want {
			t.Errorf("match(%q, %.30q) = %v", c.pattern, c.name, got)
		}
	}
}

// TestHostileFiles checks that reading what a job left never leads out of its
// directories, blocks, or reads without bound.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	inside := filepath.Join(dir, "in")
	if err := errors.Join(os.WriteFile(outside, []byte("secret"), 0o600), os.Mkdir(inside, 0o755),
		os.Symlink(outside, filepath.Join(inside, "link")), os.Symlink("plain", filepath.Join(inside, "inner")),
		os.Symlink(dir, filepath.Join(inside, "up")), syscall.Mkfifo(filepath.Join(inside, "pipe"), 0o666),
		os.WriteFile(filepath.Join(inside, "plain"), []byte("x"), 0o644), os.WriteFile(filepath.Join(inside, "big"), make([]byte, 2000), 0o644)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, ok := range map[string]bool{"plain": true, "link": false, "inner": false, "up/outside": false, "pipe": false, "big": false, "../outside": false, "": false} {
		if b, err := readRegular(root, name, 1000); (err == nil) != ok {
			t.Errorf("%q: %q, %v", name, b, err)
		}
	}
}

// TestCommandFilesAreTheJobs replaces command files by what they should not be.
func TestCommandFilesAreTheJobs(t *testing.T) {
	t.Parallel()
	e := trial{yaml: steps(`
- run: rm $GITHUB_OUTPUT && mkfifo $GITHUB_OUTPUT
- { if: always(), run: "rm $GITHUB_ENV && ln -s /etc/passwd $GITHUB_ENV" }
- { if: always(), run: "head -c 2000000 /dev/zero > $GITHUB_OUTPUT" }
- { if: always(), run: "rm $GITHUB_ENV; mkdir $GITHUB_ENV" }
- { if: always(), run: "rm -rf $RUNNER_TEMP/* $GITHUB_WORKSPACE/*; mkdir -p $RUNNER_TEMP/_runner_file_commands" }
- { if: always(), run: "echo X=still-fine >> $GITHUB_ENV" }
`)}.try(t)
	if got := outcomes(e.Steps); got != "failure failure failure failure success failure" && got != "failure failure failure failure success success" {
		t.Errorf("outcomes %q\n%s", got, e.all())
	}
	if strings.Contains(e.all(), "root:") {
		t.Error("a file of the host was read")
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(makeTar(f, tarEntry{name: "a/b", body: "x"}, tarEntry{name: "../c"}, tarEntry{name: "l", kind: tar.TypeSymlink, link: "x"}))
	f.Add(makeTar(f, tarEntry{name: "./a//b/", kind: tar.TypeDir}, tarEntry{name: "./x", body: strings.Repeat("y", 600), mode: 0o7777}))
	f.Add([]byte("not a tar"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		n, err := filter(&out, bytes.NewReader(in), sameName)
		if err != nil {
			return
		}
		r := tar.NewReader(&out)
		for i := 0; ; i++ {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				if i != n {
					t.Fatalf("%d files, %d counted", i, n)
				}
				return
			}
			if err != nil {
				t.Fatalf("what was passed on is no tar: %v", err)
			}
			if h.Typeflag != tar.TypeReg || !fs.ValidPath(h.Name) || h.Mode&^0o777 != 0 {
				t.Fatalf("passed on: %+v", h)
			}
		}
	})
}

func FuzzGlob(f *testing.F) {
	f.Add("a/**/b", "a/x/b")
	f.Add("!d/[!c]*", "d/c")
	f.Add("../../x", ".")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		l := &layout{repo: "r", home: roomHome, work: roomHome + "/work"}
		globs, err := l.parseGlobs(strings.Split(pattern, "\n"))
		if err != nil {
			return
		}
		for _, g := range globs {
			if !filepath.IsLocal(g.search) {
				t.Fatalf("search path %q", g.search)
			}
			if len(name) < 1000 {
				g.match(name)
			}
		}
		_ = fmt.Sprint(searchPaths(globs))
	})
}
