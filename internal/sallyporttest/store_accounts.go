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
