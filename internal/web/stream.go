package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// frameGap keeps a stream to at most 20 frames a second.
	frameGap = 50 * time.Millisecond
	// heartbeat keeps proxies from closing a quiet stream, and bounds how late
	// a change can be seen that fell between two waits.
	heartbeat = 15 * time.Second
	// frameTimeout is how long a browser may take to accept one frame.
	frameTimeout = 30 * time.Second
	// streamLife ends a stream now and then; the browser comes again by itself, and is
	// asked anew who it is: a session that was revoked sees nothing for longer.
	streamLife = 15 * time.Minute
	// logWait is how long one read of a log waits for more.
	logWait = 10 * time.Second
)

// frame is one server-sent event (HTML Living Standard, 9.2). A frame without
// an event is a comment.
type frame struct {
	id    string
	event string
	data  []byte // one or more whole lines
}

// stream writes frames to one browser.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf bytes.Buffer
}

// openStream answers the request with an event stream. Call done at its end.
func (s *server) openStream(w http.ResponseWriter) (st *stream, done func(), err error) {
	select {
	case s.streams <- struct{}{}:
	default:
		return nil, nil, sallyport.Errorf(sallyport.CodeUnavailable, "too many open pages follow live updates").
			WithHint("close some of them; the page can be loaded again at any time")
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no")
	st = &stream{w: w, rc: http.NewResponseController(w)}
	return st, func() { <-s.streams }, st.send(frame{})
}

// send writes one frame. The server's write deadline, meant for pages, is
// replaced by one for this frame.
func (st *stream) send(f frame) error {
	st.buf.Reset()
	if f.event == "" {
		st.buf.WriteString(":\n\n")
	} else {
		if f.id != "" {
			fmt.Fprintf(&st.buf, "id: %s\n", f.id)
		}
		fmt.Fprintf(&st.buf, "event: %s\n", f.event)
		for line := range bytes.Lines(f.data) {
			st.buf.WriteString("data: ")
			st.buf.Write(bytes.TrimRight(line, "\r\n"))
			st.buf.WriteByte('\n')
		}
		if len(f.data) == 0 {
			st.buf.WriteString("data:\n")
		}
		st.buf.WriteByte('\n')
	}
	_ = st.rc.SetWriteDeadline(time.Now().Add(frameTimeout)) // not every server supports one
	if _, err := st.w.Write(st.buf.Bytes()); err != nil {
		return err
	}
	return st.rc.Flush()
}

// fingerprint names the state of a run and its jobs.
func fingerprint(run sallyport.Run, jobs []sallyport.Job) string {
	h := sha256.New()
	e := json.NewEncoder(h)
	_ = e.Encode(run) // plain values always encode
	_ = e.Encode(jobs)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// runEvents says "changed" whenever the run is not what the page shows, and "done"
// when it has ended; the module then fetches the page's parts. The event's id is the
// run's fingerprint, so that a reconnecting page is told only what it does not know.
func (s *server) runEvents(w http.ResponseWriter, r *http.Request) error {
	id, have := sallyport.RunID(r.PathValue("run")), r.URL.Query().Get("have")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		have = last
	}
	if _, _, err := s.Runs.Run(r.Context(), id); err != nil {
		return err
	}
	st, done, err := s.openStream(w)
	if err != nil {
		return err
	}
	defer done()
	frames := make(chan frame)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		defer close(frames)
		ended := s.watchRun(ctx, id, have, func(now string, run sallyport.Run, _ []sallyport.Job) bool {
			offer(ctx, frames, frame{id: now, event: "changed"})
			return run.Status == sallyport.StatusCompleted
		})
		if ended {
			offer(ctx, frames, frame{event: "done"})
		}
	}()
	return gone(st.pump(ctx, frames))
}

// pump sends what comes until the channel is closed, at most a frame each
// frameGap, with a heartbeat in the silence.
func (st *stream) pump(ctx context.Context, frames <-chan frame) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	end := time.NewTimer(streamLife)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-end.C:
			return nil
		case <-beat.C:
			if err := st.send(frame{}); err != nil {
				return err
			}
		case f, ok := <-frames:
			if !ok {
				return nil
			}
			if err := st.send(f); err != nil {
				return err
			}
			if !pause(ctx, frameGap) {
				return nil
			}
		}
	}
}

// watchRun calls changed with each state of the run that is not the one it has, until
// changed reports the end, which it returns, or until the run cannot be had or ctx is over.
func (s *server) watchRun(ctx context.Context, id sallyport.RunID, have string,
	changed func(now string, run sallyport.Run, jobs []sallyport.Job) (ended bool)) bool {
	for ctx.Err() == nil {
		signal := s.waitChange(ctx, id) // before the state is read, so that no change falls between
		run, jobs, err := s.Runs.Run(ctx, id)
		if err != nil {
			return false // the browser comes again and is told why
		}
		if now := fingerprint(run, jobs); now != have {
			have = now
			if changed(now, run, jobs) {
				return true
			}
		} else if run.Status == sallyport.StatusCompleted {
			return true
		}
		<-signal
	}
	return false
}

// waitChange returns a channel that is closed when the run may have changed,
// after a heartbeat at the latest, or when ctx ends.
func (s *server) waitChange(ctx context.Context, id sallyport.RunID) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		wait, cancel := context.WithTimeout(ctx, heartbeat)
		defer cancel()
		if err := s.Runs.WaitChange(wait, id); err != nil && wait.Err() == nil {
			pause(ctx, time.Second) // a fault must not become a busy loop
		}
	}()
	return c
}

// logEvents streams the lines of a job's log from the byte offset ?offset= or,
// after a break, from the Last-Event-ID: an event's id is the offset after
// its last line. The changes of the run are sent in between, so that the page
// needs one connection only.
func (s *server) logEvents(w http.ResponseWriter, r *http.Request) error {
	v, job, err := s.findJob(r)
	if err != nil {
		return err
	}
	offset, err := queryInt(r, "offset", 0)
	if err != nil {
		return err
	}
	if last, err := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64); err == nil && last >= 0 {
		offset = last
	}
	st, done, err := s.openStream(w)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	return gone(st.pump(ctx, s.jobFrames(ctx, v.Run.ID, job.ID, offset, r.URL.Query().Get("have"))))
}

// jobFrames starts the two sources of a job page's stream, its log and its state. The
// channel is closed when both have ended, after "done" if nothing will ever follow.
func (s *server) jobFrames(ctx context.Context, run sallyport.RunID, job sallyport.JobID, offset int64, have string) <-chan frame {
	frames := make(chan frame)
	var both sync.WaitGroup
	var logEnded, jobEnded bool
	both.Go(func() { logEnded = s.followLog(ctx, job, offset, frames) })
	both.Go(func() {
		jobEnded = s.watchRun(ctx, run, have, func(_ string, _ sallyport.Run, jobs []sallyport.Job) bool {
			offer(ctx, frames, frame{event: "changed"}) // without an id: the ids of this stream are offsets
			return completed(jobs, job)
		})
	})
	go func() {
		defer close(frames)
		both.Wait()
		if logEnded && jobEnded {
			offer(ctx, frames, frame{event: "done"})
		}
	}()
	return frames
}

func completed(jobs []sallyport.Job, id sallyport.JobID) bool {
	for _, j := range jobs {
		if j.ID == id {
			return j.Status == sallyport.StatusCompleted
		}
	}
	return true
}

// followLog sends the log and reports whether nothing will follow. A frame holds whole lines
// only, as many as are there: a reader who is behind catches up in large ones.
func (s *server) followLog(ctx context.Context, j sallyport.JobID, offset int64, frames chan<- frame) (ended bool) {
	for size := logChunk; ctx.Err() == nil; {
		data, done, err := s.Runs.Log(ctx, j, offset, size, logWait)
		if err != nil {
			message, _ := sallyport.ErrorMessage(err)
			offer(ctx, frames, frame{event: "fault", data: []byte(message)})
			return false
		}
		end := bytes.LastIndexByte(data, '\n') + 1
		switch {
		case end > 0:
			offset += int64(end)
			offer(ctx, frames, frame{id: strconv.FormatInt(offset, 10), event: "lines", data: data[:end]})
			size = logChunk
		case len(data) == size && size < maxLogLine:
			size *= 2
		case done:
			offer(ctx, frames, frame{event: "end"})
			return true
		case len(data) > 0:
			pause(ctx, frameGap) // the rest of a line is on its way
		}
	}
	return false
}

func offer(ctx context.Context, frames chan<- frame, f frame) {
	select {
	case frames <- f:
	case <-ctx.Done():
	}
}

// pause waits for d and reports whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// gone drops the error of writing to a browser that has left: nobody is there to be told.
func gone(error) error { return nil }
