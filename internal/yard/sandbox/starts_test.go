package sandbox

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// told collects what a room says of its programs.
type told struct {
	mu   sync.Mutex
	list []sallyport.ProgramStart
	sums map[string]string // SHA-256 of the programs by path
}

func (t *told) take(s sallyport.ProgramStart) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.File != nil {
		h := sha256.New()
		_, _ = io.Copy(h, s.File)
		s.File.Close()
		t.sums[s.Path] = fmt.Sprintf("%x", h.Sum(nil))
		s.File = nil
	}
	t.list = append(t.list, s)
}

func (t *told) paths() (list []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.list {
		list = append(list, s.Path)
	}
	return list
}

func arguments(argv ...string) sallyport.Digest {
	return sallyport.DigestOf([]byte(strings.Join(argv, "\x00") + "\x00"))
}

// TestStarts looks at what a room tells of its programs: all that start, from where they
// are, with a digest of their arguments, and none that was only looked for.
func TestStarts(t *testing.T) {
	s := open(t, Config{})
	seen := &told{sums: map[string]string{}}
	r, err := s.Prepare(t.Context(), sallyport.RoomSpec{ID: "starts", Started: seen.take})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Destroy(t.Context())
	script := `set -e
printf '#!/bin/sh\nexit 0\n' > /tmp/own; chmod +x /tmp/own
cd /tmp; ./own "a b" ''
PATH=/nowhere:/tmp:$PATH own
ln -s /tmp/own /var/other; /var/other
mkfifo /tmp/fifo; chmod +x /tmp/fifo; /tmp/fifo || true
cp /bin/true /tmp/copy; /tmp/copy
mkdir -p /tmp/a/b /tmp/c; ln -s /tmp/a/b /tmp/c/l; cp /bin/true /tmp/a/one; cp /bin/false /tmp/c/one; cd /tmp/c; l/../one
cd /tmp; /proc/self/cwd/copy
ln -s /proc/self/root /tmp/r; /tmp/r/tmp/copy
exit 0`
	if _, err := r.Exec(t.Context(), sallyport.ExecSpec{Argv: []string{"/bin/sh", "-c", script}, Env: []sallyport.EnvVar{{Name: "PATH", Value: "/usr/bin:/bin"}}}); err != nil {
		t.Fatal(err)
	}
	got := seen.paths()
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{shell, "/usr/bin/chmod", "/tmp/own", "/tmp/own", "/usr/bin/ln", "/tmp/own", "/usr/bin/mkfifo", "/usr/bin/chmod", "/usr/bin/cp", "/tmp/copy",
		"/usr/bin/mkdir", "/usr/bin/ln", "/usr/bin/cp", "/usr/bin/cp", "/tmp/a/one", // and not the decoy /tmp/c/one
		"/proc/self/cwd/copy", "/usr/bin/ln", "/tmp/r/tmp/copy"}
	if !slices.Equal(got, want) {
		t.Errorf("programs:\n got %q\nwant %q", got, want)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, s := range seen.list {
		if s.Path == "/tmp/own" {
			if s.Arguments != arguments("./own", "a b", "") {
				t.Errorf("arguments of the first own: %s", s.Arguments)
			}
			break
		}
	}
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(program)); seen.sums["/tmp/copy"] != sum {
		t.Errorf("the copy of true has digest %s, not %s", seen.sums["/tmp/copy"], sum)
	}
}

// TestNobodyElseListens tries, from inside, to get at the announcements: a second listener
// would let a program start others unseen.
func TestNobodyElseListens(t *testing.T) {
	s := open(t, Config{})
	seen := &told{sums: map[string]string{}}
	r, err := s.Prepare(t.Context(), sallyport.RoomSpec{ID: "listens", Started: seen.take})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Destroy(t.Context())
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if _, err := r.Exec(t.Context(), sallyport.ExecSpec{Argv: []string{"/bin/sh", "-c", "cat > /tmp/probe; chmod +x /tmp/probe; exec /tmp/probe " + listenMark},
		Stdin: strings.NewReader(string(self)), Stdout: &out, Stderr: &out}); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(out.String()); got != unix.EBUSY.Error() {
		t.Errorf("a second listener: %q, want %q", got, unix.EBUSY)
	}
	if !slices.Contains(seen.paths(), "/tmp/probe") {
		t.Errorf("the probe was not seen: %q", seen.paths())
	}
}

// listenMark makes the test binary try to listen to program starts.
const listenMark = "sallyport:test-listen"

func tryToListen() {
	filter, err := pidone.StartFilter()
	if err == nil {
		program := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
		err = errno
		if errno == 0 {
			err = nil
		}
	}
	fmt.Println(err)
}
