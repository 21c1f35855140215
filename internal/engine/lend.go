package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// keptSecret is a secret as it is when a job is leased.
type keptSecret struct {
	sallyport.SecretEntry
	sealed []byte
}

// keptFor returns which of the kept secrets the credential rules of a job lend it: the one of
// its environment before the project's own. Which rules are a job's own, egress.Lendable has
// decided; what comes from strangers gets nothing whatever it says.
func (c *change) keptFor(l *sallyport.Lease, r sallyport.Run, j sallyport.Job) ([]keptSecret, error) {
	if len(l.Egress.Credentials) == 0 || !r.Tier.Covers(sallyport.TierMember) {
		return nil, nil
	}
	all, err := c.Secrets().List(r.Project)
	if err != nil {
		return nil, err
	}
	by := map[string]sallyport.SecretEntry{}
	for _, e := range all {
		mine := j.Environment != nil && e.Environment != "" && e.Environment == strings.ToLower(j.Environment.Name) && plainASCII(j.Environment.Name)
		if _, known := by[e.Name]; mine || e.Environment == "" && !known {
			by[e.Name] = e
		}
	}
	var out []keptSecret
	seen := map[string]bool{}
	for _, rule := range l.Egress.Credentials {
		if e, ok := by[rule.Secret]; ok && !seen[e.Name] {
			seen[e.Name] = true
			entry, sealed, err := c.Secrets().Sealed(e.Project, e.Environment, e.Name)
			if err != nil {
				return nil, err
			}
			out = append(out, keptSecret{entry, sealed})
		}
	}
	return out, nil
}

// lendable fails while one of the secrets, or the key that sealed them, is stopped.
func (c *change) lendable(p sallyport.Project, kept []keptSecret) error {
	if len(kept) == 0 {
		return nil
	}
	var names []string
	for _, e := range kept {
		names = append(names, secretPath(p.Name, e.Environment, e.Name))
	}
	if err := unstopped(c.Tx, sallyport.StopSecret, names...); err != nil {
		return err
	}
	return unstopped(c.Tx, sallyport.StopKey, sallyport.KeySecrets)
}

// values opens the secrets that a lease lends: the versions that its record names, whatever was
// set since.
func (e *Engine) values(ctx context.Context, kept []keptSecret) (map[string]string, error) {
	out := map[string]string{}
	for _, k := range kept {
		value, err := e.sealer.Open(ctx, k.sealed, secretAAD(k.SecretEntry))
		if err != nil {
			return nil, fmt.Errorf("open secret %s: %w", k.Name, err)
		}
		out[k.Name] = string(value)
	}
	return out, nil
}

// lendTo records which versions an attempt of a job holds, and has the rules use their accounts.
func (c *change) lendTo(l *sallyport.Lease, p sallyport.ProjectID, j sallyport.Job, kept []keptSecret) error {
	for _, k := range kept {
		lease := sallyport.SecretLease{Project: p, Environment: k.Environment, Name: k.Name, Version: k.Version, Run: j.Run, Job: j.ID, Attempt: j.Attempt, Runner: j.Runner, At: c.now}
		if err := c.Secrets().Lend(lease); err != nil {
			return err
		}
		if k.Account == "" {
			continue
		}
		l.Egress.Credentials = slices.Clone(l.Egress.Credentials)
		for i := range l.Egress.Credentials {
			if rule := &l.Egress.Credentials[i]; rule.Secret == k.Name && rule.User != "" {
				rule.User = k.Account
			}
		}
	}
	return nil
}

// lentVersions names values for the trail, so that it can be told who used one that leaked.
func lentVersions(kept []keptSecret) []string {
	var out []string
	for _, e := range kept {
		out = append(out, e.Name+"@"+string(e.Version))
	}
	return out
}
