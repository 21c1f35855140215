package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// tree is a root file system while layers are laid over each other in it. The
// kernel keeps what it does within root; where a symlink leads is worked out as
// a process whose root this is would see it.
type tree struct {
	root    *os.Root
	own     bool // owners are taken over: we are root
	entries int
	bytes   int64
	fresh   map[string]bool // of the layer being laid
	marked  int             // bytes of its names
}

func invalid(format string, args ...any) error {
	return sallyport.Errorf(sallyport.CodeInvalid, "the image cannot be unpacked: "+format, args...)
}

// locate returns the place of a name without symlinks in it but the last part.
func (t *tree) locate(name string) (string, error) {
	name = path.Clean("/" + name)[1:]
	switch {
	case name == "":
		return ".", nil
	case len(name) > maxPath || strings.Count(name, "/") > maxDepth || strings.ContainsRune(name, 0):
		return "", invalid("the name %.100q… is too long, or none", name)
	}
	dir, last := path.Split(name)
	if len(last) > maxName {
		return "", invalid("the name %.100q… is too long", last)
	}
	parent, err := t.follow(strings.Trim(dir, "/"))
	if err != nil {
		return "", err
	}
	place := path.Join(parent, last)
	if len(place) > maxPath || strings.Count(place, "/") > maxDepth { // links may have made it longer
		return "", invalid("the place of %.100q is too long", name)
	}
	return place, nil
}

// follow resolves the symlinks of a directory's path within the root; what does
// not exist is taken as it is.
func (t *tree) follow(dir string) (string, error) {
	at, rest, links := "", dir, 0
	for rest != "" {
		part, more, _ := strings.Cut(rest, "/")
		rest = more
		switch part {
		case "", ".":
			continue
		case "..":
			if at = path.Dir(at); at == "." || at == "/" {
				at = ""
			}
			continue
		}
		if len(part) > maxName {
			return "", invalid("the name %.100q… is too long", part)
		}
		next := path.Join(at, part)
		info, err := t.root.Lstat(next)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", invalid("too many symlinks on the path %.200q", dir)
		}
		to, err := t.root.Readlink(next)
		if err != nil {
			return "", fmt.Errorf("read a symlink of an image: %w", err)
		}
		if path.IsAbs(to) {
			at = ""
		}
		if rest = strings.Trim(to, "/") + "/" + rest; len(rest) > 4*maxPath {
			return "", invalid("the symlinks on the path %.200q are too long", dir)
		}
	}
	return at, nil
}

// parents makes the directories above a place; a file in their way gives way, as
// it does in an overlay.
func (t *tree) parents(place string) error {
	dir := path.Dir(place)
	if dir == "." {
		return nil
	}
	info, err := t.root.Lstat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		if err := t.root.Remove(dir); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := t.parents(dir); err != nil {
		return err
	}
	return t.root.Mkdir(dir, 0o755)
}

// clear removes what is at a place, unless both it and the new thing are directories.
func (t *tree) clear(place string, dir bool) error {
	info, err := t.root.Lstat(place)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case dir && info.IsDir():
		return nil
	case place == ".":
		return invalid("it puts something in the place of its root")
	}
	return t.root.RemoveAll(place)
}

// whiteout removes what lower layers have at a place.
func (t *tree) whiteout(place string) error {
	if t.fresh[place] || place == "." {
		return nil
	}
	return t.root.RemoveAll(place)
}

// opaque removes what lower layers have in a directory.
func (t *tree) opaque(dir string) error {
	f, err := t.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1000)
		for _, n := range names {
			if err := t.clearOld(path.Join(dir, n)); err != nil {
				return err
			}
		}
		if err != nil || len(names) == 0 {
			return nil // io.EOF
		}
	}
}

// clearOld removes a thing of lower layers, and of a directory that this layer
// made or entered what is old in it.
func (t *tree) clearOld(place string) error {
	if !t.fresh[place] {
		return t.root.RemoveAll(place)
	}
	if info, err := t.root.Lstat(place); err == nil && info.IsDir() {
		return t.opaque(place)
	}
	return nil
}

// mark notes that the layer made a place, and the directories above it.
func (t *tree) mark(place string) error {
	for ; place != "." && !t.fresh[place]; place = path.Dir(place) {
		if t.marked += len(place); t.marked > maxMarked {
			return invalid("the names in a layer have more than %d MiB", maxMarked>>20)
		}
		t.fresh[place] = true
	}
	return nil
}

// dress gives a thing its owner, mode and time.
func (t *tree) dress(place string, mode fs.FileMode, uid, gid int, at time.Time, link bool) error {
	if t.own {
		if err := t.root.Lchown(place, within(uid), within(gid)); err != nil {
			return err
		}
	}
	if link {
		return nil
	}
	perm := mode.Perm() | mode&fs.ModeSticky // no set-id bit
	if !t.own {
		perm |= 0o600 // all is ours, and must stay readable
		if mode.IsDir() {
			perm |= 0o700
		}
	}
	if err := t.root.Chmod(place, perm); err != nil {
		return err
	}
	if err := t.root.Chtimes(place, at, at); err != nil && !errors.Is(err, unix.EINVAL) { // a time that no file can have
		return err
	}
	return nil
}

// within keeps an owner within the ids that a room has.
func within(id int) int {
	if id < 0 || id > maxID {
		return 65534 // nobody
	}
	return id
}
