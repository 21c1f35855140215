package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
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

// BenchmarkRoom is a room's whole life around one process: made when it is asked for,
// or waiting by then. Beside it stand a bare process, and on PATH bwrap, crun and the runtime alone with a
// root of the host's /usr: without a disk, limits, ids of its own or a filter of system calls.
func BenchmarkRoom(b *testing.B) {
	for _, kind := range []string{"cold", "waiting"} {
		b.Run(kind, func(b *testing.B) {
			s := open(b, Config{})
			s.Warm(b.Context()) // scans the host and makes the disk's template
			if kind == "waiting" && s.rootless {
				b.Skip("without root no room waits")
			}
			benchRoom(b, s, kind == "waiting")
		})
	}
	b.Run("bare", func(b *testing.B) { benchCommand(b, "/bin/true") })
	b.Run("bwrap", func(b *testing.B) {
		benchCommand(b, "bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "/bin/true")
	})
	b.Run("runc", func(b *testing.B) {
		benchCommand(b, runtimePath(b), "--root", b.TempDir(), "run", "--bundle", plainBundle(b), fmt.Sprintf("bench-%d", os.Getpid()))
	})
	b.Run("crun", func(b *testing.B) {
		if _, err := exec.LookPath("crun"); err != nil {
			b.Skip("crun is not on PATH")
		}
		// In a mount namespace without the second hierarchy of a hybrid host, which crun refuses.
		benchCommand(b, "unshare", "--mount", "sh", "-c", `umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"`, "sh",
			"crun", "--root", b.TempDir(), "run", "--bundle", plainBundle(b), fmt.Sprintf("bench-%d", os.Getpid()))
	})
}

func benchRoom(b *testing.B, s *Sandbox, wait bool) {
	ctx := context.Background()
	var prepare, run, destroy time.Duration
	var all []float64
	report := cpu(b)
	for i := range b.N {
		if wait {
			b.StopTimer()
			like, _ := s.shapeOf(sallyport.RoomSpec{}, s.limits)
			if err := s.pool.add(ctx, like); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		start := time.Now()
		r, err := s.Prepare(ctx, sallyport.RoomSpec{ID: fmt.Sprintf("bench-%d", i), Binds: []sallyport.Bind{{Source: b.TempDir(), Target: "/home/runner/work"}}})
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
		all = append(all, float64(prepared.Sub(start).Microseconds())/1000)
		prepare, run, destroy = prepare+prepared.Sub(start), run+ran.Sub(prepared), destroy+time.Since(ran)
	}
	report()
	slices.Sort(all)
	b.ReportMetric(all[0], "prepare-least-ms")
	b.ReportMetric(all[len(all)/2], "prepare-p50-ms")
	for name, d := range map[string]time.Duration{"exec-ms": run, "destroy-ms": destroy} {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), name)
	}
}

// benchCommand runs a command to its end.
func benchCommand(b *testing.B, name string, args ...string) {
	if _, err := exec.LookPath(name); err != nil {
		b.Skipf("%s is not on PATH", name)
	}
	report := cpu(b)
	var all []float64
	for range b.N {
		start := time.Now()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			b.Fatalf("%s: %v\n%s", name, err, out)
		}
		all = append(all, float64(time.Since(start).Microseconds())/1000)
	}
	report()
	slices.Sort(all)
	b.ReportMetric(all[0], "least-ms")
	b.ReportMetric(all[len(all)/2], "p50-ms")
}

// plainBundle is the least that runc runs /bin/true of the host in.
func plainBundle(b *testing.B) string {
	dir := b.TempDir()
	type object = map[string]any
	mounts := []object{{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/dev", "type": "tmpfs", "source": "dev"}}
	views, links := presentViews()
	for _, v := range views {
		mounts = append(mounts, object{"destination": v.Path, "type": "bind", "source": v.Path, "options": []string{"bind", "ro"}})
	}
	if err := os.Mkdir(dir+"/root", 0o755); err != nil {
		b.Fatal(err)
	}
	for path, to := range links {
		if err := os.Symlink(to, dir+"/root"+path); err != nil {
			b.Fatal(err)
		}
	}
	var spaces []object
	for _, kind := range []string{"pid", "mount", "ipc", "uts", "network", "cgroup"} {
		spaces = append(spaces, object{"type": kind})
	}
	config, err := json.Marshal(object{
		"ociVersion": "1.0.2", "root": object{"path": "root"}, "mounts": mounts, "linux": object{"namespaces": spaces},
		"process": object{"args": []string{"/bin/true"}, "cwd": "/", "env": []string{"PATH=/bin"}},
	})
	if err == nil {
		err = os.WriteFile(dir+"/config.json", config, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	return dir
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
