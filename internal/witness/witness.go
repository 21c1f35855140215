// Package witness cosigns the checkpoints of transparency logs (C2SP
// tlog-witness, tlog-cosignature), asks others to do so, and reads the policy
// that says whose cosignatures are enough (C2SP tlog-policy).
//
// A Witness remembers the largest tree that it vouched for in each log and
// vouches for nothing that does not extend it: whoever holds a log's key can
// sign a second history, but cannot get it cosigned. It must run where those who
// run the log cannot reach it; on their host it proves nothing.
//
// Package daemon runs it and feeds it; package tlog judges exports by the
// policy. It knows no store and no key of the control plane.
package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// Config of a Witness; all are required.
type Config struct {
	Dir    string  // durable state; made with mode 0700 if there is none
	Key    string  // signer key as MakeKey makes it
	Policy *Policy // its logs are followed, the rest is of no concern
	Log    *slog.Logger
}

// Witness cosigns what extends what it cosigned before. It is safe for use by
// several goroutines. A second
// process is kept out of its Dir.
type Witness struct {
	signer *fnote.Signer
	logs   map[string]note.Verifier // by origin
	log    *slog.Logger

	mu    sync.Mutex // one at a time: check, write and sign are one step
	state *state
}

// New opens the state and returns a witness. A state that cannot be read is an
// error: to forget is to allow a fork.
func New(c Config) (*Witness, error) {
	if c.Policy == nil || len(c.Policy.logs) == 0 {
		return nil, errors.New("witness: no log to follow")
	}
	if c.Log == nil {
		return nil, errors.New("witness: Config.Log is nil")
	}
	signer, err := fnote.NewSignerForCosignatureV1(c.Key)
	if err != nil {
		return nil, fmt.Errorf("witness: signer key: %w", err)
	}
	w := &Witness{signer: signer, logs: map[string]note.Verifier{}, log: c.Log}
	for _, v := range c.Policy.logs {
		w.logs[v.Name()] = v
	}
	if w.state, err = openState(c.Dir); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	for origin := range w.logs {
		if _, err := w.state.load(origin); err != nil {
			return nil, errors.Join(fmt.Errorf("witness: state of log %s: %w", origin, err), w.state.close())
		}
	}
	return w, nil
}

// Close releases the state.
func (w *Witness) Close() error { return w.state.close() }

// Reasons why a witness does not cosign.
var (
	errMalformed   = errors.New("malformed request")
	errUnknownLog  = errors.New("this log is not followed here")
	errUnsigned    = errors.New("the log's key did not sign the checkpoint")
	errNoExtension = errors.New("the consistency proof does not hold: the checkpoint does not extend what was cosigned before")
)

// conflictError says that the request does not start at the tree that was
// cosigned last, or that it is another tree of the same size.
type conflictError struct{ size uint64 }

func (e *conflictError) Error() string {
	return fmt.Sprintf("the tree that was cosigned last has %d entries, and this one is not it", e.size)
}

// Add answers an add-checkpoint request with a line of cosignature. What it
// vouched for is on the disk before it returns.
func (w *Witness) Add(ctx context.Context, body []byte) ([]byte, error) {
	req, err := parseRequest(body)
	if err != nil {
		return nil, err
	}
	verifier := w.logs[origin(req.checkpoint)]
	if verifier == nil {
		return nil, errUnknownLog
	}
	next, err := openCheckpoint(req.checkpoint, verifier)
	if err != nil {
		return nil, err
	}
	if req.old > next.Size {
		return nil, fmt.Errorf("%w: the old tree is larger than the new one", errMalformed)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last, err := w.state.load(verifier.Name())
	if err != nil {
		return nil, err
	}
	if err := extends(last, next, req); err != nil {
		w.log.WarnContext(ctx, "a checkpoint was refused", "log", verifier.Name(), "cosigned", last.size, "size", next.Size, "reason", err)
		return nil, err
	}
	if next.Size > last.size || !last.known {
		if err := w.state.save(verifier.Name(), seen{known: true, size: next.Size, root: next.Hash}); err != nil {
			return nil, err
		}
	}
	signed, err := note.Sign(&note.Note{Text: next.text}, w.signer)
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	return signed[len(next.text)+1:], nil // after the empty line
}

// extends reports why next is not a continuation of last.
func extends(last seen, next checkpoint, req request) error {
	if req.old != last.size {
		return &conflictError{last.size}
	}
	switch {
	case next.Size == 0 && !bytes.Equal(next.Hash, rfc6962.DefaultHasher.EmptyRoot()):
		return fmt.Errorf("%w: an empty tree has another root", errMalformed)
	case last.size == 0 || next.Size == last.size:
		if len(req.proof) > 0 {
			return fmt.Errorf("%w: nothing is to be proven here", errMalformed)
		}
		if last.size > 0 && !bytes.Equal(last.root, next.Hash) {
			return &conflictError{last.size}
		}
		return nil
	}
	if proof.VerifyConsistency(rfc6962.DefaultHasher, last.size, next.Size, req.proof, last.root, next.Hash) != nil {
		return errNoExtension
	}
	return nil
}
