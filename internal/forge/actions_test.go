package forge

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/blobstore"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

// actionHost is a directory of repositories, and what fetches from it.
type actionHost struct {
	dir string
	*Actions
}

func newActionHost(t testing.TB, servers ...string) actionHost {
	t.Helper()
	s := actionHost{dir: t.TempDir()}
	var err error
	if s.Actions, err = open(t).Actions(ActionsConfig{Servers: append(servers, s.dir+"/{owner}/{repo}"), Blobs: blobstore.NewPlain(t.TempDir())}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s actionHost) repository(t testing.TB, name string) user {
	t.Helper()
	u := user{t, filepath.Join(s.dir, name)}
	if err := os.MkdirAll(u.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	u.git("init", "--quiet", "--initial-branch=main")
	return u
}

// tree returns the files of a tree in their order: NAME MODE CONTENT.
func (s actionHost) tree(t testing.TB, d sallyport.Digest) []string {
	t.Helper()
	r, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %o %s%s", h.Name, h.Mode, h.Linkname, b))
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	s := newActionHost(t)
	u := s.repository(t, "acme/tool")
	u.write("z/action.yaml", "nested")
	u.write("main.js", "js")
	u.write("action.yml", "top")
	u.write(".github/workflows/w.yml", "workflow")
	u.write("sub/run.sh", "sh")
	if err := os.Chmod(filepath.Join(u.dir, "sub/run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"inside": "sub/run.sh", "sub/up": "../main.js", "out": "/etc/passwd", "sub/far": "../../x"} {
		if err := os.Symlink(to, filepath.Join(u.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	first := u.commit("one")
	u.git("tag", "light")
	u.git("tag", "-a", "-m", "annotated", "v1")
	u.git("branch", "both")
	u.write("main.js", "js2")
	second := u.commit("two")
	u.git("tag", "both")
	u.git("branch", "feature/x")

	for ref, want := range map[string]string{"v1": first, "light": first, "main": second, "feature/x": second, "both": second, first: first} {
		got, err := s.Resolve(t.Context(), "acme/tool", ref)
		if err != nil || got.Commit != want || got.Repository != "acme/tool" || got.Ref != ref || got.URL != "file://"+s.dir+"/acme/tool" {
			t.Errorf("%s: %+v %v, want %s", ref, got, err, want)
		}
	}
	source, err := s.Resolve(t.Context(), "acme/tool", "v1")
	if err != nil {
		t.Fatal(err)
	}
	digest, err := s.Keep(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{".github/workflows/w.yml 644 workflow", "action.yml 644 top", "z/action.yaml 644 nested", "inside 777 sub/run.sh",
		"main.js 644 js", "sub/run.sh 755 sh", "sub/up 777 ../main.js"}
	if got := s.tree(t, digest); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Locks name trees by this digest: what makes it must never change.
	if want := sallyport.Digest("sha256:6a6d634ef01442b8e516906fcea710b57af81eaa70d91e281912acd2ec1387bf"); digest != want {
		t.Errorf("digest %s, want %s", digest, want)
	}

	// A tag that was moved, or is gone, does not take the locked commit away.
	u.git("tag", "-f", "v1", second)
	source.Digest = digest
	fresh := newActionHost(t)
	fresh.servers = s.servers
	if got, err := fresh.Keep(t.Context(), source); err != nil || got != digest {
		t.Errorf("after the tag has moved: %s %v", got, err)
	}
	// Another commit under the locked digest is refused, and nothing of it kept.
	other := source
	other.Commit = second
	if _, err := newHostLike(t, s).Keep(t.Context(), other); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("another commit: %v", err)
	}
}

// newHostLike fetches from the same places and has kept nothing.
func newHostLike(t testing.TB, s actionHost) actionHost {
	n := newActionHost(t)
	n.servers = s.servers
	return n
}

func TestActionErrors(t *testing.T) {
	t.Parallel()
	s := newActionHost(t)
	u := s.repository(t, "acme/tool")
	u.write("action.yml", "x")
	commit := u.commit("one")
	for name, c := range map[string]struct {
		repository, ref string
		code            sallyport.Code
	}{
		"no repository": {"acme/none", "v1", sallyport.CodeNotFound},
		"no ref":        {"acme/tool", "v1", sallyport.CodeNotFound},
		"glob":          {"acme/tool", "mai*", sallyport.CodeInvalid},
		"option":        {"acme/tool", "--upload-pack=touch x", sallyport.CodeInvalid},
		"range":         {"acme/tool", "main..main", sallyport.CodeInvalid},
		"outside":       {"../tool", "main", sallyport.CodeInvalid},
		"deeper":        {"acme/tool/x", "main", sallyport.CodeInvalid},
		"an option":     {"acme/-x", "main", sallyport.CodeInvalid},
	} {
		if got, err := s.Resolve(t.Context(), c.repository, c.ref); sallyport.ErrorCode(err) != c.code {
			t.Errorf("%s: %+v %v, want %s", name, got, err, c.code)
		}
	}
	if _, err := s.Keep(t.Context(), sallyport.PlanSource{Repository: "acme/tool", Ref: "main", Commit: strings.Repeat("0", 39) + "1"}); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("no commit: %v", err)
	}
	if _, err := s.Keep(t.Context(), sallyport.PlanSource{Repository: "acme/tool", Ref: "main", Commit: "main"}); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("a ref as commit: %v", err)
	}
	u.write("bad\nname", "x")
	if _, err := s.Keep(t.Context(), sallyport.PlanSource{Repository: "acme/tool", Ref: "main", Commit: u.commit("two")}); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("a name with a line end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Keep(ctx, sallyport.PlanSource{Repository: "acme/tool", Ref: "main", Commit: commit}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Servers are asked in order. One without the repository is passed over; one that
// cannot be asked ends the search.
func TestActionServers(t *testing.T) {
	t.Parallel()
	s := newActionHost(t, "/nonexistent/{owner}/{repo}")
	u := s.repository(t, "acme/tool")
	u.write("action.yml", "x")
	u.commit("one")
	if got, err := s.Resolve(t.Context(), "acme/tool", "main"); err != nil || !strings.HasPrefix(got.URL, "file://"+s.dir) {
		t.Errorf("%+v %v", got, err)
	}
	away := newActionHost(t, "http://127.0.0.1:1/{owner}/{repo}")
	away.servers = append(away.servers[:1], s.servers...)
	if got, err := away.Resolve(t.Context(), "acme/tool", "main"); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("a server that is away: %+v %v", got, err)
	}
	for server, why := range map[string]string{
		"https://example.com/{owner}":               "lacks",
		"https://u:p@example.com/{owner}/{repo}":    "credential",
		"http://example.com/{owner}/{repo}":         "changed on its way",
		"ssh://example.com/{owner}/{repo}":          "neither https nor file",
		"ext::sh -c x% {owner}/{repo}":              "neither https nor file",
		"relative/{owner}/{repo}":                   "neither https nor file",
		"https://example.com/{owner}/{repo}?x=1":    "query",
		"file://host/srv/{owner}/{repo}":            "neither https nor file",
		"https://example.com/{owner}/{repo}#branch": "fragment",
	} {
		if _, err := parseActionServer(server); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", server, err, why)
		}
	}
	for _, server := range []string{"https://git.example.com:8443/x/{owner}/{repo}.git", "http://localhost:1/{owner}/{repo}", "http://[::1]/{owner}/{repo}", "/srv/a b/{owner}/{repo}.git", DefaultActionServer} {
		if _, err := parseActionServer(server); err != nil {
			t.Errorf("%s: %v", server, err)
		}
	}
}

// Nothing of a repository runs while it is fetched, whatever it is configured to do.
func TestActionRepositoryRunsNothing(t *testing.T) {
	t.Parallel()
	s := newActionHost(t)
	u := s.repository(t, "acme/tool")
	u.write("action.yml", "x")
	u.write(".gitattributes", "* filter=evil\n")
	commit := u.commit("one")
	mark := filepath.Join(t.TempDir(), "mark")
	for _, hook := range []string{"post-checkout", "pre-receive", "post-update", "reference-transaction"} {
		if err := os.WriteFile(filepath.Join(u.dir, ".git/hooks", hook), []byte("#!/bin/sh\ntouch "+mark+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range map[string]string{"filter.evil.smudge": "touch " + mark, "uploadpack.packObjectsHook": "touch " + mark, "core.fsmonitor": "touch " + mark} {
		u.git("config", key, value)
	}
	if _, err := s.Keep(t.Context(), sallyport.PlanSource{Repository: "acme/tool", Ref: "main", Commit: commit}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("something of the repository ran")
	}
}

func TestStaysInside(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at, to string
		want   bool
	}{
		{"a", "b", true}, {"d/a", "../b", true}, {"d/a", ".", true}, {"a", "d/../b", true},
		{"a", "../b", false}, {"d/a", "../../b", false}, {"a", "/b", false}, {"a", "", false}, {"a", "..", false}, {"d/a", "..", true}, {"a", "b\nc", false},
	} {
		if got := staysInside(c.at, c.to); got != c.want {
			t.Errorf("%s to %s: %v", c.at, c.to, got)
		}
	}
}

// BenchmarkKeptAction is what a locked action of 5 MB costs the control plane when it is
// kept: whether it is there, and reading the sealed tree to the end for a runner.
func BenchmarkKeptAction(b *testing.B) {
	blobs, err := blobstore.OpenDir(blobstore.Config{Dir: b.TempDir(), KMS: sallyporttest.NewKMS()})
	if err != nil {
		b.Fatal(err)
	}
	s := newActionHost(b)
	s.blobs = blobs
	u := s.repository(b, "acme/tool")
	u.write("action.yml", "x")
	u.write("dist/index.js", strings.Repeat("// a bundle of some packages\n", 180_000))
	source := sallyport.PlanSource{Repository: "acme/tool", Ref: "main", Commit: u.commit("one")}
	if source.Digest, err = s.Keep(b.Context(), source); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Keep(b.Context(), source); err != nil {
			b.Fatal(err)
		}
		tree, err := s.Open(b.Context(), source.Digest)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, tree); err != nil {
			b.Fatal(err)
		}
		tree.Close()
	}
}
