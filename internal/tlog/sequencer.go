package tlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/sallyport-ci/sallyport"
)

const (
	// Entries are written one at a time, in order, so nothing is gained by
	// gathering them: a chunk is as large as what came in meanwhile.
	auditBatch    = 1
	auditBatchAge = time.Millisecond
	// A record counts as logged when a published checkpoint covers it; a lone
	// record is published at once, a stream of them once a second.
	auditPublish = time.Second
	publishPoll  = 20 * time.Millisecond
	// idlePoll catches a lost wake-up.
	idlePoll = 5 * time.Second
	// retryPause is the time between attempts while database or disk fail.
	retryPause = time.Second
)

// Source is the audit trail in the database, as the engine lends it. Errors
// other than CodeNotFound are tried again.
type Source interface {
	// Range returns up to limit records with Seq >= from, by Seq.
	Range(ctx context.Context, from int64, limit int) ([]sallyport.AuditRecord, error)
	// Unlogged returns up to limit records without a LogIndex, by Seq.
	Unlogged(ctx context.Context, limit int) ([]sallyport.AuditRecord, error)
	// SetLogged records that entry index of the log commits to the records from..to.
	SetLogged(ctx context.Context, from, to, index int64) error
	// Count returns the number of records and how many are logged.
	Count(ctx context.Context) (records, logged int64, err error)
}

// Sequencer brings the audit trail into the audit log, in order and without
// gaps. At any time at most one entry is on its way, so that entries lie in the
// log as the records in the trail; everything about a crash follows from that:
// what the log holds beyond the database's marks is compared with the database
// and marked, and only what follows is added.
//
// When the two disagree (a record was edited, or the database is older than
// the log) it halts for good: going on would cover it up.
type Sequencer struct {
	*tree
	source Source
	wake   chan struct{}

	mu     sync.Mutex
	status sallyport.AuditHealth
	halted error

	// Owned by Run.
	next    int64     // first record that is not in the log
	size    int64     // entries of the log
	pending []logMark // entries that no published checkpoint covers yet
}

// logMark is an entry that waits to be marked in the database.
type logMark struct{ from, to, index int64 }

// OpenSequencer opens or makes the audit log. Run starts it, Close releases the
// log.
func OpenSequencer(ctx context.Context, cfg Config, source Source) (*Sequencer, error) {
	t, err := openTree(ctx, cfg, auditBatch, auditBatchAge, auditPublish)
	if err != nil {
		return nil, err
	}
	return &Sequencer{tree: t, source: source, wake: make(chan struct{}, 1)}, nil
}

// Wake says that there may be new records. It never blocks; wake-ups coalesce.
func (s *Sequencer) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Status returns how far the log is behind the trail, and why sequencing
// stopped if it did.
func (s *Sequencer) Status() sallyport.AuditHealth {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Close publishes the log's head and releases the log. Run must have returned.
func (s *Sequencer) Close(ctx context.Context) error { return s.close(ctx) }

// Run sequences until ctx ends, which is no error, or until the trail and the
// log disagree, which is one of CodeConflict that every later Run returns
// again. Failures of database and disk are tried again. It must not run twice
// at a time.
func (s *Sequencer) Run(ctx context.Context) error {
	for {
		s.mu.Lock()
		halted := s.halted
		s.mu.Unlock()
		if halted != nil {
			return halted
		}
		err := s.recover(ctx)
		for err == nil {
			err = s.step(ctx)
		}
		var h *haltError
		switch {
		case errors.As(err, &h):
			s.halt(ctx, h)
		case ctx.Err() != nil:
			return nil
		default:
			s.log.WarnContext(ctx, "audit sequencing failed and will be tried again", "error", err)
			pause(ctx, retryPause, nil)
		}
	}
}

// haltError says that trail and log disagree.
type haltError struct{ reason string }

func (e *haltError) Error() string { return e.reason }

func disagree(format string, args ...any) error {
	return &haltError{fmt.Sprintf(format, args...)}
}

// Halt stops sequencing for good: somebody who compared more than Run does found
// that trail and log disagree. Every later Run returns that; one in progress does not end.
func (s *Sequencer) Halt(ctx context.Context, reason string) { s.halt(ctx, &haltError{reason}) }

func (s *Sequencer) halt(ctx context.Context, h *haltError) {
	s.log.ErrorContext(ctx, "audit sequencing halted", "reason", h.reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Halted = h.reason
	s.halted = sallyport.Errorf(sallyport.CodeConflict, "the audit trail and its log disagree: %s", h.reason).
		WithHint("run `sallyport audit verify`; restore database and logs from one backup, or keep both as evidence")
}

// step adds one chunk if there is one, marks what has been published, and
// otherwise waits.
func (s *Sequencer) step(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.mark(ctx); err != nil {
		return err
	}
	records, err := s.source.Range(ctx, s.next, maxChunk)
	if err != nil {
		return fmt.Errorf("read audit records: %w", err)
	}
	if err := s.report(ctx, len(records)); err != nil {
		return err
	}
	switch {
	case len(records) > 0:
		return s.add(ctx, records)
	case len(s.pending) > 0:
		pause(ctx, publishPoll, s.wake)
	default:
		pause(ctx, idlePoll, s.wake)
	}
	return nil
}

// add appends one chunk and waits until it is durable.
func (s *Sequencer) add(ctx context.Context, records []sallyport.AuditRecord) error {
	for i, r := range records {
		if want := s.next + int64(i); r.Seq != want {
			return disagree("record %d is missing from the database", want)
		}
		if r.LogIndex >= 0 {
			return disagree("record %d is marked as logged, but the log does not hold it", r.Seq)
		}
	}
	c := newChunk(records)
	index, err := s.appender.Add(ctx, tessera.NewEntry(c.encode()))()
	if err != nil {
		return fmt.Errorf("append to audit log: %w", err)
	}
	if int64(index.Index) != s.size {
		return disagree("an entry became %d instead of %d: something else writes to the log", index.Index, s.size)
	}
	s.pending = append(s.pending, logMark{from: c.from, to: c.to, index: s.size})
	s.next, s.size = c.to+1, s.size+1
	return nil
}

// mark records in the database the entries that a published checkpoint covers.
func (s *Sequencer) mark(ctx context.Context) error {
	if len(s.pending) == 0 {
		return nil
	}
	head, err := s.published(ctx)
	if sallyport.ErrorCode(err) == sallyport.CodeConflict {
		return disagree("%v", err)
	}
	if err != nil {
		return err
	}
	for len(s.pending) > 0 && uint64(s.pending[0].index) < head.Size {
		p := s.pending[0]
		if err := s.source.SetLogged(ctx, p.from, p.to, p.index); err != nil {
			return fmt.Errorf("mark records as logged: %w", err)
		}
		s.pending = s.pending[1:]
	}
	return nil
}

// report updates the status; unread is how many records were just read, and all
// of them unless it is a full chunk.
func (s *Sequencer) report(ctx context.Context, unread int) error {
	records := s.next + int64(unread)
	if unread == maxChunk {
		var err error
		if records, _, err = s.source.Count(ctx); err != nil {
			return fmt.Errorf("count audit records: %w", err)
		}
	}
	logged := s.next
	if len(s.pending) > 0 {
		logged = s.pending[0].from
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Records, s.status.Logged = records, logged
	return nil
}

// pause waits for d, for a signal, or for the end of ctx.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}
