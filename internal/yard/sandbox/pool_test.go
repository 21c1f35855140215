package sandbox

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

// waiting is a Sandbox whose rooms have all waited, as far as they can.
type waiting struct {
	*Sandbox
	t *testing.T
}

func (w waiting) Prepare(ctx context.Context, spec sallyport.RoomSpec) (sallyport.Room, error) {
	limits := withDefaults(spec.Limits, w.limits)
	if want, ok := w.shapeOf(spec, limits); ok && limits.DiskBytes >= minDisk && limits.MemoryBytes >= minMemory && (spec.Hostname == "" || hostname.MatchString(spec.Hostname)) {
		if err := w.pool.add(ctx, want); err != nil {
			w.t.Errorf("make a room ahead: %v", err)
		}
	}
	return w.Sandbox.Prepare(ctx, spec)
}

// needRoot skips where rooms cannot wait.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("without root no room waits")
	}
}

// TestConformanceOfWaitingRooms runs the suite on rooms that were made before they were asked for.
func TestConformanceOfWaitingRooms(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := open(t, Config{})
	t.Cleanup(func() { s.pool.clear(context.Background()) }) // of requests that were refused
	sallyporttest.Sandbox(t, func(t *testing.T) sallyporttest.SandboxCase {
		return sallyporttest.SandboxCase{Sandbox: waiting{s, t}, Dir: t.TempDir()}
	})
}

// keptPool returns a sandbox that keeps n rooms waiting, which all wait now.
func keptPool(t *testing.T, w Warm) *Sandbox {
	t.Helper()
	needRoot(t)
	s := open(t, Config{Warm: w})
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.Warm(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-gone
		if left, err := os.ReadDir(s.roomsDir()); err != nil || len(left) != 0 {
			t.Errorf("left after the pool's end: %v, %v", left, err)
		}
	})
	awaitWaiting(t, s, w.Rooms)
	return s
}

func awaitWaiting(t *testing.T, s *Sandbox, n int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s.pool.mu.Lock()
		have := len(s.pool.waiting)
		s.pool.mu.Unlock()
		if have == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d rooms wait, want %d", have, n)
		}
	}
}

// names of the rooms that wait.
func (p *pool) names() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.waiting {
		list = append(list, r.group)
	}
	return list
}

func TestPool(t *testing.T) {
	t.Parallel()
	s := keptPool(t, Warm{Rooms: 1, Like: sallyport.RoomSpec{Hostname: "runner"}})
	ctx := context.Background()
	before := s.pool.names()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/given", []byte("given\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := sallyport.RoomSpec{ID: "job-1", Hostname: "runner", Hosts: []string{"database"}, Binds: []sallyport.Bind{{Source: dir, Target: "/work/src"}}}
	room, err := s.Prepare(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer room.Destroy(ctx)
	if got := room.(*Room).group; got != before[0] {
		t.Errorf("the room's cgroup is %s, of the one that waited %s", got, before[0])
	}
	var out strings.Builder
	res, err := room.Exec(ctx, sallyport.ExecSpec{Argv: []string{"/bin/sh", "-c", "hostname; cat /work/src/given; grep -c database /etc/hosts; echo made >/work/src/made"}, Stdout: &out})
	if err != nil || res.ExitCode != 0 || out.String() != "runner\ngiven\n1\n" {
		t.Errorf("in the room: %v, %+v, %q", err, res, out.String())
	}
	if _, err := os.Stat(dir + "/made"); err != nil {
		t.Errorf("what the room wrote: %v", err)
	}
	if _, err := s.Prepare(ctx, spec); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("a second room of the same id: %v", err)
	}

	if err := room.Destroy(ctx); err != nil {
		t.Error(err)
	}

	// Another one takes its place, and whoever wants another room gets one that is made for it.
	awaitWaiting(t, s, 1)
	after := s.pool.names()
	if after[0] == before[0] {
		t.Errorf("the room that was used waits again")
	}
	other, err := s.Prepare(ctx, sallyport.RoomSpec{ID: "job-2", Hostname: "elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Destroy(ctx)
	if got := other.(*Room).group; got == after[0] {
		t.Errorf("a room for another host name was taken from the pool")
	}
}

func TestPoolThrowsAway(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(s *Sandbox, r *Room){
		"old":       func(s *Sandbox, r *Room) { r.since = r.since.Add(-2 * maxWait) },
		"hidden":    func(s *Sandbox, r *Room) { r.sight.hidden = append([]string{"/etc/another"}, r.sight.hidden...) },
		"view":      func(s *Sandbox, r *Room) { r.sight.dirs = r.sight.dirs[1:] },
		"limits":    func(s *Sandbox, r *Room) { r.enforce.cpu = !r.enforce.cpu },
		"dead init": func(s *Sandbox, r *Room) { _ = unix.PidfdSendSignal(r.init, unix.SIGKILL, nil, 0); <-r.keeper.gone },
		"dead": func(s *Sandbox, r *Room) {
			r.keeper.kill()
			<-r.keeper.gone
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needRoot(t)
			s := open(t, Config{})
			t.Cleanup(func() { s.pool.clear(context.Background()) })
			want, _ := s.shapeOf(sallyport.RoomSpec{}, s.limits)
			if err := s.pool.add(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			was := s.pool.waiting[0]
			spoil(s, was)
			r, err := s.Prepare(t.Context(), sallyport.RoomSpec{ID: "next"})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Destroy(context.Background())
			if r == sallyport.Room(was) {
				t.Error("the room was handed out")
			}
			if _, err := os.Stat(s.roomsDir() + "/" + was.id); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("what is left of the room: %v", err)
			}
		})
	}
}

// TestPoolWaitsForIdle: nobody makes rooms ahead while others are asked for, or use the machine.
func TestPoolWaitsForIdle(t *testing.T) {
	t.Parallel()
	p := &pool{now: time.Now, wake: make(chan struct{}, 1)}
	if !p.lacks(1) {
		t.Error("no room is made on an idle machine")
	}
	p.enter()
	if p.lacks(1) {
		t.Error("a room is made ahead while one is asked for")
	}
	p.leave(false)
	for range 1 << 10 {
		p.enter()
		p.leave(true)
	}
	if p.lacks(1) {
		t.Error("a room is made ahead while the machine is full of them")
	}
	for range 1 << 10 {
		p.ended()
	}
	if !p.lacks(1) {
		t.Error("no room is made when all have ended")
	}
}
