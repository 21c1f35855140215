package escape

import "golang.org/x/sys/unix"

// archAttempts are those of this processor.
func archAttempts() []attempt {
	return []attempt{
		{"kernel", "iopl", tries(call(unix.SYS_IOPL, 3)), perm, noSys},
		{"kernel", "ioperm", tries(call(unix.SYS_IOPERM, 0x80, 1, 1)), perm, noSys},
	}
}
