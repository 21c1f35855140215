package sqlstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// engines runs a benchmark on both.
func engines(b *testing.B, run func(b *testing.B, s *sqlstore.Store)) {
	b.Run("sqlite", func(b *testing.B) { run(b, open(b, sqliteDSN(b))) })
	b.Run("postgres", func(b *testing.B) {
		server := sallyporttest.Postgres(b)
		run(b, open(b, server.Database(b)))
	})
}

// share lets so many callers at once do b.N calls.
func share(b *testing.B, callers int, call func(n int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := call(int(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func do(b *testing.B, s *sqlstore.Store, f func(tx sallyport.Tx) error) {
	b.Helper()
	if err := s.Update(context.Background(), f); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDispatch leases a piece of work and finishes it: two durable
// transactions, from a queue of many.
func BenchmarkDispatch(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			engines(b, func(b *testing.B, s *sqlstore.Store) {
				for done := 0; done < b.N; done += 1000 {
					do(b, s, func(tx sallyport.Tx) error {
						for range min(1000, b.N-done) {
							id := sallyport.NewID[sallyport.WorkID](now)
							w := sallyport.Work{ID: id, Queue: sallyport.QueueRunner, Key: string(id), Subject: string(id), Labels: []string{"linux"}, RunAt: now, CreatedAt: now}
							if err := tx.Work().Enqueue(w); err != nil {
								return err
							}
						}
						return nil
					})
				}
				labels := []string{"linux", "x64"}
				share(b, callers, func(int) error {
					var got []sallyport.Work
					err := s.Update(context.Background(), func(tx sallyport.Tx) (err error) {
						got, err = tx.Work().Claim(sallyport.QueueRunner, "r", labels, now, now.Add(time.Minute), 1)
						return err
					})
					if err != nil {
						return err
					}
					return s.Update(context.Background(), func(tx sallyport.Tx) error { return tx.Work().Done(got[0].ID, got[0].Token) })
				})
			})
		})
	}
}

// BenchmarkAudit appends one record in each durable transaction.
func BenchmarkAudit(b *testing.B) {
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			engines(b, func(b *testing.B, s *sqlstore.Store) {
				salt := make([]byte, 16)
				share(b, callers, func(n int) error {
					return s.Update(context.Background(), func(tx sallyport.Tx) error {
						_, err := tx.Audit().Append(sallyport.AuditRecord{At: now, Actor: "person:ada", Action: "run.created", Object: fmt.Sprint("run/", n), Detail: []byte(`{"ref":"refs/heads/main"}`), Salt: salt})
						return err
					})
				})
			})
		})
	}
}

// BenchmarkList reads the newest 50 of 100,000 runs.
func BenchmarkList(b *testing.B) {
	engines(b, func(b *testing.B, s *sqlstore.Store) {
		const total = 100_000
		p := sallyport.Project{ID: "p", Name: "p", CreatedAt: now}
		push := sallyport.Push{ID: "push", Project: p.ID, Key: "k", At: now}
		do(b, s, func(tx sallyport.Tx) error {
			if err := tx.Projects().Insert(p); err != nil {
				return err
			}
			return tx.Pushes().Insert(push)
		})
		for n := 0; n < total; {
			do(b, s, func(tx sallyport.Tx) error {
				for range 2000 {
					n++
					r := sallyport.Run{ID: sallyport.NewID[sallyport.RunID](now.Add(time.Duration(n) * time.Second)), Project: p.ID, Push: push.ID, Number: int64(n),
						Workflow: ".github/workflows/ci.yml", Name: "ci", Title: "make it so", Event: "push", Ref: "refs/heads/main",
						Commit: "5c3a2b1f5c3a2b1f5c3a2b1f5c3a2b1f5c3a2b1f", Status: sallyport.StatusCompleted, Conclusion: sallyport.Success, CreatedAt: now}
					if err := tx.Runs().Insert(r, []byte("{}")); err != nil {
						return err
					}
				}
				return nil
			})
		}
		for _, f := range []struct {
			name string
			f    sallyport.RunFilter
		}{{"all", sallyport.RunFilter{}}, {"project", sallyport.RunFilter{Project: p.ID}}, {"status", sallyport.RunFilter{Project: p.ID, Status: sallyport.StatusInProgress}}} {
			b.Run(f.name, func(b *testing.B) {
				share(b, 4, func(int) error {
					return s.View(context.Background(), func(tx sallyport.Tx) error { _, err := tx.Runs().List(f.f); return err })
				})
			})
		}
	})
}

// BenchmarkWatch is from a commit to the watcher of its topic, among 1,000 others.
func BenchmarkWatch(b *testing.B) {
	engines(b, func(b *testing.B, s *sqlstore.Store) {
		for n := range 1000 {
			_, stop := s.Watch(fmt.Sprint("run/", n))
			defer stop()
		}
		signal, stop := s.Watch("run/x")
		defer stop()
		var total time.Duration
		for b.Loop() {
			do(b, s, func(tx sallyport.Tx) error { tx.Touch("run/x"); return nil })
			start := time.Now()
			<-signal
			total += time.Since(start)
		}
		b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/wake")
	})
}
