package sqlstore

import (
	"time"

	"github.com/sallyport-ci/sallyport"
)

const cacheColumns = "id, project, key, version, ref, tier, digest, size, run, job, signature, created_at, used_at"

const (
	cacheInsert = "INSERT INTO caches (" + cacheColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING"
	cacheGet    = "SELECT " + cacheColumns + " FROM caches WHERE id = $1"
	cacheDelete = "DELETE FROM caches WHERE id = $1"
	cacheUse    = "UPDATE caches SET used_at = $2 WHERE id = $1"
	cacheList   = "SELECT " + cacheColumns + " FROM caches WHERE project = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
	cacheTotal  = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM caches WHERE project = $1"

	cacheWhere  = "SELECT " + cacheColumns + " FROM caches WHERE project = $1 AND ref = $2 AND version = $3 AND tier IN ($4, $5, $6, $7) AND "
	cacheNewest = " ORDER BY created_at DESC, id DESC LIMIT 1"
	cacheExact  = cacheWhere + "key = $8" + cacheNewest
	cachePrefix = cacheWhere + "substr(key, 1, length($8)) = $8" + cacheNewest
	cacheOldest = "SELECT " + cacheColumns + " FROM caches WHERE project = $1 AND tier IN ($2, $3, $4, $5) ORDER BY used_at, id LIMIT $6"

	cacheUseInsert = "INSERT INTO cache_uses (run, job, attempt, outcome, cache, entry, at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"
	cacheUseCount  = "SELECT COUNT(*) FROM cache_uses WHERE job = $1 AND attempt = $2"
	cacheUseByRun  = "SELECT run, job, attempt, outcome, entry, at FROM cache_uses WHERE run = $1 ORDER BY at, job, attempt, cache, outcome"
)

func scanCache(r scanner) (c sallyport.CacheEntry, err error) {
	err = r.Scan(&c.ID, &c.Project, &c.Key, &c.Version, &c.Ref, &c.Tier, &c.Digest, &c.Size, &c.Run, &c.Job, &c.Signature, stamp{&c.CreatedAt}, stamp{&c.UsedAt})
	return c, err
}

func (t caches) Insert(c sallyport.CacheEntry) error {
	return t.insert("cache entry", cacheInsert, c.ID, c.Project, c.Key, c.Version, c.Ref, c.Tier, c.Digest, c.Size, c.Run, c.Job,
		blob(c.Signature), micros(c.CreatedAt), micros(c.UsedAt))
}

func (t caches) Get(id sallyport.CacheID) (sallyport.CacheEntry, error) {
	return one(t.tx, "cache entry", scanCache, cacheGet, id)
}

func (t caches) Match(m sallyport.CacheMatch) (sallyport.CacheEntry, error) {
	query := cacheExact
	if m.Prefix {
		query = cachePrefix
	}
	in := fourTiers(m.Tiers)
	return one(t.tx, "cache entry", scanCache, query, m.Project, m.Ref, m.Version, in[0], in[1], in[2], in[3], m.Key)
}

// fourTiers fills up with a tier that nothing has.
func fourTiers(tiers []sallyport.Tier) (in [4]sallyport.Tier) {
	for i := range in {
		in[i] = "-"
	}
	copy(in[:], tiers)
	return in
}

func (t caches) List(p sallyport.ProjectID, pg sallyport.Page) ([]sallyport.CacheEntry, error) {
	before, limit := page(pg)
	return many(t.tx, scanCache, cacheList, p, before, limit)
}

func (t caches) LeastUsed(p sallyport.ProjectID, tiers []sallyport.Tier, limit int) ([]sallyport.CacheEntry, error) {
	in := fourTiers(tiers)
	return many(t.tx, scanCache, cacheOldest, p, in[0], in[1], in[2], in[3], limit)
}

func (t caches) Total(p sallyport.ProjectID) (entries, bytes int64, err error) {
	type total struct{ entries, bytes int64 }
	all, err := one(t.tx, "project", func(r scanner) (v total, err error) {
		err = r.Scan(&v.entries, &v.bytes)
		return v, err
	}, cacheTotal, p)
	return all.entries, all.bytes, err
}

func (t caches) Use(id sallyport.CacheID, at time.Time) error {
	return t.change("cache entry", cacheUse, id, micros(at))
}

func (t caches) Delete(id sallyport.CacheID) error {
	return t.change("cache entry", cacheDelete, id)
}

func (t caches) InsertUse(u sallyport.CacheUse) error {
	return t.insert("use of the cache", cacheUseInsert, u.Run, u.Job, u.Attempt, u.Outcome, u.Entry.ID, asJSON(u.Entry), micros(u.At))
}

func (t caches) Uses(id sallyport.RunID) ([]sallyport.CacheUse, error) {
	return many(t.tx, func(r scanner) (u sallyport.CacheUse, err error) {
		err = r.Scan(&u.Run, &u.Job, &u.Attempt, &u.Outcome, fromJSON{&u.Entry}, stamp{&u.At})
		return u, err
	}, cacheUseByRun, id)
}

func (t caches) CountUses(j sallyport.JobID, attempt int) (int64, error) {
	return one(t.tx, "job", scanInt, cacheUseCount, j, attempt)
}
