package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// The largest of a work tree's own git files that is read: HEAD, packed-refs
// of 100,000 refs, info/exclude, shallow.
const maxGitFile = 16 << 20

// Import makes the repository of a project from a directory as it is now: one
// commit of all files that git would show, committed or not, but for ignored
// ones. Within a git work tree the whole tree is taken, unless the directory has
// workflows of its own: only those of a repository's root count, so it is meant as one. HEAD is the parent,
// and the branch is the one that is checked out; a tree without changes is
// HEAD itself. Its branches and tags come with it. Elsewhere the commit has no parent and the branch is "main".
//
// The user's own repository is read, never run: its configuration, hooks and
// filters do not take effect, and nothing in it is changed. The project's
// repository borrows its objects and is of use only as long as it exists.
func (g *Git) Import(ctx context.Context, p sallyport.ProjectID, dir string) (id, branch string, err error) {
	path, err := g.path(p)
	if err != nil {
		return "", "", err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", "", fmt.Errorf("snapshot: %w", err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", "", sallyport.Errorf(sallyport.CodeInvalid, "%q is not a directory", dir)
	}
	tree, err := findWorkTree(dir)
	if err != nil {
		return "", "", err
	}
	unlock, err := g.lock(ctx, p)
	if err != nil {
		return "", "", err
	}
	defer unlock()
	tmp, err := os.MkdirTemp(g.temp, "import-")
	if err != nil {
		return "", "", fmt.Errorf("snapshot: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := g.initBare(ctx, tmp, tree.branch); err != nil {
		return "", "", fmt.Errorf("snapshot: %w", err)
	}
	if err := tree.lend(tmp, g.dir, g.temp); err != nil {
		return "", "", fmt.Errorf("snapshot: %w", err)
	}
	if err := g.copyRefs(ctx, tmp, tree); err != nil {
		return "", "", fmt.Errorf("snapshot: %w", err)
	}
	id, err = g.commitTree(ctx, tmp, tree)
	if err != nil {
		return "", "", err
	}
	if err := os.RemoveAll(path); err != nil {
		return "", "", fmt.Errorf("snapshot: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", "", fmt.Errorf("snapshot: %w", err)
	}
	return id, tree.branch, nil
}

// copyRefs gives repo the branches and tags of the user's repository, and
// those branches that it knows of its origin alone.
func (g *Git) copyRefs(ctx context.Context, repo string, tree workTree) error {
	refs := tree.refs()
	for name, id := range refs {
		branch, ok := strings.CutPrefix(name, "refs/remotes/origin/")
		if !ok {
			continue
		}
		delete(refs, name)
		if _, known := refs["refs/heads/"+branch]; !known && branch != "HEAD" {
			refs["refs/heads/"+branch] = id
		}
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		if validRef(name) {
			fmt.Fprintf(&b, "%s %s\n", refs[name], name)
		}
	}
	file := filepath.Join(repo, "packed-refs")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return err
	}
	if _, err := g.bundledRefs(ctx, repo); err != nil {
		return os.Remove(file) // one of them is broken: a snapshot needs none
	}
	return nil
}

// commitTree commits the work tree into repo and points its branch there.
func (g *Git) commitTree(ctx context.Context, repo string, tree workTree) (string, error) {
	run := func(args ...string) (string, error) {
		out, err := g.output(ctx, command{
			repo: repo, dir: tree.top, args: args, timeout: transferTimeout,
			config: []string{"core.bare=false", "core.safecrlf=false", "advice.addEmbeddedRepo=false"},
			env:    append(identity(g.now()), "GIT_WORK_TREE="+tree.top),
		})
		return strings.TrimSpace(string(out)), err
	}
	var headTree string
	if tree.head != "" {
		var err error
		if headTree, err = run("rev-parse", "--verify", "--end-of-options", tree.head+"^{tree}"); err != nil {
			return "", sallyport.Errorf(sallyport.CodeInvalid, "the commit %.12s that is checked out cannot be read", tree.head).
				WithHint("run git fsck in %s", tree.top)
		}
		// Files that are tracked although they are ignored must stay.
		if _, err := run("read-tree", tree.head); err != nil {
			return "", fmt.Errorf("snapshot: %w", err)
		}
	}
	if _, err := run("add", "--all", "--", "."); err != nil {
		var failed *gitError
		if errors.As(err, &failed) && failed.stderr != "" {
			lines := strings.Split(failed.stderr, "\n")
			return "", sallyport.Errorf(sallyport.CodeInvalid, "git cannot take the files of %s: %s", tree.top, plain(lines[0])).
				WithHint("remove the file or list it in .gitignore")
		}
		return "", fmt.Errorf("snapshot: %w", err)
	}
	content, err := run("write-tree")
	if err != nil {
		return "", fmt.Errorf("snapshot: %w", err)
	}
	id := tree.head
	if id == "" || content != headTree {
		args := []string{"commit-tree", "-m", "Work tree of " + tree.branch}
		if tree.head != "" {
			args = append(args, "-p", tree.head)
		}
		if id, err = run(append(args, content)...); err != nil {
			return "", fmt.Errorf("snapshot: %w", err)
		}
	}
	if _, err := run("update-ref", "refs/heads/"+tree.branch, id); err != nil {
		return "", fmt.Errorf("snapshot: %w", err)
	}
	return id, nil
}

// identity is who commits a snapshot.
func identity(now time.Time) []string {
	date := fmt.Sprintf("%d +0000", now.Unix())
	return []string{
		"GIT_AUTHOR_NAME=Sallyport", "GIT_AUTHOR_EMAIL=sallyport@localhost", "GIT_AUTHOR_DATE=" + date,
		"GIT_COMMITTER_NAME=Sallyport", "GIT_COMMITTER_EMAIL=sallyport@localhost", "GIT_COMMITTER_DATE=" + date,
	}
}

// workTree is a directory of the user's, and what is known of its repository.
type workTree struct {
	top    string
	common string // the repository's directory, "" for none
	branch string
	head   string // commit, "" for none
}

// findWorkTree looks for the repository that dir belongs to, reading its files
// by hand (gitrepository-layout): git itself would obey its configuration.
func findWorkTree(dir string) (workTree, error) {
	none := workTree{top: dir, branch: "main"}
	for top := dir; ; top = filepath.Dir(top) {
		gitdir := filepath.Join(top, ".git")
		info, err := os.Stat(gitdir)
		if err == nil && !info.IsDir() {
			gitdir, err = readLink(gitdir)
		}
		if err == nil {
			if _, err = os.Stat(filepath.Join(gitdir, "HEAD")); err == nil {
				return readWorkTree(top, gitdir)
			}
		}
		if top == filepath.Dir(top) {
			return none, nil
		}
		if info, err := os.Stat(filepath.Join(top, ".github", "workflows")); top == dir && err == nil && info.IsDir() {
			return none, nil
		}
	}
}

// readLink reads a .git file: "gitdir: PATH".
func readLink(file string) (string, error) {
	b, err := readSmall(file)
	if err != nil {
		return "", err
	}
	target, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "gitdir: ")
	if !ok {
		return "", errors.New("not a git file")
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(file), target)
	}
	return target, nil
}

func readWorkTree(top, gitdir string) (workTree, error) {
	t := workTree{top: top, common: gitdir, branch: "main"}
	if b, err := readSmall(filepath.Join(gitdir, "commondir")); err == nil {
		t.common = strings.TrimSpace(string(b))
		if !filepath.IsAbs(t.common) {
			t.common = filepath.Join(gitdir, t.common)
		}
	}
	b, err := readSmall(filepath.Join(gitdir, "HEAD"))
	if err != nil {
		return t, fmt.Errorf("read HEAD of the work tree: %w", err)
	}
	head := strings.TrimSpace(string(b))
	if ref, ok := strings.CutPrefix(head, "ref: "); ok {
		if name, ok := strings.CutPrefix(ref, "refs/heads/"); ok && validBranch(name) {
			t.branch = name
		}
		if head, err = resolve(t.common, ref); err != nil {
			return t, err
		}
	}
	switch {
	case head == "": // no commit yet
		return t, nil
	case !validCommit(head):
		return t, sallyport.Errorf(sallyport.CodeInvalid, "the repository at %s cannot be read", top).
			WithHint("only repositories with SHA-1 object ids and files as refs are supported")
	}
	t.head = head
	return t, nil
}

// refs returns the loose and packed branches and tags, and those of the origin,
// as far as they can be read.
func (t workTree) refs() map[string]string {
	refs := map[string]string{}
	if t.common == "" {
		return refs
	}
	keep := func(name, id string) {
		if id = strings.TrimSpace(id); validCommit(id) && len(refs) < maxBundleRefs {
			refs[name] = id
		}
	}
	spaces := []string{"refs/heads/", "refs/tags/", "refs/remotes/origin/"}
	b, _ := readSmall(filepath.Join(t.common, "packed-refs")) // there need not be one
	for line := range strings.Lines(string(b)) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if slices.ContainsFunc(spaces, func(s string) bool { return strings.HasPrefix(name, s) }) {
			keep(name, id)
		}
	}
	for _, space := range spaces {
		seen := 0
		_ = filepath.WalkDir(filepath.Join(t.common, filepath.FromSlash(space)), func(file string, d fs.DirEntry, err error) error {
			if seen++; err != nil || seen > 2*maxBundleRefs {
				return fs.SkipAll
			}
			if !d.Type().IsRegular() {
				return nil
			}
			if b, err := readSmall(file); err == nil {
				name, _ := filepath.Rel(t.common, file) // it lies beneath
				keep(filepath.ToSlash(name), string(b))
			}
			return nil
		})
	}
	return refs
}

// resolve reads a ref, loose or packed; "" when there is none.
func resolve(common, ref string) (string, error) {
	if !validRef(ref) {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "HEAD names %.80q", ref).
			WithHint("only repositories with files as refs are supported")
	}
	b, err := readSmall(filepath.Join(common, filepath.FromSlash(ref)))
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	b, err = readSmall(filepath.Join(common, "packed-refs"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read refs of the work tree: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if id, name, _ := strings.Cut(strings.TrimSpace(line), " "); name == ref {
			return id, nil
		}
	}
	return "", nil
}

// lend lets repo find the objects of the user's repository, and copies what
// else a snapshot depends on. The directories in hidden are never part of it.
func (t workTree) lend(repo string, hidden ...string) error {
	info := filepath.Join(repo, "info")
	if err := os.MkdirAll(info, 0o700); err != nil {
		return err
	}
	var exclude []byte
	if t.common != "" {
		alternates := filepath.Join(repo, "objects", "info", "alternates")
		if err := os.MkdirAll(filepath.Dir(alternates), 0o700); err != nil {
			return err
		}
		objects := filepath.Join(t.common, "objects")
		if strings.ContainsAny(objects, "\n\"") {
			return errors.New("the path of the repository has a quote or a line end")
		}
		if err := os.WriteFile(alternates, []byte(objects+"\n"), 0o600); err != nil {
			return err
		}
		if b, err := readSmall(filepath.Join(t.common, "shallow")); err == nil {
			if err := os.WriteFile(filepath.Join(repo, "shallow"), b, 0o600); err != nil {
				return err
			}
		}
		exclude, _ = readSmall(filepath.Join(t.common, "info", "exclude"))
	}
	for _, dir := range hidden {
		if rel, err := filepath.Rel(t.top, dir); err == nil && filepath.IsLocal(rel) && rel != "." {
			exclude = append(exclude, "\n/"+filepath.ToSlash(rel)+"/\n"...)
		}
	}
	return os.WriteFile(filepath.Join(info, "exclude"), exclude, 0o600)
}

// readSmall reads a file of a user's repository, bounded.
func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxGitFile+1))
	if err == nil && len(b) > maxGitFile {
		err = fmt.Errorf("%s is too long", filepath.Base(name))
	}
	return b, err
}

// Top returns the directory that Import takes as the repository for dir.
func Top(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(abs); err != nil || !info.IsDir() {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "%s is not a directory", dir).WithHint("name a repository with -C")
	}
	tree, err := findWorkTree(abs)
	return tree.top, err
}
