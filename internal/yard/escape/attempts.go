package escape

import (
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempt is one thing that a job must not be able to do.
type attempt struct {
	group, name string
	// do tries it and returns the outcome: an errno's name, a word, or done. It runs on a thread
	// of its own.
	do func(c *told) string
	// held are the outcomes by which it was refused.
	held []string
	// sentry are further ones where the room has a kernel of its own (level strong).
	sentry []string
}

// list is every attempt. Names are unique.
func list() []attempt {
	return slices.Concat(fileAttempts(), processAttempts(), kernelAttempts(), networkAttempts(), limitAttempts())
}

var (
	perm        = []string{"EPERM"}
	permOrNoSys = []string{"EPERM", "ENOSYS"}
	noEnt       = []string{"ENOENT"}
	closed      = []string{"EACCES", "EPERM"}
	readOnly    = []string{"EROFS", "EACCES", "EPERM"}
	noSys       = []string{"ENOSYS", "EPERM", "EINVAL", "ENOENT", "ENOTSUP"} // of a sentry that does not know the call
)

// tries makes an attempt of a call that may fail.
func tries(f func() error) func(*told) string {
	return func(*told) string { return named(f()) }
}

func call(trap uintptr, args ...uintptr) func() error {
	var a [6]uintptr
	copy(a[:], args)
	return func() error {
		if _, _, errno := unix.Syscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

// onPath makes a system call that takes a path somewhere among its arguments.
func onPath(path string, f func(path uintptr) error) func() error {
	return func() error {
		b, err := unix.BytePtrFromString(path)
		if err != nil {
			return err
		}
		err = f(uintptr(unsafe.Pointer(b)))
		runtime.KeepAlive(b)
		return err
	}
}

func open(path string, flags int) func() error {
	return func() error {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// reads tells whether a file of the kernel says anything; a masked one is empty.
func reads(path string) func(*told) string {
	return func(*told) string {
		f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return named(err)
		}
		defer f.Close()
		if n, _ := f.Read(make([]byte, 16)); n == 0 {
			return "empty"
		}
		return done
	}
}

// writes tells whether a file of the kernel could be written; a masked one is /dev/null.
func writes(path string) func(*told) string {
	return func(*told) string {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return named(err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) {
			return "masked"
		}
		return named(open(path, unix.O_WRONLY)())
	}
}

func socket(family, kind, proto int) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, proto)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}
