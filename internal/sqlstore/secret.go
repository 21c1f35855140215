package sqlstore

import "github.com/sallyport-ci/sallyport"

const secretColumns = "project, environment, name, version, account, set_at, set_by"

const (
	secretPut = "INSERT INTO secrets (" + secretColumns + ", sealed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) " +
		"ON CONFLICT (project, environment, name) DO UPDATE SET version = excluded.version, account = excluded.account, set_at = excluded.set_at, set_by = excluded.set_by, sealed = excluded.sealed"
	secretGet    = "SELECT " + secretColumns + ", sealed FROM secrets WHERE project = $1 AND environment = $2 AND name = $3"
	secretList   = "SELECT " + secretColumns + " FROM secrets WHERE project = $1 ORDER BY name, environment"
	leaseColumns = "l.project, l.environment, l.name, l.version, l.run, l.job, l.attempt, l.runner, l.at"
	secretLend   = "INSERT INTO secret_leases (project, environment, name, version, run, job, attempt, runner, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"
	secretLent   = "SELECT " + leaseColumns + " FROM secret_leases l WHERE l.version = $1 ORDER BY l.at, l.job LIMIT 10000"
	secretHeld   = "SELECT " + leaseColumns + " FROM secret_leases l JOIN jobs j ON j.id = l.job WHERE l.version = $1 AND j.status = 'in_progress' AND j.attempt = l.attempt ORDER BY l.at, l.job LIMIT 10000"
	secretDelete = "DELETE FROM secrets WHERE project = $1 AND environment = $2 AND name = $3"
)

func (t secrets) Put(e sallyport.SecretEntry, sealed []byte) error {
	_, err := t.exec(secretPut, e.Project, e.Environment, e.Name, e.Version, e.Account, micros(e.SetAt), e.SetBy, blob(sealed))
	return err
}

func (t secrets) Sealed(p sallyport.ProjectID, environment, name string) (sallyport.SecretEntry, []byte, error) {
	type row struct {
		entry  sallyport.SecretEntry
		sealed []byte
	}
	r, err := one(t.tx, "secret", func(s scanner) (v row, err error) {
		e := &v.entry
		err = s.Scan(&e.Project, &e.Environment, &e.Name, &e.Version, &e.Account, stamp{&e.SetAt}, &e.SetBy, &v.sealed)
		return v, err
	}, secretGet, p, environment, name)
	return r.entry, r.sealed, err
}

func (t secrets) List(p sallyport.ProjectID) ([]sallyport.SecretEntry, error) {
	return many(t.tx, func(s scanner) (e sallyport.SecretEntry, err error) {
		err = s.Scan(&e.Project, &e.Environment, &e.Name, &e.Version, &e.Account, stamp{&e.SetAt}, &e.SetBy)
		return e, err
	}, secretList, p)
}

func (t secrets) Delete(p sallyport.ProjectID, environment, name string) error {
	return t.change("secret", secretDelete, p, environment, name)
}

func (t secrets) Lend(l sallyport.SecretLease) error {
	_, err := t.exec(secretLend, l.Project, l.Environment, l.Name, l.Version, l.Run, l.Job, l.Attempt, l.Runner, micros(l.At))
	return err
}

func (t secrets) Lent(v sallyport.SecretVersion, all bool) ([]sallyport.SecretLease, error) {
	query := secretHeld
	if all {
		query = secretLent
	}
	return many(t.tx, func(s scanner) (l sallyport.SecretLease, err error) {
		err = s.Scan(&l.Project, &l.Environment, &l.Name, &l.Version, &l.Run, &l.Job, &l.Attempt, &l.Runner, stamp{&l.At})
		return l, err
	}, query, v)
}
