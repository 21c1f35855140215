package sallyporttest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func testRequests(t *testing.T, s sallyport.Store) {
	first := filled[sallyport.AccessRequest](t)
	first.ID = "a1"
	second, third := sallyport.AccessRequest{ID: "a2", Project: "p2", Subject: first.Subject}, sallyport.AccessRequest{ID: "a3", Project: first.Project}
	update(t, s, func(tx sallyport.Tx) error {
		for _, r := range []sallyport.AccessRequest{first, second, third} {
			if err := tx.Requests().Insert(r); err != nil {
				return err
			}
		}
		got, err := tx.Requests().Get("a1")
		wantEqual(t, "request", got, first)
		wantEqual(t, "its digest", got.Digest(), first.Digest())
		wantErr(t, "an id twice", tx.Requests().Insert(first), sallyport.CodeConflict)
		_, missed := tx.Requests().Get("a9")
		wantErr(t, "missing request", missed, sallyport.CodeNotFound)
		return err
	})
	ids := func(list []sallyport.AccessRequest, err error) (out []sallyport.RequestID) {
		if err != nil {
			t.Error(err)
		}
		for _, r := range list {
			out = append(out, r.ID)
		}
		return out
	}
	update(t, s, func(tx sallyport.Tx) error {
		wantEqual(t, "all", ids(tx.Requests().List("", sallyport.Page{})), []sallyport.RequestID{"a3", "a2", "a1"})
		wantEqual(t, "of a project", ids(tx.Requests().List(first.Project, sallyport.Page{Limit: 1})), []sallyport.RequestID{"a3"})
		wantEqual(t, "before", ids(tx.Requests().List("", sallyport.Page{Before: "a2"})), []sallyport.RequestID{"a1"})
		wantEqual(t, "about", ids(tx.Requests().About(first.Subject)), []sallyport.RequestID{"a2", "a1"})
		// Another event ends nothing, and one of another noun with the id neither.
		for _, e := range []sallyport.AccessEvent{{Subject: "request/a1", Kind: sallyport.EventVote}, {Subject: "grant/a1", Kind: sallyport.EventEnded}, {Subject: "request/a2", Kind: sallyport.EventEnded}} {
			if err := tx.AccessEvents().Append(e); err != nil {
				return err
			}
		}
		wantEqual(t, "open", ids(tx.Requests().Open()), []sallyport.RequestID{"a1", "a3"})
		_, missed := tx.Requests().Last(first.Project, first.Environment, first.Kind)
		wantErr(t, "none was let through", missed, sallyport.CodeNotFound)
		if err := tx.AccessEvents().Append(sallyport.AccessEvent{Subject: "request/a1", Kind: sallyport.EventEnded, Word: "done"}); err != nil {
			return err
		}
		last, err := tx.Requests().Last(first.Project, first.Environment, first.Kind)
		wantEqual(t, "the last", last, first)
		if err != nil {
			return err
		}
		_, missed = tx.Requests().Last(first.Project, first.Environment, "other")
		wantErr(t, "none of the kind", missed, sallyport.CodeNotFound)
		return nil
	})
}

func testGrants(t *testing.T, s sallyport.Store) {
	first := filled[sallyport.Grant](t)
	first.ID, first.Request = "b1", "a1"
	second := sallyport.Grant{ID: "b2", Request: "a2"}
	update(t, s, func(tx sallyport.Tx) error {
		for _, id := range []sallyport.RequestID{"a1", "a2"} {
			if err := tx.Requests().Insert(sallyport.AccessRequest{ID: id}); err != nil {
				return err
			}
		}
		for _, g := range []sallyport.Grant{first, second} {
			if err := tx.Grants().Insert(g); err != nil {
				return err
			}
		}
		got, err := tx.Grants().Get("b1")
		wantEqual(t, "grant", got, first)
		wantErr(t, "an id twice", tx.Grants().Insert(first), sallyport.CodeConflict)
		wantErr(t, "two grants of one request", tx.Grants().Insert(sallyport.Grant{ID: "b3", Request: "a1"}), sallyport.CodeConflict)
		_, missed := tx.Grants().Get("b9")
		wantErr(t, "missing grant", missed, sallyport.CodeNotFound)
		return err
	})
	update(t, s, func(tx sallyport.Tx) error {
		list, err := tx.Grants().List(sallyport.Page{Limit: 1})
		wantEqual(t, "newest", list, []sallyport.Grant{second})
		if err != nil {
			return err
		}
		if err := tx.AccessEvents().Append(sallyport.AccessEvent{Subject: "grant/b2", Kind: sallyport.EventEnded}); err != nil {
			return err
		}
		open, err := tx.Grants().Open() // what ended is not closed
		wantEqual(t, "open", open, []sallyport.Grant{first, second})
		if err != nil {
			return err
		}
		if err := tx.AccessEvents().Append(sallyport.AccessEvent{Subject: "grant/b2", Kind: sallyport.EventClosed}); err != nil {
			return err
		}
		open, err = tx.Grants().Open()
		wantEqual(t, "open", open, []sallyport.Grant{first})
		return err
	})
}

func testAccessEvents(t *testing.T, s sallyport.Store) {
	first := filled[sallyport.AccessEvent](t)
	second := sallyport.AccessEvent{Subject: first.Subject, Kind: first.Kind, Key: "other", At: epoch}
	update(t, s, func(tx sallyport.Tx) error {
		for _, e := range []sallyport.AccessEvent{first, second, {Subject: "else", Kind: first.Kind, Key: first.Key}} {
			if err := tx.AccessEvents().Append(e); err != nil {
				return err
			}
		}
		list, err := tx.AccessEvents().Of(first.Subject)
		wantEqual(t, "events", list, []sallyport.AccessEvent{first, second})
		again := second
		again.Word = "something else"
		wantErr(t, "a key twice", tx.AccessEvents().Append(again), sallyport.CodeConflict)
		return err
	})
	// Of many who add one key at once, one wins.
	var won, lost int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			err := s.Update(t.Context(), func(tx sallyport.Tx) error {
				return tx.AccessEvents().Append(sallyport.AccessEvent{Subject: "grant/g", Kind: sallyport.EventUsed, Key: "1", Note: fmt.Sprint(i)})
			})
			mu.Lock()
			defer mu.Unlock()
			var e *sallyport.Error
			switch {
			case err == nil:
				won++
			case errors.As(err, &e) && e.Code == sallyport.CodeConflict:
				lost++
			}
		})
	}
	wg.Wait()
	if won != 1 || lost != 7 {
		t.Errorf("%d won and %d lost, want 1 and 7", won, lost)
	}
}

func testStops(t *testing.T, s sallyport.Store) {
	first := filled[sallyport.Stop](t)
	first.ID = "s1"
	second := sallyport.Stop{ID: "s2", Kind: sallyport.StopKey, At: epoch}
	update(t, s, func(tx sallyport.Tx) error {
		for _, x := range []sallyport.Stop{first, second} {
			if err := tx.Stops().Insert(x); err != nil {
				return err
			}
		}
		wantErr(t, "an id twice", tx.Stops().Insert(first), sallyport.CodeConflict)
		list, err := tx.Stops().Standing()
		wantEqual(t, "standing", list, []sallyport.Stop{second, first})
		if err != nil {
			return err
		}
		if err := tx.AccessEvents().Append(sallyport.AccessEvent{Subject: "stop/s2", Kind: sallyport.EventEnded}); err != nil {
			return err
		}
		list, err = tx.Stops().Standing()
		wantEqual(t, "standing", list, []sallyport.Stop{first})
		return err
	})
}
