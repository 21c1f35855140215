package workflow

import (
	"strconv"
	"strings"
	"time"
)

// maxCronYears bounds the search for the next time: 29 February comes again
// within eight years, and what does not come by then never does.
const maxCronYears = 9

// cron is a cron expression of five fields. A bit of a field is a value.
type cron struct {
	minute, hour, day, month, weekday uint64
	eitherDay                         bool // day of month and day of week are both given: one of them is enough
}

// parseCron reads an expression that checkCron has passed.
func parseCron(text string) (cron, error) {
	if err := checkCron(text); err != nil {
		return cron{}, err
	}
	fields := strings.Fields(text)
	var sets [5]uint64
	for i, f := range fields {
		for item := range strings.SplitSeq(f, ",") {
			sets[i] |= cronSet(item, i)
		}
	}
	return cron{sets[0], sets[1], sets[2], sets[3], sets[4], fields[2][0] != '*' && fields[4][0] != '*'}, nil
}

// cronSet returns the values of one item of a field.
func cronSet(item string, field int) (set uint64) {
	span, stepText, stepped := strings.Cut(item, "/")
	low, high, step := cronFields[field].min, cronFields[field].max, 1
	if stepped {
		step, _ = strconv.Atoi(stepText) // checked
	}
	if span != "*" {
		from, to, ranged := strings.Cut(span, "-")
		low, _ = cronValue(from, field)
		switch {
		case ranged:
			high, _ = cronValue(to, field)
		case !stepped:
			high = low
		}
	}
	for v := low; v <= high; v += step {
		set |= 1 << v
	}
	return set
}

func has(set uint64, v int) bool { return set>>v&1 == 1 }

func (c cron) onDay(t time.Time) bool {
	day, weekday := has(c.day, t.Day()), has(c.weekday, int(t.Weekday()))
	if c.eitherDay {
		return day || weekday
	}
	return day && weekday
}

// NextCron returns the first time after t at which a cron expression is due, in
// t's location; zero if that never comes. A time of day that a change of the clock
// leaves out is due at the end of the gap; one that comes twice is due the first time.
func NextCron(expr string, t time.Time) (time.Time, error) {
	c, err := parseCron(expr)
	if err != nil {
		return time.Time{}, err
	}
	loc := t.Location()
	y, m, d := t.Date()
	for range maxCronYears * 366 {
		// Noon is there on every day, whatever the clock does at night.
		noon := time.Date(y, m, d, 12, 0, 0, 0, loc)
		y, m, d = noon.Date()
		if has(c.month, int(m)) && c.onDay(noon) {
			if due := c.dueOn(noon, t); !due.IsZero() {
				return due, nil
			}
		}
		d++
	}
	return time.Time{}, nil
}

// dueOn returns the first time after t on the day of noon, zero if there is none.
func (c cron) dueOn(noon, t time.Time) time.Time {
	const minutes = 24 * 60
	last := -1 // minute of the day that the clock showed last
	for at := noon.Add(-13 * time.Hour); !at.After(noon.Add(14 * time.Hour)); at = at.Add(time.Minute) {
		if at.Day() != noon.Day() {
			continue
		}
		now := at.Hour()*60 + at.Minute()
		if now <= last {
			continue // the clock was set back
		}
		for v := last + 1; v <= now && v < minutes; v++ {
			if has(c.hour, v/60) && has(c.minute, v%60) && at.After(t) {
				return at
			}
		}
		last = now
	}
	return time.Time{}
}
