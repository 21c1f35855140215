package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/web"
)

// BenchmarkPages is the server's time for each page of a control plane with
// 1,000 runs. The floor is a page that asks for nothing.
func BenchmarkPages(b *testing.B) {
	h := newHouse(b)
	of := h.start(b, map[string]string{workflowFile: oneStep("true")})
	h.live(b)
	artifact := h.work(b, of)
	r, jobs, err := h.s.Runs.Run(h.admin, of.run.ID)
	check(b, err)
	of.run, of.jobs = r, jobs // copies are over
	h.copies(b, of, 1000)

	pages := must[http.Handler](b)(web.New(web.Config{Services: h.s, BaseURL: "http://ci.example", Version: "bench"}))
	link, _, err := h.s.Access.CreateToken(h.admin, "bench", sallyport.TokenLogin, sallyport.PrincipalFrom(h.admin), time.Hour)
	check(b, err)
	session, _, err := h.s.Access.Login(h.admin, link)
	check(b, err)
	job := "/runs/" + string(r.ID) + "/jobs/" + string(jobs[0].ID)
	for _, path := range []struct{ name, path string }{
		{"floor", "/login"},
		{"home", "/"}, {"projects", "/projects"}, {"project", "/projects/bench"}, {"runs", "/runs"}, {"run", "/runs/" + string(r.ID)},
		{"job", job}, {"artifact", "/artifacts/" + string(artifact.ID)}, {"deployments", "/deployments"}, {"gates", "/gates"},
		{"audit", "/audit"}, {"tokens", "/tokens"}, {"system", "/system"},
	} {
		b.Run(path.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				req := httptest.NewRequest(http.MethodGet, "http://ci.example"+path.path, nil)
				req.AddCookie(&http.Cookie{Name: "sallyport", Value: session})
				answer := httptest.NewRecorder()
				start := time.Now()
				pages.ServeHTTP(answer, req)
				took = append(took, time.Since(start))
				if answer.Code != http.StatusOK {
					b.Fatalf("GET %s: %d", path.path, answer.Code)
				}
			}
			reportTimes(b, "page", took)
			b.ReportMetric(0, "ns/op")
		})
	}
}

// work does the one job of a run as a runner would, with a log of 2,000 lines and
// an artifact, and waits until its evidence is made.
func (h *house) work(b *testing.B, of template) sallyport.Artifact {
	b.Helper()
	yard := h.engine.Yard()
	l := must[*sallyport.Lease](b)(yard.Lease(h.runner, ask("r")))
	var log, content bytes.Buffer
	for i := range 2000 {
		fmt.Fprintf(&log, `{"t":%d,"s":1,"x":"line %d of the output, about as long as lines are"}`+"\n", time.Now().UnixMilli(), i)
	}
	_ = must[int64](b)(yard.AppendLog(h.runner, l.Ref, 0, log.Bytes()))
	w := tar.NewWriter(&content)
	check(b, w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o755, Size: 5, Typeflag: tar.TypeReg}))
	_ = must[int](b)(w.Write([]byte("hello")))
	check(b, w.Close())
	a := must[sallyport.Artifact](b)(yard.PutArtifact(h.runner, l.Ref, "hello", &content))
	check(b, yard.Finish(h.runner, l.Ref, sallyport.JobResult{
		Conclusion: sallyport.Success, Isolation: &sallyport.Isolation{Level: "standard", Runtime: "runc", Network: "none"},
		Steps: []sallyport.Step{{Number: 1, Name: "Run true", Status: sallyport.StatusCompleted, Outcome: sallyport.Success, Conclusion: sallyport.Success}},
	}))
	for {
		r, _, err := h.s.Runs.Run(h.admin, of.run.ID)
		check(b, err)
		if r.Status == sallyport.StatusCompleted {
			return a
		}
		limited, cancel := context.WithTimeout(h.admin, 100*time.Millisecond) // the change may have come just before
		err = h.s.Runs.WaitChange(limited, of.run.ID)
		cancel()
		if err != nil && limited.Err() == nil {
			b.Fatal(err)
		}
	}
}
