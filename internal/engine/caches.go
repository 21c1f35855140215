package engine

import (
	"context"

	"github.com/sallyport-ci/sallyport"
)

// caches implements sallyport.Caches.
type caches struct{ e *Engine }

func (s caches) Caches(ctx context.Context, p sallyport.ProjectID, page sallyport.Page) ([]sallyport.CacheEntry, error) {
	if err := s.e.allow(ctx, actRead, p); err != nil {
		return nil, err
	}
	var out []sallyport.CacheEntry
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		out, err = tx.Caches().List(p, bound(page))
		return err
	})
	return out, err
}

func (s caches) CacheUses(ctx context.Context, id sallyport.RunID) ([]sallyport.CacheUse, error) {
	if _, err := runs(s).run(ctx, actRead, id); err != nil {
		return nil, err
	}
	var out []sallyport.CacheUse
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		out, err = tx.Caches().Uses(id)
		return err
	})
	return out, err
}

func (s caches) DeleteCache(ctx context.Context, id sallyport.CacheID) (sallyport.CacheEntry, error) {
	entry, err := load(ctx, s.e, actOperate, func(tx sallyport.Tx) (sallyport.CacheEntry, sallyport.ProjectID, error) {
		c, err := tx.Caches().Get(id)
		return c, c.Project, err
	})
	if err != nil {
		return entry, err
	}
	return entry, s.e.update(ctx, func(c *change) error { return c.dropCache(entry, "cache.deleted") })
}

// dropCache removes an entry; its content goes after the change has been committed.
func (c *change) dropCache(entry sallyport.CacheEntry, action string) error {
	if err := c.Caches().Delete(entry.ID); err != nil {
		return err
	}
	if err := c.record(action, "cache/"+string(entry.ID), cacheDetail(entry)); err != nil {
		return err
	}
	return c.enqueue(sallyport.QueueForget, forgetSubject(entry), nil, c.now, stageAttempts)
}

// cacheDetail is what the trail says of an entry. The key is a job's own word
// and stays out of it.
func cacheDetail(c sallyport.CacheEntry) map[string]any {
	return map[string]any{"project": c.Project, "ref": c.Ref, "tier": c.Tier, "digest": c.Digest, "size": c.Size, "run": c.Run, "job": c.Job}
}
