package sqlstore

import "github.com/sallyport-ci/sallyport"

const (
	loginInsert = "INSERT INTO logins (issuer, subject, account, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
	loginGet    = "SELECT issuer, subject, account, created_at FROM logins WHERE issuer = $1 AND subject = $2"
	loginDelete = "DELETE FROM logins WHERE issuer = $1 AND account = $2"
)

func scanLogin(r scanner) (l sallyport.LoginLink, err error) {
	err = r.Scan(&l.Issuer, &l.Subject, &l.Account, stamp{&l.CreatedAt})
	return l, err
}

func (t logins) Put(l sallyport.LoginLink) error {
	if err := t.Delete(l.Issuer, l.Account); err != nil {
		return err
	}
	return t.insert("login", loginInsert, l.Issuer, l.Subject, l.Account, micros(l.CreatedAt))
}

func (t logins) Get(issuer, subject string) (sallyport.LoginLink, error) {
	return one(t.tx, "login", scanLogin, loginGet, issuer, subject)
}

func (t logins) Delete(issuer, account string) error {
	_, err := t.exec(loginDelete, issuer, account)
	return err
}
