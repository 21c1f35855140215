package engine

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// maxIncidentRuns bounds the runs whose doors an incident looks at.
const maxIncidentRuns = 500

// Leak stops a secret, has it replaced and tells who had it, in one transaction.
func (s secrets) Leak(ctx context.Context, p sallyport.ProjectID, environment, name, where string) (sallyport.Incident, error) {
	environment = strings.ToLower(environment)
	if err := s.e.allowIn(ctx, actSecrets, p, environment); err != nil {
		return sallyport.Incident{}, err
	}
	if len(where) > maxNote {
		return sallyport.Incident{}, sallyport.Errorf(sallyport.CodeInvalid, "say where in at most %d bytes", maxNote)
	}
	var in sallyport.Incident
	err := s.e.update(ctx, func(c *change) error {
		entry, _, err := c.Secrets().Sealed(p, environment, name)
		if err != nil {
			return err
		}
		project, err := c.Projects().Get(p)
		if err != nil {
			return err
		}
		in = sallyport.Incident{Project: p, Environment: environment, Name: name, Version: entry.Version, Where: where, At: c.now, By: c.actor}
		if in.Leases, err = c.Secrets().Lent(entry.Version, true); err != nil {
			return err
		}
		if in.Hosts, err = usedAt(c.Tx, name, in.Leases); err != nil {
			return err
		}
		if err := s.e.freeze(ctx, c, project, &in); err != nil {
			return err
		}
		if in.Rotation, err = c.rotateLeaked(p, environment, name); err != nil {
			return err
		}
		detail := secretDetail(entry)
		detail["where"], detail["leases"], detail["hosts"] = clip(where, 200), len(in.Leases), len(in.Hosts)
		if in.Rotation != nil {
			detail["rotation"] = in.Rotation.ID
		}
		return c.record("secret.leaked", "project/"+string(p), detail)
	})
	return in, err
}

// freeze throws the kill switch on the secret, unless it is stopped already.
func (e *Engine) freeze(ctx context.Context, c *change, p sallyport.Project, in *sallyport.Incident) error {
	path := secretPath(p.Name, in.Environment, in.Name)
	standing, err := stopped(c.Tx, sallyport.StopSecret, path)
	if err != nil {
		return err
	}
	if standing != nil {
		in.Stop.Stop = *standing
		return nil
	}
	why := "it leaked"
	if in.Where != "" {
		why += ": " + in.Where
	}
	in.Stop.Stop = sallyport.Stop{ID: newID[sallyport.StopID](c), Kind: sallyport.StopSecret, Name: path, Project: p.ID, Why: clip(why, maxNote), At: c.now, By: sallyport.PartyOf(sallyport.PrincipalFrom(ctx))}
	return e.throw(c, &in.Stop)
}

// rotateLeaked has the present value replaced at once. One that is being replaced goes on without
// waiting; one that has just been promoted is itself what leaked, so another rotation follows.
func (c *change) rotateLeaked(p sallyport.ProjectID, environment, name string) (*sallyport.Rotation, error) {
	rule, admin, err := c.Rotations().Rule(p, environment, name)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, _, staged, err := c.Rotations().Last(p, environment, name)
	switch {
	case err == nil && !r.State.Ended():
		if r.State.Promoted() || r.State == sallyport.RotationUndoing {
			rule.Due, rule.Leaked = c.now, true
			if err := c.Rotations().PutRule(rule, admin); err != nil {
				return nil, err
			}
		}
		r.Urgent, r.NextAt = true, time.Time{}
		if err := c.Rotations().Save(&r, staged); err != nil {
			return nil, err
		}
	case err == nil || sallyport.ErrorCode(err) == sallyport.CodeNotFound:
		rule.Leaked = true
		if r, err = c.beginRotation(rule, admin, "leak"); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	return &r, c.enqueueRotate(p, environment, name, c.now)
}

// usedAt returns the hosts at which jobs used a secret, as the doors of their runs saw it.
func usedAt(tx sallyport.Tx, name string, leases []sallyport.SecretLease) ([]string, error) {
	jobs, runs := map[sallyport.JobID]bool{}, []sallyport.RunID{}
	for _, l := range leases {
		jobs[l.Job] = true
		if !slices.Contains(runs, l.Run) && len(runs) < maxIncidentRuns {
			runs = append(runs, l.Run)
		}
	}
	var hosts []string
	for _, id := range runs {
		_, all, err := runDoors(tx, id)
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			if !jobs[d.Job] {
				continue
			}
			for _, u := range d.Record.Uses {
				named := slices.ContainsFunc(d.Rules.Credentials, func(r sallyport.CredentialRule) bool { return r.Name == u.Credential && r.Secret == name })
				if named && u.Decision == sallyport.EgressAllowed && !slices.Contains(hosts, u.Host) {
					hosts = append(hosts, u.Host)
				}
			}
		}
	}
	slices.Sort(hosts)
	return hosts, nil
}
