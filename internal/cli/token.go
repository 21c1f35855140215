package cli

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Create an API token and print its value, once."`
	List   tokenListCmd   `cmd:"" help:"List tokens."`
	Revoke tokenRevokeCmd `cmd:"" help:"Revoke a token."`
}

type tokenCreateCmd struct {
	remote
	output
	Name    string        `arg:"" help:"What the token is for."`
	Project []string      `help:"Limit it to projects (repeatable); default: every project, as administrator; with --for, all that the account may." placeholder:"NAME"`
	For     string        `help:"Make it for an account, as bot/ci." placeholder:"ID"`
	Action  []string      `help:"Limit it to actions (repeatable)." placeholder:"NAME"`
	TTL     time.Duration `help:"How long it lives." default:"720h"`
}

func (c tokenCreateCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	p := sallyport.Principal{Kind: sallyport.Bot, ID: "bot/" + c.Name, Name: c.Name, Admin: len(c.Project) == 0, Actions: c.Action}
	if c.For != "" {
		a, err := accountOf(e, s, c.For)
		if err != nil {
			return err
		}
		p = sallyport.Principal{Kind: a.Kind, ID: a.ID, Name: a.Name, Admin: a.Admin && len(c.Project) == 0, Whole: true, Actions: c.Action}
	}
	for _, name := range c.Project {
		project, err := s.Projects.Project(e.ctx, name)
		if err != nil {
			return err
		}
		p.Projects = append(p.Projects, project.ID)
	}
	value, t, err := s.Access.CreateToken(e.ctx, c.Name, sallyport.TokenAPI, p, c.TTL)
	if err != nil {
		return err
	}
	return c.print(e, struct {
		sallyport.Token
		Value string `json:"value"`
	}{t, value}, func(w io.Writer) {
		fmt.Fprintln(w, value)
		fmt.Fprintf(e.stderr, "Keep it now: it is not shown again. It expires on %s.\n", t.ExpiresAt.Format("2006-01-02"))
	})
}

type tokenListCmd struct {
	remote
	output
}

func (c tokenListCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	list, err := s.Access.Tokens(e.ctx)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "ID\tKIND\tNAME\tFOR\tEXPIRES\tUSED", func(line func(...any)) {
			for _, t := range list {
				line(t.ID, t.Kind, t.Name, t.Principal, t.ExpiresAt.Format("2006-01-02 15:04"), ago(t.UsedAt))
			}
		})
	})
}

type tokenRevokeCmd struct {
	remote
	ID string `arg:"" help:"Id of the token."`
}

func (c tokenRevokeCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	return s.Access.RevokeToken(e.ctx, sallyport.TokenID(c.ID))
}

type loginCmd struct {
	remote
}

const loginTTL = 15 * time.Minute

// Run prints a link that logs the person at this terminal in once.
func (c loginCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	p := operator()
	value, _, err := s.Access.CreateToken(e.ctx, "login of "+p.Name, sallyport.TokenLogin, p, loginTTL)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s/login?token=%s\n", c.address(), value)
	fmt.Fprintf(e.stderr, "Open it within %s; it works once.\n", loginTTL)
	return nil
}

// operator is whoever runs this process, as an administrator of the installation.
func operator() sallyport.Principal {
	name := fmt.Sprintf("uid-%d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return sallyport.Principal{Kind: sallyport.Person, ID: fmt.Sprintf("local/%d", os.Getuid()), Name: name, Admin: true}
}
