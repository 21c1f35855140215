package sqlstore

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"
)

// TestUpgrade gives a database of today a migration of tomorrow: it is copied
// first, and a migration that fails leaves it as it was.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "s.db")
	cfg := Config{DSN: "sqlite:" + file, Clock: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	today, err := migrations.ReadDir("migrations/sqlite")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, f := range today {
		data, err := migrations.ReadFile("migrations/sqlite/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name()] = &fstest.MapFile{Data: data}
	}
	upgrade := func(second string) error {
		s := newStore(sqliteDialect, cfg)
		s.file = file
		if s.write, err = openSQLitePool(sqliteDSN(file, false), 1); err != nil {
			return err
		}
		defer s.write.Close()
		files[fmt.Sprintf("%03d_next.sql", len(today)+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE next (id TEXT);\n" + second)}
		return s.migrateWith(t.Context(), files)
	}
	if err := upgrade("CREATE TABLE runs (id TEXT);"); err == nil {
		t.Error("a broken migration was applied")
	}
	backup := fmt.Sprintf("%s.v%d-20260102T030405.000", file, len(today))
	if err := os.Rename(backup, backup+".first"); err != nil {
		t.Fatal(err)
	}
	if err := upgrade(""); err != nil {
		t.Fatalf("upgrade after a broken one: %v", err)
	}
	for name, want := range map[string]bool{file: true, backup: false, backup + ".first": false} {
		db, err := sql.Open("sqlite", name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.ExecContext(t.Context(), "SELECT id FROM next")
		if got := err == nil; got != want {
			t.Errorf("%s has the new table: %v, want %v", filepath.Base(name), got, want)
		}
		db.Close()
	}
}
