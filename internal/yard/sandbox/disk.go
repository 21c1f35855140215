package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A room's disk holds all it writes outside the binds. As root it is an ext4 file
// system on a loop device over an unlinked sparse file: a hard limit of bytes and
// inodes that ends as ENOSPC, pages that are not charged as memory for good, and
// nothing left over after a crash. Making one by copying a template takes about a
// millisecond. Where that cannot be (no root, no mkfs.ext4, no loop device) it is a
// tmpfs, whose pages count as the room's memory, hence smaller.

// bytesPerInode is the least that the inode table spends on a file; fewer bytes
// and a small disk would be all table.
const bytesPerInode = 4096

// minDisk is what mkfs.ext4 needs for a file system worth the name.
const minDisk = 16 << 20

// disk says what to mount as the room's disk.
type disk struct {
	Loop   string // block device with an ext4 file system; "" = tmpfs
	Bytes  int64
	Inodes int64
}

// templates keeps one empty file system image per size.
type templates struct {
	dir string
	mu  sync.Mutex
	of  map[disk]*os.File
}

// image returns an unlinked file with an empty file system as d says.
func (t *templates) image(ctx context.Context, d disk) (*os.File, error) {
	template, err := t.template(ctx, d)
	if err != nil {
		return nil, err
	}
	f, err := unlinkedFile(t.dir, d.Bytes)
	if err != nil {
		return nil, err
	}
	if err := copySparse(f, template); err != nil {
		f.Close()
		return nil, fmt.Errorf("copy the disk's template: %w", err)
	}
	return f, nil
}

func (t *templates) template(ctx context.Context, d disk) (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f, ok := t.of[d]; ok {
		return f, nil
	}
	f, err := unlinkedFile(t.dir, d.Bytes)
	if err != nil {
		return nil, err
	}
	inodes := max(min(d.Inodes, d.Bytes/bytesPerInode), 64)
	mkfs := exec.CommandContext(ctx, mkfsPath(), "-q", "-F", "-m", "0", "-b", "4096",
		// No journal: the disk is never mounted a second time.
		"-O", "^has_journal,^resize_inode", "-N", strconv.FormatInt(inodes, 10),
		"-E", "lazy_itable_init=1,nodiscard,packed_meta_blocks=1", "/dev/fd/3")
	mkfs.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	mkfs.ExtraFiles = []*os.File{f}
	if out, err := mkfs.CombinedOutput(); err != nil {
		f.Close()
		return nil, fmt.Errorf("mkfs.ext4: %w: %.200s", err, out)
	}
	if t.of == nil {
		t.of = make(map[disk]*os.File)
	}
	t.of[d] = f
	return f, nil
}

func (t *templates) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.of {
		f.Close()
	}
	t.of = nil
}

// mkfsPath returns where mkfs.ext4 is, "" if nowhere.
func mkfsPath() string {
	for _, p := range []string{"/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"} {
		if unix.Access(p, unix.X_OK) == nil {
			return p
		}
	}
	return ""
}

// diskOnLoop tells whether root can have rooms' disks on loop devices here.
func diskOnLoop() bool {
	return mkfsPath() != "" && unix.Access("/dev/loop-control", unix.W_OK) == nil
}

func unlinkedFile(dir string, size int64) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a disk image: %w", err)
	}
	f := os.NewFile(uintptr(fd), "disk image")
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("make a disk image: %w", err)
	}
	return f, nil
}

// copySparse copies the parts of src that hold data; dst has its size already.
func copySparse(dst, src *os.File) error {
	from, to := int(src.Fd()), int(dst.Fd())
	for off := int64(0); ; {
		start, err := unix.Seek(from, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but holes behind
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(from, start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for in, out := start, start; in < end; {
			n, err := unix.CopyFileRange(from, &in, to, &out, int(end-in), 0)
			if err != nil {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
		}
		off = end
	}
}

// attachLoop puts image on a free loop device and returns the device, open, and
// its path. The kernel frees the device when its last user goes.
func attachLoop(image *os.File) (*os.File, string, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, "", err
	}
	defer control.Close()
	// Others may take the device between the two calls; 64 losses in a row mean
	// something else is wrong.
	for range 64 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, "", fmt.Errorf("free loop device: %w", err)
		}
		path := "/dev/loop" + strconv.Itoa(n)
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, "", err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if err == nil {
			return dev, path, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, "", fmt.Errorf("configure %s: %w", path, err)
		}
	}
	return nil, "", errors.New("no loop device stayed free")
}

// mount mounts the disk at target.
func (d disk) mount(target string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME
	if d.Loop == "" {
		opts := fmt.Sprintf("size=%d,nr_inodes=%d,mode=755", d.Bytes, d.Inodes)
		if err := unix.Mount("disk", target, "tmpfs", flags, opts); err != nil {
			return fmt.Errorf("mount the room's disk: %w", err)
		}
		return nil
	}
	// noinit_itable: no kernel thread writes the inode tables of a disk that lives
	// for minutes. nobarrier: what a crash leaves is thrown away anyway.
	if err := unix.Mount(d.Loop, target, "ext4", flags, "noinit_itable,nobarrier,errors=remount-ro"); err != nil {
		return fmt.Errorf("mount the room's disk: %w", err)
	}
	return nil
}
