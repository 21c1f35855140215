package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	s := open(t, Config{})
	sallyporttest.Sandbox(t, func(t *testing.T) sallyporttest.SandboxCase {
		return sallyporttest.SandboxCase{Sandbox: s, Dir: t.TempDir()}
	})
}

// TestOrdinaryUser runs the suite once more as a user without any right.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the whole test runs as an ordinary user already")
	}
	const uid = 1001 // needs no entry in the user database
	dir, err := os.MkdirTemp("", "ordinary")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(dir+"/tmp", 0o700), os.Chown(dir+"/tmp", uid, uid)); err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{os.Args[0]: "test", runtimePath(t): "runc"}
	if runsc := findTestRunsc(); runsc != "" {
		programs[runsc] = "runsc"
	}
	for from, to := range programs {
		if err := copyFile(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(dir+"/test", "-test.run", "TestConformance|TestStrongConformance|TestSweep", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "HOME=" + dir + "/tmp", "TMPDIR=" + dir + "/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	switch {
	case strings.Contains(string(out), "user namespaces") && err != nil:
		t.Skipf("this host does not let ordinary users isolate: %.500s", out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	default:
		t.Logf("%s", out)
	}
}

// copyFile copies a program. No process is forked meanwhile: one that held the
// copy open for writing would keep it from being run.
func copyFile(from, to string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}

// readyThen reports the first write, which says that the process runs.
type readyThen struct{ ready chan struct{} }

func (w *readyThen) Write(p []byte) (int, error) {
	select {
	case w.ready <- struct{}{}:
	default:
	}
	return len(p), nil
}

// TestCancelLongAfterStart cancels a process that has run for longer than
// handing it to the room may take: its signals must still arrive.
func TestCancelLongAfterStart(t *testing.T) {
	t.Parallel()
	s := open(t, Config{})
	r, err := s.Prepare(t.Context(), sallyport.RoomSpec{ID: "late"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Destroy(context.Background())
	s.patience = time.Second
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	out := &readyThen{ready: make(chan struct{}, 1)}
	cause := errors.New("no longer wanted")
	go func() {
		<-out.ready
		<-time.After(s.patience + s.patience/2) // that time passes is what this is about
		cancel(cause)
	}()
	res, err := r.Exec(ctx, sallyport.ExecSpec{
		Argv: []string{"/bin/sh", "-c", "echo ready; exec sleep 1000"}, Stdout: out,
		Grace: time.Hour, // SIGTERM is enough
	})
	if err != cause || res.Signal != "terminated" {
		t.Errorf("got %+v, %v; want it terminated, %v", res, err, cause)
	}
}

// holdMark makes the test binary a runner that holds a room until it is killed, and
// another that waits, where rooms can.
const holdMark = "sandbox-test:hold"

func hold(stateDir, runtime string) error {
	s, err := New(Config{StateDir: stateDir, Runtime: runtime})
	if err != nil {
		return err
	}
	var spec sallyport.RoomSpec
	like, waits := s.shapeOf(spec, s.limits)
	if waits {
		if err := s.pool.add(context.Background(), like); err != nil {
			return err
		}
	}
	spec.ID = "held"
	r, err := s.Prepare(context.Background(), spec)
	if err != nil {
		return err
	}
	if waits {
		if err := s.pool.add(context.Background(), like); err != nil {
			return err
		}
	}
	fmt.Println(r.(*Room).keeper.process.Pid)
	_, err = r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"/bin/sleep", "1000"}})
	return err
}

func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], holdMark, dir, runtimePath(t))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := roomInitPID(runtime)
	if err != nil {
		t.Fatal(err)
	}
	init, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(init)
	noted, err := os.ReadFile(filepath.Join(dir, "rooms/held", lockFile))
	if err != nil {
		t.Fatal(err)
	}

	s := open(t, Config{StateDir: dir})
	if err := s.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "rooms/held")); err != nil {
		t.Fatalf("the room of a living process was swept: %v", err)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The room dies with its runner, by itself.
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(init), Events: unix.POLLIN}}, 30_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n != 1 {
			t.Fatalf("the room outlived its runner: %d, %v", n, err)
		}
		break
	}
	if err := s.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "rooms"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	for group := range strings.Lines(string(noted)) {
		if _, err := os.Stat(strings.TrimSpace(group)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left over: cgroup %s", strings.TrimSpace(group))
		}
	}
	if b, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(b), dir) {
		t.Errorf("the host's mount table shows the room: %v", err)
	}
	// The id can be used again.
	r, err := s.Prepare(context.Background(), sallyport.RoomSpec{ID: "held"})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestManyRooms(t *testing.T) {
	t.Parallel()
	s := open(t, Config{})
	ctx := context.Background()
	bases := make(map[int]bool)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			r, err := s.Prepare(ctx, sallyport.RoomSpec{ID: fmt.Sprintf("many-%d", i)})
			if err != nil {
				t.Error(err)
				return
			}
			if ids := r.(*Room).ids; ids != nil {
				mu.Lock()
				if bases[ids.base] {
					t.Errorf("two rooms have the ids from %d on", ids.base)
				}
				bases[ids.base] = true
				mu.Unlock()
				defer func() { mu.Lock(); delete(bases, ids.base); mu.Unlock() }()
			}
			if res, err := r.Exec(ctx, sallyport.ExecSpec{Argv: []string{"/bin/true"}}); err != nil || res.ExitCode != 0 {
				t.Errorf("%+v, %v", res, err)
			}
			if err := r.Destroy(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(s.roomsDir()); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestPrepareCancelled(t *testing.T) {
	t.Parallel()
	s := open(t, Config{})
	cause := errors.New("no longer wanted")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if _, err := s.Prepare(ctx, sallyport.RoomSpec{ID: "cancelled"}); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	if left, err := os.ReadDir(s.roomsDir()); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{StateDir: "relative"}); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("relative directory: got %v", err)
	}
	for _, dir := range []string{"/usr", "/opt/sallyport/data", "/etc/x/../sallyport"} {
		if _, err := New(Config{StateDir: dir}); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("state in the rooms' view, %s: got %v", dir, err)
		}
	}
	if _, err := New(Config{StateDir: t.TempDir(), Runtime: "/bin/true"}); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("no runtime: got %v", err)
	}
	s := open(t, Config{})
	for _, path := range []string{s.stateDir, s.roomsDir()} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
}

func TestReexecLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"sallyport"}, {"sallyport", "run"}, {"sallyport", "", "sallyport:room-init"}} {
		if handled, _ := reexec(args); handled {
			t.Errorf("%q was taken", args)
		}
	}
}

// TestRuntimeIsNotOverwritten starts a program by the number of its file while that
// number is just above those of all other files.
func TestRuntimeIsNotOverwritten(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	program, err := os.Open("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	at := func(f *os.File, least int) *os.File {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, least)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), f.Name())
	}
	below := at(null, 600) // where no other test has files
	defer below.Close()
	exe := at(program, int(below.Fd())+1)
	defer exe.Close()
	spare, err := dupAbove(exe, below)
	if err != nil {
		t.Fatal(err)
	}
	defer spare.Close()
	p, err := os.StartProcess(procFD(exe), []string{"true"}, &os.ProcAttr{Files: []*os.File{spare, below, below}})
	if err != nil {
		t.Fatal(err)
	}
	if state, err := p.Wait(); err != nil || !state.Success() {
		t.Errorf("%v, %v", state, err)
	}
}
