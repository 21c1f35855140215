package sqlstore

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// A database that was closed is one file: whoever copies it has all of it.
func TestSQLiteCloseLeavesOneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{DSN: "sqlite:" + filepath.Join(dir, "s.db"), Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx sallyport.Tx) error {
		_, err := tx.Audit().Append(sallyport.AuditRecord{Action: "done"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), func(tx sallyport.Tx) error {
		_, _, err := tx.Audit().Count()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "s.db" {
		t.Errorf("got %v after Close, want s.db alone", entries)
	}
}
