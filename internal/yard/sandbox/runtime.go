package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// ociRuntime is a checked copy of runc in sealed memory: the bytes that were
// checked are the bytes that run, whatever happens to the file, and runc need not make
// such a copy of itself at every start.
type ociRuntime struct {
	exe     *os.File
	version string // "runc 1.5.2"
}

// maxRuntime bounds the copy; runc is about 13 MB.
const maxRuntime = 256 << 20

const runtimeHint = "build the pinned one with scripts/runtime.sh, or name one in the runner's configuration"

// openRuntime finds, copies and checks runc. path "" means beside our own
// executable, then PATH.
func openRuntime(path string) (*ociRuntime, error) {
	path, err := findRuntime(path)
	if err != nil {
		return nil, err
	}
	exe, err := sealedCopy(path)
	if err != nil {
		return nil, fmt.Errorf("copy the runtime: %w", err)
	}
	// A version takes milliseconds to print; ten seconds is a machine in trouble.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, errors.Join(err, exe.Close())
	}
	defer null.Close()
	spare, err := dupAbove(exe, null)
	if err != nil {
		return nil, errors.Join(err, exe.Close())
	}
	defer spare.Close()
	cmd := exec.CommandContext(ctx, procFD(exe), "--version")
	cmd.Env, cmd.Stdin = []string{}, spare
	out, err := cmd.Output()
	if err != nil {
		exe.Close()
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "the OCI runtime does not run: %v", err).WithHint(runtimeHint)
	}
	version, err := checkRuntime(string(out))
	if err != nil {
		exe.Close()
		return nil, err
	}
	return &ociRuntime{exe: exe, version: version}, nil
}

func findRuntime(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "runc")
		if unix.Access(beside, unix.X_OK) == nil {
			return beside, nil
		}
	}
	if found, err := exec.LookPath("runc"); err == nil {
		return found, nil
	}
	return "", sallyport.Errorf(sallyport.CodeUnavailable, "there is no OCI runtime (runc) to isolate jobs with").WithHint(runtimeHint)
}

var runcVersion = regexp.MustCompile(`(?m)^runc version (\d{1,4})\.(\d{1,4})\.(\d{1,4})((?:-rc\.?\d{1,4})?)\S*$`)

// checkRuntime reads the output of runc --version and refuses a runc that a job can
// break out of or that cannot filter system calls. Fixed versions of
// CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881: 1.2.8, 1.3.3, 1.4.0-rc.3. Distributions
// that patch without a new number cannot be told apart and are refused too.
func checkRuntime(out string) (string, error) {
	m := runcVersion.FindStringSubmatch(out)
	if m == nil {
		return "", sallyport.Errorf(sallyport.CodeUnavailable, "the OCI runtime is not a runc that tells its version").WithHint(runtimeHint)
	}
	var v [3]int
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1]) // the expression lets digits only through
	}
	version := strings.TrimSpace(strings.TrimPrefix(m[0], "runc version "))
	var bad bool
	switch major, minor, patch := v[0], v[1], v[2]; {
	case major < 1 || major == 1 && minor < 2:
		bad = true
	case major == 1 && minor == 2:
		bad = patch < 8
	case major == 1 && minor == 3:
		bad = patch < 3
	case major == 1 && minor == 4 && patch == 0:
		bad = m[4] == "-rc.1" || m[4] == "-rc.2" || m[4] == "-rc1" || m[4] == "-rc2"
	}
	if bad {
		return "", sallyport.Errorf(sallyport.CodeUnavailable, "runc %s has known ways out of the room (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881)", version).
			WithHint("use runc 1.2.8, 1.3.3 or later: %s", runtimeHint)
	}
	if !strings.Contains(out, "\nlibseccomp: ") {
		return "", sallyport.Errorf(sallyport.CodeUnavailable, "runc %s was built without seccomp", version).WithHint(runtimeHint)
	}
	return "runc " + version, nil
}

// sealedCopy copies an executable into memory that nobody can change.
func sealedCopy(path string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("runc", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("runc", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, err
	}
	mem := os.NewFile(uintptr(fd), "runc")
	n, err := io.Copy(mem, io.LimitReader(src, maxRuntime+1))
	if err == nil && n > maxRuntime {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxRuntime)
	}
	if err == nil {
		err = unix.Fchmod(fd, 0o555)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	defer mem.Close() // a file that is open for writing cannot be executed
	if err != nil {
		return nil, err
	}
	ro, err := os.Open(procFD(mem))
	if err != nil {
		return nil, err
	}
	defer ro.Close()
	// Above the numbers into which a child's files are moved before it is executed.
	high, err := unix.FcntlInt(ro.Fd(), unix.F_DUPFD_CLOEXEC, 64)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(high), "runc"), nil
}

// procFD names an open file so that it can be executed.
func procFD(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// tail keeps the last bytes written to it.
type tail struct{ buf bytes.Buffer }

// maxTail is enough for the last error of the runtime.
const maxTail = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > maxTail {
		p = p[len(p)-maxTail:]
	}
	t.buf.Write(p)
	if extra := t.buf.Len() - maxTail; extra > 0 {
		t.buf.Next(extra)
	}
	return n, nil
}

// dupAbove returns a copy of f whose number is above that of exe. A child that is
// to execute procFD(exe) must be given one: before it does so, it uses the numbers just
// above the highest that it is given, and one of them could be exe's.
func dupAbove(exe, f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, int(exe.Fd())+1)
	if err != nil {
		return nil, fmt.Errorf("copy a file: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
