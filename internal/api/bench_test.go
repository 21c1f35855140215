package api_test

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/api"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

func overSocket(b *testing.B, s *site) *rpc.Client {
	c, err := rpc.Dial(rpc.Config{UnixSocket: socket(b, api.WithRunner(s.handler, sallyport.Principal{Kind: sallyport.Runner, ID: "r", Name: "r"}))})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// cpu is the processor time that this process, client and server, has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What the wire adds to handing out one job: lease and finish over a unix socket.
func BenchmarkLeaseFinish(b *testing.B) {
	s := start(b)
	lease := made[*sallyport.Lease](1)
	s.when("Yard.Lease", func(context.Context, []any) ([]any, error) { return []any{lease}, nil })
	s.when("Yard.Finish", func(context.Context, []any) ([]any, error) { return nil, nil })
	yard := overSocket(b, s).Yard()
	ask, result := made[sallyport.LeaseRequest](1), made[sallyport.JobResult](1)
	before := cpu(b)
	defer func() { b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op") }()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, err := yard.Lease(b.Context(), ask)
			if err != nil {
				b.Fatal(err)
			}
			if err := yard.Finish(b.Context(), l.Ref, result); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// From the moment a job is there to the runner having it, while 1,000 runners wait.
func BenchmarkPickup1000Waiting(b *testing.B) {
	s := start(b)
	jobs := make(chan *sallyport.Lease)
	var waiting atomic.Int64
	full := make(chan struct{}, 1)
	s.when("Yard.Lease", func(ctx context.Context, _ []any) ([]any, error) {
		if waiting.Add(1) == 1000 {
			full <- struct{}{}
		}
		defer waiting.Add(-1)
		select {
		case l := <-jobs:
			return []any{l}, nil
		case <-ctx.Done():
			return []any{nil}, ctx.Err()
		}
	})
	yard := overSocket(b, s).Yard()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	taken := make(chan struct{}, 1)
	for range 1000 {
		go func() {
			for ctx.Err() == nil {
				if l, err := yard.Lease(ctx, sallyport.LeaseRequest{Runner: "r"}); err == nil && l != nil {
					taken <- struct{}{}
				}
			}
		}()
	}
	<-full
	lease := made[*sallyport.Lease](1)
	var worst time.Duration
	for b.Loop() {
		start := time.Now()
		jobs <- lease
		<-taken
		worst = max(worst, time.Since(start))
	}
	b.ReportMetric(float64(worst.Microseconds()), "worst-us")
}

func BenchmarkList(b *testing.B) {
	s := start(b)
	runs := made[[]sallyport.Run](1)
	for len(runs) < 50 {
		runs = append(runs, runs[0])
	}
	s.when("Runs.Runs", func(context.Context, []any) ([]any, error) { return []any{runs}, nil })
	svc := s.client(b).Services()
	for b.Loop() {
		if _, err := svc.Runs.Runs(b.Context(), sallyport.RunFilter{}); err != nil {
			b.Fatal(err)
		}
	}
}
