package sallyporttest

import (
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func testSecrets(t *testing.T, s sallyport.Store) {
	project := insertProject(t, s)
	entry := func(environment, name, version string) sallyport.SecretEntry {
		return sallyport.SecretEntry{Project: project, Environment: environment, Name: name, Version: sallyport.SecretVersion(version), Account: "of " + version, SetAt: epoch.Add(time.Hour), SetBy: "person:é"}
	}
	first := entry("", "TOKEN", "1")
	all := []sallyport.SecretEntry{entry("", "PASSWORD", "2"), entry("prod", "PASSWORD", "3"), entry("test", "PASSWORD", "4"), first}
	update(t, s, func(tx sallyport.Tx) error {
		for i := range all {
			e := all[len(all)-1-i]
			if err := tx.Secrets().Put(e, []byte("sealed \x00\xff "+string(e.Version))); err != nil {
				return err
			}
		}
		return nil
	})
	check := func(what string, want sallyport.SecretEntry, sealed string) {
		t.Helper()
		view(t, s, func(tx sallyport.Tx) error {
			e, b, err := tx.Secrets().Sealed(project, want.Environment, want.Name)
			wantEqual(t, what, e, want)
			wantEqual(t, what, string(b), sealed)
			return err
		})
	}
	check("of the environment", all[1], "sealed \x00\xff 3")
	first.Version, first.SetBy = "5", "person:other"
	update(t, s, func(tx sallyport.Tx) error { return tx.Secrets().Put(first, []byte("new")) })
	check("replaced", first, "new")
	all[3] = first
	view(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Secrets().List(project)
		wantEqual(t, "list", got, all)
		if err != nil {
			return err
		}
		got, err = tx.Secrets().List("another")
		wantEqual(t, "list of another project", len(got), 0)
		return err
	})
	update(t, s, func(tx sallyport.Tx) error {
		wantErr(t, "delete of another environment", tx.Secrets().Delete(project, "prod", "TOKEN"), sallyport.CodeNotFound)
		if err := tx.Secrets().Delete(project, "", "TOKEN"); err != nil {
			return err
		}
		_, _, err := tx.Secrets().Sealed(project, "", "TOKEN")
		wantErr(t, "deleted", err, sallyport.CodeNotFound)
		return nil
	})
}
