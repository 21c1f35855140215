package escape

import (
	"os"

	"golang.org/x/sys/unix"
)

func limitAttempts() []attempt {
	const group = "limits"
	return []attempt{
		{group, "raise the limit of open files", tries(func() error {
			return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 40, Max: 1 << 40})
		}), perm, nil},
		{group, "allow core dumps", tries(func() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) }), perm, nil},
		{group, "be spared by the OOM killer", tries(func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) }), closed, []string{done}},
		{group, "go before others", tries(func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) }), closed, []string{done}},
		{group, "run in real time", tries(func() error {
			return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
		}), perm, noSys},
		{group, "lock memory without end", tries(func() error {
			return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
		}), perm, nil},
		{group, "undo no_new_privs", tries(func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) }), []string{"EINVAL"}, nil},
		{group, "gain a capability", tries(func() error {
			h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var d [2]unix.CapUserData
			if err := unix.Capget(&h, &d[0]); err != nil {
				return err
			}
			d[0].Permitted |= 1 << unix.CAP_SYS_ADMIN
			d[0].Effective |= 1 << unix.CAP_SYS_ADMIN
			return unix.Capset(&h, &d[0])
		}), perm, nil},
		{group, "regain a dropped capability", tries(func() error {
			return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
		}), perm, noSys},
	}
}
