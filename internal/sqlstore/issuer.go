package sqlstore

import "github.com/sallyport-ci/sallyport"

const issuerColumns = "id, kid, algorithm, made_at, signs_from, gone_at"

const (
	issuerPut = "INSERT INTO issuer_keys (" + issuerColumns + ") VALUES ($1, $2, $3, $4, $5, $6) " +
		"ON CONFLICT (id) DO UPDATE SET kid = excluded.kid, algorithm = excluded.algorithm, made_at = excluded.made_at, signs_from = excluded.signs_from, gone_at = excluded.gone_at"
	issuerList   = "SELECT " + issuerColumns + " FROM issuer_keys ORDER BY made_at, id"
	issuerDelete = "DELETE FROM issuer_keys WHERE id = $1"
)

func (t issuer) Put(k sallyport.IssuerKey) error {
	_, err := t.exec(issuerPut, k.ID, k.Kid, k.Algorithm, micros(k.MadeAt), micros(k.SignsFrom), micros(k.GoneAt))
	return err
}

func (t issuer) List() (sallyport.IssuerKeys, error) {
	return many(t.tx, func(s scanner) (k sallyport.IssuerKey, err error) {
		err = s.Scan(&k.ID, &k.Kid, &k.Algorithm, stamp{&k.MadeAt}, stamp{&k.SignsFrom}, stamp{&k.GoneAt})
		return k, err
	}, issuerList)
}

func (t issuer) Delete(id sallyport.KeyID) error {
	return t.change("key of the issuer", issuerDelete, id)
}
