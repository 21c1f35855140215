package pidone

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

// MaxFilter is the kernel's limit of instructions, BPF_MAXINSNS.
const MaxFilter = 4096

// FilterSize is the size of an instruction, struct sock_filter.
const FilterSize = int(unsafe.Sizeof(syscall.SockFilter{}))

// awaitFilter installs the filter that the host sends, on every thread of this process
// and for all that it starts. Nothing can take it away again.
func awaitFilter(control Socket) error {
	buf := make([]byte, MaxFilter*FilterSize)
	n, files, err := ReadWithFiles(control, buf)
	CloseAll(files)
	if err != nil {
		return err
	}
	if n == 0 || n%FilterSize != 0 {
		return fmt.Errorf("a filter of %d bytes", n)
	}
	filter := unsafe.Slice((*syscall.SockFilter)(unsafe.Pointer(&buf[0])), n/FilterSize)
	program := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// The flags are the runtime's own, and the threads that the Go runtime has made.
	const flags = flagSpecAllow | flagTSync
	stuck, _, errno := syscall.Syscall(sysSeccomp(), setModeFilter, flags, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(buf)
	if errno != 0 {
		return fmt.Errorf("filter system calls: %w", errno)
	}
	if stuck != 0 {
		return fmt.Errorf("filter system calls: thread %d has another filter", stuck)
	}
	return nil
}
