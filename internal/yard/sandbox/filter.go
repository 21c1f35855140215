package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// The filter of system calls is the same for every room, but the runtime compiles it anew
// for each, which is a quarter of a room's start. So the first room of a process gets it from
// the runtime; from there the kernel's own copy of the compiled filter is read, and further rooms get that
// from their init, which installs it before it says hello. Where it cannot be read (no root,
// a runner under a filter itself, a kernel without CONFIG_CHECKPOINT_RESTORE), the runtime goes on compiling.

// filters keeps the compiled filter.
type filters struct {
	mu      sync.Mutex
	tried   bool
	program []byte // in the kernel's form; nil when there is none
}

// get returns the compiled filter, nil when the runtime must compile one.
func (f *filters) get() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.program
}

// learn reads the filter that the runtime gave to a room's init, once.
func (f *filters) learn(init int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tried {
		return nil
	}
	f.tried = true
	if err := filtered(init, 1); err != nil { // or it could not be checked afterwards
		return err
	}
	type result struct {
		program []byte
		err     error
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // who traces is a thread; it ends with this
		program, err := readFilter(init)
		got <- result{program, err}
	}()
	r := <-got
	f.program = r.program
	return r.err
}

// readFilter reads the oldest filter of a process, ptrace(2).
func readFilter(pid int) ([]byte, error) {
	if err := unix.PtraceSeize(pid); err != nil {
		return nil, fmt.Errorf("trace the room's init: %w", err)
	}
	defer func() { _ = unix.PtraceDetach(pid) }() // it may have ended
	if err := unix.PtraceInterrupt(pid); err != nil {
		return nil, fmt.Errorf("stop the room's init: %w", err)
	}
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			return nil, errors.Join(errors.New("the room's init does not stop"), err)
		}
		break
	}
	buf := make([]byte, pidone.MaxFilter*pidone.FilterSize)
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), 0, uintptr(unsafe.Pointer(&buf[0])), 0, 0)
	if errno != 0 {
		return nil, fmt.Errorf("read the filter of system calls: %w", errno)
	}
	if n == 0 || int(n) > pidone.MaxFilter {
		return nil, fmt.Errorf("a filter of %d instructions", n)
	}
	return buf[:int(n)*pidone.FilterSize], nil
}

// filtered asks the kernel whether a process has as many filters as it must have.
func filtered(pid, want int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return fmt.Errorf("look at the room's init: %w", err)
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("Seccomp_filters:")); ok {
			if n, err := strconv.Atoi(string(bytes.TrimSpace(rest))); err != nil || n < want {
				return fmt.Errorf("the room's init has %d filters of system calls, not %d", n, want)
			}
			return nil
		}
	}
	return errors.New("the kernel does not tell of filters of system calls")
}
