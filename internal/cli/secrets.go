package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/sallyport-ci/sallyport"
)

type secretsCmd struct {
	List   secretsListCmd   `cmd:"" default:"withargs" help:"List the secrets of a project, without their values."`
	Set    secretsSetCmd    `cmd:"" help:"Keep a secret for jobs; its value is read from stdin or a prompt."`
	Delete secretsDeleteCmd `cmd:"" help:"Delete a secret."`
	// Rotation reads and sets rules, Rotate asks for one now.
	Rotation secretsRotationCmd `cmd:"" help:"Show how secrets are rotated, or say how one is."`
	Rotate   secretsRotateCmd   `cmd:"" help:"Change a secret at its source, now."`
	Leak     secretsLeakCmd     `cmd:"" help:"Answer to a secret that leaked: stop it, cancel who holds it, replace it, and tell who had it."`
}

// secretScope says whose a secret is.
type secretScope struct {
	Project     string `required:"" help:"The project." placeholder:"NAME"`
	Environment string `help:"Whose jobs alone may use it; default: all jobs of the project." placeholder:"NAME"`
}

func (s secretScope) String() string {
	if s.Environment == "" {
		return "project " + s.Project
	}
	return "environment " + s.Environment + " of project " + s.Project
}

type secretsListCmd struct {
	remote
	output
	Project string `arg:"" help:"The project."`
}

func (c secretsListCmd) Run(e *env) error {
	s, p, err := c.project(e, c.Project)
	if err != nil {
		return err
	}
	list, err := s.Secrets.Secrets(e.ctx, p.ID)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "NAME\tENVIRONMENT\tSET\tBY", func(line func(...any)) {
			for _, entry := range list {
				environment := entry.Environment
				if environment == "" {
					environment = "(all jobs)"
				}
				line(entry.Name, environment, ago(entry.SetAt), entry.SetBy)
			}
		})
	})
}

type secretsSetCmd struct {
	remote
	output
	secretScope
	Name string `arg:"" help:"Name of the secret, in capitals."`
}

func (c secretsSetCmd) Run(e *env) error {
	s, p, err := c.project(e, c.Project)
	if err != nil {
		return err
	}
	value, err := readSecret(e.stderr, c.Name)
	if err != nil {
		return err
	}
	entry, err := s.Secrets.SetSecret(e.ctx, p.ID, c.Environment, c.Name, value)
	if err != nil {
		return err
	}
	return c.print(e, entry, func(w io.Writer) {
		fmt.Fprintf(w, "set %s of %s\n", entry.Name, c.secretScope)
		fmt.Fprintln(e.stderr, "Nobody can read it back. A rule in .sallyport/egress.yaml lends it to jobs.")
	})
}

// readSecret reads a value from a prompt that does not show it, or from what stdin is connected
// to. An argument would be seen by every process of the host.
func readSecret(talk io.Writer, name string) (sallyport.Secret, error) {
	if isTerminal(os.Stdin) {
		fmt.Fprintf(talk, "Value of %s: ", name)
		value, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(talk)
		if err != nil {
			return sallyport.Secret{}, sallyport.Errorf(sallyport.CodeInvalid, "the value cannot be read: %v", err)
		}
		return sallyport.NewSecret(value), nil
	}
	value, err := io.ReadAll(io.LimitReader(os.Stdin, sallyport.MaxSecret+2))
	if err != nil {
		return sallyport.Secret{}, sallyport.Errorf(sallyport.CodeInvalid, "the value cannot be read: %v", err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(value), "\n"), "\r")
	if strings.Contains(text, "\n") { // a key file, which ends with its last line
		text = string(value)
	}
	return sallyport.NewSecret([]byte(text)), nil
}

type secretsDeleteCmd struct {
	remote
	secretScope
	Name string `arg:"" help:"Name of the secret."`
}

func (c secretsDeleteCmd) Run(e *env) error {
	s, p, err := c.project(e, c.Project)
	if err != nil {
		return err
	}
	if err := s.Secrets.DeleteSecret(e.ctx, p.ID, c.Environment, c.Name); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "deleted %s of %s\n", plain(c.Name), c.secretScope)
	return nil
}
