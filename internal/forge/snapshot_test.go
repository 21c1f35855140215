package forge

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func files(t testing.TB, g *Git, p sallyport.ProjectID, id string) string {
	t.Helper()
	paths, _, err := g.Changed(t.Context(), p, "", id, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(paths, " ")
}

func TestImport(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := sallyport.NewID[sallyport.ProjectID](time.Now())
	u := newUser(t)
	u.git("checkout", "--quiet", "-b", "topic/one")
	u.write(".gitignore", "*.log\n")
	u.write("kept", "1")
	u.write("forced.log", "tracked although ignored")
	u.git("add", "--all")
	u.git("add", "--force", "forced.log")
	u.git("commit", "--quiet", "-m", "base")
	head := u.git("rev-parse", "HEAD")

	id, branch, err := g.Import(t.Context(), p, u.dir)
	if err != nil || id != head || branch != "topic/one" {
		t.Fatalf("Import of a clean tree = %s, %s, %v; want HEAD %s", id, branch, err, head)
	}

	u.write("kept", "2")
	u.write("new/file", "3")
	u.write("x.log", "ignored")
	u.write("mine", "excluded by the user")
	u.write(".git/info/exclude", "/mine\n")
	ran := filepath.Join(t.TempDir(), "ran")
	u.git("config", "core.fsmonitor", "touch "+ran)
	u.git("config", "filter.evil.clean", "touch "+ran)
	u.write(".gitattributes", "* filter=evil\n")
	u.write(".git/hooks/post-index-change", "#!/bin/sh\ntouch "+ran+"\n")
	if err := os.Chmod(filepath.Join(u.dir, ".git/hooks/post-index-change"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := listing(t, filepath.Join(u.dir, ".git"))

	id, _, err = g.Import(t.Context(), p, filepath.Join(u.dir, "new")) // from below the top
	if err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, g, p, id), ".gitattributes .gitignore forced.log kept new/file"; got != want {
		t.Errorf("files = %s, want %s", got, want)
	}
	if b, err := g.ReadFile(t.Context(), p, id, "kept", 10); err != nil || string(b) != "2" {
		t.Errorf("kept = %q, %v", b, err)
	}
	if ok, err := g.Contains(t.Context(), p, id, head); !ok || err != nil {
		t.Errorf("HEAD is no parent: %v", err)
	}
	if refs, err := g.Refs(t.Context(), p); err != nil || refs["refs/heads/topic/one"] != id {
		t.Errorf("Refs = %v, %v", refs, err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program of the user's configuration ran")
	}
	if after := listing(t, filepath.Join(u.dir, ".git")); !slices.Equal(before, after) {
		t.Errorf("the user's repository changed:\n%q\n%q", before, after)
	}
	var b bytes.Buffer
	if err := g.Bundle(t.Context(), p, id, 1, &b); err != nil {
		t.Fatal(err)
	}
	dir := unpack(t, b.Bytes())
	if got := (user{t, dir}).git("--git-dir="+dir, "show", "HEAD:new/file"); got != "3" {
		t.Errorf("new/file in the bundle = %q", got)
	}
}

// TestImportBringsRefs gives a job that asks for the whole history what a
// checkout of the origin would have.
func TestImportBringsRefs(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	u := newUser(t)
	u.write("f", "1")
	one := u.commit("one")
	u.git("tag", "v1")
	u.git("branch", "old")
	u.git("pack-refs", "--all")
	u.git("tag", "-a", "-m", "loose", "v2")
	u.git("update-ref", "refs/remotes/origin/theirs", one)
	u.git("update-ref", "refs/remotes/origin/old", one)
	u.git("update-ref", "refs/stash", one)
	u.write("f", "2")
	id, branch, err := g.Import(t.Context(), p, u.dir)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := g.Refs(t.Context(), p)
	want := map[string]string{"refs/heads/" + branch: id, "refs/heads/old": one, "refs/heads/theirs": one, "refs/tags/v1": one, "refs/tags/v2": one}
	if err != nil || !maps.Equal(refs, want) {
		t.Errorf("refs %v, %v; want %v", refs, err, want)
	}
	u.write(".git/refs/heads/broken", strings.Repeat("b", 40)+"\n")
	if _, _, err := g.Import(t.Context(), p, u.dir); err != nil {
		t.Errorf("Import with a broken ref: %v", err)
	}
	if refs, err := g.Refs(t.Context(), p); err != nil || len(refs) != 1 {
		t.Errorf("refs beside a broken one: %v, %v", refs, err)
	}
}

func TestImportOtherTrees(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := sallyport.NewID[sallyport.ProjectID](time.Now())
	t.Run("no repository", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		id, branch, err := g.Import(t.Context(), p, dir)
		if err != nil || branch != "main" || files(t, g, p, id) != "f" {
			t.Errorf("Import = %s, %s, %v", id, branch, err)
		}
	})
	t.Run("empty", func(t *testing.T) {
		id, _, err := g.Import(t.Context(), p, t.TempDir())
		if err != nil || files(t, g, p, id) != "" {
			t.Errorf("Import = %s, %v", id, err)
		}
	})
	t.Run("no commit yet", func(t *testing.T) {
		u := newUser(t)
		u.write("f", "x")
		id, _, err := g.Import(t.Context(), p, u.dir)
		if err != nil || files(t, g, p, id) != "f" {
			t.Errorf("Import = %s, %v", id, err)
		}
	})
	t.Run("directory with workflows of its own", func(t *testing.T) {
		u := newUser(t)
		u.write("f", "x")
		u.write("sample/.github/workflows/ci.yml", "on: push")
		u.write("sample/inner/g", "x")
		u.commit("one")
		id, _, err := g.Import(t.Context(), p, filepath.Join(u.dir, "sample"))
		if got, want := files(t, g, p, id), ".github/workflows/ci.yml inner/g"; err != nil || got != want {
			t.Errorf("Import = %q, %v, want %q", got, err, want)
		}
		id, _, err = g.Import(t.Context(), p, filepath.Join(u.dir, "sample", "inner"))
		if got, want := files(t, g, p, id), "f sample/.github/workflows/ci.yml sample/inner/g"; err != nil || got != want {
			t.Errorf("Import of a directory below it = %q, %v, want %q", got, err, want)
		}
	})
	t.Run("linked work tree with packed refs", func(t *testing.T) {
		u := newUser(t)
		u.write("f", "x")
		head := u.commit("one")
		linked := filepath.Join(t.TempDir(), "linked")
		u.git("worktree", "add", "--quiet", "-b", "beside", linked)
		u.git("pack-refs", "--all")
		id, branch, err := g.Import(t.Context(), p, linked)
		if err != nil || id != head || branch != "beside" {
			t.Errorf("Import = %s, %s, %v", id, branch, err)
		}
	})
	t.Run("shallow clone", func(t *testing.T) {
		u := newUser(t)
		u.commit("one")
		u.write("f", "x")
		head := u.commit("two")
		dir := t.TempDir()
		u.git("clone", "--quiet", "--depth=1", "file://"+u.dir, dir)
		id, _, err := g.Import(t.Context(), p, dir)
		if err != nil || id != head {
			t.Fatalf("Import = %s, %v", id, err)
		}
		var b bytes.Buffer
		if err := g.Bundle(t.Context(), p, id, 0, &b); err != nil {
			t.Fatal(err)
		}
		repo := unpack(t, b.Bytes())
		if got := (user{t, repo}).git("--git-dir="+repo, "rev-list", "--count", "HEAD"); got != "1" {
			t.Errorf("%s commits", got)
		}
	})
	t.Run("our own directory inside", func(t *testing.T) {
		u := newUser(t)
		u.write("f", "x")
		g := open(t, func(c *Config) { c.Dir = filepath.Join(u.dir, "data", "git") })
		id, _, err := g.Import(t.Context(), p, u.dir)
		if err != nil || files(t, g, p, id) != "f" {
			t.Errorf("Import = %q, %v", files(t, g, p, id), err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		if _, _, err := g.Import(t.Context(), p, "/nonexistent/x"); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("Import = %v", err)
		}
	})
}

// listing is the names and sizes of all files below dir.
func listing(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		b := []byte(nil)
		if !d.IsDir() {
			if b, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		out = append(out, path+" "+string(sallyport.DigestOf(b)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
