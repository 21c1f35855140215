package sallyport_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two changes that were made side by side may take the same number; no database opens then.
func TestMigrationsHaveNumbersOfTheirOwn(t *testing.T) {
	t.Parallel()
	lists := map[string]string{}
	for _, dialect := range []string{"sqlite", "postgres"} {
		files, err := os.ReadDir(filepath.Join("internal/sqlstore/migrations", dialect))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]string{}
		for _, f := range files {
			number, _, _ := strings.Cut(f.Name(), "_")
			if other := seen[number]; other != "" {
				t.Errorf("%s: %s and %s have one number", dialect, other, f.Name())
			}
			seen[number] = f.Name()
			lists[dialect] += f.Name() + " "
		}
	}
	if lists["sqlite"] != lists["postgres"] {
		t.Errorf("the dialects differ: %s and %s", lists["sqlite"], lists["postgres"])
	}
}
