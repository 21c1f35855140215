package trace

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// maxPrograms is how many programs are kept one by one; a build of a large project runs
	// a few hundred.
	maxPrograms = 2000
	// maxArguments is how many different arguments are kept of each.
	maxArguments = 16
	// maxUnread bounds the programs that wait to be read, each an open file.
	maxUnread = 256
	// maxProgramSize bounds what is read of one program.
	maxProgramSize = 1 << 30
	// maxProgramBytes bounds what is read of all programs of a job: it takes seconds, after the
	// job's end if need be. A toolchain has a few hundred MiB.
	maxProgramBytes = 4 << 30
	// maxDigests bounds what a runner remembers; it then begins anew.
	maxDigests = 1 << 14
)

// Digests remembers the digests of programs that no job could have written, from
// one job to the next: those of the host and of unpacked images are read once. It may be used
// by several jobs at a time.
type Digests struct {
	mu   sync.Mutex
	seen map[identity]sallyport.Digest
}

// identity tells files apart, and versions of them: the change time is the kernel's, and a
// job cannot set it.
type identity struct {
	dev, ino         uint64
	size             int64
	modified, change unix.Timespec
}

func identify(st *unix.Stat_t) identity {
	return identity{dev: st.Dev, ino: st.Ino, size: st.Size, modified: st.Mtim, change: st.Ctim}
}

func (d *Digests) get(id identity) (sallyport.Digest, bool) {
	id.dev = 0 // each room shows the same file on a device of its own
	d.mu.Lock()
	defer d.mu.Unlock()
	digest, ok := d.seen[id]
	return digest, ok
}

func (d *Digests) put(id identity, digest sallyport.Digest) {
	id.dev = 0
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil || len(d.seen) >= maxDigests {
		d.seen = map[identity]sallyport.Digest{}
	}
	d.seen[id] = digest
}

// programs collects the starts of a job.
type programs struct {
	step    func() int
	digests *Digests
	since   unix.Timespec // files that changed later may be the job's own

	mu     sync.Mutex
	list   map[programKey]*sallyport.Program
	starts int
	lost   int
	over   bool

	unread chan unreadProgram
	reader sync.WaitGroup
}

type programKey struct {
	path string
	file identity // zero when the file could not be looked at
}

type unreadProgram struct {
	file    *os.File
	id      identity
	program *sallyport.Program
}

func newPrograms(step func() int, digests *Digests) *programs {
	p := &programs{step: step, digests: digests, list: map[programKey]*sallyport.Program{}, unread: make(chan unreadProgram, maxUnread)}
	_ = unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &p.since) // the clock that file systems use; cannot fail
	p.reader.Go(p.read)
	return p
}

// started notes one start; the room waits for it.
func (p *programs) started(s sallyport.ProgramStart) {
	var st unix.Stat_t
	key := programKey{path: cut(s.Path)}
	if s.File != nil {
		if err := unix.Fstat(int(s.File.Fd()), &st); err == nil {
			key.file = identify(&st)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		closeFile(s.File)
		return
	}
	p.starts++
	prog, known := p.list[key]
	if !known {
		if len(p.list) >= maxPrograms {
			p.lost++
			closeFile(s.File)
			return
		}
		prog = &sallyport.Program{Path: key.path}
		p.list[key] = prog
	}
	prog.Starts++
	if step := p.step(); !slices.Contains(prog.Steps, step) {
		prog.Steps = append(prog.Steps, step)
	}
	if len(prog.Arguments) < maxArguments && !slices.Contains(prog.Arguments, s.Arguments) {
		prog.Arguments = append(prog.Arguments, s.Arguments)
	}
	if known || s.File == nil {
		closeFile(s.File)
		return
	}
	if digest, ok := p.digests.get(key.file); ok {
		prog.Digest = digest
		s.File.Close()
		return
	}
	select {
	case p.unread <- unreadProgram{s.File, key.file, prog}:
	default: // more new programs than can be read: this one goes without a digest
		s.File.Close()
	}
}

// read takes the digests of programs, away from the room that waits for none of it.
func (p *programs) read() {
	left := int64(maxProgramBytes)
	for u := range p.unread {
		if left -= u.id.size; left < 0 { // it goes without a digest
			u.file.Close()
			continue
		}
		digest, err := digestOf(u.file, u.id)
		u.file.Close()
		if err != nil {
			continue
		}
		if before(u.id.change, p.since) { // long before this job, and so not by it
			p.digests.put(u.id, digest)
		}
		p.mu.Lock()
		u.program.Digest = digest
		p.mu.Unlock()
	}
}

// digestOf reads a file that must not change meanwhile.
func digestOf(f *os.File, id identity) (sallyport.Digest, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, maxProgramSize)); err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	// Its change time may differ: programs are often removed while they run.
	if now := identify(&st); now.size != id.size || now.modified != id.modified || st.Size > maxProgramSize {
		return "", unix.ESTALE
	}
	return sallyport.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))), nil
}

// finish waits for the digests and returns what ran.
func (p *programs) finish() (list []sallyport.Program, starts, lost int) {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	close(p.unread)
	p.reader.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	merged := map[[2]string]*sallyport.Program{} // a program that was written anew with the same content is the same
	for _, prog := range p.list {
		key := [2]string{prog.Path, string(prog.Digest)}
		m := merged[key]
		if m == nil {
			merged[key] = prog
			continue
		}
		m.Starts += prog.Starts
		m.Steps = append(m.Steps, prog.Steps...)
		m.Arguments = append(m.Arguments, prog.Arguments...)
	}
	for _, m := range merged {
		slices.Sort(m.Steps)
		m.Steps = slices.Compact(m.Steps)
		var args []sallyport.Digest
		for _, a := range m.Arguments {
			if !slices.Contains(args, a) && len(args) < maxArguments {
				args = append(args, a)
			}
		}
		m.Arguments = args
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b sallyport.Program) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(string(a.Digest), string(b.Digest))
	})
	return list, p.starts, p.lost
}

// maxPath bounds a path in the record, which a job may make as long as it likes.
const maxPath = 1024

func cut(path string) string {
	path = strings.ToValidUTF8(path, "\uFFFD")
	if len(path) > maxPath {
		path = strings.ToValidUTF8(path[:maxPath], "") + "…"
	}
	return path
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

func before(a, b unix.Timespec) bool {
	return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec
}
