package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// markConfined in argv[1] makes our binary the first half of a confined process:
// its arguments are the data directory, what of it is kept, joined by ':', and then
// those of the process itself. It cannot be mistaken for a verb.
const markConfined = "sallyport:confined"

// confined makes cmd, which is our binary as a process of the yard, see nothing
// of the data directory but the paths in keep, relative to it: no key, no
// store, no control socket. Processes of the yard run as the same user as the
// control plane, so that file modes cannot keep these from them; a mount
// namespace of their own does, as far as this host lets us make one: without
// root there is none, and cmd stays as it is.
//
// It stops a process of the yard that was talked into reading or writing a wrong
// path, or into connecting to a wrong socket. It does not hold one that runs foreign
// code as root: rooms cannot be made without the right to look into other processes
// and to mount disks, and either leads around the cover.
func confined(cmd *exec.Cmd, data string, keep ...string) {
	if os.Geteuid() != 0 {
		return
	}
	cmd.Args = append([]string{cmd.Args[0], markConfined, data, strings.Join(keep, ":")}, cmd.Args[1:]...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Unshareflags |= syscall.CLONE_NEWNS // its mounts are private then
}

// Confined runs what confined started, when args (those after the command's name)
// say so: it covers the data directory, gives up capabilities
// and becomes the process of the yard. It returns when args are of another process,
// or with the reason why it cannot.
func Confined(args []string) error {
	if len(args) < 3 || args[0] != markConfined {
		return nil
	}
	if err := ownMounts(); err != nil {
		return err
	}
	data, keep := args[1], strings.Split(args[2], ":")
	if err := cover(data, keep); err != nil {
		return fmt.Errorf("cover %s: %w", data, err)
	}
	runtime.LockOSThread() // capabilities belong to a thread, and exec keeps those of its caller
	for _, c := range givenUp {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("give up capability %d: %w", c, err)
		}
	}
	argv := append([]string{os.Args[0]}, args[3:]...)
	return fmt.Errorf("start confined: %w", syscall.Exec("/proc/self/exe", argv, os.Environ()))
}

// givenUp are capabilities that no process of the yard needs, nor the runtime
// that makes its rooms (it needs CAP_SYS_PTRACE). The first opens files by their
// number, past any cover.
var givenUp = [...]int{
	unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_MODULE, unix.CAP_SYS_RAWIO, unix.CAP_SYS_BOOT, unix.CAP_SYS_TIME, unix.CAP_SYSLOG,
}

// ownMounts refuses to cover anything for the whole host.
func ownMounts() error {
	mine, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	parents, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	if err != nil {
		return fmt.Errorf("who started this process is gone: %w", err)
	}
	if mine == parents {
		return errors.New("this process has no mounts of its own; it is for Sallyport itself to start")
	}
	return nil
}

// cover puts an empty, read-only directory over data and what is kept in its place.
func cover(data string, keep []string) error {
	trees := make([]int, len(keep))
	dirs := make([]bool, len(keep))
	for i, name := range keep {
		fi, err := os.Lstat(filepath.Join(data, name))
		if err != nil {
			return err
		}
		dirs[i] = fi.IsDir()
		trees[i], err = unix.OpenTree(unix.AT_FDCWD, filepath.Join(data, name), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("covered", data, "tmpfs", flags, "mode=700,size=64k,nr_inodes=64"); err != nil {
		return err
	}
	for i, name := range keep {
		place := filepath.Join(data, name)
		if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
			return err
		}
		var err error
		if dirs[i] {
			err = os.Mkdir(place, 0o700)
		} else {
			err = os.WriteFile(place, nil, 0o600)
		}
		if err == nil {
			err = unix.MoveMount(trees[i], "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		if err := errors.Join(err, unix.Close(trees[i])); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return unix.Mount("", data, "", unix.MS_REMOUNT|unix.MS_RDONLY|flags, "")
}
