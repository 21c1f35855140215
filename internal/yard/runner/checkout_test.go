package runner

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// repository makes a repository with two commits and returns a source for a
// fake control plane, and the commits.
func repository(t *testing.T) (source func(depth int) (io.ReadCloser, error), commits [2]string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "trunk", ".")
	for i, content := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(content+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		git("add", ".")
		git("commit", "-q", "-m", content)
		commits[i] = git("rev-parse", "HEAD")
		if i == 0 {
			git("tag", "-a", "-m", "first", "v1")
			git("branch", "other/one")
		}
	}
	return func(depth int) (io.ReadCloser, error) {
		bare := filepath.Join(t.TempDir(), "bare")
		args := []string{"clone", "-q", "--bare"}
		if depth > 0 {
			args = append(args, "--depth", "1")
		}
		if out, err := exec.Command("git", append(args, "file://"+dir, bare)...).CombinedOutput(); err != nil {
			t.Errorf("clone: %v\n%s", err, out)
		}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.AddFS(os.DirFS(bare)); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		return io.NopCloser(&b), nil
	}, commits
}

func TestCheckout(t *testing.T) {
	t.Parallel()
	source, commits := repository(t)
	for _, c := range []struct {
		name, yaml, text, fails string
	}{
		{name: "plain", yaml: `
- run: echo gone > leftover
- { id: co, uses: actions/checkout@v4 }
- run: |
    cat file; ls -A; git rev-parse HEAD; git symbolic-ref HEAD; git rev-list --count HEAD; git status --porcelain; git config remote.origin.url
    git config --local --get-regexp '^(http|credential|url|include)' || echo clean
    echo ${{ steps.co.outputs.commit }} ${{ hashFiles('file') != '' }}
`, text: "two\n.git\nfile\n" + commits[1] + "\nrefs/heads/main\n1\nhttp://sallyport.test/octo/hello\nclean\n" + commits[1] + " true\n"},
		{name: "whole history", yaml: "- { uses: actions/checkout@v4, with: { fetch-depth: 0 } }\n- run: git rev-list --count HEAD", text: "2\n"},
		{name: "elsewhere", yaml: "- { uses: actions/checkout@v4, with: { path: sub/dir } }\n- run: cat sub/dir/file", text: "two\n"},
		{name: "an earlier commit", yaml: "- { uses: actions/checkout@v4, with: { ref: " + commits[0] + " } }\n- run: cat file; git symbolic-ref -q HEAD || echo detached", text: "one\ndetached\n"},
		{name: "the run's commit", yaml: "- { uses: actions/checkout@v4, with: { ref: '${{ github.sha }}' } }\n- run: cat file", text: "two\n"},
		{name: "the run's branch", yaml: "- { uses: actions/checkout@v4, with: { ref: main } }\n- run: git branch --show-current", text: "main\n"},
		{name: "again, and clean", yaml: "- uses: actions/checkout@v4\n- run: echo x > file; echo y > new; git config core.hooksPath hooks; mkdir hooks; printf '#!/bin/sh\\necho HOOK' > hooks/post-checkout; chmod +x hooks/*\n- uses: actions/checkout@v4\n- run: cat file; ls", text: "two\nfile\n"},
		{name: "tags and branches with the whole history", yaml: "- { uses: actions/checkout@v4, with: { fetch-depth: 0 } }\n- run: git describe --tags; git branch -r; git tag", text: "v1-1-g" + commits[1][:7] + "\n  origin/main\n  origin/other/one\n  origin/trunk\nv1\n"},
		{name: "tags alone", yaml: "- { uses: actions/checkout@v4, with: { fetch-tags: true } }\n- run: git rev-list --count HEAD; git tag; git branch -r", text: "1\nv1\n  origin/main\n"},
		{name: "neither by default", yaml: "- uses: actions/checkout@v4\n- run: git tag; git branch -r", text: "  origin/main\n"},
		{name: "another branch", yaml: "- { id: co, uses: actions/checkout@v4, with: { ref: other/one } }\n- run: cat file; git branch --show-current; git rev-list --count HEAD; echo ${{ steps.co.outputs.ref == 'refs/heads/other/one' && steps.co.outputs.commit == '" + commits[0] + "' }}",
			text: "one\nother/one\n1\ntrue\n"},
		{name: "a tag", yaml: "- { uses: actions/checkout@v4, with: { ref: v1 } }\n- run: cat file; git describe --tags; git symbolic-ref -q HEAD || echo detached", text: "one\nv1\ndetached\n"},
		{name: "a tag by its full name", yaml: "- { uses: actions/checkout@v4, with: { ref: refs/tags/v1 } }\n- run: cat file", text: "one\n"},
		{name: "a commit by its own name", yaml: "- { uses: actions/checkout@v4, with: { ref: " + commits[0] + " } }\n- run: git status | head -1; git rev-list --count HEAD", text: "HEAD detached at " + commits[0][:7] + "\n1\n"},
		{name: "another ref", yaml: "- { uses: actions/checkout@v4, with: { ref: none } }", fails: `there is no branch, tag or commit "none"`},
		{name: "a ref that is an option", yaml: "- { uses: actions/checkout@v4, with: { ref: --upload-pack=x } }", fails: `there is no branch, tag or commit`},
		{name: "sparse", yaml: "- run: true\n- { uses: actions/checkout@v4, with: { sparse-checkout: none } }\n- uses: actions/checkout@v4\n- { uses: actions/checkout@v4, with: { sparse-checkout: '/nothing', sparse-checkout-cone-mode: false } }\n- run: ls; git status --porcelain", text: ""},
		{name: "a commit that is not there", yaml: "- { uses: actions/checkout@v4, with: { ref: " + strings.Repeat("b", 40) + " } }", fails: "exit code"},
		{name: "another repository", yaml: "- { uses: actions/checkout@v4, with: { repository: a/b } }", fails: "no access"},
		{name: "submodules", yaml: "- { uses: actions/checkout@v4, with: { submodules: recursive } }", fails: "needs the network"},
		{name: "out of the workspace", yaml: "- { uses: actions/checkout@v4, with: { path: ../x } }", fails: "not beneath the workspace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			yard := newFakeYard()
			yard.source = source
			e := trial{yard: yard, yaml: steps(c.yaml), commit: commits[1], github: map[string]any{"sha": commits[1]}}.try(t)
			if c.fails != "" {
				if e.Conclusion != sallyport.Failure || !strings.Contains(strings.ToLower(e.Cause), c.fails) {
					t.Errorf("%s: %q\n%s", e.Conclusion, e.Cause, e.all())
				}
				return
			}
			var out strings.Builder
			for _, l := range e.lines {
				if l.Kind == sallyport.LogOutput && l.Step == len(e.Steps) {
					out.WriteString(l.Text + "\n")
				}
			}
			if e.Conclusion != sallyport.Success || out.String() != c.text {
				t.Errorf("%s: output\n%s\nwant\n%s\n%s", e.Conclusion, out.String(), c.text, e.all())
			}
			if strings.Contains(e.text(), "HOOK") {
				t.Error("a hook ran")
			}
		})
	}
}

// TestHostileSource checks that a repository's archive cannot write outside
// its directory.
func TestHostileSource(t *testing.T) {
	t.Parallel()
	for name, entry := range map[string]tarEntry{
		"dots": {name: "../evil", body: "x"}, "absolute": {name: "/evil", body: "x"},
		"link": {name: "l", kind: tar.TypeSymlink, link: ".."}, "device": {name: "d", kind: tar.TypeBlock},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := unpack(root, bytes.NewReader(makeTar(t, tarEntry{name: "a/b/c", body: "1"}, entry))); err == nil {
				t.Error("unpacked")
			}
			if got, err := fs.ReadFile(root.FS(), "a/b/c"); err != nil || string(got) != "1" {
				t.Errorf("the good file: %q, %v", got, err)
			}
		})
	}
}
