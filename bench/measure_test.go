package bench

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// contender is one side of a comparison.
type contender struct {
	name string
	run  func()
}

// compare gives every contender a turn in each round and reports the least time
// of each in ms. Of the first it also reports the median, and its least time as
// a multiple of each other's. It returns the least times in order.
//
// The least is what the program costs; what is above it is mostly the machine's
// other work. The processor time, that of ended children, is disturbed even less.
func compare(b *testing.B, all ...contender) []time.Duration {
	b.Helper()
	took, cpu := make([][]time.Duration, len(all)), make([][]time.Duration, len(all))
	for b.Loop() {
		for i, c := range all {
			start, used := time.Now(), cpuTime(b, syscall.RUSAGE_CHILDREN)
			c.run()
			took[i], cpu[i] = append(took[i], time.Since(start)), append(cpu[i], cpuTime(b, syscall.RUSAGE_CHILDREN)-used)
		}
	}
	least := make([]time.Duration, len(all))
	for i, c := range all {
		slices.Sort(took[i])
		least[i] = took[i][0]
		b.ReportMetric(ms(least[i]), c.name+"-ms")
		b.ReportMetric(ms(slices.Min(cpu[i])), c.name+"-cpu-ms")
		if i > 0 {
			b.ReportMetric(float64(least[0])/float64(least[i]), "x-"+c.name)
		}
	}
	b.ReportMetric(ms(quantile(took[0], 50)), all[0].name+"-p50-ms")
	b.ReportMetric(0, "ns/op") // a round has no meaning
	return least
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// quantile of sorted times.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

// reportTimes reports the median and the 99th of a hundred.
func reportTimes(b *testing.B, what string, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(ms(quantile(took, 50)), what+"-p50-ms")
	b.ReportMetric(ms(quantile(took, 99)), what+"-p99-ms")
}

// cpuTime is the processor time that this process (RUSAGE_SELF) or its ended
// children (RUSAGE_CHILDREN) have used.
func cpuTime(b *testing.B, who int) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// share lets n callers at once do the calls 1 to total, and returns how long all took.
func share(b *testing.B, n, total int, call func(i int) error) time.Duration {
	b.Helper()
	work := make(chan int)
	var wg sync.WaitGroup
	start := time.Now()
	for range n {
		wg.Go(func() {
			for i := range work {
				if err := call(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := 1; i <= total; i++ {
		work <- i
	}
	close(work)
	wg.Wait()
	return time.Since(start)
}

// program returns the path of the binary to measure: SALLYPORT_BENCH_BINARY,
// or what make build made. Its runtime lies beside it.
func program(b *testing.B) string {
	b.Helper()
	path := os.Getenv("SALLYPORT_BENCH_BINARY")
	if path == "" {
		path = "../bin/sallyport"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range []string{path, filepath.Join(filepath.Dir(path), "runc")} {
		if _, err := os.Stat(file); err != nil {
			b.Skipf("%v: make build makes it", err)
		}
	}
	return path
}

// run runs a command in a directory, without input or a word.
func run(b *testing.B, dir, name string, args ...string) {
	b.Helper()
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out.Bytes())
	}
}

// repository makes a work tree with one commit of the files, by path.
func repository(b *testing.B, files map[string]string) string {
	b.Helper()
	dir := b.TempDir()
	for name, content := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	git(b, dir, "init", "-q", "-b", "main")
	git(b, dir, "add", "-A")
	git(b, dir, "commit", "-q", "-m", "measure")
	return dir
}

func git(b *testing.B, dir string, args ...string) {
	b.Helper()
	run(b, dir, "git", append([]string{"-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"}, args...)...)
}

const workflowFile = ".github/workflows/ci.yml"
