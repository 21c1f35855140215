package runner

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// What lies beneath the work directory is found and read from outside of the room, through
// os.Root. The rest of a room is nobody's but its own: there find and tar do it, inside of the
// room, and what they say is as foreign as all that a job says.

// gather finds the files that the path input of an upload selects, wherever in the room they are.
func (s *step) gather(ctx context.Context, lines []string, hidden bool) (*found, error) {
	l := s.job.layout
	globs, err := l.readGlobs(lines, roomPlace)
	if err != nil {
		return nil, err
	}
	out := &found{inRoom: true, searches: searchPaths(globs)}
	if !slices.ContainsFunc(out.searches, func(p string) bool { _, ok := l.inWork("/" + p); return !ok }) {
		return l.find(lines, hidden)
	}
	var from []string
	for _, p := range out.searches {
		from = append(from, "/"+p)
	}
	selects := func(name string) bool { return selected(globs, name) && (hidden || !out.hides(name)) }
	if out.files, err = s.listRoom(ctx, from, "f", selects); err != nil {
		return nil, err
	}
	links, err := s.listRoom(ctx, from, "l", selects)
	if err != nil {
		return nil, err
	}
	out.nlinks = len(links)
	for _, link := range links[:min(len(links), maxLinksNamed)] {
		out.links = append(out.links, "/"+link)
	}
	return out, nil
}

// roomPlace places a path input relative to the root of the room.
func roomPlace(line, full string) (string, error) {
	first, _, _ := strings.Cut(full[1:], "/")
	if first == "" || strings.ContainsAny(first, "*?[") || slices.Contains([]string{"proc", "sys", "dev"}, first) {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "%.200q cannot be uploaded", line).WithHint("name the directory that the files are in")
	}
	if hasNUL(full) {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "the path %.200q has a zero byte", line)
	}
	return full[1:], nil
}

// hides reports whether a file, or a directory between it and where the search for it began, is hidden.
func (f *found) hides(name string) bool {
	for _, search := range f.searches {
		if name != search && !strings.HasPrefix(name, search+"/") {
			continue
		}
		below := strings.TrimPrefix(name[len(path.Dir(search)):], "/")
		return strings.HasPrefix(below, ".") || strings.Contains(below, "/.")
	}
	return false
}

// packInRoom has the room pack the files, and writes what comes out as the tar of an artifact.
func (s *step) packInRoom(ctx context.Context, w io.Writer, f *found) error {
	root := f.root()
	wanted := make(map[string]bool, len(f.files))
	for _, name := range f.files {
		wanted[name] = true
	}
	fromTar, tarOut := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := s.tarRoom(ctx, tarOut, f.files)
		_ = tarOut.CloseWithError(err)
		ended <- err
	}()
	_, err := filter(w, fromTar, func(name string) (string, error) {
		if !wanted[name] { // each once, and nothing else
			return "", sallyport.Errorf(sallyport.CodeInvalid, "tar packed %.200q, which it was not asked for", name)
		}
		delete(wanted, name)
		return relativeTo(root, name), nil
	})
	if err == nil {
		_, err = io.Copy(io.Discard, fromTar)
	}
	_ = fromTar.CloseWithError(io.ErrClosedPipe)
	if tarErr := <-ended; err == nil {
		err = tarErr
	}
	return err
}

// tarRoom has the room pack what the names, relative to its root, stand for.
func (s *step) tarRoom(ctx context.Context, w io.Writer, names []string) error {
	return s.toolIn(ctx, s.job.room, sallyport.ExecSpec{
		Argv: []string{"tar", "--create", "--file=-", "--directory=/", "--format=posix", "--no-recursion", "--hard-dereference",
			"--null", "--verbatim-files-from", "--files-from=-"},
		Stdin: strings.NewReader(strings.Join(names, "\x00") + "\x00"), Stdout: w,
	})
}

// listRoom returns what the room has at and beneath absolute paths of what is selected, relative to
// its root and sorted; of one kind, as find names it, or of every kind.
func (s *step) listRoom(ctx context.Context, at []string, kind string, selects func(name string) bool) ([]string, error) {
	found := lister{selects: selects}
	script := `kind=$1; shift
for p do
	if [ -e "$p" ] || [ -L "$p" ]; then find "$p" ${kind:+-type $kind} -print0 || exit; fi
done`
	err := s.toolIn(ctx, s.job.room, sallyport.ExecSpec{Argv: append([]string{"sh", "-c", script, "sh", kind}, at...), Stdout: &found})
	if found.err != nil {
		return nil, found.err
	}
	if err != nil {
		return nil, fmt.Errorf("look at the paths: %w", err)
	}
	slices.Sort(found.names)
	return found.names, nil
}

// lister takes the NUL-terminated names that find prints and keeps those that are
// selected, relative to the root.
type lister struct {
	selects func(name string) bool
	names   []string
	part    []byte
	seen    int
	err     error
}

func (f *lister) Write(b []byte) (int, error) {
	n := len(b)
	for f.err == nil {
		name, rest, whole := bytes.Cut(b, []byte{0})
		if len(f.part)+len(name) > maxArchiveName+1 {
			f.err = sallyport.Errorf(sallyport.CodeInvalid, "the path %.80q… is longer than %d bytes", f.part, maxArchiveName)
			break
		}
		f.part = append(f.part, name...)
		if !whole {
			break
		}
		f.add(strings.TrimPrefix(string(f.part), "/"))
		f.part, b = f.part[:0], rest
	}
	return n, nil
}

func (f *lister) add(name string) {
	if f.seen++; f.seen > maxWalk {
		f.err = sallyport.Errorf(sallyport.CodeInvalid, "more than %d files were looked at", maxWalk).WithHint("name smaller directories")
		return
	}
	if f.selects(name) {
		f.names = append(f.names, name)
	}
}
