package target

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/proxy"
)

const retryProxy = time.Second // between attempts to start a proxy that died

// ensureProxy starts the proxy when it does not run, and returns when it answers.
func (p *Process) ensureProxy(ctx context.Context) error {
	p.proxyMu.Lock()
	defer p.proxyMu.Unlock()
	if running, err := p.askProxy(ctx); running || err != nil {
		if running {
			p.guardProxy()
		}
		return err
	}
	dir := filepath.Join(p.cfg.Dir, proxyDir)
	proc, err := p.spawn(p.cfg.ProxyArgs(dir), filepath.Join(dir, hostLogFile))
	if err != nil {
		return fmt.Errorf("start proxy: %w", err)
	}
	p.log.InfoContext(ctx, "proxy started", "pid", proc.pid)
	ctx, cancel := context.WithTimeoutCause(ctx, proxyTime,
		sallyport.Errorf(sallyport.CodeUnavailable, "the traffic proxy did not start within %s", proxyTime).
			WithHint("the host may be overloaded; it will be tried again"))
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if running, err := p.askProxy(ctx); running || err != nil {
			if running {
				p.guardProxy()
			}
			return err
		}
		select {
		case <-tick.C:
		case <-proc.ended:
			if running, _ := p.askProxy(ctx); running { // another was faster
				p.guardProxy()
				return nil
			}
			return fmt.Errorf("proxy ended at its start: %w", hostLog(dir))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// askProxy reports whether the proxy answers, and an error when it is not one of ours.
func (p *Process) askProxy(ctx context.Context) (bool, error) {
	s, err := p.proxy.Status(ctx)
	switch {
	case errors.Is(err, proxy.ErrNotRunning):
		return false, nil
	case err != nil:
		return false, err
	case s.Protocol != proxy.Protocol:
		return false, sallyport.Errorf(sallyport.CodeUnavailable, "the running traffic proxy (process %d) is of another version", s.PID).
			WithHint("end that process: it is started anew with the same routes")
	default:
		return true, nil
	}
}

// guard is the goroutine that starts the proxy again when it dies: traffic must
// not wait until the engine happens to ask.
type guard struct {
	ctx    context.Context // of the goroutine
	cancel context.CancelFunc
	once   sync.Once
	done   sync.WaitGroup
}

func (g *guard) init() { g.ctx, g.cancel = context.WithCancel(context.Background()) }

func (g *guard) end() {
	g.cancel()
	g.once.Do(func() {}) // none is started from now on
	g.done.Wait()
}

// guardProxy watches over the proxy until Close or Stop.
func (p *Process) guardProxy() {
	p.guard.once.Do(func() {
		p.guard.done.Go(func() {
			ctx := p.guard.ctx
			for ctx.Err() == nil {
				err := p.ensureProxy(ctx)
				if err == nil {
					err = p.proxy.Hold(ctx)
				}
				if ctx.Err() != nil {
					return
				}
				p.log.WarnContext(ctx, "proxy ended; it is started again", "err", err)
				if err == nil {
					continue
				}
				select {
				case <-time.After(retryProxy):
				case <-ctx.Done():
				}
			}
		})
	})
}
