package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// Config says how rooms are made. StateDir is the only field without a default.
type Config struct {
	// StateDir is where rooms keep what must lie on a disk. It is made with mode
	// 0700; one process at a time should use it.
	StateDir string
	// Level is "standard" or "strong"; "" is standard.
	Level string
	// Runtime is the path of runc, or at level strong of runsc; "" means beside our own
	// executable, then PATH.
	Runtime string
	// InitExe is our own binary, or another that imports this package and so knows
	// how to be a room's init. "" is os.Executable.
	InitExe string
	// Limits replace the defaults of sallyport.Limits where they are not zero.
	Limits sallyport.Limits
	// Warm are the rooms that wait for a caller.
	Warm Warm
	// Log gets what operators should know; nil is silence.
	Log *slog.Logger
}

// Sandbox makes rooms of one level.
type Sandbox struct {
	stateDir string
	initExe  string
	log      *slog.Logger
	limits   sallyport.Limits
	runtime  *ociRuntime
	strong   bool
	rootless bool
	prefix   string        // of our cgroups' names
	patience time.Duration // for handing a request to a room's init

	mu      sync.Mutex
	volumes map[string]string // devices of open volumes by their Dir

	claims sync.Mutex // held between making a room's directory and locking it, so that Sweep finds none in between

	warm   Warm
	pool   *pool
	filter filters
	hidden *hidden
	disks  *templates
	ranges *ranges  // as root
	users  userMaps // rootless
}

var _ sallyport.Sandbox = (*Sandbox)(nil)

// Level is the name of what this package enforces, for the evidence.
const Level = "standard"

// Defaults of sallyport.Limits.
const (
	defaultMemory    = 4 << 30
	defaultProcesses = 4096
	defaultDisk      = 10 << 30
	defaultFiles     = 2_000_000
)

// New checks the runtime and readies the state directory. It makes no room;
// Close frees what it holds.
func New(c Config) (*Sandbox, error) {
	if !filepath.IsAbs(c.StateDir) {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the sandbox's state directory %q is not an absolute path", c.StateDir)
	}
	if c.Level != "" && c.Level != Level && c.Level != Strong {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "there is no level %q: it is %s or %s", c.Level, Level, Strong)
	}
	for _, v := range hostViews {
		if dir := filepath.Clean(c.StateDir); dir == v.Path || strings.HasPrefix(dir, v.Path+"/") {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the state directory lies in %s, which rooms can see", v.Path).
				WithHint("put the data directory elsewhere, for example under /var/lib")
		}
	}
	s := &Sandbox{
		stateDir: filepath.Clean(c.StateDir),
		initExe:  c.InitExe,
		log:      c.Log,
		limits:   withDefaults(c.Limits, sallyport.Limits{MemoryBytes: defaultMemory, Processes: defaultProcesses, DiskBytes: defaultDisk, Files: defaultFiles}),
		strong:   c.Level == Strong,
		rootless: os.Geteuid() != 0,
		patience: talkTimeout,
		volumes:  map[string]string{},
		hidden:   &hidden{now: time.Now},
		ranges:   &ranges{},
		warm:     c.Warm,
	}
	s.pool = &pool{s: s, now: time.Now, wake: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.initExe == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find our own executable: %w", err)
		}
		s.initExe = exe
	}
	if err := os.MkdirAll(s.roomsDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make the sandbox's state directory: %w", err)
	}
	if err := os.Chmod(s.stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("close the sandbox's state directory: %w", err)
	}
	sum := sha256.Sum256([]byte(s.stateDir))
	s.prefix = "sallyport-" + hex.EncodeToString(sum[:4]) + "-"
	s.disks = &templates{dir: s.stateDir}
	if s.rootless {
		s.users = findUserMaps()
	}
	open := openRuntime
	if s.strong {
		open = openRunsc
		s.warm.Rooms = 0 // what is put into a waiting room, gVisor does not see
	}
	var err error
	s.runtime, err = open(c.Runtime)
	return s, err
}

// Close frees what the sandbox holds open. Rooms that are not destroyed yet keep
// working.
func (s *Sandbox) Close() error {
	s.disks.close()
	s.ranges.close()
	return s.runtime.exe.Close()
}

func (s *Sandbox) roomsDir() string { return filepath.Join(s.stateDir, "rooms") }

// withDefaults fills what is zero or negative in l.
func withDefaults(l, def sallyport.Limits) sallyport.Limits {
	pick := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	pick(&l.MemoryBytes, def.MemoryBytes)
	pick(&l.Processes, def.Processes)
	pick(&l.DiskBytes, def.DiskBytes)
	pick(&l.Files, def.Files)
	if l.CPUs <= 0 {
		l.CPUs = def.CPUs
	}
	return l
}

// Check implements sallyport.Sandbox.
func (s *Sandbox) Check(context.Context) (sallyport.Isolation, error) {
	if err := s.hostAllows(); err != nil {
		return sallyport.Isolation{}, err
	}
	groups, err := findCgroups()
	if err != nil {
		return sallyport.Isolation{}, err
	}
	ctl, gaps := groups.enforceable()
	return s.isolation(ctl, gaps, s.bounds()), nil
}

// Warm does ahead of time what the first rooms would wait for: it scans the host
// and makes the template of the disk and the id ranges of Warm.AtOnce. Failures are left to the first room, which
// meets them again. Then it keeps the rooms of Config.Warm waiting, if there are any, and
// returns when ctx has ended and they are gone.
func (s *Sandbox) Warm(ctx context.Context) {
	if s.rootless {
		return
	}
	var parts, ranges sync.WaitGroup
	defer ranges.Wait()
	ranges.Go(func() { s.ranges.ready(ctx, s.warm.AtOnce, s.initExe) })
	parts.Go(func() { _, _ = s.hidden.paths(ctx) })
	if diskOnLoop() {
		parts.Go(func() { _, _ = s.disks.template(ctx, disk{Bytes: s.limits.DiskBytes, Inodes: s.limits.Files}) })
	}
	parts.Wait()
	if s.warm.Rooms > 0 {
		s.pool.keep(ctx, s.warm)
	}
}

// hostAllows finds out whether this host lets us isolate at all.
func (s *Sandbox) hostAllows() error {
	if s.rootless {
		if err := userNamespacesAllowed(os.DirFS("/")); err != nil {
			return err
		}
		return s.users.probe(s.initExe)
	}
	r, err := s.ranges.take(s.initExe)
	if err != nil {
		return sallyport.Errorf(sallyport.CodeUnavailable, "user namespaces are not available: %v", err).
			WithHint("allow user namespaces (sysctl user.max_user_namespaces) for the runner")
	}
	s.ranges.put(r)
	return nil
}

// isolation words what is enforced, and what is not, in the evidence's vocabulary;
// bounded says that all that the room may write on the host is in volumes.
func (s *Sandbox) isolation(ctl controllers, gaps []sallyport.Gap, bounded bool) sallyport.Isolation {
	iso := sallyport.Isolation{
		Level: s.level(), Runtime: s.runtime.version, Rootless: s.rootless, Network: "none",
		Enforced: []string{
			"capabilities", "cgroup-namespace", "disk", "files", "host-view", "ipc-namespace", "mount-namespace",
			"network-namespace", "no-new-privileges", "pid-namespace", "processes", "seccomp", "user-namespace", "uts-namespace",
		},
		NotEnforced: slices.DeleteFunc(slices.Clone(gaps), func(g sallyport.Gap) bool {
			return s.rootless && g.What == "processes" // by a limit of the user namespace
		}),
	}
	if !s.rootless && !ctl.pids {
		iso.Enforced = slices.DeleteFunc(iso.Enforced, func(e string) bool { return e == "processes" })
	}
	if s.strong {
		iso = s.strengthened(iso)
	}
	for name, on := range map[string]bool{"memory": ctl.memory, "swap": ctl.swap, "cpu": ctl.cpu, "workspace-disk": bounded} {
		if on {
			iso.Enforced = append(iso.Enforced, name)
		}
	}
	if s.rootless && s.users.count == 0 {
		iso.NotEnforced = append(iso.NotEnforced, sallyport.Gap{What: "user-ids", Why: "the runner's user has no subordinate ids: the room knows one user only"})
	}
	if !bounded {
		why := "bound directories lie on the host's file system, which has no quota for them"
		if !s.bounds() {
			why += ": " + s.unbounded()
		}
		iso.NotEnforced = append(iso.NotEnforced, sallyport.Gap{What: "workspace-disk", Why: why})
	}
	slices.Sort(iso.Enforced)
	slices.SortFunc(iso.NotEnforced, func(a, b sallyport.Gap) int { return strings.Compare(a.What, b.What) })
	return iso
}

var roomID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// hostname as in RFC 1123, one label or several.
var hostname = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]{0,63}$`)

// maxBinds bounds what a caller may ask for; a job needs about three.
const maxBinds = 64

// maxTrust is above what the usual bundles have, which is a quarter of a megabyte.
const maxTrust = 4 << 20

// checkSpec refuses a room that cannot be made safely.
func (s *Sandbox) checkSpec(spec sallyport.RoomSpec) ([]bind, error) {
	invalid := func(format string, args ...any) ([]bind, error) {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, format, args...)
	}
	if !roomID.MatchString(spec.ID) {
		return invalid("room id %q is not of the form [a-z0-9-]{1,64}", spec.ID)
	}
	if spec.Hostname != "" && !hostname.MatchString(spec.Hostname) {
		return invalid("%q is no host name", spec.Hostname)
	}
	if spec.Dial != "" && (spec.DialPort < 1 || spec.DialPort > 65535) {
		return invalid("dial port %d is out of range", spec.DialPort)
	}
	if spec.Serve != "" && (spec.ServePort < 1 || spec.ServePort > 65535) {
		return invalid("serve port %d is out of range", spec.ServePort)
	}
	if spec.Limits.DiskBytes != 0 && spec.Limits.DiskBytes < minDisk {
		return invalid("a disk of %d bytes is too small: the least is %d", spec.Limits.DiskBytes, minDisk)
	}
	for _, h := range spec.Hosts {
		if !hostname.MatchString(h) {
			return invalid("%.60q is no host name", h)
		}
	}
	if len(spec.Peers) > maxPeers {
		return invalid("%d ports of other rooms are too many: at most %d", len(spec.Peers), maxPeers)
	}
	for _, p := range spec.Peers {
		if p.Room == nil || min(p.Port, p.As) < 1 || max(p.Port, p.As) > 65535 {
			return invalid("a peer needs a room and two ports of 1 to 65535")
		}
	}
	if u := spec.Uplink; u != nil && (!u.Addr.Is4() || !u.Resolver.Is4() || u.Attach == nil) {
		return invalid("an uplink needs two IPv4 addresses and somebody to take its far end")
	}
	if spec.Uplink != nil && s.strong && s.rootless {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "a room of level %s can have no network without root: runsc does not make one", Strong).
			WithHint("run the runner as root, or let the job have no network")
	}
	if len(spec.Trust) > maxTrust {
		return invalid("%d bytes of certificates are too many", len(spec.Trust))
	}
	if spec.Image != "" {
		if fi, err := os.Lstat(spec.Image); err != nil || !fi.IsDir() || !filepath.IsAbs(spec.Image) {
			return invalid("the image is not an absolute path of a directory")
		}
	}
	for path := range spec.Links {
		if spec.Image == "" || !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
			return invalid("link %q is not an absolute, clean path in a room of an image", path)
		}
	}
	if len(spec.Binds) > maxBinds {
		return invalid("%d binds are too many", len(spec.Binds))
	}
	binds := make([]bind, 0, len(spec.Binds)+1)
	for _, b := range spec.Binds {
		if !filepath.IsAbs(b.Source) || filepath.Clean(b.Target) != b.Target || !filepath.IsAbs(b.Target) || b.Target == "/" {
			return invalid("bind target %q is not an absolute, clean path below /", b.Target)
		}
		for _, own := range []string{"/proc", "/sys", "/dev", "/.sallyport"} {
			if b.Target == own || strings.HasPrefix(b.Target, own+"/") {
				return invalid("bind target %s: %s is the sandbox's own", b.Target, own)
			}
		}
		look := os.Lstat
		if s.volume(b.Source) != "" {
			look = os.Stat // the kernel shows it as a link
		}
		fi, err := look(b.Source)
		if err != nil {
			return invalid("the source of the bind at %s cannot be looked at", b.Target)
		}
		if !fi.IsDir() && !fi.Mode().IsRegular() {
			return invalid("the source of the bind at %s is neither a directory nor a file", b.Target)
		}
		binds = append(binds, bind{Source: b.Source, Target: b.Target, ReadOnly: b.ReadOnly, Dir: fi.IsDir()})
	}
	return binds, nil
}

// Prepare implements sallyport.Sandbox.
func (s *Sandbox) Prepare(ctx context.Context, spec sallyport.RoomSpec) (sallyport.Room, error) {
	binds, err := s.checkSpec(spec)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if s.rootless {
		if err := userNamespacesAllowed(os.DirFS("/")); err != nil {
			return nil, err
		}
	}
	groups, err := findCgroups()
	if err != nil {
		return nil, err
	}
	ctl, gaps := groups.enforceable()
	limits := withDefaults(spec.Limits, s.limits)
	if limits.MemoryBytes < minMemory {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "a room of %d bytes of memory is too small: the least is %d", limits.MemoryBytes, minMemory)
	}
	s.pool.enter()
	r, err := s.room(ctx, spec, limits, binds, groups, ctl, gaps)
	s.pool.leave(err == nil)
	return r, err
}

// room takes a waiting room, or makes one, and furnishes it.
func (s *Sandbox) room(ctx context.Context, spec sallyport.RoomSpec, limits sallyport.Limits, binds []bind, groups cgroups, ctl controllers, gaps []sallyport.Gap) (_ *Room, err error) {
	var r *Room
	if want, ok := s.shapeOf(spec, limits); ok {
		if r, err = s.pool.take(ctx, want, ctl, spec.ID); err != nil {
			return nil, err
		}
	}
	waited := r != nil
	if !waited {
		r = s.newRoom(spec.ID, limits)
	}
	for i := range binds {
		b := &binds[i]
		b.Device = s.volume(b.Source)
		if b.Device == "" && !b.ReadOnly && b.Dir {
			r.writable = append(r.writable, b.Source)
		}
	}
	r.isolation = s.isolation(ctl, gaps, s.bounds() && len(r.writable) == 0)
	if spec.Uplink != nil {
		r.isolation.Network = "door"
	}
	if waited {
		r.link, err = s.moveIn(r, spec, binds)
	} else {
		if err = r.claim(groups); err != nil {
			return nil, err
		}
		err = s.build(ctx, r, spec, binds, groups, ctl)
	}
	if err == nil {
		err = s.furnish(r, spec)
	}
	if err != nil {
		// The room is unusable; what it used must go even if ctx has ended.
		if derr := r.Destroy(context.WithoutCancel(ctx)); derr != nil {
			s.log.WarnContext(ctx, "left over from a room that was not made", "room", spec.ID, "error", derr)
		}
		return nil, err
	}
	r.used = true
	return r, nil
}

// newRoom returns a room that is nothing yet.
func (s *Sandbox) newRoom(id string, limits sallyport.Limits) *Room {
	return &Room{s: s, id: id, group: s.prefix + id, limits: limits, gone: make(chan struct{})}
}

// minMemory is what the runtime and init need to start in.
const minMemory = 32 << 20

// startTimeout bounds the start of a room: tens of milliseconds on an idle
// machine, so a minute is a machine on which nothing starts.
const startTimeout = time.Minute

// build makes the room's namespaces and mounts, and waits for its init.
func (s *Sandbox) build(ctx context.Context, r *Room, spec sallyport.RoomSpec, binds []bind, groups cgroups, ctl controllers) error {
	filter := s.filter.get()
	l, err := s.layout(ctx, r, spec, binds, groups, ctl, filter != nil)
	if err != nil {
		return err
	}
	control, theirs, err := socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return err
	}
	r.control = control
	if filter != nil {
		if _, err := control.Write(filter); err != nil {
			return fmt.Errorf("hand the filter of system calls to the room: %w", err)
		}
	}
	r.keeper, err = s.launch(l, spec.ID, theirs)
	theirs.Close()
	r.link = l.link
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := control.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	var hello [1]byte
	_, r.told, err = readWithFiles(control, hello[:])
	if err != nil || hello[0] != pidone.HelloByte {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.keeper.kill()
		<-r.keeper.said
		<-r.keeper.gone
		if r.keeper.exit == exitInvalid && s.rootless {
			return sallyport.Errorf(sallyport.CodeInvalid, "%s", r.keeper.words())
		}
		s.log.ErrorContext(ctx, "room did not start", "room", spec.ID, "runtime", r.keeper.words(), "error", err)
		return (&sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the room did not start on this host", Err: errors.New(r.keeper.words())}).
			WithHint("the runner's log has the runtime's reason")
	}
	pid, err := r.findInit(groups)
	if err != nil {
		return err
	}
	if filter != nil {
		if err := filtered(pid, 1+len(r.told)); err != nil { // the listener to program starts is one more
			return err
		}
	} else if !s.rootless && !s.strong {
		if err := s.filter.learn(pid); err != nil {
			s.log.InfoContext(ctx, "the runtime compiles the filter of system calls for each room", "why", err)
		}
	}
	if err := r.groups.verify(ctl, r.limits); err != nil {
		return (&sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the host did not take the room's limits", Err: err}).
			WithHint("the runner's log has the reason")
	}
	return nil
}

// furnish connects the room, whose init waits, with whom the caller named.
func (s *Sandbox) furnish(r *Room, spec sallyport.RoomSpec) error {
	err := r.tellOfStarts(spec, r.told)
	pidone.CloseAll(r.told)
	r.told = nil
	if err != nil {
		return err
	}
	if spec.Uplink != nil {
		if r.link == nil {
			return errors.New("the keeper handed out no network")
		}
		if err := spec.Uplink.Attach(*r.link); err != nil {
			return err
		}
		r.link = nil
	}
	if spec.Dial != "" {
		if err := r.serveDial(spec.Dial, spec.DialPort); err != nil {
			return err
		}
	}
	if spec.Serve != "" {
		if err := r.serveRoom(spec.Serve, spec.ServePort); err != nil {
			return err
		}
	}
	for _, p := range spec.Peers {
		if err := r.servePeer(p); err != nil {
			return err
		}
	}
	return nil
}

// roomHostname is the host name of a room.
func roomHostname(spec sallyport.RoomSpec) string {
	if spec.Hostname == "" {
		return "room"
	}
	return spec.Hostname
}

// layout gathers what the keeper needs to know.
func (s *Sandbox) layout(ctx context.Context, r *Room, spec sallyport.RoomSpec, binds []bind, groups cgroups, ctl controllers, filter bool) (*layout, error) {
	l := &layout{
		Stage: r.dir(), Rootless: s.rootless, Strong: s.strong, Binds: binds, InitExe: s.initExe,
		Hostname: roomHostname(spec), Hosts: spec.Hosts, Trust: spec.Trust, viewMap: -1, bindMap: -1,
	}
	l.Binds = append(l.Binds, bind{Source: l.InitExe, Target: roomInitExe, ReadOnly: true})
	if spec.Uplink != nil {
		l.Uplink = &uplink{Addr: spec.Uplink.Addr, Resolver: spec.Uplink.Resolver}
	}
	if l.Image = spec.Image; l.Image != "" {
		l.Links = spec.Links
		l.Views = []view{{Path: l.Image, Writable: true}}
	} else {
		l.Views, l.Links = presentViews()
	}
	limits, err := rlimits()
	if err != nil {
		return nil, err
	}
	rs := roomSpec{
		hostname: l.Hostname, limits: r.limits, enforce: ctl, rlimits: limits, starts: spec.Started != nil,
		strong: s.strong, uplink: spec.Uplink != nil, filter: filter,
	}
	if ctl != (controllers{}) {
		rs.cgroup = r.group
	}
	// In the first rooms of a process these take tens of milliseconds each.
	parts, inner := errgroup.WithContext(ctx)
	parts.Go(func() (err error) {
		l.Disk, err = s.disk(inner, r)
		return err
	})
	if s.rootless {
		l.Hidden = neverShown[:]
		rs.uids, rs.gids = s.users.inside(), s.users.inside()
		rs.rlimits = append(rs.rlimits, specs.POSIXRlimit{Type: "RLIMIT_NPROC", Soft: uint64(r.limits.Processes), Hard: uint64(r.limits.Processes)})
	} else {
		parts.Go(func() (err error) {
			r.ids, err = s.ranges.take(s.initExe)
			return err
		})
		parts.Go(func() (err error) {
			if l.Hidden, err = s.hidden.paths(inner); err != nil {
				return fmt.Errorf("look for what to hide: %w", err)
			}
			return nil
		})
	}
	if err := parts.Wait(); err != nil {
		return nil, err
	}
	if !s.rootless {
		l.UID, l.viewMap, l.bindMap = r.ids.base, int(r.ids.view.Fd()), int(r.ids.bind.Fd())
		rs.uids = []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(r.ids.base), Size: rangeSize}}
		rs.gids = rs.uids
	}
	l.Config, err = rs.config()
	return l, err
}

// disk readies the room's disk.
func (s *Sandbox) disk(ctx context.Context, r *Room) (disk, error) {
	d := disk{Bytes: r.limits.DiskBytes, Inodes: r.limits.Files}
	if !s.rootless && diskOnLoop() {
		image, err := s.disks.image(ctx, d)
		if err != nil {
			return disk{}, err
		}
		defer image.Close()
		dev, path, err := attachLoop(image)
		if err != nil {
			return disk{}, err
		}
		r.loop, d.Loop = dev, path
		return d, nil
	}
	// Pages of a tmpfs are the room's memory. Half of it for the disk means that
	// filling the disk ends as ENOSPC and not as the death of the job.
	d.Bytes = min(d.Bytes, r.limits.MemoryBytes/2)
	s.log.InfoContext(ctx, "room's disk is in memory", "room", r.id, "bytes", d.Bytes)
	return d, nil
}

// Sweep implements sallyport.Sandbox. Rooms of living processes are left alone.
func (s *Sandbox) Sweep(ctx context.Context) error {
	entries, err := os.ReadDir(s.roomsDir())
	if err != nil {
		return fmt.Errorf("look for leftovers: %w", err)
	}
	var errs []error
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, e := range entries {
		name := e.Name()
		if !roomID.MatchString(name) {
			continue
		}
		wg.Go(func() {
			if err := s.sweepRoom(ctx, name); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
