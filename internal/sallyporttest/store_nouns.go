package sallyporttest

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func testProjects(t *testing.T, s sallyport.Store) {
	want := filled[sallyport.Project](t)
	update(t, s, func(tx sallyport.Tx) error {
		ps := tx.Projects()
		for _, name := range []string{"zoo", "a-b", "a.c", "ab"} {
			if err := ps.Insert(sallyport.Project{ID: sallyport.ProjectID(name), Name: name, CreatedAt: epoch}); err != nil {
				return err
			}
		}
		wantErr(t, "same id", ps.Insert(sallyport.Project{ID: "zoo", Name: "new"}), sallyport.CodeConflict)
		wantErr(t, "same name", ps.Insert(sallyport.Project{ID: "new", Name: "zoo"}), sallyport.CodeConflict)
		return ps.Insert(want)
	})
	view(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Projects().Get(want.ID)
		wantEqual(t, "project", got, want)
		if err != nil {
			return err
		}
		if got, err = tx.Projects().ByName(want.Name); err != nil {
			return err
		}
		wantEqual(t, "project by name", got, want)
		_, err = tx.Projects().ByName("nobody")
		wantErr(t, "no such name", err, sallyport.CodeNotFound)
		list, err := tx.Projects().List()
		var names []string
		for _, p := range list {
			names = append(names, p.Name)
		}
		wantEqual(t, "list", names, []string{"a-b", "a.c", "ab", want.Name, "zoo"}) // by bytes
		return err
	})
	update(t, s, func(tx sallyport.Tx) error {
		for _, r := range []struct{ ref, commit string }{{"a", "1"}, {"b", "1"}, {"a", "2"}, {"b", ""}, {"c", ""}} {
			if err := setRef(tx, "zoo", r.ref, r.commit); err != nil {
				return err
			}
		}
		for i, c := range []struct {
			project sallyport.ProjectID
			series  string
			want    int64
		}{{"zoo", "run", 1}, {"zoo", "run", 2}, {"zoo", "deploy/prod", 1}, {"ab", "run", 1}, {"zoo", "run", 3}} {
			n, err := tx.Projects().NextNumber(c.project, c.series)
			if err != nil {
				return err
			}
			wantEqual(t, fmt.Sprintf("number %d", i), n, c.want)
		}
		return nil
	})
	wantEqual(t, "refs", refs(t, s, "zoo"), map[string]string{"a": "2"})
	wantEqual(t, "refs of another", refs(t, s, "ab"), map[string]string{})
}

func testPushes(t *testing.T, s sallyport.Store) {
	want := insertPush(t, s)
	update(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Pushes().Get(want.ID)
		wantEqual(t, "push", got, want)
		if err != nil {
			return err
		}
		again := want
		again.ID = "again"
		wantErr(t, "same key", tx.Pushes().Insert(again), sallyport.CodeConflict)
		if got, err = tx.Pushes().ByKey(want.Project, want.Key); err != nil {
			return err
		}
		wantEqual(t, "push by key", got.ID, want.ID)
		_, err = tx.Pushes().ByKey("other", want.Key)
		wantErr(t, "key of another project", err, sallyport.CodeNotFound)
		_, err = tx.Pushes().Get("again")
		wantErr(t, "refused push", err, sallyport.CodeNotFound)
		for _, id := range []sallyport.PushID{"x1", "x2", "x3"} {
			more := want
			more.ID, more.Event, more.Key = id, "push", string(id)
			if id == "x2" {
				more.Event = "schedule"
			}
			if err := tx.Pushes().Insert(more); err != nil {
				return err
			}
		}
		between := func(after, upto sallyport.PushID, limit int) (ids []sallyport.PushID) {
			list, err := tx.Pushes().Between(want.Project, after, upto, limit)
			if err != nil {
				t.Error(err)
			}
			for _, p := range list {
				ids = append(ids, p.ID)
			}
			return ids
		}
		wantEqual(t, "pushes between", between("x0", "x3", 10), []sallyport.PushID{"x3", "x1"})
		wantEqual(t, "after the first", between("x1", "x3", 10), []sallyport.PushID{"x3"})
		wantEqual(t, "at most one", between("", "x3", 1), []sallyport.PushID{"x3"})
		return nil
	})
}

func testRuns(t *testing.T, s sallyport.Store) {
	push := insertPush(t, s)
	want := filled[sallyport.Run](t)
	want.Project, want.Push, want.Status = push.Project, push.ID, sallyport.StatusQueued
	plan := []byte{0, 1, 0xff}
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Runs().Insert(want, plan); err != nil {
			return err
		}
		wantErr(t, "same run", tx.Runs().Insert(want, plan), sallyport.CodeConflict)
		got, err := tx.Runs().Get(want.ID)
		wantEqual(t, "run", got, want)
		if err != nil {
			return err
		}
		got, err = tx.Runs().ByNumber(want.Project, want.Number)
		wantEqual(t, "run by number", got, want)
		if err != nil {
			return err
		}
		_, err = tx.Runs().ByNumber(want.Project, want.Number+1)
		wantErr(t, "run by the next number", err, sallyport.CodeNotFound)
		_, err = tx.Runs().ByNumber("another", want.Number)
		wantErr(t, "another project's run by number", err, sallyport.CodeNotFound)
		p, err := tx.Runs().Plan(want.ID)
		wantEqual(t, "plan", p, plan)
		return err
	})
	changed := want
	changed.Name, changed.Cause, changed.Status, changed.Conclusion = "new", "why", sallyport.StatusCompleted, sallyport.Failure
	changed.FinishedAt, changed.StartedAt, changed.CancelInProgress, changed.Group = epoch, time.Time{}, false, ""
	saved := changed
	saved.Project, saved.Push, saved.Number, saved.CreatedAt = "x", "x", 99, time.Time{} // not saved
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Runs().Save(saved); err != nil {
			return err
		}
		got, err := tx.Runs().Get(want.ID)
		wantEqual(t, "saved run", got, changed)
		stale := want
		wantErr(t, "save of a stale run", tx.Runs().Save(stale), sallyport.CodeConflict)
		stale.ID = "missing"
		wantErr(t, "save of a missing run", tx.Runs().Save(stale), sallyport.CodeNotFound)
		_, err2 := tx.Runs().Get("missing")
		wantErr(t, "missing run", err2, sallyport.CodeNotFound)
		_, err2 = tx.Runs().Plan("missing")
		wantErr(t, "missing plan", err2, sallyport.CodeNotFound)
		return err
	})
}

func testRunLists(t *testing.T, s sallyport.Store) {
	push := insertPush(t, s)
	for n := 1; n <= 60; n++ {
		r := newRun(push, n)
		if n%3 == 0 {
			r.Status = sallyport.StatusCompleted
		}
		if n%10 < 4 {
			r.Group = "deploy"
		}
		insertRun(t, s, r)
	}
	numbers := func(list []sallyport.Run, err error) []int64 {
		if err != nil {
			t.Fatal(err)
		}
		out := []int64{}
		for _, r := range list {
			out = append(out, r.Number)
		}
		return out
	}
	view(t, s, func(tx sallyport.Tx) error {
		r := tx.Runs()
		all := numbers(r.List(sallyport.RunFilter{}))
		wantEqual(t, "default page", []int64{int64(len(all)), all[0], all[49]}, []int64{50, 60, 11})
		for _, c := range []struct {
			name string
			f    sallyport.RunFilter
			want []int64
		}{
			{"limit", sallyport.RunFilter{Page: sallyport.Page{Limit: 2}}, []int64{60, 59}},
			{"before", sallyport.RunFilter{Page: sallyport.Page{Limit: 2, Before: string(id[sallyport.RunID](59))}}, []int64{58, 57}},
			{"end", sallyport.RunFilter{Page: sallyport.Page{Limit: 5, Before: string(id[sallyport.RunID](3))}}, []int64{2, 1}},
			{"status", sallyport.RunFilter{Status: sallyport.StatusCompleted, Page: sallyport.Page{Limit: 2}}, []int64{60, 57}},
			{"project", sallyport.RunFilter{Project: push.Project, Page: sallyport.Page{Limit: 1}}, []int64{60}},
			{"push", sallyport.RunFilter{Push: push.ID, Status: sallyport.StatusQueued, Page: sallyport.Page{Limit: 1}}, []int64{59}},
			{"other project", sallyport.RunFilter{Project: "other"}, []int64{}},
			{"other push", sallyport.RunFilter{Push: "other"}, []int64{}},
		} {
			wantEqual(t, c.name, numbers(r.List(c.f)), c.want)
		}
		wantEqual(t, "large limit", len(numbers(r.List(sallyport.RunFilter{Page: sallyport.Page{Limit: 1 << 30}}))), 60)
		wantEqual(t, "group", numbers(r.InGroup(push.Project, "deploy"))[:5], []int64{1, 2, 10, 11, 13})
		wantEqual(t, "no group", numbers(r.InGroup(push.Project, "other")), []int64{})
		unfinished := numbers(r.Unfinished())
		wantEqual(t, "unfinished", append(unfinished[:3:3], int64(len(unfinished))), []int64{1, 2, 4, 40})
		return nil
	})
}

func testJobs(t *testing.T, s sallyport.Store) {
	push := insertPush(t, s)
	r1, r2 := newRun(push, 1), newRun(push, 2)
	insertRun(t, s, r1)
	insertRun(t, s, r2)
	want := filled[sallyport.Job](t)
	want.Run, want.Status, want.Group = r1.ID, sallyport.StatusQueued, "g"
	job := func(n int, run sallyport.RunID, key string, cell int) sallyport.Job {
		return sallyport.Job{ID: id[sallyport.JobID](n), Run: run, Key: key, Index: cell, Status: sallyport.StatusWaiting, Group: "g", CreatedAt: want.CreatedAt}
	}
	called := job(5, r2.ID, "a", 0) // the same cell, called by another
	called.Parent, called.Group, called.CallGroup = id[sallyport.JobID](6), "", "g"
	update(t, s, func(tx sallyport.Tx) error {
		// The ids descend: the order is that of insertion.
		for _, j := range []sallyport.Job{want, job(9, r1.ID, "b", 0), job(8, r1.ID, "a", 1), job(7, r1.ID, "a", 0), job(6, r2.ID, "a", 0), called} {
			if err := tx.Jobs().Insert(j); err != nil {
				return err
			}
		}
		wantErr(t, "same job", tx.Jobs().Insert(want), sallyport.CodeConflict)
		wantErr(t, "same cell", tx.Jobs().Insert(job(10, r1.ID, "a", 1)), sallyport.CodeConflict)
		return nil
	})
	ids := func(list []sallyport.Job, err error) (out []sallyport.JobID) {
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range list {
			out = append(out, j.ID)
		}
		return out
	}
	i := func(n int) sallyport.JobID { return id[sallyport.JobID](n) }
	view(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Jobs().Get(want.ID)
		if err != nil {
			return err
		}
		wantEqual(t, "job", got, want)
		wantEqual(t, "by run", ids(tx.Jobs().ByRun(r1.ID)), []sallyport.JobID{want.ID, i(9), i(8), i(7)})
		wantEqual(t, "in group", ids(tx.Jobs().InGroup(push.Project, "g")), []sallyport.JobID{want.ID, i(9), i(8), i(7), i(6), i(5)})
		outline, err := tx.Jobs().Outline(r1.ID)
		bare := want
		bare.Steps, bare.Isolation = nil, nil
		wantEqual(t, "outline", outline[0], bare)
		wantEqual(t, "in no group", ids(tx.Jobs().InGroup(push.Project, "")), nil)
		wantEqual(t, "in a group of another project", ids(tx.Jobs().InGroup("other", "g")), nil)
		return err
	})
	changed := want
	changed.Status, changed.Conclusion, changed.Outputs, changed.Matrix = sallyport.StatusCompleted, sallyport.Success, nil, nil
	changed.Attempt, changed.Tolerated, changed.Runner = 7, false, "r7"
	saved := changed
	saved.Run, saved.Parent, saved.Key, saved.Index, saved.CreatedAt, saved.Steps, saved.Isolation = "x", "x", "x", 99, time.Time{}, nil, nil // not saved
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Jobs().Save(saved); err != nil {
			return err
		}
		got, err := tx.Jobs().Get(want.ID)
		if err != nil {
			return err
		}
		wantEqual(t, "saved job", got, changed)
		wantEqual(t, "unfinished in group", ids(tx.Jobs().InGroup(push.Project, "g")), []sallyport.JobID{i(9), i(8), i(7), i(6), i(5)})
		changed.Steps, changed.Isolation = changed.Steps[:1], nil
		if err := tx.Jobs().Report(want.ID, changed.Steps, nil); err != nil {
			return err
		}
		reported, err := tx.Jobs().Get(want.ID)
		wantEqual(t, "reported job", reported, changed)
		wantErr(t, "report on a missing job", tx.Jobs().Report("missing", nil, nil), sallyport.CodeNotFound)
		wantErr(t, "save of a stale job", tx.Jobs().Save(want), sallyport.CodeConflict)
		missing := want
		missing.ID = "missing"
		wantErr(t, "save of a missing job", tx.Jobs().Save(missing), sallyport.CodeNotFound)
		_, missed := tx.Jobs().Get("missing")
		wantErr(t, "missing job", missed, sallyport.CodeNotFound)
		return err
	})
}

func testArtifacts(t *testing.T, s sallyport.Store) {
	push := insertPush(t, s)
	run := newRun(push, 1)
	insertRun(t, s, run)
	want := filled[sallyport.Artifact](t)
	want.ID, want.Project, want.Run = id[sallyport.ArtifactID](1), push.Project, run.ID
	update(t, s, func(tx sallyport.Tx) error {
		for n := 3; n > 1; n-- {
			a := sallyport.Artifact{ID: id[sallyport.ArtifactID](n), Project: push.Project, Run: run.ID, Name: fmt.Sprint("b", n), Digest: want.Digest,
				CreatedAt: want.CreatedAt.Add(time.Duration(n))}
			if err := tx.Artifacts().Insert(a); err != nil {
				return err
			}
		}
		if err := tx.Artifacts().Insert(want); err != nil {
			return err
		}
		again := want
		again.ID = "again"
		wantErr(t, "same run and name", tx.Artifacts().Insert(again), sallyport.CodeConflict)
		return nil
	})
	ids := func(list []sallyport.Artifact, err error) (out []sallyport.ArtifactID) {
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			out = append(out, a.ID)
		}
		return out
	}
	i := func(n int) sallyport.ArtifactID { return id[sallyport.ArtifactID](n) }
	view(t, s, func(tx sallyport.Tx) error {
		a := tx.Artifacts()
		got, err := a.Get(want.ID)
		wantEqual(t, "artifact", got, want)
		if err != nil {
			return err
		}
		got, err = a.Find(run.ID, want.Name)
		wantEqual(t, "found", got, want)
		_, missed := a.Find(run.ID, "missing")
		wantErr(t, "missing name", missed, sallyport.CodeNotFound)
		_, missed = a.Get("missing")
		wantErr(t, "missing artifact", missed, sallyport.CodeNotFound)
		wantEqual(t, "by run, by name", ids(a.ByRun(run.ID)), []sallyport.ArtifactID{i(2), i(3), want.ID})
		wantEqual(t, "by digest, oldest first", ids(a.ByDigest(push.Project, want.Digest)), []sallyport.ArtifactID{want.ID, i(2), i(3)})
		wantEqual(t, "by digest elsewhere", ids(a.ByDigest("other", want.Digest)), nil)
		wantEqual(t, "list", ids(a.List(push.Project, sallyport.Page{Limit: 2})), []sallyport.ArtifactID{i(3), i(2)})
		wantEqual(t, "next page", ids(a.List(push.Project, sallyport.Page{Before: string(i(2))})), []sallyport.ArtifactID{i(1)})
		return err
	})
	update(t, s, func(tx sallyport.Tx) error {
		wantErr(t, "delete a missing artifact", tx.Artifacts().Delete("missing"), sallyport.CodeNotFound)
		if err := tx.Artifacts().Delete(i(2)); err != nil {
			return err
		}
		wantEqual(t, "after one was deleted", ids(tx.Artifacts().ByRun(run.ID)), []sallyport.ArtifactID{i(3), want.ID})
		return tx.Artifacts().Insert(sallyport.Artifact{ID: i(4), Project: push.Project, Run: run.ID, Name: "b2", Digest: want.Digest}) // its name is free
	})
}

func testStatements(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	want := filled[sallyport.Statement](t)
	want.Project = p
	older := want
	older.ID, older.CreatedAt, older.Subjects = "older", want.CreatedAt.Add(-time.Second), []sallyport.Digest{want.Subjects[1], want.Subjects[1]}
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Statements().Insert(want); err != nil {
			return err
		}
		wantErr(t, "same statement", tx.Statements().Insert(want), sallyport.CodeConflict)
		return tx.Statements().Insert(older)
	})
	view(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Statements().Get(want.ID)
		wantEqual(t, "statement", got, want)
		if err != nil {
			return err
		}
		_, missed := tx.Statements().Get("missing")
		wantErr(t, "missing statement", missed, sallyport.CodeNotFound)
		for _, c := range []struct {
			name    string
			project sallyport.ProjectID
			digest  sallyport.Digest
			want    []sallyport.Statement
		}{
			{"first subject", p, want.Subjects[0], []sallyport.Statement{want}},
			{"second subject", p, want.Subjects[1], []sallyport.Statement{older, want}},
			{"no subject", p, "none", nil},
			{"other project", "other", want.Subjects[0], nil},
		} {
			list, err := tx.Statements().BySubject(c.project, c.digest)
			if err != nil {
				return err
			}
			wantEqual(t, c.name, list, c.want)
		}
		list, err := tx.Statements().ByRun(want.Run)
		wantEqual(t, "by run", list, []sallyport.Statement{older, want})
		return err
	})
}

func testVerdicts(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	var all []sallyport.Verdict
	for n := range 3 {
		v := filled[sallyport.Verdict](t)
		v.ID, v.Project, v.At = id[sallyport.VerdictID](n), p, v.At.Add(time.Duration(n)*time.Second)
		all = append(all, v)
	}
	update(t, s, func(tx sallyport.Tx) error {
		for _, v := range all {
			if err := tx.Verdicts().Insert(v); err != nil {
				return err
			}
		}
		wantErr(t, "same verdict", tx.Verdicts().Insert(all[0]), sallyport.CodeConflict)
		return nil
	})
	ids := func(list []sallyport.Verdict, err error) (out []sallyport.VerdictID) {
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range list {
			out = append(out, v.ID)
		}
		return out
	}
	view(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Verdicts().Get(all[1].ID)
		wantEqual(t, "verdict", got, all[1])
		_, missed := tx.Verdicts().Get("missing")
		wantErr(t, "missing verdict", missed, sallyport.CodeNotFound)
		wantEqual(t, "list", ids(tx.Verdicts().List(p, sallyport.Page{Limit: 2})), []sallyport.VerdictID{all[2].ID, all[1].ID})
		wantEqual(t, "next page", ids(tx.Verdicts().List(p, sallyport.Page{Before: string(all[1].ID)})), []sallyport.VerdictID{all[0].ID})
		wantEqual(t, "by subject", len(ids(tx.Verdicts().BySubject(p, all[0].Subject))), 3)
		wantEqual(t, "by another subject", len(ids(tx.Verdicts().BySubject(p, "other"))), 0)
		return err
	})
}

func testReleases(t *testing.T, s sallyport.Store) {
	want := filled[sallyport.Release](t)
	want.Project = insertProject(t, s)
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Releases().Insert(want); err != nil {
			return err
		}
		wantErr(t, "same release", tx.Releases().Insert(want), sallyport.CodeConflict)
		return nil
	})
	view(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Releases().Get(want.ID)
		wantEqual(t, "release", got, want)
		if err != nil {
			return err
		}
		_, missed := tx.Releases().Get("missing")
		wantErr(t, "missing release", missed, sallyport.CodeNotFound)
		list, err := tx.Releases().List(want.Project, sallyport.Page{Before: "u"}) // "text …" is below
		wantEqual(t, "list", list, []sallyport.Release{want})
		return err
	})
}

func testDeployments(t *testing.T, s sallyport.Store) {
	p := insertProject(t, s)
	want := filled[sallyport.Deployment](t)
	want.ID, want.Project, want.State, want.Environment = id[sallyport.DeploymentID](5), p, sallyport.DeployPending, "prod"
	update(t, s, func(tx sallyport.Tx) error {
		d := tx.Deployments()
		if err := d.Insert(want); err != nil {
			return err
		}
		wantErr(t, "same deployment", d.Insert(want), sallyport.CodeConflict)
		for n, state := range []sallyport.DeploymentState{sallyport.DeployWatching, sallyport.DeployLive, sallyport.DeployApplying} {
			v := sallyport.Deployment{ID: id[sallyport.DeploymentID](n), Project: p, Environment: []string{"prod", "test"}[n%2], Number: int64(100 + n), State: state, CreatedAt: epoch}
			if err := d.Insert(v); err != nil {
				return err
			}
		}
		return nil
	})
	ids := func(list []sallyport.Deployment, err error) (out []sallyport.DeploymentID) {
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			out = append(out, d.ID)
		}
		return out
	}
	i := func(n int) sallyport.DeploymentID { return id[sallyport.DeploymentID](n) }
	view(t, s, func(tx sallyport.Tx) error {
		d := tx.Deployments()
		got, err := d.Get(want.ID)
		wantEqual(t, "deployment", got, want)
		_, missed := d.Get("missing")
		wantErr(t, "missing deployment", missed, sallyport.CodeNotFound)
		wantEqual(t, "list", ids(d.List(p, "", sallyport.Page{})), []sallyport.DeploymentID{i(5), i(2), i(1), i(0)})
		wantEqual(t, "of an environment", ids(d.List(p, "prod", sallyport.Page{Before: string(i(5)), Limit: 1})), []sallyport.DeploymentID{i(2)})
		wantEqual(t, "unfinished", ids(d.Unfinished()), []sallyport.DeploymentID{i(0), i(2), i(5)})
		return err
	})
	changed := want
	changed.State, changed.Cause, changed.Weight, changed.StartedAt = sallyport.DeployApplying, "because", 50, epoch
	update(t, s, func(tx sallyport.Tx) error {
		saved := changed
		saved.Project, saved.Environment, saved.Number, saved.CreatedAt = "x", "x", 7, time.Time{} // not saved
		if err := tx.Deployments().Save(saved); err != nil {
			return err
		}
		got, err := tx.Deployments().Get(want.ID)
		wantEqual(t, "saved deployment", got, changed)
		wantErr(t, "save of a stale deployment", tx.Deployments().Save(want), sallyport.CodeConflict)
		saved.ID = "missing"
		wantErr(t, "save of a missing deployment", tx.Deployments().Save(saved), sallyport.CodeNotFound)
		return err
	})
}

func testEnvironments(t *testing.T, s sallyport.Store) {
	want := filled[sallyport.Environment](t)
	want.Project = insertProject(t, s)
	update(t, s, func(tx sallyport.Tx) error {
		for _, e := range []sallyport.Environment{{Project: want.Project, Name: want.Name, URL: "old"}, {Project: want.Project, Name: "a"}, want} {
			if err := tx.Environments().Put(e); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, s, func(tx sallyport.Tx) error {
		got, err := tx.Environments().Get(want.Project, want.Name)
		wantEqual(t, "environment", got, want)
		if err != nil {
			return err
		}
		_, missed := tx.Environments().Get(want.Project, "missing")
		wantErr(t, "missing environment", missed, sallyport.CodeNotFound)
		list, err := tx.Environments().List(want.Project)
		wantEqual(t, "list", list, []sallyport.Environment{{Project: want.Project, Name: "a"}, want})
		return err
	})
}

func testTokens(t *testing.T, s sallyport.Store) {
	want := filled[sallyport.Token](t)
	update(t, s, func(tx sallyport.Tx) error {
		if err := tx.Tokens().Insert(want); err != nil {
			return err
		}
		again := want
		again.ID = "again"
		wantErr(t, "same hash", tx.Tokens().Insert(again), sallyport.CodeConflict)
		got, err := tx.Tokens().Get(want.ID)
		wantEqual(t, "token", got, want)
		if err != nil {
			return err
		}
		if got, err = tx.Tokens().ByHash(want.Kind, want.Hash); err != nil {
			return err
		}
		wantEqual(t, "by hash", got, want)
		_, missed := tx.Tokens().ByHash("other", want.Hash)
		wantErr(t, "of another kind", missed, sallyport.CodeNotFound)
		wantErr(t, "use of a missing token", tx.Tokens().Use("missing", epoch), sallyport.CodeNotFound)
		if err := tx.Tokens().Use(want.ID, epoch); err != nil {
			return err
		}
		list, err := tx.Tokens().List()
		want.UsedAt = epoch
		wantEqual(t, "list", list, []sallyport.Token{want})
		if err := tx.Tokens().Delete(want.ID); err != nil {
			return err
		}
		wantErr(t, "second delete", tx.Tokens().Delete(want.ID), sallyport.CodeNotFound)
		return err
	})
}
