package forge

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// Bundles are kept because the jobs of one run ask for the same one. They
	// can be made again at any time.
	maxBundles     = 64
	maxBundleBytes = 4 << 30
	// The deepest history that is cut: beyond, the whole costs no more than the walk.
	maxDepth = 1000
	// Commits that are walked to find where a history is to be cut.
	maxWalk = 100_000

	// The ref that names the commit inside a bundle of a cut history, beside HEAD.
	bundleRef = "refs/heads/sallyport"
	// Refs that a bundle of the whole history holds at most.
	maxBundleRefs = 20_000
)

// bundles makes sure that each kept bundle is made once at a time.
type bundles struct {
	mu     sync.Mutex
	making map[string]chan struct{}
}

func (g *Git) bundleDir() string { return filepath.Join(g.temp, "bundles") }

// Bundle writes a tar of a bare repository that holds the commit and its
// history, cut to depth commits where depth is not 0; with depth 0 it also
// holds all branches and tags, in packed-refs. The same commit, and for depth 0 the same
// refs, give the same bytes. The files lie at the top of the tar: HEAD, config, objects, refs
// and, where the history is cut, shallow. To keep the cut, fetch from it with
// --update-shallow (or --depth): git leaves it out otherwise.
func (g *Git) Bundle(ctx context.Context, p sallyport.ProjectID, id string, depth int, w io.Writer) error {
	if err := checkCommit(id); err != nil {
		return err
	}
	if depth < 0 {
		return sallyport.Errorf(sallyport.CodeInvalid, "a depth of %d commits", depth).WithHint("use 0 for the whole history")
	}
	if depth > maxDepth {
		depth = 0
	}
	repo, err := g.open(p)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%s-%d", p, id, depth)
	var refs []bundledRef
	if depth == 0 {
		if refs, err = g.bundledRefs(ctx, repo); err != nil {
			return err
		}
		name += "-" + sallyport.DigestOf([]byte(packedRefs(refs))).Hex()[:16]
	}
	name = filepath.Join(g.bundleDir(), name+".tar")
	f, err := g.keptBundle(ctx, name, func(tmp string) error { return g.makeBundle(ctx, repo, p, id, depth, refs, tmp) })
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("send bundle: %w", err)
	}
	return nil
}

// keptBundle opens the named bundle, making it when it is not there.
func (g *Git) keptBundle(ctx context.Context, name string, make func(tmp string) error) (*os.File, error) {
	done, err := g.bundles.turn(ctx, name)
	if err != nil {
		return nil, err
	}
	defer done()
	if f, err := os.Open(name); err == nil {
		now := time.Now() // orders what prune removes; not a domain time
		_ = os.Chtimes(name, now, now)
		return f, nil
	}
	tmp, err := os.MkdirTemp(g.temp, "bundle-")
	if err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := make(tmp); err != nil {
		return nil, err
	}
	made := filepath.Join(tmp, "bundle.tar")
	f, err := os.Open(made)
	if err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	if err := os.Rename(made, name); err != nil {
		f.Close()
		return nil, fmt.Errorf("keep bundle: %w", err)
	}
	g.prune(name)
	return f, nil
}

// turn waits until nobody else makes the named bundle.
func (b *bundles) turn(ctx context.Context, name string) (done func(), err error) {
	for {
		b.mu.Lock()
		other := b.making[name]
		if other == nil {
			mine := make(chan struct{})
			if b.making == nil {
				b.making = map[string]chan struct{}{}
			}
			b.making[name] = mine
			b.mu.Unlock()
			return func() {
				b.mu.Lock()
				delete(b.making, name)
				b.mu.Unlock()
				close(mine)
			}, nil
		}
		b.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a bundle: %w", context.Cause(ctx))
		}
	}
}

// prune removes the bundles used longest ago until the rest fits.
func (g *Git) prune(keep string) {
	entries, err := os.ReadDir(g.bundleDir())
	if err != nil {
		return
	}
	var files []os.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return cmp.Compare(b.ModTime().UnixNano(), a.ModTime().UnixNano()) })
	var total int64
	for i, f := range files {
		total += f.Size()
		path := filepath.Join(g.bundleDir(), f.Name())
		if (i >= maxBundles || total > maxBundleBytes) && path != keep {
			_ = os.Remove(path) // who reads it has it open
		}
	}
}

// bundledRef is a branch or a tag; peeled is what an annotated tag stands for.
type bundledRef struct{ id, peeled, name string }

// bundledRefs returns the branches and tags, by name.
func (g *Git) bundledRefs(ctx context.Context, repo string) ([]bundledRef, error) {
	out, err := g.output(ctx, command{repo: repo, args: []string{
		"for-each-ref", "--sort=refname", "--format=%(objectname) %(*objectname) %(refname)", "refs/heads/", "refs/tags/"}})
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	var refs []bundledRef
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), " "); len(f) == 3 { // a ref name has no space
			refs = append(refs, bundledRef{f[0], f[1], f[2]})
		}
	}
	if len(refs) > maxBundleRefs {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the repository has %d branches and tags; a whole history is given out with at most %d", len(refs), maxBundleRefs).
			WithHint("use a fetch-depth greater than 0, or delete what is not needed")
	}
	return refs, nil
}

// packedRefs is the file of that name (gitrepository-layout, git-pack-refs).
func packedRefs(refs []bundledRef) string {
	var b strings.Builder
	b.WriteString("# pack-refs with: peeled fully-peeled sorted \n")
	for _, r := range refs {
		fmt.Fprintf(&b, "%s %s\n", r.id, r.name)
		if r.peeled != "" {
			fmt.Fprintf(&b, "^%s\n", r.peeled)
		}
	}
	return b.String()
}

// makeBundle writes tmp/bundle.tar.
func (g *Git) makeBundle(ctx context.Context, repo string, p sallyport.ProjectID, id string, depth int, refs []bundledRef, tmp string) error {
	var cut []string
	err := g.withObjects(ctx, p, func(o *objects) (err error) {
		c, err := o.commit(id)
		if err != nil {
			return err
		}
		id = c.ID
		if depth > 0 {
			cut, err = o.boundary(c, depth)
		}
		return err
	})
	if err != nil {
		return err
	}
	// A repository that is itself shallow (a snapshot of one) has ends of its own.
	ends, err := readShallow(repo)
	if err != nil {
		return err
	}
	var revs strings.Builder
	for _, s := range cut {
		fmt.Fprintf(&revs, "--shallow %s\n", s)
	}
	fmt.Fprintf(&revs, "%s\n", id)
	for _, r := range refs {
		fmt.Fprintf(&revs, "%s\n", r.id)
	}
	hash, err := g.output(ctx, command{
		repo:    repo,
		args:    []string{"pack-objects", "--revs", "--shallow", "--delta-base-offset", "--quiet", "--end-of-options", filepath.Join(tmp, "pack")},
		stdin:   strings.NewReader(revs.String()),
		timeout: transferTimeout,
	})
	if err != nil {
		return fmt.Errorf("pack commit: %w", err)
	}
	pack := "pack-" + strings.TrimSpace(string(hash))
	shallow := append(ends, cut...)
	slices.Sort(shallow)
	shallow = slices.Compact(shallow)

	f, err := os.OpenFile(filepath.Join(tmp, "bundle.tar"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	defer f.Close()
	t := tarWriter{w: tar.NewWriter(f)}
	if depth == 0 {
		t.text("HEAD", id+"\n")
		t.text("packed-refs", packedRefs(refs))
	} else {
		t.text("HEAD", "ref: "+bundleRef+"\n")
	}
	t.text("config", "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n")
	t.dir("objects/")
	t.dir("objects/info/")
	t.dir("objects/pack/")
	t.file("objects/pack/"+pack+".idx", filepath.Join(tmp, pack+".idx"))
	t.file("objects/pack/"+pack+".pack", filepath.Join(tmp, pack+".pack"))
	t.dir("refs/")
	t.dir("refs/heads/")
	if depth > 0 {
		t.text(bundleRef, id+"\n")
	}
	if len(shallow) > 0 {
		t.text("shallow", strings.Join(shallow, "\n")+"\n")
	}
	if err := errors.Join(t.err, t.w.Close(), f.Close()); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	return nil
}

// boundary returns the commits at which the history of c ends when it is cut
// to depth: those whose parents are left out.
func (o *objects) boundary(c commit, depth int) ([]string, error) {
	seen := map[string]bool{c.ID: true}
	level := []commit{c}
	for d := 1; d < depth && len(level) > 0; d++ {
		var next []commit
		for _, c := range level {
			for _, id := range c.parents {
				if seen[id] {
					continue
				}
				if seen[id] = true; len(seen) > maxWalk {
					return nil, sallyport.Errorf(sallyport.CodeInvalid, "a history of depth %d has more than %d commits", depth, maxWalk).
						WithHint("use a smaller fetch-depth, or 0 for the whole history")
				}
				parent, err := o.commit(id)
				if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
					continue // the repository's own history ends here
				}
				if err != nil {
					return nil, err
				}
				next = append(next, parent)
			}
		}
		level = next
	}
	var cut []string
	for _, c := range level {
		if len(c.parents) > 0 {
			cut = append(cut, c.ID)
		}
	}
	return cut, nil
}

// readShallow returns the ends of a history that is itself cut.
func readShallow(repo string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(repo, "shallow"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read shallow commits: %w", err)
	}
	var ids []string
	for line := range strings.Lines(string(b)) {
		if id := strings.TrimSpace(line); validCommit(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// tarWriter writes entries that depend on their content alone.
type tarWriter struct {
	w   *tar.Writer
	err error
}

func (t *tarWriter) header(h tar.Header) {
	if t.err == nil {
		h.Format = tar.FormatUSTAR
		t.err = t.w.WriteHeader(&h)
	}
}

func (t *tarWriter) dir(name string) {
	t.header(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
}

func (t *tarWriter) text(name, content string) {
	t.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))})
	if t.err == nil {
		_, t.err = io.WriteString(t.w, content)
	}
}

func (t *tarWriter) file(name, path string) {
	if t.err != nil {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		t.err = err
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.err = err
		return
	}
	t.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size()})
	if t.err == nil {
		_, t.err = io.Copy(t.w, f)
	}
}
