package pidone

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, n := range []struct {
		name      string
		got, want uint64
	}{
		{"seccomp", uint64(sysSeccomp()), unix.SYS_SECCOMP},
		{"SET_MODE_FILTER", setModeFilter, unix.SECCOMP_SET_MODE_FILTER},
		{"TSYNC", flagTSync, unix.SECCOMP_FILTER_FLAG_TSYNC},
		{"SPEC_ALLOW", flagSpecAllow, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{"NEW_LISTENER", flagNewListener, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER},
		{"TSYNC_ESRCH", flagTSyncESRCH, unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH},
		{"WAIT_KILLABLE_RECV", flagWaitKillable, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
		{"RET_ALLOW", retAllow, unix.SECCOMP_RET_ALLOW},
		{"RET_USER_NOTIF", retUserNotif, unix.SECCOMP_RET_USER_NOTIF},
		{"X86_64", archX86_64, unix.AUDIT_ARCH_X86_64},
		{"I386", archI386, unix.AUDIT_ARCH_I386},
		{"AARCH64", archAArch64, unix.AUDIT_ARCH_AARCH64},
		{"ARM", archARM, unix.AUDIT_ARCH_ARM},
		{"PR_SET_DUMPABLE", prSetDumpable, unix.PR_SET_DUMPABLE},
	} {
		if n.got != n.want {
			t.Errorf("%s is %#x, not %#x", n.name, n.got, n.want)
		}
	}
}
