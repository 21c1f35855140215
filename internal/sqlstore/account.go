package sqlstore

import (
	"time"

	"github.com/sallyport-ci/sallyport"
)

const accountColumns = "id, kind, name, sponsor, teams, admin, projects, created_at, removed_at"

const (
	accountInsert = "INSERT INTO accounts (" + accountColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"
	accountGet    = "SELECT " + accountColumns + " FROM accounts WHERE id = $1"
	accountList   = "SELECT " + accountColumns + " FROM accounts ORDER BY id"
	accountRemove = "UPDATE accounts SET removed_at = $2 WHERE id = $1 AND removed_at = 0"
	accountTeams  = "UPDATE accounts SET teams = $2 WHERE id = $1 AND removed_at = 0"

	accessFilePut     = "INSERT INTO access_files (number, digest, source, actor, at) SELECT COALESCE(MAX(number), 0) + 1, $1, $2, $3, CAST($4 AS BIGINT) FROM access_files"
	accessFileCurrent = "SELECT digest, source, actor, at FROM access_files ORDER BY number DESC LIMIT 1"
)

func scanAccount(r scanner) (a sallyport.Account, err error) {
	err = r.Scan(&a.ID, &a.Kind, &a.Name, &a.Sponsor, fromJSON{&a.Teams}, &a.Admin, fromJSON{&a.Projects}, stamp{&a.CreatedAt}, stamp{&a.RemovedAt})
	return a, err
}

func (t accounts) Insert(a sallyport.Account) error {
	return t.insert("account", accountInsert, a.ID, a.Kind, a.Name, a.Sponsor, asJSON(a.Teams), a.Admin, asJSON(a.Projects), micros(a.CreatedAt), micros(a.RemovedAt))
}

func (t accounts) Get(id string) (sallyport.Account, error) {
	return one(t.tx, "account", scanAccount, accountGet, id)
}

func (t accounts) Remove(id string, at time.Time) error {
	return t.change("account", accountRemove, id, micros(at))
}

func (t accounts) SetTeams(id string, teams []string) error {
	return t.change("account", accountTeams, id, asJSON(teams))
}

func (t accounts) List() ([]sallyport.Account, error) { return many(t.tx, scanAccount, accountList) }

func (t accessFiles) Put(f sallyport.AccessFile) error {
	_, err := t.exec(accessFilePut, f.Digest, f.Source, f.Actor, micros(f.At))
	return err
}

func (t accessFiles) Current() (sallyport.AccessFile, error) {
	return one(t.tx, "access file", func(r scanner) (f sallyport.AccessFile, err error) {
		err = r.Scan(&f.Digest, &f.Source, &f.Actor, stamp{&f.At})
		return f, err
	}, accessFileCurrent)
}
