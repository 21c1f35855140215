package sallyporttest

import (
	"slices"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func testIssuer(t *testing.T, s sallyport.Store) {
	a := sallyport.IssuerKey{ID: "tokens-a", Kid: "A", Algorithm: sallyport.RS256, MadeAt: epoch, SignsFrom: epoch}
	b := sallyport.IssuerKey{ID: "tokens-b", Kid: "B", Algorithm: sallyport.ES256, MadeAt: epoch.Add(time.Hour), SignsFrom: epoch.Add(2 * time.Hour)}
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Issuer().Put(b); err != nil {
			return err
		}
		return tx.Issuer().Put(a)
	})
	a.GoneAt = epoch.Add(3 * time.Hour)
	update(t, s, func(tx sallyport.Tx) error { return tx.Issuer().Put(a) })
	update(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Issuer().List()
		if err != nil || !slices.Equal(got, sallyport.IssuerKeys{a, b}) {
			t.Errorf("got %v, %v", got, err)
		}
		if err := tx.Issuer().Delete("tokens-a"); err != nil {
			return err
		}
		wantErr(t, "delete again", tx.Issuer().Delete("tokens-a"), sallyport.CodeNotFound)
		return nil
	})
}
