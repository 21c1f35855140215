package sallyporttest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func testRotations(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	rule := filled[sallyport.RotationRule](t)
	rule.Project, rule.Environment, rule.Name, rule.Config = p, "prod", "DB", json.RawMessage(`{"a":1}`)
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Rotations().PutRule(sallyport.RotationRule{Project: p, Environment: "prod", Name: "DB"}, []byte("x")); err != nil {
			return err
		}
		return tx.Rotations().PutRule(rule, []byte("sealed \x00"))
	})
	view(t, s, func(tx sallyport.Tx) error {
		got, admin, err := tx.Rotations().Rule(p, "prod", "DB")
		wantEqual(t, "rule", got, rule)
		wantEqual(t, "admin", string(admin), "sealed \x00")
		_, _, missing := tx.Rotations().Rule(p, "", "DB")
		wantErr(t, "another environment's rule", missing, sallyport.CodeNotFound)
		_, _, _, missing = tx.Rotations().Last(p, "prod", "DB")
		wantErr(t, "no rotation", missing, sallyport.CodeNotFound)
		if err != nil {
			return err
		}
		all, err := tx.Rotations().Rules(p)
		wantEqual(t, "rules", all, []sallyport.RotationRule{rule})
		return err
	})

	r := filled[sallyport.Rotation](t)
	r.ID, r.Project, r.Environment, r.Name, r.State, r.Seq = id[sallyport.RotationID](1), p, "prod", "DB", sallyport.RotationBegun, 0
	second := r
	second.ID = id[sallyport.RotationID](2)
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Rotations().Insert(r, []byte("old")); err != nil {
			return err
		}
		wantErr(t, "two at once", tx.Rotations().Insert(second, nil), sallyport.CodeConflict)
		return nil
	})
	stale := r
	r.State, r.NewAccount = sallyport.RotationStaged, "b"
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Rotations().Save(&r, []byte("new")); err != nil {
			return err
		}
		wantErr(t, "stale save", tx.Rotations().Save(&stale, nil), sallyport.CodeConflict)
		return nil
	})
	last := func(what, wantOld, wantNew string) {
		t.Helper()
		view(t, s, func(tx sallyport.Tx) error {
			got, old, staged, err := tx.Rotations().Last(p, "prod", "DB")
			wantEqual(t, what, got, r)
			wantEqual(t, what, string(old)+"/"+string(staged), wantOld+"/"+wantNew)
			return err
		})
	}
	last("staged", "old", "new")
	r.State = sallyport.RotationDone
	update(t, s, func(tx sallyport.Tx) error { return tx.Rotations().Save(&r, []byte("new")) })
	last("ended", "", "")
	update(t, s, func(tx sallyport.Tx) error { return tx.Rotations().Insert(second, []byte("old")) })
	r = second
	last("the next", "old", "")
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Rotations().DeleteRule(p, "prod", "DB"); err != nil {
			return err
		}
		wantErr(t, "deleted", tx.Rotations().DeleteRule(p, "prod", "DB"), sallyport.CodeNotFound)
		return nil
	})
}

func testSecretLeases(t *testing.T, s sallyport.Store) {
	push := insertPush(t, s)
	run := newRun(push, 1)
	insertRun(t, s, run)
	j := sallyport.Job{ID: id[sallyport.JobID](2), Run: run.ID, Key: "a", Status: sallyport.StatusQueued, CreatedAt: epoch}
	update(t, s, func(tx sallyport.Tx) error { return tx.Jobs().Insert(j) })
	lease := sallyport.SecretLease{Project: push.Project, Environment: "prod", Name: "DB", Version: "v1", Run: j.Run, Job: j.ID, Attempt: 1, Runner: "r1", At: epoch.Add(time.Hour)}
	other := lease
	other.Version = "v2"
	j.Status, j.Attempt = sallyport.StatusInProgress, 1
	update(t, s, func(tx sallyport.Tx) error {
		for _, l := range []sallyport.SecretLease{lease, lease, other} {
			if err := tx.Secrets().Lend(l); err != nil {
				return err
			}
		}
		return tx.Jobs().Save(j)
	})
	lent := func(what string, all bool, want ...sallyport.SecretLease) {
		t.Helper()
		view(t, s, func(tx sallyport.Tx) error {
			got, err := tx.Secrets().Lent("v1", all)
			wantEqual(t, what, got, want)
			return err
		})
	}
	lent("held", false, lease)
	j.Attempt = 2
	update(t, s, func(tx sallyport.Tx) error { return tx.Jobs().Save(j) })
	lent("another attempt", false)
	j.Status, j.Attempt = sallyport.StatusCollecting, 1
	update(t, s, func(tx sallyport.Tx) error { return tx.Jobs().Save(j) })
	lent("it ended", false)
	lent("all", true, lease)
}
