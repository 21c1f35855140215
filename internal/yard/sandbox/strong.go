package sandbox

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// Strong is the level at which a room has a kernel of its own: gVisor's, a process in Go that
// answers the room's system calls and asks the host's kernel for little. What a job finds
// in the kernel that it sees is not the host's. It costs speed (docs/BENCHMARKS.md).
//
// The room is laid out as at level "standard", and its init and what it says are the
// same. What differs is in the files whose names begin with strong.
const Strong = "strong"

const strongHint = "build the pinned one with make strong, or put runsc on PATH"

// strengthened says what level strong adds: the room's system calls end in a kernel of its own, and
// seccomp holds that kernel.
func (s *Sandbox) strengthened(iso sallyport.Isolation) sallyport.Isolation {
	iso.Enforced = append(iso.Enforced, "own-kernel")
	return iso
}

// oldestRunsc is the date of the oldest source of runsc that is taken.
const oldestRunsc = 20260101

// openRunsc finds runsc and checks how old it is. It is not copied into memory as runc
// is: no room ever sees the file, and it is large. The file that was checked is the one that
// is executed, whatever its name names later.
func openRunsc(path string) (*ociRuntime, error) {
	path, err := findRunsc(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the runtime: %w", err)
	}
	defer f.Close()
	version, err := runscVersion(f)
	if err != nil {
		return nil, err
	}
	high, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 64) // as sealedCopy does
	if err != nil {
		return nil, err
	}
	return &ociRuntime{exe: os.NewFile(uintptr(high), "runsc"), version: version}, nil
}

func findRunsc(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "runsc")
		if unix.Access(beside, unix.X_OK) == nil {
			return beside, nil
		}
	}
	if found, err := exec.LookPath("runsc"); err == nil {
		return found, nil
	}
	return "", sallyport.Errorf(sallyport.CodeUnavailable, "there is no gVisor (runsc) to isolate jobs at level strong with").WithHint(strongHint)
}

// runscVersion finds out which source a runsc was built from: by what the Go toolchain
// notes in it, or for a release by its own word.
func runscVersion(f *os.File) (string, error) {
	if info, err := buildinfo.Read(f); err == nil && info.Main.Path == "gvisor.dev/gvisor" {
		return checkRunsc(info.Main.Version)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), "--version")
	cmd.Env = []string{}
	out, err := cmd.Output()
	if err != nil {
		return "", sallyport.Errorf(sallyport.CodeUnavailable, "runsc does not run: %v", err).WithHint(strongHint)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return checkRunsc(strings.TrimPrefix(line, "runsc version "))
}

// A module's pseudo-version, or the name of a release.
var runscDate = regexp.MustCompile(`^(?:v0\.0\.0-(\d{8})\d{6}-[0-9a-f]{12}|release-(\d{8})\.\d{1,4})$`)

// checkRunsc refuses what does not tell its age, and what is too old.
func checkRunsc(version string) (string, error) {
	m := runscDate.FindStringSubmatch(version)
	if m == nil {
		return "", sallyport.Errorf(sallyport.CodeUnavailable, "runsc does not tell which version it is").WithHint(strongHint)
	}
	if date := m[1] + m[2]; date < fmt.Sprint(oldestRunsc) {
		return "", sallyport.Errorf(sallyport.CodeUnavailable, "runsc of %s is too old", date).WithHint(strongHint)
	}
	return "runsc " + strings.TrimPrefix(version, "v"), nil
}

// runscArgs start a room, as runtimeArgs do.
func runscArgs(l *layout, id string) []string {
	network := "none"
	if l.Uplink != nil {
		network = "sandbox"
	}
	args := []string{
		"runsc", "--root", stageRun, "--network=" + network,
		// The sentry opens files itself, as the room's user, in a namespace where there are no others.
		"--directfs=true",
		// Nobody but the room changes its root; binds may be changed from outside.
		"--file-access=exclusive", "--file-access-mounts=shared",
		// The room's disk, which is hard limited, holds what it writes.
		"--overlay2=none",
		"--host-uds=none", "--host-fifo=none", "--host-settings=ignore",
	}
	if l.Rootless {
		args = append(args, "--rootless", "--ignore-cgroups")
	}
	return append(args, "run", "--bundle", stageBundle, "--pass-fd", fmt.Sprintf("%d:%d", pidone.ControlFD, pidone.ControlFD), id)
}

func (s *Sandbox) level() string {
	if s.strong {
		return Strong
	}
	return Level
}

// strengthen makes the configuration of a room one for runsc.
func (r roomSpec) strengthen(spec *specs.Spec) {
	if r.uplink {
		// runsc moves the interface that it finds there into the sentry.
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/proc/self/ns/net"})
	}
	// Without it runsc mounts one that has no limit.
	spec.Mounts = append(spec.Mounts, specs.Mount{
		Destination: "/tmp", Type: "tmpfs", Source: "tmp",
		Options: []string{"nosuid", "nodev", "mode=1777", fmt.Sprintf("size=%d", min(r.limits.DiskBytes, r.limits.MemoryBytes/2))},
	})
}
