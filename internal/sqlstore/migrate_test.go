package sqlstore_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
)

// openSQL opens a database without the store.
func openSQL(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	driver, name := "pgx", dsn
	if file, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, name = "sqlite", file
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func execSQL(t testing.TB, db *sql.DB, queries ...string) {
	t.Helper()
	for _, q := range queries {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func rowsSQL(t testing.TB, db *sql.DB, query string) (out []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// both runs a test on a database of each engine.
func both(t *testing.T, run func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); run(t, "sqlite:"+filepath.Join(t.TempDir(), "s.db")) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); run(t, postgresDSN(t)) })
}

// TestMigrationsAgree compares what the migrations of the engines make.
func TestMigrationsAgree(t *testing.T) {
	t.Parallel()
	names := map[string][]string{}
	for _, dialect := range []string{"sqlite", "postgres"} {
		entries, err := os.ReadDir(filepath.Join("migrations", dialect))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names[dialect] = append(names[dialect], e.Name())
		}
	}
	if !slices.Equal(names["sqlite"], names["postgres"]) {
		t.Errorf("migrations of SQLite %v, of PostgreSQL %v", names["sqlite"], names["postgres"])
	}
	lite := "sqlite:" + filepath.Join(t.TempDir(), "s.db")
	open(t, lite)
	postgres := postgresDSN(t)
	open(t, postgres)
	liteDB, postgresDB := openSQL(t, lite), openSQL(t, postgres)

	// INTEGER is how SQLite writes its 64-bit row id.
	columns := rowsSQL(t, liteDB, `SELECT m.name || '.' || c.name || ' ' || replace(replace(c.type, 'INTEGER', 'BIGINT'), 'BLOB', 'BYTEA') || CASE WHEN c."notnull" THEN ' NOT NULL' ELSE '' END
		FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'sallyport_version'`)
	want := rowsSQL(t, postgresDB, `SELECT table_name || '.' || column_name || ' ' || upper(data_type) || CASE WHEN is_nullable = 'NO' THEN ' NOT NULL' ELSE '' END
		FROM information_schema.columns WHERE table_schema = current_schema() AND table_name <> 'sallyport_version'`)
	compare(t, "columns", columns, want)

	indexes := rowsSQL(t, liteDB, `SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL`)
	wantIndexes := rowsSQL(t, postgresDB, `SELECT i.indexdef FROM pg_indexes i WHERE i.schemaname = current_schema() AND i.tablename <> 'sallyport_version'
		AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname)`)
	head := regexp.MustCompile(`^CREATE (UNIQUE )?INDEX (\w+) ON (?:\w+\.)?(\w+) (?:USING btree )?\(([^)]*)\).*`)
	for _, list := range [][]string{indexes, wantIndexes} {
		for i, s := range list {
			list[i] = head.ReplaceAllString(s, "$1$2 on $3 ($4)")
		}
	}
	compare(t, "indexes", indexes, wantIndexes)
}

func compare(t *testing.T, what string, lite, postgres []string) {
	t.Helper()
	if len(lite) == 0 {
		t.Errorf("no %s were found", what)
	}
	slices.Sort(lite)
	slices.Sort(postgres)
	for _, s := range lite {
		if !slices.Contains(postgres, s) {
			t.Errorf("%s: only SQLite has %s", what, s)
		}
	}
	for _, s := range postgres {
		if !slices.Contains(lite, s) {
			t.Errorf("%s: only PostgreSQL has %s", what, s)
		}
	}
}

func TestOpenRefused(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, dsn string) {
		refused := func(name string, code sallyport.Code) {
			t.Helper()
			s, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: dsn})
			if sallyport.ErrorCode(err) != code {
				t.Errorf("%s: got %v, want code %s", name, err, code)
			}
			if _, hint := sallyport.ErrorMessage(err); hint == "" {
				t.Errorf("%s: %v has no hint", name, err)
			}
			if err == nil {
				s.Close()
			}
		}
		db := openSQL(t, dsn)
		execSQL(t, db, "CREATE TABLE runs (id TEXT)")
		refused("foreign database", sallyport.CodeInvalid)
		execSQL(t, db, "DROP TABLE runs")
		if err := open(t, dsn).Close(); err != nil {
			t.Fatal(err)
		}
		if err := open(t, dsn).Close(); err != nil { // of the present version
			t.Fatal(err)
		}
		execSQL(t, db, "INSERT INTO sallyport_version (version_id, is_applied) VALUES (999, true)")
		refused("newer database", sallyport.CodeConflict)
	})
	file := filepath.Join(t.TempDir(), "noise.db")
	if err := os.WriteFile(file, bytes.Repeat([]byte("not a database"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for dsn, code := range map[string]sallyport.Code{
		"":                                     sallyport.CodeInvalid,
		"sqlite:":                              sallyport.CodeInvalid,
		"sqlite::memory:":                      sallyport.CodeInvalid,
		"mysql://localhost/x":                  sallyport.CodeInvalid,
		"postgres://%zz":                       sallyport.CodeInvalid,
		"sqlite:" + file:                       sallyport.CodeInvalid,
		"sqlite:/nonexistent/directory/x.db":   sallyport.CodeUnavailable,
		"postgres:///x?host=/nonexistent":      sallyport.CodeUnavailable,
		"postgres://u:hush@127.0.0.1:1/x":      sallyport.CodeUnavailable,
		"postgres://u:hush@127.0.0.1:notaport": sallyport.CodeInvalid,
	} {
		s, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: dsn})
		if sallyport.ErrorCode(err) != code {
			t.Errorf("open %q: got %v, want code %s", dsn, err, code)
		}
		if err == nil {
			s.Close()
		} else if strings.Contains(err.Error(), "hush") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, "sqlite:"+filepath.Join(dir, "s.db"))
	p := sallyport.Project{ID: "p", Name: "p"}
	if err := s.Update(t.Context(), func(tx sallyport.Tx) error { return tx.Projects().Insert(p) }); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy's.db")
	if err := s.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), copied); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("a backup over another: %v", err)
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "no", "where")); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("a backup to nowhere: %v", err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v", info, err)
	}
	err := open(t, "sqlite:"+copied).View(t.Context(), func(tx sallyport.Tx) error { _, err := tx.Projects().Get("p"); return err })
	if err != nil {
		t.Errorf("the copy: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "tmp") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}
