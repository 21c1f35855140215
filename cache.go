package sallyport

import (
	"strings"
	"time"
	"unicode/utf8"
)

// CacheEntry is a saved cache: content that jobs of later runs may restore. It
// is immutable, sealed at rest, addressed by the digest that the control plane
// computed, and signed by it; the signature is verified again at each restore.
//
// The rules:
//
//   - A run writes into one scope alone: its own ref and its own tier. Within a
//     scope a key and version are written once.
//   - A run sees the entries of its own ref, of the base ref of its pull request
//     and of the default branch, in this order.
//   - Of what it sees it may restore only what a run of the same or of a higher
//     tier wrote (MayFeed): what an untrusted run saved never reaches a run that is
//     trusted more, whatever its key.
//   - A run that somebody outside caused, and that has no pull request of its own,
//     writes nothing: it would write beside the entries of the default branch.
//   - Saving makes room by removing what was used least lately, of untrusted runs
//     first, but never an entry of a higher tier than the saving run's: nobody can push out what
//     others rely on in order to put something else in its place.
type CacheEntry struct {
	ID      CacheID   `json:"id"`
	Project ProjectID `json:"project"`
	Key     string    `json:"key"`
	// Version tells archives apart that cannot stand for each other: other paths,
	// another compression. Clients make it; here it is opaque.
	Version string `json:"version"`
	Ref     string `json:"ref"`  // of the run that wrote it
	Tier    Tier   `json:"tier"` // likewise
	Digest  Digest `json:"digest"`
	Size    int64  `json:"size"`
	Run     RunID  `json:"run"`
	Job     JobID  `json:"job"`
	// Signature is the Sigstore bundle of the statement that says all the above.
	Signature []byte    `json:"-"`
	CreatedAt time.Time `json:"created_at"`
	UsedAt    time.Time `json:"used_at"` // saved or restored last
}

// Scope is the blob scope of the entry: each has content of its own, so that
// removing one takes nothing from another.
func (c CacheEntry) Scope() Scope { return Scope{string(c.Project), "caches", string(c.ID)} }

// MayFeed reports whether a run of the tier may restore the entry. A tier that is
// not known feeds nobody and gets nothing.
func (c CacheEntry) MayFeed(tier Tier) bool {
	return c.Tier.known() && tier.known() && c.Tier.Covers(tier)
}

// CacheTiers returns the tiers whose entries a run of the tier may restore.
func CacheTiers(tier Tier) []Tier {
	var out []Tier
	for _, t := range []Tier{TierUntrusted, TierMember, TierProtected, TierRelease} {
		if (CacheEntry{Tier: t}).MayFeed(tier) {
			out = append(out, t)
		}
	}
	return out
}

func (t Tier) known() bool { return t.Rank() > 0 || t == TierUntrusted }

const (
	// MaxCacheKey and MaxCacheKeys are GitHub's bounds of a key, in characters, and of
	// the keys of one search.
	MaxCacheKey  = 512
	MaxCacheKeys = 10
	// maxCacheVersion has room for any digest in hex.
	maxCacheVersion = 128
)

// ValidCacheKey refuses what GitHub refuses as the key of a cache, and what
// cannot be shown.
func ValidCacheKey(key string) error {
	switch {
	case key == "":
		return Errorf(CodeInvalid, "the key of the cache is empty").WithHint("give a key")
	case utf8.RuneCountInString(key) > MaxCacheKey:
		return Errorf(CodeInvalid, "the cache key %.80q… has more than %d characters", key, MaxCacheKey).WithHint("hash what makes it long, with hashFiles for example")
	case strings.Contains(key, ","):
		return Errorf(CodeInvalid, "the cache key %.80q has a comma", key).WithHint("separate its parts with '-'")
	case !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return Errorf(CodeInvalid, "the cache key %.80q has control characters", key).WithHint("use printable text in one line")
	}
	return nil
}

// ValidCacheVersion checks a version: 1 to 128 of A-Z, a-z, 0-9, '.', '_', '-'.
func ValidCacheVersion(v string) error {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	if v == "" || len(v) > maxCacheVersion || strings.Trim(v, letters) != "" {
		return Errorf(CodeInvalid, "%.80q is not the version of a cache", v).WithHint("send a digest in hex, as the toolkit does")
	}
	return nil
}

// CacheQuery is a search for an entry: the key exactly, then entries whose key
// begins with it, then those that begin with each of RestoreKeys; of several the newest. All
// of that in one scope before the next.
type CacheQuery struct {
	Key         string   `json:"key"`
	RestoreKeys []string `json:"restore_keys,omitempty"`
	Version     string   `json:"version"`
	// Saving asks instead whether an entry stands where this run would save one:
	// the key exactly, in the run's own scope. CodeDenied when the run may save none.
	Saving bool `json:"saving,omitempty"`
}

// Check refuses a query that no entry could match.
func (q CacheQuery) Check() error {
	if 1+len(q.RestoreKeys) > MaxCacheKeys {
		return Errorf(CodeInvalid, "a cache is searched by at most %d keys", MaxCacheKeys).WithHint("remove some of the restore-keys")
	}
	for _, k := range append([]string{q.Key}, q.RestoreKeys...) {
		if err := ValidCacheKey(k); err != nil {
			return err
		}
	}
	return ValidCacheVersion(q.Version)
}

// CacheOutcome is what came of a job's use of the cache.
type CacheOutcome string

const (
	CacheRestored CacheOutcome = "restored"
	CacheRefused  CacheOutcome = "refused"   // a run of a lower tier wrote it
	CacheAltered  CacheOutcome = "altered"   // it is not what was signed
	CacheReadOnly CacheOutcome = "read_only" // the run may not save; the entry has no more than key and version
)

// CacheUse records what a job did with an entry, as the entry was then. It
// outlives the entry: provenance and gates are made from it.
type CacheUse struct {
	Run     RunID        `json:"run"`
	Job     JobID        `json:"job"`
	Attempt int          `json:"attempt"`
	Outcome CacheOutcome `json:"outcome"`
	Entry   CacheEntry   `json:"entry"`
	At      time.Time    `json:"at"`
}
