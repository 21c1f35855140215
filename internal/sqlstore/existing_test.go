package sqlstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func TestExisting(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "db")
	cfg := Config{DSN: "sqlite:" + file, Existing: true}
	if _, err := Open(t.Context(), cfg); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("a missing database: got %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("looking made a database")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("an empty file: got %v", err)
	}
	for _, existing := range []bool{false, true} {
		cfg.Existing = existing
		s, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
