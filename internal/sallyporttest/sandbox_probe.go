package sallyporttest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probeMark is argv[1] of the test binary when it runs inside a room.
const probeMark = "sallyporttest:probe"

// SandboxProbe is the part of the suite that runs inside a room, as the job. A
// package that runs Sandbox calls it in TestMain, before anything else, and exits with
// the code when it was handled.
func SandboxProbe(args []string) (handled bool, exit int) {
	if len(args) < 3 || args[1] != probeMark {
		return false, 0
	}
	switch args[2] {
	case "read":
		return true, probeRead(args[3])
	case "write":
		return true, probeWrite(args[3])
	case "whoami":
		groups, err := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), groups)
		return true, failed(err)
	case "escape":
		return true, probeEscapes(args[3:])
	case "connect":
		return true, probeConnect(args[3:])
	case "reroute":
		return true, probeReroute()
	case "eat":
		return true, probeEat(args[3])
	case "forks":
		return true, probeForks()
	case "serve":
		return true, probeServe(args[3])
	case "get":
		return true, probeGet(args[3:])
	case "put":
		return true, probePut(args[3], args[4])
	}
	return true, 2
}

// attempt is one thing that a job must not be able to do, and how the kernel
// may refuse it.
type attempt struct {
	name string
	do   func() error
	want []syscall.Errno
}

func call(trap uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

func str(s string) uintptr {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err) // a constant of ours
	}
	return uintptr(unsafe.Pointer(b))
}

func open(path string, flags int) func() error {
	return func() error {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

func socket(family, kind, proto int) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind, proto)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// attempts is the list. An attempt that succeeds has no errno and so fails.
func attempts() []attempt {
	perm := []syscall.Errno{unix.EPERM}
	permOrNoSys := []syscall.Errno{unix.EPERM, unix.ENOSYS}
	noEnt := []syscall.Errno{unix.ENOENT}
	closed := []syscall.Errno{unix.EACCES, unix.EPERM}
	readOnly := []syscall.Errno{unix.EROFS, unix.EACCES, unix.EPERM}
	return []attempt{
		// Mounts.
		{"mount tmpfs", func() error { return unix.Mount("x", "/tmp", "tmpfs", 0, "") }, perm},
		{"mount proc", func() error { return unix.Mount("x", "/tmp", "proc", 0, "") }, perm},
		{"mount cgroup for release_agent", func() error { return unix.Mount("x", "/tmp", "cgroup", 0, "memory") }, perm},
		{"bind", func() error { return unix.Mount("/etc", "/tmp", "", unix.MS_BIND, "") }, perm},
		{"remount writable", func() error { return unix.Mount("", "/opt", "", unix.MS_REMOUNT|unix.MS_BIND, "") }, perm},
		{"umount a masked path", func() error { return unix.Unmount("/proc/kcore", unix.MNT_DETACH) }, perm},
		{"pivot_root", func() error { return unix.PivotRoot("/", "/tmp") }, perm},
		{"fsopen", func() error { return call(unix.SYS_FSOPEN, str("tmpfs"), 0) }, permOrNoSys},
		{"open_tree", func() error {
			return call(unix.SYS_OPEN_TREE, ^uintptr(99), str("/"), unix.OPEN_TREE_CLONE)
		}, permOrNoSys},
		{"move_mount", func() error { return call(unix.SYS_MOVE_MOUNT, 0, str("/"), 0, str("/tmp"), 0) }, permOrNoSys},
		{"mount_setattr", func() error { return call(unix.SYS_MOUNT_SETATTR, 0, str("/"), 0, 0, 0) }, permOrNoSys},
		{"chroot", func() error { return unix.Chroot("/tmp") }, perm},
		{"mknod of a device", func() error { return unix.Mknod("/tmp/vda", unix.S_IFBLK|0o600, 0) }, perm},
		{"open_by_handle_at", func() error { return call(unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0) }, perm},

		// Namespaces.
		{"unshare user", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }, perm},
		{"unshare mount", func() error { return unix.Unshare(unix.CLONE_NEWNS) }, perm},
		{"unshare net", func() error { return unix.Unshare(unix.CLONE_NEWNET) }, perm},
		{"clone user", func() error { return call(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)) }, perm},
		{"clone3", func() error { return call(unix.SYS_CLONE3, 0, 0) }, []syscall.Errno{unix.ENOSYS}},
		{"setns", func() error { return unix.Setns(0, 0) }, perm},
		{"namespaces of init", open("/proc/1/ns/mnt", unix.O_RDONLY), closed},

		// The kernel.
		{"sethostname", func() error { return unix.Sethostname([]byte("x")) }, perm},
		{"setdomainname", func() error { return unix.Setdomainname([]byte("x")) }, perm},
		{"settimeofday", func() error { return unix.Settimeofday(&unix.Timeval{Sec: 1}) }, perm},
		{"swapon", func() error { return call(unix.SYS_SWAPON, str("/tmp"), 0) }, perm},
		{"init_module", func() error { return call(unix.SYS_INIT_MODULE, 0, 0, 0) }, perm},
		{"delete_module", func() error { return call(unix.SYS_DELETE_MODULE, str("x"), 0) }, perm},
		{"kexec_load", func() error { return call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0) }, perm},
		{"reboot", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_ON) }, perm},
		{"syslog", func() error { _, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 16)); return err }, perm},
		{"acct", func() error { return unix.Acct("/tmp/x") }, perm},
		{"quotactl", func() error { return call(unix.SYS_QUOTACTL, 0, 0, 0, 0) }, perm},
		{"bpf", func() error { return call(unix.SYS_BPF, 0, 0, 0) }, perm},
		{"perf_event_open", func() error { return call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0) }, perm},
		{"userfaultfd", func() error { return call(unix.SYS_USERFAULTFD, 0) }, perm},
		{"io_uring_setup", func() error { return call(unix.SYS_IO_URING_SETUP, 1, 0) }, permOrNoSys},
		{"keyctl", func() error { return call(unix.SYS_KEYCTL, 0, 0, 0) }, perm},
		{"add_key", func() error { return call(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0) }, perm},
		{"request_key", func() error { return call(unix.SYS_REQUEST_KEY, 0, 0, 0, 0) }, perm},
		{"fanotify_init", func() error { return call(unix.SYS_FANOTIFY_INIT, 0, 0) }, perm},
		{"personality", func() error { return call(unix.SYS_PERSONALITY, 0x0400000) }, perm},

		// Other processes.
		{"ptrace of init", func() error { return call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1) }, perm},
		{"ptrace seize of init", func() error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1) }, perm},
		{"memory of init", open("/proc/1/mem", unix.O_RDWR), closed},
		{"environment of init", open("/proc/1/environ", unix.O_RDONLY), closed},
		{"root of init", open("/proc/1/root/", unix.O_RDONLY), closed},
		{"executable of init", open("/proc/1/exe", unix.O_WRONLY), closed},
		{"files of init", open("/proc/1/fd/2", unix.O_WRONLY), closed},
		{"executable of init by name", open("/.sallyport/init", unix.O_WRONLY), []syscall.Errno{unix.EROFS, unix.ETXTBSY, unix.EACCES}},
		{"process_vm_readv of init", func() error {
			b := make([]byte, 8)
			local := unix.Iovec{Base: &b[0], Len: 8}
			_, err := unix.ProcessVMReadv(1, []unix.Iovec{local}, []unix.RemoteIovec{{Base: 4096, Len: 8}}, 0)
			return err
		}, perm},
		{"pidfd_getfd of init", func() error {
			fd, err := unix.PidfdOpen(1, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			_, err = unix.PidfdGetfd(fd, 3, 0)
			return err
		}, permOrNoSys},

		// Files of the kernel and devices.
		{"write /proc/sys", open("/proc/sys/kernel/core_pattern", unix.O_WRONLY), readOnly},
		{"write /proc/sys/kernel/hostname", open("/proc/sys/kernel/hostname", unix.O_WRONLY), readOnly},
		{"uevent_helper", open("/sys/kernel/uevent_helper", unix.O_WRONLY), noEnt},
		{"cgroup files", open("/sys/fs/cgroup", unix.O_RDONLY), noEnt},
		{"/dev/mem", open("/dev/mem", unix.O_RDONLY), noEnt},
		{"/dev/kmsg", open("/dev/kmsg", unix.O_RDONLY), noEnt},
		{"/dev/kvm", open("/dev/kvm", unix.O_RDWR), noEnt},
		{"/dev/fuse", open("/dev/fuse", unix.O_RDWR), noEnt},
		{"/dev/net/tun", open("/dev/net/tun", unix.O_RDWR), noEnt},
		{"/dev/vsock", open("/dev/vsock", unix.O_RDWR), noEnt},
		{"/dev/loop-control", open("/dev/loop-control", unix.O_RDWR), noEnt},

		// Sockets.
		{"packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW, 0), perm},
		{"raw socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), perm},
		{"ping socket", socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP), closed},
		{"vsock socket", socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0), perm},
		{"alg socket", socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0), perm},
		{"change an interface", func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			ifr, err := unix.NewIfreq("lo")
			if err != nil {
				return err
			}
			return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
		}, perm},

		// Its own limits.
		{"raise the limit of open files", func() error {
			return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 40, Max: 1 << 40})
		}, perm},
		{"allow core dumps", func() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) }, perm},
		{"be spared by the OOM killer", func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) }, closed},
		{"go before others", func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) }, closed},
		{"undo no_new_privs", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) }, []syscall.Errno{unix.EINVAL}},
		{"gain a capability", func() error {
			h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var d [2]unix.CapUserData
			if err := unix.Capget(&h, &d[0]); err != nil {
				return err
			}
			d[0].Permitted |= 1 << unix.CAP_SYS_ADMIN
			d[0].Effective |= 1 << unix.CAP_SYS_ADMIN
			return unix.Capset(&h, &d[0])
		}, perm},
	}
}

// outcome is what became of one attempt, told on stdout.
type outcome struct {
	Name string
	Got  string
	OK   bool
}

// probeEscapes tries everything; extra paths are files of the host that must
// not exist here.
func probeEscapes(extra []string) int {
	runtime.LockOSThread()
	list := attempts()
	for _, p := range extra {
		list = append(list, attempt{"host file " + p, open(p, unix.O_RDONLY), []syscall.Errno{unix.ENOENT, unix.EACCES}})
	}
	enc := json.NewEncoder(os.Stdout)
	for _, a := range list {
		err := a.do()
		o := outcome{Name: a.name, Got: fmt.Sprint(err)}
		for _, w := range a.want {
			if e := errnoOf(err); e == w {
				o.OK = true
			}
		}
		if err := enc.Encode(o); err != nil {
			return 1
		}
	}
	return 0
}

func errnoOf(err error) syscall.Errno {
	for err != nil {
		if e, ok := err.(syscall.Errno); ok {
			return e
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = u.Unwrap()
	}
	return 0
}

// probeConnect prints the errno of connecting to each address.
func probeConnect(addrs []string) int {
	for _, a := range addrs {
		network := "tcp"
		if len(a) > 0 && (a[0] == '@' || a[0] == '/') {
			network = "unix"
		}
		c, err := net.DialTimeout(network, a, 2*time.Second)
		if err == nil {
			c.Close()
			fmt.Println(a, "connected")
			continue
		}
		fmt.Println(a, unix.ErrnoName(errnoOf(err)))
	}
	return 0
}

// probeEat touches so many bytes of memory.
func probeEat(size string) int {
	n, err := strconv.Atoi(size)
	if err != nil {
		return 2
	}
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 2
	}
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return 0
}

// probeForks starts children until it may not, prints how many there were, and
// ends them.
func probeForks() int {
	const most = 2000 // above any limit the suite sets
	var children []*exec.Cmd
	var last error
	for len(children) < most {
		c := exec.Command("/bin/sleep", "60")
		if last = c.Start(); last != nil {
			break
		}
		children = append(children, c)
	}
	for _, c := range children {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	fmt.Println(len(children), unix.ErrnoName(errnoOf(last)))
	return 0
}

// probeServe answers HTTP on a port of the room's loopback.
func probeServe(port string) int {
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("listening")
	return map[bool]int{true: 0, false: 1}[http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello from the room ", r.URL.Path)
	})) == nil]
}

// probeGet prints the body at each URL, a line each.
func probeGet(urls []string) int {
	for _, u := range urls {
		res, err := http.Get(u)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		_, err = io.Copy(os.Stdout, res.Body)
		res.Body.Close()
		if err != nil {
			return 1
		}
		fmt.Println()
	}
	return 0
}

// probePut sends so many bytes and prints the answer.
func probePut(url, size string) int {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return 2
	}
	res, err := http.Post(url, "application/octet-stream", io.LimitReader(zeros{}, n))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer res.Body.Close()
	if _, err := io.Copy(os.Stdout, res.Body); err != nil {
		return 1
	}
	return 0
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func failed(err error) int {
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func probeRead(path string) int {
	b, err := os.ReadFile(path)
	_, _ = os.Stdout.Write(b)
	return failed(err)
}

func probeWrite(path string) int { return failed(os.WriteFile(path, []byte("x"), 0o644)) }
