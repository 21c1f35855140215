package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// layout says how a room is laid out. It is a value that can be handed to another
// process: the keeper of a room without root is one.
type layout struct {
	Stage    string // a directory of ours, covered in the keeper alone
	Rootless bool
	Strong   bool // for runsc
	UID      int  // the room's root as the keeper sees it
	Disk     disk
	Image    string // root file system; the one view then
	Views    []view
	Links    map[string]string
	Hidden   []string
	Binds    []bind
	InitExe  string
	Hostname string
	Hosts    []string
	Config   []byte  // config.json
	Uplink   *uplink // nil without
	Trust    []byte

	viewMap, bindMap int             // user namespaces of an idRange; -1 without root
	link             *sallyport.Link // made by build
}

// bind is a sallyport.Bind whose source was looked at. A writable one needs a
// source that no other user of the host can reach: the room's root is the runner's
// user there and may leave programs with the setuid bit.
type bind struct {
	Source, Target string
	ReadOnly, Dir  bool
	Device         string // of a volume, in place of Source
}

// Places in the stage. The room's own mount table shows some of these names,
// and none of the host's.
const (
	stageRoom   = "/room"
	stageDisk   = "/disk"
	stageLower  = "/lower"
	stageBundle = "/bundle"
	stageRun    = "/run"
	roomInitExe = "/.sallyport/init"
)

// devices of the host that runc puts into the room. It cannot make them itself
// inside a user namespace.
var devices = [...]string{"null", "zero", "full", "random", "urandom", "tty"}

// build turns the calling thread's mount namespace, which must be its own, into
// the stage of the room. On an error the namespace is good for nothing more.
func (l *layout) build() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := raiseLoopback(); err != nil {
		return err
	}
	if err := l.raiseUplink(); err != nil {
		return err
	}
	lower, err := l.cloneViews()
	if err != nil {
		return err
	}
	binds, err := l.cloneBinds()
	if err != nil {
		return err
	}
	if err := l.raiseStage(lower); err != nil {
		return err
	}
	if err := l.layRoot(); err != nil {
		return fmt.Errorf("lay the room's root: %w", err)
	}
	if err := l.attachBinds(stageRoom, binds); err != nil {
		return err
	}
	return os.WriteFile(stageBundle+"/config.json", l.Config, 0o600)
}

// raiseUplink makes the uplink, if there is to be one, in the calling thread's network namespace.
func (l *layout) raiseUplink() (err error) {
	if l.Uplink == nil {
		return nil
	}
	if l.link, err = l.Uplink.raise(); err != nil {
		return sallyport.Errorf(sallyport.CodeUnavailable, "the room can have no network on this host: %v", err).
			WithHint("load the kernel module tun or veth")
	}
	return nil
}

// attachBinds attaches the trees of the binds in the room whose root is given.
func (l *layout) attachBinds(root string, trees []*tree) error {
	for i, b := range l.Binds {
		target, err := openTarget(root, b.Target, b.Dir, owned{l.UID})
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			return sallyport.Errorf(sallyport.CodeInvalid, "the bind target %s leads through a symlink or a file", b.Target)
		}
		if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
			return sallyport.Errorf(sallyport.CodeInvalid, "the bind target %s does not exist, and cannot be made in the host's files", b.Target)
		}
		if err != nil {
			return err
		}
		err = trees[i].attachFD(target)
		target.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

const viewAttrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// cloneViews takes the host view; l.Views loses Writable where the file system
// cannot be id-mapped.
func (l *layout) cloneViews() ([]*tree, error) {
	trees := make([]*tree, len(l.Views))
	for i := range l.Views {
		v := &l.Views[i]
		t, err := cloneTree(v.Path, !v.Writable)
		if err != nil {
			return nil, err
		}
		if v.Writable && !l.Rootless {
			err = t.set(viewAttrs, l.viewMap, false)
			if errors.Is(err, unix.EINVAL) {
				// Without the mapping the room's root is a stranger to these files: it
				// may read what everybody may, and change nothing.
				v.Writable = false
			} else if err != nil {
				return nil, err
			}
		}
		if !v.Writable || l.Rootless {
			if err := t.set(viewAttrs, -1, !v.Writable); err != nil {
				return nil, err
			}
		}
		trees[i] = t
	}
	return trees, nil
}

// cloneBinds takes the binds.
func (l *layout) cloneBinds() ([]*tree, error) {
	trees := make([]*tree, len(l.Binds))
	for i, b := range l.Binds {
		t, err := b.tree()
		if err != nil {
			return nil, err
		}
		attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
		if b.ReadOnly {
			attrs |= unix.MOUNT_ATTR_RDONLY
		}
		err = t.set(attrs, l.bindMap, false)
		if errors.Is(err, unix.EINVAL) && b.ReadOnly {
			// What cannot be mapped is a stranger's, and readable if it is for everybody.
			err = t.set(attrs, -1, false)
		}
		if errors.Is(err, unix.EINVAL) {
			return nil, sallyport.Errorf(sallyport.CodeUnavailable, "the file system of a directory for the room cannot map user ids").
				WithHint("put the data directory on ext4, xfs, btrfs or tmpfs, on Linux 5.19 or later")
		}
		if err != nil {
			return nil, err
		}
		trees[i] = t
	}
	return trees, nil
}

// tree takes the bind's source.
func (b bind) tree() (*tree, error) {
	if b.Device != "" {
		return mountDetached(b.Device)
	}
	return cloneTree(b.Source, false)
}

// raiseStage makes the stage and pivots into it; the host's mounts are gone
// afterwards.
func (l *layout) raiseStage(lower []*tree) error {
	at := func(p string) string { return l.Stage + p }
	// Holds a few directories, config.json and the runtime's state.
	if err := unix.Mount("stage", l.Stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=8m,nr_inodes=4096"); err != nil {
		return fmt.Errorf("mount the stage: %w", err)
	}
	for _, dir := range []string{stageRoom, stageDisk, stageLower, "/proc", "/dev", "/sys", "/sys/fs", "/sys/fs/cgroup", "/usr", "/tmp"} {
		if err := os.Mkdir(at(dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{stageBundle, stageRun} {
		if err := os.Mkdir(at(dir), 0o700); err != nil {
			return err
		}
	}
	for i, t := range lower {
		target := at(fmt.Sprintf("%s/%d", stageLower, i))
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := t.attach(target); err != nil {
			return err
		}
	}
	for _, name := range devices {
		if err := os.WriteFile(at("/dev/"+name), nil, 0o600); err != nil {
			return err
		}
		if err := show("/dev/"+name, at("/dev/"+name), false, 0); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/sys/fs/cgroup"); err == nil {
		if err := show("/sys/fs/cgroup", at("/sys/fs/cgroup"), true, 0); err != nil {
			return err
		}
	}
	if err := l.showLibraries(at); err != nil {
		return err
	}
	if err := l.showProc(at("/proc")); err != nil {
		return err
	}
	if err := l.Disk.mount(at(stageDisk)); err != nil {
		return err
	}
	if err := os.Chdir(l.Stage); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot into the stage: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the host's mounts: %w", err)
	}
	return os.Chdir("/")
}

// showLibraries shows a dynamically linked runtime the host's libraries, read-only.
// It must not load any from the room's root, which the job may write.
func (l *layout) showLibraries(at func(string) string) error {
	for _, dir := range []string{"/usr", "/lib", "/lib64"} {
		fi, err := os.Lstat(dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return err
		case fi.Mode()&os.ModeSymlink != 0:
			to, err := os.Readlink(dir)
			if err != nil {
				return err
			}
			if err := os.Symlink(to, at(dir)); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			return err
		}
		if err := show(dir, at(dir), true, viewAttrs); err != nil {
			return err
		}
	}
	return nil
}

// showProc gives the runtime a /proc. With root a fresh one, since the host's may
// be partly covered and the kernel then refuses the room one of its own; else the
// host's, for nobody but root may mount one for the host's processes.
func (l *layout) showProc(target string) error {
	if l.Rootless {
		return show("/proc", target, true, 0)
	}
	if err := unix.Mount("proc", target, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// show binds source of the host at target.
func show(source, target string, recursive bool, attrs uint64) error {
	t, err := cloneTree(source, recursive)
	if err != nil {
		return err
	}
	if attrs != 0 {
		if err := t.set(attrs, -1, recursive); err != nil {
			return err
		}
	}
	return t.attach(target)
}

// layRoot makes the room's root at stageRoom: plain directories on the disk,
// and the host view over them.
func (l *layout) layRoot() error {
	o := owned{l.UID}
	if l.Image != "" {
		return l.layImage(o)
	}
	root := stageDisk + "/root"
	for _, dir := range []string{root, stageDisk + "/up", stageDisk + "/work"} {
		if err := o.dir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := show(root, stageRoom, false, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV); err != nil {
		return err
	}
	if err := skeleton(o); err != nil {
		return err
	}
	for path, to := range l.Links {
		if err := o.link(to, stageRoom+path); err != nil {
			return err
		}
	}
	for i, v := range l.Views {
		target := stageRoom + v.Path
		if err := makeDirs(o, v.Path); err != nil {
			return err
		}
		lower := fmt.Sprintf("%s/%d", stageLower, i)
		// Without root only /etc is worth an overlay: files there are the stranger's
		// either way, but new ones may be added.
		if !v.Writable || l.Rootless && v.Path != "/etc" {
			if err := show(lower, target, true, 0); err != nil {
				return err
			}
			continue
		}
		if err := l.overlay(v, lower, target, i); err != nil {
			return fmt.Errorf("overlay of %s: %w", v.Path, err)
		}
	}
	return nil
}

// layImage makes the room's root of an image: one overlay over all of it. What the
// room needs is put into the upper layer before it is mounted, so that no symlink of
// the image stands in its way.
func (l *layout) layImage(o owned) error {
	upper, work := stageDisk+"/up", stageDisk+"/work"
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{upper, 0o755}, {work, 0o755}, {upper + "/.sallyport", 0o755}, {upper + "/dev", 0o755}, {upper + "/proc", 0o755}, {upper + "/sys", 0o755},
		{upper + "/etc", 0o755}, {upper + "/tmp", 0o777 | os.ModeSticky},
	} {
		if err := o.dir(d.path, d.mode); err != nil {
			return err
		}
	}
	if err := l.ownEtc(o, upper+"/etc"); err != nil {
		return err
	}
	for path, to := range l.Links {
		dir := upper
		for part := range strings.SplitSeq(strings.Trim(filepath.Dir(path), "/"), "/") {
			if dir = filepath.Join(dir, part); dir == upper {
				continue
			}
			if err := o.dir(dir, 0o755); err != nil {
				return err
			}
		}
		if err := o.link(to, upper+path); err != nil {
			return err
		}
	}
	opts := fmt.Sprintf("lowerdir=%s/0,upperdir=%s,workdir=%s,volatile", stageLower, upper, work)
	if l.Rootless {
		opts += ",userxattr"
	}
	if err := unix.Mount("overlay", stageRoom, "overlay", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return fmt.Errorf("overlay of the image: %w", err)
	}
	return nil
}

// skeleton makes the directories that a distribution expects.
func skeleton(o owned) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{"/.sallyport", 0o755},
		{"/dev", 0o755}, {"/proc", 0o755}, {"/sys", 0o755},
		{"/home", 0o755}, {"/root", 0o700}, {"/mnt", 0o755}, {"/media", 0o755}, {"/srv", 0o755},
		{"/run", 0o755}, {"/run/lock", 0o777 | os.ModeSticky},
		{"/tmp", 0o777 | os.ModeSticky},
		{"/var", 0o755}, {"/var/cache", 0o755}, {"/var/lib", 0o755}, {"/var/log", 0o755}, {"/var/spool", 0o755},
		{"/var/tmp", 0o777 | os.ModeSticky},
		{"/var/cache/apt", 0o755}, {"/var/cache/apt/archives", 0o755}, {"/var/cache/apt/archives/partial", 0o700},
		{"/var/lib/apt", 0o755}, {"/var/lib/apt/lists", 0o755}, {"/var/lib/apt/lists/partial", 0o700},
		{"/var/log/apt", 0o755},
	} {
		if err := o.dir(stageRoom+d.path, d.mode); err != nil {
			return err
		}
	}
	if err := o.link("/run", stageRoom+"/var/run"); err != nil {
		return err
	}
	return o.link("/run/lock", stageRoom+"/var/lock")
}

func makeDirs(o owned, path string) error {
	full := stageRoom
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		full += "/" + part
		if _, err := os.Lstat(full); err == nil {
			continue
		}
		if err := o.dir(full, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// overlay covers lower with a writable layer on the disk and mounts it at target.
func (l *layout) overlay(v view, lower, target string, n int) error {
	o := owned{l.UID}
	upper, work := fmt.Sprintf("%s/up/%d", stageDisk, n), fmt.Sprintf("%s/work/%d", stageDisk, n)
	for _, dir := range []string{upper, work} {
		if err := o.dir(dir, 0o755); err != nil {
			return err
		}
	}
	for _, path := range l.Hidden {
		if rest, ok := strings.CutPrefix(path, v.Path+"/"); ok {
			if err := l.hide(lower, upper, rest); err != nil {
				return err
			}
		}
	}
	if v.Path == "/etc" {
		if err := l.ownEtc(o, upper); err != nil {
			return err
		}
	}
	opts := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work + ",volatile"
	if l.Rootless {
		opts += ",userxattr"
	}
	return unix.Mount("overlay", target, "overlay", unix.MS_NOSUID|unix.MS_NODEV, opts)
}

// hide puts a whiteout for rest, a path relative to lower, into upper.
func (l *layout) hide(lower, upper, rest string) error {
	var st unix.Stat_t
	if unix.Lstat(lower+"/"+rest, &st) != nil {
		return nil // nothing to hide here
	}
	for i, c := range rest {
		if c != '/' {
			continue
		}
		dir := rest[:i]
		if err := unix.Lstat(lower+"/"+dir, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil // the path led through a symlink; what it names is hidden under its own name
		}
		if err := os.Mkdir(upper+"/"+dir, 0o755); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		uid, gid := int(st.Uid), int(st.Gid)
		if l.Rootless {
			uid, gid = l.UID, l.UID // the host's owner has no name here
		}
		if err := os.Lchown(upper+"/"+dir, uid, gid); err != nil {
			return err
		}
		if err := unix.Chmod(upper+"/"+dir, st.Mode&0o7777); err != nil {
			return err
		}
	}
	if err := unix.Mknod(filepath.Join(upper, rest), unix.S_IFCHR, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// ownEtc writes the files of /etc that speak of the machine: they speak of the room.
func (l *layout) ownEtc(o owned, upper string) error {
	resolver := "# this room has no network\n"
	if l.Uplink != nil {
		resolver = "nameserver " + l.Uplink.Resolver.String() + "\n"
	}
	for name, content := range map[string]string{
		"hostname":    l.Hostname + "\n",
		"hosts":       "127.0.0.1 " + strings.Join(append([]string{"localhost", l.Hostname}, l.Hosts...), " ") + "\n::1 localhost ip6-localhost ip6-loopback\n",
		"resolv.conf": resolver,
	} {
		if err := o.file(upper+"/"+name, content); err != nil {
			return err
		}
	}
	if len(l.Trust) == 0 {
		return nil
	}
	for _, dir := range []string{"/ssl", "/ssl/certs"} {
		if _, err := os.Lstat(upper + dir); err == nil {
			continue // something in it is hidden
		}
		if err := o.dir(upper+dir, 0o755); err != nil {
			return err
		}
	}
	return o.file(upper+"/ssl/certs/ca-certificates.crt", string(l.Trust))
}
