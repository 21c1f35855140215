package sallyporttest

import (
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func testAccounts(t *testing.T, s sallyport.Store) {
	gone := filled[sallyport.Account](t)
	want := sallyport.Account{ID: "a", Kind: sallyport.Person, Name: "a", CreatedAt: epoch}
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Accounts().Insert(gone); err != nil {
			return err
		}
		if err := tx.Accounts().Insert(want); err != nil {
			return err
		}
		got, err := tx.Accounts().Get(gone.ID)
		wantEqual(t, "account", got, gone)
		wantErr(t, "removing what is removed", tx.Accounts().Remove(gone.ID, epoch), sallyport.CodeNotFound)
		wantErr(t, "removing what never was", tx.Accounts().Remove("b", epoch), sallyport.CodeNotFound)
		return err
	})
	update(t, s, func(tx sallyport.Tx) error {
		wantErr(t, "an id twice", tx.Accounts().Insert(gone), sallyport.CodeConflict)
		if err := tx.Accounts().Remove(want.ID, epoch); err != nil {
			return err
		}
		want.RemovedAt = epoch
		list, err := tx.Accounts().List()
		wantEqual(t, "list", list, []sallyport.Account{want, gone})
		_, missed := tx.Accounts().Get("b")
		wantErr(t, "missing account", missed, sallyport.CodeNotFound)
		return err
	})
}

func testLogins(t *testing.T, s sallyport.Store) {
	anna := sallyport.LoginLink{Issuer: "https://id.example", Subject: "1", Account: "person/anna", CreatedAt: epoch}
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Logins().Put(anna); err != nil {
			return err
		}
		got, err := tx.Logins().Get(anna.Issuer, anna.Subject)
		wantEqual(t, "login", got, anna)
		_, missed := tx.Logins().Get("https://other.example", anna.Subject)
		wantErr(t, "the subject of another issuer", missed, sallyport.CodeNotFound)
		return err
	})
	update(t, s, func(tx sallyport.Tx) error {
		ben := anna
		ben.Account = "person/ben"
		wantErr(t, "a person with two accounts", tx.Logins().Put(ben), sallyport.CodeConflict)
		again := anna
		again.Subject = "2"
		if err := tx.Logins().Put(again); err != nil {
			return err
		}
		_, missed := tx.Logins().Get(anna.Issuer, anna.Subject)
		wantErr(t, "the person that was replaced", missed, sallyport.CodeNotFound)
		if err := tx.Logins().Delete(anna.Issuer, anna.Account); err != nil {
			return err
		}
		_, missed = tx.Logins().Get(again.Issuer, again.Subject)
		wantErr(t, "the person that was taken away", missed, sallyport.CodeNotFound)
		return tx.Logins().Delete(anna.Issuer, anna.Account)
	})
	update(t, s, func(tx sallyport.Tx) error {
		a := sallyport.Account{ID: "person/anna", Kind: sallyport.Person, Name: "anna", CreatedAt: epoch}
		if err := tx.Accounts().Insert(a); err != nil {
			return err
		}
		a.Teams = []string{"ops", "web"}
		if err := tx.Accounts().SetTeams(a.ID, a.Teams); err != nil {
			return err
		}
		got, err := tx.Accounts().Get(a.ID)
		wantEqual(t, "account", got, a)
		wantErr(t, "teams of nobody", tx.Accounts().SetTeams("b", nil), sallyport.CodeNotFound)
		return err
	})
}

func testAccessFiles(t *testing.T, s sallyport.Store) {
	first, second := filled[sallyport.AccessFile](t), sallyport.AccessFile{Digest: "d", At: epoch}
	update(t, s, func(tx sallyport.Tx) error {
		_, missed := tx.AccessFiles().Current()
		wantErr(t, "before one was put", missed, sallyport.CodeNotFound)
		for _, f := range []sallyport.AccessFile{first, second, first} {
			if err := tx.AccessFiles().Put(f); err != nil {
				return err
			}
			got, err := tx.AccessFiles().Current()
			wantEqual(t, "current file", got, f)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
