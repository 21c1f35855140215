package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

type peopleCmd struct {
	Add    peopleAddCmd    `cmd:"" help:"Add a person."`
	List   peopleListCmd   `cmd:"" help:"List people."`
	Remove accountGoneCmd  `cmd:"" help:"Remove a person, their tokens and sessions."`
	Login  accountLoginCmd `cmd:"" help:"Print a link with which the person logs in once."`
	Link   accountLinkCmd  `cmd:"" help:"Say whom of the company's provider an account is of."`
}

type botsCmd struct {
	Add    botsAddCmd     `cmd:"" help:"Add a bot."`
	List   botsListCmd    `cmd:"" help:"List bots."`
	Remove accountGoneCmd `cmd:"" help:"Remove a bot and its tokens."`
}

type agentsCmd struct {
	Add    agentsAddCmd   `cmd:"" help:"Add an agent, which may never do more than the person who sponsors it."`
	List   agentsListCmd  `cmd:"" help:"List agents."`
	Remove accountGoneCmd `cmd:"" help:"Remove an agent and its tokens."`
}

// newAccount is what every account is made of.
type newAccount struct {
	remote
	output
	Name    string   `arg:"" help:"The name; it is not given twice."`
	Project []string `help:"Let it work on a project (repeatable); policies can let more." placeholder:"NAME"`
}

func (c newAccount) add(e *env, a sallyport.Account) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	for _, name := range c.Project {
		p, err := s.Projects.Project(e.ctx, name)
		if err != nil {
			return err
		}
		a.Projects = append(a.Projects, p.ID)
	}
	a.Name = c.Name
	if a, err = s.Rights.AddAccount(e.ctx, a); err != nil {
		return err
	}
	return c.print(e, a, func(w io.Writer) { fmt.Fprintln(w, a.ID) })
}

type peopleAddCmd struct {
	newAccount
	Team  []string `help:"Put the person in a team (repeatable)." placeholder:"NAME"`
	Admin bool     `help:"Let the person administer the installation."`
}

func (c peopleAddCmd) Run(e *env) error {
	return c.add(e, sallyport.Account{Kind: sallyport.Person, Teams: c.Team, Admin: c.Admin})
}

type botsAddCmd struct{ newAccount }

func (c botsAddCmd) Run(e *env) error { return c.add(e, sallyport.Account{Kind: sallyport.Bot}) }

type agentsAddCmd struct {
	newAccount
	Sponsor string `required:"" help:"The person for whom it acts." placeholder:"ID"`
}

func (c agentsAddCmd) Run(e *env) error {
	if !strings.Contains(c.Sponsor, "/") {
		c.Sponsor = string(sallyport.Person) + "/" + c.Sponsor
	}
	return c.add(e, sallyport.Account{Kind: sallyport.Agent, Sponsor: c.Sponsor})
}

type accountList struct {
	remote
	output
}

func (c accountList) list(e *env, kind sallyport.PrincipalKind) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	all, err := s.Rights.Accounts(e.ctx)
	if err != nil {
		return err
	}
	projects, err := s.Projects.Projects(e.ctx)
	if err != nil {
		return err
	}
	var list []sallyport.Account
	for _, a := range all {
		if a.Kind == kind {
			list = append(list, a)
		}
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "ID\tMAY WORK ON\tTEAMS\tSPONSOR\tADDED", func(line func(...any)) {
			for _, a := range list {
				var on []string
				for _, p := range projects {
					for _, id := range a.Projects {
						if p.ID == id {
							on = append(on, p.Name)
						}
					}
				}
				if a.Admin {
					on = []string{"everything, as administrator"}
				}
				line(a.ID, orDash(strings.Join(on, ", ")), orDash(strings.Join(a.Teams, ", ")), orDash(a.Sponsor), ago(a.CreatedAt))
			}
		})
	})
}

type (
	peopleListCmd struct{ accountList }
	botsListCmd   struct{ accountList }
	agentsListCmd struct{ accountList }
)

func (c peopleListCmd) Run(e *env) error { return c.list(e, sallyport.Person) }
func (c botsListCmd) Run(e *env) error   { return c.list(e, sallyport.Bot) }
func (c agentsListCmd) Run(e *env) error { return c.list(e, sallyport.Agent) }

type accountGoneCmd struct {
	remote
	ID string `arg:"" help:"As it is listed, as person/anna."`
}

func (c accountGoneCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	return s.Rights.RemoveAccount(e.ctx, c.ID)
}

type accountLoginCmd struct {
	remote
	ID string `arg:"" help:"As it is listed, as person/anna."`
}

func (c accountLoginCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	a, err := accountOf(e, s, c.ID)
	if err != nil {
		return err
	}
	p := sallyport.Principal{Kind: a.Kind, ID: a.ID, Name: a.Name, Admin: a.Admin, Whole: true}
	value, _, err := s.Access.CreateToken(e.ctx, "login of "+a.Name, sallyport.TokenLogin, p, loginTTL)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s/login?token=%s\n", c.address(), value)
	fmt.Fprintf(e.stderr, "Give it to %s; open it within %s; it works once.\n", a.Name, loginTTL)
	return nil
}

type accountLinkCmd struct {
	remote
	ID      string `arg:"" help:"As it is listed, as person/anna."`
	Subject string `arg:"" help:"As the provider's tokens name the person, most often in the claim sub; '' for nobody."`
}

func (c accountLinkCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	return s.Rights.LinkLogin(e.ctx, c.ID, c.Subject)
}

func accountOf(e *env, s sallyport.Services, id string) (sallyport.Account, error) {
	all, err := s.Rights.Accounts(e.ctx)
	if err != nil {
		return sallyport.Account{}, err
	}
	for _, a := range all {
		if a.ID == id {
			return a, nil
		}
	}
	return sallyport.Account{}, sallyport.Errorf(sallyport.CodeNotFound, "there is no account %.80q", id).
		WithHint("list them with: sallyport people list, bots list or agents list")
}
