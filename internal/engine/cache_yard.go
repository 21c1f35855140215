package engine

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// maxCacheUses bounds the records of one job attempt, and with it the
	// dependencies in its provenance.
	maxCacheUses = 500
	// evictBatch is how many entries are looked at in one go to make room.
	evictBatch = 100
)

// cacheBounds is what a project's caches may take.
type cacheBounds struct {
	entry   int64         // bytes of one
	total   int64         // bytes of all
	entries int64         // empty ones take no bytes
	unused  time.Duration // how long one is kept that nobody restores
}

// defaultCacheBounds are GitHub's: 10 GB, a week. It does not bound the number.
func defaultCacheBounds() cacheBounds {
	return cacheBounds{entry: 10 << 30, total: 10 << 30, entries: 10_000, unused: 7 * 24 * time.Hour}
}

// cacheJob is a leased job that asks for the cache.
type cacheJob struct {
	job  sallyport.Job
	run  sallyport.Run
	refs []string // whose entries it sees, nearest first
}

func (e *Engine) cacheJob(ctx context.Context, l sallyport.LeaseRef) (cacheJob, error) {
	var in cacheJob
	err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if _, in.job, err = (&change{Tx: tx, now: e.now()}).held(l); err != nil {
			return err
		}
		if in.run, err = tx.Runs().Get(in.job.Run); err != nil {
			return err
		}
		p, err := tx.Projects().Get(in.run.Project)
		if err != nil {
			return err
		}
		push, err := tx.Pushes().Get(in.run.Push)
		if err != nil {
			return err
		}
		in.refs = []string{in.run.Ref}
		if base := baseRef(push.Payload); base != "" && strings.HasPrefix(in.run.Ref, "refs/pull/") {
			in.refs = append(in.refs, "refs/heads/"+strings.TrimPrefix(base, "refs/heads/"))
		}
		if !slices.Contains(in.refs, p.DefaultRef()) {
			in.refs = append(in.refs, p.DefaultRef())
		}
		return nil
	})
	return in, err
}

// readOnly says why the run may save nothing; "" when it may.
func (in cacheJob) readOnly() string {
	switch {
	case in.run.Event == "pull_request_target":
		return "a run of pull_request_target saves no cache"
	case sallyport.CacheTiers(in.run.Tier) == nil:
		return "the trust tier of the run is not known"
	case in.run.Tier == sallyport.TierUntrusted && !strings.HasPrefix(in.run.Ref, "refs/pull/"):
		return "a run that somebody outside caused saves no cache but that of a pull request"
	}
	return ""
}

// FindCache finds what a job would restore. Entries that it would have got were it not
// for the tier are recorded and passed over.
func (y yard) FindCache(ctx context.Context, l sallyport.LeaseRef, q sallyport.CacheQuery) (sallyport.CacheEntry, error) {
	e := y.e
	if err := e.allow(ctx, actYard, ""); err != nil {
		return sallyport.CacheEntry{}, err
	}
	if err := q.Check(); err != nil {
		return sallyport.CacheEntry{}, err
	}
	in, err := e.cacheJob(ctx, l)
	if err != nil {
		return sallyport.CacheEntry{}, err
	}
	if q.Saving {
		if err := e.maySave(ctx, l, in, q.Key, q.Version); err != nil {
			return sallyport.CacheEntry{}, err
		}
	}
	var found sallyport.CacheEntry
	var refused []sallyport.CacheEntry
	err = e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		found, refused, err = in.search(tx, q)
		return err
	})
	for _, entry := range refused {
		if err := e.noteCache(ctx, l, sallyport.CacheRefused, entry); err != nil {
			return sallyport.CacheEntry{}, err
		}
	}
	found.Signature = nil
	return found, err
}

// search looks in one ref after the other. refused are the newest entries of each
// step that the run may not have, up to the step that found one.
func (in cacheJob) search(tx sallyport.Tx, q sallyport.CacheQuery) (found sallyport.CacheEntry, refused []sallyport.CacheEntry, err error) {
	may := sallyport.CacheTiers(in.run.Tier)
	if q.Saving {
		found, err = tx.Caches().Match(sallyport.CacheMatch{
			Project: in.run.Project, Ref: in.run.Ref, Version: q.Version, Key: q.Key, Tiers: []sallyport.Tier{in.run.Tier},
		})
		return found, nil, err
	}
	var mayNot []sallyport.Tier
	for _, t := range sallyport.CacheTiers(sallyport.TierUntrusted) { // all there are
		if !slices.Contains(may, t) {
			mayNot = append(mayNot, t)
		}
	}
	for _, ref := range in.refs {
		m := sallyport.CacheMatch{Project: in.run.Project, Ref: ref, Version: q.Version}
		for i := range 2 + len(q.RestoreKeys) { // the key, what begins with it, what begins with each of the others
			m.Key, m.Prefix = q.Key, i > 0
			if i > 1 {
				m.Key = q.RestoreKeys[i-2]
			}
			m.Tiers = may
			found, err = tx.Caches().Match(m)
			if err == nil || sallyport.ErrorCode(err) != sallyport.CodeNotFound {
				return found, refused, err
			}
			m.Tiers = mayNot
			low, err := tx.Caches().Match(m)
			if err == nil && !slices.ContainsFunc(refused, func(c sallyport.CacheEntry) bool { return c.ID == low.ID }) {
				refused = append(refused, low)
			} else if err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
				return found, refused, err
			}
		}
	}
	return found, refused, sallyport.Errorf(sallyport.CodeNotFound, "no cache matches")
}

// GetCache hands an entry out. Everything is judged anew: the id may be anybody's guess.
func (y yard) GetCache(ctx context.Context, l sallyport.LeaseRef, id sallyport.CacheID) (sallyport.CacheEntry, io.ReadCloser, error) {
	e := y.e
	var none sallyport.CacheEntry
	if err := e.allow(ctx, actYard, ""); err != nil {
		return none, nil, err
	}
	in, err := e.cacheJob(ctx, l)
	if err != nil {
		return none, nil, err
	}
	var entry sallyport.CacheEntry
	err = e.view(ctx, func(tx sallyport.Tx) error {
		entry, err = tx.Caches().Get(id)
		return err
	})
	if err == nil && (entry.Project != in.run.Project || !slices.Contains(in.refs, entry.Ref)) {
		err = sallyport.Errorf(sallyport.CodeNotFound, "there is no such cache entry")
	}
	if err != nil {
		return none, nil, err
	}
	if !entry.MayFeed(in.run.Tier) {
		return none, nil, errors.Join(e.noteCache(ctx, l, sallyport.CacheRefused, entry),
			sallyport.Errorf(sallyport.CodeDenied, "cache read denied: a run of tier %s saved it, this one is of tier %s", entry.Tier, in.run.Tier))
	}
	if err := e.checkCache(entry); err != nil {
		e.log.ErrorContext(ctx, "cache entry does not verify", "cache", entry.ID, "error", err)
		return none, nil, errors.Join(e.noteCache(ctx, l, sallyport.CacheAltered, entry),
			sallyport.Errorf(sallyport.CodeDenied, "cache read denied: the entry is not what was signed when it was saved").
				WithHint("delete it with sallyport caches delete, and run sallyport audit verify"))
	}
	content, err := e.blobs.Get(ctx, entry.Scope(), entry.Digest)
	if err != nil {
		return none, nil, err
	}
	if err := e.noteCache(ctx, l, sallyport.CacheRestored, entry); err != nil {
		content.Close()
		return none, nil, err
	}
	entry.Signature = nil
	return entry, content, nil
}

// noteCache records, once for each attempt of a job, what it did with an entry.
func (e *Engine) noteCache(ctx context.Context, l sallyport.LeaseRef, how sallyport.CacheOutcome, entry sallyport.CacheEntry) error {
	return e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		if how == sallyport.CacheRestored {
			if err := c.Caches().Use(entry.ID, c.now); err != nil {
				return err // it was removed meanwhile
			}
			entry.UsedAt = c.now
		}
		entry.Signature = nil
		err := c.Caches().InsertUse(sallyport.CacheUse{Run: j.Run, Job: j.ID, Attempt: j.Attempt, Outcome: how, Entry: entry, At: c.now})
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			return nil // it is known
		} else if err != nil {
			return err
		}
		if n, err := c.Caches().CountUses(j.ID, j.Attempt); err != nil {
			return err
		} else if n > maxCacheUses {
			return sallyport.Errorf(sallyport.CodeInvalid, "a job uses at most %d cache entries", maxCacheUses)
		}
		c.Touch(topicRun(j.Run))
		detail := cacheDetail(entry)
		detail["by_run"], detail["by_job"] = j.Run, j.ID
		return c.record("cache."+string(how), "cache/"+string(entry.ID), detail)
	})
}

// maySave refuses a run that may save nothing, and records that.
func (e *Engine) maySave(ctx context.Context, l sallyport.LeaseRef, in cacheJob, key, version string) error {
	why := in.readOnly()
	if why == "" {
		return nil
	}
	return errors.Join(e.noteCache(ctx, l, sallyport.CacheReadOnly, sallyport.CacheEntry{Project: in.run.Project, Key: key, Version: version}),
		sallyport.Errorf(sallyport.CodeDenied, "cache write denied: %s", why))
}

// PutCache saves an entry in the run's own scope.
func (y yard) PutCache(ctx context.Context, l sallyport.LeaseRef, key, version string, content io.Reader) (sallyport.CacheEntry, error) {
	e := y.e
	var none sallyport.CacheEntry
	if err := e.allow(ctx, actYard, ""); err != nil {
		return none, err
	}
	if err := (sallyport.CacheQuery{Key: key, Version: version}).Check(); err != nil {
		return none, err
	}
	in, err := e.cacheJob(ctx, l)
	if err != nil {
		return none, err
	}
	if err := e.maySave(ctx, l, in, key, version); err != nil {
		return none, err
	}
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		_, _, err := in.search(tx, sallyport.CacheQuery{Key: key, Version: version, Saving: true})
		return err
	}); err == nil {
		return none, cacheTaken(key)
	} else if sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		return none, err
	}
	now := e.now()
	entry := sallyport.CacheEntry{
		ID: sallyport.NewID[sallyport.CacheID](now), Project: in.run.Project, Key: key, Version: version, Ref: in.run.Ref, Tier: in.run.Tier,
		Run: in.run.ID, Job: in.job.ID, CreatedAt: now, UsedAt: now,
	}
	if entry.Digest, entry.Size, err = e.blobs.Put(ctx, entry.Scope(), content, "", e.caches.entry); err != nil {
		return none, err
	}
	if err = e.sealCache(ctx, &entry); err == nil {
		err = e.holding(ctx, l, func(c *change, _ sallyport.Work, _ sallyport.Job) error { return c.keepCache(entry, e.caches) })
	}
	if err != nil {
		if derr := e.blobs.Delete(context.WithoutCancel(ctx), entry.Scope(), entry.Digest); derr != nil {
			e.log.WarnContext(ctx, "content of a refused cache entry was not deleted", "cache", entry.ID, "error", derr)
		}
		return none, err
	}
	entry.Signature = nil
	return entry, nil
}

func cacheTaken(key string) error {
	return sallyport.Errorf(sallyport.CodeConflict, "the run's scope has a cache %.80q already; caches do not change", key).
		WithHint("save under another key, with the hash of what it was made from in it")
}

// keepCache inserts an entry and makes room for it.
func (c *change) keepCache(entry sallyport.CacheEntry, b cacheBounds) error {
	if err := c.Caches().Insert(entry); err != nil {
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			err = cacheTaken(entry.Key)
		}
		return err
	}
	if err := c.makeRoom(entry, b); err != nil {
		return err
	}
	return c.record("cache.saved", "cache/"+string(entry.ID), cacheDetail(entry))
}

// makeRoom removes entries that nobody has used for long, and then, until the
// project's are within bounds, those used least lately: first of what untrusted runs
// saved, so that a flood of it takes no room from others. None of a higher tier than
// that of the new entry goes.
func (c *change) makeRoom(entry sallyport.CacheEntry, b cacheBounds) error {
	var mine []sallyport.Tier
	for _, t := range sallyport.CacheTiers(sallyport.TierUntrusted) { // all there are
		if entry.Tier.Covers(t) {
			mine = append(mine, t)
		}
	}
	n, bytes, err := c.Caches().Total(entry.Project)
	if err != nil {
		return err
	}
	full := func() bool { return n > b.entries || bytes > b.total }
	sweep := func(tiers []sallyport.Tier, goes func(sallyport.CacheEntry) bool) (gone int, err error) {
		old, err := c.Caches().LeastUsed(entry.Project, tiers, evictBatch)
		if err != nil {
			return 0, err
		}
		for _, o := range old {
			if o.ID == entry.ID || !goes(o) {
				continue
			}
			if err := c.dropCache(o, "cache.evicted"); err != nil {
				return gone, err
			}
			n, bytes, gone = n-1, bytes-o.Size, gone+1
		}
		return gone, nil
	}
	// What is stale beyond the batch goes the next time.
	if _, err := sweep(mine, func(o sallyport.CacheEntry) bool { return c.now.Sub(o.UsedAt) > b.unused }); err != nil {
		return err
	}
	for _, tiers := range [][]sallyport.Tier{{sallyport.TierUntrusted}, mine} {
		for gone := 1; full() && gone > 0; {
			if gone, err = sweep(tiers, func(sallyport.CacheEntry) bool { return full() }); err != nil {
				return err
			}
		}
	}
	if full() {
		return sallyport.Errorf(sallyport.CodeDenied, "cache write denied: the project's caches are full of what runs of a higher tier saved").
			WithHint("delete what is not needed with: sallyport caches delete")
	}
	return nil
}
