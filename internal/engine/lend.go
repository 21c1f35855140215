package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// keptFor returns which of the kept secrets the credential rules of a job lend it: the one of
// its environment before the project's own. Which rules are a job's own, egress.Lendable has
// decided; what comes from strangers gets nothing whatever it says.
func (c *change) keptFor(l *sallyport.Lease, r sallyport.Run, j sallyport.Job) ([]sallyport.SecretEntry, error) {
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
	var out []sallyport.SecretEntry
	seen := map[string]bool{}
	for _, rule := range l.Egress.Credentials {
		if e, ok := by[rule.Secret]; ok && !seen[e.Name] {
			seen[e.Name] = true
			out = append(out, e)
		}
	}
	return out, nil
}

// lendable fails while one of the secrets, or the key that sealed them, is stopped.
func (c *change) lendable(p sallyport.Project, kept []sallyport.SecretEntry) error {
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

// values opens the secrets that a lease lends, in the versions that its record names. One that was set since is a conflict:
// the job is leased anew when the lease has run out.
func (e *Engine) values(ctx context.Context, kept []sallyport.SecretEntry) (map[string]string, error) {
	out := map[string]string{}
	for _, entry := range kept {
		var now sallyport.SecretEntry
		var sealed []byte
		err := e.view(ctx, func(tx sallyport.Tx) (err error) {
			now, sealed, err = tx.Secrets().Sealed(entry.Project, entry.Environment, entry.Name)
			return err
		})
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			continue // it was deleted since: the job is not lent it
		}
		if err != nil {
			return nil, err
		}
		if now.Version != entry.Version {
			return nil, sallyport.Errorf(sallyport.CodeConflict, "secret %s was set while the job was being leased", entry.Name)
		}
		value, err := e.sealer.Open(ctx, sealed, secretAAD(now))
		if err != nil {
			return nil, fmt.Errorf("open secret %s: %w", entry.Name, err)
		}
		out[entry.Name] = string(value)
	}
	return out, nil
}

// lentVersions names values for the trail, so that it can be told who used one that leaked.
func lentVersions(kept []sallyport.SecretEntry) []string {
	var out []string
	for _, e := range kept {
		out = append(out, e.Name+"@"+string(e.Version))
	}
	return out
}
