package runner

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// stepsPerJob spreads what a job costs over many steps.
const stepsPerJob = 200

// BenchmarkStep measures what the runner adds to a step: the steps of a job
// run "true". The sandbox is none (straight on the host) or the real one; "bare" is the same
// process without a runner. The time per step depends on what else the machine
// does; the runner's own processor time does so less.
func BenchmarkStep(b *testing.B) {
	for _, c := range []struct{ name, step string }{{"bash", "- run: 'true'\n"}, {"sh", "- { run: 'true', shell: sh }\n"}} {
		b.Run(c.name, func(b *testing.B) { benchJob(b, &hostSandbox{}, c.step, nil) })
	}
	b.Run("bash in a room", func(b *testing.B) {
		benchJob(b, realSandbox(b), "- run: 'true'\n", func(r *Runner) { r.layout, r.cfg.Path = newLayout, defaultPath })
	})
	b.Run("bare bash", func(b *testing.B) {
		room := &hostRoom{box: &hostSandbox{}, life: context.Background(), cancel: func() {}}
		spec := sallyport.ExecSpec{Argv: []string{"bash", "-e", "-c", "true"}, Env: []sallyport.EnvVar{{Name: "PATH", Value: "/usr/bin:/bin"}}}
		before := cpuMicros(b)
		for b.Loop() {
			for range stepsPerJob {
				if _, err := room.Exec(context.Background(), spec); err != nil {
					b.Fatal(err)
				}
			}
		}
		reportSteps(b, before)
	})
}

// BenchmarkWarmAction compares jobs of one step in a room: the step itself, and the same as
// a locked action of a thousand files that an earlier job had unpacked already.
func BenchmarkWarmAction(b *testing.B) {
	files := map[string]string{"action.yml": "runs:\n  using: composite\n  steps: [{ run: 'true', shell: bash }]\n"}
	for i := range 1000 {
		files[fmt.Sprintf("node_modules/p%d/index%d.js", i/20, i)] = strings.Repeat("// a bundle of some packages\n", 180)
	}
	for name, step := range map[string]string{"step": "- { run: 'true', shell: bash }\n", "action": "- uses: acme/tool@v1\n"} {
		b.Run(name, func(b *testing.B) {
			tr := trial{yaml: steps(step), yard: newFakeYard(), remotes: map[string]map[string]string{"acme/tool@v1": files}}
			r := newTestRunner(b, tr.yard, realSandbox(b), nil)
			r.layout, r.cfg.Path = newLayout, defaultPath
			lease := tr.lease(b)
			do := func() {
				tr.yard.log = nil
				r.do(b.Context(), lease)
				if e := <-tr.yard.result; e.Conclusion != sallyport.Success {
					b.Fatal(e.Cause)
				}
			}
			do()
			for b.Loop() {
				do()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/job")
		})
	}
}

func benchJob(b *testing.B, box sallyport.Sandbox, step string, change func(*Runner)) {
	yard := newFakeYard()
	tr := trial{yaml: steps(strings.Repeat(step, stepsPerJob))}
	r := newTestRunner(b, yard, box, nil)
	if change != nil {
		change(r)
	}
	lease := tr.lease(b)
	before := cpuMicros(b)
	for b.Loop() {
		yard.log = nil
		r.do(b.Context(), lease)
		if e := <-yard.result; e.Conclusion != sallyport.Success {
			b.Fatal(e.Cause)
		}
	}
	reportSteps(b, before)
}

func reportSteps(b *testing.B, before int64) {
	steps := float64(b.N) * stepsPerJob
	b.ReportMetric(float64(b.Elapsed().Microseconds())/steps, "us/step")
	b.ReportMetric(float64(cpuMicros(b)-before)/steps, "own-cpu-us/step")
}

// cpuMicros is the processor time that this process has used, without its children.
func cpuMicros(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return (u.Utime.Nano() + u.Stime.Nano()) / 1000
}
