package workflow

import "strings"

// skipMarks in a commit's message keep push and pull_request events from starting
// workflows (GitHub's documentation, "Skipping workflow runs").
var skipMarks = []string{"[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"}

// SkipMark returns what in a commit's message asks to start no workflow, "" if
// nothing does: one of the marks anywhere, or a skip-checks trailer after an empty line.
func SkipMark(message string) string {
	for _, m := range skipMarks {
		if strings.Contains(message, m) {
			return m
		}
	}
	body, trailers, ok := cutLast(strings.TrimRight(strings.ReplaceAll(message, "\r\n", "\n"), "\n "), "\n\n")
	if !ok || body == "" {
		return ""
	}
	for line := range strings.Lines(trailers) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if strings.EqualFold(key, "skip-checks") && strings.TrimSpace(value) == "true" {
			return "skip-checks: true"
		}
	}
	return ""
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
