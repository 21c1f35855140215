package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// oneStep is a workflow of one job with one step.
func oneStep(command string) string { return manySteps(command, 1) }

func manySteps(command string, n int) string {
	return "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n" + strings.Repeat("      - run: "+command+"\n", n)
}

// BenchmarkJob is the whole life of a local run with one job of one step, from
// the start of the process to its end, beside the step's command alone and, where
// it is installed, act without containers. "nothing" shows what Sallyport
// adds; "a second" what that means for a job that does something.
func BenchmarkJob(b *testing.B) {
	bin := program(b)
	for _, c := range []struct{ name, command string }{
		{"nothing", "true"},
		{"a second", "head -c 200M /dev/zero | sha256sum"},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := repository(b, map[string]string{workflowFile: oneStep(c.command)})
			script := filepath.Join(b.TempDir(), "step.sh")
			if err := os.WriteFile(script, []byte(c.command+"\n"), 0o644); err != nil {
				b.Fatal(err)
			}
			all := []contender{
				{"run", func() { run(b, dir, bin, "run") }},
				{"bare", func() { run(b, dir, "bash", "-e", script) }},
			}
			all = append(all, act(b, dir)...)
			least := compare(b, all...)
			b.ReportMetric(ms(least[0]-least[1]), "added-ms")
		})
	}
}

// act is the contender of that name, on the host and without containers, where it is on PATH.
// It reads no configuration but what is given here.
func act(b *testing.B, dir string) []contender {
	bin, err := exec.LookPath("act")
	if err != nil {
		b.Log("act is not on PATH: no comparison with it")
		return nil
	}
	home := b.TempDir()
	return []contender{{"act", func() {
		run(b, dir, "env", "HOME="+home, "XDG_CACHE_HOME="+home, bin, "push", "-P", "ubuntu-latest=-self-hosted")
	}}}
}

// BenchmarkStep is what one more step costs: a job of 51 steps less one of a
// single step, beside starting bash as often.
func BenchmarkStep(b *testing.B) {
	bin := program(b)
	const more = 50
	one := repository(b, map[string]string{workflowFile: oneStep("true")})
	many := repository(b, map[string]string{workflowFile: manySteps("true", 1+more)})
	script := filepath.Join(b.TempDir(), "step.sh")
	if err := os.WriteFile(script, []byte("true\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	least := compare(b,
		contender{"51-steps", func() { run(b, many, bin, "run") }},
		contender{"1-step", func() { run(b, one, bin, "run") }},
		contender{"50-bash", func() {
			for range more {
				run(b, one, "bash", "-e", script)
			}
		}})
	b.ReportMetric(ms(least[0]-least[1]-least[2])/more, "added-ms/step")
	b.ReportMetric(ms(least[2])/more, "bash-ms")
}

// BenchmarkParallel runs 20 jobs of one step each, as many at a time as there
// are processors, and all at once, beside 20 bare commands at once and act.
func BenchmarkParallel(b *testing.B) {
	bin := program(b)
	const jobs = 20
	var matrix []string
	for i := range jobs {
		matrix = append(matrix, fmt.Sprint(i))
	}
	dir := repository(b, map[string]string{workflowFile: "on: push\njobs:\n  many:\n    runs-on: ubuntu-latest\n    strategy:\n      matrix:\n        n: [" +
		strings.Join(matrix, ", ") + "]\n    steps:\n      - run: sleep 0.1\n"})
	least := compare(b, append([]contender{
		{"20-jobs", func() { run(b, dir, bin, "run", "--capacity", fmt.Sprint(jobs)) }},
		{"20-jobs-by-cpu", func() { run(b, dir, bin, "run") }},
		{"bare", func() {
			var wg sync.WaitGroup
			for range jobs {
				wg.Go(func() { run(b, dir, "bash", "-e", "-c", "sleep 0.1") })
			}
			wg.Wait()
		}}}, act(b, dir)...)...)
	b.ReportMetric(ms(least[0]-least[2])/jobs, "added-ms/job")
}

// BenchmarkStart is the start of the program itself, beside that of bash.
func BenchmarkStart(b *testing.B) {
	bin, dir := program(b), b.TempDir()
	compare(b,
		contender{"version", func() { run(b, dir, bin, "version") }},
		contender{"bash", func() { run(b, dir, "bash", "-c", "true") }})
}

// BenchmarkColdBuild builds the program with an empty build cache, as a newcomer
// does after the modules were fetched, and logs the packages that cost most. It
// takes minutes of processor time and is done once.
func BenchmarkColdBuild(b *testing.B) {
	if os.Getenv("SALLYPORT_BENCH_COLD") == "" {
		b.Skip("takes minutes: set SALLYPORT_BENCH_COLD=1")
	}
	out, cache := filepath.Join(b.TempDir(), "sallyport"), b.TempDir()
	graph := filepath.Join(b.TempDir(), "graph.json")
	for b.Loop() {
		if err := os.RemoveAll(cache); err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-debug-actiongraph", graph, "-o", out, "./cmd/sallyport")
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+cache)
		if words, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, words)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s")
	cost := compileCosts(b, graph)
	var all time.Duration
	for _, c := range cost {
		all += c.cpu
	}
	b.ReportMetric(all.Seconds(), "cpu-s")
	b.ReportMetric(0, "ns/op")
	for _, c := range cost[:min(10, len(cost))] {
		b.Logf("%5.1f s  %s", c.cpu.Seconds(), c.pkg)
	}
}
