package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/tlog"
	"github.com/sallyport-ci/sallyport/internal/witness"
)

const (
	// feedPause is what somebody with the log's key can rewrite unseen, so it is short.
	feedPause = 15 * time.Second
	// feedTimeout bounds one request to one witness.
	feedTimeout = 10 * time.Second
	// unwitnessedAlarm is how long new entries may go without cosignatures.
	unwitnessedAlarm = 5 * time.Minute
)

func witnessedFile(data string) string { return filepath.Join(data, "auditlog.witnessed") }

// feed has witnesses cosign the audit log's checkpoints and keeps the newest
// cosigned one. What it fails to do keeps nothing waiting; it is an alarm.
type feed struct {
	dir    string // of the log
	file   string // of the cosigned checkpoint
	policy *witness.Policy
	client *http.Client
	log    *slog.Logger
	now    func() time.Time

	known map[string]uint64 // size that a witness is believed to know; run's

	mu      sync.Mutex
	last    witness.Witnessed
	waiting time.Time // since when the head is not cosigned; zero when it is
	reason  string    // of the last failure
	forked  string    // that a witness knows another history; stays
}

// newFeed reads the policy, which must name this installation's log, and what was
// cosigned before.
func newFeed(data, policyFile string, log *slog.Logger) (*feed, error) {
	policy, err := readPolicy(policyFile)
	if err != nil {
		return nil, err
	}
	vkey, err := AuditKey(data)
	if err != nil {
		return nil, err
	}
	if len(policy.Peers()) == 0 || policy.Unwitnessed() {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the witness policy asks nobody").WithHint("give witnesses with their addresses: witness NAME VKEY URL, and a quorum of them")
	}
	name, _, _ := strings.Cut(vkey, "+")
	if policy.Log(name) == nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the witness policy does not name this audit log").WithHint("add the line: log %s", vkey)
	}
	f := &feed{dir: auditDir(data), file: witnessedFile(data), policy: policy, log: log, now: time.Now, known: map[string]uint64{},
		client: &http.Client{Timeout: feedTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	raw, err := os.ReadFile(f.file)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if w, err := policy.Check(raw); err == nil && w.Enough {
			f.last = w
		}
	}
	return f, nil
}

// run feeds until ctx ends.
func (f *feed) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := f.step(ctx); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "audit log was not witnessed and will be tried again", "error", err)
		}
		waitFor(ctx.Done(), feedPause)
	}
}

// step has the newest checkpoint cosigned. An idle log is cosigned anew too: the
// time in the cosignatures says that nothing was held back.
func (f *feed) step(ctx context.Context) error {
	signed, size, err := tlog.Checkpoint(f.dir)
	if err != nil {
		return f.failed(size, err)
	}
	type answer struct {
		peer witness.Peer
		line []byte
		err  error
	}
	peers := f.policy.Peers()
	answers := make(chan answer, len(peers))
	for _, p := range peers {
		from := f.known[p.Name]
		go func() {
			line, err := witness.Ask(ctx, f.client, p, signed, size, from, tlog.Prover(f.dir))
			answers <- answer{p, line, err}
		}()
	}
	cosigned := bytes.Clone(signed)
	var failures []error
	for range peers {
		a := <-answers
		if a.err != nil {
			failures = append(failures, a.err)
			continue
		}
		f.known[a.peer.Name] = size
		cosigned = append(cosigned, a.line...)
	}
	w, err := f.policy.Check(cosigned)
	if err != nil {
		return f.failed(size, errors.Join(append(failures, err)...))
	}
	for _, err := range failures {
		if errors.Is(err, witness.ErrFork) {
			f.fork(err)
		}
	}
	if !w.Enough {
		return f.failed(size, errors.Join(failures...))
	}
	if err := writeFile(f.file, cosigned); err != nil {
		return f.failed(size, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.waiting, f.reason = w, time.Time{}, ""
	return nil
}

func (f *feed) failed(size uint64, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reason = strings.ReplaceAll(err.Error(), "\n", "; ")
	if f.waiting.IsZero() && (size != f.last.Size || size == 0) {
		f.waiting = f.now()
	}
	return err
}

func (f *feed) fork(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forked = err.Error()
}

// status returns when the newest cosigned checkpoint was cosigned, and what is to
// be alarmed about.
func (f *feed) status() (at time.Time, alarm string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.forked != "":
		return f.last.At, f.forked + ": the log was rewritten or an older one was restored"
	case !f.waiting.IsZero() && f.now().Sub(f.waiting) >= unwitnessedAlarm:
		return f.last.At, fmt.Sprintf("for %s: %.300s", f.now().Sub(f.waiting).Round(time.Minute), f.reason)
	}
	return f.last.At, ""
}
