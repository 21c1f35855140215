package sqlstore_test

import (
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
)

func open(t testing.TB, dsn string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: dsn})
	if err != nil {
		t.Fatalf("open %s: %v", dsn, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func sqliteDSN(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "a ?#%é.db") }

func TestSQLite(t *testing.T) {
	t.Parallel()
	sallyporttest.Store(t, func(t *testing.T) sallyport.Store { return open(t, sqliteDSN(t)) })
}

// TestVolatileSQLite is a database that ends with its process.
func TestVolatileSQLite(t *testing.T) {
	t.Parallel()
	sallyporttest.Store(t, func(t *testing.T) sallyport.Store {
		s, err := sqlstore.Open(t.Context(), sqlstore.Config{DSN: sqliteDSN(t), Volatile: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	sallyporttest.Store(t, func(t *testing.T) sallyport.Store { return open(t, postgresDSN(t)) })
}
