package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

// session is a connection, or a transaction, with its prepared statements.
type session struct {
	conn interface { // *sql.Conn or *sql.Tx
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	}
	// stmts is by query, and bounded: queries are constants. nil: not to be prepared.
	stmts map[string]*sql.Stmt
}

func newSession(c *sql.Conn, d *dialect) *session {
	s := &session{conn: c}
	if d.embedded {
		s.stmts = make(map[string]*sql.Stmt)
	}
	return s
}

func (s *session) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if st := s.stmts[query]; st != nil {
		return st, nil
	}
	st, err := s.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.stmts[query] = st
	return st, nil
}

func (s *session) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if s.stmts == nil {
		return s.conn.ExecContext(ctx, query, args...)
	}
	st, err := s.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

func (s *session) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s.stmts == nil {
		return s.conn.QueryContext(ctx, query, args...)
	}
	st, err := s.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// text returns the first column of the first row, as text.
func (s *session) text(ctx context.Context, query string, args ...any) (string, error) {
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var v string
	for rows.Next() {
		if err := rows.Scan(&v); err != nil {
			return "", err
		}
	}
	return v, rows.Err()
}

// close gives the connection back.
func (s *session) close() error {
	s.finalize()
	return s.conn.(*sql.Conn).Close()
}

// finalize closes the statements. Nobody else does: with one of them open SQLite
// keeps the file open after the connection was closed, and never clears its log away.
func (s *session) finalize() {
	for _, st := range s.stmts {
		_ = st.Close() // it reports again what its last use did
	}
	clear(s.stmts)
}

// discard closes the connection for good instead of giving it back.
func (s *session) discard() {
	s.finalize()
	c := s.conn.(*sql.Conn)
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.Close()
}
