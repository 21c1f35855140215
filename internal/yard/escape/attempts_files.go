package escape

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// hostFiles exist on hosts and not in rooms.
var hostFiles = [...]string{
	"/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/ssl/private", "/etc/sudoers", "/root/.ssh", "/root/.docker/config.json", "/root/.kube/config",
	"/home/user", "/boot", "/lost+found", "/disk", "/lower", "/bundle", "/run/user", "/proc/1/cwd/bundle",
	"/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/podman/podman.sock", "/run/systemd/private", "/run/dbus/system_bus_socket",
}

// hostDevices are in no room.
var hostDevices = [...]string{
	"/dev/mem", "/dev/port", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/vsock", "/dev/vhost-vsock", "/dev/vhost-net",
	"/dev/loop-control", "/dev/mapper/control", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/uinput", "/dev/nvram",
}

func fileAttempts() []attempt {
	const group = "files"
	list := []attempt{
		{group, "mount tmpfs", tries(func() error { return unix.Mount("x", mountPoint, "tmpfs", 0, "") }), perm, nil},
		{group, "mount proc", tries(func() error { return unix.Mount("x", mountPoint, "proc", 0, "") }), perm, nil},
		{group, "mount sysfs", tries(func() error { return unix.Mount("x", mountPoint, "sysfs", 0, "") }), perm, nil},
		{group, "mount cgroup for release_agent", tries(func() error { return unix.Mount("x", mountPoint, "cgroup", 0, "memory") }), perm, nil},
		{group, "mount a device of the host", tries(func() error { return unix.Mount("/dev/vda", mountPoint, "ext4", unix.MS_RDONLY, "") }), append(noEnt, perm...), nil},
		{group, "bind", tries(func() error { return unix.Mount(scratch, mountPoint, "", unix.MS_BIND, "") }), perm, nil},
		{group, "remount writable", tries(func() error { return unix.Mount("", "/opt", "", unix.MS_REMOUNT|unix.MS_BIND, "") }), perm, nil},
		{group, "make mounts shared", tries(func() error { return unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, "") }), perm, nil},
		{group, "umount a masked path", tries(func() error { return unix.Unmount("/proc/kcore", unix.MNT_DETACH) }), perm, nil},
		{group, "pivot_root", tries(func() error { return unix.PivotRoot("/", mountPoint) }), perm, nil},
		{group, "chroot twice", tries(func() error { return unix.Chroot(scratch) }), perm, nil},
		{group, "fsopen", tries(onPath("tmpfs", func(p uintptr) error { return call(unix.SYS_FSOPEN, p, 0)() })), permOrNoSys, nil},
		{group, "fspick", tries(onPath("/", func(p uintptr) error { return call(unix.SYS_FSPICK, ^uintptr(99), p, 0)() })), permOrNoSys, nil},
		{group, "open_tree", tries(onPath("/", func(p uintptr) error {
			return call(unix.SYS_OPEN_TREE, ^uintptr(99), p, unix.OPEN_TREE_CLONE)()
		})), permOrNoSys, nil},
		{group, "move_mount", tries(onPath(mountPoint, func(p uintptr) error { return call(unix.SYS_MOVE_MOUNT, 0, p, 0, p, 0)() })), permOrNoSys, nil},
		{group, "mount_setattr", tries(onPath("/", func(p uintptr) error { return call(unix.SYS_MOUNT_SETATTR, 0, p, 0, 0, 0)() })), permOrNoSys, nil},
		{group, "mknod of a block device", tries(func() error { return unix.Mknod(scratch+"/vda", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))) }), perm, nil},
		{group, "mknod of /dev/mem", tries(func() error { return unix.Mknod(scratch+"/mem", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))) }), perm, nil},
		{group, "open_by_handle_at", tries(call(unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)), perm, noSys},
		{group, "a file capability", tries(func() error {
			const path = scratch + "/capable"
			if err := os.WriteFile(path, nil, 0o755); err != nil {
				return err
			}
			// vfs_cap_data of revision 2: all capabilities, effective.
			v := append([]byte{1, 0, 0, 2}, []byte(strings.Repeat("\xff", 16))...)
			return unix.Setxattr(path, "security.capability", v, 0)
		}), perm, []string{"ENOTSUP", "EINVAL"}},
		{group, "a setuid program", func(*told) string { return setuid() }, []string{"1000", "EINVAL", "EPERM"}, nil},
		{group, "files left open by the runtime", func(*told) string { return leaked() }, []string{"none"}, nil},
		{group, "uevent_helper", writes("/sys/kernel/uevent_helper"), noEnt, nil},
		{group, "cgroup files", reads("/sys/fs/cgroup/memory/memory.limit_in_bytes"), noEnt, nil},
		{group, "cgroup files, v2", reads("/sys/fs/cgroup/cgroup.procs"), noEnt, nil},
		{group, "release_agent", writes("/sys/fs/cgroup/memory/release_agent"), noEnt, nil},
		{group, "/proc/sys/kernel/core_pattern", writes("/proc/sys/kernel/core_pattern"), append(readOnly, noEnt...), nil},
		{group, "/proc/sys/kernel/modprobe", writes("/proc/sys/kernel/modprobe"), append(readOnly, noEnt...), nil},
		{group, "/proc/sys/kernel/hostname", writes("/proc/sys/kernel/hostname"), readOnly, []string{done}},
		{group, "/proc/sysrq-trigger", writes("/proc/sysrq-trigger"), append([]string{"masked", "ENOENT"}, readOnly...), []string{done}},
		{group, "/proc/kcore", reads("/proc/kcore"), []string{"empty", "ENOENT", "EACCES", "EPERM"}, nil},
		{group, "/proc/kallsyms", reads("/proc/kallsyms"), []string{"empty", "ENOENT"}, nil},
		{group, "/proc/kmsg", reads("/proc/kmsg"), []string{"empty", "ENOENT"}, nil},
		{group, "/proc/keys", reads("/proc/keys"), []string{"empty", "ENOENT"}, nil},
		{group, "/proc/timer_list", reads("/proc/timer_list"), []string{"empty", "ENOENT"}, nil},
		{group, "/proc/config.gz", reads("/proc/config.gz"), []string{"empty", "ENOENT"}, nil},
		{group, "/proc/cmdline of the host", reads("/proc/cmdline"), []string{"empty", "ENOENT"}, []string{done}},
		{group, "the runner's file", func(c *told) string { return named(open(c.File, unix.O_RDONLY)()) }, []string{"ENOENT", "EACCES"}, nil},
		{group, "the runner's file, to write", func(c *told) string { return named(open(c.File, unix.O_WRONLY|unix.O_TRUNC)()) }, []string{"ENOENT", "EACCES"}, nil},
		{group, "the runner's file through pid 1", func(c *told) string { return named(open("/proc/1/root"+c.File, unix.O_WRONLY)()) }, []string{"ENOENT", "EACCES", "EPERM"}, nil},
		{group, "a new file beside the runner's", func(c *told) string {
			return named(os.WriteFile(filepath.Join(c.Dir, "x"), []byte("x"), 0o644))
		}, []string{"ENOENT", "EACCES"}, nil},
	}
	for _, p := range hostFiles {
		list = append(list, attempt{group, "host's " + p, tries(open(p, unix.O_RDONLY)), []string{"ENOENT", "EACCES"}, nil})
	}
	for _, p := range hostDevices {
		list = append(list, attempt{group, "device " + p, tries(open(p, unix.O_RDWR)), noEnt, []string{done}})
	}
	return list
}

// setuid runs a program of root's with the setuid bit as somebody else, and returns who
// it then is.
func setuid() string {
	const path = scratch + "/setuid-id"
	if err := copyFile(path, "/usr/bin/id"); err != nil {
		return named(err)
	}
	if err := unix.Chmod(path, 0o4755); err != nil {
		return named(err)
	}
	cmd := exec.Command(path, "-u")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out, err := cmd.Output()
	if err != nil {
		return named(err)
	}
	if uid := strings.TrimSpace(string(out)); uid != "0" {
		return uid
	}
	return done
}

func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	return err
}

// leaked looks for open files that are neither the standard three nor our own
// runtime's (CVE-2024-21626).
func leaked() string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return named(err)
	}
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || len(e.Name()) == 1 && e.Name() < "3" {
			continue // or it was the one of ReadDir
		}
		if !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "pipe:") && !strings.HasPrefix(to, "/proc/") && !strings.HasPrefix(to, "/sys/fs/cgroup") {
			return fmt.Sprintf("%s is %s", e.Name(), to)
		}
	}
	return "none"
}
