package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// Bounds of what is read from a process that starts a program. The kernel takes
// more; what is beyond is left out of the digest, whose last argument then tells so.
const (
	maxStartPath = 4096     // PATH_MAX
	maxStartArgs = 16 << 10 // arguments; a linker's run to thousands
	maxStartText = 1 << 20  // bytes of them
)

// starts tells of every program that a room starts. Each start waits until it was
// looked at, so that looking must be quick and must never wait for the room.
type starts struct {
	listener *os.File
	tell     func(sallyport.ProgramStart)
	log      *slog.Logger
	done     chan struct{}
}

// watchStarts serves the listener that the room's init has handed out. What it handed out
// came before anything foreign ran; it is looked at all the same.
func watchStarts(listener *os.File, tell func(sallyport.ProgramStart), log *slog.Logger) (*starts, error) {
	name, err := os.Readlink(procFD(listener))
	if err != nil || name != "anon_inode:seccomp notify" {
		return nil, fmt.Errorf("the room's init handed out %.40q in place of a listener", name)
	}
	if err := unix.SetNonblock(int(listener.Fd()), true); err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(listener.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// Made anew from a descriptor that does not block, so that the runtime waits for it without a thread.
	s := &starts{listener: os.NewFile(uintptr(fd), "starts"), tell: tell, log: log, done: make(chan struct{})}
	go s.serve()
	return s, nil
}

// close ends the watch. Programs that start afterwards cannot: the room must be dead.
func (s *starts) close() {
	s.listener.Close()
	<-s.done
}

// serve answers until the listener is closed or all processes of the room are gone.
func (s *starts) serve() {
	defer close(s.done)
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return
	}
	for {
		var n notification
		gone := false
		err := raw.Read(func(fd uintptr) bool {
			ready, hup := readable(int(fd))
			if gone = hup; hup {
				return true
			}
			if !ready {
				return false
			}
			n = notification{}
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
				n.id = 0 // ENOENT: whoever asked was killed meanwhile
			}
			return true
		})
		if err != nil || gone {
			return
		}
		if n.id != 0 {
			s.answer(n)
		}
	}
}

// readable asks without waiting; hup says that nobody is left who could ask.
func readable(fd int) (ready, hup bool) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	if err != nil || n == 0 {
		return false, false
	}
	return p[0].Revents&unix.POLLIN != 0, p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 && p[0].Revents&unix.POLLIN == 0
}

// notification is struct seccomp_notif with its struct seccomp_data, seccomp(2).
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// reply is struct seccomp_notif_resp.
type reply struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// answer looks at a start and lets it go on.
func (s *starts) answer(n notification) {
	start, seen := look(n)
	// Only if the process is still the one that asks is what was read its own.
	_, _, stale := unix.Syscall(unix.SYS_IOCTL, s.listener.Fd(), unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&n.id)))
	r := reply{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if seen && stale == 0 {
		s.tell(start)
	} else if start.File != nil {
		start.File.Close()
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, s.listener.Fd(), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	if errno != 0 && errno != unix.ENOENT { // ENOENT: it was killed
		s.log.Warn("a program's start could not be answered", "error", errno)
	}
}

// look finds out which program a process is about to become. It reports false for what
// will not start: search paths are tried by starting.
func look(n notification) (sallyport.ProgramStart, bool) {
	at, name, argv := n.args[0], n.args[0], n.args[1]
	dirfd, flags := int32(unix.AT_FDCWD), uint64(0)
	if isExecveat(n) {
		dirfd, name, argv, flags = int32(at), n.args[1], n.args[2], n.args[4]
	}
	pid := int(n.pid)
	file, err := readText(pid, name, maxStartPath)
	if err != nil { // memory that the kernel reads and we may not; or none, and then nothing starts
		return sallyport.ProgramStart{Path: unreadName, Arguments: argumentsDigest(pid, argv, pointerSize(n.arch))}, true
	}
	start := sallyport.ProgramStart{Arguments: argumentsDigest(pid, argv, pointerSize(n.arch))}
	start.Path, start.File, err = openProgram(pid, dirfd, file, flags)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES) {
		return start, elsewhere(pid, file)
	}
	return start, true
}

// unreadName is the path of a program whose name could not be read.
const unreadName = "(unread)"

// elsewhere tells whether a name that leads nowhere for us may lead somewhere for the process: /proc
// shows each process itself, and relative names begin where it is. What is left is what shells try on their
// way through PATH.
func elsewhere(pid int, name string) bool {
	if !path.IsAbs(name) || name == "/proc" || strings.HasPrefix(path.Clean(name), "/proc/") {
		return true
	}
	for _, linked := range []string{"/bin/", "/sbin/"} { // links themselves where /usr is merged
		if strings.HasPrefix(name, linked) {
			return false
		}
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS})
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.ELOOP)
}

func isExecveat(n notification) bool {
	switch n.arch {
	case unix.AUDIT_ARCH_X86_64:
		return n.nr == 322 || n.nr == pidone.X32|545
	case unix.AUDIT_ARCH_I386:
		return n.nr == 358
	case unix.AUDIT_ARCH_AARCH64:
		return n.nr == 281
	}
	return n.nr == 387 // 32-bit ARM
}

func pointerSize(arch uint32) int {
	if arch == unix.AUDIT_ARCH_I386 || arch == unix.AUDIT_ARCH_ARM {
		return 4
	}
	return 8
}

// openProgram opens the file that execve or execveat names, as the process sees it: from
// its own root and working directory, along no link out of them. It opens nothing but a regular
// file, which nobody can make it wait at.
func openProgram(pid int, dirfd int32, name string, flags uint64) (string, *os.File, error) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	if name == "" {
		if flags&unix.AT_EMPTY_PATH == 0 {
			return "", nil, unix.ENOENT
		}
		return openLink(fmt.Sprintf("%sfd/%d", proc, dirfd)) // a program that may have no name
	}
	if !path.IsAbs(name) {
		from := proc + "cwd"
		if dirfd != unix.AT_FDCWD {
			from = fmt.Sprintf("%sfd/%d", proc, dirfd)
		}
		dir, err := os.Readlink(from)
		if err != nil || !path.IsAbs(dir) {
			return "", nil, unix.ESRCH
		}
		name = dir + "/" + name // not cleaned: the kernel goes through links before ".."
	}
	if name == "/proc/self/exe" { // programs that start themselves again
		return openLink(proc + "exe")
	}
	root, err := unix.Open(proc+"root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return name, nil, unix.ESRCH
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return name, nil, err
	}
	defer unix.Close(fd)
	seen, f, err := openLink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return name, nil, err
	}
	return seen, f, nil
}

// openLink opens what a link of /proc leads to, if it is a regular file that may be started.
func openLink(link string) (string, *os.File, error) {
	name, err := os.Readlink(link)
	if err != nil {
		return "", nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(link, &st); err != nil {
		return name, nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return name, nil, unix.EACCES
	}
	fd, err := unix.Open(link, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return name, nil, unix.ESRCH // a file that we may not read is a program all the same
	}
	return name, os.NewFile(uintptr(fd), name), nil
}

// argumentsDigest is the SHA-256 of a process's arguments, each ended by a NUL. What cannot
// be read any more, or is beyond what is read, stands as one last argument that no program can be given.
func argumentsDigest(pid int, list uint64, pointer int) sallyport.Digest {
	h := sha256.New()
	total := 0
	page := make([]byte, 512*pointer)
	for i := 0; list != 0 && i < maxStartArgs; {
		n, err := readMemory(pid, list+uint64(i*pointer), page)
		if n < pointer || err != nil && n == 0 {
			h.Write([]byte("unread\x00\x00"))
			break
		}
		for at := 0; at+pointer <= n && i < maxStartArgs; at, i = at+pointer, i+1 {
			address := binary.NativeEndian.Uint64(append(page[at:at+pointer:at+pointer], make([]byte, 8-pointer)...))
			if address == 0 {
				return sallyport.Digest("sha256:" + fmt.Sprintf("%x", h.Sum(nil)))
			}
			text, err := readText(pid, address, maxStartText-total)
			if err != nil {
				h.Write([]byte("unread\x00\x00"))
				return sallyport.Digest("sha256:" + fmt.Sprintf("%x", h.Sum(nil)))
			}
			total += len(text)
			h.Write(append([]byte(text), 0))
		}
	}
	return sallyport.Digest("sha256:" + fmt.Sprintf("%x", h.Sum(nil)))
}

// readText reads a string that ends with a NUL, of at most limit bytes.
func readText(pid int, address uint64, limit int) (string, error) {
	var text strings.Builder
	buf := make([]byte, 256)
	for text.Len() < limit {
		// To the next page's border at most: what lies beyond need not be there.
		want := min(len(buf), int(4096-address%4096))
		n, err := readMemory(pid, address, buf[:want])
		if err != nil || n == 0 {
			return "", errors.Join(err, unix.EFAULT)
		}
		if end := bytes.IndexByte(buf[:n], 0); end >= 0 {
			text.Write(buf[:end])
			return text.String(), nil
		}
		text.Write(buf[:n])
		address += uint64(n)
		buf = buf[:cap(buf)]
		if len(buf) < 4096 {
			buf = make([]byte, 4096)
		}
	}
	return "", unix.E2BIG
}

// readMemory reads from another process, whose memory may have gone.
func readMemory(pid int, address uint64, into []byte) (int, error) {
	local := []unix.Iovec{{Base: &into[0]}}
	local[0].SetLen(len(into))
	return unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: len(into)}}, 0)
}

// tellOfStarts begins to tell of the room's programs; files are what init handed out.
func (r *Room) tellOfStarts(spec sallyport.RoomSpec, files []*os.File) (err error) {
	switch {
	case spec.Started == nil && len(files) == 0:
		return nil
	case spec.Started == nil || len(files) > 1:
		return errors.New("the room's init handed out files that nobody asked for")
	case len(files) == 0:
		r.isolation.NotEnforced = append(r.isolation.NotEnforced, sallyport.Gap{
			What: "program-starts", Why: "this kernel has no listener for them: that needs Linux 5.7 and seccomp"})
		return nil
	}
	r.starts, err = watchStarts(files[0], spec.Started, r.s.log)
	return err
}
