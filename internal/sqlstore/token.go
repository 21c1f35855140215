package sqlstore

import (
	"time"

	"github.com/sallyport-ci/sallyport"
)

const tokenColumns = "id, name, hash, kind, principal, created_at, expires_at, used_at"

const (
	tokenInsert = "INSERT INTO tokens (" + tokenColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING"
	tokenByHash = "SELECT " + tokenColumns + " FROM tokens WHERE kind = $1 AND hash = $2"
	tokenGet    = "SELECT " + tokenColumns + " FROM tokens WHERE id = $1"
	tokenList   = "SELECT " + tokenColumns + " FROM tokens ORDER BY id DESC"
	tokenDelete = "DELETE FROM tokens WHERE id = $1"
	tokenUse    = "UPDATE tokens SET used_at = $2 WHERE id = $1"
)

func scanToken(r scanner) (t sallyport.Token, err error) {
	err = r.Scan(&t.ID, &t.Name, &t.Hash, &t.Kind, fromJSON{&t.Principal}, stamp{&t.CreatedAt}, stamp{&t.ExpiresAt}, stamp{&t.UsedAt})
	return t, err
}

func (t tokens) Insert(v sallyport.Token) error {
	return t.insert("token", tokenInsert, v.ID, v.Name, v.Hash, v.Kind, asJSON(v.Principal), micros(v.CreatedAt), micros(v.ExpiresAt), micros(v.UsedAt))
}

func (t tokens) ByHash(kind string, hash sallyport.Digest) (sallyport.Token, error) {
	return one(t.tx, "token", scanToken, tokenByHash, kind, hash)
}

func (t tokens) Get(id sallyport.TokenID) (sallyport.Token, error) {
	return one(t.tx, "token", scanToken, tokenGet, id)
}

func (t tokens) List() ([]sallyport.Token, error) { return many(t.tx, scanToken, tokenList) }

func (t tokens) Delete(id sallyport.TokenID) error { return t.change("token", tokenDelete, id) }

func (t tokens) Use(id sallyport.TokenID, at time.Time) error {
	return t.change("token", tokenUse, id, micros(at))
}
