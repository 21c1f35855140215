package runner

import (
	"context"
	"errors"
	"fmt"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/image"
)

// imageStore opens the runner's store of unpacked images when it is first needed.
func (r *Runner) imageStore() (*image.Store, error) {
	r.imagesOnce.Do(func() { r.images, r.imagesErr = image.Open(r.cfg.ImageDir) })
	return r.images, r.imagesErr
}

// inContainer tells whether the steps of the job run in an image. It is asked before
// the job's directories are made, whose places in the room depend on it.
func (j *job) inContainer() (bool, error) {
	tree := j.plan.Container
	if tree.IsZero() || tree.Kind == sallyport.TreeNull {
		return false, nil
	}
	scope, err := j.scope()
	if err != nil {
		return false, err
	}
	if tree.Kind == sallyport.TreeMap {
		for _, p := range tree.Pairs {
			if p.Key.Text == "image" {
				tree = p.Value
			}
		}
	}
	v, err := scope.Tree(tree)
	if v.Kind() == workflow.KindObject { // an expression that made the mapping
		v, _ = v.Get("image")
	}
	return v.String() != "", err
}

// jobHostname is the host name of the rooms of jobs.
const jobHostname = "runner"

// RoomLike is what the rooms of most jobs have in common, for a sandbox that makes rooms
// before they are asked for. Limits are those of Config.
func RoomLike(limits sallyport.Limits) sallyport.RoomSpec {
	return sallyport.RoomSpec{Hostname: jobHostname, Limits: limits, Started: func(sallyport.ProgramStart) {}}
}

// prepareRooms makes the rooms of the job: those of its services, and its own.
func (j *job) prepareRooms(ctx context.Context, f *frame) error {
	spec := sallyport.RoomSpec{
		ID: fmt.Sprintf("job-%s-%d", j.lease.Job.ID, j.lease.Job.Attempt), Hostname: jobHostname,
		Binds: j.layout.binds(), Limits: j.runner.cfg.Limits, Started: j.trace.Started,
	}
	if j.layout.container {
		var err error
		if j.container, err = j.getContainer(ctx, f.scope, j.plan.Container, "job container"); err != nil {
			return err
		}
		spec.Image, spec.Links = j.container.root, j.containerLinks()
	}
	var err error
	if spec.Peers, spec.Hosts, err = j.startSidecars(ctx, f.scope); err != nil {
		return err
	}
	j.peers, j.hosts = spec.Peers, spec.Hosts
	f.scope.Set("job", withEntries(f.scope.Get("job"), j.jobEntries()...))
	j.releaseRoom = j.door.opens(&spec)
	if j.needsServices() {
		if err := j.serve(ctx, &spec); err != nil {
			return err
		}
	}
	j.room, err = j.sandbox().Prepare(ctx, spec)
	if spec.Uplink != nil && sallyport.ErrorCode(err) == sallyport.CodeUnavailable {
		why, _ := sallyport.ErrorMessage(err)
		j.log.say(0, sallyport.LogWarning, "The job reaches nothing outside its room: %s.", why)
		j.door.close()
		j.door, spec.Uplink, spec.Trust = nil, nil, nil
		j.room, err = j.sandbox().Prepare(ctx, spec)
	}
	if err != nil {
		return fmt.Errorf("prepare the room: %w", err)
	}
	return nil
}

// containerLinks are the names under which programs made for GitHub's containers
// look for things.
func (j *job) containerLinks() map[string]string {
	return map[string]string{
		containerTools: j.layout.work + "/" + toolLinks, containerHome: j.layout.temp() + "/" + homeDir, actionWorkspace: j.layout.workspace(), "/github/workflow": j.layout.given,
		actionTemp: j.layout.temp(), actionCommands: j.layout.work + "/" + commandDir,
	}
}

// toolRoom is where the programs of intrinsic actions run: the job's room, or
// beside a job container one with the tools of the host, which an image need not have.
func (j *job) toolRoom(ctx context.Context) (sallyport.Room, error) {
	if j.container == nil {
		return j.room, nil
	}
	j.toolMu.Lock()
	defer j.toolMu.Unlock()
	if j.tools == nil {
		room, err := j.sandbox().Prepare(ctx, sallyport.RoomSpec{
			ID: fmt.Sprintf("tools-%s-%d", j.lease.Job.ID, j.lease.Job.Attempt), Hostname: "runner", Binds: j.layout.binds(), Limits: j.runner.cfg.Limits, Started: j.trace.Started,
		})
		if err != nil {
			return nil, fmt.Errorf("prepare a room for tools: %w", err)
		}
		j.tools = room
	}
	return j.tools, nil
}

// nextRoom numbers the rooms of the job's container actions.
func (j *job) nextRoom() int64 { return j.actionRooms.Add(1) }

// toolHome is the home directory of tools: in the tool room that of the container.
func (j *job) toolHome() string {
	if j.container == nil {
		return j.layout.home
	}
	return j.layout.temp() + "/" + homeDir
}

// destroyRooms ends all rooms of the job, its own before those it depends on.
func (j *job) destroyRooms(ctx context.Context) error {
	var errs []error
	for _, room := range []sallyport.Room{j.room, j.tools} {
		if room != nil {
			errs = append(errs, room.Destroy(ctx))
		}
	}
	j.endSidecars(ctx)
	if j.releaseRoom != nil {
		j.releaseRoom()
	}
	j.door.close()
	return errors.Join(errs...)
}

// jobEntries are those of the job context that tell what runs beside the steps.
func (j *job) jobEntries() (entries []workflow.Entry) {
	if j.container != nil {
		entries = append(entries, workflow.Entry{Key: "container", Value: workflow.Object(
			workflow.Entry{Key: "id", Value: workflow.String(j.container.image.Digest.Short())},
			workflow.Entry{Key: "network", Value: workflow.String("loopback")})})
	}
	if j.sidecarContext.Kind() == workflow.KindObject {
		entries = append(entries, workflow.Entry{Key: "services", Value: j.sidecarContext})
	}
	return entries
}

// user is whom steps run as.
func (j *job) user() string {
	if j.container == nil {
		return ""
	}
	return j.container.user
}
