package sandbox

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// cpu reports the processor time of this process and its ended children per
// operation, which a busy machine disturbs less than the clock.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var sum time.Duration
		for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
			var u unix.Rusage
			if err := unix.Getrusage(who, &u); err != nil {
				b.Fatal(err)
			}
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
		return sum
	}
	before := used()
	return func() {
		b.ReportMetric(float64((used()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	}
}

// BenchmarkRoom is a room's whole life around one process.
func BenchmarkRoom(b *testing.B) {
	s := open(b, Config{})
	ctx := context.Background()
	var prepare, run, destroy time.Duration
	once := func(i int) {
		start := time.Now()
		r, err := s.Prepare(ctx, sallyport.RoomSpec{ID: fmt.Sprintf("bench-%d", i)})
		if err != nil {
			b.Fatal(err)
		}
		prepared := time.Now()
		if _, err := r.Exec(ctx, sallyport.ExecSpec{Argv: []string{"/bin/true"}}); err != nil {
			b.Fatal(err)
		}
		ran := time.Now()
		if err := r.Destroy(ctx); err != nil {
			b.Fatal(err)
		}
		prepare, run, destroy = prepare+prepared.Sub(start), run+ran.Sub(prepared), destroy+time.Since(ran)
	}
	once(0) // the first one scans the host and makes the disk's template
	prepare, run, destroy = 0, 0, 0
	report := cpu(b)
	for i := range b.N {
		once(i + 1)
	}
	report()
	for name, d := range map[string]time.Duration{"prepare-ms": prepare, "exec-ms": run, "destroy-ms": destroy} {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), name)
	}
}

// BenchmarkExec compares a step in a room with a bare process of the host.
func BenchmarkExec(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("room", func(b *testing.B) {
		ctx := context.Background()
		r, err := open(b, Config{}).Prepare(ctx, sallyport.RoomSpec{ID: "bench"})
		if err != nil {
			b.Fatal(err)
		}
		defer r.Destroy(ctx)
		for b.Loop() {
			if _, err := r.Exec(ctx, sallyport.ExecSpec{Argv: []string{"/bin/true"}}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStarts is a shell that starts programs, with and without somebody being told.
func BenchmarkStarts(b *testing.B) {
	for _, told := range []bool{false, true} {
		b.Run(fmt.Sprintf("told=%t", told), func(b *testing.B) {
			s := open(b, Config{})
			spec := sallyport.RoomSpec{ID: fmt.Sprintf("starts-%t", told)}
			if told {
				spec.Started = func(s sallyport.ProgramStart) {
					if s.File != nil {
						s.File.Close()
					}
				}
			}
			r, err := s.Prepare(b.Context(), spec)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Destroy(context.WithoutCancel(b.Context()))
			const each = 200
			for b.Loop() {
				if _, err := r.Exec(b.Context(), sallyport.ExecSpec{Argv: []string{"/bin/sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done", each)}}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/each, "us/start")
		})
	}
}
