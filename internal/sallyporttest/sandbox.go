package sallyporttest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/escape"
)

// SandboxCase is how the suite reaches an implementation.
type SandboxCase struct {
	// Sandbox makes the rooms.
	Sandbox sallyport.Sandbox
	// Dir is a directory on the host in which the suite may work.
	Dir string
}

// Sandbox runs the suite. The test binary's TestMain must call SandboxProbe. A
// limit that the implementation says it cannot enforce here is skipped with its reason.
func Sandbox(t *testing.T, open func(t *testing.T) SandboxCase) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Exec", testExec},
		{"ExecRefusals", testExecRefusals},
		{"Streams", testStreams},
		{"Parallel", testParallel},
		{"Cancel", testCancel},
		{"Daemons", testDaemons},
		{"Fresh", testFresh},
		{"Binds", testBinds},
		{"BindRefusals", testBindRefusals},
		{"Disk", testDisk},
		{"Volume", testVolume},
		{"Image", testImage},
		{"Peers", testPeers},
		{"Forks", testForks},
		{"Memory", testMemory},
		{"Network", testNetwork},
		{"Uplink", testUplink},
		{"Dial", testDial},
		{"Serve", testServe},
		{"Escapes", testEscapes},
		{"InitSurvives", testInitSurvives},
		{"Destroy", testDestroy},
		{"Isolation", testIsolation},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, &suite{SandboxCase: open(t)})
		})
	}
}

type suite struct {
	SandboxCase
	rooms int
}

const probePath = "/opt-probe/probe"

// room makes a room that is destroyed with the test. The test binary is in it.
func (s *suite) room(t *testing.T, spec sallyport.RoomSpec) sallyport.Room {
	t.Helper()
	s.rooms++
	id := fmt.Sprintf("%s-%d", strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")), s.rooms)
	if len(id) > 64 {
		id = id[len(id)-64:]
	}
	spec.ID = strings.TrimLeft(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, id), "-")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec.Binds = append(spec.Binds, sallyport.Bind{Source: exe, Target: probePath, ReadOnly: true})
	r, err := s.Sandbox.Prepare(context.Background(), spec)
	if err != nil {
		t.Fatalf("Prepare: %v", whole(err))
	}
	t.Cleanup(func() {
		if err := r.Destroy(context.Background()); err != nil {
			t.Errorf("Destroy: %v", err)
		}
	})
	return r
}

// whole spells out an error with its operator's part.
func whole(err error) string {
	var e *sallyport.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("%v [%s] hint: %s", err, e.Code, e.Hint)
	}
	return err.Error()
}

var env = []sallyport.EnvVar{{Name: "PATH", Value: "/usr/local/bin:/usr/bin:/bin"}, {Name: "HOME", Value: "/root"}}

// sh runs a script and returns its trimmed output and result.
func sh(t *testing.T, r sallyport.Room, script string) (string, sallyport.ExecResult) {
	t.Helper()
	return run(t, r, "sh", "-c", script)
}

func run(t *testing.T, r sallyport.Room, argv ...string) (string, sallyport.ExecResult) {
	t.Helper()
	var out bytes.Buffer
	res, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: argv, Env: env, Dir: "/", Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatalf("Exec(%q): %v", argv, whole(err))
	}
	return strings.TrimSpace(out.String()), res
}

func probe(t *testing.T, r sallyport.Room, args ...string) (string, sallyport.ExecResult) {
	t.Helper()
	return run(t, r, append([]string{probePath, probeMark}, args...)...)
}

func testExec(t *testing.T, s *suite) {
	r := s.room(t, sallyport.RoomSpec{Hostname: "testroom"})
	for _, c := range []struct {
		name, script, out string
		res               sallyport.ExecResult
	}{
		{"success", "true", "", sallyport.ExecResult{}},
		{"exit code", "exit 3", "", sallyport.ExecResult{ExitCode: 3}},
		{"highest exit code", "exit 255", "", sallyport.ExecResult{ExitCode: 255}},
		{"signal", "kill -TERM $$", "", sallyport.ExecResult{ExitCode: 143, Signal: "terminated"}},
		{"kill", "kill -KILL $$", "", sallyport.ExecResult{ExitCode: 137, Signal: "killed"}},
		{"output", "echo one; echo two >&2", "one\ntwo", sallyport.ExecResult{}},
		{"user", "id -u; id -g", "0\n0", sallyport.ExecResult{}},
		{"hostname", "hostname; cat /etc/hostname", "testroom\ntestroom", sallyport.ExecResult{}},
		{"environment is whole", "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sort", "HOME=/root\nPATH=/usr/local/bin:/usr/bin:/bin", sallyport.ExecResult{}},
		{"no file of the host is open", "ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3", sallyport.ExecResult{}}, // 3 is ls's own
		{"stdin is empty", "wc -c", "0", sallyport.ExecResult{}},
		{"signals have their default", "grep -e ^SigIgn -e ^SigBlk /proc/self/status", "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000", sallyport.ExecResult{}},
		{"own session", "test $(ps -o sid= -p $$) = $$ && echo yes", "yes", sallyport.ExecResult{}},
		{"etc may be edited", "echo x >> /etc/passwd && tail -n1 /etc/passwd", "x", sallyport.ExecResult{}},
		{"temporary files", "f=$(mktemp) && echo x > $f && cat $f && echo y > /dev/shm/y && cat /dev/shm/y", "x\ny", sallyport.ExecResult{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "etc may be edited" && r.Isolation().Rootless {
				t.Skip("without root the files of the host view belong to a stranger")
			}
			if c.name == "signals have their default" && strong(r) {
				t.Skip("the room's own kernel does not show them")
			}
			out, res := sh(t, r, c.script)
			if out != c.out || res != c.res {
				t.Errorf("%s: got %q, %+v; want %q, %+v", c.script, out, res, c.out, c.res)
			}
		})
	}
	var out bytes.Buffer
	res, err := r.Exec(context.Background(), sallyport.ExecSpec{
		Argv: []string{"sh", "-c", `pwd; echo "$A"`}, Dir: "/var/tmp", Stdout: &out,
		Env: append([]sallyport.EnvVar{{Name: "A", Value: "x\ny = $HOME \xff"}}, env...),
	})
	if err != nil || res.ExitCode != 0 || out.String() != "/var/tmp\nx\ny = $HOME \xff\n" {
		t.Errorf("directory and environment: got %q, %+v, %v", out.String(), res, err)
	}
}

func testExecRefusals(t *testing.T, s *suite) {
	r := s.room(t, sallyport.RoomSpec{})
	for _, c := range []struct {
		name string
		spec sallyport.ExecSpec
	}{
		{"no command", sallyport.ExecSpec{}},
		{"no such program", sallyport.ExecSpec{Argv: []string{"no-such-program"}, Env: env}},
		{"no such file", sallyport.ExecSpec{Argv: []string{"/no/such/file"}}},
		{"not executable", sallyport.ExecSpec{Argv: []string{"/etc/passwd"}}},
		{"a directory", sallyport.ExecSpec{Argv: []string{"/etc"}}},
		{"no such directory", sallyport.ExecSpec{Argv: []string{"/bin/true"}, Dir: "/no/such"}},
		{"relative directory", sallyport.ExecSpec{Argv: []string{"/bin/true"}, Dir: "tmp"}},
		{"directory under /proc", sallyport.ExecSpec{Argv: []string{"/bin/true"}, Dir: "/proc/self/fd/3"}},
		{"NUL in an argument", sallyport.ExecSpec{Argv: []string{"/bin/echo", "a\x00b"}}},
		{"name with =", sallyport.ExecSpec{Argv: []string{"/bin/true"}, Env: []sallyport.EnvVar{{Name: "A=B", Value: "x"}}}},
		{"too long", sallyport.ExecSpec{Argv: []string{"/bin/true", strings.Repeat("x", 3<<20)}}},
		{"longer than the kernel takes", sallyport.ExecSpec{Argv: []string{"/bin/true", strings.Repeat("x", 1<<20)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if res, err := r.Exec(context.Background(), c.spec); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
				t.Errorf("got %+v, %v; want %s", res, err, sallyport.CodeInvalid)
			}
		})
	}
	// The room still works.
	if out, _ := sh(t, r, "echo fine"); out != "fine" {
		t.Errorf("got %q afterwards", out)
	}
}

func testStreams(t *testing.T, s *suite) {
	r := s.room(t, sallyport.RoomSpec{})
	const size = 8 << 20
	in := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	var out, errs bytes.Buffer
	res, err := r.Exec(context.Background(), sallyport.ExecSpec{
		Argv: []string{"sh", "-c", "cat; echo done >&2"}, Env: env, Stdin: bytes.NewReader(in), Stdout: &out, Stderr: &errs,
	})
	if err != nil || res.ExitCode != 0 || !bytes.Equal(out.Bytes(), in) || errs.String() != "done\n" {
		t.Errorf("through cat: %d of %d bytes, stderr %q, %+v, %v", out.Len(), len(in), errs.String(), res, err)
	}
	// A process that does not read all of its input ends all the same.
	if res, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"true"}, Env: env, Stdin: bytes.NewReader(in)}); err != nil || res.ExitCode != 0 {
		t.Errorf("unread input: %+v, %v", res, err)
	}
	// All that was written before the end is passed on although a child holds the
	// pipe, and the child may go on writing.
	o, _ := sh(t, r, "head -c 50000 /dev/zero | tr '\\0' x; (while echo y; do :; done) & exit 0")
	if n := strings.Count(o, "x"); n != 50000 {
		t.Errorf("got %d of 50000 bytes written before the end", n)
	}
	// A writer that fails is an error, and the process is not stopped by it.
	res, err = r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"sh", "-c", "head -c 1000000 /dev/zero; exit 5"}, Env: env, Stdout: failing{}})
	if err == nil || res.ExitCode != 5 {
		t.Errorf("failing writer: %+v, %v", res, err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no") }

func testParallel(t *testing.T, s *suite) {
	r := s.room(t, sallyport.RoomSpec{})
	// Each waits for all others: they end only when they run side by side.
	const n = 8
	errs := make(chan error, n)
	for i := range n {
		go func() {
			var out bytes.Buffer
			script := fmt.Sprintf(`mkdir -p /tmp/all; touch /tmp/all/%d; while [ $(ls /tmp/all | wc -l) -lt %d ]; do sleep 0.01; done; echo %d; exit %d`, i, n, i, i)
			res, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"sh", "-c", script}, Env: env, Stdout: &out})
			if err == nil && (res.ExitCode != i || strings.TrimSpace(out.String()) != fmt.Sprint(i)) {
				err = fmt.Errorf("process %d: got %q, %+v", i, out.String(), res)
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// started cancels a context when a process says it is ready.
type started struct {
	cancel context.CancelCauseFunc
	cause  error
	buf    bytes.Buffer
}

func (s *started) Write(p []byte) (int, error) {
	s.buf.Write(p)
	if strings.Contains(s.buf.String(), "ready\n") {
		s.cancel(s.cause)
	}
	return len(p), nil
}

func testCancel(t *testing.T, s *suite) {
	r := s.room(t, sallyport.RoomSpec{})
	cause := errors.New("told to stop")
	for _, c := range []struct{ name, script, out string }{
		{"interrupted", `trap 'echo interrupted; exit 0' INT; trap 'echo terminated; exit 0' TERM; echo ready; while :; do sleep 0.01; done`, "ready\ninterrupted\n"},
		{"interrupted, deaf to it", `trap '' INT; trap 'echo terminated; exit 0' TERM; echo ready; while :; do sleep 0.01; done`, "ready\nterminated\n"},
		{"interrupted, the background jobs", `sleep 1000 & echo ready; wait`, "ready\n"},
		{"interrupted, deaf to all", `trap '' INT TERM; echo ready; while :; do sleep 0.01; done`, "ready\n"},
		{"cooperative", `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done`, "ready\nbye\n"},
		{"the whole group", `sleep 1000 & echo ready; wait`, "ready\n"},
		{"a child cleans up", `sh -c 'trap "sleep 0.05; echo cleaned; exit" TERM; echo ready; while :; do sleep 0.01; done' & trap 'exit 1' TERM; wait; wait`, "ready\ncleaned\n"},
		{"deaf", `trap '' TERM; echo ready; while :; do sleep 0.01; done`, "ready\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			// Whoever obeys must have the time to, also on a busy machine; the others cost it whole.
			grace := time.Minute
			switch {
			case strings.HasSuffix(c.name, "deaf to it"):
				grace = 6 * time.Second
			case strings.Contains(c.name, "deaf"):
				grace = 500 * time.Millisecond
			}
			out := &started{cancel: cancel, cause: cause}
			_, err := r.Exec(ctx, sallyport.ExecSpec{Argv: []string{"sh", "-c", c.script}, Env: env, Stdout: out, Grace: grace,
				Interrupt: func(why error) bool { return errors.Is(why, cause) && strings.HasPrefix(c.name, "interrupted") }})
			if !errors.Is(err, cause) {
				t.Errorf("got error %v, want %v", err, cause)
			}
			if got := out.buf.String(); got != c.out {
				t.Errorf("got output %q, want %q", got, c.out)
			}
		})
	}
	if left, _ := sh(t, r, "ps -e -o comm= | grep -c -e sleep"); left != "0" {
		t.Errorf("%s processes were left in killed groups", left)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if _, err := r.Exec(ctx, sallyport.ExecSpec{Argv: []string{"/bin/true"}}); !errors.Is(err, cause) {
		t.Errorf("cancelled before: got %v", err)
	}
}

// hostPIDs finds processes of the host by a word in their command line.
func hostPIDs(t *testing.T, word string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, e := range entries {
		if b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && bytes.Contains(b, []byte(word)) && e.Name() != "self" && e.Name() != "thread-self" {
			pids = append(pids, e.Name())
		}
	}
	return pids
}

func testDaemons(t *testing.T, s *suite) {
	r := s.room(t, sallyport.RoomSpec{})
	word := fmt.Sprintf("77%d", os.Getpid())
	// One in a session of its own, one orphaned, one deaf to signals.
	sh(t, r, "setsid sleep "+word+" & (sleep "+word+" &) ; sh -c 'trap \"\" TERM HUP; exec sleep "+word+"' & exit 0")
	// They live on in the next step, which waits until all have become what they are.
	if out, _ := sh(t, r, "until [ $(ps -e -o args= | grep -c '^sleep "+word+"') = 3 ]; do sleep 0.01; done; echo three"); out != "three" {
		t.Fatalf("got %q", out)
	}
	if len(hostPIDs(t, word)) == 0 && !strong(r) {
		t.Fatal("the daemons cannot be seen from the host")
	}
	if err := r.Destroy(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left := hostPIDs(t, word); len(left) > 0 {
		t.Errorf("processes %v outlived the room", left)
	}
}

func testFresh(t *testing.T, s *suite) {
	a := s.room(t, sallyport.RoomSpec{})
	script := "for d in / /tmp /var/tmp /root /home /etc /usr/bin /dev/shm /run; do touch $d/yesterday 2>/dev/null; done; ls /tmp"
	if out, _ := sh(t, a, script); !strings.Contains(out, "yesterday") {
		t.Fatalf("got %q", out)
	}
	b := s.room(t, sallyport.RoomSpec{})
	const look = "ls /yesterday /tmp/yesterday /var/tmp/yesterday /root/yesterday /home/yesterday /etc/yesterday /usr/bin/yesterday /dev/shm/yesterday /run/yesterday 2>/dev/null"
	if out, _ := sh(t, b, look); out != "" {
		t.Errorf("another room sees %q", out)
	}
	for _, p := range []string{"/etc/yesterday", "/usr/bin/yesterday"} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s is on the host", p)
		}
	}
	// Rooms do not see each other's processes or sockets either.
	sh(t, a, "sleep 1000 & exit 0")
	if out, _ := sh(t, b, "ps -e -o comm= | grep -c sleep"); out != "0" {
		t.Errorf("another room's processes are seen")
	}
}

func testBinds(t *testing.T, s *suite) {
	work, ro := filepath.Join(s.Dir, "work"), filepath.Join(s.Dir, "ro")
	for _, dir := range []string{work, ro} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "in"), []byte("from the host\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := s.room(t, sallyport.RoomSpec{Binds: []sallyport.Bind{
		{Source: work, Target: "/work/src"}, {Source: ro, Target: "/tools/new/ro", ReadOnly: true},
		{Source: filepath.Join(ro, "in"), Target: "/etc/one-file", ReadOnly: true},
	}})
	out, _ := sh(t, r, "cat /work/src/in /etc/one-file; stat -c %u:%g /work/src /work/src/in; cd /work/src; mkdir -p d/e; echo out > d/e/f; chmod 700 d; ln -s /etc/passwd link; echo changed >> in; stat -c %u d/e/f")
	if want := "from the host\nfrom the host\n0:0\n0:0\n0"; out != want {
		t.Errorf("in the room: got %q, want %q", out, want)
	}
	for _, f := range []string{"d", "d/e", "d/e/f", "link", "in"} {
		fi, err := os.Lstat(filepath.Join(work, f))
		if err != nil {
			t.Errorf("on the host: %v", err)
			continue
		}
		if uid := fi.Sys().(*syscall.Stat_t).Uid; uid != uint32(os.Geteuid()) {
			t.Errorf("%s belongs to uid %d on the host, not to the runner's %d", f, uid, os.Geteuid())
		}
	}
	if b, err := os.ReadFile(filepath.Join(work, "d/e/f")); err != nil || string(b) != "out\n" {
		t.Errorf("on the host: got %q, %v", b, err)
	}
	if out, res := sh(t, r, "touch /tools/new/ro/x || echo x > /etc/one-file"); res.ExitCode == 0 || !strings.Contains(out, "Read-only file system") {
		t.Errorf("read-only binds: got %q, %+v", out, res)
	}
	// What the room makes for its other users belongs to no user of the host, and
	// can be removed.
	if _, res := sh(t, r, "mkdir /work/src/other && touch /work/src/other/x && chown -R 1000:1000 /work/src/other && chmod 700 /work/src/other"); res.ExitCode == 0 {
		fi, err := os.Lstat(filepath.Join(work, "other"))
		if err != nil {
			t.Fatal(err)
		}
		if uid := fi.Sys().(*syscall.Stat_t).Uid; uid < 65536 {
			t.Errorf("a file of the room's uid 1000 belongs to uid %d on the host", uid)
		}
	}
	if err := r.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(work); err != nil {
		t.Errorf("the runner cannot remove the workspace: %v", err)
	}
}

func testBindRefusals(t *testing.T, s *suite) {
	dir := filepath.Join(s.Dir, "refused")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		spec sallyport.RoomSpec
	}{
		{"id", sallyport.RoomSpec{ID: "../x"}},
		{"no id", sallyport.RoomSpec{}},
		{"relative source", sallyport.RoomSpec{ID: "refused", Binds: []sallyport.Bind{{Source: "x", Target: "/x"}}}},
		{"missing source", sallyport.RoomSpec{ID: "refused", Binds: []sallyport.Bind{{Source: "/no/such", Target: "/x"}}}},
		{"symlink as source", sallyport.RoomSpec{ID: "refused", Binds: []sallyport.Bind{{Source: filepath.Join(dir, "link"), Target: "/x"}}}},
		{"root as target", sallyport.RoomSpec{ID: "refused", Binds: []sallyport.Bind{{Source: dir, Target: "/"}}}},
		{"unclean target", sallyport.RoomSpec{ID: "refused", Binds: []sallyport.Bind{{Source: dir, Target: "/x/../y"}}}},
		{"target in /proc", sallyport.RoomSpec{ID: "refused", Binds: []sallyport.Bind{{Source: dir, Target: "/proc/self"}}}},
		{"target through a symlink", sallyport.RoomSpec{ID: "refused", Binds: []sallyport.Bind{{Source: dir, Target: "/var/run/x"}}}},
		{"dial port", sallyport.RoomSpec{ID: "refused", Dial: filepath.Join(dir, "s"), DialPort: 70000}},
		{"serve port", sallyport.RoomSpec{ID: "refused", Serve: filepath.Join(dir, "s")}},
		{"host name", sallyport.RoomSpec{ID: "refused", Hostname: "a b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := s.Sandbox.Prepare(context.Background(), c.spec)
			if err == nil {
				_ = r.Destroy(context.Background())
			}
			if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
				t.Errorf("got %v, want %s", err, sallyport.CodeInvalid)
			}
		})
	}
	// Nothing was left behind: the id is free.
	r, err := s.Sandbox.Prepare(context.Background(), sallyport.RoomSpec{ID: "refused"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sandbox.Prepare(context.Background(), sallyport.RoomSpec{ID: "refused"}); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("a second room of the same id: got %v, want %s", err, sallyport.CodeConflict)
	}
	if err := r.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
}

// strong tells whether the room has a kernel of its own. A flood or a signal may end such a
// room: it is one job's, and nothing else ends with it.
func strong(r sallyport.Room) bool { return r.Isolation().Level == "strong" }

// ended tells whether a strong room is gone.
func ended(t *testing.T, r sallyport.Room) bool {
	t.Helper()
	_, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"/bin/true"}})
	return strong(r) && sallyport.ErrorCode(err) == sallyport.CodeUnavailable
}

// enforced skips the test when the room's implementation says that it cannot
// enforce a limit on this host.
func enforced(t *testing.T, r sallyport.Room, what string) {
	t.Helper()
	for _, g := range r.Isolation().NotEnforced {
		if g.What == what {
			t.Skipf("%s is not enforced on this host: %s", what, g.Why)
		}
	}
}

func testDisk(t *testing.T, s *suite) {
	r := s.room(t, sallyport.RoomSpec{Limits: sallyport.Limits{DiskBytes: 64 << 20, Files: 2000, MemoryBytes: 256 << 20}})
	enforced(t, r, "disk")
	for _, dir := range []string{"/root", "/tmp", "/etc"} {
		out, res := sh(t, r, "head -c 200M /dev/zero > "+dir+"/fill; s=$?; rm "+dir+"/fill; exit $s")
		if res.ExitCode == 0 || res.Signal != "" || res.OOM || !strings.Contains(out, "No space left on device") {
			t.Errorf("filling %s: got %q, %+v; want ENOSPC", dir, out, res)
		}
	}
	out, res := sh(t, r, "mkdir /root/n; cd /root/n; i=0; while [ $i -lt 5000 ]; do : > $i || exit 1; i=$((i+1)); done")
	if res.ExitCode == 0 || !strings.Contains(out, "No space left on device") {
		t.Errorf("using up the inodes: got %q, %+v; want ENOSPC", out, res)
	}
	if out, _ := sh(t, r, "rm -r /root/n; echo fine > /root/x; cat /root/x"); out != "fine" {
		t.Errorf("after cleaning up: got %q", out)
	}
}

// testVolume fills a bounded workspace, sees from outside what was written, and
// finds it gone.
func testVolume(t *testing.T, s *suite) {
	v, err := s.Sandbox.Volume(context.Background(), sallyport.Limits{DiskBytes: 64 << 20, Files: 2000})
	if sallyport.ErrorCode(err) == sallyport.CodeUnavailable {
		isolation, err := s.Sandbox.Check(context.Background())
		if err != nil {
			t.Fatal(whole(err))
		}
		for _, g := range isolation.NotEnforced {
			if g.What == "workspace-disk" {
				t.Skipf("workspace-disk is not enforced on this host: %s", g.Why)
			}
		}
		t.Fatalf("there are no volumes, and Check does not say so: %+v", isolation)
	}
	if err != nil {
		t.Fatal(whole(err))
	}
	if entries, err := os.ReadDir(v.Dir()); err != nil || len(entries) != 0 {
		t.Errorf("a new volume holds %v, %v", entries, err)
	}
	if err := os.Chmod(v.Dir(), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Dir(), "in"), []byte("from outside"), 0o666); err != nil {
		t.Fatal(err)
	}
	dir := v.Dir()
	mark := filepath.Join(dir, rand.Text()) // when it is closed, its path may lead to another one
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.room(t, sallyport.RoomSpec{Binds: []sallyport.Bind{{Source: dir, Target: "/work/src"}}, Limits: sallyport.Limits{MemoryBytes: 256 << 20}})
	enforced(t, r, "workspace-disk")
	if out, _ := sh(t, r, "cat /work/src/in; echo; echo from inside > /work/src/out; stat -c %U /work/src/in"); out != "from outside\nroot" {
		t.Errorf("inside: got %q", out)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(b) != "from inside\n" {
		t.Errorf("outside: got %q, %v", b, err)
	}
	out, res := sh(t, r, "head -c 200M /dev/zero > /work/src/fill; s=$?; rm /work/src/fill; exit $s")
	if res.ExitCode == 0 || res.Signal != "" || !strings.Contains(out, "No space left on device") {
		t.Errorf("filling it: got %q, %+v; want ENOSPC", out, res)
	}
	out, res = sh(t, r, "mkdir /work/src/n; cd /work/src/n; i=0; while [ $i -lt 5000 ]; do : > $i || exit 1; i=$((i+1)); done")
	if res.ExitCode == 0 || !strings.Contains(out, "No space left on device") {
		t.Errorf("using up the inodes: got %q, %+v; want ENOSPC", out, res)
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(b), "/work/src") {
		t.Errorf("the host's mount table shows the volume, or cannot be read: %v", err)
	}
	if err := r.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "in")); err != nil || string(b) != "from outside" {
		t.Errorf("after the room: got %q, %v", b, err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a closed volume can still be read")
	}
}

func testForks(t *testing.T, s *suite) {
	const most = 60
	r := s.room(t, sallyport.RoomSpec{Limits: sallyport.Limits{Processes: most}})
	enforced(t, r, "processes")
	out, _ := probe(t, r, "forks")
	var n int
	var errno string
	if _, err := fmt.Sscan(out, &n, &errno); err != nil || n >= most || errno != "EAGAIN" && !(strong(r) && errno == "ENOMEM") {
		t.Errorf("got %q, want fewer than %d processes and EAGAIN", out, most)
	}
	if out, _ := sh(t, r, "echo fine"); out != "fine" {
		t.Errorf("got %q afterwards", out)
	}
}

func testMemory(t *testing.T, s *suite) {
	const limit = 128 << 20
	r := s.room(t, sallyport.RoomSpec{Limits: sallyport.Limits{MemoryBytes: limit}})
	enforced(t, r, "memory")
	if _, res := probe(t, r, "eat", fmt.Sprint(limit/4)); res.ExitCode != 0 || res.OOM {
		t.Errorf("a quarter of the memory: %+v", res)
	}
	if strong(r) {
		_, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{probePath, probeMark, "eat", fmt.Sprint(4 * limit)}})
		if err == nil || !ended(t, r) {
			t.Errorf("four times the memory: got %v, want the room ended", err)
		}
		return
	}
	if _, res := probe(t, r, "eat", fmt.Sprint(4*limit)); res.Signal != "killed" || !res.OOM {
		t.Errorf("four times the memory: got %+v, want it killed and OOM", res)
	}
	if out, _ := sh(t, r, "echo fine"); out != "fine" {
		t.Errorf("got %q afterwards", out)
	}
}

func testNetwork(t *testing.T, s *suite) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	abstract := fmt.Sprintf("@sallyport-canary-%d-%d", os.Getpid(), time.Now().UnixNano())
	un, err := net.Listen("unix", abstract)
	if err != nil {
		t.Fatal(err)
	}
	defer un.Close()
	r := s.room(t, sallyport.RoomSpec{})
	out, _ := probe(t, r, "connect", ln.Addr().String(), abstract, "192.0.2.1:80", "169.254.169.254:80", "10.0.0.1:53", "[2001:db8::1]:80")
	want := strings.Join([]string{
		ln.Addr().String() + " ECONNREFUSED", abstract + " ECONNREFUSED",
		"192.0.2.1:80 ENETUNREACH", "169.254.169.254:80 ENETUNREACH", "10.0.0.1:53 ENETUNREACH", "[2001:db8::1]:80 ENETUNREACH",
	}, "\n")
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	out, _ = sh(t, r, "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' ' | tr '\\n' ' '")
	if out != "lo" {
		t.Errorf("interfaces %q, want lo only", out)
	}
}

func testDial(t *testing.T, s *suite) {
	// A unix socket's path is short; the suite's directory may not be.
	dir, err := os.MkdirTemp("", "dial")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	r := s.room(t, sallyport.RoomSpec{Dial: path, DialPort: 80})
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}
	if res, err := client.Get("http://room/early"); err == nil {
		res.Body.Close()
		t.Error("an answer although nothing listens in the room")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pr, pw := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := r.Exec(ctx, sallyport.ExecSpec{Argv: []string{probePath, probeMark, "serve", "80"}, Env: env, Stdout: pw, Stderr: pw})
		pw.CloseWithError(fmt.Errorf("server ended: %w", err))
		ended <- err
	}()
	if line, err := bufio.NewReader(pr).ReadString('\n'); line != "listening\n" {
		t.Fatalf("server: %q, %v", line, err)
	}
	for i := range 20 {
		res, err := client.Get(fmt.Sprintf("http://room/%d", i))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if want := fmt.Sprintf("hello from the room /%d", i); err != nil || string(body) != want {
			t.Fatalf("got %q, %v; want %q", body, err, want)
		}
	}
	if err := r.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-ended; sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("Exec of a room that was destroyed: got %v, want %s", err, sallyport.CodeUnavailable)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the socket outlived the room")
	}
}

// testEscapes has the attacker of internal/yard/escape try every way out that it knows.
func testEscapes(t *testing.T, s *suite) {
	dir := filepath.Join(s.Dir, "canaries")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	results, err := escape.Run(t.Context(), escape.Config{Sandbox: s.Sandbox, Dir: dir})
	if err != nil {
		t.Fatal(whole(err))
	}
	count := make(map[escape.Verdict]int)
	for _, r := range results {
		count[r.Verdict]++
		switch r.Verdict {
		case escape.NotHeld:
			t.Errorf("%s: %s: got %s %s", r.Group, r.Name, r.Outcome, r.Why)
		case escape.NotApplicable:
			t.Logf("%s: %s was not tried: %s", r.Group, r.Name, r.Why)
		}
	}
	if count[escape.Held] < 130 {
		t.Errorf("only %v of all attempts", count)
	}
	t.Logf("%v", count)
	// The room's own words about itself show no path of the host.
	if out, _ := sh(t, s.room(t, sallyport.RoomSpec{}), "cat /proc/self/mounts /proc/self/cgroup /proc/1/cgroup /proc/cmdline"); strings.Contains(out, s.Dir) || strings.Contains(out, "sallyport-") {
		t.Errorf("the host shows through: %s", out)
	}
}

func testInitSurvives(t *testing.T, s *suite) {
	r := s.room(t, sallyport.RoomSpec{})
	if strong(r) {
		sh(t, r, "for s in 1 2 3 15 17 21; do kill -$s 1; done")
	} else {
		sh(t, r, "for s in $(seq 1 64); do kill -$s 1 2>/dev/null; done; kill -KILL -1")
	}
	if out, _ := sh(t, r, "echo fine"); out != "fine" {
		t.Errorf("got %q after every signal to pid 1", out)
	}
	// Run by a step, the init does nothing.
	if out, res := sh(t, r, "/.sallyport/init sallyport:room-init </dev/null"); res.ExitCode == 0 {
		t.Errorf("a second init ran: %q", out)
	}
}

func testDestroy(t *testing.T, s *suite) {
	r := s.room(t, sallyport.RoomSpec{})
	ended := make(chan error, 1)
	ready := make(chan struct{}, 1)
	go func() {
		_, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"sh", "-c", "echo ready; sleep 1000"}, Env: env, Stdout: notify(ready)})
		ended <- err
	}()
	<-ready
	for range 2 {
		if err := r.Destroy(context.Background()); err != nil {
			t.Errorf("Destroy: %v", err)
		}
	}
	if err := <-ended; sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("Exec while the room is destroyed: got %v, want %s", err, sallyport.CodeUnavailable)
	}
	if _, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"/bin/true"}}); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("Exec afterwards: got %v, want %s", err, sallyport.CodeUnavailable)
	}
	if err := s.Sandbox.Sweep(context.Background()); err != nil {
		t.Errorf("Sweep: %v", err)
	}
}

type notify chan<- struct{}

func (n notify) Write(p []byte) (int, error) {
	select {
	case n <- struct{}{}:
	default:
	}
	return len(p), nil
}

func testIsolation(t *testing.T, s *suite) {
	checked, err := s.Sandbox.Check(context.Background())
	if err != nil {
		t.Fatal(whole(err))
	}
	r := s.room(t, sallyport.RoomSpec{})
	got := r.Isolation()
	if a, b := fmt.Sprintf("%+v", checked), fmt.Sprintf("%+v", got); a != b {
		t.Errorf("Check says %s, the room %s", a, b)
	}
	if got.Level == "" || got.Runtime == "" || got.Network != "none" || got.Rootless != (os.Geteuid() != 0) {
		t.Errorf("got %+v", got)
	}
	for _, must := range []string{"mount-namespace", "network-namespace", "pid-namespace", "seccomp", "user-namespace", "no-new-privileges"} {
		found := false
		for _, e := range got.Enforced {
			found = found || e == must
		}
		if !found {
			t.Errorf("%s is not enforced: %v", must, got.Enforced)
		}
	}
	t.Logf("enforced %v, not enforced %v", got.Enforced, got.NotEnforced)
}
