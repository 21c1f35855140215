// Package tlog keeps the two transparency logs of an installation: tiled
// Merkle trees on disk (C2SP tlog-tiles, RFC 6962 hashing), whose heads are
// signed as checkpoints (C2SP tlog-checkpoint).
//
// Signatures is the public log of everything that was signed; its inclusion
// proofs go into the bundles. The audit log holds salted commitments to the
// audit trail and nothing else; Sequencer writes it, VerifyAudit checks the
// trail against it, also where no control plane runs. The logs have different
// keys and names because their readers differ.
//
// It is not the store of statements or audit records, and it trusts neither the
// database nor the disk: what it cannot reconcile it refuses to continue. The
// daemon opens it, the engine feeds it. A log directory must lie on a local
// file system and be used by one process at a time.
package tlog

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"github.com/sallyport-ci/sallyport"
)

// Config says where a log lies and who signs it.
type Config struct {
	Dir    string        // made with mode 0700 if there is none
	Origin string        // name of the log: first line of its checkpoints
	Signer crypto.Signer // Ed25519
	Log    *slog.Logger
}

// tree is an open log: the part that both logs share.
type tree struct {
	signer   note.Signer
	verifier note.Verifier
	appender *tessera.Appender
	reader   tessera.LogReader
	shutdown func(context.Context) error
	cancel   context.CancelFunc
	log      *slog.Logger
}

// openTree opens or makes a log. batch and age bound how entries are gathered
// before they are written; publish is how often its head is signed.
func openTree(ctx context.Context, cfg Config, batch uint, age, publish time.Duration) (*tree, error) {
	if cfg.Log == nil {
		return nil, errors.New("open log: Config.Log is nil")
	}
	signer, err := newNoteSigner(cfg.Origin, cfg.Signer)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	verifier, err := newNoteVerifier(cfg.Origin, signer.public)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	driver, err := posix.New(ctx, posix.Config{Path: cfg.Dir})
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(batch, age).
		WithCheckpointInterval(publish)
	// The log's goroutines live until close, not until the opening call's context ends.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	appender, shutdown, reader, err := tessera.NewAppender(run, driver, opts)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open log %s: %w", cfg.Origin, err)
	}
	t := &tree{signer: signer, verifier: verifier, appender: appender, reader: reader, shutdown: shutdown, cancel: cancel, log: cfg.Log.With("log", cfg.Origin)}
	if _, err := t.published(ctx); err != nil {
		cancel()
		return nil, err
	}
	return t, nil
}

// published returns the log's newest published checkpoint after checking that
// our own key signed it.
func (t *tree) published(ctx context.Context) (log.Checkpoint, error) {
	raw, err := t.reader.ReadCheckpoint(ctx)
	if err != nil {
		return log.Checkpoint{}, fmt.Errorf("read checkpoint: %w", err)
	}
	return openCheckpoint(raw, t.verifier)
}

// close publishes what was added, stops the log and releases it.
func (t *tree) close(ctx context.Context) error {
	err := t.shutdown(ctx)
	t.cancel()
	if err != nil {
		return fmt.Errorf("close log %s: %w", t.signer.Name(), err)
	}
	return nil
}

// openCheckpoint verifies a signed checkpoint and returns what it says.
func openCheckpoint(raw []byte, v note.Verifier) (log.Checkpoint, error) {
	n, err := note.Open(raw, note.VerifierList(v))
	if err != nil {
		return log.Checkpoint{}, sallyport.Errorf(sallyport.CodeConflict, "the checkpoint of log %s is not signed by this installation's key", v.Name()).
			WithHint("the log or the key directory was replaced: restore both from one backup")
	}
	var cp log.Checkpoint
	if rest, err := cp.Unmarshal([]byte(n.Text)); err != nil || len(rest) != 0 || cp.Origin != v.Name() || len(cp.Hash) != hashSize {
		return log.Checkpoint{}, sallyport.Errorf(sallyport.CodeConflict, "the checkpoint of log %s is malformed", v.Name())
	}
	return cp, nil
}

// unavailable tells callers that the log could not be written.
func unavailable(err error) error {
	return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the transparency log could not be written", Hint: "check the free space of the data directory's disk, then try again", Err: err}
}

// RouteLibraryLog sends what the log library reports, which it does through a
// global, to l. The daemon calls it once, before it opens a log; without it the
// library writes to standard error. What it calls information is of use to
// those who debug it alone.
func RouteLibraryLog(l *slog.Logger) { klog.SetSlogLogger(slog.New(quiet{l.Handler()})) }

// quiet turns information into debugging.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, lowered(level))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lowered(r.Level)
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }

func lowered(level slog.Level) slog.Level {
	if level < slog.LevelWarn {
		return slog.LevelDebug
	}
	return level
}
