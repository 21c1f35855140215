package escape

import (
	"golang.org/x/sys/unix"
)

func processAttempts() []attempt {
	const group = "processes"
	return []attempt{
		{group, "see a process of the host", func(c *told) string {
			// A process that we left in the room has the word too, but not what follows it.
			if pid := findProcess(c.Word + "\x00host"); pid != "" {
				return done
			}
			return "not seen"
		}, []string{"not seen"}, nil},
		{group, "signal a process of the host", func(c *told) string { return named(unix.Kill(c.PID, 0)) }, []string{"ESRCH", "EPERM"}, nil},
		{group, "open a process of the host", func(c *told) string {
			fd, err := unix.PidfdOpen(c.PID, 0)
			if err == nil {
				unix.Close(fd)
			}
			return named(err)
		}, []string{"ESRCH", "EPERM", "ENOSYS"}, nil},
		{group, "shared memory of the host", func(c *told) string {
			id, err := unix.SysvShmGet(c.SHM, 4096, 0)
			if err != nil {
				return named(err)
			}
			b, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
			if err == nil {
				_ = unix.SysvShmDetach(b)
			}
			return named(err)
		}, noEnt, nil},
		{group, "abstract socket of the host", func(c *told) string { return connect("unix", c.Abstract) }, []string{"ECONNREFUSED"}, nil},
		{group, "unix socket of the host", func(c *told) string { return connect("unix", c.Socket) }, []string{"ENOENT", "EACCES"}, nil},
		{group, "ptrace of init", tries(call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1)), perm, nil},
		{group, "ptrace seize of init", tries(call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1)), perm, nil},
		{group, "memory of init", tries(open("/proc/1/mem", unix.O_RDWR)), closed, nil},
		{group, "environment of init", tries(open("/proc/1/environ", unix.O_RDONLY)), closed, []string{done}},
		{group, "root of init", tries(open("/proc/1/root/", unix.O_RDONLY)), closed, []string{done, "ENOENT"}},
		{group, "executable of init", tries(open("/proc/1/exe", unix.O_WRONLY)), closed, []string{"EROFS", "ETXTBSY"}},
		{group, "files of init", tries(open("/proc/1/fd/2", unix.O_WRONLY)), closed, []string{"ENXIO", "ENOENT"}},
		{group, "namespaces of init", tries(open("/proc/1/ns/mnt", unix.O_RDONLY)), closed, []string{done, "ENOENT"}},
		{group, "executable of init by name", tries(open("/.sallyport/init", unix.O_WRONLY)), []string{"EROFS", "ETXTBSY", "EACCES"}, nil},
		{group, "process_vm_readv of init", tries(func() error {
			b := make([]byte, 8)
			local := unix.Iovec{Base: &b[0], Len: 8}
			_, err := unix.ProcessVMReadv(1, []unix.Iovec{local}, []unix.RemoteIovec{{Base: 4096, Len: 8}}, 0)
			return err
		}), perm, noSys},
		{group, "pidfd_getfd of init", tries(func() error {
			fd, err := unix.PidfdOpen(1, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			_, err = unix.PidfdGetfd(fd, 3, 0)
			return err
		}), permOrNoSys, nil},
		{group, "type into a terminal", tries(func() error {
			fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.IoctlSetPointerInt(fd, unix.TIOCSTI, 'x')
		}), []string{"ENXIO", "EIO", "EPERM", "ENOENT"}, nil},
	}
}
