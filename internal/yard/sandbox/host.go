package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The host view: what of the host's file system a room sees. It is a list of what
// is shown, so that what nobody thought of stays hidden: no /root, /home, /var, /run,
// /srv, /mnt or data directory.

// view is one directory of the host that rooms see at the same path.
type view struct {
	Path string
	// Writable views are covered by an overlay, so that a job may install and edit;
	// the room's root owns what the host's root owns. They are scanned for what
	// must not be seen. The others are read-only, and permissions hold there as
	// for a stranger on the host.
	Writable bool
}

// hostViews are tried in order; a symlink is copied as one, what is missing is
// left out.
var hostViews = [...]view{
	{"/usr", true},
	{"/bin", true}, {"/sbin", true}, {"/lib", true}, {"/lib32", true}, {"/lib64", true}, {"/libx32", true}, // symlinks where /usr is merged
	{"/etc", true},
	{"/opt", false},
	{"/var/lib/dpkg", true},
}

// neverShown are hidden whatever their permissions say.
var neverShown = [...]string{
	"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
	"/etc/ssh", "/etc/sudoers", "/etc/sudoers.d", "/etc/ssl/private", "/etc/letsencrypt", "/etc/wireguard",
	"/etc/NetworkManager/system-connections", "/etc/kubernetes", "/etc/docker", "/etc/krb5.keytab",
	"/etc/machine-id", "/etc/sallyport", "/usr/local/etc/sallyport",
	"/etc/fstab", "/etc/crypttab", "/etc/environment", "/etc/profile.d/sallyport.sh",
}

// scanned are the writable views that an administrator puts files of his own
// into. In them everything is hidden that a stranger on the host could not read,
// because the room's root, who owns it by the mapping, could. The rest of /usr
// holds what the distribution shipped to everybody.
var scanned = [...]string{"/etc", "/usr/local"}

// scanEvery is how long a scan of the host's permissions is believed. A scan of a
// usual host takes a few ten milliseconds of one core.
const scanEvery = time.Minute

// maxHidden bounds the list; a host with more secrets under /etc and /usr/local
// than this is not one to run foreign code on by this level.
const maxHidden = 10000

// hidden finds what rooms must not see, at most every scanEvery.
type hidden struct {
	now  func() time.Time
	mu   sync.Mutex
	at   time.Time
	list []string
}

func (h *hidden) paths(ctx context.Context) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && h.now().Sub(h.at) < scanEvery {
		return h.list, nil
	}
	found := make([][]string, len(scanned))
	g, ctx := errgroup.WithContext(ctx)
	for i, root := range scanned {
		g.Go(func() (err error) {
			found[i], err = unreadable(ctx, root)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	list := slices.Clone(neverShown[:])
	for _, f := range found {
		list = append(list, f...)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	// What lies in a hidden directory is hidden with it.
	h.list = slices.DeleteFunc(list, func(p string) bool {
		for dir := filepath.Dir(p); dir != "/"; dir = filepath.Dir(dir) {
			if _, found := slices.BinarySearch(list, dir); found {
				return true
			}
		}
		return false
	})
	h.at = h.now()
	return h.list, nil
}

// unreadable lists what under root is not open to everybody. It does not follow
// symlinks. The first room of a process waits for it, so that it uses every core.
func unreadable(ctx context.Context, root string) ([]string, error) {
	var st unix.Stat_t
	if unix.Lstat(root, &st) != nil {
		return nil, nil // there is no such root
	}
	if secret(root, st.Mode) {
		return []string{root}, nil
	}
	s := scan{ctx: ctx}
	s.others.SetLimit(runtime.GOMAXPROCS(0))
	err := s.dir(root)
	return s.list, errors.Join(err, s.others.Wait())
}

// scan is one walk. Whoever finds a directory hands it to another goroutine if
// one is free.
type scan struct {
	ctx    context.Context
	others errgroup.Group
	mu     sync.Mutex
	list   []string
}

func (s *scan) dir(path string) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	var entries []fs.DirEntry
	d, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == nil {
		defer d.Close()
		entries, err = d.ReadDir(-1)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOTDIR) {
		return nil // gone since; or what we cannot read, and so not the room
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		var st unix.Stat_t
		if e.Type() == fs.ModeSymlink || unix.Fstatat(int(d.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue // or gone since
		}
		inner := path + "/" + e.Name()
		switch {
		case secret(inner, st.Mode):
			err = s.found(inner)
		case st.Mode&unix.S_IFMT != unix.S_IFDIR, s.others.TryGo(func() error { return s.dir(inner) }):
		default:
			err = s.dir(inner)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) found(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list = append(s.list, path); len(s.list) > maxHidden {
		return errors.New("too many unreadable files on this host")
	}
	return nil
}

// secret tells whether a file of this mode and name is not for everybody.
func secret(path string, mode uint32) bool {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return mode&0o004 == 0 || strings.HasSuffix(path, ".keytab") ||
			strings.HasSuffix(path, ".key") && !strings.HasPrefix(path, "/etc/apt/") // there: public keys
	case unix.S_IFDIR:
		return mode&0o005 != 0o005
	case unix.S_IFLNK:
		return false
	default:
		return true // sockets, FIFOs and devices of the host
	}
}

// presentViews resolves hostViews on this host: directories to mount, and links
// to copy.
func presentViews() (dirs []view, links map[string]string) {
	links = make(map[string]string)
	for _, v := range hostViews {
		fi, err := os.Lstat(v.Path)
		switch {
		case err != nil:
		case fi.Mode()&os.ModeSymlink != 0:
			if to, err := os.Readlink(v.Path); err == nil {
				links[v.Path] = to
			}
		case fi.IsDir():
			dirs = append(dirs, v)
		}
	}
	return dirs, links
}
