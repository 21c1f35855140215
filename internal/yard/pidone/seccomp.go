package pidone

import "runtime"

// What package syscall does not have of seccomp(2), filter.h and audit.h.
const (
	setModeFilter    = 1      // SECCOMP_SET_MODE_FILTER
	flagTSync        = 1 << 0 // SECCOMP_FILTER_FLAG_TSYNC
	flagSpecAllow    = 1 << 2 // SECCOMP_FILTER_FLAG_SPEC_ALLOW
	flagNewListener  = 1 << 3 // SECCOMP_FILTER_FLAG_NEW_LISTENER
	flagTSyncESRCH   = 1 << 4 // SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	flagWaitKillable = 1 << 5 // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	retAllow         = 0x7fff0000
	retUserNotif     = 0x7fc00000
	archX86_64       = 0xc000003e // AUDIT_ARCH_*
	archI386         = 0x40000003
	archAArch64      = 0xc00000b7
	archARM          = 0x40000028
	prSetDumpable    = 4
)

// sysSeccomp is the number of seccomp(2).
func sysSeccomp() uintptr {
	switch runtime.GOARCH {
	case "amd64":
		return 317
	case "386":
		return 354
	case "arm":
		return 383
	case "ppc64", "ppc64le":
		return 358
	case "s390x":
		return 348
	}
	return 277 // asm-generic/unistd.h: arm64, riscv64, loong64
}
