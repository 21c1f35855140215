package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

// server is a running installation: the program as a user starts it.
type server struct {
	url  string
	data string
	pid  int
	s    sallyport.Services
}

// up starts an installation of its own and stops it when the benchmark ends.
func up(b *testing.B) *server {
	b.Helper()
	// Short: it holds unix sockets.
	data, err := os.MkdirTemp("", "sp")
	check(b, err)
	b.Cleanup(func() { os.RemoveAll(data) })
	cmd := exec.Command(program(b), "up", "--data", data, "--listen", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	check(b, err)
	check(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		url, ok := strings.CutPrefix(lines.Text(), "Sallyport serves ")
		if !ok {
			continue
		}
		c := must[*rpc.Client](b)(rpc.Dial(rpc.Config{UnixSocket: daemon.ControlSocket(data)}))
		b.Cleanup(c.Close)
		return &server{url: url, data: data, pid: cmd.Process.Pid, s: c.Services()}
	}
	b.Fatal("the installation did not start")
	return nil
}

// BenchmarkPush pushes a commit to a warm installation: until git returns, until
// the first line of the job's log can be read, and until the run is over. The floor is
// the same push to a bare repository on disk.
func BenchmarkPush(b *testing.B) {
	u, ctx := up(b), context.Background()
	p := must[sallyport.Project](b)(u.s.Projects.CreateProject(ctx, "bench", "main"))
	token, _, err := u.s.Access.CreateToken(ctx, "bench", sallyport.TokenAPI,
		sallyport.Principal{Kind: sallyport.Bot, ID: "bench", Name: "bench", Projects: []sallyport.ProjectID{p.ID}}, time.Hour)
	check(b, err)
	dir, bare := repository(b, map[string]string{workflowFile: oneStep("true")}), b.TempDir()
	git(b, bare, "init", "-q", "--bare")
	remote := strings.Replace(u.url, "http://", "http://bench:"+token+"@", 1) + "/bench.git"

	var pushes, firsts, wholes, floors []time.Duration
	for i := 0; b.Loop(); i++ {
		git(b, dir, "commit", "-q", "--allow-empty", "-m", fmt.Sprint("change ", i))
		start := time.Now()
		git(b, dir, "push", "-q", bare, "main")
		floors = append(floors, time.Since(start))

		start = time.Now()
		git(b, dir, "push", "-q", remote, "main")
		pushes = append(pushes, time.Since(start))
		var runs []sallyport.Run
		for number := 0; number <= i; number = len(runs) {
			runs = must[[]sallyport.Run](b)(u.s.Runs.Runs(ctx, sallyport.RunFilter{Project: p.ID, Page: sallyport.Page{Limit: 200}}))
		}
		_, jobs, err := u.s.Runs.Run(ctx, runs[0].ID)
		check(b, err)
		for offset, done := int64(0), false; !done; {
			var data []byte
			data, done, err = u.s.Runs.Log(ctx, jobs[0].ID, offset, 1<<20, 30*time.Second)
			check(b, err)
			if offset == 0 && len(data) > 0 {
				firsts = append(firsts, time.Since(start))
			}
			offset += int64(len(data))
		}
		wholes = append(wholes, time.Since(start))
	}
	reportTimes(b, "push", pushes)
	reportTimes(b, "first-line", firsts)
	reportTimes(b, "whole", wholes)
	reportTimes(b, "bare-push", floors)
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdle is the memory of an installation ten seconds after its start:
// resident, and the part that it shares with nobody else counted once.
func BenchmarkIdle(b *testing.B) {
	u := up(b)
	// The proxy starts with the first deployment; one without routes is as large.
	proxy := exec.Command(program(b), "proxy", "--dir", filepath.Join(u.data, "proxy"))
	check(b, proxy.Start())
	b.Cleanup(func() {
		_ = proxy.Process.Kill()
		_ = proxy.Wait()
	})
	<-time.After(10 * time.Second) // what is measured is having been idle
	var rss, pss float64
	for what, pid := range map[string]int{"up": u.pid, "runner": child(b, u.pid), "proxy": proxy.Process.Pid} {
		r, p := memory(b, pid)
		rss, pss = rss+r, pss+p
		b.ReportMetric(r, what+"-MiB")
	}
	waiting := 0.0
	for _, pid := range below(child(b, u.pid)) {
		r, p := memory(b, pid)
		rss, pss, waiting = rss+r, pss+p, waiting+p
	}
	b.ReportMetric(waiting, "waiting-rooms-pss-MiB")
	b.ReportMetric(rss, "rss-MiB")
	b.ReportMetric(pss, "pss-MiB")
	b.ReportMetric(0, "ns/op")
}

// below returns the children of a process and theirs.
func below(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well formed
	for _, path := range lists {
		list, _ := os.ReadFile(path) // a thread may have ended
		for _, field := range strings.Fields(string(list)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(append(all, child), below(child)...)
			}
		}
	}
	return all
}

// child returns the one child of a process.
func child(b *testing.B, pid int) int {
	b.Helper()
	tasks := must[[]os.DirEntry](b)(os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)))
	for _, t := range tasks {
		list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		check(b, err)
		if f := strings.Fields(string(list)); len(f) > 0 {
			return must[int](b)(strconv.Atoi(f[0]))
		}
	}
	b.Fatalf("process %d has no child", pid)
	return 0
}

// memory returns the resident and the proportional memory of a process in MiB.
func memory(b *testing.B, pid int) (rss, pss float64) {
	b.Helper()
	text := must[[]byte](b)(os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)))
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch f[0] {
		case "Rss:":
			rss = must[float64](b)(strconv.ParseFloat(f[1], 64)) / 1024
		case "Pss:":
			pss = must[float64](b)(strconv.ParseFloat(f[1], 64)) / 1024
		}
	}
	return rss, pss
}
