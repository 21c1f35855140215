package cli

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/sallyport-ci/sallyport"
)

type gateCmd struct {
	List   gateListCmd   `cmd:"" help:"List verdicts."`
	Show   gateShowCmd   `cmd:"" help:"Show a verdict."`
	Replay gateReplayCmd `cmd:"" help:"Decide again from the kept inputs, with the kept policy or another."`
}

type gateListCmd struct {
	remote
	output
	Project string `help:"The project." placeholder:"NAME"`
}

func (c gateListCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	p, err := findProject(e.ctx, s, c.Project)
	if err != nil {
		return err
	}
	list, err := s.Gates.Verdicts(e.ctx, p.ID, sallyport.Page{})
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "VERDICT\tDECISION\tENVIRONMENT\tARTIFACT\tDIGEST\tWHEN", func(line func(...any)) {
			for _, v := range list {
				line(v.ID, v.Decision, v.Environment, v.Artifact, v.Subject.Short(), ago(v.At))
			}
		})
	})
}

type gateShowCmd struct {
	remote
	output
	ID string `arg:"" help:"Id of the verdict."`
}

func (c gateShowCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	v, err := s.Gates.Verdict(e.ctx, sallyport.VerdictID(c.ID))
	if err != nil {
		return err
	}
	return c.print(e, v, func(w io.Writer) { showVerdict(w, v) })
}

func showVerdict(w io.Writer, v sallyport.Verdict) {
	fmt.Fprintf(w, "%s  %s to %s\n  subject  %s (%s)\n  policy   %s\n  input    %s\n", v.Decision, v.Gate, v.Environment, v.Subject, plain(v.Artifact), v.PolicyDigest, v.InputDigest)
	for _, r := range v.Reasons {
		fmt.Fprintf(w, "  - %s\n", plain(r))
	}
}

type gateReplayCmd struct {
	remote
	output
	ID     string `arg:"" help:"Id of the verdict."`
	Policy string `help:"A Rego file to decide with instead." type:"existingfile" placeholder:"FILE"`
}

func (c gateReplayCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	source := ""
	if c.Policy != "" {
		b, err := os.ReadFile(c.Policy)
		if err != nil {
			return err
		}
		source = string(b)
	}
	was, err := s.Gates.Verdict(e.ctx, sallyport.VerdictID(c.ID))
	if err != nil {
		return err
	}
	now, err := s.Gates.Replay(e.ctx, was.ID, source)
	if err != nil {
		return err
	}
	same := was.Decision == now.Decision && slices.Equal(was.Reasons, now.Reasons)
	err = c.print(e, struct {
		Same bool              `json:"same"`
		Was  sallyport.Verdict `json:"was"`
		Now  sallyport.Verdict `json:"now"`
	}{same, was, now}, func(w io.Writer) {
		if same {
			fmt.Fprintln(w, "The same decision for the same reasons:")
		} else {
			fmt.Fprintf(w, "A different decision; it was %s.\n", was.Decision)
		}
		showVerdict(w, now)
	})
	if err == nil && !same && source == "" { // the same policy over the same input must decide the same
		return exitError(exitFailed)
	}
	return err
}
