package engine

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
)

const version = "0a1b"

// origin of a run that uses caches.
type cacheRun struct {
	event string
	ref   string
	tier  sallyport.Tier
	base  string // of a pull request
}

var (
	release    = cacheRun{"push", "refs/heads/main", sallyport.TierProtected, ""} // what a release is built by
	approved   = cacheRun{"push", "refs/heads/main", sallyport.TierRelease, ""}
	branch     = cacheRun{"push", "refs/heads/side", sallyport.TierMember, ""}
	fork       = cacheRun{"pull_request", "refs/pull/1/merge", sallyport.TierUntrusted, "main"}
	otherFork  = cacheRun{"pull_request", "refs/pull/2/merge", sallyport.TierUntrusted, "main"}
	ownPull    = cacheRun{"pull_request", "refs/pull/3/merge", sallyport.TierMember, "side"}
	stranger   = cacheRun{"issue_comment", "refs/heads/main", sallyport.TierUntrusted, ""}
	target     = cacheRun{"pull_request_target", "refs/heads/main", sallyport.TierUntrusted, "main"}
	unknownRun = cacheRun{"push", "refs/heads/main", "root", ""}
)

// caching is a house with a repository whose workflow every event starts.
type caching struct {
	*house
	commit string
}

func newCaching(t *testing.T, change ...func(*Config)) *caching {
	t.Helper()
	n := &openNotary{}
	h := newHouse(t, append(change, func(c *Config) { c.Notary, c.Verifier, c.LeaseTTL = n, n, 1000*time.Hour })...)
	const flow = "on: [push, pull_request, pull_request_target, issue_comment]\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: make}]\n"
	push := h.push("main", files{workflowFile: flow})
	h.finish(h.lease(), sallyport.Success, nil)
	return &caching{h, push.Commit}
}

// lend starts a run of the origin and leases its job.
func (h *caching) lend(o cacheRun) *sallyport.Lease {
	h.t.Helper()
	h.pass(time.Second)
	payload := []byte("{}")
	if o.base != "" {
		payload, _ = json.Marshal(map[string]any{"action": "opened", "number": 1, "pull_request": map[string]any{
			"number": 1, "base": map[string]string{"ref": o.base}, "head": map[string]string{"ref": "x", "sha": h.commit}}})
	}
	action := ""
	if o.base != "" {
		action = "opened"
	}
	runs, err := h.e.Trigger(h.admin, sallyport.Push{Project: h.p.ID, Event: o.event, Action: action, Ref: o.ref, Commit: h.commit, Tier: o.tier, Payload: payload}, Selection{})
	check(h.t, err)
	if len(runs) != 1 {
		h.t.Fatalf("%s started %d runs, want 1", o.event, len(runs))
	}
	l := h.house.lease()
	if l == nil || l.Run.ID != runs[0].ID {
		h.t.Fatalf("leased %+v, want the job of run %s", l, runs[0].ID)
	}
	return l
}

func (h *caching) save(l *sallyport.Lease, key, content string) (sallyport.CacheEntry, error) {
	h.t.Helper()
	h.pass(time.Second)
	return h.y.PutCache(h.runner, l.Ref, key, version, strings.NewReader(content))
}

func (h *caching) mustSave(l *sallyport.Lease, key, content string) sallyport.CacheEntry {
	h.t.Helper()
	c, err := h.save(l, key, content)
	check(h.t, err)
	return c
}

// restore finds and fetches, as a step does. It returns the content, or the code of what was refused.
func (h *caching) restore(l *sallyport.Lease, key string, restoreKeys ...string) (content string, code sallyport.Code) {
	h.t.Helper()
	c, err := h.y.FindCache(h.runner, l.Ref, sallyport.CacheQuery{Key: key, RestoreKeys: restoreKeys, Version: version})
	if err != nil {
		return "", sallyport.ErrorCode(err)
	}
	return h.fetch(l, c.ID)
}

func (h *caching) fetch(l *sallyport.Lease, id sallyport.CacheID) (string, sallyport.Code) {
	h.t.Helper()
	c, r, err := h.y.GetCache(h.runner, l.Ref, id)
	if err != nil {
		return "", sallyport.ErrorCode(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	check(h.t, err)
	if c.Digest != sallyport.DigestOf(b) {
		h.t.Errorf("the digest of %q is %s", b, c.Digest)
	}
	return string(b), ""
}

// actions counts the records of the trail that begin with prefix.
func (h *house) actions(prefix string) map[string]int {
	h.t.Helper()
	n := map[string]int{}
	check(h.t, h.store.View(h.t.Context(), func(tx sallyport.Tx) error {
		all, err := tx.Audit().Range(0, 10_000)
		for _, r := range all {
			if strings.HasPrefix(r.Action, prefix) {
				n[r.Action]++
			}
		}
		return err
	}))
	return n
}

// TestCachePoisoning is the attack by which a pull request of a fork gave a
// release its dependencies: it saves what it likes under the key that the release
// restores. With the same key saved by a run of the protected branch the release restores it: the tier is all
// that stands between.
func TestCachePoisoning(t *testing.T) {
	t.Parallel()
	const key = "pnpm-store-1f2e"
	h := newCaching(t)
	attacker := h.lend(fork)
	poison := h.mustSave(attacker, key, "poison")
	// An entry in the very scope that the release looks in, as the flaw of a forge may let one be made.
	planted := poison
	planted.ID, planted.Ref = "0190c0de-0000-7000-8000-000000000001", release.ref
	planted.CreatedAt = h.clock().Add(time.Hour)
	check(t, h.store.Update(t.Context(), func(tx sallyport.Tx) error { return tx.Caches().Insert(planted) }))

	victim := h.lend(release)
	if got, code := h.restore(victim, key, "pnpm-store-", "pnpm-"); code != sallyport.CodeNotFound {
		t.Errorf("the release restored %q (%s), want nothing", got, code)
	}
	for name, id := range map[string]sallyport.CacheID{"of the fork": poison.ID, "planted": planted.ID} {
		if got, code := h.fetch(victim, id); code != sallyport.CodeNotFound && code != sallyport.CodeDenied {
			t.Errorf("the release fetched the entry %s by its id: %q (%s)", name, got, code)
		}
	}
	if n := h.actions("cache."); n["cache.refused"] != 1 || n["cache.restored"] != 0 {
		t.Errorf("the trail has %v, want one refusal for the planted entry", n)
	}
	h.finish(victim, sallyport.Success, nil)
	_, err := h.s.Caches.DeleteCache(h.admin, planted.ID)
	check(t, err)

	// The control: a run of the protected branch saved it.
	honest := h.lend(release)
	h.mustSave(honest, key, "good")
	h.finish(honest, sallyport.Success, nil)
	victim = h.lend(release)
	if got, code := h.restore(victim, key); got != "good" {
		t.Errorf("the release restored %q (%s), want what the protected branch saved", got, code)
	}
	// And the attacker still has its own, and may read what stands above it.
	if got, _ := h.restore(attacker, key); got != "poison" {
		t.Errorf("the fork restored %q", got)
	}
	if got, _ := h.restore(h.lend(otherFork), key); got != "good" {
		t.Errorf("another fork restored %q, want that of the default branch", got)
	}
}

// Who may restore what whom saved, for a key that exists nowhere else.
func TestCacheLaw(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	writers := map[string]cacheRun{"release": approved, "protected": release, "branch": branch, "fork": fork, "own pull": ownPull}
	for name, w := range writers {
		l := h.lend(w)
		h.mustSave(l, "k-"+name, name)
		h.finish(l, sallyport.Success, nil)
	}
	for _, c := range []struct {
		reader cacheRun
		may    string // names of writers
	}{
		{approved, "release"},
		{release, "release protected"},
		{branch, "release protected branch"},
		{fork, "release protected fork"},
		{otherFork, "release protected"},
		{ownPull, "release protected branch own pull"}, // its base is the side branch
		{stranger, "release protected"},
		{target, "release protected"},
		{unknownRun, ""},
		{cacheRun{"push", "refs/tags/v1", sallyport.TierMember, ""}, "release protected"},
		{cacheRun{"push", "refs/heads/other", sallyport.TierMember, ""}, "release protected"},
	} {
		l := h.lend(c.reader)
		for name := range writers {
			want := ""
			if strings.Contains(c.may, name) {
				want = name
			}
			if got, code := h.restore(l, "k-"+name); got != want || want == "" && code != sallyport.CodeNotFound {
				t.Errorf("%v restored %q (%s) of %s, want %q", c.reader, got, code, name, want)
			}
		}
		h.finish(l, sallyport.Success, nil)
	}
}

func TestCacheSearch(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	onMain := h.lend(release)
	for _, key := range []string{"npm-1", "npm-12", "npm-2", "go-1", "exact"} {
		h.mustSave(onMain, key, "main "+key)
	}
	l := h.lend(branch)
	for _, key := range []string{"npm-1-old", "npm-1-new", "go-2"} {
		h.mustSave(l, key, "side "+key)
	}
	for _, c := range []struct {
		key  string
		more []string
		want string
	}{
		{"npm-12", nil, "main npm-12"},
		{"npm-1", nil, "side npm-1-new"}, // what begins with the key in the own branch comes before the key in another
		{"exact", []string{"go-"}, "side go-2"},
		{"none", []string{"go-1", "npm-"}, "side npm-1-new"}, // all keys in one branch, then the next branch
		{"none", []string{"npm-2", "go-1"}, "main npm-2"},
		{"none", []string{"n"}, "side npm-1-new"},
		{"NPM-1", nil, ""},
		{"none", nil, ""},
	} {
		if got, _ := h.restore(l, c.key, c.more...); got != c.want {
			t.Errorf("%s, %q: restored %q, want %q", c.key, c.more, got, c.want)
		}
	}
	if _, err := h.y.FindCache(h.runner, l.Ref, sallyport.CacheQuery{Key: "npm-1", Version: "other"}); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("another version was found: %v", err)
	}
	for name, q := range map[string]sallyport.CacheQuery{
		"no key": {Version: version}, "comma": {Key: "a,b", Version: version}, "long": {Key: strings.Repeat("é", 513), Version: version},
		"control": {Key: "a\nb", Version: version}, "no version": {Key: "a"}, "path as version": {Key: "a", Version: "../x"},
		"restore key": {Key: "a", RestoreKeys: []string{"b,"}, Version: version}, "many": {Key: "a", RestoreKeys: slices.Repeat([]string{"b"}, 10), Version: version},
	} {
		if _, err := h.y.FindCache(h.runner, l.Ref, q); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
	if _, err := h.y.FindCache(h.runner, l.Ref, sallyport.CacheQuery{Key: strings.Repeat("é", 512), Version: version}); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("the longest key: %v", err)
	}
}

func TestCacheIsWrittenOnce(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	l := h.lend(branch)
	find := func(l *sallyport.Lease) error {
		_, err := h.y.FindCache(h.runner, l.Ref, sallyport.CacheQuery{Key: "k", Version: version, Saving: true})
		return err
	}
	if err := find(l); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("before it was saved: %v", err)
	}
	first := h.mustSave(l, "k", "one")
	read := &touched{strings.NewReader("two"), false}
	if _, err := h.y.PutCache(h.runner, l.Ref, "k", version, read); sallyport.ErrorCode(err) != sallyport.CodeConflict || read.read {
		t.Errorf("saving again: %v; content was read: %v", err, read.read)
	}
	if err := find(l); err != nil {
		t.Errorf("after it was saved: %v", err)
	}
	if got, _ := h.restore(l, "k"); got != "one" {
		t.Errorf("restored %q", got)
	}
	// Other scopes have it not.
	for _, o := range []cacheRun{release, ownPull, {"push", branch.ref, sallyport.TierRelease, ""}} {
		other := h.lend(o)
		if err := find(other); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			t.Errorf("%v: the entry stands in its scope: %v", o, err)
		}
		h.mustSave(other, "k", "other")
	}
	if first.Tier != sallyport.TierMember || first.Ref != branch.ref || first.Digest != sallyport.DigestOf([]byte("one")) || first.Size != 3 {
		t.Errorf("kept %+v", first)
	}
	if n := h.actions("cache.saved"); n["cache.saved"] != 4 {
		t.Errorf("the trail has %v", n)
	}
}

type touched struct {
	io.Reader
	read bool
}

func (r *touched) Read(p []byte) (int, error) { r.read = true; return r.Reader.Read(p) }

func TestReadOnlyCache(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	for _, o := range []cacheRun{stranger, target, unknownRun} {
		l := h.lend(o)
		if _, err := h.y.FindCache(h.runner, l.Ref, sallyport.CacheQuery{Key: "k", Version: version, Saving: true}); sallyport.ErrorCode(err) != sallyport.CodeDenied {
			t.Errorf("%v may save, it was told: %v", o, err)
		}
		for range 2 {
			read := &touched{strings.NewReader("x"), false}
			_, err := h.y.PutCache(h.runner, l.Ref, "k", version, read)
			if sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(err.Error(), "cache write denied:") || read.read {
				t.Errorf("%v saved: %v", o, err)
			}
		}
		h.finish(l, sallyport.Success, nil)
	}
	if n := h.actions("cache."); n["cache.read_only"] != 3 || len(n) != 1 {
		t.Errorf("the trail has %v, want one record for each run", n)
	}
}

// An entry that was changed in the store is found out when it is restored.
func TestAlteredCache(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	low := h.lend(branch)
	entry := h.mustSave(low, "k", "content")
	good := h.lend(release)
	h.mustSave(good, "other", "other content")
	alter := map[string]func(c *sallyport.CacheEntry){
		"its tier": func(c *sallyport.CacheEntry) { c.Tier, c.Ref = sallyport.TierProtected, release.ref },
		"its key":  func(c *sallyport.CacheEntry) { c.Key, c.Tier, c.Ref = "mine", sallyport.TierMember, branch.ref },
		"its run":  func(c *sallyport.CacheEntry) { c.Run = "another" },
		"its time": func(c *sallyport.CacheEntry) { c.CreatedAt = c.CreatedAt.Add(time.Second) },
		"its size": func(c *sallyport.CacheEntry) { c.Size++ },
		"no signature": func(c *sallyport.CacheEntry) {
			c.Signature = nil
		},
		"another's signature": func(c *sallyport.CacheEntry) {
			check(t, h.store.View(t.Context(), func(tx sallyport.Tx) error {
				other, err := tx.Caches().Match(sallyport.CacheMatch{Project: h.p.ID, Ref: release.ref, Version: version, Key: "other", Tiers: sallyport.CacheTiers(release.tier)})
				c.Signature = other.Signature
				return err
			}))
		},
	}
	for name, f := range alter {
		var kept sallyport.CacheEntry
		check(t, h.store.Update(t.Context(), func(tx sallyport.Tx) (err error) {
			if kept, err = tx.Caches().Get(entry.ID); err != nil {
				return err
			}
			return tx.Caches().Delete(entry.ID)
		}))
		changed := kept
		f(&changed)
		put := func(c sallyport.CacheEntry) {
			check(t, h.store.Update(t.Context(), func(tx sallyport.Tx) error { return tx.Caches().Insert(c) }))
		}
		put(changed)
		reader := low
		if changed.Ref == release.ref {
			reader = h.lend(release)
		}
		if got, code := h.restore(reader, changed.Key); code != sallyport.CodeDenied {
			t.Errorf("%s was changed: restored %q (%s), want it refused", name, got, code)
		}
		check(t, h.store.Update(t.Context(), func(tx sallyport.Tx) error { return tx.Caches().Delete(entry.ID) }))
		put(kept)
	}
	if got, _ := h.restore(low, "k"); got != "content" {
		t.Errorf("as it was signed: restored %q", got)
	}
	if n := h.actions("cache."); n["cache.altered"] != 2 || n["cache.restored"] != 1 {
		t.Errorf("the trail has %v", n) // one for each of the two jobs
	}
}

func TestCacheRoom(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	h.e.caches = cacheBounds{entry: 50, total: 100, entries: 4, unused: time.Hour}
	keys := func() string {
		all, err := h.s.Caches.Caches(h.admin, h.p.ID, sallyport.Page{})
		check(t, err)
		var out []string
		for _, c := range all {
			out = append(out, c.Key)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	main, side, pull := h.lend(release), h.lend(branch), h.lend(fork)
	if _, err := h.save(main, "large", strings.Repeat("x", 51)); sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("an entry beyond its bound: %v", err)
	}
	forty := strings.Repeat("x", 40)
	h.mustSave(main, "a", forty)
	h.mustSave(side, "b", forty)
	if got := keys(); got != "a b" {
		t.Fatalf("kept %s", got)
	}
	h.pass(time.Second)
	if _, code := h.restore(main, "a"); code != "" {
		t.Fatal(code)
	}
	// Room is made of what was used least lately.
	c := h.mustSave(main, "c", forty)
	if got := keys(); got != "a c" {
		t.Errorf("kept %s, want b pushed out", got)
	}
	// … but not of what a higher tier saved.
	if _, err := h.save(pull, "poison", forty); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a fork pushed out what the protected branch saved: %v", err)
	}
	h.mustSave(pull, "small", "x")
	h.mustSave(pull, "smaller", "")
	if got := keys(); got != "a c small smaller" {
		t.Errorf("kept %s", got)
	}
	// The number is bounded too.
	h.mustSave(main, "d", "")
	if got := keys(); got != "a c d smaller" {
		t.Errorf("kept %s, want the fork's older one pushed out", got)
	}
	// What nobody restores goes.
	h.pass(2 * time.Hour)
	h.mustSave(h.lend(release), "e", "")
	if got := keys(); got != "e" {
		t.Errorf("kept %s, want the stale ones gone", got)
	}
	if n := h.actions("cache.evicted"); n["cache.evicted"] != 6 {
		t.Errorf("the trail has %v", n)
	}
	h.gone(c)
	if n := h.actions("cache.saved"); n["cache.saved"] != 7 {
		t.Errorf("the trail has %v", n)
	}
}

// gone wants the content of an entry deleted once the river has run.
func (h *caching) gone(c sallyport.CacheEntry) {
	h.t.Helper()
	if _, err := h.e.blobs.Stat(h.t.Context(), c.Scope(), c.Digest); err != nil {
		h.t.Errorf("the content went with the transaction: %v", err)
	}
	h.work()
	if _, err := h.e.blobs.Stat(h.t.Context(), c.Scope(), c.Digest); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		h.t.Errorf("the content of a removed entry is still there: %v", err)
	}
}

func TestDeleteCache(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	l := h.lend(release)
	c := h.mustSave(l, "k", "content")
	_, content, err := h.y.GetCache(h.runner, l.Ref, c.ID)
	check(t, err)
	if got, err := h.s.Caches.DeleteCache(h.admin, c.ID); err != nil || got.Key != "k" {
		t.Fatalf("deleted %+v, %v", got, err)
	}
	h.gone(c)
	if b, err := io.ReadAll(content); string(b) != "content" || err != nil { // who reads goes on
		t.Errorf("read %q, %v", b, err)
	}
	if _, code := h.restore(l, "k"); code != sallyport.CodeNotFound {
		t.Errorf("a deleted entry was restored: %s", code)
	}
	if _, err := h.s.Caches.DeleteCache(h.admin, c.ID); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("deleting it again: %v", err)
	}
	h.mustSave(l, "k", "content") // its place is free
	uses, err := h.s.Caches.CacheUses(h.admin, l.Run.ID)
	check(t, err)
	if len(uses) != 1 || uses[0].Entry.Key != "k" || uses[0].Outcome != sallyport.CacheRestored || uses[0].Job != l.Job.ID {
		t.Errorf("uses %+v", uses)
	}
}

// The lease fences the cache like everything else.
func TestCacheNeedsTheLease(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	l := h.lend(release)
	c := h.mustSave(l, "k", "content")
	h.finish(l, sallyport.Success, nil)
	if _, err := h.save(l, "x", "x"); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("saved without the lease: %v", err)
	}
	if _, code := h.restore(l, "k"); code != sallyport.CodeConflict {
		t.Errorf("found without the lease: %s", code)
	}
	if _, code := h.fetch(l, c.ID); code != sallyport.CodeConflict {
		t.Errorf("restored without the lease: %s", code)
	}
}

// What a job restored stands in the provenance of what it made; what an attempt
// before it did stands there not.
func TestProvenanceNamesRestoredCaches(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	l := h.lend(release)
	one, two := h.mustSave(l, "one", "1"), h.mustSave(l, "two", "2")
	h.finish(l, sallyport.Success, nil)

	l = h.lend(release)
	if got, _ := h.restore(l, "one"); got != "1" {
		t.Fatalf("restored %q", got)
	}
	check(t, h.e.RunnerGone(t.Context(), "r1")) // the first attempt dies
	if l = h.house.lease(); l == nil || l.Job.Attempt != 2 {
		t.Fatalf("leased %+v, want the second attempt", l)
	}
	for range 2 {
		if got, _ := h.restore(l, "two"); got != "2" {
			t.Fatalf("restored %q", got)
		}
	}
	a, err := h.y.PutArtifact(h.runner, l.Ref, "app", bytes.NewReader(tarOf(t, tarFile{"app", "made", 0o755})))
	check(t, err)
	h.finish(l, sallyport.Success, nil)
	statements, err := h.s.Artifacts.Statements(h.admin, h.p.ID, a.Digest)
	check(t, err)
	if len(statements) != 1 {
		t.Fatalf("%d statements", len(statements))
	}
	var b openBundle
	var st struct {
		Predicate struct {
			BuildDefinition struct {
				ResolvedDependencies []attest.Resource
			}
		}
	}
	check(t, json.Unmarshal(statements[0].Bundle, &b))
	check(t, json.Unmarshal(b.Statement, &st))
	var named []attest.Resource
	for _, d := range st.Predicate.BuildDefinition.ResolvedDependencies {
		if d.Name == "cache" {
			named = append(named, d)
		}
	}
	if len(named) != 1 || named[0].URI != "https://ci.example/caches/"+string(two.ID) || named[0].Digest["sha256"] != two.Digest.Hex() ||
		named[0].Annotations["tier"] != "protected" || named[0].Annotations["ref"] != release.ref {
		t.Errorf("the provenance names %+v, want %s alone and not %s", named, two.ID, one.ID)
	}
}

// The gate stands behind the rule: a run that got an entry of a lower tier all the
// same does not go out.
func TestGateRefusesWhatTookFromALowerTier(t *testing.T) {
	t.Parallel()
	for tier, want := range map[sallyport.Tier]sallyport.Decision{sallyport.TierProtected: sallyport.Allow, sallyport.TierMember: sallyport.Deny} {
		s := newSite(t)
		run := s.build("v1")
		_, jobs, err := s.s.Runs.Run(s.admin, run)
		check(t, err)
		check(t, s.store.Update(t.Context(), func(tx sallyport.Tx) error {
			return tx.Caches().InsertUse(sallyport.CacheUse{Run: run, Job: jobs[0].ID, Attempt: 1, Outcome: sallyport.CacheRestored, Entry: sallyport.CacheEntry{
				ID: "c", Digest: sallyport.DigestOf(nil), Tier: tier, Ref: "refs/heads/side"}})
		}))
		a, err := s.s.Artifacts.FindArtifact(s.admin, run, "app")
		check(t, err)
		v, err := s.s.Gates.Judge(s.admin, a.ID, "production")
		check(t, err)
		if said := strings.Join(v.Reasons, "\n"); v.Decision != want || want == sallyport.Deny && !strings.Contains(said, `restored cache entry c, which a run of tier "member" saved`) {
			t.Errorf("restored from %s: %s because %s", tier, v.Decision, said)
		}
	}
}
