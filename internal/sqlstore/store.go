package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Config says which database to open.
type Config struct {
	DSN   string           // "sqlite:PATH" or "postgres://…"
	Clock func() time.Time // names backups; nil is time.Now
	Log   *slog.Logger     // nil is silence
	// Volatile writes without waiting for the disk: the database ends with the process, or is worth nothing after a
	// crash. SQLite only.
	Volatile bool
	// Existing refuses to make a database or to migrate one, for those who only look.
	Existing bool
}

// Store is a sallyport.Store. Several processes may open one PostgreSQL
// database, and one SQLite file on one machine.
type Store struct {
	d     *dialect
	clock func() time.Time
	log   *slog.Logger
	asIs  bool   // Config.Existing
	name  string // of this process towards others; random
	file  string // SQLite only

	write, read *sql.DB
	readers     chan *session             // SQLite: the idle readers
	listen      func(ctx context.Context) // PostgreSQL: hears other processes
	poll        time.Duration             // SQLite: how often to look for other processes' commits; 0 never

	watchers *watchers
	queue    chan *turn
	stop     context.CancelFunc
	stopped  <-chan struct{} // closed when Close begins
	running  sync.WaitGroup
	views    sync.RWMutex // held for reading by each View
	closing  sync.Once
	closed   error
}

var _ sallyport.Store = (*Store)(nil)

// Open opens the database and brings it to the present version; an older SQLite
// file is copied beside itself before. It answers CodeInvalid for a database that
// is not ours, CodeConflict for one of a newer version, CodeUnavailable when it
// cannot be reached, and with cfg.Existing CodeNotFound for none and CodeConflict for an older one.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	var s *Store
	var err error
	file, isSQLite := strings.CutPrefix(cfg.DSN, "sqlite:")
	switch {
	case isSQLite && cfg.Existing && !exists(file):
		err = noDatabase()
	case isSQLite:
		s, err = openSQLite(ctx, file, cfg)
	case strings.HasPrefix(cfg.DSN, "postgres://"), strings.HasPrefix(cfg.DSN, "postgresql://"):
		s, err = openPostgres(ctx, cfg)
	default:
		err = sallyport.Errorf(sallyport.CodeInvalid, "the database address is of no known kind").
			WithHint("write sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	if err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.stopped = stop, background.Done()
	s.running.Go(func() { s.writer(background) })
	if s.listen != nil {
		s.running.Go(func() { s.listen(background) })
	}
	return s, nil
}

func exists(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}

func noDatabase() error {
	return sallyport.Errorf(sallyport.CodeNotFound, "the database is missing").WithHint("restore it from your backup")
}

func newStore(d *dialect, cfg Config) *Store {
	s := &Store{d: d, clock: cfg.Clock, log: cfg.Log, asIs: cfg.Existing, name: newToken(), watchers: newWatchers(), queue: make(chan *turn)}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// View runs f in a read-only snapshot.
func (s *Store) View(ctx context.Context, f func(sallyport.Tx) error) error {
	s.views.RLock()
	defer s.views.RUnlock()
	select {
	case <-s.stopped:
		return errClosed()
	default:
	}
	if s.readers != nil {
		return s.viewSQLite(ctx, f)
	}
	t, err := s.read.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return s.failView(ctx, err)
	}
	defer t.Rollback() // of no effect on a snapshot but to end it
	return runTx(&tx{ctx: ctx, quiet: ctx, d: s.d, s: &session{conn: t}}, f)
}

const (
	beginView = "BEGIN"
	commit    = "COMMIT"
	rollback  = "ROLLBACK"
)

func (s *Store) viewSQLite(ctx context.Context, f func(sallyport.Tx) error) error {
	var r *session
	select {
	case r = <-s.readers:
	case <-ctx.Done():
		return fmt.Errorf("view: %w", ctx.Err())
	}
	// Statements are short and not interrupted; ctx is looked at between them.
	quiet := context.WithoutCancel(ctx)
	defer func() { s.readers <- r }()
	if _, err := r.exec(quiet, beginView); err != nil {
		return s.failView(ctx, err)
	}
	defer func() {
		if _, err := r.exec(quiet, rollback); err != nil {
			s.log.WarnContext(ctx, "ending a snapshot was refused", "err", err)
		}
	}()
	return runTx(&tx{ctx: ctx, quiet: quiet, d: s.d, s: r}, f)
}

// Watch returns a channel that gets a value after transactions that touched the topic.
func (s *Store) Watch(topic string) (signal <-chan struct{}, stop func()) {
	return s.watchers.watch(topic)
}

// Backup writes a consistent copy of an SQLite database to a new file.
func (s *Store) Backup(ctx context.Context, file string) error {
	if s.file == "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "this database is not backed up by Sallyport").WithHint("use pg_dump")
	}
	return s.backupSQLite(ctx, file)
}

// Close lets the transactions that have begun end, refuses new ones, and
// closes the database. It may be called more than once.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.stop()
		s.running.Wait()
		s.views.Lock()
		defer s.views.Unlock()
		for range cap(s.readers) {
			r := <-s.readers
			s.closed = errors.Join(s.closed, r.close())
		}
		s.closed = errors.Join(s.closed, s.read.Close(), s.write.Close())
	})
	return s.closed
}

func errClosed() error {
	return sallyport.Errorf(sallyport.CodeUnavailable, "the store is closed").WithHint("try again when Sallyport is up")
}

// fail turns a driver's error into one with a code.
func (s *Store) fail(err error) error { return s.d.classify(err).explain(err) }

func (s *Store) failView(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("view: %w", ctx.Err())
	}
	if errors.Is(err, sql.ErrTxDone) {
		return errClosed()
	}
	return s.fail(err)
}
