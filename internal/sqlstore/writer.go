package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// batchTurns and batchTime bound what one commit makes durable, and so how
	// long the first waits for the last.
	batchTurns = 256
	batchTime  = 5 * time.Millisecond
	// batchLimit ends a batch whose database does not answer.
	batchLimit = 30 * time.Second
	// outcomeLimit bounds the search for the outcome of an unanswered commit.
	outcomeLimit = 10 * time.Second
	outcomePause = 200 * time.Millisecond
)

const (
	savepoint   = "SAVEPOINT turn"
	release     = "RELEASE SAVEPOINT turn"
	undo        = "ROLLBACK TO SAVEPOINT turn" // it can be rolled back to again
	dataVersion = "PRAGMA data_version"        // changes when another connection commits
)

// turn is one call of Update that waits for the writer.
//
// The writer hands the transaction over; the caller runs its function in its own
// goroutine, so that its panics are its own, gives it back, and learns the
// fate of the commit.
type turn struct {
	ctx   context.Context
	alone bool // in a batch of its own
	hand  chan *tx
	back  chan bool // keep what was done?
	fate  chan error
}

// errAgain is the fate of a turn whose batch came to nothing because of another
// turn, or perhaps so: run alone it gets an answer that is its own.
var errAgain = errors.New("run again, alone")

// Update runs f in a serialisable transaction and returns when it is durable.
// When ctx ends, the next statement of f fails, and so does the transaction; a
// commit is waited for all the same, as its outcome has to be known.
func (s *Store) Update(ctx context.Context, f func(sallyport.Tx) error) error {
	for alone := false; ; alone = true {
		if err := s.takeTurn(ctx, alone, f); !errors.Is(err, errAgain) {
			return err
		}
	}
}

func (s *Store) takeTurn(ctx context.Context, alone bool, f func(sallyport.Tx) error) error {
	r := &turn{ctx: ctx, alone: alone, hand: make(chan *tx), back: make(chan bool), fate: make(chan error, 1)}
	select {
	case s.queue <- r:
	case <-ctx.Done():
		return fmt.Errorf("update: %w", ctx.Err())
	case <-s.stopped:
		return errClosed()
	}
	var t *tx
	select {
	case t = <-r.hand:
	case err := <-r.fate: // no transaction could be opened
		return err
	case <-ctx.Done():
		return fmt.Errorf("update: %w", ctx.Err())
	}
	err := func() (err error) {
		keep := false
		defer func() { r.back <- keep }() // also when f panics
		err = runTx(t, f)
		keep = err == nil
		return err
	}()
	// The fate matters to a failed turn too: it may have failed because of
	// what others did before it in the batch.
	if fate := <-r.fate; fate != nil {
		return fate
	}
	return err
}

// runTx runs f and returns its error, or the first failure of a statement
// that f has swallowed: what it has done is then not what it meant to do.
func runTx(t *tx, f func(sallyport.Tx) error) error {
	defer func() { t.over = true }()
	if err := f(t); err != nil {
		return err
	}
	return t.err
}

// writer gives the turns, until ctx ends.
func (s *Store) writer(ctx context.Context) {
	w := &writer{s: s}
	defer w.drop()
	var tick <-chan time.Time
	if s.poll > 0 {
		ticker := time.NewTicker(s.poll)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		if next := w.next; next != nil {
			w.next = nil
			w.batch(ctx, next)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
			w.look(ctx)
		case r := <-s.queue:
			w.batch(ctx, r)
		}
	}
}

// writer owns the one connection that writes.
type writer struct {
	s    *Store
	conn *session // nil: to be opened
	seen string   // SQLite: the data version when we last looked
	mark savemark // of the open transaction
	next *turn    // taken from the queue, to be the first of the next batch
}

// savemark is how the savepoint of the open transaction stands.
type savemark int

const (
	markNone  savemark = iota
	markFresh          // nothing was done since
	markUsed           // it holds what the last turn did, to be kept
)

// save makes a savepoint for the next turn.
func (w *writer) save(ctx context.Context) (err error) {
	switch {
	case w.mark == markFresh:
		return nil
	case w.mark == markUsed && !w.s.d.embedded: // both in one round trip
		_, err = w.conn.exec(ctx, release+"; "+savepoint)
	default:
		if w.mark == markUsed {
			if _, err := w.conn.exec(ctx, release); err != nil {
				return err
			}
		}
		_, err = w.conn.exec(ctx, savepoint)
	}
	if err == nil {
		w.mark = markFresh
	}
	return err
}

func (w *writer) drop() {
	if w.conn != nil {
		w.conn.discard()
		w.conn = nil
	}
}

func (w *writer) open(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	c, err := w.s.write.Conn(ctx)
	if err != nil {
		return err
	}
	w.conn = newSession(c, w.s.d)
	w.seen = "" // data versions of two connections cannot be compared
	return nil
}

func (w *writer) begin(ctx context.Context) error {
	w.mark = markNone
	for again := false; ; again = true {
		err := w.open(ctx)
		if err == nil {
			if _, err = w.conn.exec(ctx, w.s.d.begin); err == nil {
				return nil
			}
			w.drop()
		}
		// An idle connection may have been lost long ago: a second one tells.
		if again || !w.s.d.classify(err).ends() {
			return err
		}
	}
}

// batch runs the first turn and those that wait meanwhile in one transaction,
// and tells all of them how it ended.
func (w *writer) batch(ctx context.Context, first *turn) {
	ctx = context.WithoutCancel(ctx) // what has begun is ended
	if !w.s.d.embedded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, batchLimit)
		defer cancel()
	}
	if err := w.begin(ctx); err != nil {
		first.fate <- w.s.fail(err)
		return
	}
	opened := time.Now()
	var done []*turn
	topics := make(map[string]struct{})
	for r := first; r != nil; r = w.more(first, len(done), opened) {
		joined, err := w.give(ctx, r, topics)
		if joined {
			done = append(done, r)
		}
		if err != nil {
			w.abandon(ctx)
			w.answer(done, err)
			return
		}
	}
	err := w.commit(ctx, topics)
	if err == nil {
		for topic := range topics {
			w.s.watchers.signal(topic)
		}
	}
	w.answer(done, err)
}

// more returns a turn that joins the batch, if one waits and there is room.
func (w *writer) more(first *turn, n int, opened time.Time) *turn {
	if first.alone || n >= batchTurns || time.Since(opened) > batchTime {
		return nil
	}
	select {
	case r := <-w.s.queue:
		if r.alone {
			w.next = r
			return nil
		}
		return r
	default:
		return nil
	}
}

// give lets one turn run in its savepoint. joined says whether it is to be told
// the fate of the batch; an error is the end of the batch.
func (w *writer) give(ctx context.Context, r *turn, topics map[string]struct{}) (joined bool, err error) {
	if err := w.save(ctx); err != nil {
		return true, err
	}
	t := &tx{ctx: r.ctx, quiet: ctx, d: w.s.d, s: w.conn, write: true}
	select {
	case r.hand <- t:
	case <-r.ctx.Done():
		return false, nil
	}
	keep := <-r.back
	if t.ended != nil {
		return true, t.ended
	}
	if !keep {
		_, err := w.conn.exec(ctx, undo)
		return true, err
	}
	w.mark = markUsed
	for _, topic := range t.topics {
		topics[topic] = struct{}{}
	}
	return true, nil
}

// commit makes the batch durable.
func (w *writer) commit(ctx context.Context, topics map[string]struct{}) error {
	var xid string
	if w.s.listen != nil { // other processes are to hear of it, and the answer may be lost on its way
		var err error
		if xid, err = w.s.announce(ctx, w.conn, topics); err != nil {
			w.abandon(ctx)
			return err
		}
	}
	_, err := w.conn.exec(ctx, commit)
	if err == nil {
		return nil
	}
	w.abandon(ctx)
	if xid == "" || !w.s.d.classify(err).ends() {
		return err
	}
	return w.unanswered(xid, err)
}

// unanswered asks for the outcome of a commit whose answer was lost. When that
// cannot be found out either, the turns get an error that says so: they must not run again.
func (w *writer) unanswered(xid string, lost error) error {
	ctx, cancel := context.WithTimeout(context.Background(), outcomeLimit)
	defer cancel()
	for {
		committed, err := w.s.outcome(ctx, xid)
		switch {
		case err == nil && committed:
			return nil
		case err == nil:
			return lost
		}
		select {
		case <-ctx.Done():
			return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the database was lost while it made a change; whether it did is unknown",
				Hint: "look at the present state before trying again", Err: errors.Join(errUnknown, lost)}
		case <-time.After(outcomePause):
		}
	}
}

var errUnknown = errors.New("outcome unknown")

// abandon ends the transaction, with its connection if need be.
func (w *writer) abandon(ctx context.Context) {
	if _, err := w.conn.exec(ctx, rollback); err != nil {
		// The engine may have rolled back already; a new connection is clean in any case.
		w.drop()
	}
}

// answer tells the turns of a batch how it ended. One that ran alone gets the
// error itself; of several, each is to run again, as only one need be at fault.
func (w *writer) answer(done []*turn, err error) {
	fate := err
	if err != nil && !errors.Is(err, errUnknown) {
		fate = w.s.fail(err)
		if len(done) > 1 {
			fate = errAgain
		}
	}
	for _, r := range done {
		r.fate <- fate
	}
}

// look wakes every watcher when another process has committed since the last look.
func (w *writer) look(ctx context.Context) {
	if err := w.open(ctx); err != nil {
		return // the next write will tell
	}
	v, err := w.conn.text(ctx, dataVersion)
	if err != nil {
		w.drop()
		return
	}
	if w.seen != "" && v != w.seen {
		w.s.watchers.signalAll()
	}
	w.seen = v
}
