package cli

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

// isTerminal tells whether a person sits at f.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// shellCommand opens an interactive shell on a terminal of the room's own.
var shellCommand = []string{"sh", "-c", `command -v script >/dev/null && command -v bash >/dev/null && exec script -qec "bash -i" /dev/null; exec sh -i`}

// visit lets the person at the terminal into the room of a job that failed.
func (v *runView) visit(ctx context.Context, job sallyport.Job, open daemon.Open) {
	v.room.Lock()
	defer v.room.Unlock()
	fmt.Fprintf(v.e.stderr, "\nJob %s failed; this shell is in its room. Leave it with exit or Ctrl-D.\n", plain(job.Name))
	in := int(os.Stdin.Fd())
	if old, err := term.MakeRaw(in); err == nil {
		defer func() { _ = term.Restore(in, old) }()
	}
	if err := open(ctx, shellCommand, os.Stdin, v.e.stdout, v.e.stderr); err != nil {
		fmt.Fprintf(v.e.stderr, "the shell could not be opened: %v\r\n", err)
	}
}
