package cli

import (
	"fmt"
	"io"

	"github.com/sallyport-ci/sallyport"
)

type killCmd struct {
	remote
	output
	Kind string `arg:"" optional:"" help:"person, bot, agent, runner, project, key or secret; nothing lists what is stopped."`
	Name string `arg:"" optional:"" help:"Which: an account, a runner, a project, signing, id-token or secrets, PROJECT/[ENVIRONMENT/]NAME of a secret."`
	Why  string `help:"Why." placeholder:"TEXT"`
}

func (c killCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	if c.Kind == "" {
		list, err := s.Stops.Stops(e.ctx)
		if err != nil {
			return err
		}
		return c.print(e, orEmpty(list), func(w io.Writer) {
			table(w, "KIND\tNAME\tBY\tSINCE\tWHY", func(line func(...any)) {
				for _, x := range list {
					line(x.Kind, x.Name, x.By, ago(x.At), orDash(x.Why))
				}
			})
		})
	}
	if c.Name == "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "kill needs the name of the %s", c.Kind)
	}
	r, err := s.Stops.Stop(e.ctx, sallyport.StopKind(c.Kind), c.Name, c.Why)
	if err != nil {
		return err
	}
	return c.print(e, r, func(w io.Writer) {
		fmt.Fprintf(w, "%s %s is stopped. Lift it with: sallyport unkill %s %s\n", r.Stop.Kind, plain(r.Stop.Name), r.Stop.Kind, plain(r.Stop.Name))
		told := func(head string, list []sallyport.Stopped) {
			if len(list) == 0 {
				return
			}
			fmt.Fprintf(w, "\n%s\n", head)
			for _, x := range list {
				fmt.Fprintf(w, "  %-11s %s\n", x.What, plain(x.Text))
			}
		}
		told("Stopped:", r.Stopped)
		told("What could not be taken back from here:", r.Left)
	})
}

type unkillCmd struct {
	remote
	output
	Kind string `arg:"" help:"As kill lists it."`
	Name string `arg:"" help:"As kill lists it."`
	Why  string `help:"Why." placeholder:"TEXT"`
}

func (c unkillCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	x, err := s.Stops.Lift(e.ctx, sallyport.StopKind(c.Kind), c.Name, c.Why)
	if err != nil {
		return err
	}
	return c.print(e, x, func(w io.Writer) {
		fmt.Fprintf(w, "%s %s is lifted. What was cancelled, burnt or revoked does not come back.\n", x.Kind, plain(x.Name))
	})
}
