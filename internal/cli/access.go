package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/policy/rights"
)

type accessCmd struct {
	Check  accessCheckCmd  `cmd:"" help:"Check a file of policies, without a server."`
	Schema accessSchemaCmd `cmd:"" help:"Print what policies are about: principals, actions, resources."`
	Show   accessShowCmd   `cmd:"" help:"Show every policy in force."`
	WhoCan accessWhoCanCmd `cmd:"" name:"who-can" help:"List all who may do an action to a resource."`
	Diff   accessDiffCmd   `cmd:"" help:"Tell what a file of policies would change."`
	Set    accessSetCmd    `cmd:"" help:"Put a file of policies in force."`
}

// policyFile is the operator's policies.
type policyFile struct {
	File string `arg:"" help:"Policies in Cedar."`
}

func (f policyFile) read() (string, error) {
	file, err := os.Open(f.File)
	if err != nil {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "cannot read the policies: %v", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, rights.MaxSource+1))
	if err != nil {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "cannot read the policies: %v", err)
	}
	if len(b) > rights.MaxSource {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "%s is larger than %d bytes", f.File, rights.MaxSource)
	}
	return string(b), nil
}

type accessCheckCmd struct {
	output
	policyFile
}

func (c accessCheckCmd) Run(e *env) error {
	source, err := c.read()
	if err != nil {
		return err
	}
	set, err := rights.Compile(rights.Layer{Name: c.File, Source: []byte(source)})
	var found rights.Findings
	if err != nil && !errors.As(err, &found) {
		return err
	}
	policies := 0
	if set != nil {
		none, err := rights.Compile()
		if err != nil {
			return err
		}
		policies = len(set.Policies()) - len(none.Policies())
	}
	err = c.print(e, struct {
		Policies int             `json:"policies"`
		Findings rights.Findings `json:"findings"`
	}{policies, orEmpty(found)}, func(w io.Writer) {
		for _, f := range found {
			fmt.Fprintln(w, plain(f.String()))
		}
		if len(found) == 0 {
			fmt.Fprintf(w, "%s: %d policies, nothing found\n", c.File, policies)
		}
	})
	if err == nil && len(found) > 0 {
		return sallyport.Errorf(sallyport.CodeInvalid, "%s is refused", c.File)
	}
	return err
}

type accessSchemaCmd struct{}

func (c accessSchemaCmd) Run(e *env) error {
	_, err := io.WriteString(e.stdout, rights.Schema())
	return err
}

type accessShowCmd struct {
	remote
	output
}

func (c accessShowCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	rules, err := s.Rights.AccessRules(e.ctx)
	if err != nil {
		return err
	}
	return c.print(e, rules, func(w io.Writer) {
		if rules.File.Source != "" {
			fmt.Fprintf(w, "// set by %s on %s\n", plain(rules.File.Actor), rules.File.At.Format("2006-01-02 15:04"))
		}
		for _, r := range rules.Rules {
			if !strings.HasPrefix(r.Text, "@id(") {
				fmt.Fprintf(w, "// %s\n", plain(r.ID))
			}
			fmt.Fprintf(w, "%s\n\n", r.Text)
		}
	})
}

type accessWhoCanCmd struct {
	remote
	output
	Action   string `arg:"" help:"An action, as deploy."`
	Resource string `arg:"" help:"A resource, as 'Environment::\"shop/production\"'."`
}

func (c accessWhoCanCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	list, err := s.Rights.WhoCan(e.ctx, c.Action, c.Resource)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		for _, h := range list {
			if h.Always {
				fmt.Fprintln(w, plain(h.Principal))
			} else {
				fmt.Fprintln(w, plain(h.Principal), "(under conditions)")
			}
		}
		if len(list) == 0 {
			fmt.Fprintln(e.stderr, "Nobody.")
		}
	})
}

type accessDiffCmd struct {
	remote
	output
	policyFile
}

func (c accessDiffCmd) Run(e *env) error {
	source, err := c.read()
	if err != nil {
		return err
	}
	s, err := c.services()
	if err != nil {
		return err
	}
	change, err := s.Rights.CompareRules(e.ctx, source)
	if err != nil {
		return err
	}
	return c.print(e, change, func(w io.Writer) { printAccess(w, change) })
}

func printAccess(w io.Writer, change sallyport.AccessChange) {
	for _, r := range change.Gained {
		fmt.Fprintf(w, "+ newly lets %s %s %s\n", plain(r.Principal), plain(r.Action), plain(r.Resource))
	}
	for _, r := range change.Lost {
		fmt.Fprintf(w, "- no longer lets %s %s %s\n", plain(r.Principal), plain(r.Action), plain(r.Resource))
	}
	if change.More > 0 {
		fmt.Fprintf(w, "and %d more\n", change.More)
	}
	if len(change.Gained)+len(change.Lost) == 0 {
		fmt.Fprintln(w, "nobody may do more or less")
	}
	fmt.Fprintf(w, "%d requests compared\n", change.Asked)
}

type accessSetCmd struct {
	remote
	output
	policyFile
}

func (c accessSetCmd) Run(e *env) error {
	source, err := c.read()
	if err != nil {
		return err
	}
	s, err := c.services()
	if err != nil {
		return err
	}
	change, err := s.Rights.SetRules(e.ctx, source)
	if err != nil {
		return err
	}
	return c.print(e, change, func(w io.Writer) { printAccess(w, change) })
}
