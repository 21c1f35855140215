package forge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// The tree without entries; git knows it without storing it.
const emptyTree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

// Refs returns every ref that leads to a commit, annotated tags peeled.
func (g *Git) Refs(ctx context.Context, p sallyport.ProjectID) (map[string]string, error) {
	repo, err := g.open(p)
	if err != nil {
		return nil, err
	}
	out, err := g.output(ctx, command{repo: repo, args: []string{
		"for-each-ref", "--format=%(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname)"}})
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	refs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ") // a ref name has no space
		if len(f) != 5 {
			continue
		}
		switch "commit" {
		case f[0]:
			refs[f[4]] = f[1]
		case f[2]:
			refs[f[4]] = f[3]
		}
	}
	return refs, nil
}

// tips returns every ref with the object it holds, annotated tags as they are.
func (g *Git) tips(ctx context.Context, repo string) (map[string]string, error) {
	out, err := g.output(ctx, command{repo: repo, args: []string{"for-each-ref", "--format=%(objectname) %(refname)"}})
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	refs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		refs[name] = id
	}
	return refs, nil
}

// Changed returns the paths that differ between two commits, in git's order.
// With before "" those are all files of the commit.
func (g *Git) Changed(ctx context.Context, p sallyport.ProjectID, before, id string, max int) (paths []string, more bool, err error) {
	if err := checkCommit(id); err != nil {
		return nil, false, err
	}
	if before == "" {
		before = emptyTree
	} else if err := checkCommit(before); err != nil {
		return nil, false, err
	}
	repo, err := g.open(p)
	if err != nil {
		return nil, false, err
	}
	errEnough := errors.New("enough")
	err = g.stream(ctx, command{repo: repo, args: []string{
		"diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-commit-id", "--no-ext-diff", "--end-of-options", before, id, "--"}},
		func(r io.Reader) error {
			in := bufio.NewReader(r)
			for {
				name, err := in.ReadString(0)
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				if len(paths) == max {
					return errEnough
				}
				paths = append(paths, text(strings.TrimSuffix(name, "\x00")))
			}
		})
	switch {
	case errors.Is(err, errEnough):
		return paths, true, nil
	case exitCode(err) == 128:
		return nil, false, g.missing(ctx, p, err, before, id)
	case err != nil:
		return nil, false, fmt.Errorf("compare commits: %w", err)
	}
	return paths, false, nil
}

// Authors returns who wrote, who made and who is named as a co-author of the commits that
// are in one and not in the other.
func (g *Git) Authors(ctx context.Context, p sallyport.ProjectID, before, id string, max int) (who []string, more bool, err error) {
	if err := checkCommit(id); err != nil {
		return nil, false, err
	}
	repo, err := g.open(p)
	if err != nil {
		return nil, false, err
	}
	args := []string{"log", "-z", "--no-show-signature", "--no-mailmap", "--format=%an%n%ae%n%cn%n%ce%n%(trailers:key=Co-authored-by,valueonly,only)", "--end-of-options", id}
	if before != "" {
		if err := checkCommit(before); err != nil {
			return nil, false, err
		}
		args = append(args, "^"+before)
	}
	errEnough := errors.New("enough")
	seen := map[string]bool{"": true}
	err = g.stream(ctx, command{repo: repo, args: append(args, "--")}, func(r io.Reader) error {
		in := bufio.NewReader(r)
		for {
			record, err := in.ReadString(0)
			for _, name := range strings.Split(strings.TrimSuffix(record, "\x00"), "\n") {
				for _, part := range strings.FieldsFunc(text(name), func(r rune) bool { return r == '<' || r == '>' }) { // of a co-author both
					if part = strings.TrimSpace(part); seen[part] {
						continue
					}
					if len(who) == max {
						return errEnough
					}
					seen[part] = true
					who = append(who, part)
				}
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	switch {
	case errors.Is(err, errEnough):
		return who, true, nil
	case exitCode(err) == 128:
		ids := []string{id}
		if before != "" {
			ids = append(ids, before)
		}
		return nil, false, g.missing(ctx, p, err, ids...)
	case err != nil:
		return nil, false, fmt.Errorf("list authors: %w", err)
	}
	return who, false, nil
}

// Contains reports whether commit is an ancestor of, or equal to, tip.
func (g *Git) Contains(ctx context.Context, p sallyport.ProjectID, tip, id string) (bool, error) {
	if err := checkCommit(tip); err != nil {
		return false, err
	}
	if err := checkCommit(id); err != nil {
		return false, err
	}
	repo, err := g.open(p)
	if err != nil {
		return false, err
	}
	_, err = g.output(ctx, command{repo: repo, args: []string{"merge-base", "--is-ancestor", "--end-of-options", id, tip}})
	switch {
	case err == nil:
		return true, nil
	case exitCode(err) == 1:
		return false, nil
	case exitCode(err) == 128:
		return false, g.missing(ctx, p, err, tip, id)
	}
	return false, fmt.Errorf("compare commits: %w", err)
}

// missing answers CodeNotFound when one of the commits is not there, and err otherwise.
func (g *Git) missing(ctx context.Context, p sallyport.ProjectID, err error, ids ...string) error {
	for _, id := range ids {
		if id == emptyTree {
			continue
		}
		if _, e := g.Commit(ctx, p, id); sallyport.ErrorCode(e) == sallyport.CodeNotFound {
			return e
		}
	}
	return fmt.Errorf("compare commits: %w", err)
}
