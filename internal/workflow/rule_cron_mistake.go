package workflow

import (
	"strconv"
	"strings"
)

var ruleCronMistake = Rule{
	ID: "cron-mistake", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "a schedule that means something else than it seems to",
	Why:   "A * in the minutes starts a run every minute of the hour, days that do not exist never come, and the shortest interval is five minutes.",
	Mend:  "write the minute: 0 4 * * * is once a day",
	check: func(p *pass) {
		if t := p.trigger("schedule"); t != nil {
			for _, s := range t.Schedules {
				if why := cronMistake(s.Cron.Text); why != "" {
					p.report(s.Cron.Pos, "%s: %s", quote(s.Cron.Text), why)
				}
			}
		}
	},
}

// cronMistake says what is odd about a valid cron expression; "" if nothing is.
func cronMistake(text string) string {
	f := strings.Fields(text)
	if len(f) != len(cronFields) {
		return ""
	}
	minute, hour, day, month, weekday := f[0], f[1], f[2], f[3], f[4]
	_, step, stepped := strings.Cut(minute, "/")
	every, _ := strconv.Atoi(step)
	switch {
	case (minute == "*" || minute == "*/1") && hour != "*":
		return "this starts a run every minute of that hour"
	case minute == "*" || stepped && strings.HasPrefix(minute, "*") && every < 5:
		return "the shortest interval is five minutes"
	case tooClose(minute):
		return "the shortest interval is five minutes"
	case day != "*" && weekday == "*" && neverComes(day, month):
		return "this day does not exist, so the run never comes"
	}
	return ""
}

// tooClose reports whether a list of minutes has two that are less than five apart.
func tooClose(minutes string) bool {
	last := -1
	for m := range strings.SplitSeq(minutes, ",") {
		n, err := strconv.Atoi(m)
		if err != nil {
			return false
		}
		if last >= 0 && n > last && n-last < 5 {
			return true
		}
		last = n
	}
	return false
}

// neverComes reports whether a day of the month is in none of the months.
func neverComes(day, month string) bool {
	d, err := strconv.Atoi(day)
	if err != nil {
		return false
	}
	for m := range strings.SplitSeq(month, ",") {
		n, err := cronValue(m, 3)
		if err != nil {
			return false
		}
		if d <= [...]int{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[n-1] {
			return false
		}
	}
	return true
}
