package sallyport_test

import (
	"testing"
	"time"
	_ "time/tzdata" // the zones of the cases, on hosts that have none

	"github.com/sallyport-ci/sallyport"
)

func TestWindows(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		windows sallyport.Windows
		at      string
		covers  bool
		next    string // "" when none is
	}{
		{nil, "2026-11-28T03:00:00Z", true, "2026-11-28T03:00:00Z"},
		{sallyport.Windows{"mon-fri 09:00-17:00 UTC"}, "2026-11-27T09:00:00Z", true, "2026-11-27T09:00:00Z"},
		{sallyport.Windows{"mon-fri 09:00-17:00 UTC"}, "2026-11-27T17:00:00Z", false, "2026-11-30T09:00:00Z"},
		{sallyport.Windows{"mon-fri 09:00-17:00 Europe/Vienna"}, "2026-11-30T08:00:00Z", true, "2026-11-30T08:00:00Z"},
		{sallyport.Windows{"fri 22:00-02:00 UTC"}, "2026-11-28T01:59:00Z", true, "2026-11-28T01:59:00Z"}, // on Saturday
		{sallyport.Windows{"fri 22:00-02:00 UTC"}, "2026-11-27T01:00:00Z", false, "2026-11-27T22:00:00Z"},
		{sallyport.Windows{"fri-mon 00:00-24:00 UTC"}, "2026-11-29T12:00:00Z", true, "2026-11-29T12:00:00Z"},
		{sallyport.Windows{"sat 09:00-10:00 UTC", "sun 08:00-09:00 UTC"}, "2026-11-28T10:00:00Z", false, "2026-11-29T08:00:00Z"},
		// The hour that is skipped in spring is not there; the next is a week later.
		{sallyport.Windows{"sun 02:00-03:00 Europe/Vienna"}, "2026-03-29T00:30:00Z", false, "2026-04-05T00:00:00Z"},
		{sallyport.Windows{"never"}, "2026-11-28T03:00:00Z", false, ""}, // one of another time, which cannot be read
	} {
		if got := c.windows.Cover(at(c.at)); got != c.covers {
			t.Errorf("%q covers %s: %v", c.windows, c.at, got)
		}
		got := c.windows.Next(at(c.at))
		if c.next == "" && !got.IsZero() || c.next != "" && !got.Equal(at(c.next)) {
			t.Errorf("%q after %s: next %s, want %s", c.windows, c.at, got, c.next)
		}
	}
	for _, bad := range []string{"", "mon", "mon-fri 09:00-17:00", "mon-xyz 09:00-17:00 UTC", "mon 9:00-17:00 UTC", "mon 09:00-09:00 UTC", "mon 24:00-01:00 UTC",
		"mon 09:60-17:00 UTC", "mon 09:00-25:00 UTC", "mon 09:00-17:00 Mars/Base", "mon 09:00-17:00 Local", "mon +9:00-17:00 UTC", "mon 09:00-17:00 ../../etc/passwd"} {
		if w, err := sallyport.ParseWindow(bad); err == nil {
			t.Errorf("%q was read as %q", bad, w)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	f.Add("mon-fri 09:00-17:00 Europe/Vienna")
	f.Add("sat,sun 22:00-06:00 UTC")
	f.Fuzz(func(t *testing.T, s string) {
		w, err := sallyport.ParseWindow(s)
		if err != nil {
			return
		}
		now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
		next := sallyport.Windows{w}.Next(now)
		if !next.IsZero() && (next.Before(now) || !w.Covers(next)) {
			t.Errorf("%q: next is %s, which it does not cover", s, next)
		}
	})
}
