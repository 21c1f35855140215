package runner

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// maxWalk bounds the directory entries that one search looks at, maxNesting how
	// deep it goes: a job can make millions of files and chains of directories.
	maxWalk    = 1_000_000
	maxNesting = 200
	// maxPatterns bounds the lines of a path input.
	maxPatterns = 1000
	// maxLinksNamed is how many of the links that were left out are named.
	maxLinksNamed = 5
)

// glob is one line of a path input: a path with *, ?, [ ] and ** in it,
// relative to the work directory or, where files are looked for in the room, to its root.
type glob struct {
	segments []string
	negate   bool
	search   string // the directory or file before the first wildcard
}

// parseGlobs reads the lines of a path input; relative paths begin at the workspace.
func (l *layout) parseGlobs(lines []string) ([]glob, error) {
	return l.readGlobs(lines, func(line, full string) (string, error) {
		rel, ok := l.inWork(full)
		if !ok {
			return "", sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not beneath the workspace or $RUNNER_TEMP", line).
				WithHint("copy what you need into the workspace first")
		}
		return rel, nil
	})
}

// readGlobs reads the lines of a path input. place says what the glob of an absolute path is
// relative to, or why the line is refused; "" leaves it out.
func (l *layout) readGlobs(lines []string, place func(line, full string) (rel string, err error)) ([]glob, error) {
	var out []glob
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if len(out) == maxPatterns {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "more than %d paths", maxPatterns)
		}
		text, negate := line, false
		for strings.HasPrefix(text, "!") {
			text, negate = strings.TrimSpace(text[1:]), !negate
		}
		rel, err := place(line, l.absolute(text))
		if err != nil {
			return nil, err
		}
		if rel == "" {
			continue
		}
		g, err := newGlob(rel, negate)
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not a valid pattern", line)
		}
		out = append(out, g)
	}
	return out, nil
}

// newGlob reads a pattern that is relative and clean.
func newGlob(rel string, negate bool) (glob, error) {
	g := glob{segments: strings.Split(rel, "/"), negate: negate}
	literal := 0
	for literal < len(g.segments) && !strings.ContainsAny(g.segments[literal], "*?[") {
		literal++
	}
	for i, s := range g.segments[literal:] {
		s = strings.ReplaceAll(s, "[!", "[^")
		if _, err := path.Match(s, ""); err != nil {
			return g, err
		}
		g.segments[literal+i] = s
	}
	g.search = path.Join(g.segments[:literal]...)
	if g.search == "" {
		g.search = "."
	}
	return g, nil
}

// match reports whether the pattern stands for the path or a directory above it.
func (g *glob) match(name string) bool {
	if len(g.segments) == 1 && g.segments[0] == "." {
		return true
	}
	return matchSegments(g.segments, strings.Split(name, "/"))
}

// matchSegments matches a pattern against a path or any of its parents. The
// states are kept as a set, so that the cost is bounded by the product of the lengths.
func matchSegments(pattern, name []string) bool {
	states := make([]bool, len(pattern)+1)
	states[0] = true
	skip(pattern, states)
	for _, segment := range name {
		if states[len(pattern)] {
			return true // a directory above matches
		}
		next := make([]bool, len(pattern)+1)
		for i, p := range pattern {
			if !states[i] {
				continue
			}
			if p == "**" {
				next[i] = true
			} else if ok, _ := path.Match(p, segment); ok {
				next[i+1] = true
			}
		}
		skip(pattern, next)
		states = next
	}
	return states[len(pattern)]
}

// skip lets ** stand for no segment at all.
func skip(pattern []string, states []bool) {
	for i, p := range pattern {
		if states[i] && p == "**" {
			states[i+1] = true
		}
	}
}

// found are the regular files that a search found.
type found struct {
	inRoom   bool     // it looked in the room, and paths are relative to its root
	files    []string // relative to the work directory, sorted
	searches []string // where the search began
	links    []string // symbolic links that were passed over, at most a few
	nlinks   int
}

// find returns the regular files beneath the work directory that the patterns select.
func (l *layout) find(patterns []string, hidden bool) (*found, error) {
	globs, err := l.parseGlobs(patterns)
	if err != nil {
		return nil, err
	}
	w := &walker{root: l.workRoot, globs: globs, hidden: hidden}
	if err := w.walk(); err != nil {
		return nil, err
	}
	slices.Sort(w.out.files)
	return &w.out, nil
}

// walk looks for files.
func (w *walker) walk() error {
	w.out.searches = searchPaths(w.globs)
	for _, search := range w.out.searches {
		if !w.hidden && strings.HasPrefix(path.Base(search), ".") && search != "." {
			continue
		}
		info, err := w.root.Lstat(search)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return sallyport.Errorf(sallyport.CodeInvalid, "look for %.200q: %v", search, errors.Unwrap(err))
		}
		if err := w.visit(search, info.Mode().Type(), 0); err != nil {
			return err
		}
	}
	return nil
}

// searchPaths returns where to look: the literal beginnings of the patterns,
// without those that lie beneath another.
func searchPaths(globs []glob) []string {
	var all []string
	for _, g := range globs {
		if !g.negate && !slices.Contains(all, g.search) {
			all = append(all, g.search)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(p string) bool {
		return slices.ContainsFunc(all, func(q string) bool {
			return q != p && (q == "." || strings.HasPrefix(p, q+"/"))
		})
	})
}

// walker finds the regular files that patterns select.
type walker struct {
	root   *os.Root
	globs  []glob
	hidden bool
	links  linkMode
	seen   int
	within []fs.FileInfo // the directories that it is in, if links to them are followed
	out    found
}

// linkMode is what a walker does with symbolic links.
type linkMode uint8

const (
	passLinks   linkMode = iota // over them, naming them
	fileLinks                   // takes those to files for files
	followLinks                 // follows those to directories too
)

func (w *walker) visit(name string, kind fs.FileMode, depth int) error {
	if w.seen++; w.seen > maxWalk {
		return sallyport.Errorf(sallyport.CodeInvalid, "more than %d files were looked at", maxWalk).WithHint("name a smaller directory")
	}
	switch {
	case kind.IsDir():
		return w.dir(name, depth)
	case kind&fs.ModeSymlink != 0:
		if w.links != passLinks {
			return w.link(name, depth)
		}
		if w.selected(name) {
			if w.out.nlinks++; len(w.out.links) < maxLinksNamed {
				w.out.links = append(w.out.links, name)
			}
		}
	case kind.IsRegular():
		if w.selected(name) {
			w.out.files = append(w.out.files, name)
		}
	}
	return nil
}

// link visits what a symbolic link leads to, if that is beneath the root.
func (w *walker) link(name string, depth int) error {
	info, err := w.root.Stat(name)
	switch {
	case err != nil:
		return nil
	case info.IsDir() && w.links == followLinks:
		return w.dir(name, depth)
	case info.Mode().IsRegular() && w.selected(name):
		w.out.files = append(w.out.files, name)
	}
	return nil
}

func (w *walker) dir(name string, depth int) error {
	if depth > maxNesting {
		return sallyport.Errorf(sallyport.CodeInvalid, "directories are nested more than %d deep", maxNesting)
	}
	d, err := w.root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0) // never waits, whatever it is by now
	if err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "open the directory %.200q: %v", name, errors.Unwrap(err))
	}
	defer d.Close()
	if w.links == followLinks {
		here, err := d.Stat()
		if err != nil || slices.ContainsFunc(w.within, func(above fs.FileInfo) bool { return os.SameFile(above, here) }) {
			return err // nil: a link leads back to it
		}
		w.within = append(w.within, here)
		defer func() { w.within = w.within[:len(w.within)-1] }()
	}
	for {
		entries, err := d.ReadDir(1000)
		for _, e := range entries {
			if !w.hidden && strings.HasPrefix(e.Name(), ".") {
				continue
			}
			if err := w.visit(path.Join(name, e.Name()), e.Type(), depth+1); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return sallyport.Errorf(sallyport.CodeInvalid, "read the directory %.200q: %v", name, errors.Unwrap(err))
		}
	}
}

// selected applies the patterns in order: the last one that matches decides.
func (w *walker) selected(name string) bool { return selected(w.globs, name) }

func selected(globs []glob, name string) bool {
	in := false
	for i := range globs {
		if g := &globs[i]; in == g.negate && g.match(name) {
			in = !g.negate
		}
	}
	return in
}
