package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

type projectCmd struct {
	Create projectCreateCmd `cmd:"" help:"Create a project and print where to push it."`
	List   projectListCmd   `cmd:"" help:"List projects."`
}

type projectCreateCmd struct {
	remote
	output
	Name   string `arg:"" help:"Name of the project and its repository."`
	Branch string `help:"Protected default branch." default:"main"`
}

func (c projectCreateCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	p, err := s.Projects.CreateProject(e.ctx, c.Name, c.Branch)
	if err != nil {
		return err
	}
	return c.print(e, p, func(w io.Writer) {
		fmt.Fprintf(w, "Project %s is ready. Push to it:\n\n", p.Name)
		fmt.Fprintf(w, "    git remote add sallyport %s/%s.git\n    git push sallyport %s\n\n", c.address(), p.Name, p.DefaultBranch)
		fmt.Fprintf(w, "Git asks for a user name (any) and a password, which is a token:\n\n    sallyport token create laptop --project %s\n", p.Name)
	})
}

// address is where the installation serves its pages and git.
func (r remote) address() string {
	if r.URL != "" {
		return strings.TrimRight(r.URL, "/")
	}
	return daemon.Address(r.Data)
}

type projectListCmd struct {
	remote
	output
}

func (c projectListCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	list, err := s.Projects.Projects(e.ctx)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "NAME\tBRANCH\tCREATED", func(line func(...any)) {
			for _, p := range list {
				line(p.Name, p.DefaultBranch, ago(p.CreatedAt))
			}
		})
	})
}

// project finds the project a verb is about; "" is the only one there is.
func findProject(ctx context.Context, s sallyport.Services, name string) (sallyport.Project, error) {
	if name != "" {
		return s.Projects.Project(ctx, name)
	}
	list, err := s.Projects.Projects(ctx)
	if err != nil {
		return sallyport.Project{}, err
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return sallyport.Project{}, sallyport.Errorf(sallyport.CodeInvalid, "there are %d projects", len(list)).WithHint("name one with --project")
}
