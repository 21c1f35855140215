package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// controllers tells which limits this process may set by cgroups.
type controllers struct {
	memory, swap, pids, cpu bool
}

// hierarchy is one mounted cgroup tree and our own place in it.
type hierarchy struct {
	controllers []string // v1; empty for v2
	unified     bool
	mount       string // where it is mounted
	own         string // directory of this process's cgroup
}

// cgroups is what this process sees of the host's cgroups, v1, v2 or both.
type cgroups struct{ trees []hierarchy }

// findCgroups reads the mount table and our own membership.
func findCgroups() (cgroups, error) {
	mounts, err := cgroupMounts(func() ([]byte, error) { return os.ReadFile("/proc/self/mountinfo") })
	if err != nil {
		return cgroups{}, fmt.Errorf("read the mount table: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return cgroups{}, fmt.Errorf("read our cgroups: %w", err)
	}
	return parseCgroups(mounts, own), nil
}

// cgroupMounts returns the lines of a mount table that are about cgroups, each once. The kernel hands the table out piece by
// piece, and lines are missed when others mount and unmount meanwhile, as rooms do: it is read until
// one more reading brings nothing new.
func cgroupMounts(read func() ([]byte, error)) ([]byte, error) {
	var all []byte
	seen := map[string]bool{}
	for range 8 {
		table, err := read()
		if err != nil {
			return nil, err
		}
		again := len(seen)
		for line := range bytes.Lines(table) {
			if bytes.Contains(line, []byte(" - cgroup")) && !seen[string(line)] {
				seen[string(line)] = true
				all = append(all, line...)
			}
		}
		if again == len(seen) {
			break
		}
	}
	return all, nil
}

// parseCgroups joins /proc/PID/mountinfo and /proc/PID/cgroup (proc(5),
// cgroups(7)).
func parseCgroups(mountinfo, membership []byte) cgroups {
	paths := make(map[string]string) // by controller; "" is v2
	for line := range bytes.Lines(membership) {
		_, rest, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		names, path, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 {
			continue
		}
		for _, name := range strings.Split(names, ",") {
			paths[name] = path
		}
	}
	var c cgroups
	for line := range bytes.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSpace(string(line)), " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(tail) < 3 {
			continue
		}
		root, mount := fields[3], fields[4]
		h := hierarchy{mount: mount, unified: tail[0] == "cgroup2"}
		path, known := paths[""], h.unified
		if tail[0] == "cgroup" {
			for _, opt := range strings.Split(tail[2], ",") {
				if p, ok := paths[opt]; ok && opt != "" {
					h.controllers, path, known = append(h.controllers, opt), p, true
				}
			}
		}
		if !known {
			continue
		}
		// A mount may show only a part of the hierarchy.
		rel, err := filepath.Rel(root, path)
		if err != nil || strings.HasPrefix(rel, "..") {
			continue
		}
		h.own = filepath.Join(mount, rel)
		c.trees = append(c.trees, h)
	}
	return c
}

// v2 returns the unified hierarchy when it is the one that holds the
// controllers.
func (c cgroups) v2() (hierarchy, bool) {
	for _, h := range c.trees {
		if !h.unified && slices.Contains(h.controllers, "memory") {
			return hierarchy{}, false
		}
	}
	i := slices.IndexFunc(c.trees, func(h hierarchy) bool { return h.unified })
	if i < 0 {
		return hierarchy{}, false
	}
	return c.trees[i], true
}

// parents are the directories in which the runtime makes a room's cgroup: below
// our own in v1, beside it in v2, where a cgroup with processes of its own has no
// limited children.
func (c cgroups) parents() []string {
	var dirs []string
	for _, h := range c.trees {
		dirs = append(dirs, h.own)
		if h.unified && h.own != h.mount {
			dirs = append(dirs, filepath.Dir(h.own))
		}
	}
	return dirs
}

// enforceable says which limits can be set, and why the others cannot.
func (c cgroups) enforceable() (controllers, []sallyport.Gap) {
	has := func(name string) (bool, string) {
		for _, h := range c.trees {
			if slices.Contains(h.controllers, name) {
				if unix.Access(h.own, unix.W_OK) != nil {
					return false, "the cgroup of the runner may not be divided by its user"
				}
				return true, ""
			}
		}
		h, ok := c.v2()
		if !ok {
			return false, "the kernel has no such cgroup controller"
		}
		parent := h.own
		if h.own != h.mount {
			parent = filepath.Dir(h.own)
		}
		if unix.Access(parent, unix.W_OK) != nil {
			return false, "the cgroup of the runner is not delegated to its user (systemd: Delegate=yes)"
		}
		on, err := os.ReadFile(parent + "/cgroup.controllers")
		if err != nil || !slices.Contains(strings.Fields(string(on)), name) {
			return false, "the controller is not delegated to the runner's cgroup"
		}
		return true, ""
	}
	var ctl controllers
	var gaps []sallyport.Gap
	for _, want := range []struct {
		name, limit string
		on          *bool
	}{{"memory", "memory", &ctl.memory}, {"pids", "processes", &ctl.pids}, {"cpu", "cpu", &ctl.cpu}} {
		ok, why := has(want.name)
		if *want.on = ok; !ok {
			gaps = append(gaps, sallyport.Gap{What: want.limit, Why: why})
		}
	}
	switch {
	case ctl.memory && c.countsSwap():
		ctl.swap = true
	case ctl.memory:
		gaps = append(gaps, sallyport.Gap{What: "swap", Why: "the kernel does not account swap"})
	default:
		gaps = append(gaps, sallyport.Gap{What: "swap", Why: "memory is not limited"})
	}
	return ctl, gaps
}

func (c cgroups) countsSwap() bool {
	for _, h := range c.trees {
		if slices.Contains(h.controllers, "memory") {
			return unix.Access(h.own+"/memory.memsw.limit_in_bytes", unix.F_OK) == nil
		}
	}
	h, ok := c.v2()
	if !ok {
		return false
	}
	// The root of a hierarchy has no such file; any cgroup below it tells.
	found, _ := filepath.Glob(h.mount + "/*/memory.swap.max") // the pattern is well formed
	return len(found) > 0 || unix.Access(h.own+"/memory.swap.max", unix.F_OK) == nil
}

// roomGroups are the cgroups of one room.
type roomGroups struct {
	dirs   []string
	memory string // "" when not limited
	v2     bool
}

// of finds the cgroups named name that process pid is in, by the kernel's word.
func (c cgroups) of(pid int, name string) (roomGroups, error) {
	mounts, err := cgroupMounts(func() ([]byte, error) { return os.ReadFile("/proc/self/mountinfo") })
	if err != nil {
		return roomGroups{}, err
	}
	theirs, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return roomGroups{}, fmt.Errorf("read the room's cgroups: %w", err)
	}
	var g roomGroups
	for _, h := range parseCgroups(mounts, theirs).trees {
		if filepath.Base(h.own) != name {
			continue
		}
		g.dirs = append(g.dirs, h.own)
		if slices.Contains(h.controllers, "memory") {
			g.memory = h.own
		}
		if h.unified && g.memory == "" && unix.Access(h.own+"/memory.max", unix.F_OK) == nil {
			g.memory, g.v2 = h.own, true
		}
	}
	return g, nil
}

// verify reads the limits back: what the kernel does not confirm is an error.
func (g roomGroups) verify(ctl controllers, lim sallyport.Limits) error {
	read := func(names ...string) (int64, error) {
		why := fmt.Errorf("no %s in %q", names[0], g.dirs)
		for _, dir := range g.dirs {
			for _, name := range names {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					if !errors.Is(err, os.ErrNotExist) {
						why = err
					}
					continue
				}
				n, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
				if err != nil {
					return 0, fmt.Errorf("%s is %q", name, strings.TrimSpace(string(b)))
				}
				return n, nil
			}
		}
		return 0, why
	}
	for _, check := range []struct {
		on    bool
		most  int64
		names []string
	}{
		{ctl.memory, lim.MemoryBytes, []string{"memory.limit_in_bytes", "memory.max"}},
		{ctl.pids, lim.Processes, []string{"pids.max"}},
		{ctl.cpu && lim.CPUs > 0, int64(lim.CPUs * cpuPeriod), []string{"cpu.cfs_quota_us", "cpu.max"}},
	} {
		if !check.on {
			continue
		}
		got, err := read(check.names...)
		if err != nil {
			return fmt.Errorf("a limit was not taken: %w", err)
		}
		if got < 0 || got > check.most {
			return fmt.Errorf("a limit was not taken: %s is %d, not %d", check.names[0], got, check.most)
		}
	}
	return nil
}

// oomKills returns how many processes of the room met the memory limit.
func (g roomGroups) oomKills() int64 {
	name := "memory.oom_control"
	if g.v2 {
		name = "memory.events"
	}
	if g.memory == "" {
		return 0
	}
	f, err := os.Open(filepath.Join(g.memory, name))
	if err != nil {
		return 0 // the room is gone
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), "oom_kill "); ok {
			n, _ := strconv.ParseInt(v, 10, 64) // the kernel writes numbers
			return n
		}
	}
	return 0
}

// remove kills what is left in the cgroups and removes them.
func (g roomGroups) remove(ctx context.Context) error {
	var errs []error
	for _, dir := range g.dirs {
		if err := removeCgroup(ctx, dir); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeCgroup removes one cgroup with the processes in it. The runtime makes no
// cgroups below a room's.
func removeCgroup(ctx context.Context, dir string) error {
	// The kernel lets a cgroup go a moment after its last process; a killed process
	// in uninterruptible sleep may take longer.
	wait := time.Millisecond
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("remove the cgroup %s: %w", dir, err)
		}
		if os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0) != nil {
			killGroup(dir)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove the cgroup %s: %w", dir, context.Cause(ctx))
		case <-time.After(wait):
			wait = min(2*wait, 100*time.Millisecond)
		}
	}
}

// killGroup is cgroup.kill for kernels and hierarchies without it.
func killGroup(dir string) {
	b, err := os.ReadFile(dir + "/cgroup.procs")
	if err != nil {
		return
	}
	for _, s := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(s); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // may be gone already
		}
	}
}
