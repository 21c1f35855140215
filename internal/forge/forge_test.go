package forge

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func open(t testing.TB, change ...func(*Config)) *Git {
	t.Helper()
	c := Config{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, f := range change {
		f(&c)
	}
	g, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func create(t testing.TB, g *Git) sallyport.ProjectID {
	t.Helper()
	p := sallyport.Project{ID: sallyport.NewID[sallyport.ProjectID](time.Now()), Name: "demo", DefaultBranch: "main"}
	if err := g.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p.ID
}

// user runs git as a user would, in dir, with a configuration of its own.
type user struct {
	t   testing.TB
	dir string
}

func newUser(t testing.TB) user {
	u := user{t, t.TempDir()}
	u.git("init", "--quiet", "--initial-branch=main")
	return u
}

func (u user) try(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = u.dir
	cmd.Env = append(os.Environ(), "HOME="+u.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=A U Thor", "GIT_AUTHOR_EMAIL=author@example.com", "GIT_COMMITTER_NAME=A U Thor", "GIT_COMMITTER_EMAIL=author@example.com",
		"GIT_AUTHOR_DATE=1700000000 +0530", "GIT_COMMITTER_DATE=1700000000 +0530", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (u user) git(args ...string) string {
	u.t.Helper()
	out, err := u.try(args...)
	if err != nil {
		u.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (u user) write(name, content string) {
	u.t.Helper()
	path := filepath.Join(u.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		u.t.Fatal(err)
	}
}

func (u user) commit(message string) string {
	u.t.Helper()
	u.git("add", "--all")
	u.git("commit", "--quiet", "--allow-empty", "-m", message)
	return u.git("rev-parse", "HEAD")
}

// host serves one repository and notes what it was asked.
type host struct {
	*httptest.Server
	mu     sync.Mutex
	judged [][]sallyport.RefUpdate
	done   [][]sallyport.RefUpdate
	refuse error
	say    string
}

func serve(t testing.TB, g *Git, p sallyport.ProjectID) *host {
	h := &host{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service := r.URL.Query().Get("service")
		if r.Method == http.MethodPost {
			service = filepath.Base(r.URL.Path)
		}
		g.Serve(w, r, p, service, func(u []sallyport.RefUpdate) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.judged = append(h.judged, u)
			return h.refuse
		}, func(u []sallyport.RefUpdate) string {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.done = append(h.done, u)
			return h.say
		})
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *host) repo() string { return h.URL + "/demo.git" }

func TestNewWithoutGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := New(t.Context(), Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if sallyport.ErrorCode(err) != sallyport.CodeUnavailable || !strings.Contains(err.Error(), "git is not installed") {
		t.Fatalf("New = %v", err)
	}
}

func TestNewSweeps(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	for _, name := range []string{"push-1", "bundle-2/x", "bundles/a.tar", "other"} {
		user{t, temp}.write(name, "x")
	}
	open(t, func(c *Config) { c.Temp = temp })
	left, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil || len(left) != 3 || filepath.Base(left[2]) != "other" { // bundles and home are made anew
		t.Errorf("left %q, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(temp, "bundles", "a.tar")); err == nil {
		t.Error("an old bundle was kept")
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"git version 2.34.0\n": true, "git version 2.39.5 (Apple Git)": true, "git version 3.0": true,
		"git version 2.33.9": false, "git version 1.99": false, "git 2.40": false, "": false,
	} {
		if got := recentEnough(text); got != want {
			t.Errorf("recentEnough(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestPushAndRead(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	h.say = "run #1 queued: http://example.com/runs/1\nsecond line \x1b[31m"
	u := newUser(t)
	u.write("README.md", "hello\n")
	u.write(".github/workflows/ci.yml", "on: push\n")
	u.write(".github/workflows/sub/other.yml", "on: push\n")
	u.write("häßlich name", "x")
	if err := os.Symlink("README.md", filepath.Join(u.dir, "link")); err != nil {
		t.Fatal(err)
	}
	first := u.commit("first: do it\n\nwith a body")
	out := u.git("push", h.repo(), "main")
	for _, want := range []string{"remote: run #1 queued: http://example.com/runs/1", "remote: second line ?[31m", "* [new branch]"} {
		if !strings.Contains(out, want) {
			t.Errorf("push printed no %q:\n%s", want, out)
		}
	}
	want := sallyport.RefUpdate{Ref: "refs/heads/main", Old: sallyport.ZeroCommit, New: first}
	if len(h.judged) != 1 || h.judged[0][0] != want || len(h.done) != 1 || h.done[0][0] != want {
		t.Errorf("judged %v, done %v, want %v", h.judged, h.done, want)
	}
	ctx := t.Context()
	c, err := g.Commit(ctx, p, first)
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != first || c.Subject != "first: do it" || c.Message != "first: do it\n\nwith a body\n" || c.Author != "A U Thor" ||
		c.Email != "author@example.com" || c.Timestamp != "2023-11-15T03:43:20+05:30" {
		t.Errorf("Commit = %+v", c)
	}
	b, err := g.ReadFile(ctx, p, first, ".github/workflows/ci.yml", 100)
	if err != nil || string(b) != "on: push\n" {
		t.Errorf("ReadFile = %q, %v", b, err)
	}
	files, err := g.ListFiles(ctx, p, first, ".github/workflows")
	if err != nil || fmt.Sprint(files) != "[.github/workflows/ci.yml]" {
		t.Errorf("ListFiles = %q, %v", files, err)
	}
	if files, err = g.ListFiles(ctx, p, first, ""); err != nil || fmt.Sprint(files) != "[README.md häßlich name]" {
		t.Errorf("ListFiles of the top = %q, %v", files, err)
	}

	u.write("README.md", "changed\n")
	second := u.commit("second\n\nCo-authored-by: Bea Second <bea@example.com>")
	u.git("tag", "-a", "v1", "-m", "one")
	u.git("push", h.repo(), "main", "v1")
	refs, err := g.Refs(ctx, p)
	if err != nil || len(refs) != 2 || refs["refs/heads/main"] != second || refs["refs/tags/v1"] != second {
		t.Errorf("Refs = %v, %v", refs, err)
	}
	tag := u.git("rev-parse", "v1")
	if c, err := g.Commit(ctx, p, tag); err != nil || c.ID != second {
		t.Errorf("Commit of a tag = %v, %v", c.ID, err)
	}
	paths, more, err := g.Changed(ctx, p, first, second, 10)
	if err != nil || more || fmt.Sprint(paths) != "[README.md]" {
		t.Errorf("Changed = %q, %v, %v", paths, more, err)
	}
	if paths, more, err = g.Changed(ctx, p, "", second, 2); err != nil || !more || len(paths) != 2 {
		t.Errorf("Changed from nothing = %q, %v, %v", paths, more, err)
	}
	all, more, err := g.Authors(ctx, p, "", second, 10)
	if err != nil || more || len(all) < 4 || !slices.Contains(all, "Bea Second") || !slices.Contains(all, "bea@example.com") {
		t.Errorf("Authors = %q, %v, %v", all, more, err)
	}
	if who, more, err := g.Authors(ctx, p, first, second, len(all)-1); err != nil || !more || len(who) != len(all)-1 {
		t.Errorf("some of the Authors = %q, %v, %v", who, more, err)
	}
	if who, _, err := g.Authors(ctx, p, second, first, 10); err != nil || len(who) != 0 {
		t.Errorf("Authors of nothing = %q, %v", who, err)
	}
	if _, _, err := g.Authors(ctx, p, "", strings.Repeat("1", 40), 10); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("Authors of what is not there: %v", err)
	}
	for _, c := range []struct {
		tip, commit string
		want        bool
	}{{second, first, true}, {first, second, false}, {first, first, true}} {
		if got, err := g.Contains(ctx, p, c.tip, c.commit); got != c.want || err != nil {
			t.Errorf("Contains(%.7s, %.7s) = %v, %v", c.tip, c.commit, got, err)
		}
	}
	clone := t.TempDir()
	u.git("clone", "--quiet", h.repo(), clone)
	if got := (user{t, clone}).git("rev-parse", "HEAD"); got != second {
		t.Errorf("clone has %s, want %s", got, second)
	}
	u.git("-c", "protocol.version=0", "clone", "--quiet", "--depth=1", h.repo(), t.TempDir())
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	u := newUser(t)
	u.write("dir/file", "12345")
	if err := os.Symlink("dir/file", filepath.Join(u.dir, "link")); err != nil {
		t.Fatal(err)
	}
	id := u.commit("one")
	u.git("push", "--quiet", h.repo(), "main")
	ctx := t.Context()
	none := strings.Repeat("1", 40)
	other := sallyport.NewID[sallyport.ProjectID](time.Now())
	read := func(p sallyport.ProjectID, id, path string, max int64) error {
		_, err := g.ReadFile(ctx, p, id, path, max)
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want sallyport.Code
	}{
		"fits":            {read(p, id, "dir/file", 5), ""},
		"too large":       {read(p, id, "dir/file", 4), sallyport.CodeInvalid},
		"symlink":         {read(p, id, "link", 100), sallyport.CodeInvalid},
		"directory":       {read(p, id, "dir", 100), sallyport.CodeInvalid},
		"no file":         {read(p, id, "dir/none", 100), sallyport.CodeNotFound},
		"file as dir":     {read(p, id, "dir/file/x", 100), sallyport.CodeNotFound},
		"no commit":       {read(p, none, "dir/file", 100), sallyport.CodeNotFound},
		"short commit":    {read(p, id[:12], "dir/file", 100), sallyport.CodeInvalid},
		"revision":        {read(p, "HEAD", "dir/file", 100), sallyport.CodeInvalid},
		"option":          {read(p, "--help", "dir/file", 100), sallyport.CodeInvalid},
		"climbing":        {read(p, id, "../x", 100), sallyport.CodeInvalid},
		"absolute":        {read(p, id, "/etc/passwd", 100), sallyport.CodeInvalid},
		"unclean":         {read(p, id, "dir//file", 100), sallyport.CodeInvalid},
		"line end":        {read(p, id, "dir\nfile", 100), sallyport.CodeNotFound},
		"unknown project": {read(other, id, "dir/file", 100), sallyport.CodeNotFound},
		"project as path": {read("../../etc", id, "dir/file", 100), sallyport.CodeInvalid},
	} {
		if got := sallyport.ErrorCode(c.err); got != c.want {
			t.Errorf("%s: %v, code %q, want %q", name, c.err, got, c.want)
		}
	}
	if _, err := g.Contains(ctx, p, none, id); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("Contains of no commit: %v", err)
	}
	if _, _, err := g.Changed(ctx, p, none, id, 10); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("Changed from no commit: %v", err)
	}
	if _, err := g.ListFiles(ctx, p, id, "none"); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("ListFiles of none: %v", err)
	}
	var blob bytes.Buffer
	if err := g.Bundle(ctx, p, none, 0, &blob); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("Bundle of no commit: %v", err)
	}
}

func TestPushRefused(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	u := newUser(t)
	u.write("f", "1")
	first := u.commit("one")
	u.git("push", "--quiet", h.repo(), "main")
	u.write("f", "2")
	second := u.commit("two")

	refs := func() string {
		r, err := g.Refs(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(r)
	}
	before := refs()
	refused := func(name string, wants []string, args ...string) {
		t.Helper()
		out, err := u.try(append([]string{"push"}, args...)...)
		if err == nil {
			t.Errorf("%s: push succeeded:\n%s", name, out)
		}
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", name, want, out)
			}
		}
		if got := refs(); got != before {
			t.Errorf("%s: refs became %s", name, got)
		}
	}
	h.refuse = sallyport.Errorf(sallyport.CodeDenied, "main is protected").WithHint("open a branch")
	refused("judge", []string{"remote: main is protected", "remote: open a branch", "! [remote rejected] main -> main (main is protected)"}, h.repo(), "main")
	h.refuse = fmt.Errorf("disk on fire at /var/secret")
	refused("our fault", []string{"internal error"}, h.repo(), "main")
	h.refuse = nil

	u.git("checkout", "--quiet", "--orphan", "other")
	u.commit("unrelated")
	refused("rewind of the default branch", []string{"! [remote rejected]", "non-fast-forward"}, "--force", h.repo(), "other:main")
	refused("deletion of the default branch", []string{"! [remote rejected]", "deletion"}, h.repo(), ":main")

	u.git("push", "--quiet", h.repo(), second+":refs/heads/topic")
	u.git("push", "--quiet", "--force", h.repo(), "other:topic")
	u.git("push", "--quiet", h.repo(), ":topic")
	last := h.done[len(h.done)-1]
	if len(last) != 1 || last[0].New != sallyport.ZeroCommit || last[0].Ref != "refs/heads/topic" {
		t.Errorf("deletion was told as %v", last)
	}
	if got := refs(); got != before {
		t.Errorf("refs are %s, want %s", got, before)
	}
	_ = first
}

func TestPushWithoutSideband(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	zero, id := sallyport.ZeroCommit, strings.Repeat("a", 40)
	for name, c := range map[string]struct{ caps, want string }{
		"report only": {"report-status", "000eunpack ok\n002bng refs/heads/x no, because of reasons\n0000"},
		"nothing":     {"", ""},
	} {
		h.refuse = sallyport.Errorf(sallyport.CodeDenied, "no, because of reasons")
		body := append(line("%s %s refs/heads/x\x00%s", zero, id, c.caps).append(nil), "0000PACKjunk"...)
		if got := post(t, h, body); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func post(t testing.TB, h *host, body []byte) string {
	t.Helper()
	resp, err := http.Post(h.repo()+"/git-receive-pack", "application/x-git-receive-pack-request", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHostilePushes(t *testing.T) {
	t.Parallel()
	g := open(t, func(c *Config) { c.MaxPack = 1 << 20 })
	p := create(t, g)
	h := serve(t, g, p)
	zero, id := sallyport.ZeroCommit, strings.Repeat("a", 40)
	caps := "\x00report-status side-band-64k"
	command := func(s string) string { return string(line("%s", s).append(nil)) }
	var many strings.Builder
	for i := range maxUpdates + 1 {
		many.WriteString(command(fmt.Sprintf("%s %s refs/heads/b%d%s", zero, id, i, caps)))
	}
	for name, c := range map[string]struct{ body, want string }{
		"not git":            {"hello world", "malformed push"},
		"nothing":            {"", "malformed push"},
		"cut off":            {"00", "malformed push"},
		"cut off in a line":  {"0099" + zero, "malformed push"},
		"no flush":           {command(zero + " " + id + " refs/heads/x" + caps), "malformed push"},
		"length 3":           {"0003", "malformed push"},
		"too long":           {"ffff" + zero, "malformed push"},
		"delimiter":          {"0001", "malformed push"},
		"short id":           {command("123 456 refs/heads/x"+caps) + "0000", "malformed push"},
		"certificate":        {command("push-cert\x00report-status") + "0000", "malformed push"},
		"both zero":          {command(zero+" "+zero+" refs/heads/x"+caps) + "0000", "malformed push"},
		"climbing ref":       {command(zero+" "+id+" refs/heads/../../x"+caps) + "0000", "is not a ref that can be pushed to"},
		"outside refs":       {command(zero+" "+id+" HEAD"+caps) + "0000", "is not a ref that can be pushed to"},
		"config as ref":      {command(zero+" "+id+" config"+caps) + "0000", "is not a ref that can be pushed to"},
		"ref with an escape": {command(zero+" "+id+" refs/heads/\x1b[31m"+caps) + "0000", "is not a ref that can be pushed to"},
		"ref not UTF-8":      {command(zero+" "+id+" refs/heads/\xff"+caps) + "0000", "is not a ref that can be pushed to"},
		"long ref":           {command(zero+" "+id+" refs/heads/"+strings.Repeat("x", 600)+caps) + "0000", "is not a ref that can be pushed to"},
		"twice":              {command(zero+" "+id+" refs/heads/x"+caps) + command(zero+" "+id+" refs/heads/x") + "0000", "twice"},
		"many refs":          {many.String() + "0000", "more than 2000 refs"},
		"large pack":         {command(zero+" "+id+" refs/heads/x"+caps) + "0000" + strings.Repeat("x", 2<<20), "more than 1 MiB"},
		"junk pack":          {command(zero+" "+id+" refs/heads/x"+caps) + "0000PACKjunk", "unpack"},
		"long list":          {strings.Repeat(command(zero+" "+id+" refs/heads/"+strings.Repeat("x", 60_000)), 80), "too long"},
		"probe":              {"0000", ""},
	} {
		judged := len(h.judged)
		got := post(t, h, []byte(c.body))
		if !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q in it", name, got, c.want)
		}
		if name != "junk pack" && len(h.judged) != judged {
			t.Errorf("%s: was judged", name)
		}
	}
	if len(h.done) != 0 {
		t.Errorf("done with %v", h.done)
	}
}

// A commit that git's own checks refuse: a tree with a .git entry.
func TestHostileObjects(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	u := newUser(t)
	u.write("f", "x")
	u.git("add", "f")
	blob := u.git("rev-parse", ":f")
	raw, err := exec.Command("sh", "-c", fmt.Sprintf(`cd %s && printf '100644 .git\0%%s' "$(printf %s | sed 's/../\\x&/g' | xargs -0 printf '%%b')" | git hash-object -t tree -w --stdin --literally`, u.dir, blob)).Output()
	if err != nil {
		t.Skipf("no such tree can be made here: %v", err)
	}
	id := u.git("commit-tree", "-m", "evil", strings.TrimSpace(string(raw)))
	out, err := u.try("push", h.repo(), id+":refs/heads/evil")
	if err == nil || !strings.Contains(out, "hasDotgit") {
		t.Errorf("push of a tree with .git: %v\n%s", err, out)
	}
	if refs, _ := g.Refs(t.Context(), p); len(refs) != 0 {
		t.Errorf("refs = %v", refs)
	}
}

func TestHooksNeverRun(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	path, _ := g.path(p)
	ran := filepath.Join(t.TempDir(), "ran")
	for _, name := range []string{"pre-receive", "update", "post-receive", "post-update", "reference-transaction", "proc-receive"} {
		if err := os.MkdirAll(filepath.Join(path, "hooks"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "hooks", name), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	u := newUser(t)
	u.commit("one")
	u.git("push", "--quiet", h.repo(), "main")
	if _, err := os.Stat(ran); err == nil {
		t.Error("a hook ran")
	}
}

func TestPushOfManyFiles(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	u := newUser(t)
	for i := range 10_000 {
		u.write(fmt.Sprintf("d%02d/f%05d.txt", i%100, i), fmt.Sprintf("file %d\n", i))
	}
	id := u.commit("many")
	u.git("push", "--quiet", h.repo(), "main")
	paths, more, err := g.Changed(t.Context(), p, "", id, 20_000)
	if err != nil || more || len(paths) != 10_000 {
		t.Errorf("Changed = %d paths, %v, %v", len(paths), more, err)
	}
	u.git("clone", "--quiet", h.repo(), t.TempDir())
}

// Large requests are compressed by git itself when it fetches, and sent in chunks when it pushes.
func TestManyRefsGzip(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	u := newUser(t)
	for i := range 200 {
		u.commit(fmt.Sprint(i))
		u.git("branch", fmt.Sprintf("b%d", i))
	}
	u.git("-c", "http.postBuffer=65536", "push", "--quiet", "--all", h.repo())
	if refs, err := g.Refs(t.Context(), p); err != nil || len(refs) != 201 {
		t.Fatalf("%d refs, %v", len(refs), err)
	}
	clone := user{t, t.TempDir()}
	clone.git("clone", "--quiet", "--bare", h.repo(), ".")
	u.commit("more")
	u.git("push", "--quiet", h.repo(), "main")
	clone.git("fetch", "--quiet", h.repo(), "+refs/heads/*:refs/heads/*")
}

func TestConcurrentPushes(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	u := newUser(t)
	u.commit("base")
	u.git("push", "--quiet", h.repo(), "main")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if out, err := u.try("push", "--quiet", h.repo(), fmt.Sprintf("main:refs/heads/t%d", i)); err != nil {
				t.Errorf("push %d: %v\n%s", i, err, out)
			}
		})
	}
	wg.Wait()
	if refs, err := g.Refs(t.Context(), p); err != nil || len(refs) != 9 || len(h.done) != 9 {
		t.Errorf("%d refs, %d done, %v", len(refs), len(h.done), err)
	}
}

func TestMaintain(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	h := serve(t, g, p)
	u := newUser(t)
	id := u.commit("one")
	u.git("push", "--quiet", h.repo(), "main")
	if err := g.Maintain(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Commit(t.Context(), p, id); err != nil {
		t.Fatal(err)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	g := open(t)
	p := create(t, g)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Refs(ctx, p); err == nil {
		t.Error("Refs went on")
	}
}
