package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport"
)

const maxRotationFile = 64 << 10

type secretsRotationCmd struct {
	remote
	output
	secretScope
	Name string `arg:"" optional:"" help:"The secret; default: all of the project."`
	File string `help:"Rotate the secret as this YAML file says. The credential that changes it at the target is read from stdin or a prompt." placeholder:"FILE" xor:"rule"`
	Off  bool   `help:"Rotate the secret no more." xor:"rule"`
}

// ruleFile is how people write a rule.
type ruleFile struct {
	Rotator string         `yaml:"rotator"`
	Every   time.Duration  `yaml:"every"`
	From    int            `yaml:"from"`
	To      int            `yaml:"to"`
	Overlap time.Duration  `yaml:"overlap"`
	Config  map[string]any `yaml:"config"`
}

func readRule(file string) (sallyport.RotationRule, error) {
	var r sallyport.RotationRule
	f, err := os.Open(file)
	if err != nil {
		return r, sallyport.Errorf(sallyport.CodeInvalid, "the rule cannot be read: %v", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxRotationFile+1))
	if err != nil || len(src) > maxRotationFile {
		return r, sallyport.Errorf(sallyport.CodeInvalid, "%s cannot be read, or has more than %d KiB", file, maxRotationFile>>10)
	}
	var in ruleFile
	d := yaml.NewDecoder(bytes.NewReader(src))
	d.KnownFields(true)
	if err := d.Decode(&in); err != nil {
		return r, sallyport.Errorf(sallyport.CodeInvalid, "%s: %v", file, err).WithHint("see docs/guide/secrets.md")
	}
	if in.Rotator == "" {
		return r, sallyport.Errorf(sallyport.CodeInvalid, "%s: rotator is needed", file).WithHint("rotator: postgres, or http")
	}
	r = sallyport.RotationRule{Rotator: in.Rotator, Every: in.Every, From: in.From, To: in.To, Overlap: in.Overlap}
	if r.Config, err = json.Marshal(in.Config); err != nil {
		return r, sallyport.Errorf(sallyport.CodeInvalid, "%s: config: %v", file, err)
	}
	return r, nil
}

func (c secretsRotationCmd) Run(e *env) error {
	s, p, err := c.project(e, c.Project)
	if err != nil {
		return err
	}
	if c.File != "" || c.Off {
		return c.set(e, s, p.ID)
	}
	all, err := s.Secrets.Rotations(e.ctx, p.ID)
	if err != nil {
		return err
	}
	var list []sallyport.RotationStatus
	for _, r := range all {
		if c.Name == "" || r.Rule.Name == c.Name && (c.Environment == "" || r.Rule.Environment == c.Environment) {
			list = append(list, r)
		}
	}
	if c.Name != "" && len(list) == 0 {
		return sallyport.Errorf(sallyport.CodeNotFound, "nothing says how %s is rotated", c.Name).WithHint("say so with --file RULE.yaml")
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "NAME\tENVIRONMENT\tROTATOR\tNEXT DUE\tSTATE\tNOTE", func(line func(...any)) {
			for _, r := range list {
				environment, due, state, note := r.Rule.Environment, "when asked", "idle", ""
				if environment == "" {
					environment = "(all jobs)"
				}
				if !r.Rule.Due.IsZero() {
					due = r.Rule.Due.Format(time.RFC3339)
				}
				if last := r.Last; last != nil {
					note = plain(last.LastError)
					if state = string(last.State); last.State == sallyport.RotationDone {
						state, note = "idle", "rotated "+ago(last.EndedAt)
					}
				}
				line(r.Rule.Name, environment, r.Rule.Rotator, due, state, note)
			}
		})
		for _, r := range list {
			for _, h := range r.Holders {
				fmt.Fprintf(w, "job %s of run %s holds the old value of %s\n", h.Job, h.Run, h.Name)
			}
		}
	})
}

func (c secretsRotationCmd) set(e *env, s sallyport.Services, p sallyport.ProjectID) error {
	if c.Name == "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "the secret is needed").WithHint("sallyport secrets rotation NAME --project %s --file RULE.yaml", c.Project)
	}
	var rule sallyport.RotationRule
	var admin sallyport.Secret
	var err error
	if !c.Off {
		if rule, err = readRule(c.File); err != nil {
			return err
		}
		if admin, err = readSecret(e.stderr, "the credential that changes "+c.Name+" at the target"); err != nil {
			return err
		}
	}
	rule, err = s.Secrets.SetRotation(e.ctx, p, c.Environment, c.Name, rule, admin)
	if err != nil {
		return err
	}
	return c.print(e, rule, func(w io.Writer) {
		switch {
		case c.Off:
			fmt.Fprintf(w, "%s of %s is rotated no more\n", c.Name, c.secretScope)
		case rule.Due.IsZero():
			fmt.Fprintf(w, "%s of %s is rotated when asked\n", c.Name, c.secretScope)
		default:
			fmt.Fprintf(w, "%s of %s is rotated next at %s\n", c.Name, c.secretScope, rule.Due.Format(time.RFC3339))
		}
	})
}

type secretsRotateCmd struct {
	remote
	output
	secretScope
	Name string `arg:"" help:"Name of the secret."`
}

func (c secretsRotateCmd) Run(e *env) error {
	s, p, err := c.project(e, c.Project)
	if err != nil {
		return err
	}
	r, err := s.Secrets.Rotate(e.ctx, p.ID, c.Environment, c.Name)
	if err != nil {
		return err
	}
	return c.print(e, r, func(w io.Writer) {
		fmt.Fprintf(w, "rotation %s of %s is %s\n", r.ID, c.Name, r.State)
		fmt.Fprintf(e.stderr, "Follow it with: sallyport secrets rotation %s --project %s\n", c.Name, c.Project)
	})
}
