package sallyporttest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Store checks the contract of sallyport.Store. open returns a new, empty store
// and closes it when the test ends.
func Store(t *testing.T, open func(t *testing.T) sallyport.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s sallyport.Store)
	}{
		{"update", testUpdate},
		{"panic", testPanic},
		{"view", testView},
		{"context", testContext},
		{"serialisable", testSerialisable},
		{"watch", testWatch},
		{"text", testText},
		{"close", testClose},
		{"projects", testProjects},
		{"pushes", testPushes},
		{"runs", testRuns},
		{"run lists", testRunLists},
		{"jobs", testJobs},
		{"artifacts", testArtifacts},
		{"statements", testStatements},
		{"verdicts", testVerdicts},
		{"releases", testReleases},
		{"deployments", testDeployments},
		{"environments", testEnvironments},
		{"tokens", testTokens},
		{"secrets", testSecrets},
		{"rotations", testRotations},
		{"leases of secrets", testSecretLeases},
		{"issuer", testIssuer},
		{"accounts", testAccounts},
		{"logins", testLogins},
		{"access files", testAccessFiles},
		{"requests", testRequests},
		{"grants", testGrants},
		{"access events", testAccessEvents},
		{"stops", testStops},
		{"caches", testCaches},
		{"uses of caches", testCacheUses},
		{"doors", testDoors},
		{"audit", testAudit},
		{"audit is gap-free", testAuditGapFree},
		{"work", testWork},
		{"work enqueue", testWorkEnqueue},
		{"work labels", testWorkLabels},
		{"work fencing", testWorkFencing},
		{"work release", testWorkRelease},
		{"work counts", testWorkCounts},
		{"work claims are exclusive", testWorkExclusive},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func update(t testing.TB, s sallyport.Store, f func(tx sallyport.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t testing.TB, s sallyport.Store, f func(tx sallyport.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), f); err != nil {
		t.Fatalf("view: %v", err)
	}
}

func wantErr(t testing.TB, what string, err error, code sallyport.Code) {
	t.Helper()
	if got := sallyport.ErrorCode(err); got != code {
		t.Errorf("%s: got code %q (%v), want %q", what, got, err, code)
	}
}

func wantEqual[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// id returns the n-th id; ids ascend.
func id[T ~string](n int) T {
	return T(fmt.Sprintf("0190c0de-0000-7000-8000-%012x", n))
}

// insertProject makes the project that most nouns belong to.
func insertProject(t testing.TB, s sallyport.Store) sallyport.ProjectID {
	t.Helper()
	p := sallyport.Project{ID: id[sallyport.ProjectID](1), Name: "app", DefaultBranch: "main", CreatedAt: epoch}
	update(t, s, func(tx sallyport.Tx) error { return tx.Projects().Insert(p) })
	return p.ID
}

func insertPush(t testing.TB, s sallyport.Store) sallyport.Push {
	t.Helper()
	p := filled[sallyport.Push](t)
	p.Project = insertProject(t, s)
	update(t, s, func(tx sallyport.Tx) error { return tx.Pushes().Insert(p) })
	return p
}

func newRun(p sallyport.Push, n int) sallyport.Run {
	return sallyport.Run{ID: id[sallyport.RunID](n), Project: p.Project, Push: p.ID, Number: int64(n), Status: sallyport.StatusQueued,
		CreatedAt: epoch.Add(time.Duration(n) * time.Second)}
}

func insertRun(t testing.TB, s sallyport.Store, r sallyport.Run) {
	t.Helper()
	update(t, s, func(tx sallyport.Tx) error { return tx.Runs().Insert(r, nil) })
}

func setRef(tx sallyport.Tx, p sallyport.ProjectID, ref, commit string) error {
	return tx.Projects().SetRef(p, ref, commit)
}

func refs(t testing.TB, s sallyport.Store, p sallyport.ProjectID) (refs map[string]string) {
	t.Helper()
	view(t, s, func(tx sallyport.Tx) (err error) { refs, err = tx.Projects().Refs(p); return err })
	return refs
}

func testUpdate(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	update(t, s, func(tx sallyport.Tx) error { return setRef(tx, p, "kept", "1") })
	ours := errors.New("ours")
	err := s.Update(t.Context(), func(tx sallyport.Tx) error {
		if err := setRef(tx, p, "kept", "2"); err != nil {
			return err
		}
		if err := setRef(tx, p, "lost", "2"); err != nil {
			return err
		}
		return ours
	})
	if !errors.Is(err, ours) {
		t.Errorf("update returned %v, want the function's own error", err)
	}
	wantEqual(t, "after a failed update", refs(t, s, p), map[string]string{"kept": "1"})

	// A failed insert is an answer, not the end of the transaction.
	update(t, s, func(tx sallyport.Tx) error {
		wantErr(t, "second project of a name", tx.Projects().Insert(sallyport.Project{ID: "other", Name: "app"}), sallyport.CodeConflict)
		_, err := tx.Projects().Get("other")
		wantErr(t, "missing project", err, sallyport.CodeNotFound)
		return setRef(tx, p, "kept", "3")
	})
	wantEqual(t, "after a refused insert", refs(t, s, p), map[string]string{"kept": "3"})
}

func testPanic(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	func() {
		defer func() {
			if r := recover(); r != "ours" {
				t.Errorf("recovered %v, want the function's own panic", r)
			}
		}()
		_ = s.Update(t.Context(), func(tx sallyport.Tx) error {
			if err := setRef(tx, p, "lost", "1"); err != nil {
				return err
			}
			panic("ours")
		})
	}()
	wantEqual(t, "after a panic", refs(t, s, p), map[string]string{})
	update(t, s, func(tx sallyport.Tx) error { return setRef(tx, p, "kept", "1") })
}

func testView(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	update(t, s, func(tx sallyport.Tx) error { return setRef(tx, p, "r", "1") })
	view(t, s, func(tx sallyport.Tx) error {
		before, err := tx.Projects().Refs(p)
		if err != nil {
			return err
		}
		update(t, s, func(tx sallyport.Tx) error { return setRef(tx, p, "r", "2") }) // by somebody else, meanwhile
		after, err := tx.Projects().Refs(p)
		wantEqual(t, "snapshot", after, before)
		return err
	})
	wantEqual(t, "after the view", refs(t, s, p)["r"], "2")
	if err := s.View(t.Context(), func(tx sallyport.Tx) error { return setRef(tx, p, "r", "3") }); err == nil {
		t.Error("a view could write")
	}
	if err := s.View(t.Context(), func(tx sallyport.Tx) error { _ = setRef(tx, p, "r", "3"); return nil }); err == nil {
		t.Error("a view that wrote has succeeded")
	}
	wantEqual(t, "after a view that wrote", refs(t, s, p)["r"], "2")
}

func testContext(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx sallyport.Tx) error {
		if err := setRef(tx, p, "r", "1"); err != nil {
			return err
		}
		cancel()
		return setRef(tx, p, "r", "2")
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("update with a cancelled context: %v", err)
	}
	if err := s.Update(ctx, func(tx sallyport.Tx) error { return setRef(tx, p, "r", "1") }); !errors.Is(err, context.Canceled) {
		t.Errorf("update after its context ended: %v", err)
	}
	if err := s.View(ctx, func(tx sallyport.Tx) error { _, err := tx.Projects().Refs(p); return err }); !errors.Is(err, context.Canceled) {
		t.Errorf("view after its context ended: %v", err)
	}
	wantEqual(t, "refs", refs(t, s, p), map[string]string{})
}

// testSerialisable lets writers read a value and write it back increased: none may be lost.
func testSerialisable(t *testing.T, s sallyport.Store) {
	const writers, each = 16, 20
	p := insertProject(t, s)
	var wg sync.WaitGroup
	var numbers [writers][]int64
	for w := range writers {
		wg.Go(func() {
			for range each {
				var n int64
				err := s.Update(context.Background(), func(tx sallyport.Tx) error {
					refs, err := tx.Projects().Refs(p)
					if err != nil {
						return err
					}
					if err := setRef(tx, p, "n", refs["n"]+"x"); err != nil {
						return err
					}
					n, err = tx.Projects().NextNumber(p, "run")
					return err
				})
				if err != nil {
					t.Errorf("update: %v", err)
					return
				}
				numbers[w] = append(numbers[w], n)
			}
		})
	}
	wg.Wait()
	wantEqual(t, "increments", len(refs(t, s, p)["n"]), writers*each)
	var all []int64
	for _, n := range numbers {
		all = append(all, n...)
	}
	slices.Sort(all)
	for i, n := range all {
		if n != int64(i)+1 {
			t.Fatalf("number %d is %d: doubled or left out", i+1, n)
		}
	}
}

func testWatch(t *testing.T, s sallyport.Store) {
	signal, stop := s.Watch("run/1")
	second, stopSecond := s.Watch("run/1")
	defer stopSecond()
	for range 3 { // signals coalesce: nobody has to take them
		update(t, s, func(tx sallyport.Tx) error { tx.Touch("run/1"); tx.Touch("run/2"); return nil })
	}
	for i, c := range []<-chan struct{}{signal, second} {
		select {
		case <-c:
		case <-time.After(10 * time.Second):
			t.Fatalf("watcher %d was not woken", i)
		}
	}
	stop()
	stop() // may be called twice
	p := insertProject(t, s)
	update(t, s, func(tx sallyport.Tx) error { tx.Touch("run/1"); return setRef(tx, p, "r", "1") })
	<-second
	wantEqual(t, "what a woken watcher sees", refs(t, s, p)["r"], "1")
}

func testText(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	for _, bad := range []string{"a\x00b", "\xff\xfe", "\xed\xa0\x80"} {
		err := s.Update(t.Context(), func(tx sallyport.Tx) error { return setRef(tx, p, "r", bad) })
		wantErr(t, fmt.Sprintf("%q", bad), err, sallyport.CodeInvalid)
	}
	for _, good := range []string{"\u2028 \U0001f600 \x1b[31m \r\n\t", "'; DROP TABLE runs; --", "$1 ?1 %s"} {
		update(t, s, func(tx sallyport.Tx) error { return setRef(tx, p, "r", good) })
		wantEqual(t, "text", refs(t, s, p)["r"], good)
	}
}

func testClose(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	wantErr(t, "update after close", s.Update(t.Context(), func(tx sallyport.Tx) error { return setRef(tx, p, "r", "1") }), sallyport.CodeUnavailable)
	wantErr(t, "view after close", s.View(t.Context(), func(tx sallyport.Tx) error { return nil }), sallyport.CodeUnavailable)
}
