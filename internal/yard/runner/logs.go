package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/redact"
)

const (
	// logBuffer is how much encoded log waits for the control plane before the
	// job's writes block: back-pressure instead of memory or disk.
	logBuffer = 4 << 20
	// logBatch is the most that is sent at once, logDelay the time between two batches
	// of less: a line after a silence is sent at once, those behind it together. A
	// batch holds the longest line, of maxLine bytes that are all escaped.
	logBatch = 512 << 10
	logDelay = 100 * time.Millisecond
	// logEndSpace is kept for the lines that the runner writes after the log was cut.
	logEndSpace = 64 << 10
	// maxConflicts is how often in a row the control plane may name another end of the log,
	// while the lease is ours, until its word counts.
	maxConflicts = 5
)

// lineEnds makes every line end a line feed.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// jobLog is the log of one job: lines go in, JSON lines go to the control
// plane by offset. Nothing is dropped silently: a log that grows beyond its
// bound says so in its last line of output.
type jobLog struct {
	yard  sallyport.Yard
	ref   sallyport.LeaseRef
	clock func() time.Time
	slog  *slog.Logger
	mask  *redact.Set
	max   int64
	poke  func() // called when the lease seems to be lost

	mu     sync.Mutex
	room   sync.Cond // signalled when buf shrinks or the log ends
	buf    []byte    // encoded lines from offset base on
	base   int64     // what the control plane has acknowledged
	cut    bool
	closed bool // no more lines
	dead   bool // no more sending: lines are thrown away

	sent time.Time     // last; the sender's own
	more chan struct{} // buf grew or the log was closed
	done chan struct{} // the sender has ended
}

func newJobLog(yard sallyport.Yard, ref sallyport.LeaseRef, mask *redact.Set, max int64, clock func() time.Time, log *slog.Logger, poke func()) *jobLog {
	l := &jobLog{yard: yard, ref: ref, clock: clock, slog: log, mask: mask, max: max, poke: poke,
		more: make(chan struct{}, 1), done: make(chan struct{})}
	l.room.L = &l.mu
	return l
}

// line adds one line that is redacted and clean already. It blocks while the
// buffer is full, but for the runner's own words: they are few, and those who say
// them must not wait for the control plane.
func (l *jobLog) line(step int, kind sallyport.LogKind, text []byte) {
	at := l.clock().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.buf) >= logBuffer && kind != sallyport.LogSystem && !l.closed && !l.dead {
		l.room.Wait()
	}
	if l.closed || l.dead {
		return
	}
	end := l.base + int64(len(l.buf))
	if kind != sallyport.LogSystem {
		if l.cut {
			return
		}
		if end+int64(len(text)) > l.max-logEndSpace {
			l.cut = true
			kind = sallyport.LogSystem
			text = fmt.Appendf(nil, "The log is cut here: it has more than %d MiB. The job goes on. Write long output to a file and upload it as an artifact.", l.max>>20)
		}
	} else if end+int64(len(text)) > l.max {
		return
	}
	l.buf = appendLine(l.buf, at, step, kind, text)
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// say adds a line in the runner's own words. Secrets in it are masked.
func (l *jobLog) say(step int, kind sallyport.LogKind, format string, args ...any) {
	l.text(step, kind, fmt.Sprintf(format, args...))
}

// text adds text of one line or several, of foreign origin, redacted and cleaned.
func (l *jobLog) text(step int, kind sallyport.LogKind, text string) {
	s := lineSink{log: l, step: step, kind: kind}
	text = strings.TrimSuffix(lineEnds.Replace(text), "\n")
	_, _ = s.Write([]byte(l.mask.Text(text) + "\n"))
}

// send delivers lines until the log is closed and empty, or ctx ends.
func (l *jobLog) send(ctx context.Context) {
	defer close(l.done)
	defer l.kill()
	wait, conflicts := newBackoff(), 0
	for {
		chunk, offset, closed := l.next(ctx)
		if len(chunk) == 0 {
			if closed || ctx.Err() != nil {
				return
			}
			continue
		}
		l.sent = time.Now()
		end, err := l.yard.AppendLog(ctx, l.ref, offset, chunk)
		switch {
		case err == nil:
			l.acknowledge(end)
			wait.reset()
			conflicts = 0
		case ctx.Err() != nil:
			return
		case sallyport.ErrorCode(err) == sallyport.CodeConflict:
			// The end differs from what we believe, or the lease is lost: the heartbeat tells which.
			if l.resync(end) {
				continue
			}
			if conflicts++; conflicts >= maxConflicts && l.rebase(end) {
				l.slog.ErrorContext(ctx, "control plane lost a part of the log", "from", end, "to", offset)
				continue
			}
			l.poke()
			if wait.sleep(ctx) != nil {
				return
			}
		case permanent(err):
			l.slog.ErrorContext(ctx, "log was refused", "err", err)
			return
		default:
			l.slog.WarnContext(ctx, "log could not be sent", "err", err)
			if wait.sleep(ctx) != nil {
				return
			}
		}
	}
}

// next waits for lines and returns the first of them, after a time for others to
// gather, unless there is a batch or the end has come. The chunk stays valid: the
// buffer is only appended to, and replaced when it shrinks.
func (l *jobLog) next(ctx context.Context) (chunk []byte, offset int64, closed bool) {
	l.mu.Lock()
	n, closed := len(l.buf), l.closed
	l.mu.Unlock()
	if n == 0 && !closed {
		select {
		case <-l.more:
		case <-ctx.Done():
			return nil, 0, false
		}
	}
	silence := time.Since(l.sent)
	delay := time.NewTimer(logDelay - silence)
	defer delay.Stop()
gather:
	for silence < logDelay {
		l.mu.Lock()
		n, closed = len(l.buf), l.closed
		l.mu.Unlock()
		if n >= logBatch || closed {
			break
		}
		select {
		case <-l.more:
		case <-delay.C:
			break gather
		case <-ctx.Done():
			return nil, 0, false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n = len(l.buf); n > logBatch {
		n = bytes.LastIndexByte(l.buf[:logBatch], '\n') + 1 // the control plane takes whole lines alone
	}
	return l.buf[:n:n], l.base, l.closed
}

// acknowledge forgets what the control plane has up to end.
func (l *jobLog) acknowledge(end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(max(end-l.base, 0), int64(len(l.buf)))
	l.base += n
	if l.buf = l.buf[n:]; len(l.buf) == 0 {
		l.buf = nil // not reused: a transport may still be reading it
	}
	l.room.Broadcast()
}

// resync takes the control plane's word for where the log ends; false when
// what lies there is not in the buffer any more, or nothing changes by it.
func (l *jobLog) resync(end int64) bool {
	l.mu.Lock()
	base, n := l.base, int64(len(l.buf))
	l.mu.Unlock()
	if end <= base || end > base+n {
		return false
	}
	l.acknowledge(end)
	return true
}

// rebase goes on at an end that lies before what was acknowledged: the part between
// is lost, and the log says so.
func (l *jobLog) rebase(end int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if end < 0 || end >= l.base {
		return false
	}
	l.base = end
	note := appendLine(nil, l.clock().UnixMilli(), 0, sallyport.LogSystem, []byte("Lines are missing here: the control plane lost them."))
	l.buf = append(note, l.buf...)
	return true
}

// close ends the log and waits until it is delivered or ctx ends; it returns
// the offset up to which the control plane has it.
func (l *jobLog) close(ctx context.Context) (int64, error) {
	l.mu.Lock()
	l.closed = true
	l.room.Broadcast()
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	var err error
	select {
	case <-l.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && len(l.buf) > 0 {
		err = errors.New("the log was not delivered whole")
	}
	return l.base, err
}

// kill makes every present and later line a no-op.
func (l *jobLog) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	l.room.Broadcast()
}
