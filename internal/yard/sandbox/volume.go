package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// volume is a file system of its own, on a loop device over an unlinked file like
// a room's disk. It is mounted twice, detached both times, so that it stands in no
// mount table of the host and ends with those who hold it: here as the runner sees
// it, and in the room with the room's ids.
type volume struct {
	s    *Sandbox
	loop *os.File // keeps the device
	path string   // of the device
	tree *tree    // keeps our mount
}

// Volume implements sallyport.Sandbox.
func (s *Sandbox) Volume(ctx context.Context, limits sallyport.Limits) (sallyport.Volume, error) {
	if !s.bounds() {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "this host cannot bound a directory: %s", s.unbounded())
	}
	limits = withDefaults(limits, s.limits)
	image, err := s.disks.image(ctx, disk{Bytes: limits.DiskBytes, Inodes: limits.Files})
	if err != nil {
		return nil, err
	}
	defer image.Close()
	v := &volume{s: s}
	if v.loop, v.path, err = attachLoop(image); err != nil {
		return nil, err
	}
	if v.tree, err = mountDetached(v.path); err != nil {
		v.loop.Close()
		return nil, err
	}
	if err := os.Remove(v.Dir() + "/lost+found"); err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = v.release()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.volumes[v.Dir()] = v.path
	return v, nil
}

// Dir implements sallyport.Volume.
func (v *volume) Dir() string { return procFD(v.tree.File) }

// Close implements sallyport.Volume.
func (v *volume) Close() error {
	v.s.mu.Lock()
	delete(v.s.volumes, v.Dir())
	v.s.mu.Unlock()
	return v.release()
}

func (v *volume) release() error { return errors.Join(v.tree.Close(), v.loop.Close()) }

// volume returns the device of the volume whose Dir is dir, "" for another directory.
func (s *Sandbox) volume(dir string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.volumes[dir]
}

// bounds tells whether this host can give a directory hard limits.
func (s *Sandbox) bounds() bool { return !s.rootless && diskOnLoop() }

// unbounded says why it cannot.
func (s *Sandbox) unbounded() string {
	if s.rootless {
		return "only root can mount the file system that would hold it"
	}
	return "that needs mkfs.ext4 and loop devices"
}

// mountDetached mounts the ext4 file system of a device nowhere.
func mountDetached(device string) (*tree, error) {
	fail := func(err error) (*tree, error) { return nil, fmt.Errorf("mount a volume: %w", err) }
	fs, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fs)
	for _, o := range [][2]string{{"source", device}, {"errors", "remount-ro"}} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return fail(err)
		}
	}
	for _, flag := range []string{"noinit_itable", "nobarrier"} { // as of a room's disk
		if err := unix.FsconfigSetFlag(fs, flag); err != nil {
			return fail(err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fail(err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOATIME)
	if err != nil {
		return fail(err)
	}
	return &tree{os.NewFile(uintptr(fd), device)}, nil
}
