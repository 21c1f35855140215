package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// userMaps are the ids that an ordinary user can give a room: his own as root,
// and, where /etc/subuid and /etc/subgid grant him some and newuidmap is
// installed, up to 65535 more.
type userMaps struct {
	uid, gid       int
	subUID, subGID int // first of the granted ids
	count          int // how many are granted of both; 0 = own id only
}

// findUserMaps looks up what the calling user was granted.
func findUserMaps() userMaps {
	m := userMaps{uid: os.Geteuid(), gid: os.Getegid()}
	if newIDMap("newuidmap") == "" || newIDMap("newgidmap") == "" {
		return m
	}
	name := ""
	if u, err := user.LookupId(strconv.Itoa(m.uid)); err == nil {
		name = u.Username
	}
	uids, nu := subIDs("/etc/subuid", name, m.uid)
	gids, ng := subIDs("/etc/subgid", name, m.uid)
	if n := min(nu, ng, rangeSize-1); n > 0 {
		m.subUID, m.subGID, m.count = uids, gids, n
	}
	return m
}

func newIDMap(name string) string {
	for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/sbin/"} {
		if unix.Access(dir+name, unix.X_OK) == nil {
			return dir + name
		}
	}
	return ""
}

// subIDs reads the first range of a user from a file like subuid(5).
func subIDs(path, name string, uid int) (first, count int) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	return parseSubIDs(bufio.NewScanner(f), name, uid)
}

func parseSubIDs(sc *bufio.Scanner, name string, uid int) (first, count int) {
	for sc.Scan() {
		f := strings.Split(strings.TrimSpace(sc.Text()), ":")
		if len(f) != 3 || f[0] == "" || f[0] != name && f[0] != strconv.Itoa(uid) {
			continue
		}
		first, err1 := strconv.ParseInt(f[1], 10, 32)
		count, err2 := strconv.ParseInt(f[2], 10, 32)
		if err1 == nil && err2 == nil && first > 0 && count > 0 {
			return int(first), int(count)
		}
	}
	return 0, 0
}

// inside are the mappings of a room's user namespace, which lies in the keeper's
// and has the same ids. The kernel wants each within one extent of the keeper's.
func (m userMaps) inside() []specs.LinuxIDMapping {
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 1}}
	if m.count > 0 {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: 1, HostID: 1, Size: uint32(m.count)})
	}
	return maps
}

// start starts our own binary as the root of a new user namespace. files are its
// first four files, job and extra follow.
func (m userMaps) start(exe, mark string, flags uintptr, files []*os.File, job *os.File, extra ...*os.File) (*os.Process, error) {
	ready, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	defer readyW.Close()
	sys := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | flags, Pdeathsig: syscall.SIGKILL, Setsid: true}
	if m.count == 0 {
		sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: m.uid, Size: 1}}
		sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: m.gid, Size: 1}}
	}
	p, err := os.StartProcess(exe, []string{"sallyport", mark}, &os.ProcAttr{
		Env:   []string{"GOMAXPROCS=1"},
		Files: append(append(append([]*os.File{}, files...), ready, job), extra...),
		Sys:   sys,
	})
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "this user may not make a user namespace: %v", err).
			WithHint("allow unprivileged user namespaces on this host, or run the runner as root")
	}
	if m.count > 0 {
		err = m.write(p.Pid)
	}
	if err == nil {
		_, err = readyW.Write([]byte{1})
	}
	if err != nil {
		_ = p.Kill()
		_, _ = p.Wait()
		return nil, err
	}
	return p, nil
}

// run has our own binary settle a job and waits for it, on a thread that lives as long: the
// parent whose death ends such a process is a thread, and those of rooms end with them.
func (m userMaps) run(exe string, flags uintptr, null, job *os.File) (state *os.ProcessState, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var p *os.Process
		if p, err = m.start(exe, markSettle, flags, []*os.File{null, null, null, null}, job); err == nil {
			state, err = p.Wait()
		}
	}()
	<-done
	return state, err
}

// write maps the ids of a process's user namespace by the setuid tools of the host.
func (m userMaps) write(pid int) error {
	for _, t := range []struct {
		tool     string
		own, sub int
	}{{"newuidmap", m.uid, m.subUID}, {"newgidmap", m.gid, m.subGID}} {
		cmd := exec.Command(newIDMap(t.tool), strconv.Itoa(pid),
			"0", strconv.Itoa(t.own), "1", "1", strconv.Itoa(t.sub), strconv.Itoa(m.count))
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		if out, err := cmd.CombinedOutput(); err != nil {
			return sallyport.Errorf(sallyport.CodeUnavailable, "%s refused: %.200s", t.tool, strings.TrimSpace(string(out))).
				WithHint("look whether /etc/subuid and /etc/subgid grant this user ids, or remove the grant to use one id only")
		}
	}
	return nil
}

var errNoRoot = errors.New("not root in a user namespace of its own")

// awaitRoot waits until the ids of our user namespace are mapped and makes us its
// root: a process started before the mapping has to be executed anew for that.
func awaitRoot() error {
	var b [1]byte
	_, _ = unix.Read(keeperSync, b[:]) // stays 0 when the parent gave up, or at the second time here
	if unix.Geteuid() != 0 {
		return errNoRoot
	}
	caps := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&caps, &data[0]); err != nil {
		return err
	}
	if data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return unix.Close(keeperSync)
	}
	if b[0] == 0 {
		return errNoRoot
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// settleJob names the directories whose files shall be the runner's again.
type settleJob struct{ Dirs []string }

// settle gives files that a room made for other users in its writable binds back
// to the runner's user, who could not remove them otherwise.
func (m userMaps) settle(exe string, dirs []string) error {
	if m.count == 0 || len(dirs) == 0 || !holdsStrangers(dirs, m.uid) {
		return nil
	}
	job, err := memFile(settleJob{Dirs: dirs})
	if err != nil {
		return err
	}
	defer job.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	state, err := m.run(exe, 0, null, job)
	if err != nil {
		return err
	}
	if !state.Success() {
		return fmt.Errorf("give files back to the runner: %v", state)
	}
	return nil
}

// holdsStrangers tells whether something under dirs belongs to another user or
// cannot be looked at.
func holdsStrangers(dirs []string, uid int) bool {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return err
			}
			if int(st.Uid) != uid {
				return fs.ErrPermission
			}
			return nil
		})
		if err != nil {
			return true
		}
	}
	return false
}

// roomSettle is the process that does it, root of a user namespace with the same
// ids as the room had.
func roomSettle([]string) error {
	if err := awaitRoot(); err != nil {
		return fmt.Errorf("room settle: %w", err)
	}
	var job settleJob
	if err := readJob(keeperJobFile, &job); err != nil {
		return fmt.Errorf("room settle: read the job: %w", err)
	}
	for _, dir := range job.Dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil && d == nil {
				return err
			}
			return os.Lchown(path, 0, 0)
		})
		if err != nil {
			return fmt.Errorf("room settle: %w", err)
		}
	}
	return nil
}
