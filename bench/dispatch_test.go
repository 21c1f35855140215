package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/api"
	"github.com/sallyport-ci/sallyport/internal/rpc"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
)

// BenchmarkDispatch leases jobs and finishes them, through the engine and on
// disk: two transactions a job, each with its audit record. Beside it stands the
// floor: claiming and removing bare work in as many transactions.
func BenchmarkDispatch(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			h := newHouse(b)
			first := h.start(b, map[string]string{workflowFile: oneStep("true")})
			h.copies(b, first, b.N) // and the first one
			result := sallyport.JobResult{Conclusion: sallyport.Success, Steps: []sallyport.Step{{Number: 1, Name: "Run true", Status: sallyport.StatusCompleted, Conclusion: sallyport.Success}}}
			yard := h.engine.Yard()
			b.ResetTimer()
			used := cpuTime(b, syscall.RUSAGE_SELF)
			took := share(b, callers, b.N, func(i int) error {
				l, err := yard.Lease(h.runner, ask("r"))
				if err != nil {
					return err
				}
				if l == nil {
					return errors.New("there was no job")
				}
				return yard.Finish(h.runner, l.Ref, result)
			})
			b.StopTimer()
			used = cpuTime(b, syscall.RUSAGE_SELF) - used
			floor := bareWork(b, callers)
			rate := float64(b.N) / took.Seconds()
			b.ReportMetric(rate, "jobs/s")
			b.ReportMetric(float64(b.N)/used.Seconds(), "jobs/cpu-s")
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(floor, "floor/s")
			b.ReportMetric(rate/floor, "of-floor")
		})
	}
}

// bareWork is how many pieces of work a second a store of its own lets callers claim and remove.
func bareWork(b *testing.B, callers int) float64 {
	b.Helper()
	const pieces = 2000
	ctx, now := context.Background(), time.Now().UTC().Truncate(time.Microsecond)
	s := must[*sqlstore.Store](b)(sqlstore.Open(ctx, sqlstore.Config{DSN: "sqlite:" + filepath.Join(b.TempDir(), "floor"), Clock: time.Now, Log: silent}))
	defer s.Close()
	check(b, s.Update(ctx, func(tx sallyport.Tx) error {
		for range pieces {
			id := sallyport.NewID[sallyport.WorkID](now)
			if err := tx.Work().Enqueue(sallyport.Work{ID: id, Queue: sallyport.QueueRunner, Key: string(id), Subject: string(id), RunAt: now, CreatedAt: now}); err != nil {
				return err
			}
		}
		return nil
	}))
	took := share(b, callers, pieces, func(int) error {
		var got []sallyport.Work
		if err := s.Update(ctx, func(tx sallyport.Tx) (err error) {
			got, err = tx.Work().Claim(sallyport.QueueRunner, "r", nil, now, now.Add(time.Hour), 1)
			return err
		}); err != nil {
			return err
		}
		return s.Update(ctx, func(tx sallyport.Tx) error { return tx.Work().Done(got[0].ID, got[0].Token) })
	})
	return pieces / took.Seconds()
}

// BenchmarkPickup is from the moment that a job is being committed to the
// runner that has it, over a unix socket, while 1,000 runners wait. The floor is the
// commit alone.
func BenchmarkPickup(b *testing.B) {
	const waiting = 1000
	h := newHouse(b)
	first := h.start(b, map[string]string{workflowFile: oneStep("true")})
	h.live(b)
	counted := &turnstile{Yard: h.engine.Yard(), limit: waiting, full: make(chan struct{})}
	yard := overSocket(b, h, counted)
	ctx, stop := context.WithCancel(context.Background())
	var runners sync.WaitGroup
	b.Cleanup(func() {
		stop()
		runners.Wait()
	})
	taken := make(chan time.Time, waiting)
	for i := range waiting {
		runners.Go(func() {
			for ctx.Err() == nil {
				l, err := yard.Lease(ctx, ask(fmt.Sprint("r", i)))
				switch {
				case err != nil && ctx.Err() == nil:
					b.Error(err)
					return
				case l != nil:
					taken <- time.Now()
				}
			}
		})
	}
	<-taken // the first job
	<-counted.full
	var pickups, commits []time.Duration
	one := func() {
		start := time.Now()
		check(b, h.store.Update(h.admin, func(tx sallyport.Tx) error { return h.copy(tx, first, 1) }))
		committed := time.Since(start)
		pickups, commits = append(pickups, (<-taken).Sub(start)), append(commits, committed)
	}
	for range 50 { // the last of the runners may still be on their way
		one()
	}
	pickups, commits = nil, nil
	for b.Loop() {
		one()
	}
	reportTimes(b, "pickup", pickups)
	reportTimes(b, "commit", commits)
	b.ReportMetric(0, "ns/op")
}

// turnstile counts those who ask for a lease.
type turnstile struct {
	sallyport.Yard
	passed atomic.Int64
	limit  int64
	full   chan struct{} // closed when limit have passed
}

func (t *turnstile) Lease(ctx context.Context, ask sallyport.LeaseRequest) (*sallyport.Lease, error) {
	if t.passed.Add(1) == t.limit {
		close(t.full)
	}
	return t.Yard.Lease(ctx, ask)
}

// overSocket serves the house's API on a unix socket and returns a runner's view of the yard.
func overSocket(b *testing.B, h *house, y sallyport.Yard) sallyport.Yard {
	b.Helper()
	handler := must[http.Handler](b)(api.New(api.Config{Services: h.s, Yard: y, Git: h.repos, Log: silent, Version: "bench"}))
	path := filepath.Join(b.TempDir(), "s")
	l := must[net.Listener](b)(net.Listen("unix", path))
	srv := api.Server(api.WithRunner(handler, sallyport.Principal{Kind: sallyport.Runner, ID: "r", Name: "r"}), silent)
	go func() { _ = srv.Serve(l) }() // ends with Close
	b.Cleanup(func() { _ = srv.Close() })
	c := must[*rpc.Client](b)(rpc.Dial(rpc.Config{UnixSocket: path}))
	b.Cleanup(c.Close)
	return c.Yard()
}
