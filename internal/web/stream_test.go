package web

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// events reads server-sent events as a browser does.
type events struct {
	t      *testing.T
	cancel context.CancelFunc
	resp   *http.Response
	r      *bufio.Reader
}

type received struct{ id, event, data string }

func listen(t *testing.T, f *front, path string, header ...string) *events {
	t.Helper()
	server := httptest.NewServer(f.handler)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: "sallyport", Value: "good"})
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &events{t, cancel, resp, bufio.NewReaderSize(resp.Body, 1<<20)}
}

// next returns the next event, ok false at the end of the stream.
func (e *events) next() (ev received, ok bool) {
	e.t.Helper()
	var data []string
	for {
		line, err := e.r.ReadString('\n')
		if err != nil {
			return ev, false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "\n" && ev.event != "":
			ev.data = strings.Join(data, "\n")
			return ev, true
		case name == "id":
			ev.id = value
		case name == "event":
			ev.event = value
		case name == "data":
			data = append(data, value)
		}
	}
}

func (e *events) want(event string) received {
	e.t.Helper()
	ev, ok := e.next()
	if !ok || ev.event != event {
		e.t.Fatalf("event %+v (open %v), want %q", ev, ok, event)
	}
	return ev
}

func TestLogStreamResumes(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	path := "/runs/" + string(runNow) + "/jobs/" + string(jobLive) + "/log/events"
	first := listen(t, f, path)
	if got := first.resp.Header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	if first.resp.Header.Get("X-Accel-Buffering") != "no" || first.resp.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("headers %v", first.resp.Header)
	}
	var seen received
	for seen.event != "lines" {
		seen, _ = first.next()
	}
	if seen.id != strconv.Itoa(len(f.logs[jobLive].data)) || strings.Count(seen.data, "\n") != 4 {
		t.Errorf("first frame ends at %s with %q", seen.id, seen.data)
	}
	first.cancel()

	f.change(func() {
		l := f.logs[jobLive]
		whole := encode(sallyport.LogLine{Step: 2, Text: "after the break"})
		l.data = append(append(l.data, whole...), `{"s":2,"x":"half`...)
	})
	again := listen(t, f, path+"?have="+fingerprint(f.runs[0], f.jobs[runNow]), "Last-Event-ID", seen.id)
	ev := again.want("lines")
	if !strings.Contains(ev.data, "after the break") || strings.Contains(ev.data, "half") || strings.Contains(ev.data, "\n") {
		t.Errorf("resumed with %q", ev.data)
	}
	f.change(func() {
		f.logs[jobLive].data = append(f.logs[jobLive].data, " a line\"}\n"...)
	})
	if ev := again.want("lines"); ev.data != `{"s":2,"x":"half a line"}` {
		t.Errorf("the rest came as %q", ev.data)
	}
	f.change(func() { f.logs[jobLive].done = true })
	again.want("end")
	f.change(func() {
		f.jobs[runNow][2].Status, f.jobs[runNow][2].Conclusion = sallyport.StatusCompleted, sallyport.Success
	})
	if ev := again.want("changed"); ev.id != "" {
		t.Errorf("a change has the id %q: it would be taken for an offset", ev.id)
	}
	again.want("done")
	if ev, ok := again.next(); ok {
		t.Errorf("%+v after the end", ev)
	}
}

func TestLogStreamOfLargeLog(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	s := listen(t, f, "/runs/"+string(runPassed)+"/jobs/"+string(jobBig)+"/log/events?have="+fingerprint(f.runs[3], f.jobs[runPassed]))
	lines, frames := 0, 0
	for {
		ev, ok := s.next()
		if !ok {
			t.Fatal("the stream ended early")
		}
		if ev.event == "done" {
			break
		}
		if ev.event == "lines" {
			frames++
			lines += strings.Count(ev.data, "\n") + 1
		}
	}
	if lines != bigLines || frames > 40 {
		t.Errorf("%d lines in %d frames, want %d in few", lines, frames, bigLines)
	}
}

func TestRunStream(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	have := fingerprint(f.runs[0], f.jobs[runNow])
	s := listen(t, f, "/runs/"+string(runNow)+"/events?have="+have)
	f.change(func() { f.jobs[runNow][3].Status = sallyport.StatusInProgress })
	ev := s.want("changed")
	if ev.id == have || len(ev.id) != 16 {
		t.Errorf("id %q", ev.id)
	}
	f.change(func() {}) // a signal without a cause
	f.change(func() { f.runs[0].Status, f.runs[0].Conclusion = sallyport.StatusCompleted, sallyport.Success })
	ev = s.want("changed")
	s.want("done")

	// A browser that comes back with what it has is told only the end.
	listen(t, f, "/runs/"+string(runNow)+"/events", "Last-Event-ID", ev.id).want("done")
}

func TestStreamsEndAndAreBounded(t *testing.T) {
	t.Parallel()
	f := newFake()
	h, err := New(Config{Services: f.services(), BaseURL: "http://127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	// The base context is the server's: cancelling it ends every stream.
	ctx, stop := context.WithCancel(context.Background())
	r := httptest.NewRequestWithContext(ctx, "GET", "/runs/"+string(runNow)+"/events", nil)
	r.AddCookie(&http.Cookie{Name: "sallyport", Value: "good"})
	ended := make(chan struct{})
	go func() { defer close(ended); h.ServeHTTP(httptest.NewRecorder(), r) }()
	stop()
	<-ended

	s := &server{streams: make(chan struct{}, 1)}
	_, done, err := s.openStream(httptest.NewRecorder())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.openStream(httptest.NewRecorder()); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("one stream too many: %v", err)
	}
	done()
	if _, _, err := s.openStream(httptest.NewRecorder()); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}
