package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watch hears of every file that is written, moved or removed on the job's own file
// system, fanotify(7). It needs root and a file system that nobody else uses: the host's others
// would be heard too.
type watch struct {
	file    *os.File
	buf     []byte
	sources []*source
	dirs    map[string]place // by the handle of the directory
	deaf    bool             // the kernel had more to tell than it keeps
}

// place is a directory of a source.
type place struct {
	source *source
	dir    string
}

// What is heard: how files come to be other than they were.
const heard = unix.FAN_CLOSE_WRITE | unix.FAN_MOVED_FROM | unix.FAN_MOVED_TO | unix.FAN_DELETE | unix.FAN_ONDIR

// newWatch listens on the file system that dir is on. It must be one of the job's own.
func newWatch(dir *os.File) (*watch, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_DFID_NAME|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fanotify: %w", err)
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, heard, int(dir.Fd()), ""); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("fanotify: %w", err)
	}
	return &watch{file: os.NewFile(uintptr(fd), "fanotify"), buf: make([]byte, 64<<10), dirs: map[string]place{}}, nil
}

// follow tells the watch where a source's files are. What was heard before is of its checkout.
func (w *watch) follow(s *source) {
	w.drain(func(string, string, bool) {})
	w.sources = append(w.sources, s)
	for _, dir := range s.directories() {
		f, err := s.open(dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue // removed since; its files are found missing
		}
		handle, _, err := unix.NameToHandleAt(int(f.Fd()), "", unix.AT_EMPTY_PATH)
		f.Close()
		if err == nil {
			w.dirs[handleKey(handle.Type(), handle.Bytes())] = place{s, dir}
		}
	}
}

func handleKey(kind int32, handle []byte) string {
	return string(binary.NativeEndian.AppendUint32(nil, uint32(kind))) + string(handle)
}

// hear takes in what happened up to now, as of a step.
func (w *watch) hear(step int) {
	w.drain(func(key, name string, dir bool) {
		if p, ok := w.dirs[key]; ok {
			p.source.touched(path.Join(p.dir, name), dir, step)
		}
	})
}

// drain reads events until there are none.
func (w *watch) drain(each func(key, name string, dir bool)) {
	for {
		n, err := unix.Read(int(w.file.Fd()), w.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		w.parse(w.buf[:n], each)
	}
}

// parse walks a buffer of events as fanotify(7) lays it out.
func (w *watch) parse(b []byte, each func(key, name string, dir bool)) {
	const header = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	for len(b) >= header {
		length, mask := int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint64(b[8:])
		if length < header || length > len(b) {
			return
		}
		event := b[header:length]
		b = b[length:]
		if mask&unix.FAN_Q_OVERFLOW != 0 {
			w.deaf = true
			continue
		}
		for len(event) >= 4 {
			kind, size := event[0], int(binary.NativeEndian.Uint16(event[2:]))
			if size < 4 || size > len(event) {
				break
			}
			if kind == unix.FAN_EVENT_INFO_TYPE_DFID_NAME {
				if key, name, ok := directoryAndName(event[4:size]); ok {
					each(key, name, mask&unix.FAN_ONDIR != 0)
				}
			}
			event = event[size:]
		}
	}
}

// directoryAndName reads what follows the header of struct fanotify_event_info_fid: the
// file system's id (8 bytes), a struct file_handle, and a name.
func directoryAndName(b []byte) (key, name string, ok bool) {
	if len(b) < 16 {
		return "", "", false
	}
	size := int(binary.NativeEndian.Uint32(b[8:]))
	kind := int32(binary.NativeEndian.Uint32(b[12:]))
	if size < 0 || size > len(b)-16 {
		return "", "", false
	}
	handle := b[16 : 16+size]
	text, _, _ := bytes.Cut(b[16+size:], []byte{0})
	return handleKey(kind, handle), string(text), true
}

func (w *watch) close() { w.file.Close() }
