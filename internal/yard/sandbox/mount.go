package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is a detached mount: a clone of a place on the host that is attached
// nowhere yet.
type tree struct{ *os.File }

// cloneTree clones the mount at path. With recursive, the mounts below it too.
func cloneTree(path string, recursive bool) (*tree, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return nil, fmt.Errorf("clone the mount of %s: %w", path, err)
	}
	return &tree{os.NewFile(uintptr(fd), path)}, nil
}

// set changes the attributes of the detached mount; idmap, when not negative,
// is a user namespace whose mapping the mount gets.
func (t *tree) set(attrs uint64, idmap int, recursive bool) error {
	attr := unix.MountAttr{Attr_set: attrs, Propagation: unix.MS_PRIVATE}
	if idmap >= 0 {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(idmap)
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(int(t.Fd()), "", flags, &attr); err != nil {
		return fmt.Errorf("set attributes of the mount of %s: %w", t.Name(), err)
	}
	return nil
}

// attach moves the mount onto target, a file or directory like itself.
func (t *tree) attach(target string) error {
	if err := unix.MoveMount(int(t.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach %s at %s: %w", t.Name(), target, err)
	}
	return t.Close()
}

// attachFD is attach for a target already opened.
func (t *tree) attachFD(target *os.File) error {
	const flags = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(int(t.Fd()), "", int(target.Fd()), "", flags); err != nil {
		return fmt.Errorf("attach %s: %w", t.Name(), err)
	}
	return t.Close()
}

// owned makes files and directories for one uid and gid.
type owned struct{ uid int }

func (o owned) dir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode.Perm()); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.Lchown(path, o.uid, o.uid); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func (o owned) file(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Lchown(path, o.uid, o.uid)
}

func (o owned) link(target, path string) error {
	if err := os.Symlink(target, path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Lchown(path, o.uid, o.uid)
}

// openTarget opens the place in root at which a bind is attached and makes what
// is missing of it. No symlink is followed: where one is met the target is
// refused, since a mount must land where its name says.
func openTarget(root, target string, isDir bool, o owned) (*os.File, error) {
	at, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the room's root: %w", err)
	}
	parts := strings.Split(strings.Trim(filepath.Clean(target), "/"), "/")
	for i, part := range parts {
		last := i == len(parts)-1
		next, err := openOrMake(at, part, !last || isDir, o)
		unix.Close(at)
		if err != nil {
			return nil, fmt.Errorf("bind target %s: %w", target, err)
		}
		at = next
	}
	return os.NewFile(uintptr(at), target), nil
}

func openOrMake(at int, name string, isDir bool, o owned) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH}
	if isDir {
		how.Flags |= unix.O_DIRECTORY
	}
	fd, err := unix.Openat2(at, name, &how)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if isDir {
		err = unix.Mkdirat(at, name, 0o755)
	} else {
		err = unix.Mknodat(at, name, unix.S_IFREG|0o644, 0)
	}
	if err != nil {
		return -1, err
	}
	if err := unix.Fchownat(at, name, o.uid, o.uid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, err
	}
	return unix.Openat2(at, name, &how)
}

// raiseLoopback brings up lo in the calling thread's network namespace and lets
// the room bind ports below 1024 there, over which it holds no capability.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	// A convenience: on kernels without the setting low ports stay closed.
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
	return nil
}
