package rpc

import (
	"context"

	"github.com/sallyport-ci/sallyport"
)

type stops struct{ c *Client }

func (s stops) Stop(ctx context.Context, kind sallyport.StopKind, name, why string) (sallyport.StopReport, error) {
	return do(ctx, s.c, ThrowStop, stopIn(kind, name, why))
}

func (s stops) Lift(ctx context.Context, kind sallyport.StopKind, name, why string) (sallyport.Stop, error) {
	return do(ctx, s.c, LiftStop, stopIn(kind, name, why))
}

func (s stops) Stops(ctx context.Context) ([]sallyport.Stop, error) {
	return list(ctx, s.c, ListStops, Nothing{})
}

func stopIn(kind sallyport.StopKind, name, why string) (in StopIn) {
	in.Body.Kind, in.Body.Name, in.Body.Why = kind, name, why
	return in
}
