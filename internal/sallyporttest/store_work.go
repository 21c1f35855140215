package sallyporttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func testAudit(t *testing.T, s sallyport.Store) {
	var want []sallyport.AuditRecord
	update(t, s, func(tx sallyport.Tx) error {
		records, logged, err := tx.Audit().Count()
		wantEqual(t, "empty count", []int64{records, logged}, []int64{0, 0})
		for n := range 6 {
			r := filled[sallyport.AuditRecord](t)
			r.Actor, r.Object, r.Action = fmt.Sprint("user:", n%2), fmt.Sprint("run/", n%3), []string{"run.created", "run_done", "run.%"}[n%3]
			r.Seq, r.LogIndex = 77, 77 // the store's own to set
			seq, err := tx.Audit().Append(r)
			if err != nil {
				return err
			}
			wantEqual(t, "seq", seq, int64(n))
			r.Seq, r.LogIndex = seq, -1
			want = append(want, r)
		}
		return err
	})
	list := func(f sallyport.AuditFilter) []int64 {
		out := []int64{}
		view(t, s, func(tx sallyport.Tx) error {
			records, err := tx.Audit().List(f)
			for _, r := range records {
				out = append(out, r.Seq)
			}
			return err
		})
		return out
	}
	for _, c := range []struct {
		name string
		f    sallyport.AuditFilter
		want []int64
	}{
		{"all", sallyport.AuditFilter{}, []int64{5, 4, 3, 2, 1, 0}},
		{"page", sallyport.AuditFilter{Before: 4, Limit: 2}, []int64{3, 2}},
		{"actor", sallyport.AuditFilter{Actor: "user:1"}, []int64{5, 3, 1}},
		{"object", sallyport.AuditFilter{Object: "run/2"}, []int64{5, 2}},
		{"action", sallyport.AuditFilter{Action: "run.c"}, []int64{3, 0}},
		{"action is a prefix, not a pattern", sallyport.AuditFilter{Action: "run."}, []int64{5, 3, 2, 0}},
		{"action with a wild card", sallyport.AuditFilter{Action: "run.%"}, []int64{5, 2}},
		{"both", sallyport.AuditFilter{Actor: "user:1", Object: "run/0"}, []int64{3}},
		{"none", sallyport.AuditFilter{Actor: "user:9"}, []int64{}},
	} {
		wantEqual(t, c.name, list(c.f), c.want)
	}
	view(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Audit().Range(2, 3)
		wantEqual(t, "range", got, want[2:5])
		if err != nil {
			return err
		}
		got, err = tx.Audit().Range(6, 3)
		wantEqual(t, "range beyond the end", len(got), 0)
		return err
	})
	update(t, s, func(tx sallyport.Tx) error { return tx.Audit().SetLogged(0, 3, 0) })
	err := s.Update(t.Context(), func(tx sallyport.Tx) error { return tx.Audit().SetLogged(3, 5, 1) })
	wantErr(t, "logging a record twice", err, sallyport.CodeConflict)
	err = s.Update(t.Context(), func(tx sallyport.Tx) error { return tx.Audit().SetLogged(4, 6, 1) })
	wantErr(t, "logging a missing record", err, sallyport.CodeConflict)
	view(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Audit().Unlogged(1)
		wantEqual(t, "unlogged", got, want[4:5])
		if err != nil {
			return err
		}
		got, err = tx.Audit().Unlogged(10)
		wantEqual(t, "all unlogged", got, want[4:])
		if err != nil {
			return err
		}
		records, logged, err := tx.Audit().Count()
		wantEqual(t, "count", []int64{records, logged}, []int64{6, 4})
		return err
	})
}

// testAuditGapFree lets writers append at once, some of which fail: the numbers
// of those that succeed are gap-free, and in the order of their commits.
func testAuditGapFree(t *testing.T, s sallyport.Store) {
	const writers, each = 16, 25
	ours := errors.New("ours")
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			last := int64(-1)
			for n := range each {
				var seq int64
				err := s.Update(context.Background(), func(tx sallyport.Tx) (err error) {
					seq, err = tx.Audit().Append(sallyport.AuditRecord{At: epoch, Actor: fmt.Sprint(w), Action: "test", Object: fmt.Sprint(n), Salt: []byte{1}})
					if err == nil && n%5 == 4 {
						return ours
					}
					return err
				})
				if n%5 == 4 && !errors.Is(err, ours) || n%5 != 4 && err != nil {
					t.Errorf("append: %v", err)
					return
				}
				if err == nil && seq <= last {
					t.Errorf("a later commit has number %d, an earlier one %d", seq, last)
				}
				if err == nil {
					last = seq
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(tx sallyport.Tx) error {
		all, err := tx.Audit().Range(0, writers*each)
		wantEqual(t, "records", len(all), writers*each*4/5)
		for i, r := range all {
			if r.Seq != int64(i) {
				t.Fatalf("record %d has number %d", i, r.Seq)
			}
		}
		return err
	})
}

func newWork(n int, queue string) sallyport.Work {
	return sallyport.Work{ID: id[sallyport.WorkID](n), Queue: queue, Key: fmt.Sprint("key", n), Subject: fmt.Sprint("subject", n%2), RunAt: epoch, CreatedAt: epoch}
}

func enqueue(t testing.TB, s sallyport.Store, list ...sallyport.Work) {
	t.Helper()
	update(t, s, func(tx sallyport.Tx) error {
		for _, w := range list {
			if err := tx.Work().Enqueue(w); err != nil {
				return err
			}
		}
		return nil
	})
}

func claim(t testing.TB, s sallyport.Store, queue string, labels []string, now time.Time, limit int) (got []sallyport.Work) {
	t.Helper()
	update(t, s, func(tx sallyport.Tx) (err error) {
		got, err = tx.Work().Claim(queue, "me", labels, now, now.Add(time.Minute), limit)
		return err
	})
	return got
}

func workIDs(list []sallyport.Work) string {
	var out []string
	for _, w := range list {
		out = append(out, strings.TrimLeft(string(w.ID[24:]), "0"))
	}
	return strings.Join(out, " ")
}

func testWork(t *testing.T, s sallyport.Store) {
	want := filled[sallyport.Work](t)
	want.RunAt = epoch
	enqueue(t, s, want)
	until := epoch.Add(time.Minute)
	update(t, s, func(tx sallyport.Tx) error {
		for _, c := range []struct {
			name  string
			queue string
			now   time.Time
			limit int
		}{{"other queue", "other", epoch, 1}, {"not due", want.Queue, epoch.Add(-time.Microsecond), 1}, {"no limit", want.Queue, epoch, 0}} {
			got, err := tx.Work().Claim(c.queue, "me", nil, c.now, until, c.limit)
			wantEqual(t, c.name, len(got), 0)
			if err != nil {
				return err
			}
		}
		got, err := tx.Work().Claim(want.Queue, "me", nil, epoch, until, 5)
		if err != nil {
			return err
		}
		want.Owner, want.LeaseUntil, want.Attempt = "me", until, want.Attempt+1
		if len(got) != 1 || got[0].Token == "" || got[0].Token == want.Token {
			t.Fatalf("claimed %+v, want one piece with a fresh token", got)
		}
		want.Token = got[0].Token
		wantEqual(t, "claimed", got[0], want)
		list, err := tx.Work().BySubject(want.Queue, want.Subject)
		wantEqual(t, "by subject", list, []sallyport.Work{want})
		return err
	})
	for n, d := range map[int]time.Duration{1: 3, 2: 1, 3: 2, 4: 1} {
		w := newWork(n, "q")
		w.RunAt = epoch.Add(d)
		w.RunAt = epoch.Add(d * time.Second)
		enqueue(t, s, w)
	}
	wantEqual(t, "oldest first", workIDs(claim(t, s, "q", nil, epoch.Add(time.Hour), 3)), "2 4 3")
	wantEqual(t, "the rest", workIDs(claim(t, s, "q", nil, epoch.Add(time.Hour), 3)), "1")
	wantEqual(t, "all is leased", workIDs(claim(t, s, "q", nil, epoch.Add(time.Hour), 3)), "")
	enqueue(t, s, func() sallyport.Work { w := newWork(5, "q"); w.RunAt = epoch.Add(90 * time.Second); return w }())
	wantEqual(t, "lapsed leases, between the free by age", workIDs(claim(t, s, "q", nil, epoch.Add(2*time.Hour), 9)), "2 4 3 1 5")
	update(t, s, func(tx sallyport.Tx) error { return tx.Work().Drop("q", "subject1") })
	wantEqual(t, "after a drop", workIDs(claim(t, s, "q", nil, epoch.Add(3*time.Hour), 9)), "2 4")
}

func testWorkEnqueue(t *testing.T, s sallyport.Store) {
	first := newWork(1, "q")
	first.RunAt = epoch.Add(time.Hour)
	later, sooner, elsewhere := newWork(2, "q"), newWork(3, "q"), newWork(4, "other")
	later.Key, sooner.Key, elsewhere.Key = first.Key, first.Key, first.Key
	later.RunAt, sooner.RunAt = epoch.Add(2*time.Hour), epoch.Add(time.Minute)
	enqueue(t, s, first, later)
	wantEqual(t, "not brought forward", workIDs(claim(t, s, "q", nil, epoch.Add(time.Minute), 9)), "")
	enqueue(t, s, sooner, elsewhere)
	got := claim(t, s, "q", nil, epoch.Add(time.Minute), 9)
	wantEqual(t, "brought forward", workIDs(got), "1")
	enqueue(t, s, sooner) // it is being worked on: unfinished, so kept
	update(t, s, func(tx sallyport.Tx) error { return tx.Work().Done(got[0].ID, got[0].Token) })
	wantEqual(t, "done", workIDs(claim(t, s, "q", nil, epoch.Add(9*time.Hour), 9)), "")
	enqueue(t, s, sooner) // the key is free again
	wantEqual(t, "again", workIDs(claim(t, s, "q", nil, epoch.Add(9*time.Hour), 9)), "3")
	wantEqual(t, "other queue", workIDs(claim(t, s, "other", nil, epoch, 9)), "4")
	again := newWork(3, "q")
	err := s.Update(t.Context(), func(tx sallyport.Tx) error { return tx.Work().Enqueue(again) })
	wantErr(t, "same id with another key", err, sallyport.CodeConflict)
}

func testWorkLabels(t *testing.T, s sallyport.Store) {
	for n, labels := range [][]string{nil, {"linux"}, {"linux", "gpu"}, {`a"b\`, "é,'"}} {
		w := newWork(n+1, "q")
		w.Labels, w.RunAt = labels, epoch.Add(time.Duration(n))
		enqueue(t, s, w)
	}
	at := epoch
	for _, c := range []struct {
		labels []string
		want   string
	}{
		{[]string{}, "1"},
		{[]string{"gpu"}, "1"},
		{[]string{"linux"}, "1 2"},
		{[]string{"lin", "ux"}, "1"},
		{[]string{"LINUX"}, "1"},
		{[]string{"gpu", "x", "linux"}, "1 2 3"},
		{[]string{"é,'", `a"b\`}, "1 4"},
		{nil, "1 2 3 4"},
	} {
		at = at.Add(time.Hour) // all leases have run out
		wantEqual(t, fmt.Sprintf("claim with %q", c.labels), workIDs(claim(t, s, "q", c.labels, at, 9)), c.want)
	}
	bad := newWork(9, "q")
	bad.Labels = []string{"a\x00"}
	wantErr(t, "label with NUL", s.Update(t.Context(), func(tx sallyport.Tx) error { return tx.Work().Enqueue(bad) }), sallyport.CodeInvalid)
}

func testWorkFencing(t *testing.T, s sallyport.Store) {
	enqueue(t, s, newWork(1, "q"))
	first := claim(t, s, "q", nil, epoch, 1)[0]
	second := claim(t, s, "q", nil, epoch.Add(time.Minute), 1)[0] // the first lease is over at its end
	if first.Token == second.Token || second.Attempt != 2 {
		t.Fatalf("second lease %+v after %+v", second, first)
	}
	free := newWork(2, "q")
	enqueue(t, s, free)
	for _, stale := range []struct {
		id    sallyport.WorkID
		token string
	}{{first.ID, first.Token}, {free.ID, ""}, {free.ID, second.Token}, {"missing", second.Token}} {
		update(t, s, func(tx sallyport.Tx) error {
			w := tx.Work()
			wantErr(t, "extend", w.Extend(stale.id, stale.token, epoch.Add(time.Hour)), sallyport.CodeConflict)
			wantErr(t, "done", w.Done(stale.id, stale.token), sallyport.CodeConflict)
			wantErr(t, "retry", w.Retry(stale.id, stale.token, epoch, ""), sallyport.CodeConflict)
			return nil
		})
	}
	update(t, s, func(tx sallyport.Tx) error { return tx.Work().Extend(second.ID, second.Token, epoch.Add(time.Hour)) })
	wantEqual(t, "extended lease", workIDs(claim(t, s, "q", nil, epoch.Add(30*time.Minute), 9)), "2")
	update(t, s, func(tx sallyport.Tx) error {
		return tx.Work().Retry(second.ID, second.Token, epoch.Add(40*time.Minute), "it broke")
	})
	wantEqual(t, "not yet", workIDs(claim(t, s, "q", nil, epoch.Add(30*time.Minute+30*time.Second), 9)), "")
	update(t, s, func(tx sallyport.Tx) error { return tx.Work().Drop("q", free.Subject) })
	third := claim(t, s, "q", nil, epoch.Add(40*time.Minute), 1)[0]
	wantEqual(t, "retried", []any{third.ID, third.Attempt, third.LastError}, []any{second.ID, 3, "it broke"})
	update(t, s, func(tx sallyport.Tx) error {
		wantErr(t, "done with the token of an earlier lease", tx.Work().Done(third.ID, second.Token), sallyport.CodeConflict)
		return tx.Work().Done(third.ID, third.Token)
	})
}

// Who is known to be gone holds nothing any more, and cannot come back.
func testWorkRelease(t *testing.T, s sallyport.Store) {
	enqueue(t, s, newWork(1, "q"), newWork(2, "other"), newWork(3, "q"))
	held := append(claim(t, s, "q", nil, epoch, 1), claim(t, s, "other", nil, epoch, 1)...)
	update(t, s, func(tx sallyport.Tx) error { return tx.Work().Release("somebody else") })
	wantEqual(t, "not theirs", workIDs(claim(t, s, "other", nil, epoch, 9)), "")
	update(t, s, func(tx sallyport.Tx) error { return tx.Work().Release("me") })
	for _, w := range held {
		update(t, s, func(tx sallyport.Tx) error {
			wantErr(t, "done after release", tx.Work().Done(w.ID, w.Token), sallyport.CodeConflict)
			return nil
		})
	}
	wantEqual(t, "released", workIDs(claim(t, s, "q", nil, epoch, 9)), "1 3")
	wantEqual(t, "released from the other queue", workIDs(claim(t, s, "other", nil, epoch, 9)), "2")
}

func testWorkCounts(t *testing.T, s sallyport.Store) {
	due, soon, late, other := newWork(1, "q"), newWork(2, "q"), newWork(3, "q"), newWork(4, "other")
	soon.RunAt, late.RunAt = epoch.Add(90*time.Second), epoch.Add(time.Hour)
	enqueue(t, s, due, soon, late, other)
	counts := func(now time.Time) (out string) {
		view(t, s, func(tx sallyport.Tx) error {
			count, next, err := tx.Work().Counts(now)
			out = fmt.Sprint(count["q"], count["other"], len(count))
			for _, q := range []string{"q", "other"} {
				if next[q].IsZero() {
					out += " none"
				} else {
					out += " " + next[q].Sub(epoch).String()
				}
			}
			return err
		})
		return out
	}
	wantEqual(t, "before", counts(epoch), "3 1 2 1m30s none")
	claim(t, s, "q", nil, epoch, 1) // until a minute later
	wantEqual(t, "leased", counts(epoch), "3 1 2 1m0s none")
	wantEqual(t, "lease is over", counts(epoch.Add(time.Minute)), "3 1 2 1m30s none")
	wantEqual(t, "later", counts(epoch.Add(2*time.Hour)), "3 1 2 none none")
}

func testWorkExclusive(t *testing.T, s sallyport.Store) {
	const pieces, workers = 200, 8
	var list []sallyport.Work
	for n := range pieces {
		list = append(list, newWork(n+1, "q"))
	}
	enqueue(t, s, list...)
	var mu sync.Mutex
	var wg sync.WaitGroup
	taken := make(map[sallyport.WorkID]int)
	for range workers {
		wg.Go(func() {
			for {
				var got []sallyport.Work
				err := s.Update(context.Background(), func(tx sallyport.Tx) (err error) {
					got, err = tx.Work().Claim("q", "w", nil, epoch, epoch.Add(time.Minute), 3)
					return err
				})
				if err != nil {
					t.Errorf("claim: %v", err)
				}
				if len(got) == 0 {
					return
				}
				for _, w := range got {
					mu.Lock()
					taken[w.ID]++
					mu.Unlock()
					if err := s.Update(context.Background(), func(tx sallyport.Tx) error { return tx.Work().Done(w.ID, w.Token) }); err != nil {
						t.Errorf("done: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	wantEqual(t, "pieces taken", len(taken), pieces)
	for id, n := range taken {
		if n != 1 {
			t.Errorf("%s was taken %d times", id, n)
		}
	}
}
