package engine

import (
	"context"

	"github.com/sallyport-ci/sallyport"
)

// instance implements sallyport.InstanceService.
type instance struct{ e *Engine }

// TrustRoot is public: whoever checks an artifact needs it, and it holds no secret.
// It is still asked for by somebody, so that the door stays closed by default.
func (s instance) TrustRoot(ctx context.Context) ([]byte, error) {
	if err := s.e.allow(ctx, actInstance, ""); err != nil {
		return nil, err
	}
	if len(s.e.trustRoot) == 0 {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "this instance does not sign")
	}
	return s.e.trustRoot, nil
}

func (s instance) Identity(ctx context.Context, project, workflow, ref string) (string, string, error) {
	if err := s.e.allow(ctx, actInstance, ""); err != nil {
		return "", "", err
	}
	return s.e.instance.Issuer(), s.e.instance.BuildIdentity(project, workflow, ref), nil
}

func (s instance) Health(ctx context.Context) (sallyport.InstanceHealth, error) {
	if err := s.e.allow(ctx, actInstance, ""); err != nil {
		return sallyport.InstanceHealth{}, err
	}
	return s.e.health(ctx), nil
}

// Ready reports whether the installation can do its work; for /readyz, which anybody may ask.
func (e *Engine) Ready(ctx context.Context) error {
	if h := e.health(ctx); !h.Ready {
		return sallyport.Errorf(sallyport.CodeUnavailable, "not ready: %s", h.Problems[0])
	}
	return nil
}

func (e *Engine) health(ctx context.Context) sallyport.InstanceHealth {
	h := sallyport.InstanceHealth{Version: e.version}
	err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if h.Queues, _, err = tx.Work().Counts(e.now()); err != nil {
			return err
		}
		if h.Alarms, err = alarms(tx, e.now()); err != nil {
			return err
		}
		h.Audit.Records, h.Audit.Logged, err = tx.Audit().Count()
		return err
	})
	if err != nil {
		h.Problems = append(h.Problems, "the store does not answer")
	}
	if e.trail != nil {
		status := e.trail.Status()
		h.Audit.WitnessedAt, h.Audit.Unwitnessed = status.WitnessedAt, status.Unwitnessed
		if status.Unwitnessed != "" {
			h.Alarms = append(h.Alarms, "the audit log is not witnessed: "+status.Unwitnessed)
		}
		if halted := status.Halted; halted != "" {
			h.Audit.Halted = halted
			h.Problems = append(h.Problems, "the audit log is halted: "+halted)
		}
	}
	if e.trouble != nil {
		h.Problems = append(h.Problems, e.trouble()...)
	}
	h.Runners = e.seen.list(e.now())
	h.Ready = len(h.Problems) == 0
	return h
}
