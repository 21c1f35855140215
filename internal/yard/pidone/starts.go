package pidone

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// System calls that start a program, by architecture of the caller as seccomp(2) tells
// it. Where a kernel runs programs of a second architecture too, both are listed.
type callers struct {
	arch  uint32
	calls []uint32
}

// X32 is the bit that marks system calls of the x32 ABI, which come as x86-64's.
const X32 = 0x40000000

func startCalls() ([]callers, error) {
	switch runtime.GOARCH {
	case "amd64":
		return []callers{
			{archX86_64, []uint32{59, 322, X32 | 520, X32 | 545}},
			{archI386, []uint32{11, 358}},
		}, nil
	case "arm64":
		return []callers{
			{archAArch64, []uint32{221, 281}},
			{archARM, []uint32{11, 387}},
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
func startFilter(list []callers) []syscall.SockFilter {
	load := func(at uint32) syscall.SockFilter {
		return syscall.SockFilter{Code: syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS, K: at}
	}
	give := func(what uint32) syscall.SockFilter {
		return syscall.SockFilter{Code: syscall.BPF_RET | syscall.BPF_K, K: what}
	}
	equal := func(k uint32, yes, no int) syscall.SockFilter {
		return syscall.SockFilter{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
	}
	p := []syscall.SockFilter{load(dataArch)}
	for _, c := range list {
		// One load, the comparisons and two ends belong to an architecture.
		p = append(p, equal(c.arch, 0, len(c.calls)+3), load(dataNumber))
		for i, call := range c.calls {
			p = append(p, equal(call, len(c.calls)-i, 0))
		}
		p = append(p, give(retAllow), give(retUserNotif))
	}
	return append(p, give(retAllow))
}

// StartFilter is the filter of this architecture that announces starts of programs.
func StartFilter() ([]syscall.SockFilter, error) {
	calls, err := startCalls()
	if err != nil {
		return nil, err
	}
	return startFilter(calls), nil
}

// listenToStarts has every start of a program by this process's descendants announced
// on the file that it returns. It must be called before any of them is there. The kernel allows
// one listener only in a line of filters, so that no program of the room can put one of its own
// in our place; and it lets nobody take a filter away.
func listenToStarts() (*os.File, error) {
	filter, err := StartFilter()
	if err != nil {
		return nil, err
	}
	program := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const threads = flagTSync | flagTSyncESRCH | flagNewListener
	// With the last one signals do not make a program ask again; older kernels do not know it.
	for _, flags := range []uintptr{threads | flagWaitKillable, threads} {
		fd, _, errno := syscall.Syscall(sysSeccomp(), setModeFilter, flags, uintptr(unsafe.Pointer(&program)))
		runtime.KeepAlive(filter)
		if errno == 0 {
			return os.NewFile(fd, "starts"), nil
		}
		if err = errno; !errors.Is(errno, syscall.EINVAL) {
			break
		}
	}
	return nil, fmt.Errorf("listen to program starts: %w", err)
}
