package forge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"unicode"

	"github.com/sallyport-ci/sallyport"
)

const (
	// A pusher reads the answer only after it has sent everything. So what is
	// refused is still read, up to this much beyond the limit.
	maxDrain = 64 << 20
	// One line for the pusher.
	maxReason = 400
)

// receive carries out a push. The whole request is spooled first, so that a
// slow pusher holds nothing but a file.
func (g *Git) receive(w http.ResponseWriter, r *http.Request, p sallyport.ProjectID, repo string, body io.Reader,
	judge func([]sallyport.RefUpdate) error, done func([]sallyport.RefUpdate) string) {
	ctx := r.Context()
	in := bufio.NewReaderSize(body, 64<<10)
	cmds, err := readCommands(in)
	if err != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		http.Error(w, "malformed push: "+err.Error(), http.StatusBadRequest)
		return
	}
	if len(cmds.updates) == 0 && cmds.refused == nil {
		return // git asks whether it is let in before it sends a large pack
	}
	select {
	case g.pushes <- struct{}{}:
		defer func() { <-g.pushes }()
	case <-ctx.Done():
		return
	}
	pack, err := g.spool(in, cmds.deletesOnly())
	if pack != nil {
		defer pack.Close()
	}
	if err == nil && cmds.refused != nil {
		err = cmds.refused
	}
	if err != nil {
		_, _ = io.CopyN(io.Discard, in, maxDrain)
		g.refuse(w, r, cmds, err)
		return
	}
	unlock, err := g.lock(ctx, p)
	if err != nil {
		return // the pusher is gone
	}
	defer unlock()
	if err := judge(cmds.updates); err != nil {
		g.refuse(w, r, cmds, err)
		return
	}
	// From here on the push happens, whether or not the pusher waits for it.
	g.carryOut(context.WithoutCancel(ctx), w, repo, cmds, pack, done)
}

// spool writes the rest of a push to an unnamed file.
func (g *Git) spool(in io.Reader, none bool) (*os.File, error) {
	f, err := os.CreateTemp(g.temp, "push-")
	if err != nil {
		return nil, fmt.Errorf("keep push: %w", err)
	}
	_ = os.Remove(f.Name())
	if none {
		return f, nil
	}
	n, err := io.Copy(f, io.LimitReader(in, g.maxPack+1))
	if err != nil {
		return f, fmt.Errorf("keep push: %w", fullDisk(err))
	}
	if n > g.maxPack {
		return f, sallyport.Errorf(sallyport.CodeInvalid, "the push has more than %d MiB", g.maxPack>>20).
			WithHint("push the history in parts, and keep large files out of the repository")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return f, fmt.Errorf("keep push: %w", err)
	}
	return f, nil
}

// carryOut lets git do the updates and answers with its report, into which
// done's text is put.
func (g *Git) carryOut(ctx context.Context, w http.ResponseWriter, repo string, cmds commands, pack io.Reader, done func([]sallyport.RefUpdate) string) {
	before, err := g.tips(ctx, repo)
	if err != nil {
		g.refuse(w, nil, cmds, err)
		return
	}
	out := &report{w: w, cmds: cmds}
	config := append([]string{fmt.Sprintf("receive.maxInputSize=%d", g.maxPack)}, serviceConfig...)
	if head, err := headRef(repo); err != nil || cmds.touches(head) {
		// The one setting of git against rewinding goes for all refs of a push.
		config = append(config, "receive.denyNonFastForwards=true")
	}
	gitErr := g.stream(ctx, command{
		config:  config,
		args:    []string{"receive-pack", "--stateless-rpc", "--", repo},
		stdin:   io.MultiReader(bytes.NewReader(cmds.raw), pack),
		timeout: transferTimeout,
	}, out.relay)
	if gitErr != nil {
		g.log.WarnContext(ctx, "push was not carried out in full", slog.Any("err", gitErr))
	}
	after, err := g.tips(ctx, repo)
	if err != nil {
		g.log.ErrorContext(ctx, "refs after a push could not be read", slog.Any("err", err))
	} else if effected := effect(cmds.updates, before, after); len(effected) > 0 {
		out.say(done(effected))
	}
	out.finish()
}

func (c *commands) touches(ref string) bool {
	for _, u := range c.updates {
		if u.Ref == ref {
			return true
		}
	}
	return false
}

// effect returns the updates that took place, with the value that was there before.
func effect(asked []sallyport.RefUpdate, before, after map[string]string) []sallyport.RefUpdate {
	value := func(refs map[string]string, ref string) string {
		if id, ok := refs[ref]; ok {
			return id
		}
		return sallyport.ZeroCommit
	}
	var took []sallyport.RefUpdate
	for _, u := range asked {
		was, is := value(before, u.Ref), value(after, u.Ref)
		if was != is && is == u.New {
			took = append(took, sallyport.RefUpdate{Ref: u.Ref, Old: was, New: is})
		}
	}
	return took
}

// refuse answers a push that was not carried out: every ref is reported as
// rejected, with the reason. r is nil when nobody but us is to blame.
func (g *Git) refuse(w http.ResponseWriter, r *http.Request, cmds commands, err error) {
	message, hint := sallyport.ErrorMessage(err)
	if sallyport.ErrorCode(err) == sallyport.CodeInternal {
		ctx := context.Background()
		if r != nil {
			ctx = r.Context()
		}
		g.log.ErrorContext(ctx, "push failed", slog.Any("err", err))
	}
	out := &report{w: w, cmds: cmds}
	out.say(message)
	if hint != "" {
		out.say(hint)
	}
	out.reject("ok", message)
	out.finish()
}

// report is the answer to a push: git's own packets, then ours, then a flush.
type report struct {
	w        io.Writer
	cmds     commands
	reported bool // a status report was sent
	gone     bool // nobody reads on
}

// relay passes on git's answer up to, but without, its last flush. It reads to
// the end even when the pusher is gone: git must not die of a closed pipe.
func (o *report) relay(git io.Reader) error {
	in := bufio.NewReaderSize(git, maxPacket)
	ended := false
	for {
		p, err := readPacket(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("answer of receive-pack: %w", err)
		}
		if ended {
			return errors.New("answer of receive-pack: more after the end")
		}
		switch {
		case p.kind == 0:
			ended = true
		case o.sideband() > 0:
			o.reported = o.reported || len(p.data) > 0 && p.data[0] == 1
			o.send(p)
		default:
			o.reported = true
			o.send(p)
		}
	}
}

// sideband returns how much data one packet of the side band may carry, 0 when
// the pusher does not want one.
func (o *report) sideband() int {
	switch {
	case o.cmds.can("side-band-64k"):
		return maxPacket - 5
	case o.cmds.can("side-band"):
		return 1000 - 5
	}
	return 0
}

func (o *report) send(p packet) {
	if o.gone {
		return
	}
	if _, err := o.w.Write(p.append(nil)); err != nil {
		o.gone = true
		return
	}
	if w, ok := o.w.(http.ResponseWriter); ok {
		_ = http.NewResponseController(w).Flush()
	}
}

// band sends data on a band of the side band, in as many packets as it takes.
func (o *report) band(band byte, data []byte) {
	size := o.sideband()
	for size > 0 && len(data) > 0 {
		n := min(len(data), size)
		o.send(packet{kind: 4, data: append([]byte{band}, data[:n]...)})
		data = data[n:]
	}
}

// say shows text to the pusher as "remote: " lines.
func (o *report) say(text string) {
	text = strings.TrimRight(plain(text), "\n")
	if text != "" {
		o.band(2, []byte(text+"\n"))
	}
}

// reject reports every update as not done.
func (o *report) reject(unpack, reason string) {
	o.reported = true
	if !o.cmds.can("report-status") && !o.cmds.can("report-status-v2") {
		return
	}
	reason = plain(strings.Join(strings.Fields(reason), " "))
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	b := line("unpack %s\n", unpack).append(nil)
	for _, u := range o.cmds.updates {
		b = line("ng %s %s\n", u.Ref, reason).append(b)
	}
	if o.sideband() == 0 {
		if !o.gone {
			_, _ = o.w.Write(b)
		}
		return
	}
	o.band(1, flush.append(b))
}

// finish ends the answer. A pusher that got no report is told that it failed.
func (o *report) finish() {
	if !o.reported {
		o.reject("the server could not take the push", "internal error")
	}
	if o.sideband() > 0 || o.cmds.can("report-status") || o.cmds.can("report-status-v2") {
		o.send(flush)
	}
}

// plain takes out what could steer a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// headRef returns the branch that HEAD names.
func headRef(repo string) (string, error) {
	b, err := os.ReadFile(repo + "/HEAD")
	if err != nil {
		return "", fmt.Errorf("read HEAD: %w", err)
	}
	ref, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "ref: ")
	if !ok {
		return "", errors.New("HEAD names no branch")
	}
	return ref, nil
}
