package runner

import (
	"bytes"
	"sync"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/redact"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

const (
	// maxCommand bounds a line that may be a workflow command; a longer one is output.
	maxCommand = 1 << 20
	// maxIndent bounds the white space before one.
	maxIndent = 256
)

// output is where a step's process writes, standard output and standard error
// alike. It finds workflow commands, masks secrets and adds lines to the log,
// in constant memory whatever is written. Line feed, carriage return and both
// together end a line.
type output struct {
	command func(workflow.Command) bool // reports whether the line was a command
	watched func() bool                 // whether lines may be problems; nil: never
	problem func(line string) func()    // what to do about a line that is a problem, nil when it is none

	mu      sync.Mutex
	mask    *redact.Writer
	sink    lineSink
	begun   bool   // the present line's beginning was seen: it is no command
	held    []byte // of a line that may be a command
	crlf    bool   // the last byte was a carriage return
	scratch []byte
	closed  bool
}

// newOutput returns the output of a step.
func newOutput(s *step) *output {
	o := newPlainOutput(s.job.log, s.number, s.command)
	o.watched, o.problem = s.job.watching, s.find
	return o
}

// newPlainOutput returns an output in which nobody looks for problems.
func newPlainOutput(log *jobLog, step int, command func(workflow.Command) bool) *output {
	o := &output{command: command, watched: func() bool { return false }, sink: lineSink{log: log, step: step}}
	o.mask = log.mask.NewWriter(&o.sink)
	return o
}

// Write never fails. What is written after close, by processes that a step
// left behind, is dropped.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return len(p), nil
	}
	total := len(p)
	for rest := o.unix(p); len(rest) > 0; {
		watched := o.watched()
		if o.begun {
			// Everything up to the next line that may be a command goes on at once.
			n := plainEnd(rest)
			if i := bytes.IndexByte(rest, '\n'); watched && i >= 0 {
				n = i + 1
			}
			_, _ = o.mask.Write(rest[:n])
			o.begun = rest[n-1] != '\n'
			rest = rest[n:]
			continue
		}
		i := bytes.IndexByte(rest, '\n')
		end := len(rest)
		if i >= 0 {
			end = i
		}
		if len(o.held) == 0 && i >= 0 && !watched && !mayBeCommand(rest[:end]) {
			o.begun = true
			continue
		}
		o.held = append(o.held, rest[:end]...)
		rest = rest[end:]
		switch {
		case i >= 0:
			rest = rest[1:]
			o.endHeld()
		case !mayBeCommand(o.held) && (!watched || len(o.held) > maxMatched) || len(o.held) > maxCommand:
			_, _ = o.mask.Write(o.held)
			o.held, o.begun = nil, true
		}
	}
	return total, nil
}

// endHeld deals with a whole line in held.
func (o *output) endHeld() {
	line := o.held
	o.held = nil
	if mayBeCommand(line) {
		if cmd, ok := workflow.ParseCommand(string(line)); ok {
			// What stands before a command in the log must be there when it acts.
			o.flush()
			if o.command(cmd) {
				return
			}
		}
	}
	if o.annotated(line) {
		return
	}
	_, _ = o.mask.Write(append(line, '\n'))
}

// annotated reports whether a line was a problem, and has become an annotation.
func (o *output) annotated(line []byte) bool {
	if !o.watched() {
		return false
	}
	annotate := o.problem(string(line))
	if annotate == nil {
		return false
	}
	o.flush() // what stands before it
	annotate()
	return true
}

// plainEnd returns the end of the first line of p and of all that follow it
// and cannot be commands, or len(p).
func plainEnd(p []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 || at+i+1 == len(p) {
			return len(p)
		}
		at += i + 1
		if mayBeCommand(p[at:]) {
			return at
		}
	}
}

// mayBeCommand reports whether a line that begins with b can be a workflow command.
func mayBeCommand(b []byte) bool {
	for i, c := range b[:min(len(b), maxIndent)] {
		switch c {
		case ' ', '\t', '\v', '\f':
			continue
		case ':':
			return i+1 == len(b) || b[i+1] == ':'
		case '#':
			return bytes.HasPrefix(b[i:], []byte("##[")) || bytes.HasPrefix([]byte("##["), b[i:])
		case 0xc2: // a no-break space or next line, which count as white space
			return true
		case '\n':
			return false
		}
		return false
	}
	return len(b) < maxIndent
}

// unix returns p with every line end as a line feed.
func (o *output) unix(p []byte) []byte {
	if len(p) > 0 && o.crlf && p[0] == '\n' {
		p = p[1:]
	}
	o.crlf = len(p) > 0 && p[len(p)-1] == '\r'
	if bytes.IndexByte(p, '\r') < 0 {
		return p
	}
	out := o.scratch[:0]
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '\r' {
			c = '\n'
			if i+1 < len(p) && p[i+1] == '\n' {
				i++
			}
		}
		out = append(out, c)
	}
	o.scratch = out
	return out
}

// flush brings all that was written to the log, also a line that has not ended.
func (o *output) flush() {
	_ = o.mask.Flush() // the sink never fails
	o.sink.end()
}

// print adds lines of another kind, in order with what was written. The caller
// may be the command function.
func (o *output) print(kind sallyport.LogKind, text string) {
	o.sink.log.text(o.sink.step, kind, text)
}

// close flushes and drops all that is written from now on.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if len(o.held) > 0 {
		if cmd, ok := workflow.ParseCommand(string(o.held)); (!ok || !o.command(cmd)) && !o.annotated(o.held) {
			_, _ = o.mask.Write(o.held)
		}
		o.held = nil
	}
	o.flush()
	o.closed = true
}
