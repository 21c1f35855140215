package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sallyport-ci/sallyport"
)

const (
	// sqliteReaders is the number of snapshots that can be open at once; more
	// would only share the same cores.
	sqliteReaders = 6
	// sqliteBusyMillis bounds the wait for another process that writes to the file.
	sqliteBusyMillis = 5000
	// sqlitePoll is how often the file is looked at for changes by other processes.
	sqlitePoll = time.Second
)

var sqliteDialect = &dialect{
	name:          "sqlite",
	goose:         goose.DialectSQLite3,
	begin:         "BEGIN IMMEDIATE",
	tables:        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
	claimLabelled: workClaim("NOT EXISTS (SELECT 1 FROM json_each(work.labels) AS l WHERE l.value NOT IN (SELECT value FROM json_each($3)))"),
	claimAny:      workClaim(workAnyLabels),
	embedded:      true,
	classify:      classifySQLite,
}

// sqliteDSN returns the driver's name for the file. A committed transaction is on disk
// (synchronous FULL): audit records are in every one. Of a volatile database it is not.
func sqliteDSN(file string, readOnly, volatile bool) string {
	synchronous := "FULL"
	if volatile {
		synchronous = "OFF"
	}
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", sqliteBusyMillis),
		"journal_mode(WAL)",
		"synchronous(" + synchronous + ")",
		"foreign_keys(1)",
		"temp_store(MEMORY)",
		"trusted_schema(0)",
		"cache_size(-8000)",            // 8 MB
		"journal_size_limit(67108864)", // 64 MiB: a burst must not leave a large log behind
	}
	if readOnly {
		pragmas = append(pragmas, "query_only(1)")
	}
	q := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}
	return (&url.URL{Scheme: "file", Path: file, RawQuery: q.Encode()}).String()
}

func openSQLite(ctx context.Context, file string, cfg Config) (*Store, error) {
	if file == "" || strings.HasPrefix(file, ":memory:") {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the database has no file").WithHint("write sqlite:PATH")
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("database file: %w", err)
	}
	// The file is made here for its mode; SQLite gives the same to its companions.
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the database file cannot be opened",
			Hint: "look whether its directory exists and may be written by this user", Err: err}
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("database file: %w", err)
	}
	s := newStore(sqliteDialect, cfg)
	s.file = file
	if s.write, err = openSQLitePool(sqliteDSN(file, false, cfg.Volatile), 1); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	if s.read, err = openSQLitePool(sqliteDSN(file, true, cfg.Volatile), sqliteReaders); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	s.readers = make(chan *session, sqliteReaders)
	for range sqliteReaders {
		c, err := s.read.Conn(ctx)
		if err != nil {
			return nil, errors.Join(s.fail(err), s.read.Close(), s.write.Close())
		}
		s.readers <- newSession(c, s.d)
	}
	s.poll = sqlitePoll
	return s, nil
}

func openSQLitePool(dsn string, size int) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

func classifySQLite(err error) fault {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return faultOther
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return faultDuplicate
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return faultReference
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_FULL:
		return faultFull
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL:
		return faultLost
	}
	return faultOther
}

const sqliteBackup = "VACUUM INTO $1"

// backupSQLite writes a consistent, compacted copy. It appears under its name
// when it is complete and on disk.
func (s *Store) backupSQLite(ctx context.Context, file string) (err error) {
	if _, err := os.Lstat(file); err == nil {
		return sallyport.Errorf(sallyport.CodeConflict, "the backup file exists already").WithHint("name a new file")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return &sallyport.Error{Code: sallyport.CodeInvalid, Message: "the backup file cannot be written", Err: err}
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".tmp-*") // mode 0600
	if err != nil {
		return &sallyport.Error{Code: sallyport.CodeInvalid, Message: "the backup file cannot be written", Err: err}
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	db, err := openSQLitePool(sqliteDSN(s.file, false, false), 1) // it reads for long, and a reader of ours may not write even elsewhere
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, sqliteBackup, f.Name())
	if err = errors.Join(err, db.Close()); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("backup: %w", ctx.Err())
		}
		return s.fail(err)
	}
	if err := f.Sync(); err != nil {
		return s.disk("write the backup", err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return s.disk("name the backup", err)
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return s.disk("name the backup", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return s.disk("name the backup", err)
	}
	return nil
}

func (s *Store) disk(what string, err error) error {
	return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: what, Hint: "look whether the disk is full", Err: err}
}
