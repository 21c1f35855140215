package escape

import (
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func kernelAttempts() []attempt {
	const group = "kernel"
	return slices.Concat([]attempt{
		{group, "unshare user", tries(func() error { return unix.Unshare(unix.CLONE_NEWUSER) }), perm, []string{done, "EINVAL"}},
		{group, "unshare mount", tries(func() error { return unix.Unshare(unix.CLONE_NEWNS) }), perm, nil},
		{group, "unshare net", tries(func() error { return unix.Unshare(unix.CLONE_NEWNET) }), perm, nil},
		{group, "unshare pid", tries(func() error { return unix.Unshare(unix.CLONE_NEWPID) }), perm, []string{"EINVAL"}},
		{group, "clone user", tries(call(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_NEWNS|unix.CLONE_FS|uintptr(unix.SIGCHLD))), []string{"EPERM", "EINVAL"}, nil},
		{group, "clone3", tries(call(unix.SYS_CLONE3, 0, 0)), noSysOnly, []string{"EINVAL"}},
		{group, "setns", tries(func() error {
			fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Setns(fd, unix.CLONE_NEWNET)
		}), perm, noSys},
		{group, "sethostname", tries(func() error {
			var u unix.Utsname
			if err := unix.Uname(&u); err != nil {
				return err
			}
			return unix.Sethostname([]byte(unix.ByteSliceToString(u.Nodename[:]))) // to what it is
		}), perm, nil},
		{group, "settimeofday", tries(func() error {
			now := unix.NsecToTimeval(time.Now().UnixNano())
			return unix.Settimeofday(&now)
		}), perm, noSys},
		{group, "adjtimex", tries(func() error {
			_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT})
			return err
		}), perm, noSys},
		{group, "swapon", tries(onPath("/tmp", func(p uintptr) error { return call(unix.SYS_SWAPON, p, 0)() })), perm, nil},
		{group, "init_module", tries(call(unix.SYS_INIT_MODULE, 0, 0, 0)), perm, nil},
		{group, "finit_module", tries(call(unix.SYS_FINIT_MODULE, ^uintptr(0), 0, 0)), perm, noSys},
		{group, "delete_module", tries(onPath("x", func(p uintptr) error { return call(unix.SYS_DELETE_MODULE, p, 0)() })), perm, nil},
		{group, "kexec_load", tries(call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0xffff)), perm, noSys},
		{group, "reboot", tries(call(unix.SYS_REBOOT, 0, 0, 0, 0)), perm, nil},
		{group, "syslog", tries(func() error { _, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 16)); return err }), perm, []string{done}},
		{group, "acct", tries(func() error { return unix.Acct("/nonexistent/x") }), perm, noSys},
		{group, "quotactl", tries(call(unix.SYS_QUOTACTL, 0, 0, 0, 0)), perm, noSys},
		{group, "bpf", tries(call(unix.SYS_BPF, 0, 0, 0)), perm, noSys},
		{group, "perf_event_open", tries(call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)), perm, append([]string{"ENODEV"}, noSys...)},
		{group, "userfaultfd", tries(call(unix.SYS_USERFAULTFD, 0)), perm, noSys},
		{group, "io_uring_setup", tries(call(unix.SYS_IO_URING_SETUP, 1, 0)), permOrNoSys, nil},
		{group, "keyctl", tries(call(unix.SYS_KEYCTL, 0, 0, 0)), perm, []string{done, "EINVAL", "ENOSYS", "ENOKEY"}},
		{group, "add_key", tries(call(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0)), perm, append([]string{"EACCES"}, noSys...)},
		{group, "request_key", tries(call(unix.SYS_REQUEST_KEY, 0, 0, 0, 0)), perm, append([]string{"EACCES"}, noSys...)},
		{group, "fanotify_init", tries(call(unix.SYS_FANOTIFY_INIT, 0, 0)), perm, noSys},
		{group, "name_to_handle_at", tries(call(unix.SYS_NAME_TO_HANDLE_AT, 0, 0, 0, 0, 0)), []string{"EPERM", "EFAULT", "ENOTSUP"}, noSys},
		{group, "personality", tries(call(unix.SYS_PERSONALITY, 0x0400000)), perm, []string{"EINVAL", done}},
		{group, "vmsplice into a pipe of the runner", tries(func() error {
			return call(unix.SYS_VMSPLICE, 1, 0, 0, ^uintptr(0))()
		}), []string{"EINVAL", "EBADF", "EPERM", "ENOSYS"}, nil},
		{group, "a seccomp listener on nobody's behalf", tries(func() error {
			// SECCOMP_SET_MODE_FILTER with a broken program: a room may restrict itself, not others.
			var prog [2]uint64
			return call(unix.SYS_SECCOMP, 1, 8, uintptr(unsafe.Pointer(&prog)))()
		}), []string{"EINVAL", "EFAULT", "EPERM", "EACCES"}, noSys},
	}, archAttempts())
}

var noSysOnly = []string{"ENOSYS"}
