package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Warm says which rooms are made before somebody asks for them.
type Warm struct {
	// Rooms is how many wait; 0 is none. Rootless there are none: the keeper of such a
	// room cannot be reached any more once it has become the runtime.
	Rooms int
	// Like is what they are made for: its Hostname, its Limits and whether Started is set. The
	// rest of a spec is put into a waiting room when it is taken. A room of an image never waits.
	Like sallyport.RoomSpec
	// Once makes them once, and none in the place of those that were taken.
	Once bool
	// AtOnce is how many rooms there will be at the same time at most: Sandbox.Warm makes that
	// many id ranges. 0 leaves it to each room.
	AtOnce int
}

// Bounds of the pool.
const (
	// maxWarm is more rooms than a runner starts at once.
	maxWarm = 64
	// maxWait is how long a room waits at most. It costs no processor time to wait: this
	// bounds what a room can miss of a host that changes.
	maxWait = 10 * time.Minute
	// lookEvery is the time between two looks at the rooms that wait. It is shorter than
	// scanEvery, so that the scan of the host that a room must agree with is not made by Prepare.
	lookEvery = scanEvery - 10*time.Second
)

// shape is what cannot be changed about a room once its init waits.
type shape struct {
	hostname string
	limits   sallyport.Limits
	starts   bool
}

// shapeOf returns the shape of the room that spec asks for; limits have their defaults. It
// reports false for a room that cannot wait: what is mounted later, gVisor does not see.
func (s *Sandbox) shapeOf(spec sallyport.RoomSpec, limits sallyport.Limits) (shape, bool) {
	return shape{hostname: spec.Hostname, limits: limits, starts: spec.Started != nil}, !s.rootless && !s.strong && spec.Image == ""
}

// pool holds rooms that were prepared and never used: namespaces, mounts, limits and
// the init are there, and wait for what only a job knows (movein.go). Each is handed out
// once, or thrown away when it has waited too long or no longer shows what the host would show now.
type pool struct {
	s    *Sandbox
	now  func() time.Time
	wake chan struct{} // something changed that may call for a room

	mu       sync.Mutex
	waiting  []*Room // the oldest first
	coming   chan struct{}
	promised bool // somebody waits for the room that is being made
	busy     int  // calls of Prepare at the moment
	used     int  // rooms in use
}

// stir makes keep look whether a room should be made.
func (p *pool) stir() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// enter notes that a room is asked for; the caller calls leave when it has it. While somebody
// asks, no room is made ahead.
func (p *pool) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy++
}

func (p *pool) leave(got bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	if got {
		p.used++
	}
	p.stir()
}

// ended notes the end of a room that was in use.
func (p *pool) ended() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
	p.stir()
}

// keep has rooms waiting until ctx ends, and then none.
func (p *pool) keep(ctx context.Context, w Warm) {
	defer p.clear(context.WithoutCancel(ctx))
	like, ok := p.s.shapeOf(w.Like, withDefaults(w.Like.Limits, p.s.limits))
	if !ok {
		return
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for left := min(w.Rooms, maxWarm); ; {
		for p.lacks(left) && ctx.Err() == nil {
			if err := p.add(ctx, like); err != nil {
				if ctx.Err() == nil {
					p.s.log.WarnContext(ctx, "no room can be made ahead", "error", err)
				}
				break // until the next look, or until something else changes
			}
			if w.Once {
				left--
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-look.C:
			p.weed(ctx)
		}
	}
}

// lacks tells whether to make a room now: fewer than want wait, nobody is asking for one, and a
// processor is free of rooms in use.
func (p *pool) lacks(want int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting) < want && p.busy == 0 && p.used < runtime.NumCPU()
}

// add makes a room that waits.
func (p *pool) add(ctx context.Context, like shape) error {
	coming := make(chan struct{})
	p.mu.Lock()
	p.coming, p.promised = coming, false
	p.mu.Unlock()
	r, err := p.s.makeWaiting(ctx, like)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.waiting = append(p.waiting, r)
	}
	p.coming = nil
	close(coming)
	return err
}

// take hands out a waiting room of a shape under a new id, or nil when there is none. One that
// is nearly made is waited for.
func (p *pool) take(ctx context.Context, want shape, ctl controllers, id string) (*Room, error) {
	for {
		p.mu.Lock()
		i := slices.IndexFunc(p.waiting, func(r *Room) bool { return r.shape == want })
		if i < 0 {
			coming := p.coming
			if coming == nil || p.promised || len(p.waiting) > 0 {
				p.mu.Unlock()
				return nil, nil
			}
			p.promised = true
			p.mu.Unlock()
			select {
			case <-coming:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			continue
		}
		r := p.waiting[i]
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.mu.Unlock()
		err := p.fit(ctx, r)
		if err == nil && r.enforce != ctl {
			err = errors.New("other limits can be enforced now")
		}
		if err != nil {
			p.discard(context.WithoutCancel(ctx), r, err)
			continue
		}
		if err := r.rename(id); err != nil {
			p.discard(context.WithoutCancel(ctx), r, err)
			return nil, err
		}
		return r, nil
	}
}

// fit says why a waiting room must not be handed out.
func (p *pool) fit(ctx context.Context, r *Room) error {
	if p.now().Sub(r.since) > maxWait {
		return errors.New("it waited too long")
	}
	select {
	case <-r.keeper.gone:
		return errors.New("its runtime has ended")
	default:
	}
	if gone, _ := unix.Poll([]unix.PollFd{{Fd: int32(r.init), Events: unix.POLLIN}}, 0); gone != 0 {
		return errors.New("its init has ended")
	}
	now, err := p.s.look(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(r.sight.dirs, now.dirs) || !slices.Equal(r.sight.hidden, now.hidden) {
		return errors.New("the host has changed")
	}
	return nil
}

// discard ends a room that nobody will use.
func (p *pool) discard(ctx context.Context, r *Room, why error) {
	p.s.log.DebugContext(ctx, "a waiting room was thrown away", "room", r.id, "why", why)
	if err := r.Destroy(ctx); err != nil {
		p.s.log.WarnContext(ctx, "left over from a waiting room", "room", r.id, "error", err)
	}
}

// weed throws away what no longer fits.
func (p *pool) weed(ctx context.Context) {
	p.mu.Lock()
	list := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	for _, r := range list {
		if err := p.fit(ctx, r); err != nil {
			p.discard(context.WithoutCancel(ctx), r, err)
			continue
		}
		p.mu.Lock()
		p.waiting = append(p.waiting, r)
		p.mu.Unlock()
	}
}

func (p *pool) clear(ctx context.Context) {
	p.mu.Lock()
	list := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	var ends sync.WaitGroup
	for _, r := range list {
		ends.Go(func() { p.discard(ctx, r, errors.New("the pool is closed")) })
	}
	ends.Wait()
}

// sight is what a room shows of the host, as far as it was fixed when the room was made.
type sight struct {
	dirs   []view
	links  map[string]string
	hidden []string
}

// look finds out what a room shows of the host.
func (s *Sandbox) look(ctx context.Context) (sight, error) {
	var now sight
	now.dirs, now.links = presentViews()
	if s.rootless {
		now.hidden = neverShown[:]
		return now, nil
	}
	var err error
	if now.hidden, err = s.hidden.paths(ctx); err != nil {
		return sight{}, fmt.Errorf("look for what to hide: %w", err)
	}
	return now, nil
}

// makeWaiting makes a room of a shape that waits for what only its job knows.
func (s *Sandbox) makeWaiting(ctx context.Context, like shape) (*Room, error) {
	groups, err := findCgroups()
	if err != nil {
		return nil, err
	}
	ctl, _ := groups.enforceable()
	var b [8]byte
	_, _ = rand.Read(b[:])
	id := "warm-" + hex.EncodeToString(b[:])
	r := s.newRoom(id, like.limits)
	r.shape, r.since, r.enforce = like, s.pool.now(), ctl
	if r.sight, err = s.look(ctx); err != nil {
		return nil, err
	}
	if err := r.claim(groups); err != nil {
		return nil, err
	}
	spec := sallyport.RoomSpec{ID: id, Hostname: like.hostname, Limits: like.limits}
	if like.starts {
		spec.Started = func(sallyport.ProgramStart) {}
	}
	if err := s.build(ctx, r, spec, nil, groups, ctl); err != nil {
		if derr := r.Destroy(context.WithoutCancel(ctx)); derr != nil {
			err = errors.Join(err, derr)
		}
		return nil, err
	}
	return r, nil
}

// rename gives a waiting room, its directory with it, the id that it is used under.
func (r *Room) rename(id string) error {
	from, to := filepath.Join(r.s.roomsDir(), r.id), filepath.Join(r.s.roomsDir(), id)
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, os.ErrExist) {
		return sallyport.Errorf(sallyport.CodeConflict, "there is a room %s already", id)
	}
	if err != nil {
		return fmt.Errorf("rename a room's directory: %w", err)
	}
	r.id = id
	return nil
}
