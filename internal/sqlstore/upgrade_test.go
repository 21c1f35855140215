package sqlstore

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sallyport-ci/sallyport"
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
		if s.write, err = openSQLitePool(sqliteDSN(file, false, false), 1); err != nil {
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

// Jobs that were on their way before workflows could be called keep their places.
func TestUpgradeOfJobs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "s.db")
	cfg := Config{DSN: "sqlite:" + file, Clock: time.Now}
	s := newStore(sqliteDialect, cfg)
	var err error
	if s.write, err = openSQLitePool(sqliteDSN(file, false, false), 1); err != nil {
		t.Fatal(err)
	}
	before := fstest.MapFS{}
	for _, name := range []string{"001_init.sql", "002_tainted.sql", "003_caches.sql"} {
		data, err := migrations.ReadFile("migrations/sqlite/" + name)
		if err != nil {
			t.Fatal(err)
		}
		before[name] = &fstest.MapFile{Data: data}
	}
	if err := s.migrateWith(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	rows := []string{
		"INSERT INTO projects VALUES ('p', 'p', 'main', 1)",
		"INSERT INTO pushes VALUES ('u', 'p', 'push', '', 'r', '', 'c', '{}', 'member', 'k', 1, '{}', '')",
		"INSERT INTO runs VALUES ('r', 'p', 'u', 1, '', '', '', '', '', '', '', '', '', 'in_progress', '', '', '', '', FALSE, 1, 1, 0)",
	}
	for i, status := range []string{"in_progress", "queued", "waiting"} {
		rows = append(rows, fmt.Sprintf("INSERT INTO jobs VALUES ('j%d', 'r', %d, 'm', %d, 'm', 'null', '[\"a\"]', '[]', '%s', '', '', 1, 'x', 'null', TRUE, '', FALSE, FALSE, 'g', 'null', "+
			"'[{\"number\":1,\"name\":\"s\"}]', 7, 1, 0, '[\"t\"]')", i, i, i, status))
	}
	for _, q := range rows {
		if _, err := s.write.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := s.write.Close(); err != nil {
		t.Fatal(err)
	}
	now, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	err = now.View(t.Context(), func(tx sallyport.Tx) error {
		jobs, err := tx.Jobs().ByRun("r")
		if err != nil || len(jobs) != 3 {
			return fmt.Errorf("got %d jobs, %w", len(jobs), err)
		}
		for i, j := range jobs {
			onItsWay := i < 2
			if j.Admitted != onItsWay || j.ReadyAt.IsZero() == onItsWay || j.Index != i || j.Needs[0] != "a" || j.Steps[0].Name != "s" || j.Tainted[0] != "t" || j.Group != "g" {
				t.Errorf("job %d became %+v", i, j)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
