package escape

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// The limits of the room that is flooded, and what the floods ask for.
const (
	floodMemory    = 192 << 20
	floodProcesses = 64
	floodDisk      = 64 << 20
	floodFiles     = 2000
	floodForks     = 2000
)

// roomEnded is the outcome of a flood that took its room along, and nothing else.
const roomEnded = "the room ended"

// flood is one way of using something up, in a room of its own.
type flood struct {
	name string
	// limit is what the flood meets, in the words of Isolation: where it is not enforced
	// the flood is left out, for it would hit the host.
	limit string
	args  []string
	held  func(out string, res sallyport.ExecResult) bool
}

func floods() []flood {
	noSpace := func(out string, res sallyport.ExecResult) bool { return out == "ENOSPC" && res.Signal == "" }
	return []flood{
		{"fork bomb", "processes", []string{"fork", strconv.Itoa(floodForks)}, func(out string, _ sallyport.ExecResult) bool {
			var n int
			var errno string
			_, err := fmt.Sscan(out, &n, &errno)
			return err == nil && n < floodProcesses && (errno == "EAGAIN" || errno == "ENOMEM")
		}},
		{"memory bomb", "memory", []string{"eat", strconv.Itoa(4 * floodMemory)}, func(out string, res sallyport.ExecResult) bool { return out != done && res.Signal == "killed" }},
		{"fill the disk", "disk", []string{"fill", "/root/fill", strconv.Itoa(4 * floodDisk)}, noSpace},
		{"fill /tmp", "disk", []string{"fill", "/tmp/fill", strconv.Itoa(4 * floodDisk)}, noSpace},
		{"fill /etc", "disk", []string{"fill", "/etc/fill", strconv.Itoa(4 * floodDisk)}, noSpace},
		{"fill /dev/shm", "memory", []string{"fill", "/dev/shm/fill", strconv.Itoa(2 * floodMemory)}, noSpace},
		{"fill the inodes", "files", []string{"files", strconv.Itoa(3 * floodFiles)}, noSpace},
		{"core dumps", "", []string{"crash"}, func(out string, _ sallyport.ExecResult) bool { return out == "no core" }},
	}
}

// floods runs them, each in a small room of its own: one that takes its room along does
// not spoil the next.
func (d *drill) floods(ctx context.Context) ([]Result, error) {
	var results []Result
	for _, f := range floods() {
		r, err := d.flood(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		results = append(results, r)
	}
	r, err := d.tower(ctx)
	return append(results, r), err
}

func (d *drill) flood(ctx context.Context, f flood) (Result, error) {
	r := Result{Group: "floods", Name: f.name}
	room, err := d.room(ctx, sallyport.RoomSpec{Limits: sallyport.Limits{
		MemoryBytes: floodMemory, Processes: floodProcesses, DiskBytes: floodDisk, Files: floodFiles,
	}})
	if err != nil {
		return r, err
	}
	defer room.Destroy(context.WithoutCancel(ctx))
	isolation := room.Isolation()
	for _, g := range isolation.NotEnforced {
		if g.What == f.limit {
			r.Verdict, r.Outcome, r.Why = NotApplicable, "not tried", "this host does not enforce it: "+g.Why
			return r, nil
		}
	}
	out, res, err := probe(ctx, room, f.args...)
	out = strings.TrimSpace(out)
	switch {
	case sallyport.ErrorCode(err) == sallyport.CodeUnavailable && ctx.Err() == nil:
		// Its room is all that a flood may take along. Where one kernel holds all rooms, the
		// room must live on.
		r.Outcome = roomEnded
		r = verdict(r)
		if isolation.Level == "strong" {
			r.Verdict, r.Why = Held, "the room is one job's, and no other was touched"
		}
		return r, room.Destroy(ctx)
	case err != nil:
		return r, err
	}
	r.Outcome = clean(out)
	if res.Signal != "" {
		r.Outcome = res.Signal
	}
	if r = verdict(r); f.held(out, res) {
		r.Verdict = Held
	}
	// The room goes on: a job's later steps can still say what happened.
	if again, _, err := probe(ctx, room, "remains", "nobody"); err != nil || strings.TrimSpace(again) != "nothing" {
		r.Verdict, r.Why = NotHeld, "the room did not answer afterwards"
	}
	return r, room.Destroy(ctx)
}

// tower has the room build directories, each in the one before, where the runner must remove
// them.
func (d *drill) tower(ctx context.Context) (Result, error) {
	r := Result{Group: "floods", Name: "4096 directories deep", Outcome: "removed"}
	dir := filepath.Join(d.Dir, d.id+"-tower")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	room, err := d.room(ctx, sallyport.RoomSpec{Binds: []sallyport.Bind{{Source: dir, Target: "/srv/tower"}}})
	if err != nil {
		return r, err
	}
	defer room.Destroy(context.WithoutCancel(ctx))
	for _, at := range []string{"/srv/tower", "/tmp"} {
		if out, _, err := probe(ctx, room, "deep", at); err != nil || strings.TrimSpace(out) != done {
			return r, fmt.Errorf("the tower was not built: %q, %w", clean(out), err)
		}
	}
	if err := room.Destroy(ctx); err != nil {
		r.Outcome = clean(err.Error())
	} else if err := os.RemoveAll(dir); err != nil {
		r.Outcome = clean(err.Error())
	}
	return verdict(r, "removed"), nil
}
