package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// defaultGrace is the time from SIGTERM to SIGKILL.
const defaultGrace = 7500 * time.Millisecond

// killTimeout is how long after SIGKILL we wait for init's word. A room that does
// not answer then is not worth waiting for: Destroy ends it.
const killTimeout = 5 * time.Second

// talkTimeout bounds handing a request to init, which has nothing else to do; it is no
// bound on what comes after.
const talkTimeout = 10 * time.Second

// Exec implements sallyport.Room.
//
// Output is complete when Exec returns: all that was written before the process
// ended was passed on. What processes left behind write later is thrown away.
// Stdin is read until its end or until the process is gone; a Read that is
// waiting then goes on until it returns.
func (r *Room) Exec(ctx context.Context, spec sallyport.ExecSpec) (sallyport.ExecResult, error) {
	if err := ctx.Err(); err != nil {
		return sallyport.ExecResult{}, context.Cause(ctx)
	}
	req, err := execRequest(spec)
	if err != nil {
		return sallyport.ExecResult{}, err
	}
	std, err := openStreams(spec)
	if err != nil {
		return sallyport.ExecResult{}, err
	}
	defer std.close()
	req.Std = std.attached
	ooms := r.groups.oomKills()
	talk, err := r.talk(req, std.theirs...)
	if err != nil {
		return sallyport.ExecResult{}, err
	}
	defer talk.Close()
	std.run()

	a, err := r.await(ctx, talk, spec)
	werr := std.finish()
	if err != nil {
		return sallyport.ExecResult{}, err
	}
	if a.Failed != "" {
		return sallyport.ExecResult{}, sallyport.Errorf(sallyport.CodeInvalid, "the process could not be started: %s", printable(a.Failed))
	}
	res := sallyport.ExecResult{ExitCode: a.Code, OOM: r.groups.oomKills() > ooms}
	if a.Signal != 0 {
		res.ExitCode, res.Signal = 128+a.Signal, syscall.Signal(a.Signal).String()
	}
	if ctx.Err() != nil {
		return res, context.Cause(ctx)
	}
	return res, werr
}

// execRequest checks what does not depend on the room.
func execRequest(spec sallyport.ExecSpec) (pidone.Request, error) {
	req := pidone.Request{Op: pidone.OpExec, Argv: spec.Argv, User: spec.User, Env: make(pidone.ByteList, 0, len(spec.Env))}
	dir := spec.Dir
	if len(spec.Argv) == 0 || spec.Argv[0] == "" {
		return req, sallyport.Errorf(sallyport.CodeInvalid, "there is no command to run")
	}
	if dir == "" {
		dir = "/"
	}
	// /proc holds paths that lead to other processes' files.
	if !path.IsAbs(dir) || strings.ContainsRune(dir, 0) || path.Clean(dir) == "/proc" || strings.HasPrefix(path.Clean(dir), "/proc/") {
		return req, sallyport.Errorf(sallyport.CodeInvalid, "working directory %q is not an absolute path outside /proc", dir)
	}
	req.Dir = []byte(dir)
	size := 0
	for _, s := range spec.Argv {
		size += len(s)
		if strings.ContainsRune(s, 0) {
			return req, sallyport.Errorf(sallyport.CodeInvalid, "an argument contains a NUL byte")
		}
	}
	for _, v := range spec.Env {
		size += len(v.Name) + len(v.Value)
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.ContainsRune(v.Value, 0) {
			return req, sallyport.Errorf(sallyport.CodeInvalid, "the environment variable %q cannot be set", v.Name)
		}
		req.Env = append(req.Env, v.Name+"="+v.Value)
	}
	if size > pidone.MaxRequest/2 {
		return req, sallyport.Errorf(sallyport.CodeInvalid, "arguments and environment of %d bytes are too long", size)
	}
	return req, nil
}

// talk starts a talk with init about req.
func (r *Room) talk(req pidone.Request, files ...*os.File) (*net.UnixConn, error) {
	ours, theirs, err := socketpair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	_, _, err = r.control.WriteMsgUnix([]byte{pidone.TalkByte}, unix.UnixRights(int(theirs.Fd())), nil)
	if err == nil {
		err = ours.SetWriteDeadline(time.Now().Add(r.s.patience))
	}
	if err == nil {
		err = writeFrame(ours, req, files...)
	}
	if err == nil {
		err = ours.SetWriteDeadline(time.Time{}) // signals follow for as long as the process lives
	}
	if err != nil {
		ours.Close()
		return nil, r.ended(err)
	}
	return ours, nil
}

// ended words that the room does not answer.
func (r *Room) ended(err error) error {
	return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the room has ended", Err: err}
}

// await waits for the answer, and passes on the end of ctx as signals.
func (r *Room) await(ctx context.Context, talk *net.UnixConn, spec sallyport.ExecSpec) (pidone.Answer, error) {
	type word struct {
		a   pidone.Answer
		err error
	}
	words := make(chan word, 1)
	go func() {
		body, files, err := readFrame(talk, pidone.MaxAnswer)
		pidone.CloseAll(files)
		w := word{err: err}
		if err == nil {
			w.a, w.err = pidone.ParseAnswer(body)
		}
		words <- w // ends at the latest when talk is closed
	}()
	grace := spec.Grace
	if grace <= 0 {
		grace = defaultGrace
	}
	done := ctx.Done()
	var timer <-chan time.Time
	var signals []unix.Signal // to come
	for {
		select {
		case w := <-words:
			if w.err == nil {
				return w.a, nil
			}
			if ctx.Err() != nil {
				return pidone.Answer{}, context.Cause(ctx)
			}
			return pidone.Answer{}, r.ended(w.err)
		case <-done:
			done = nil
			first := unix.SIGTERM
			signals = []unix.Signal{unix.SIGKILL}
			if spec.Interrupt != nil && spec.Interrupt(context.Cause(ctx)) {
				first, signals = unix.SIGINT, []unix.Signal{unix.SIGTERM, unix.SIGKILL}
			}
			_, _ = talk.Write([]byte{byte(first)}) // fails when the process ended just now
			timer = time.After(grace)
		case <-timer:
			if len(signals) == 0 {
				return pidone.Answer{}, context.Cause(ctx)
			}
			_, _ = talk.Write([]byte{byte(signals[0])})
			if signals = signals[1:]; len(signals) > 0 {
				timer = time.After(grace / 3)
			} else {
				timer = time.After(killTimeout)
			}
		case <-r.gone:
			return pidone.Answer{}, r.ended(errors.New("destroyed"))
		}
	}
}

// printable makes the room's words fit for one line of a message.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}

// streams are the standard streams of one process: pipes, so that no file of
// the host gets into the room.
type streams struct {
	attached [3]bool
	theirs   []*os.File
	stdin    io.Reader
	in       *os.File
	pumps    []*pump
}

func openStreams(spec sallyport.ExecSpec) (*streams, error) {
	s := &streams{stdin: spec.Stdin}
	if spec.Stdin != nil {
		rd, wr, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		s.in, s.theirs, s.attached[0] = wr, append(s.theirs, rd), true
	}
	for i, w := range []io.Writer{spec.Stdout, spec.Stderr} {
		if w == nil {
			continue
		}
		if i == 1 && same(spec.Stdout, spec.Stderr) {
			// One pipe keeps the order of what is written to both.
			s.theirs, s.attached[2] = append(s.theirs, s.theirs[len(s.theirs)-1]), true
			continue
		}
		rd, wr, err := os.Pipe()
		if err != nil {
			s.close()
			return nil, err
		}
		s.theirs, s.attached[i+1] = append(s.theirs, wr), true
		s.pumps = append(s.pumps, &pump{r: rd, w: w, drained: make(chan struct{})})
	}
	return s, nil
}

// same tells whether two writers are one, as far as that can be told.
func same(a, b io.Writer) (equal bool) {
	defer func() { _ = recover() }() // types that cannot be compared
	return a == b
}

// run starts passing on. The room's ends are its own from here on.
func (s *streams) run() {
	pidone.CloseAll(s.theirs)
	s.theirs = nil
	if s.in != nil {
		go func(in *os.File) {
			_, _ = io.Copy(in, s.stdin) // the process may not want all of it
			in.Close()
		}(s.in)
	}
	for _, p := range s.pumps {
		go p.run()
	}
}

// finish waits until all that the ended process wrote was passed on.
func (s *streams) finish() error {
	if s.in != nil {
		s.in.Close()
	}
	var errs []error
	for _, p := range s.pumps {
		_ = p.r.SetReadDeadline(time.Unix(1, 0)) // fails when the pipe ended by itself
		<-p.drained
		if p.err != nil {
			errs = append(errs, p.err)
		}
	}
	s.pumps = nil
	return errors.Join(errs...)
}

// close frees what never ran.
func (s *streams) close() {
	pidone.CloseAll(s.theirs)
	if s.in != nil {
		s.in.Close()
	}
	for _, p := range s.pumps {
		p.r.Close()
	}
}

// pump passes one output on.
type pump struct {
	r       *os.File
	w       io.Writer
	err     error
	drained chan struct{} // closed when w gets nothing more
}

// run copies until the pipe ends or finish sets a deadline, then what is in the
// pipe at that moment. It ends when the last process that holds the pipe does.
func (p *pump) run() {
	defer p.r.Close()
	buf := make([]byte, 32<<10)
	var err error
	for err == nil {
		var n int
		n, err = p.r.Read(buf)
		p.write(buf[:n])
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.drain(buf)
	}
	close(p.drained)
	if err := p.r.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	// A process left behind may go on writing; a full pipe would stop it.
	_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{p.r}, buf)
}

// drain passes on as many bytes as the pipe holds now.
func (p *pump) drain(buf []byte) {
	conn, err := p.r.SyscallConn()
	if err != nil {
		p.err = err
		return
	}
	err = conn.Control(func(fd uintptr) {
		left, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		for err == nil && left > 0 {
			var n int
			n, err = unix.Read(int(fd), buf[:min(left, len(buf))])
			if n <= 0 {
				break
			}
			p.write(buf[:n])
			left -= n
		}
	})
	if err != nil && p.err == nil {
		p.err = err
	}
}

// write passes bytes on until the writer fails; after that they are dropped, so
// that the process can go on.
func (p *pump) write(b []byte) {
	if len(b) == 0 || p.err != nil {
		return
	}
	if _, err := p.w.Write(b); err != nil {
		p.err = fmt.Errorf("pass on the output: %w", err)
	}
}
