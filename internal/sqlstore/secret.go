package sqlstore

import "github.com/sallyport-ci/sallyport"

const secretColumns = "project, environment, name, version, set_at, set_by"

const (
	secretPut = "INSERT INTO secrets (" + secretColumns + ", sealed) VALUES ($1, $2, $3, $4, $5, $6, $7) " +
		"ON CONFLICT (project, environment, name) DO UPDATE SET version = excluded.version, set_at = excluded.set_at, set_by = excluded.set_by, sealed = excluded.sealed"
	secretGet    = "SELECT " + secretColumns + ", sealed FROM secrets WHERE project = $1 AND environment = $2 AND name = $3"
	secretList   = "SELECT " + secretColumns + " FROM secrets WHERE project = $1 ORDER BY name, environment"
	secretDelete = "DELETE FROM secrets WHERE project = $1 AND environment = $2 AND name = $3"
)

func (t secrets) Put(e sallyport.SecretEntry, sealed []byte) error {
	_, err := t.exec(secretPut, e.Project, e.Environment, e.Name, e.Version, micros(e.SetAt), e.SetBy, blob(sealed))
	return err
}

func (t secrets) Sealed(p sallyport.ProjectID, environment, name string) (sallyport.SecretEntry, []byte, error) {
	type row struct {
		entry  sallyport.SecretEntry
		sealed []byte
	}
	r, err := one(t.tx, "secret", func(s scanner) (v row, err error) {
		e := &v.entry
		err = s.Scan(&e.Project, &e.Environment, &e.Name, &e.Version, stamp{&e.SetAt}, &e.SetBy, &v.sealed)
		return v, err
	}, secretGet, p, environment, name)
	return r.entry, r.sealed, err
}

func (t secrets) List(p sallyport.ProjectID) ([]sallyport.SecretEntry, error) {
	return many(t.tx, func(s scanner) (e sallyport.SecretEntry, err error) {
		err = s.Scan(&e.Project, &e.Environment, &e.Name, &e.Version, stamp{&e.SetAt}, &e.SetBy)
		return e, err
	}, secretList, p)
}

func (t secrets) Delete(p sallyport.ProjectID, environment, name string) error {
	return t.change("secret", secretDelete, p, environment, name)
}
