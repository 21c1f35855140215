package sallyport

import (
	"regexp"
	"testing"
	"time"
)

func TestNewID(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	at := time.Date(2026, 1, 2, 3, 4, 5, 999_990_000, time.UTC)
	last := RunID("")
	for i := range 2000 {
		id := NewID[RunID](at.Add(time.Duration(i) * time.Microsecond))
		if !form.MatchString(string(id)) {
			t.Fatalf("%s is not a UUID of version 7", id)
		}
		if id <= last {
			t.Fatalf("%s comes after %s", id, last)
		}
		last = id
	}
}
