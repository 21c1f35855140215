package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls that start a program, by architecture of the caller as seccomp(2) tells
// it. Where a kernel runs programs of a second architecture too, both are listed.
type callers struct {
	arch  uint32
	calls []uint32
}

// x32 is the bit that marks system calls of the x32 ABI, which come as x86-64's.
const x32 = 0x40000000

func startCalls() ([]callers, error) {
	switch runtime.GOARCH {
	case "amd64":
		return []callers{
			{unix.AUDIT_ARCH_X86_64, []uint32{59, 322, x32 | 520, x32 | 545}},
			{unix.AUDIT_ARCH_I386, []uint32{11, 358}},
		}, nil
	case "arm64":
		return []callers{
			{unix.AUDIT_ARCH_AARCH64, []uint32{221, 281}},
			{unix.AUDIT_ARCH_ARM, []uint32{11, 387}},
		}, nil
	}
	return nil, fmt.Errorf("program starts are not recorded on %s", runtime.GOARCH)
}

// Offsets in struct seccomp_data.
const (
	dataNumber = 0
	dataArch   = 4
)

// startFilter is a program that stops every start of a program until the listener has
// answered, and lets everything else be.
func startFilter(list []callers) []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	give := func(what uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what} }
	equal := func(k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
	}
	p := []unix.SockFilter{load(dataArch)}
	for _, c := range list {
		// One load, the comparisons and two ends belong to an architecture.
		p = append(p, equal(c.arch, 0, len(c.calls)+3), load(dataNumber))
		for i, call := range c.calls {
			p = append(p, equal(call, len(c.calls)-i, 0))
		}
		p = append(p, give(unix.SECCOMP_RET_ALLOW), give(unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(p, give(unix.SECCOMP_RET_ALLOW))
}

// listenToStarts has every start of a program by this process's descendants announced
// on the file that it returns. It must be called before any of them is there. The kernel allows
// one listener only in a line of filters, so that no program of the room can put one of its own
// in our place; and it lets nobody take a filter away.
func listenToStarts() (*os.File, error) {
	calls, err := startCalls()
	if err != nil {
		return nil, err
	}
	filter := startFilter(calls)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const threads = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	// With the last one signals do not make a program ask again; older kernels do not know it.
	for _, flags := range []uintptr{threads | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, threads} {
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
		runtime.KeepAlive(filter)
		if errno == 0 {
			return os.NewFile(fd, "starts"), nil
		}
		if err = errno; !errors.Is(errno, unix.EINVAL) {
			break
		}
	}
	return nil, fmt.Errorf("listen to program starts: %w", err)
}
