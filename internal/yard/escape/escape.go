// Package escape tries to get out of a room, and says what came of it: an automated
// attacker for every implementation of sallyport.Sandbox. The conformance suite runs it
// against each, and `sallyport drill sandbox` against a user's own host.
//
// Most attempts are single system calls that run in the room as a step would (probe.go), with
// the errno by which the kernel must refuse them. Around them stand canaries on the
// host (canary.go): a file, a process, sockets, shared memory. They are looked at from
// outside, so that the job's own word is not all there is. Floods (floods.go) use up what
// a small room is given.
//
// No attempt has an effect on the host that lasts, even where it succeeds: what would
// change the machine is asked for with arguments that the kernel refuses after it has looked
// at the right to ask.
//
// It is not a proof, and what attacks the runner and not the room (archives, logs, command
// files) is tried where a runner is: docs/ESCAPES.md lists both.
package escape

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Verdict is what an attempt came to.
type Verdict string

const (
	Held          Verdict = "held"
	NotHeld       Verdict = "not held"
	NotApplicable Verdict = "not applicable" // Why says why
)

// Result is one attempt and what came of it.
type Result struct {
	Group   string  `json:"group"` // files, processes, kernel, network, limits, floods
	Name    string  `json:"name"`
	Outcome string  `json:"outcome"` // an errno, or a word; "done" when it succeeded
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why,omitempty"`
}

// Config of Run. Both are needed.
type Config struct {
	Sandbox sallyport.Sandbox
	// Dir is a directory of the host in which the canaries stand. It must not be in what
	// rooms see of the host.
	Dir string
}

// done is the outcome of an attempt that succeeded.
const done = "done"

const probePath = "/srv/escape"

// Run makes rooms and tries to get out of them. The error says that it could not be tried, not
// that something was not held. The running executable must call Probe when it starts.
func Run(ctx context.Context, c Config) ([]Result, error) {
	if c.Sandbox == nil || !filepath.IsAbs(c.Dir) {
		return nil, errors.New("escape: a sandbox and an absolute directory are needed")
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	d := &drill{Config: c, exe: exe, id: "drill-" + hex.EncodeToString(id[:])}
	results, err := d.attempts(ctx)
	if err != nil {
		return nil, err
	}
	floods, err := d.floods(ctx)
	return append(results, floods...), err
}

// drill is one run.
type drill struct {
	Config
	exe   string
	id    string
	rooms int
}

// room makes one with the probe in it.
func (d *drill) room(ctx context.Context, spec sallyport.RoomSpec) (sallyport.Room, error) {
	d.rooms++
	spec.ID = fmt.Sprintf("%s-%d", d.id, d.rooms)
	spec.Binds = append(spec.Binds, sallyport.Bind{Source: d.exe, Target: probePath, ReadOnly: true})
	return d.Sandbox.Prepare(ctx, spec)
}

// maxSaid bounds what a probe says; all outcomes together are some ten thousand bytes.
const maxSaid = 1 << 20

// said keeps the first maxSaid bytes.
type said struct{ bytes.Buffer }

func (s *said) Write(p []byte) (int, error) {
	s.Buffer.Write(p[:min(len(p), maxSaid-s.Len())])
	return len(p), nil
}

// probe runs a part of the probe in the room.
func probe(ctx context.Context, r sallyport.Room, args ...string) (string, sallyport.ExecResult, error) {
	var out said
	res, err := r.Exec(ctx, sallyport.ExecSpec{
		Argv: append([]string{probePath, mark}, args...), Dir: "/", Stdout: &out, Stderr: &out,
		Env: []sallyport.EnvVar{{Name: "PATH", Value: "/usr/local/bin:/usr/bin:/bin"}, {Name: "HOME", Value: "/root"}},
	})
	return out.String(), res, err
}

// attempts makes those that need a room and the canaries.
func (d *drill) attempts(ctx context.Context) ([]Result, error) {
	c, err := d.plant()
	if err != nil {
		return nil, fmt.Errorf("plant the canaries: %w", err)
	}
	defer c.remove()
	room, err := d.room(ctx, sallyport.RoomSpec{})
	if err != nil {
		return nil, err
	}
	defer room.Destroy(context.WithoutCancel(ctx))
	isolation := room.Isolation()
	c.told.Leave = true
	told, err := json.Marshal(c.told)
	if err != nil {
		return nil, err
	}
	out, res, err := probe(ctx, room, "try", string(told))
	if err != nil {
		return nil, err
	}
	results, err := judge(list(), []byte(out), isolation)
	if err != nil {
		return nil, fmt.Errorf("%w (the probe ended with %d: %.200q)", err, res.ExitCode, out)
	}
	results = append(results, d.runtimeDirectory(ctx, room))
	results = append(results, c.look()...)
	if err := room.Destroy(ctx); err != nil {
		return nil, err
	}
	// What it left must be gone for the next.
	next, err := d.room(ctx, sallyport.RoomSpec{})
	if err != nil {
		return nil, err
	}
	defer next.Destroy(context.WithoutCancel(ctx))
	out, _, err = probe(ctx, next, "remains", c.told.Word)
	if err != nil {
		return nil, err
	}
	return append(results, verdict(Result{Group: "files", Name: "what an earlier job left", Outcome: clean(out)}, "nothing")), nil
}

// runtimeDirectory asks for a working directory that would be a file of the host if the
// runtime had left one open (CVE-2024-21626).
func (d *drill) runtimeDirectory(ctx context.Context, room sallyport.Room) Result {
	r := Result{Group: "files", Name: "working directory in /proc/self/fd", Outcome: done}
	if _, err := room.Exec(ctx, sallyport.ExecSpec{Argv: []string{probePath, mark, "remains", "x"}, Dir: "/proc/self/fd/7/.."}); err != nil {
		r.Outcome = string(sallyport.ErrorCode(err))
	}
	return verdict(r, string(sallyport.CodeInvalid))
}

// verdict judges an outcome by those that mean that it was held.
func verdict(r Result, held ...string) Result {
	r.Verdict = NotHeld
	if slices.Contains(held, r.Outcome) {
		r.Verdict = Held
	}
	return r
}

// inTheSentry is why some attempts may succeed at level strong.
const inTheSentry = "done to the room's own kernel, which ends with the room"

// outcome is the probe's word on one attempt.
type outcome struct {
	Name string `json:"name"`
	Got  string `json:"got"`
}

// judge joins the attempts with what the probe said of them. One that was not made
// is not held: it may have ended the probe.
func judge(list []attempt, out []byte, isolation sallyport.Isolation) ([]Result, error) {
	got := make(map[string]string)
	for line := range bytes.Lines(out) {
		var o outcome
		if err := json.Unmarshal(line, &o); err != nil {
			return nil, errors.New("the probe said what is no outcome")
		}
		got[o.Name] = o.Got
	}
	if len(got) == 0 {
		return nil, errors.New("the probe said nothing")
	}
	results := make([]Result, 0, len(list))
	for _, a := range list {
		r := Result{Group: a.group, Name: a.name, Outcome: clean(got[a.name])}
		if r.Outcome == "" {
			r.Outcome = "it was not made, or ended the probe"
		}
		r = verdict(r, a.held...)
		if r.Verdict == NotHeld && isolation.Level == "strong" && slices.Contains(a.sentry, r.Outcome) {
			r.Verdict, r.Why = Held, inTheSentry
		}
		results = append(results, r)
	}
	return results, nil
}

// clean makes a word of the room fit for a table.
func clean(s string) string {
	const most = 80
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = ' '
		}
	}
	b = bytes.TrimSpace(b)
	return string(b[:min(len(b), most)])
}
