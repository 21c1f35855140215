package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// brittle is a store that dies at its n-th write, and stays dead until it is revived.
// Writes count within transactions; a commit counts before and after it happens.
type brittle struct {
	sallyport.Store
	left atomic.Int64 // until it dies; it is well while it is 0
	dead atomic.Bool
	hits atomic.Int64
}

var errDied = sallyport.Errorf(sallyport.CodeUnavailable, "the store died")

// write counts one, and reports whether the store is dead.
func (b *brittle) write() error {
	if b.dead.Load() {
		return errDied
	}
	b.hits.Add(1)
	if b.left.Load() > 0 && b.left.Add(-1) == 0 {
		b.dead.Store(true)
		return errDied
	}
	return nil
}

func (b *brittle) Update(ctx context.Context, f func(sallyport.Tx) error) error {
	if b.dead.Load() {
		return errDied
	}
	err := b.Store.Update(ctx, func(tx sallyport.Tx) error {
		if err := f(&brittleTx{tx, b}); err != nil {
			return err
		}
		return b.write() // right before the commit
	})
	if err == nil {
		err = b.write() // it happened, and nobody heard of it
	}
	return err
}

func (b *brittle) View(ctx context.Context, f func(sallyport.Tx) error) error {
	if b.dead.Load() {
		return errDied
	}
	return b.Store.View(ctx, f)
}

type brittleTx struct {
	sallyport.Tx
	b *brittle
}

type (
	brittleEvents struct {
		sallyport.AccessEventTx
		b *brittle
	}
	brittleAudit struct {
		sallyport.AuditTx
		b *brittle
	}
	brittleTokens struct {
		sallyport.TokenTx
		b *brittle
	}
	brittleWork struct {
		sallyport.WorkTx
		b *brittle
	}
)

func (t *brittleTx) AccessEvents() sallyport.AccessEventTx {
	return brittleEvents{t.Tx.AccessEvents(), t.b}
}
func (t *brittleTx) Audit() sallyport.AuditTx  { return brittleAudit{t.Tx.Audit(), t.b} }
func (t *brittleTx) Tokens() sallyport.TokenTx { return brittleTokens{t.Tx.Tokens(), t.b} }
func (t *brittleTx) Work() sallyport.WorkTx    { return brittleWork{t.Tx.Work(), t.b} }

func (x brittleEvents) Append(e sallyport.AccessEvent) error {
	if err := x.b.write(); err != nil {
		return err
	}
	return x.AccessEventTx.Append(e)
}

func (x brittleAudit) Append(r sallyport.AuditRecord) (int64, error) {
	if err := x.b.write(); err != nil {
		return 0, err
	}
	return x.AuditTx.Append(r)
}

func (x brittleTokens) Delete(id sallyport.TokenID) error {
	if err := x.b.write(); err != nil {
		return err
	}
	return x.TokenTx.Delete(id)
}

func (x brittleWork) Done(id sallyport.WorkID, token string) error {
	if err := x.b.write(); err != nil {
		return err
	}
	return x.WorkTx.Done(id, token)
}

func (x brittleWork) Retry(id sallyport.WorkID, token string, at time.Time, last string) error {
	if err := x.b.write(); err != nil {
		return err
	}
	return x.WorkTx.Retry(id, token, at, last)
}

// crashPoints is how many times the store dies while grants end.
const crashPoints = 1000

// A grant ends, however often the house dies over it: at each write of the store, before
// and after each commit, with those who keep what was lent failing or lying. Nothing is
// half done at any moment, and in the end all of it is done, once.
func TestGrantsEndThroughCrashes(t *testing.T) {
	t.Parallel()
	b := &brittle{}
	keeper := &shelf{has: map[string]bool{}}
	h := newHouse(t, func(c *Config) {
		b.Store = c.Store
		c.Store, c.Revokers = b, map[string]Revoker{"credential": keeper}
	})
	died, grants := 0, 0
	for tokens := 0; died < crashPoints; tokens = (tokens + 1) % 3 {
		for credentials := range 3 {
			for point := int64(1); ; point++ {
				grants++
				survived := h.endThroughCrash(b, keeper, grants, tokens, credentials, point)
				if survived {
					break // the work has fewer writes than that
				}
				died++
			}
		}
	}
	t.Logf("the house died %d times over %d grants", died, grants)
}

// endThroughCrash lets one grant end with the store dying at a write, and reports whether it
// did not.
func (h *house) endThroughCrash(b *brittle, keeper *shelf, n, tokens, credentials int, point int64) (survived bool) {
	h.t.Helper()
	id := sallyport.GrantID(fmt.Sprintf("g%d", n))
	h.lentGrant(id, tokens, credentials, keeper)
	keeper.fails, keeper.lies = n%2, n%4 == 1
	h.pass(time.Hour)
	b.left.Store(point)
	for round := 0; ; round++ {
		if round > 50 {
			h.t.Fatalf("grant %s does not end", id)
		}
		w, _, err := h.e.claim(h.t.Context(), sallyport.QueueRevoke)
		if err == nil && w != nil {
			h.e.do(system(h.t.Context(), sallyport.QueueRevoke), stage{sallyport.QueueRevoke, 1, h.e.revoke, h.e.revokeFailed}, *w)
		}
		crashed := b.dead.Swap(false) // whoever starts next finds what the disk has
		h.whole(id, keeper)
		if crashed {
			b.left.Store(0)
			h.pass(stageLease + time.Second)
			continue
		}
		st := h.grantState(id)
		if w == nil && err == nil && st.closed {
			survived = b.left.Load() > 0
			b.left.Store(0)
			if st.closings != 1 || st.left != 0 {
				h.t.Fatalf("grant %s: closed %d times, %d left", id, st.closings, st.left)
			}
			return survived
		}
		h.pass(maxPause)
	}
}

// lentGrant keeps a grant that is active and under which things were handed out.
func (h *house) lentGrant(id sallyport.GrantID, tokens, credentials int, keeper *shelf) {
	h.t.Helper()
	check(h.t, h.e.update(system(h.t.Context(), "test"), func(c *change) error {
		r := sallyport.AccessRequest{ID: sallyport.RequestID("r" + string(id)), Kind: sallyport.RequestAccess}
		if err := c.Requests().Insert(r); err != nil {
			return err
		}
		g := sallyport.Grant{ID: id, Request: r.ID, Holder: sallyport.Party{Kind: sallyport.Person, ID: "person/x"}, Action: "secrets", Resource: `Instance::"instance"`, StartsAt: c.now, EndsAt: c.now.Add(time.Hour)}
		if err := c.Grants().Insert(g); err != nil {
			return err
		}
		for i := range tokens {
			t := sallyport.TokenID(fmt.Sprintf("%s-t%d", id, i))
			if err := c.Tokens().Insert(sallyport.Token{ID: t, Hash: sallyport.DigestOf([]byte(t)), Kind: sallyport.TokenAPI, ExpiresAt: c.now.Add(1000 * time.Hour)}); err != nil {
				return err
			}
			if err := c.lend(id, lentToken, string(t)); err != nil {
				return err
			}
		}
		for i := range credentials {
			what := fmt.Sprintf("%s-c%d", id, i)
			keeper.has[what] = true
			if err := c.lend(id, "credential", what); err != nil {
				return err
			}
		}
		return c.revokeAt(id, "ends", g.EndsAt)
	}))
}

type grantState struct {
	closed   bool
	closings int // in the trail
	left     int
}

func (h *house) grantState(id sallyport.GrantID) (s grantState) {
	h.t.Helper()
	check(h.t, h.store.View(h.t.Context(), func(tx sallyport.Tx) error {
		events, err := tx.AccessEvents().Of(subjectOf("grant", id))
		if err != nil {
			return err
		}
		for _, e := range events {
			switch e.Kind {
			case sallyport.EventClosed:
				s.closed = true
			case sallyport.EventLent:
				s.left++
			case sallyport.EventTaken:
				s.left--
			}
		}
		closings, err := tx.Audit().List(sallyport.AuditFilter{Action: "grant.closed", Object: subjectOf("grant", id), Limit: 10})
		s.closings = len(closings)
		return err
	}))
	return s
}

// whole checks that what is kept of a grant says one thing.
func (h *house) whole(id sallyport.GrantID, keeper *shelf) {
	h.t.Helper()
	check(h.t, h.store.View(h.t.Context(), func(tx sallyport.Tx) error {
		events, err := tx.AccessEvents().Of(subjectOf("grant", id))
		if err != nil {
			return err
		}
		g, err := tx.Grants().Get(id)
		if err != nil {
			return err
		}
		records, err := tx.Audit().List(sallyport.AuditFilter{Action: "grant.taken_back", Object: subjectOf("grant", id), Limit: 100})
		if err != nil {
			return err
		}
		st, taken := g.Fold(events, h.clock()), 0
		for _, l := range st.Lent {
			there := keeper.has[l.ID]
			if l.Kind == lentToken {
				_, err := tx.Tokens().Get(sallyport.TokenID(l.ID))
				there = err == nil
				if there == l.Taken {
					return fmt.Errorf("token %s is there: %v, taken: %v", l.ID, there, l.Taken)
				}
			}
			if l.Taken {
				taken++
				if there {
					return fmt.Errorf("%s is said to be taken back, and is there", l.ID)
				}
			}
		}
		if len(records) != taken {
			return fmt.Errorf("%d were taken back, the trail tells of %d", taken, len(records))
		}
		closed := false
		for _, e := range events {
			closed = closed || e.Kind == sallyport.EventClosed
		}
		if closed && taken != len(st.Lent) {
			return fmt.Errorf("it is closed with %d of %d taken back", taken, len(st.Lent))
		}
		return nil
	}))
}
