package workflow

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// cronFields are the fields of a cron expression (POSIX, crontab).
var cronFields = []struct {
	name     string
	min, max int
	names    []string // of min, min+1, …
}{
	{name: "minute", max: 59},
	{name: "hour", max: 23},
	{name: "day of month", min: 1, max: 31},
	{name: "month", min: 1, max: 12, names: []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{name: "day of week", max: 6, names: []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// checkCron checks a cron expression of five fields.
func checkCron(text string) error {
	fields := strings.Fields(text)
	if len(fields) != len(cronFields) {
		return fmt.Errorf("it has %d fields; five are needed: minute, hour, day of month, month, day of week", len(fields))
	}
	for i, f := range fields {
		for item := range strings.SplitSeq(f, ",") {
			if err := checkCronItem(item, i); err != nil {
				return fmt.Errorf("%s %s: %w", cronFields[i].name, quote(item), err)
			}
		}
	}
	return nil
}

func checkCronItem(item string, field int) error {
	span, step, stepped := strings.Cut(item, "/")
	if stepped {
		if n, err := strconv.Atoi(step); err != nil || n < 1 {
			return errors.New("the step after / must be a number greater than 0")
		}
	}
	if span == "*" {
		return nil
	}
	from, to, ranged := strings.Cut(span, "-")
	low, err := cronValue(from, field)
	if err != nil || !ranged {
		return err
	}
	high, err := cronValue(to, field)
	if err == nil && low > high {
		return errors.New("the range ends before it starts")
	}
	return err
}

func cronValue(text string, field int) (int, error) {
	f := cronFields[field]
	if i := slices.Index(f.names, strings.ToLower(text)); i >= 0 {
		return f.min + i, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.min || n > f.max {
		return 0, fmt.Errorf("a value must be %d to %d", f.min, f.max)
	}
	return n, nil
}
