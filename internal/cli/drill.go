package cli

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/sallyport-ci/sallyport/internal/daemon"
	"github.com/sallyport-ci/sallyport/internal/yard/escape"
)

type drillCmd struct {
	Sandbox drillSandboxCmd `cmd:"" help:"Try to break out of a room of this host, and print what held."`
}

type drillSandboxCmd struct {
	output
	Level string `help:"Level of the rooms: standard or strong." enum:"standard,strong" default:"standard"`
	Quiet bool   `short:"q" help:"Print only what is not held."`
}

// Run exits with 1 when something was not held.
func (c drillSandboxCmd) Run(e *env) error {
	got, err := daemon.DrillSandbox(e.ctx, c.Level, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	count := make(map[escape.Verdict]int)
	for _, r := range got.Attempts {
		count[r.Verdict]++
	}
	err = c.print(e, got, func(w io.Writer) {
		head := "GROUP\tATTEMPT\tOUTCOME\tVERDICT"
		table(w, head, func(line func(cells ...any)) {
			for _, r := range got.Attempts {
				if c.Quiet && r.Verdict == escape.Held {
					continue
				}
				verdict := string(r.Verdict)
				if r.Verdict == escape.NotHeld {
					verdict = "NOT HELD"
				}
				if r.Why != "" {
					verdict += ": " + r.Why
				}
				line(r.Group, r.Name, r.Outcome, verdict)
			}
		})
		fmt.Fprintf(w, "\nLevel %s, %s: %d held, %d NOT HELD, %d not applicable\n", got.Isolation.Level, got.Isolation.Runtime, count[escape.Held], count[escape.NotHeld], count[escape.NotApplicable])
	})
	if err == nil && count[escape.NotHeld] > 0 {
		return exitError(exitFailed)
	}
	return err
}
