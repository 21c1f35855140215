package sandbox

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// moveIn puts into a waiting room what only its job knows: binds, names, and the uplink,
// whose far end it returns. It does so from within the room's own mount and network namespaces, with
// the runner's rights over them. Nothing of the job is in the room yet: nobody but
// its init, which does nothing, could have changed a path on the way.
func (s *Sandbox) moveIn(r *Room, spec sallyport.RoomSpec, binds []bind) (*sallyport.Link, error) {
	l := &layout{
		UID: r.ids.base, Binds: binds, Hostname: roomHostname(spec), Hosts: spec.Hosts, Trust: spec.Trust,
		viewMap: -1, bindMap: int(r.ids.bind.Fd()),
	}
	if spec.Uplink != nil {
		l.Uplink = &uplink{Addr: spec.Uplink.Addr, Resolver: spec.Uplink.Resolver}
	}
	if len(binds) == 0 && len(spec.Hosts)+len(spec.Trust) == 0 && l.Uplink == nil {
		return nil, nil
	}
	trees, err := l.cloneBinds()
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends in the room
		done <- l.enter(r.init, trees)
	}()
	if err := <-done; err != nil {
		if l.link != nil {
			l.link.File.Close()
		}
		for _, t := range trees {
			t.Close() // those attached are closed already
		}
		return nil, err
	}
	return l.link, nil
}

// enter moves the calling thread into the room of a process and furnishes it.
func (l *layout) enter(init int, trees []*tree) error {
	if l.Uplink != nil {
		if err := unix.Setns(init, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the room's network: %w", err)
		}
		if err := l.raiseUplink(); err != nil { // while the host's devices are in sight
			return err
		}
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter the room: %w", err)
	}
	if err := unix.Setns(init, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the room: %w", err)
	}
	if len(l.Hosts)+len(l.Trust) > 0 || l.Uplink != nil {
		// Where /etc has no layer of the room's own, it is the host's, as in any room.
		if err := l.ownEtc(owned{l.UID}, "/etc"); err != nil && !errors.Is(err, unix.EROFS) {
			return err
		}
	}
	return l.attachBinds("/", trees)
}
