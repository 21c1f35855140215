package forge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// A commit is headers and a message; megabytes of either are an attack.
	maxCommit = 1 << 20
	// A directory of 100,000 files is a tree of about 5 MB.
	maxTree = 32 << 20
	// The longest path of a file that is looked up.
	maxPath = 4096
)

// objects reads objects of one repository through one git process.
type objects struct {
	in  io.Writer
	out *bufio.Reader
}

// withObjects runs f with a reader of the repository's objects.
func (g *Git) withObjects(ctx context.Context, p sallyport.ProjectID, f func(*objects) error) error {
	repo, err := g.open(p)
	if err != nil {
		return err
	}
	return g.talk(ctx, command{repo: repo, args: []string{"cat-file", "--batch"}}, func(in io.WriteCloser, out io.Reader) error {
		return f(&objects{in: in, out: bufio.NewReader(out)})
	})
}

// get returns an object by its id, peeled to the given type; kind "blob" is
// not peeled. It answers CodeNotFound for none such, CodeInvalid beyond max.
func (o *objects) get(id, kind string, max int64) (peeled string, data []byte, err error) {
	if !validCommit(id) {
		return "", nil, fmt.Errorf("object id %q", id)
	}
	if _, err := fmt.Fprintf(o.in, "%s^{%s}\n", id, kind); err != nil {
		return "", nil, fmt.Errorf("ask git: %w", err)
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		return "", nil, fmt.Errorf("read from git: %w", err)
	}
	// "ID TYPE SIZE", or "WHAT missing"
	f := strings.Fields(line)
	if len(f) != 3 || f[1] != kind {
		return "", nil, sallyport.Errorf(sallyport.CodeNotFound, "the repository has no %s %s", kind, id)
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size < 0 {
		return "", nil, fmt.Errorf("size %q from git", f[2])
	}
	if size > max {
		return "", nil, sallyport.Errorf(sallyport.CodeInvalid, "%s %s has %d bytes, more than %d", kind, id, size, max)
	}
	data = make([]byte, size)
	if _, err := io.ReadFull(o.out, data); err != nil {
		return "", nil, fmt.Errorf("read from git: %w", err)
	}
	if _, err := o.out.Discard(1); err != nil { // line end
		return "", nil, fmt.Errorf("read from git: %w", err)
	}
	return f[0], data, nil
}

func (o *objects) commit(id string) (commit, error) {
	id, data, err := o.get(id, "commit", maxCommit)
	if err != nil {
		return commit{}, err
	}
	return parseCommit(id, data)
}

// walk returns the entry at a clean path below a commit's tree.
func (o *objects) walk(commitID, file string) (treeEntry, error) {
	at := treeEntry{mode: modeTree}
	var data []byte
	var err error
	if at.id, data, err = o.get(commitID, "tree", maxTree); err != nil {
		return at, err
	}
	if file == "" {
		return at, nil
	}
	parts := strings.Split(file, "/")
	for i, part := range parts {
		e, ok, err := findEntry(data, part)
		if err != nil {
			return at, err
		}
		if !ok {
			return at, sallyport.Errorf(sallyport.CodeNotFound, "the commit has no file %.200q", file)
		}
		if at = e; i == len(parts)-1 {
			break
		}
		if e.mode != modeTree {
			return at, sallyport.Errorf(sallyport.CodeNotFound, "the commit has no file %.200q", file)
		}
		if _, data, err = o.get(e.id, "tree", maxTree); err != nil {
			return at, err
		}
	}
	return at, nil
}

// Commit returns facts about a commit; given the id of an annotated tag, about
// the commit that it names.
func (g *Git) Commit(ctx context.Context, p sallyport.ProjectID, id string) (sallyport.Commit, error) {
	if err := checkCommit(id); err != nil {
		return sallyport.Commit{}, err
	}
	var c commit
	err := g.withObjects(ctx, p, func(o *objects) (err error) {
		c, err = o.commit(id)
		return err
	})
	return c.Commit, err
}

// ReadFile returns a regular file of a commit. Symbolic links are not followed.
func (g *Git) ReadFile(ctx context.Context, p sallyport.ProjectID, id, file string, max int64) ([]byte, error) {
	if err := checkCommit(id); err != nil {
		return nil, err
	}
	if err := checkPath(file); err != nil {
		return nil, err
	}
	var data []byte
	err := g.withObjects(ctx, p, func(o *objects) error {
		e, err := o.walk(id, file)
		if err != nil {
			return err
		}
		if !e.regular() {
			return sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not a regular file", file)
		}
		_, data, err = o.get(e.id, "blob", max)
		if sallyport.ErrorCode(err) == sallyport.CodeInvalid {
			return sallyport.Errorf(sallyport.CodeInvalid, "%.200q has more than %d bytes", file, max)
		}
		return err
	})
	return data, err
}

// ListFiles returns the paths of the regular files directly in dir, in git's
// order; dir "" is the top.
func (g *Git) ListFiles(ctx context.Context, p sallyport.ProjectID, id, dir string) ([]string, error) {
	if err := checkCommit(id); err != nil {
		return nil, err
	}
	if dir == "." {
		dir = ""
	}
	if dir != "" {
		if err := checkPath(dir); err != nil {
			return nil, err
		}
	}
	var files []string
	err := g.withObjects(ctx, p, func(o *objects) error {
		e, err := o.walk(id, dir)
		if err != nil {
			return err
		}
		if e.mode != modeTree {
			return sallyport.Errorf(sallyport.CodeNotFound, "%.200q is not a directory", dir)
		}
		_, data, err := o.get(e.id, "tree", maxTree)
		if err != nil {
			return err
		}
		return eachEntry(data, func(e treeEntry) bool {
			if e.regular() {
				files = append(files, path.Join(dir, e.name))
			}
			return true
		})
	})
	return files, err
}

func checkPath(p string) error {
	if p == "" || p == "." || len(p) > maxPath || path.Clean(p) != p || path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsRune(p, 0) {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not a path in a repository", p)
	}
	return nil
}

// Modes of tree entries, as git writes them.
const (
	modeTree       = "40000"
	modeFile       = "100644"
	modeExecutable = "100755"
)

type treeEntry struct{ mode, name, id string }

func (e treeEntry) regular() bool { return e.mode == modeFile || e.mode == modeExecutable }

var errBadTree = errors.New("malformed tree object")

// eachEntry calls f for the entries of a tree object until it returns false.
func eachEntry(data []byte, f func(treeEntry) bool) error {
	for len(data) > 0 {
		mode, rest, ok := bytes.Cut(data, []byte(" "))
		if !ok {
			return errBadTree
		}
		name, rest, ok := bytes.Cut(rest, []byte{0})
		if !ok || len(rest) < 20 || len(name) == 0 || bytes.IndexByte(name, '/') >= 0 {
			return errBadTree
		}
		if !f(treeEntry{mode: string(mode), name: string(name), id: hex.EncodeToString(rest[:20])}) {
			return nil
		}
		data = rest[20:]
	}
	return nil
}

func findEntry(data []byte, name string) (found treeEntry, ok bool, err error) {
	err = eachEntry(data, func(e treeEntry) bool {
		if e.name == name {
			found, ok = e, true
		}
		return !ok
	})
	return found, ok, err
}

// commit is a commit object with its parents.
type commit struct {
	sallyport.Commit
	parents []string
}

// parseCommit reads a commit object: header lines, an empty line, the message.
func parseCommit(id string, data []byte) (commit, error) {
	c := commit{Commit: sallyport.Commit{ID: id}}
	head, message, _ := bytes.Cut(data, []byte("\n\n"))
	for line := range strings.SplitSeq(string(head), "\n") {
		key, value, _ := strings.Cut(line, " ") // a continued line has an empty key
		switch key {
		case "tree":
			c.Tree = value
		case "parent":
			if !validCommit(value) {
				return c, errors.New("malformed parent of commit")
			}
			c.parents = append(c.parents, value)
		case "author":
			c.Author, c.Email, c.Timestamp = parseAuthor(value)
		}
	}
	if !validCommit(c.Tree) {
		return c, errors.New("malformed commit object")
	}
	c.Message = text(string(message))
	c.Subject, _, _ = strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return c, nil
}

// parseAuthor reads "NAME <EMAIL> SECONDS ZONE". What is malformed is left empty.
func parseAuthor(s string) (name, email, when string) {
	name, rest, _ := strings.Cut(s, "<")
	email, rest, _ = strings.Cut(rest, ">")
	name, email = text(strings.TrimSpace(name)), text(strings.TrimSpace(email))
	f := strings.Fields(rest)
	if len(f) != 2 {
		return name, email, ""
	}
	seconds, err := strconv.ParseInt(f[0], 10, 64)
	zone, zoneErr := strconv.Atoi(f[1])
	const year9999 = 253402300799 // RFC 3339 has four digits
	if err != nil || zoneErr != nil || seconds < 0 || seconds > year9999-86400 || zone <= -2400 || zone >= 2400 {
		return name, email, ""
	}
	offset := (zone/100*60 + zone%100) * 60
	return name, email, time.Unix(seconds, 0).In(time.FixedZone("", offset)).Format(time.RFC3339)
}

// text makes bytes of unknown encoding fit for JSON and for a database.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
