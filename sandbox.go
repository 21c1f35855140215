package sallyport

import (
	"context"
	"io"
	"net/netip"
	"os"
	"time"
)

// Sandbox makes rooms: isolated places in which foreign code runs. It is used
// by the yard (runner and release host), never by the control plane.
//
// Contract. A room is used for one job or one release and then destroyed; it
// is never handed out again. Prepare fails closed: where the host cannot
// isolate as the level demands, it returns an Error with CodeUnavailable that
// names what is missing and the mend, and leaves nothing behind. All methods
// may be called from several goroutines.
type Sandbox interface {
	// Check reports what this host can enforce, without making a room.
	Check(ctx context.Context) (Isolation, error)
	// Prepare makes a room and starts its first process; nothing foreign runs yet.
	Prepare(ctx context.Context, spec RoomSpec) (Room, error)
	// Volume makes an empty directory that takes limits.DiskBytes and limits.Files and
	// no more: what is written beyond ends as ENOSPC. Zero means the default.
	// CodeUnavailable where the host cannot bound a directory; a room with plain
	// directories then says so in its Isolation.
	Volume(ctx context.Context, limits Limits) (Volume, error)
	// Sweep removes what rooms of dead processes left under the state directory.
	Sweep(ctx context.Context) error
}

// LabelStrong is the label of runners that have rooms of level "strong", and of jobs that are
// done in one: those that ask for it by runs-on, and those of strangers where the operator has it so.
const LabelStrong = "isolation:strong"

// Volume is a bounded directory for one room. It is gone with its contents when it
// is closed, or when the process that made it ends.
type Volume interface {
	// Dir is its path, good in the calling process alone; as the Source of a Bind
	// the room sees it too.
	Dir() string
	// Close lets go of it. The room that sees it must be destroyed.
	Close() error
}

// Room is one isolated place. Its root file system is a throw-away overlay;
// its network namespace has a loopback of its own and, with an uplink, one
// interface whose far end the caller holds; nothing else.
type Room interface {
	// Exec runs one process in the room and waits until it ends. Processes that it
	// leaves behind stay until Destroy. When ctx ends, the process's whole
	// group gets SIGTERM (or SIGINT: spec.Interrupt), after spec.Grace SIGKILL, and
	// Exec returns ctx's cause.
	// Concurrent calls run side by side. The error is nil when the
	// process ran, whatever its exit code; CodeInvalid when it could not be
	// started (no such file, not executable).
	Exec(ctx context.Context, spec ExecSpec) (ExecResult, error)
	// Isolation is what was enforced on this room, for the evidence.
	Isolation() Isolation
	// Destroy kills every process of the room, releases all it used and returns
	// when it is gone. It may be called more than once and while Exec runs.
	Destroy(ctx context.Context) error
}

// RoomSpec describes a room.
type RoomSpec struct {
	ID       string // unique on this host; [a-z0-9-], at most 64
	Hostname string
	// Image, when set, is the directory of an unpacked image's root file system, which
	// nobody changes; the room's root is a throw-away layer over it. Without it the
	// room sees a part of the host.
	Image string
	// Links are symlinks that a room of an image gets, by path: the names under which
	// programs made for GitHub's containers look for things.
	Links  map[string]string
	Binds  []Bind
	Limits Limits
	// Hosts are further names of the room's loopback.
	Hosts []string
	// Peers are other rooms of the same sandbox whose ports answer on this room's
	// loopback: the services of a job. They must live as long as this room.
	Peers []Peer `json:"-"`
	// Dial, when set, is the path of a unix socket that the sandbox serves on the
	// host: each connection to it is forwarded to DialPort on the room's loopback.
	Dial     string
	DialPort int
	// Serve, when set, is the other way round: the room listens on ServePort of its
	// loopback, and each connection to it is forwarded to the unix socket at this
	// path on the host, which the caller serves.
	Serve     string
	ServePort int
	// Uplink, when set, gives the room a network beside its loopback.
	Uplink *Uplink `json:"-"`
	// Trust, when set, are the certificates in PEM of the authorities that the room's programs
	// trust by default: its /etc/ssl/certs/ca-certificates.crt.
	Trust []byte `json:"-"`
	// Started, when set, is told of every program that the room starts, in their order and
	// before they run: each waits until it returns, so it must be quick. Where the host or the level
	// cannot tell, the room says so in its Isolation ("program-starts") and Started is never called.
	Started func(ProgramStart) `json:"-"`
}

// Uplink is a network interface of a room. Everything that is not for the room's
// own loopback leaves by it, over IPv4, and reaches whoever holds the far end and
// nobody else; the kernel forwards nothing. The room has no IPv6 but ::1: what a job
// sends there fails at once. Not even the room's root can change addresses, routes
// or the interface, which lie in a namespace that its own has no power over.
type Uplink struct {
	Addr netip.Addr // the room's, IPv4
	// Resolver is what the room's /etc/resolv.conf names; /etc/hosts is asked first.
	Resolver netip.Addr
	// Attach takes the far end, before anything foreign runs in the room, and must
	// return at once. The link is then its own to close, which takes the network from
	// the room. After an error the link is closed by the sandbox and no room is made.
	Attach func(Link) error
}

// Link is the far end of an uplink. A read of File is one packet that the room
// sent, a write one that it gets; reads have deadlines and end when it is closed.
// Before each packet stands a struct virtio_net_hdr of ten bytes in the machine's
// byte order: a packet of the room may lack its checksum and be of several segments,
// as that says, but is never longer than 64 KiB.
type Link struct {
	File *os.File
	MTU  int
	// Ethernet, when set, says that a packet is a frame of Ethernet, and holds the
	// first twelve bytes, both addresses, of those that the room takes. Else it is an IP packet.
	Ethernet []byte
}

// Peer is a port of another room.
type Peer struct {
	Room Room
	Port int // on the other room's loopback
	As   int // on this room's
}

// Bind makes a host path visible in the room. Sources come from the runner's
// own directories, never from the job's word. A missing Target is created.
type Bind struct {
	Source   string
	Target   string // absolute and clean
	ReadOnly bool
}

// Limits of a room; zero means the default in parentheses.
type Limits struct {
	MemoryBytes int64 // (4 GiB)
	Processes   int64 // (4096)
	CPUs        float64
	DiskBytes   int64 // of the writable layer, and of a volume (10 GiB)
	Files       int64 // inodes, likewise (2,000,000)
}

// ExecSpec is one process to run.
type ExecSpec struct {
	Argv   []string // Argv[0] is looked up in the PATH of Env inside the room
	Env    []EnvVar // the whole environment
	Dir    string   // absolute, inside the room
	User   string   // USER[:GROUP] of the room, names or numbers; "" is its root
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Grace  time.Duration // from SIGTERM to SIGKILL; 0 = 7.5 s
	// Interrupt, when set, tells from ctx's cause whether the group gets SIGINT first,
	// as by Ctrl-C, after Grace SIGTERM and a third of Grace later SIGKILL. What
	// ignores SIGINT gets SIGTERM as soon as the process itself has ended.
	Interrupt func(cause error) bool
}

// ExecResult is how a process ended, by the word of the room's own init: it
// may be believed no further than the job itself.
type ExecResult struct {
	ExitCode int    // 128+signal when a signal ended it
	Signal   string // "killed", …; "" else
	OOM      bool   // the memory limit was met while it ran
}

// Isolation says what kept foreign code in. It becomes part of the provenance.
type Isolation struct {
	Level       string   `json:"level"`   // standard, strong
	Runtime     string   `json:"runtime"` // name and version of the OCI runtime
	Rootless    bool     `json:"rootless"`
	Network     string   `json:"network"`                // none, or door: one that the caller of Prepare answers for
	Enforced    []string `json:"enforced"`               // sorted, from a fixed vocabulary
	NotEnforced []Gap    `json:"not_enforced,omitempty"` // what this host could not do
}

// Facility is something that a host has for rooms, or lacks.
type Facility struct {
	Name  string        `json:"name"`
	For   string        `json:"for"` // what it serves
	State FacilityState `json:"state"`
	Found string        `json:"found,omitempty"` // what was found, or why there is nothing
	Mend  string        `json:"mend,omitempty"`  // how to get what is missing
}

// FacilityState tells whether a facility is there.
type FacilityState string

// The states of facilities.
const (
	FacilityThere    FacilityState = "there"
	FacilityMissing  FacilityState = "missing"
	FacilityNeedless FacilityState = "needless" // rooms do without it here
)

// Gap is a limit that this host cannot enforce, and why.
type Gap struct {
	What string `json:"what"`
	Why  string `json:"why"`
}
