package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Survey looks at what a host has for rooms, one facility after the other: what each is for,
// whether it is there, and how to get it. It changes nothing. What holds in the end, Check says.
func Survey() []sallyport.Facility {
	return survey{root: os.DirFS("/"), uid: os.Geteuid(), kernel: kernelRelease, cgroups: findCgroups, users: findUserMaps, tun: openable("/dev/net/tun"),
		loop: diskOnLoop, notify: hasNotify, fanotify: hasFanotify, runtime: runtimeFound, strong: strongFound}.facilities()
}

// survey is how a host is asked; tests answer themselves.
type survey struct {
	root     fs.FS // of the host
	uid      int
	kernel   func() string
	cgroups  func() (cgroups, error)
	users    func() userMaps
	tun      func() error
	loop     func() bool
	notify   func() bool
	fanotify func() error
	runtime  func() (string, error)
	strong   func() (string, error)
}

func (s survey) facilities() []sallyport.Facility {
	all := []sallyport.Facility{
		s.program("runtime", "makes the rooms; versions that a job can break out of are refused", s.runtime),
		s.program("gvisor", "rooms of the level strong, for the jobs of strangers", s.strong),
		s.linux(),
		s.userNamespaces(),
		s.subordinate(),
	}
	all = append(all, s.controllers()...)
	return append(all, s.disks(), s.uplink(), s.listener(), s.writes())
}

func facility(name, purpose string, there bool, found, mend string) sallyport.Facility {
	f := sallyport.Facility{Name: name, For: purpose, State: sallyport.FacilityThere, Found: found}
	if !there {
		f.State, f.Mend = sallyport.FacilityMissing, mend
	}
	return f
}

// needless marks a facility that rooms do without here.
func needless(f sallyport.Facility, why string) sallyport.Facility {
	f.State, f.Found, f.Mend = sallyport.FacilityNeedless, why, ""
	return f
}

func (s survey) program(name, purpose string, find func() (string, error)) sallyport.Facility {
	version, err := find()
	if err == nil {
		return facility(name, purpose, true, version, "")
	}
	message, hint := sallyport.ErrorMessage(err)
	return facility(name, purpose, false, message, hint)
}

// minLinux has overlays over mounts with mapped ids (5.19).
const minLinux = 5*1000 + 19

func (s survey) linux() sallyport.Facility {
	release := s.kernel()
	major, rest, _ := strings.Cut(release, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(strings.TrimRight(minor, "-abcdefghijklmnopqrstuvwxyz+"))
	there := err1 == nil && err2 == nil && a*1000+b >= minLinux
	return facility("linux", "overlays over mounts with mapped ids, which a room's root is", there, "Linux "+release, "use Linux 5.19 or later")
}

func (s survey) userNamespaces() sallyport.Facility {
	const name, purpose = "user-namespaces", "no user of a room is one of the host"
	if s.uid == 0 {
		return facility(name, purpose, s.setting("proc/sys/user/max_user_namespaces") != "0", "as root", "sysctl -w user.max_user_namespaces=15000")
	}
	err := userNamespacesAllowed(s.root)
	if err == nil {
		return facility(name, purpose, true, "for ordinary users", "")
	}
	message, hint := sallyport.ErrorMessage(err)
	return facility(name, purpose, false, message, hint)
}

func (s survey) setting(name string) string {
	b, err := fs.ReadFile(s.root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (s survey) subordinate() sallyport.Facility {
	const mend = "install uidmap and grant the user a range: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
	f := facility("subordinate-ids", "several users in a room that an ordinary user makes", true, "", "")
	if s.uid == 0 {
		return needless(f, "root has ranges of its own")
	}
	n := s.users().count
	return facility(f.Name, f.For, n > 0, fmt.Sprintf("%d ids", n), mend)
}

func (s survey) controllers() []sallyport.Facility {
	groups, err := s.cgroups()
	if err != nil {
		return []sallyport.Facility{facility("cgroups", "limits of rooms", false, err.Error(), "mount /sys/fs/cgroup")}
	}
	ctl, gaps := groups.enforceable()
	kind := "none is mounted"
	v1, v2 := 0, 0
	for _, h := range groups.trees {
		if h.unified {
			v2++
		} else {
			v1++
		}
	}
	switch _, pure := groups.v2(); {
	case pure:
		kind = "v2"
	case v2 > 0:
		kind = "v1 with v2 beside it"
	case v1 > 0:
		kind = "v1"
	}
	out := []sallyport.Facility{facility("cgroups", "limits of rooms, and their end as a whole", v1+v2 > 0, kind, "mount /sys/fs/cgroup")}
	for _, c := range []struct {
		limit, purpose string
		there          bool
	}{
		{"memory", "a room's memory is limited", ctl.memory},
		{"swap", "a room cannot leave its limit by swapping", ctl.swap},
		{"processes", "a room's processes are limited", ctl.pids},
		{"cpu", "a room's share of the processors is limited", ctl.cpu},
	} {
		why, mend := "", "run the runner as root, or in a systemd unit with Delegate=yes on a host with cgroup v2"
		for _, g := range gaps {
			if g.What == c.limit {
				why = g.Why
			}
		}
		if c.limit == "swap" && s.swapless() {
			out = append(out, facility("cgroup-swap", c.purpose, true, "this host has no swap", ""))
			continue
		}
		if c.limit == "swap" && ctl.memory {
			mend = "start the kernel with swapaccount=1, or switch swap off: swapoff -a"
		}
		f := facility("cgroup-"+c.limit, c.purpose, c.there, why, mend)
		if c.limit == "processes" && !c.there && s.uid != 0 {
			f = needless(f, "the user namespace limits them")
		}
		out = append(out, f)
	}
	return out
}

// swapless reports whether nothing is swapped to, by proc(5).
func (s survey) swapless() bool {
	table := s.setting("proc/swaps")
	return strings.HasPrefix(table, "Filename") && !strings.Contains(table, "\n")
}

func (s survey) disks() sallyport.Facility {
	f := facility("loop-devices", "disks of rooms and workspaces that cannot fill the host's", s.loop(), "/dev/loop-control and mkfs.ext4",
		"load the module loop, and install e2fsprogs")
	if s.uid != 0 {
		return facility(f.Name, f.For, false, "only root may mount them", "run the runner as root; else a full workspace fills the file system of the data directory")
	}
	if f.State == sallyport.FacilityMissing {
		f.Found = "/dev/loop-control or mkfs.ext4 is missing"
	}
	return f
}

func (s survey) uplink() sallyport.Facility {
	f := facility("tun", "the way from a room to its door", true, "/dev/net/tun", "")
	if err := s.tun(); err != nil {
		return needless(f, fmt.Sprintf("a packet socket takes its place (%v)", err))
	}
	return f
}

func (s survey) listener() sallyport.Facility {
	return facility("seccomp-listener", "the record of the programs that a job starts", s.notify(), "SECCOMP_RET_USER_NOTIF",
		"use Linux 5.7 or later with CONFIG_SECCOMP_FILTER")
}

func (s survey) writes() sallyport.Facility {
	f := facility("fanotify", "edits of the source that are undone before anybody looks are recorded", true, "", "")
	err := s.fanotify()
	if err == nil {
		return f
	}
	return facility(f.Name, f.For, false, err.Error(), "run the runner as root on a kernel with CONFIG_FANOTIFY; else files are compared before each artifact and at the end alone")
}

// How this host is asked.

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "of an unknown version"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func openable(path string) func() error {
	return func() error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}
}

// hasNotify asks the kernel for an action of seccomp(2): SECCOMP_GET_ACTION_AVAIL is 2.
func hasNotify() bool {
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, _, errno := syscall.Syscall(unix.SYS_SECCOMP, 2, 0, uintptr(unsafe.Pointer(&action)))
	return errno == 0
}

func hasFanotify() error {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func runtimeFound() (string, error) {
	r, err := openRuntime("")
	if err != nil {
		return "", err
	}
	defer r.exe.Close()
	return r.version, nil
}

func strongFound() (string, error) {
	r, err := openRunsc("")
	if err != nil {
		return "", err
	}
	defer r.exe.Close()
	return r.version, nil
}
