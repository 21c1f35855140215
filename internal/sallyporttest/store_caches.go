package sallyporttest

import (
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func testCaches(t *testing.T, s sallyport.Store) {
	project := insertProject(t, s)
	want := filled[sallyport.CacheEntry](t)
	want.ID, want.Project, want.Ref, want.Version, want.Tier = id[sallyport.CacheID](1), project, "main", "v", sallyport.TierProtected
	entry := func(n int, key string, tier sallyport.Tier) sallyport.CacheEntry {
		at := epoch.Add(time.Duration(n) * time.Hour)
		return sallyport.CacheEntry{ID: id[sallyport.CacheID](n), Project: project, Key: key, Version: "v", Ref: "main", Tier: tier, Size: int64(n),
			CreatedAt: at, UsedAt: at}
	}
	all := []sallyport.CacheEntry{
		want,
		entry(2, "npm-a", sallyport.TierProtected), entry(3, "npm-b", sallyport.TierProtected), entry(4, "npm-b", sallyport.TierUntrusted),
		entry(5, "NPM-é%_", sallyport.TierMember),
	}
	update(t, s, func(tx sallyport.Tx) error {
		for _, c := range all {
			if err := tx.Caches().Insert(c); err != nil {
				return err
			}
		}
		again := all[1]
		again.ID, again.Size = "again", 1
		wantErr(t, "same key, version, ref and tier", tx.Caches().Insert(again), sallyport.CodeConflict)
		for n, other := range []func(*sallyport.CacheEntry){
			func(c *sallyport.CacheEntry) { c.Version = "w" }, func(c *sallyport.CacheEntry) { c.Ref = "side" }, func(c *sallyport.CacheEntry) { c.Tier = sallyport.TierRelease },
		} {
			c := all[1]
			other(&c)
			c.ID = id[sallyport.CacheID](10 + n)
			if err := tx.Caches().Insert(c); err != nil {
				return err
			}
		}
		return nil
	})
	i := func(n int) sallyport.CacheID { return id[sallyport.CacheID](n) }
	ids := func(list []sallyport.CacheEntry, err error) (out []sallyport.CacheID) {
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			out = append(out, c.ID)
		}
		return out
	}
	two := []sallyport.Tier{sallyport.TierProtected, sallyport.TierUntrusted}
	view(t, s, func(tx sallyport.Tx) error {
		cs := tx.Caches()
		got, err := cs.Get(want.ID)
		wantEqual(t, "entry", got, want)
		if err != nil {
			return err
		}
		for _, c := range []struct {
			name string
			m    sallyport.CacheMatch
			want sallyport.CacheID
		}{
			{"exact", sallyport.CacheMatch{Key: "npm-a", Tiers: two[:1]}, i(2)},
			{"newest of two tiers", sallyport.CacheMatch{Key: "npm-b", Tiers: two}, i(4)},
			{"of one tier", sallyport.CacheMatch{Key: "npm-b", Tiers: two[:1]}, i(3)},
			{"not a prefix", sallyport.CacheMatch{Key: "npm-", Tiers: two}, ""},
			{"newest with a prefix", sallyport.CacheMatch{Key: "npm-", Prefix: true, Tiers: two}, i(4)},
			{"prefix in one tier", sallyport.CacheMatch{Key: "npm-", Prefix: true, Tiers: two[:1]}, i(3)},
			{"prefix that is the key", sallyport.CacheMatch{Key: "npm-a", Prefix: true, Tiers: two}, i(2)},
			{"prefix longer than the key", sallyport.CacheMatch{Key: "npm-a-", Prefix: true, Tiers: two}, ""},
			{"letters of another case", sallyport.CacheMatch{Key: "NPM-", Prefix: true, Tiers: two}, ""},
			{"letters of more than a byte", sallyport.CacheMatch{Key: "NPM-é", Prefix: true, Tiers: []sallyport.Tier{sallyport.TierMember}}, i(5)},
			{"no pattern", sallyport.CacheMatch{Key: "npm%", Prefix: true, Tiers: two}, ""},
			{"no tier", sallyport.CacheMatch{Key: "npm-a"}, ""},
			{"other ref", sallyport.CacheMatch{Key: "npm-a", Ref: "side", Tiers: two}, i(11)},
			{"other version", sallyport.CacheMatch{Key: "npm-a", Version: "w", Tiers: two}, i(10)},
			{"other project", sallyport.CacheMatch{Key: "npm-a", Project: "other", Tiers: two}, ""},
		} {
			if c.m.Project == "" {
				c.m.Project = project
			}
			if c.m.Ref == "" {
				c.m.Ref = "main"
			}
			if c.m.Version == "" {
				c.m.Version = "v"
			}
			got, err := cs.Match(c.m)
			if c.want == "" {
				wantErr(t, c.name, err, sallyport.CodeNotFound)
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			wantEqual(t, c.name, got.ID, c.want)
		}
		wantEqual(t, "list", ids(cs.List(project, sallyport.Page{Limit: 2})), []sallyport.CacheID{i(12), i(11)})
		wantEqual(t, "next page", ids(cs.List(project, sallyport.Page{Limit: 2, Before: string(i(3))})), []sallyport.CacheID{i(2), i(1)})
		wantEqual(t, "least used", ids(cs.LeastUsed(project, two, 3)), []sallyport.CacheID{i(1), i(2), i(10)})
		wantEqual(t, "least used of one tier", ids(cs.LeastUsed(project, two[1:], 3)), []sallyport.CacheID{i(4)})
		n, bytes, err := cs.Total(project)
		wantEqual(t, "total", []int64{n, bytes}, []int64{8, want.Size + 2 + 3 + 4 + 5 + 3*2})
		if err != nil {
			return err
		}
		n, bytes, err = cs.Total("other")
		wantEqual(t, "total of another", []int64{n, bytes}, []int64{0, 0})
		return err
	})
	update(t, s, func(tx sallyport.Tx) error {
		cs := tx.Caches()
		wantErr(t, "use a missing entry", cs.Use("missing", epoch), sallyport.CodeNotFound)
		wantErr(t, "delete a missing entry", cs.Delete("missing"), sallyport.CodeNotFound)
		if err := cs.Use(i(2), epoch.Add(100*time.Hour)); err != nil {
			return err
		}
		if err := cs.Delete(i(1)); err != nil {
			return err
		}
		_, err := cs.Get(i(1))
		wantErr(t, "deleted entry", err, sallyport.CodeNotFound)
		wantEqual(t, "least used, after one was used", ids(cs.LeastUsed(project, two, 2)), []sallyport.CacheID{i(10), i(11)})
		return nil
	})
}

func testCacheUses(t *testing.T, s sallyport.Store) {
	push := insertPush(t, s)
	run := newRun(push, 1)
	insertRun(t, s, run)
	want := filled[sallyport.CacheUse](t)
	want.Run, want.At = run.ID, epoch.Add(time.Hour)
	want.Entry.Signature = nil // not kept with the use
	first := sallyport.CacheUse{Run: run.ID, Job: want.Job, Attempt: want.Attempt, Outcome: sallyport.CacheRefused, Entry: want.Entry, At: epoch}
	update(t, s, func(tx sallyport.Tx) error {
		for _, u := range []sallyport.CacheUse{want, first} {
			if err := tx.Caches().InsertUse(u); err != nil {
				return err
			}
		}
		again := want
		again.At = epoch
		wantErr(t, "same use", tx.Caches().InsertUse(again), sallyport.CodeConflict)
		got, err := tx.Caches().Uses(run.ID)
		wantEqual(t, "uses", got, []sallyport.CacheUse{first, want})
		if err != nil {
			return err
		}
		for attempt, want := range map[int]int64{want.Attempt: 2, want.Attempt + 1: 0} {
			n, err := tx.Caches().CountUses(first.Job, attempt)
			if err != nil {
				return err
			}
			wantEqual(t, "count of uses", n, want)
		}
		got, err = tx.Caches().Uses("other")
		wantEqual(t, "uses of another run", len(got), 0)
		return err
	})
}
