package trace

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// git runs git in dir, with nothing of the host's configuration.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// files are those of a small repository, with names that sort oddly.
var files = []string{"README", "main.go", "a/one.go", "a/two.go", "a-b/x", "a.b", "a/deep/er/file", "tools/gen.sh", "ünï/cödé"}

// repository makes a committed repository in dir and returns its commit.
func repository(t testing.TB, dir string, init ...string) string {
	t.Helper()
	git(t, dir, append([]string{"init", "-q"}, init...)...)
	for _, name := range files {
		write(t, filepath.Join(dir, name), "content of "+name+"\n")
	}
	if err := os.Symlink("main.go", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-qm", "x")
	return git(t, dir, "rev-parse", "HEAD")
}

// volume returns a file system of the test's own.
func volume(t testing.TB) (*os.File, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system and listen to it")
	}
	dir := t.TempDir()
	if err := unix.Mount("volume", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=16m"); err != nil {
		t.Skipf("this root may not mount: %v", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	return f, work
}

func checkedOut(t testing.TB, r *Recorder, dir, commit string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckedOut(f, commit); err != nil {
		t.Fatal(err)
	}
}

func said(t sallyport.Trace) (list []string) {
	for _, c := range t.Changes {
		list = append(list, fmt.Sprintf("%s %s step %d artifact %q", c.How, c.Path, c.Step, c.Artifact))
	}
	return list
}

// meddle changes the source of a job as builds and attackers do, in three steps.
func meddle(t testing.TB, r *Recorder, dir string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r.Begin(2)
	write(t, in("main.go"), "another program\n")
	write(t, in("built/output"), "not tracked\n")
	must(os.WriteFile(in("new"), []byte("content of README\n"), 0o644))
	must(os.Rename(in("new"), in("README"))) // the same content, as sed -i without a match
	r.End(2)
	r.Artifact("first")
	r.Begin(3)
	must(os.Remove(in("a/one.go")))
	must(os.Chmod(in("tools/gen.sh"), 0o755))
	old, err := os.ReadFile(in("a/two.go"))
	must(err)
	write(t, in("a/two.go"), "for the compiler's eyes only\n")
	write(t, in("a/two.go"), string(old))
	r.End(3)
	r.Begin(4)
	must(os.Rename(in("a/deep"), in("a/moved")))
	must(os.Symlink("moved", in("a/deep")))
	must(os.Remove(in("link")))
	must(os.Symlink("README", in("link")))
	r.End(4)
	r.Artifact("second")
	r.Begin(5)
	write(t, in("main.go"), "content of main.go\n") // too late: the first artifact was made of the other
	must(os.Remove(in("a/two.go")))                 // which was whole in the second one
	r.End(5)
}

// TestChangedSource has every way of changing the source found, without any help by the
// kernel and with it, and nothing found where nothing was changed.
func TestChangedSource(t *testing.T) {
	always := []string{
		`deleted a/one.go step 3 artifact "second"`,
		`replaced a/deep/er/file step 4 artifact "second"`,
		`modified link step 4 artifact "second"`,
		`modified main.go step 2 artifact "first"`,
		`deleted a/two.go step 5 artifact ""`,
		`replaced tools/gen.sh step 3 artifact "second"`,
	}
	t.Run("stat", func(t *testing.T) {
		dir := t.TempDir()
		commit := repository(t, dir)
		r := New(Config{})
		checkedOut(t, r, dir, commit)
		// Without a watch the step is the one in which it was compared.
		meddle(t, r, dir)
		got := said(r.Finish())
		var want []string
		for _, s := range append(slices.Clone(always), `restored README step 2 artifact "first"`) {
			want = append(want, strings.NewReplacer("step 2", "step 0", "step 3", "step 0", "step 4", "step 0", "step 5", "step 0").Replace(s))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("changes:\n got %q\nwant %q", got, want)
		}
	})
	t.Run("fanotify", func(t *testing.T) {
		vol, dir := volume(t)
		r := New(Config{Volume: vol})
		r.Begin(1)
		commit := repository(t, dir)
		checkedOut(t, r, dir, commit)
		r.End(1)
		if r.watch == nil {
			t.Fatalf("this machine's root can listen, and does not: %s", r.silent)
		}
		meddle(t, r, dir)
		trace := r.Finish()
		got := said(trace)
		want := append(slices.Clone(always), `restored README step 2 artifact "first"`)
		for i, s := range want { // a change of mode alone is no write: its step is not known
			want[i] = strings.Replace(s, "gen.sh step 3", "gen.sh step 0", 1)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("changes:\n got %q\nwant %q", got, want)
		}
		if !slices.Equal(trace.Methods, []string{"fanotify", "stat"}) || len(trace.NotSeen) != 0 {
			t.Errorf("methods %q, not seen %v", trace.Methods, trace.NotSeen)
		}
	})
	t.Run("more than the kernel tells", func(t *testing.T) {
		vol, dir := volume(t)
		commit := repository(t, dir)
		r := New(Config{Volume: vol})
		checkedOut(t, r, dir, commit)
		r.watch.deaf = true // as after a flood of writes
		r.Begin(1)
		r.watch.drain(func(string, string, bool) {})
		write(t, filepath.Join(dir, "main.go"), "for the compiler's eyes only\n")
		write(t, filepath.Join(dir, "main.go"), "content of main.go\n")
		r.watch.drain(func(string, string, bool) {}) // lost
		r.End(1)
		r.Artifact("one")
		if got := said(r.Finish()); !slices.Equal(got, []string{`restored main.go step 0 artifact "one"`}) {
			t.Errorf("changes %q", got)
		}
	})
	t.Run("untouched", func(t *testing.T) {
		vol, dir := volume(t)
		commit := repository(t, dir)
		r := New(Config{Volume: vol})
		checkedOut(t, r, dir, commit)
		r.Begin(1)
		write(t, filepath.Join(dir, "built/output"), "x")
		git(t, dir, "status")
		r.End(1)
		r.Artifact("one")
		trace := r.Finish()
		if len(trace.Changes) != 0 || trace.Lost != 0 {
			t.Errorf("changes %q, lost %d", said(trace), trace.Lost)
		}
		if want := git(t, dir, "rev-parse", "HEAD^{tree}"); trace.Source.Tree != want || trace.Source.Files != len(files)+1 {
			t.Errorf("source %+v, want tree %s of %d files", trace.Source, want, len(files)+1)
		}
	})
}

// TestSecondCheckout has another source put in the place of the first: what had become of that
// is not forgotten.
func TestSecondCheckout(t *testing.T) {
	dir := t.TempDir()
	first := repository(t, dir)
	r := New(Config{})
	checkedOut(t, r, dir, first)
	write(t, filepath.Join(dir, "main.go"), "compiled, then hidden\n")
	r.CheckingOut()
	git(t, dir, "checkout", "-q", "--force", "HEAD")
	write(t, filepath.Join(dir, "README"), "second\n")
	git(t, dir, "commit", "-qam", "second")
	checkedOut(t, r, dir, git(t, dir, "rev-parse", "HEAD"))
	trace := r.Finish()
	if got := said(trace); !slices.Equal(got, []string{`modified main.go step 0 artifact ""`}) {
		t.Errorf("changes %q", got)
	}
}

// TestIndex reads what git writes: every version, both kinds of ids, sparse checkouts.
func TestIndex(t *testing.T) {
	for _, version := range []string{"2", "3", "4"} {
		for _, format := range []string{"sha1", "sha256"} {
			t.Run(version+" "+format, func(t *testing.T) {
				dir := t.TempDir()
				commit := repository(t, dir, "--object-format="+format)
				git(t, dir, "update-index", "--index-version", version)
				git(t, dir, "sparse-checkout", "set", "--no-cone", "a/", "/main.go")
				s := openAt(t, dir, commit)
				if want := git(t, dir, "rev-parse", "HEAD^{tree}"); s.tree != want {
					t.Errorf("tree %s, want %s", s.tree, want)
				}
				s.compare(1, "", time.Time{})
				if len(s.changes) != 0 {
					t.Errorf("changes %v", s.list())
				}
				if err := os.Remove(filepath.Join(dir, "main.go")); err != nil {
					t.Fatal(err)
				}
				if s.compare(1, "", time.Time{}); len(s.changes) != 1 {
					t.Errorf("changes %v", s.list())
				}
			})
		}
	}
}

func openAt(t testing.TB, dir, commit string) *source {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSource(f, commit, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func FuzzIndex(f *testing.F) {
	for _, version := range []string{"2", "4"} {
		dir := f.TempDir()
		repository(f, dir)
		git(f, dir, "update-index", "--index-version", version)
		b, err := os.ReadFile(filepath.Join(dir, ".git/index"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// A checksum of zeros is one that was left out, so that the fuzzer gets past it.
		list, err := parseIndex(append(slices.Clone(b), make([]byte, 20)...), 20)
		if err != nil {
			return
		}
		for _, file := range list {
			if !relative(file.path) {
				t.Errorf("path %q", file.path)
			}
		}
		treeID(list, 20)
	})
}

// FuzzEvents has the kernel's word misformed, which it never is.
func FuzzEvents(f *testing.F) {
	f.Add(make([]byte, 24))
	f.Fuzz(func(t *testing.T, b []byte) {
		(&watch{}).parse(b, func(key, _ string, _ bool) {
			if len(key) < 4 {
				t.Error("a handle without a kind")
			}
		})
	})
}
