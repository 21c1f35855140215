package actions

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// Review is what somebody looks at before a tree is locked in place of another.
type Review struct {
	Uses   string       `json:"uses"`
	Before *Entry       `json:"before,omitempty"` // what is locked; nil: nothing yet
	After  Entry        `json:"after"`            // what the ref names now
	Runs   []string     `json:"runs"`             // what the actions that are used run, one line each
	Count  int          `json:"files"`            // of After
	Size   int64        `json:"size"`
	Files  []FileChange `json:"changes"` // between the two; of a first review none
}

// FileChange is a file that differs between two trees.
type FileChange struct {
	Path   string `json:"path"`
	Change string `json:"change"` // added, removed, changed
	Before int64  `json:"before"` // bytes
	After  int64  `json:"after"`
	// Diff are the lines that differ, of text that is not too large; "" else.
	Diff string `json:"diff,omitempty"`
}

// Bounds of what is compared line by line: bundles that tools have made are larger, and
// nobody reads them so.
const (
	maxDiffed    = 256 << 10 // bytes of a file
	maxDiffFiles = 200
	maxDiffBytes = 8 << 20 // of all files of a tree
)

// Review compares what refs name now with what is locked, for the references that
// are given or for all that the repository uses. Nothing is locked.
func (l Locker) Review(ctx context.Context, lock Lock, only []string) ([]Review, Found, error) {
	if err := (Options{Only: only}).check(); err != nil {
		return nil, Found{}, err
	}
	now, _, found, err := l.Lock(ctx, lock, Options{Only: only, Update: true})
	if err != nil {
		return nil, found, err
	}
	var out []Review
	for _, e := range now.Actions {
		if !(Options{Only: only}).concerns(e.Uses) {
			continue
		}
		r := Review{Uses: e.Uses, After: e, Runs: []string{}, Files: []FileChange{}}
		after, err := l.files(ctx, e)
		if err != nil {
			return nil, found, err
		}
		r.Count = len(after)
		for _, f := range after {
			r.Size += f.size
		}
		if before, ok := lock.Find(cut(e.Uses)); ok {
			r.Before = &before
			if before.Tree != e.Tree {
				old, err := l.files(ctx, before)
				if err != nil {
					return nil, found, err
				}
				r.Files = compareFiles(old, after)
				if err := l.diff(ctx, before, e, r.Files); err != nil {
					return nil, found, err
				}
			}
		}
		if r.Runs, err = l.runs(ctx, e, found); err != nil {
			return nil, found, err
		}
		out = append(out, r)
	}
	return out, found, nil
}

// treeFile is what a comparison knows of a file.
type treeFile struct {
	digest sallyport.Digest
	size   int64
	mode   int64
	link   string
}

// files reads a whole tree.
func (l Locker) files(ctx context.Context, e Entry) (map[string]treeFile, error) {
	if _, err := l.From.Keep(ctx, e.Source()); err != nil {
		return nil, err
	}
	tree, err := l.From.Open(ctx, e.Tree)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	return readFiles(tree)
}

func readFiles(tree io.Reader) (map[string]treeFile, error) {
	out := map[string]treeFile{}
	tr := tar.NewReader(tree)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		f := treeFile{size: h.Size, mode: h.Mode, link: h.Linkname}
		if f.digest, _, err = sallyport.DigestReader(tr); err != nil {
			return nil, err
		}
		out[h.Name] = f
	}
}

func compareFiles(before, after map[string]treeFile) []FileChange {
	all := map[string]bool{}
	for name := range before {
		all[name] = true
	}
	for name := range after {
		all[name] = true
	}
	out := []FileChange{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		a, was := before[name]
		b, is := after[name]
		c := FileChange{Path: name, Change: "changed", Before: a.size, After: b.size}
		switch {
		case a == b:
			continue
		case !was:
			c.Change = "added"
		case !is:
			c.Change = "removed"
		}
		out = append(out, c)
	}
	return out
}

// diff fills in the lines that differ.
func (l Locker) diff(ctx context.Context, before, after Entry, files []FileChange) error {
	wanted := map[string]bool{}
	for _, f := range files {
		if f.Before <= maxDiffed && f.After <= maxDiffed && len(wanted) < maxDiffFiles {
			wanted[f.Path] = true
		}
	}
	old, err := l.texts(ctx, before, wanted)
	if err != nil {
		return err
	}
	now, err := l.texts(ctx, after, wanted)
	if err != nil {
		return err
	}
	for i := range files {
		f := &files[i]
		a, isText := old[f.Path]
		b, isStill := now[f.Path]
		if wanted[f.Path] && (isText || f.Change == "added") && (isStill || f.Change == "removed") {
			f.Diff = string(diff.Diff("a/"+f.Path, a, "b/"+f.Path, b))
		}
	}
	return nil
}

// texts are the contents of those files that are text.
func (l Locker) texts(ctx context.Context, e Entry, wanted map[string]bool) (map[string][]byte, error) {
	tree, err := l.From.Open(ctx, e.Tree)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	out := map[string][]byte{}
	left := int64(maxDiffBytes)
	tr := tar.NewReader(tree)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if left -= h.Size; !wanted[h.Name] || h.Typeflag != tar.TypeReg || left < 0 {
			if !wanted[h.Name] || left < 0 {
				left += h.Size
			}
			continue
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		if utf8.Valid(b) && !bytes.ContainsRune(b, 0) {
			out[h.Name] = b
		}
	}
}

// runs says of every action of an entry that is used what it runs.
func (l Locker) runs(ctx context.Context, e Entry, found Found) ([]string, error) {
	m, err := l.metadata(ctx, e)
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, u := range found.Uses {
		if Compare(u.Reference.Entry(), e.Uses) != 0 {
			continue
		}
		line := u.Reference.String() + ": " + describe(m, u.Reference.Path)
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out, nil
}

// describe says in words what the action or the workflow at a path is.
func describe(m Metadata, at string) string {
	if _, ok := m[at]; ok {
		return "a reusable workflow"
	}
	for _, base := range []string{"action.yml", "action.yaml"} {
		file := strings.TrimPrefix(at+"/"+base, "/")
		src, ok := m[file]
		if !ok {
			continue
		}
		a, _ := workflow.ParseAction(file, src)
		switch {
		case a == nil:
			return "an action that cannot be read"
		case a.JavaScript():
			text := a.Using.Text + " runs " + a.Main.Text
			if a.Pre.Text != "" {
				text += ", " + a.Pre.Text + " before all steps"
			}
			if a.Post.Text != "" {
				text += ", " + a.Post.Text + " after all steps"
			}
			return text
		case a.Using.Text == "composite":
			var uses []string
			runs := 0
			for _, s := range a.Steps {
				if s.Uses != "" {
					uses = append(uses, s.Uses)
				} else {
					runs++
				}
			}
			text := "composite, " + plural(runs, "script")
			if len(uses) > 0 {
				text += ", uses " + strings.Join(uses, ", ")
			}
			return text
		}
		return "a container action"
	}
	return "no action"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
