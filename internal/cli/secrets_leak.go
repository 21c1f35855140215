package cli

import (
	"fmt"
	"io"
	"strings"
)

type secretsLeakCmd struct {
	remote
	output
	secretScope
	Name  string `arg:"" help:"Name of the secret."`
	Where string `help:"Where the value was seen; never the value." placeholder:"TEXT"`
}

func (c secretsLeakCmd) Run(e *env) error {
	s, p, err := c.project(e, c.Project)
	if err != nil {
		return err
	}
	in, err := s.Secrets.Leak(e.ctx, p.ID, c.Environment, c.Name, c.Where)
	if err != nil {
		return err
	}
	return c.print(e, in, func(w io.Writer) {
		fmt.Fprintf(w, "%s of %s is stopped: no job is lent it until it is lifted with: sallyport unkill secret %s\n", plain(c.Name), c.secretScope, plain(in.Stop.Stop.Name))
		for _, x := range in.Stop.Stopped {
			fmt.Fprintf(w, "stopped %s %s: %s\n", plain(x.What), plain(x.ID), plain(x.Text))
		}
		for _, x := range in.Stop.Left {
			fmt.Fprintf(w, "left    %s %s: %s\n", plain(x.What), plain(x.ID), plain(x.Text))
		}
		if in.Rotation != nil {
			fmt.Fprintf(w, "rotation %s replaces it now\n", in.Rotation.ID)
		} else {
			fmt.Fprintln(w, "Nothing says how it is rotated: end the value at its source yourself, now, and set the new one.")
		}
		fmt.Fprintf(w, "%d attempts of jobs were lent version %s\n", len(in.Leases), in.Version)
		for _, l := range in.Leases {
			fmt.Fprintf(w, "  %s  run %s, job %s, attempt %d, runner %s\n", l.At.Format("2006-01-02 15:04:05Z"), l.Run, l.Job, l.Attempt, plain(string(l.Runner)))
		}
		if len(in.Hosts) > 0 {
			fmt.Fprintf(w, "it was used at %s\n", plain(strings.Join(in.Hosts, ", ")))
		}
	})
}
