package workflow

import (
	"testing"
	"time"
	_ "time/tzdata" // the zones of the cases, on hosts that have none
)

func TestNextCron(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expr, zone, after, want string }{
		{"*/15 * * * *", "UTC", "2026-06-01 10:00", "2026-06-01 10:15"},
		{"*/15 * * * *", "UTC", "2026-06-01 10:59", "2026-06-01 11:00"},
		{"30 5,17 * * *", "UTC", "2026-06-01 05:30", "2026-06-01 17:30"},
		{"0 0 1 * *", "UTC", "2026-12-31 23:59", "2027-01-01 00:00"},
		{"0 12 * * mon-fri", "UTC", "2026-06-05 12:00", "2026-06-08 12:00"},
		{"0 12 * JAN,feb SUN", "UTC", "2026-06-05 12:00", "2027-01-03 12:00"},
		{"0 0 13 * fri", "UTC", "2026-06-01 00:00", "2026-06-05 00:00"},   // either day
		{"0 0 */10 * fri", "UTC", "2026-06-01 00:00", "2026-07-31 00:00"}, // a star: both
		{"0 0 29 2 *", "UTC", "2026-06-01 00:00", "2028-02-29 00:00"},
		{"0 0 31 2 *", "UTC", "2026-06-01 00:00", ""},
		{"5/20 * * * *", "UTC", "2026-06-01 10:05", "2026-06-01 10:25"},
		{"0 9 * * *", "Asia/Tokyo", "2026-06-01 09:00", "2026-06-02 09:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 03:00"}, // left out
		{"30 3 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 03:30"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-25 02:30"},   // twice
		{"0 0 * * *", "America/Santiago", "2026-09-05 12:00", "2026-09-06 01:00"}, // midnight left out
	} {
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		after, err := time.ParseInLocation("2006-01-02 15:04", c.after, loc)
		if err != nil {
			t.Fatal(err)
		}
		next, err := NextCron(c.expr, after)
		if err != nil {
			t.Errorf("%q: %v", c.expr, err)
			continue
		}
		got := ""
		if !next.IsZero() {
			got = next.Format("2006-01-02 15:04")
		}
		if got != c.want {
			t.Errorf("%q after %s in %s: got %q, want %q", c.expr, c.after, c.zone, got, c.want)
		}
	}
	// Of a time that comes twice, the second is not due.
	loc, _ := time.LoadLocation("Europe/Berlin")
	first, err := NextCron("30 2 * * *", time.Date(2026, 10, 25, 0, 0, 0, 0, loc))
	if err != nil {
		t.Fatal(err)
	}
	second, err := NextCron("30 2 * * *", first)
	if err != nil || second.Sub(first) != 25*time.Hour {
		t.Errorf("after %s comes %s, %v", first, second, err)
	}
	if _, err := NextCron("* * * *", time.Time{}); err == nil {
		t.Error("four fields were taken")
	}
}
