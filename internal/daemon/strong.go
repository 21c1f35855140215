package daemon

import (
	"context"
	"log/slog"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/yard/sandbox"
)

// strongSandbox makes rooms of level strong; nil where this host has none.
func strongSandbox(ctx context.Context, stateDir string, log *slog.Logger) sallyport.Sandbox {
	box, err := newSandbox(stateDir, sandbox.Strong, sandbox.Warm{}, log)
	if err == nil {
		_, err = box.Check(ctx)
	}
	if err != nil {
		log.InfoContext(ctx, "there are no rooms of level strong", "reason", err)
		return nil
	}
	return box
}

// strangers is where the engine lets jobs of strangers run. Where the operator has not said,
// and our own runner, which is on this host, has no rooms of level strong, they are refused at
// once and do not wait for a runner that will not come.
func (in *installation) strangers(ctx context.Context) engine.Strangers {
	switch in.c.UntrustedIn {
	case "strong":
		return engine.StrangersStrong
	case "standard":
		return engine.StrangersStandard
	case "":
		if _, err := CheckHost(ctx, sandbox.Strong, in.log); err == nil || in.c.NoRunner {
			return engine.StrangersStrong
		}
	}
	return engine.StrangersRefused
}
