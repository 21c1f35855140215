package runner

import (
	"context"
	"slices"

	sallyport "github.com/sallyport-ci/sallyport"
)

// sandbox makes all rooms of the job, of one level: that which the control plane demands.
func (j *job) sandbox() sallyport.Sandbox {
	switch {
	case !slices.Contains(j.lease.Job.Labels, sallyport.LabelStrong):
		return j.runner.cfg.Sandbox
	case j.runner.cfg.Strong == nil:
		return noStrong{}
	default:
		return j.runner.cfg.Strong
	}
}

// noStrong is what a runner without rooms of level strong has in their place.
type noStrong struct{}

var errNoStrong = sallyport.Errorf(sallyport.CodeUnavailable, "the job must be done in a room of level strong, and this runner has none").
	WithHint("make gVisor (runsc) available to the runner")

func (noStrong) Check(context.Context) (sallyport.Isolation, error) {
	return sallyport.Isolation{}, errNoStrong
}

func (noStrong) Prepare(context.Context, sallyport.RoomSpec) (sallyport.Room, error) {
	return nil, errNoStrong
}

func (noStrong) Volume(context.Context, sallyport.Limits) (sallyport.Volume, error) {
	return nil, errNoStrong
}

func (noStrong) Sweep(context.Context) error { return nil }
