package sallyport

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Window is a span of hours on some days of the week, by the clocks of one place, as
// "mon-fri 09:00-17:00 Europe/Vienna". One that ends before it begins goes on past
// midnight, into the next day.
type Window string

// Windows are the hours in which something may happen; none: always.
type Windows []Window

// span is a window that was read.
type span struct {
	days     [7]bool // by time.Weekday, of the beginning
	from, to int     // minutes after midnight
	zone     *time.Location
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseWindow reads for example "mon-fri 09:00-17:00 Europe/Vienna"; days may be a
// list, as in "sat,sun", and every day is "daily".
func ParseWindow(s string) (Window, error) {
	if _, err := read(s); err != nil {
		return "", err
	}
	return Window(strings.Join(strings.Fields(s), " ")), nil
}

func read(s string) (span, error) {
	wrong := Errorf(CodeInvalid, "%.80q is not a window of hours", s).WithHint("write for example mon-fri 09:00-17:00 Europe/Vienna")
	f := strings.Fields(s)
	if len(f) != 3 || len(s) > 200 {
		return span{}, wrong
	}
	var w span
	for _, part := range strings.Split(f[0], ",") {
		if part == "daily" {
			part = "sun-sat"
		}
		first, last, several := strings.Cut(part, "-")
		if !several {
			last = first
		}
		a, b := slices.Index(weekdays, first), slices.Index(weekdays, last)
		if a < 0 || b < 0 {
			return span{}, wrong
		}
		for d := a; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == b {
				break
			}
		}
	}
	from, to, _ := strings.Cut(f[1], "-")
	var ok, fine bool
	w.from, ok = minutes(from)
	w.to, fine = minutes(to)
	if !ok || !fine || w.from == w.to || w.from == 24*60 {
		return span{}, wrong
	}
	zone, err := time.LoadLocation(f[2])
	if err != nil || f[2] == "Local" { // what is local differs from host to host
		return span{}, Errorf(CodeInvalid, "%.80q is not a time zone", f[2]).WithHint("use a name such as UTC or Europe/Vienna")
	}
	w.zone = zone
	return w, nil
}

// minutes reads HH:MM, up to 24:00.
func minutes(s string) (int, bool) {
	if len(s) != 5 || s[2] != ':' || strings.ContainsAny(s, "+- ") {
		return 0, false
	}
	h, err := strconv.Atoi(s[:2])
	m, err2 := strconv.Atoi(s[3:])
	n := h*60 + m
	return n, err == nil && err2 == nil && m < 60 && n <= 24*60
}

// Covers reports whether t is in the window. It goes by what clocks show: an hour
// that a change of the clocks repeats is in it twice. A window that cannot be read
// covers nothing.
func (w Window) Covers(t time.Time) bool {
	s, err := read(string(w))
	return err == nil && s.covers(t)
}

func (w span) covers(t time.Time) bool {
	t = t.In(w.zone)
	at, day := t.Hour()*60+t.Minute(), t.Weekday()
	if w.from < w.to {
		return w.days[day] && at >= w.from && at < w.to
	}
	return w.days[day] && at >= w.from || w.days[(day+6)%7] && at < w.to
}

// Cover reports whether t is in one of them, or there are none.
func (w Windows) Cover(t time.Time) bool {
	return len(w) == 0 || slices.ContainsFunc(w, func(one Window) bool { return one.Covers(t) })
}

// Next returns the first moment from t on that they cover; the zero time when none
// does in the eight days after.
func (w Windows) Next(t time.Time) time.Time {
	if w.Cover(t) {
		return t
	}
	var next time.Time
	for _, text := range w {
		one, err := read(string(text))
		if err != nil {
			continue
		}
		y, m, d := t.In(one.zone).Date()
		for i := range 9 {
			at := time.Date(y, m, d+i, 0, one.from, 0, 0, one.zone)
			if at.After(t) && one.covers(at) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next.UTC()
}

func (w Windows) String() string {
	var out []string
	for _, one := range w {
		out = append(out, string(one))
	}
	return strings.Join(out, "; ")
}
