package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// capabilities are what the room's root may do with files and users of its own
// user namespace: enough to install packages, nothing about the kernel.
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
}

// cpuPeriod is the scheduler's accounting period in microseconds; its default.
const cpuPeriod = 100_000

// roomSpec is what varies in a room's OCI configuration.
type roomSpec struct {
	hostname string
	cgroup   string // relative to the runtime's own
	uids     []specs.LinuxIDMapping
	gids     []specs.LinuxIDMapping
	limits   sallyport.Limits
	enforce  controllers // which limits go to cgroups
	rlimits  []specs.POSIXRlimit
	starts   bool // init tells of program starts
	strong   bool // for runsc
	uplink   bool // the room has a network
	filter   bool // init installs the filter of system calls, not the runtime
}

// config returns the config.json of a room.
func (r roomSpec) config() ([]byte, error) {
	shm := min(r.limits.MemoryBytes/4, 1<<30)
	spec := &specs.Spec{
		Version:  "1.2.0",
		Hostname: r.hostname,
		Root:     &specs.Root{Path: stageRoom},
		Process: &specs.Process{
			Args: []string{roomInitExe, pidone.Mark},
			Cwd:  "/",
			// For init alone; a step's environment is the caller's. One processor and a
			// late garbage collector suit a process that sleeps.
			Env:             []string{"GOMAXPROCS=1", "GOGC=400"},
			NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
			},
			Rlimits: r.rlimits,
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "dev", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=64k", "nr_inodes=64"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "max=256"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "nodev", "mode=1777", fmt.Sprintf("size=%d", shm), "nr_inodes=65536"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: r.cgroup,
			UIDMappings: r.uids,
			GIDMappings: r.gids,
			// The network namespace is not here: the room inherits the keeper's, which
			// belongs to the user namespace above the room's.
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace}, {Type: specs.UserNamespace},
			},
			Resources: r.resources(),
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/cmdline", "/proc/config.gz", "/proc/interrupts", "/proc/kallsyms",
				"/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/latency_stats", "/proc/partitions", "/proc/diskstats",
				"/proc/sched_debug", "/proc/scsi", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats",
				"/proc/key-users", "/proc/swaps", "/sys",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"},
		},
	}
	if r.starts && !r.strong { // gVisor has no listener to hand out
		spec.Process.Args = append(spec.Process.Args, pidone.TellStarts)
	}
	if r.strong {
		r.strengthen(spec)
	}
	if r.filter {
		spec.Process.Args = append(spec.Process.Args, pidone.TakeFilter)
		return json.Marshal(spec)
	}
	profile, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("make the seccomp profile: %w", err)
	}
	// Nobody builds for x32; each ABI costs milliseconds of every start and is one
	// more way into the kernel. 32-bit x86 stays: GOARCH=386 is tested by many.
	profile.Architectures = slices.DeleteFunc(profile.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	spec.Linux.Seccomp = profile
	return json.Marshal(spec)
}

func (r roomSpec) resources() *specs.LinuxResources {
	res := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	if r.enforce.memory {
		limit := r.limits.MemoryBytes
		res.Memory = &specs.LinuxMemory{Limit: &limit}
		if r.enforce.swap {
			res.Memory.Swap = &limit // memory and swap together: no swap
		}
	}
	if r.enforce.pids {
		res.Pids = &specs.LinuxPids{Limit: &r.limits.Processes}
	}
	if r.enforce.cpu && r.limits.CPUs > 0 {
		period, quota := uint64(cpuPeriod), int64(r.limits.CPUs*cpuPeriod)
		res.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
	}
	return res
}

// maxOpenFiles is the limit of open files a process starts with. More makes old
// programs, which close every possible file before exec, slow.
const maxOpenFiles = 65536

// rlimits returns the resource limits of a room's processes.
func rlimits() ([]specs.POSIXRlimit, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, fmt.Errorf("read the limit of open files: %w", err)
	}
	return []specs.POSIXRlimit{
		{Type: "RLIMIT_CORE"},
		{Type: "RLIMIT_NOFILE", Soft: min(files.Max, maxOpenFiles), Hard: files.Max},
	}, nil
}
