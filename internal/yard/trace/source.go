package trace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// maxChanges is how many changed files are kept one by one.
	maxChanges = 1000
	// maxCompare bounds the bytes that are read again in one comparison; files beyond count
	// as modified without having been read.
	maxCompare = 4 << 30
)

// How a file is not what was checked out.
const (
	modified = "modified"
	deleted  = "deleted"
	replaced = "replaced" // by a directory, a link, a special file, or with another mode

	// Restored is a file that was changed, and changed back before it was compared.
	Restored = "restored"
)

// source is what a job has checked out, and what has become of it.
type source struct {
	dir    *os.File  // the repository's work tree, opened from outside the room
	place  [2]uint64 // its device and inode
	commit string
	tree   string
	idSize int
	files  []tracked
	watch  *watch // nil where there is none

	changes map[string]*sallyport.SourceChange
	lost    int
	checked time.Time
}

// openSource reads what was checked out into dir, which becomes the source's.
func openSource(dir *os.File, commit string, w *watch) (*source, error) {
	s := &source{dir: dir, commit: commit, idSize: len(commit) / 2, watch: w, changes: map[string]*sallyport.SourceChange{}}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, fmt.Errorf("read what was checked out: %w", err)
	}
	s.place = [2]uint64{st.Dev, st.Ino}
	f, err := s.open(".git/index", unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("read what was checked out: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("read what was checked out: %w", err)
	}
	if len(b) > maxIndex {
		return nil, fmt.Errorf("git index: more than %d MiB", maxIndex>>20)
	}
	if s.files, err = parseIndex(b, s.idSize); err != nil {
		return nil, err
	}
	s.tree = treeID(s.files, s.idSize)
	if w != nil {
		w.follow(s)
	}
	return s, nil
}

// open opens a path beneath the work tree along no link.
func (s *source) open(name string, flags uint64) (*os.File, error) {
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NONBLOCK // a FIFO must not make us wait
	}
	fd, err := unix.Openat2(int(s.dir.Fd()), name, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// compare looks at every tracked file. Those whose times, size or inode are not as they
// were are read again. What is found is attributed to the step, and to the artifact if it is the first made since.
func (s *source) compare(step int, artifact string, now time.Time) {
	budget := int64(maxCompare)
	for i := range s.files {
		t := &s.files[i]
		if t.skip || t.mode == modeSubmodule {
			continue
		}
		if how := s.state(t, &budget); how != "" {
			s.note(t.path, how, step)
		} else if c := s.changes[t.path]; c != nil && c.Artifact == "" {
			c.How = Restored
		}
	}
	if artifact != "" {
		for _, c := range s.changes {
			if c.Artifact == "" {
				c.Artifact = cut(artifact)
			}
		}
	}
	s.checked = now
}

// state tells how a file differs from what was checked out; "" when it does not. Its change
// time cannot be set back, so that one which was written to is Restored at best where no watch heard
// what was written.
func (s *source) state(t *tracked, budget *int64) string {
	f, err := s.open(t.path, unix.O_PATH)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return deleted
	case errors.Is(err, unix.ELOOP) && t.mode == modeLink: // O_PATH|O_NOFOLLOW opens a link; a link on the way does not
		return replaced
	case err != nil:
		return replaced
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return replaced
	}
	if gitMode(st.Mode) != t.mode {
		return replaced
	}
	if t.same(&st) {
		return ""
	}
	if st.Size > *budget {
		return modified
	}
	*budget -= st.Size
	id, err := s.blobID(t, f, st.Size)
	if err != nil || id != t.id {
		return modified
	}
	// The same content with other times: it need not be read again next time.
	t.changed, t.modified = [2]uint32{uint32(st.Ctim.Sec), uint32(st.Ctim.Nsec)}, [2]uint32{uint32(st.Mtim.Sec), uint32(st.Mtim.Nsec)}
	t.inode, t.size = uint32(st.Ino), uint32(st.Size)
	if s.watch == nil || s.watch.deaf {
		return Restored // nobody would have heard of another content: the times alone tell of it
	}
	return ""
}

// same tells whether a file is untouched since git wrote it.
func (t *tracked) same(st *unix.Stat_t) bool {
	at := func(kept [2]uint32, now unix.Timespec) bool { // some builds of git keep seconds only
		return kept[0] == uint32(now.Sec) && (kept[1] == 0 || kept[1] == uint32(now.Nsec))
	}
	return at(t.changed, st.Ctim) && at(t.modified, st.Mtim) && t.inode == uint32(st.Ino) && t.size == uint32(st.Size)
}

// gitMode is the mode under which git keeps a file; 0 for what it does not.
func gitMode(mode uint32) uint32 {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		if mode&0o100 != 0 {
			return 0o100755
		}
		return 0o100644
	case unix.S_IFLNK:
		return modeLink
	}
	return 0
}

// blobID is the id that git would give to the content of a file or link. Content that git
// converts while it writes it, such as line ends, gets another.
func (s *source) blobID(t *tracked, at *os.File, size int64) (string, error) {
	h := newHash(s.idSize)
	fmt.Fprintf(h, "blob %d\x00", size)
	if t.mode == modeLink {
		buf := make([]byte, maxPathBytes)
		n, err := unix.Readlinkat(int(at.Fd()), "", buf)
		if err != nil {
			return "", err
		}
		h.Write(buf[:n])
		return string(h.Sum(nil)), nil
	}
	f, err := s.open(t.path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if n, err := io.Copy(h, io.LimitReader(f, size+1)); err != nil || n != size {
		return "", errors.Join(err, unix.ESTALE)
	}
	return string(h.Sum(nil)), nil
}

// touched notes that a file, or all beneath a directory, was written to, moved or removed in a step.
// Whether it is now other than it was, the next comparison tells.
func (s *source) touched(name string, dir bool, step int) {
	if !dir {
		if _, found := s.find(name); found {
			s.note(name, Restored, step)
		}
		return
	}
	i, _ := s.find(name + "/")
	for ; i < len(s.files) && strings.HasPrefix(s.files[i].path, name+"/"); i++ {
		s.note(s.files[i].path, Restored, step)
	}
}

func (s *source) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.files, name, func(t tracked, name string) int { return strings.Compare(t.path, name) })
}

// note keeps a change, with the first step in which it was seen. What an artifact was made
// with stays as it was then, whatever becomes of the file.
func (s *source) note(name, how string, step int) {
	c := s.changes[name]
	if c == nil {
		if len(s.changes) >= maxChanges {
			s.lost++
			return
		}
		c = &sallyport.SourceChange{Path: name, Step: step}
		s.changes[name] = c
	}
	switch made := c.Artifact != ""; {
	case made && c.How != Restored:
		return
	case made: // the artifact had the file as it was checked out; this is another story
		c.Step, c.Artifact = step, ""
	}
	if c.How == "" || how != Restored {
		c.How = how
	}
}

// list returns the changes by path.
func (s *source) list() []sallyport.SourceChange {
	var out []sallyport.SourceChange
	for _, c := range s.changes {
		c := *c
		c.Path = cut(c.Path)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b sallyport.SourceChange) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// directories are those that hold tracked files, the root as ".".
func (s *source) directories() []string {
	seen := map[string]bool{".": true}
	list := []string{"."}
	for _, t := range s.files {
		for d := path.Dir(t.path); !seen[d]; d = path.Dir(d) {
			seen[d] = true
			list = append(list, d)
		}
	}
	return list
}

func (s *source) close() { s.dir.Close() }
