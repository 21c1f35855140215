package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/sallyport-ci/sallyport"
)

const (
	// postgresReaders bounds the snapshots open at once: a server's
	// connections are shared with others.
	postgresReaders = 8
	// postgresIdle ends a transaction whose client stands still, so that it does
	// not keep the writers of other processes out.
	postgresIdle = "60s"
	// postgresChannel carries topics between processes.
	postgresChannel = "sallyport"
	// postgresPayload bounds one notification (the server's limit is 8000 bytes).
	postgresPayload = 7500
	// postgresRedial is the pause before the listener connects again.
	postgresRedial = time.Second
)

var postgresDialect = &dialect{
	name:          "postgres",
	goose:         goose.DialectPostgres,
	begin:         "BEGIN ISOLATION LEVEL READ COMMITTED; " + postgresTurn,
	tables:        "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()",
	claimLabelled: workClaim("work.labels::jsonb <@ $3::jsonb"),
	claimAny:      workClaim(workAnyLabels),
	classify:      classifyPostgres,
}

const (
	// postgresTurn waits until no other process writes, and keeps them out until the transaction ends.
	postgresTurn     = "SELECT pg_advisory_xact_lock('audit'::regclass::oid::bigint)"
	postgresDurable  = "SHOW synchronous_commit"
	postgresLock     = "SELECT pg_advisory_lock(7307772107405092207)" // any constant: "sallypor"
	postgresUnlock   = "SELECT pg_advisory_unlock(7307772107405092207)"
	postgresListen   = "LISTEN " + postgresChannel
	postgresXID      = "SELECT COALESCE(pg_current_xact_id_if_assigned()::text, '')"
	postgresNotify   = postgresXID + " || pg_notify('" + postgresChannel + "', $1)::text" // a notification's result is ""
	postgresXIDState = "SELECT COALESCE(pg_xact_status($1::text::xid8), '')"
)

func openPostgres(ctx context.Context, cfg Config) (*Store, error) {
	conf, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		// The parser's error repeats the address without its password.
		return nil, &sallyport.Error{Code: sallyport.CodeInvalid, Message: "the database address cannot be read",
			Hint: "write postgres://USER:PASSWORD@HOST:PORT/DATABASE", Err: err}
	}
	conf.RuntimeParams["application_name"] = "sallyport"
	conf.RuntimeParams["idle_in_transaction_session_timeout"] = postgresIdle
	s := newStore(postgresDialect, cfg)
	s.write = openPostgresPool(conf, 2) // the writer, and one to ask about it
	s.read = openPostgresPool(conf, postgresReaders)
	if err := s.preparePostgres(ctx); err != nil {
		return nil, errors.Join(err, s.write.Close(), s.read.Close())
	}
	conn, err := dialListener(ctx, conf)
	if err != nil {
		return nil, errors.Join(s.fail(err), s.write.Close(), s.read.Close())
	}
	s.listen = func(ctx context.Context) { s.listenPostgres(ctx, conf, conn) }
	return s, nil
}

func openPostgresPool(conf *pgx.ConnConfig, size int) *sql.DB {
	db := stdlib.OpenDB(*conf)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db
}

func (s *Store) preparePostgres(ctx context.Context) error {
	var durable string
	if err := s.write.QueryRowContext(ctx, postgresDurable).Scan(&durable); err != nil {
		return s.fail(err)
	}
	if durable == "off" {
		return sallyport.Errorf(sallyport.CodeInvalid, "the database acknowledges what is not on disk (synchronous_commit is off)").
			WithHint("ALTER ROLE … SET synchronous_commit = on")
	}
	lock, err := s.write.Conn(ctx)
	if err != nil {
		return s.fail(err)
	}
	defer lock.Close()
	if _, err := lock.ExecContext(ctx, postgresLock); err != nil {
		return s.fail(err)
	}
	if err := s.migrate(ctx); err != nil {
		return errors.Join(err, s.unlockPostgres(lock))
	}
	return s.unlockPostgres(lock)
}

func (s *Store) unlockPostgres(c *sql.Conn) error {
	if _, err := c.ExecContext(context.Background(), postgresUnlock); err != nil {
		return s.fail(err)
	}
	return nil
}

func classifyPostgres(err error) fault {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch {
		case e.Code == "23505":
			return faultDuplicate
		case e.Code == "23503":
			return faultReference
		case e.Code == "22021" || e.Code == "22P05": // not in the repertoire; untranslatable character
			return faultText
		case e.Code == "53100":
			return faultFull
		// Connection, resources, operator intervention, I/O; serialization failure,
		// deadlock, lock not available, idle transaction ended, read-only server.
		case strings.HasPrefix(e.Code, "08"), strings.HasPrefix(e.Code, "53"), strings.HasPrefix(e.Code, "57"), strings.HasPrefix(e.Code, "58"),
			e.Code == "40001", e.Code == "40P01", e.Code == "55P03", e.Code == "25P03", e.Code == "25006":
			return faultLost
		}
		return faultOther
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, context.DeadlineExceeded) ||
		pgconn.SafeToRetry(err) {
		return faultLost
	}
	return faultOther
}

// announce tells other processes, when the open transaction commits, that the
// topics were touched. A payload is our own name and topics, a line each. It returns the
// transaction's id, "" when nothing was written.
func (s *Store) announce(ctx context.Context, w *session, topics map[string]struct{}) (xid string, err error) {
	if len(topics) == 0 {
		return w.text(ctx, postgresXID)
	}
	payload := s.name
	for topic := range topics {
		if len(payload)+len(topic)+1 > postgresPayload {
			if _, err := w.text(ctx, postgresNotify, payload); err != nil {
				return "", err
			}
			payload = s.name
		}
		payload += "\n" + topic
	}
	return w.text(ctx, postgresNotify, payload)
}

// dialListener opens the connection on which other processes are heard.
func dialListener(ctx context.Context, conf *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, postgresListen); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// listenPostgres passes on what other processes touched, until ctx ends. After a
// lost connection every watcher is woken, as anything may have been missed.
func (s *Store) listenPostgres(ctx context.Context, conf *pgx.ConnConfig, conn *pgx.Conn) {
	for {
		err := s.hear(ctx, conn)
		_ = conn.Close(context.WithoutCancel(ctx)) // it is of no use any more
		for err != nil {
			if ctx.Err() != nil {
				return
			}
			s.log.WarnContext(ctx, "listening for changes was interrupted", "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(postgresRedial):
			}
			conn, err = dialListener(ctx, conf)
		}
		s.watchers.signalAll()
	}
}

func (s *Store) hear(ctx context.Context, conn *pgx.Conn) error {
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		from, topics, _ := strings.Cut(n.Payload, "\n")
		if from == s.name {
			continue
		}
		for topic := range strings.SplitSeq(topics, "\n") {
			s.watchers.signal(topic)
		}
	}
}

// outcome finds out whether the transaction xid, whose commit was not
// answered, has committed. It is our turn only when that has ended.
func (s *Store) outcome(ctx context.Context, xid string) (committed bool, err error) {
	t, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer t.Rollback()
	if _, err := t.ExecContext(ctx, postgresTurn); err != nil {
		return false, err
	}
	var state string
	if err := t.QueryRowContext(ctx, postgresXIDState, xid).Scan(&state); err != nil {
		return false, err
	}
	return state == "committed", nil
}
