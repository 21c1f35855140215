package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type logsCmd struct {
	remote
	output
	ID      string `arg:"" name:"run" help:"Id or number of the run."`
	Project string `help:"The project, when a number is given." placeholder:"NAME"`
	Job     string `help:"Only this job, by key, name or id." placeholder:"JOB"`
	Follow  bool   `short:"f" help:"Go on until the run is completed."`
}

func (c logsCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	id, err := findRun(e.ctx, s, c.Project, c.ID)
	if err != nil {
		return err
	}
	p := &logPrinter{out: e.stdout, json: c.JSON, color: e.color}
	want := func(j sallyport.Job) bool {
		return c.Job == "" || c.Job == j.Key || c.Job == j.Name || c.Job == string(j.ID)
	}
	return followRun(e.ctx, s, id, c.Follow, want, p.line)
}

// followRun copies the logs of a run's jobs: those there are, or with follow
// all that appear until the run is completed.
func followRun(ctx context.Context, s sallyport.Services, id sallyport.RunID, follow bool, want func(sallyport.Job) bool, emit func(sallyport.Job, sallyport.LogLine) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex // one line at a time
	started := make(map[sallyport.JobID]bool)
	matched := false
	for {
		looked := time.Now()
		r, jobs, err := s.Runs.Run(ctx, id)
		if err != nil {
			return err
		}
		cost := time.Since(looked)
		for _, j := range jobs {
			if !want(j) {
				continue
			}
			matched = true
			if started[j.ID] || j.StartedAt.IsZero() || j.Uses != "" {
				continue
			}
			started[j.ID] = true
			wg.Go(func() {
				err := followJob(ctx, s, j.ID, follow, func(l sallyport.LogLine) error {
					mu.Lock()
					defer mu.Unlock()
					return emit(j, l)
				})
				if err != nil {
					cancel(err)
				}
			})
		}
		if !follow || r.Status == sallyport.StatusCompleted {
			wg.Wait()
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if !matched {
				return sallyport.Errorf(sallyport.CodeNotFound, "the run has no such job")
			}
			return nil
		}
		if err := waitRun(ctx, s, id); err != nil {
			return err
		}
		// A run of many jobs changes all the time: looking takes a small part of it.
		select {
		case <-time.After(min(lookRest*cost, time.Second/4)):
		case <-ctx.Done():
		}
	}
}

// lookRest is how many times as long as a look at a run the next one is put off.
const lookRest = 9

// waitRun waits until something about the run may have changed; now and then it looks anyway.
func waitRun(ctx context.Context, s sallyport.Services, id sallyport.RunID) error {
	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := s.Runs.WaitChange(limited, id)
	if ctx.Err() == nil && limited.Err() != nil {
		return nil
	}
	return err
}

const logPiece = 1 << 20

// followJob copies a job's log, as far as it goes or until it is complete.
func followJob(ctx context.Context, s sallyport.Services, j sallyport.JobID, follow bool, emit func(sallyport.LogLine) error) error {
	var offset int64
	for {
		wait := time.Duration(0)
		if follow {
			wait = 30 * time.Second
		}
		data, done, err := s.Runs.Log(ctx, j, offset, logPiece, wait)
		if err != nil {
			return err
		}
		whole := data[:bytes.LastIndexByte(data, '\n')+1]
		offset += int64(len(whole))
		for line := range bytes.SplitSeq(whole, []byte("\n")) {
			var l sallyport.LogLine
			if len(line) == 0 || json.Unmarshal(line, &l) != nil {
				continue
			}
			if err := emit(l); err != nil {
				return err
			}
		}
		if done || len(whole) == 0 && !follow {
			return nil
		}
	}
}

// logPrinter writes log lines for people or programs.
type logPrinter struct {
	out      io.Writer
	json     bool
	color    bool
	workflow string // of the jobs whose lines come, where there may be several; JSON alone shows it
}

// logJSON is a log line in the JSON-lines output.
type logJSON struct {
	Type     string            `json:"type"` // "log"
	Job      string            `json:"job"`
	Step     int               `json:"step"`
	Kind     sallyport.LogKind `json:"kind,omitempty"`
	Text     string            `json:"text"`
	Workflow string            `json:"workflow,omitempty"`
}

func (p *logPrinter) line(j sallyport.Job, l sallyport.LogLine) error {
	if p.json {
		return json.NewEncoder(p.out).Encode(logJSON{"log", j.Key, l.Step, l.Kind, l.Text, p.workflow})
	}
	text := l.Text
	if !p.color {
		text = withoutColor(text)
	}
	mark := ""
	switch l.Kind {
	case sallyport.LogGroup:
		mark = "▸ "
	case sallyport.LogCommand:
		mark = "$ "
	case sallyport.LogError, sallyport.LogWarning, sallyport.LogNotice, sallyport.LogDebug:
		mark = string(l.Kind) + ": "
	case sallyport.LogEndGroup:
		return nil
	}
	_, err := fmt.Fprintf(p.out, "%s │ %s%s\n", plain(j.Name), mark, text)
	return err
}

// withoutColor drops SGR sequences, the only control sequences a log holds.
func withoutColor(s string) string {
	if !strings.Contains(s, "\x1b[") {
		return s
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "\x1b[")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		if i := strings.IndexByte(after, 'm'); i >= 0 {
			after = after[i+1:]
		}
		s = after
	}
}
