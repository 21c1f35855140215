package workflow

import "testing"

func TestSkipMark(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"Fix it":                             "",
		"Fix it [skip ci]":                   "[skip ci]",
		"Fix it\n\nReally. [ci skip]":        "[ci skip]",
		"[no ci] docs":                       "[no ci]",
		"[actions skip] [skip actions]":      "[skip actions]",
		"Fix it\n\n\nskip-checks: true":      "skip-checks: true",
		"Fix it\n\n\nskip-checks:true\n":     "skip-checks: true",
		"Fix it\r\n\r\nskip-checks: true":    "skip-checks: true",
		"skip-checks: true":                  "",
		"Fix it\n\nskip-checks: false":       "",
		"Fix it\n\nskip-checks: true\n\nend": "",
		"skip ci":                            "",
	} {
		if got := SkipMark(message); got != want {
			t.Errorf("%q: got %q, want %q", message, got, want)
		}
	}
}
