package pidone

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStartFilter walks the filter with numbers of system calls.
func TestStartFilter(t *testing.T) {
	calls, err := startCalls()
	if err != nil {
		t.Skip(err)
	}
	program := startFilter(calls)
	run := func(arch, nr uint32) uint32 {
		var a uint32
		for pc := 0; ; pc++ {
			switch i := program[pc]; i.Code {
			case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
				a = map[uint32]uint32{dataArch: arch, dataNumber: nr}[i.K]
			case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
				if a == i.K {
					pc += int(i.Jt)
				} else {
					pc += int(i.Jf)
				}
			case unix.BPF_RET | unix.BPF_K:
				return i.K
			default:
				t.Fatalf("instruction %d: code %d", pc, i.Code)
			}
		}
	}
	for _, c := range calls {
		for nr := range uint32(1024) {
			want := uint32(unix.SECCOMP_RET_ALLOW)
			if slices.Contains(c.calls, nr) {
				want = unix.SECCOMP_RET_USER_NOTIF
			}
			if got := run(c.arch, nr); got != want {
				t.Errorf("architecture %#x, call %d: %#x, want %#x", c.arch, nr, got, want)
			}
		}
	}
	if got := run(0xffff, 59); got != unix.SECCOMP_RET_ALLOW {
		t.Errorf("an unknown architecture: %#x", got)
	}
}
