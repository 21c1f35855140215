package forge

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func unpack(t testing.TB, b []byte) string {
	t.Helper()
	dir := t.TempDir()
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s has a time of change", h.Name)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBundle(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	u := newUser(t)
	for i := range 5 {
		u.write("f", fmt.Sprint(i))
		u.commit(fmt.Sprint(i))
	}
	u.git("checkout", "--quiet", "-b", "side", "HEAD~2")
	u.write("g", "side")
	u.commit("side")
	u.git("checkout", "--quiet", "main")
	u.git("merge", "--quiet", "--no-edit", "side")
	id := u.git("rev-parse", "HEAD")
	u.git("push", "--quiet", h.repo(), "main")

	for _, c := range []struct{ depth, commits int }{{0, 7}, {1, 1}, {2, 3}, {3, 5}, {100, 7}} {
		t.Run(fmt.Sprintf("depth %d", c.depth), func(t *testing.T) {
			t.Parallel()
			var first, second bytes.Buffer
			for _, w := range []*bytes.Buffer{&first, &second} {
				if err := g.Bundle(t.Context(), p, id, c.depth, w); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(first.Bytes(), second.Bytes()) {
				t.Error("two bundles of a commit differ")
			}
			dir := unpack(t, first.Bytes())
			into := user{t, t.TempDir()}
			into.git("init", "--quiet")
			// --update-shallow: without it git does not take a cut history over as it is.
			into.git("fetch", "--quiet", "--update-shallow", dir, id)
			into.git("checkout", "--quiet", "--detach", id)
			into.git("fsck", "--strict")
			if got := into.git("rev-list", "--count", id); got != fmt.Sprint(c.commits) {
				t.Errorf("%s commits, want %d", got, c.commits)
			}
			if c.depth > 0 {
				again := user{t, t.TempDir()}
				again.git("init", "--quiet")
				again.git("fetch", "--quiet", fmt.Sprintf("--depth=%d", c.depth), dir, id)
				again.git("checkout", "--quiet", id)
			}
			if got := (user{t, dir}).git("--git-dir="+dir, "show", "HEAD:g"); got != "side" {
				t.Errorf("g = %q", got)
			}
		})
	}
	if err := g.Bundle(t.Context(), p, id, -1, io.Discard); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("Bundle of depth -1: %v", err)
	}
}

// TestBundleHoldsRefs looks at the branches and tags of a whole history.
func TestBundleHoldsRefs(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	u := newUser(t)
	u.write("f", "1")
	one := u.commit("one")
	u.git("tag", "v1")
	u.git("tag", "-a", "-m", "second", "v2")
	u.git("checkout", "--quiet", "-b", "feature/x")
	u.write("f", "2")
	side := u.commit("side")
	u.git("push", "--quiet", "--tags", h.repo(), "main", "feature/x")
	bundle := func(depth int) (*bytes.Buffer, user) {
		var b bytes.Buffer
		if err := g.Bundle(t.Context(), p, one, depth, &b); err != nil {
			t.Fatal(err)
		}
		dir := unpack(t, b.Bytes())
		return &b, user{t, dir}
	}
	whole, repo := bundle(0)
	for ref, want := range map[string]string{"refs/heads/main": one, "refs/heads/feature/x": side, "refs/tags/v1": one, "refs/tags/v2^{commit}": one, "HEAD": one} {
		if got := repo.git("--git-dir="+repo.dir, "rev-parse", ref); got != want {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
	repo.git("--git-dir="+repo.dir, "fsck", "--strict")
	if _, cut := bundle(1); cut.git("--git-dir="+cut.dir, "for-each-ref", "--format=%(refname)") != bundleRef {
		t.Error("a cut history has other refs")
	}
	u.git("tag", "v3")
	u.git("push", "--quiet", "--tags", h.repo())
	if later, repo := bundle(0); bytes.Equal(later.Bytes(), whole.Bytes()) || repo.git("--git-dir="+repo.dir, "rev-parse", "v3") != side {
		t.Error("a new tag is not in the bundle")
	}
}

func TestBundlesArePruned(t *testing.T) {
	t.Parallel()
	g := open(t)
	for i := range maxBundles + 10 {
		if err := os.WriteFile(filepath.Join(g.bundleDir(), fmt.Sprintf("%03d.tar", i)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.prune(filepath.Join(g.bundleDir(), "000.tar"))
	left, err := os.ReadDir(g.bundleDir())
	if err != nil || len(left) > maxBundles+1 {
		t.Errorf("%d bundles left, %v", len(left), err)
	}
}

func BenchmarkBundle(b *testing.B) {
	g := open(b)
	p := create(b, g)
	h := serve(b, g, p)
	u := newUser(b)
	for i := range 200 {
		u.write(fmt.Sprintf("d/f%d", i), fmt.Sprint(i))
	}
	id := u.commit("one")
	u.git("push", "--quiet", h.repo(), "main")
	path, _ := g.path(p)
	for b.Loop() {
		if err := g.makeBundle(b.Context(), path, p, id, 1, nil, b.TempDir()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadFile(b *testing.B) {
	g := open(b)
	p := create(b, g)
	h := serve(b, g, p)
	u := newUser(b)
	u.write("a/b/c", "content")
	id := u.commit("one")
	u.git("push", "--quiet", h.repo(), "main")
	for b.Loop() {
		if _, err := g.ReadFile(b.Context(), p, id, "a/b/c", 100); err != nil {
			b.Fatal(err)
		}
	}
}
