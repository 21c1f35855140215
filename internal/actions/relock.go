package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// Locker makes and compares locks of a repository. From fetches what is named.
type Locker struct {
	Repo       Repository
	From       sallyport.Actions
	Quarantine time.Duration
	Now        time.Time
}

// Options say what Lock may change beside adding what is missing and removing
// what is not used any more.
type Options struct {
	// Only are the references (OWNER/REPOSITORY@REF) to update and accept; empty: all.
	Only []string
	// Update asks again which commits the refs name now.
	Update bool
	// Accept lifts the quarantine, with this reason; "" does not.
	Accept string
}

// Kinds of a Change.
const (
	Added    = "added"
	Moved    = "moved"    // the ref names another commit now
	Accepted = "accepted" // the quarantine was lifted
	Removed  = "removed"
	Kept     = "kept"
)

// Change is what became of one reference.
type Change struct {
	Uses   string `json:"uses"`
	Kind   string `json:"change"`
	Before *Entry `json:"before,omitempty"`
	After  *Entry `json:"after,omitempty"`
}

// Lock returns the lock of the repository as it is now, and what is new in it.
// Nothing is written.
func (l Locker) Lock(ctx context.Context, old Lock, o Options) (Lock, []Change, Found, error) {
	if err := o.check(); err != nil {
		return old, nil, Found{}, err
	}
	done := map[string]Entry{}
	found, err := Find(ctx, l.Repo, func(ctx context.Context, r workflow.Reference) (Metadata, error) {
		key := strings.ToLower(r.Repository) + "@" + r.Ref
		e, ok := done[key]
		if !ok {
			var err error
			if e, err = l.entry(ctx, old, r, o); err != nil {
				return nil, err
			}
			done[key] = e
		}
		return l.metadata(ctx, e)
	})
	if err != nil {
		return old, nil, found, err
	}
	var lock Lock
	for _, e := range done {
		lock.put(e)
	}
	if len(found.Broken) > 0 { // what these files use is not known, so nothing is known to be unused
		for _, e := range old.Actions {
			if _, ok := lock.Find(cut(e.Uses)); !ok {
				lock.put(e)
			}
		}
	}
	for _, uses := range o.Only {
		repository, ref, _ := strings.Cut(uses, "@")
		if _, ok := lock.Find(repository, ref); !ok {
			return old, nil, found, sallyport.Errorf(sallyport.CodeInvalid, "nothing here uses %s", uses).WithHint("list what is used with: sallyport actions list")
		}
	}
	return lock, changes(old, lock), found, nil
}

func (o Options) check() error {
	for _, uses := range o.Only {
		if r, err := workflow.ParseReference(uses); err != nil {
			return err
		} else if r.Path != "" {
			return sallyport.Errorf(sallyport.CodeInvalid, "%s names a directory", uses).WithHint("a repository is locked as a whole: write %s", r.Entry())
		}
	}
	if o.Accept != "" && (!plainText(o.Accept, maxReason) || strings.TrimSpace(o.Accept) == "") {
		return sallyport.Errorf(sallyport.CodeInvalid, "a reason is one line of at most %d bytes", maxReason)
	}
	return nil
}

func (o Options) concerns(uses string) bool {
	return len(o.Only) == 0 || slices.ContainsFunc(o.Only, func(u string) bool { return Compare(u, uses) == 0 })
}

// entry is what the lock is to say of a reference.
func (l Locker) entry(ctx context.Context, old Lock, r workflow.Reference, o Options) (Entry, error) {
	e, known := old.Find(r.Repository, r.Ref)
	uses := r.Entry()
	if !known || o.Update && o.concerns(uses) {
		next, err := l.fetch(ctx, r)
		if err != nil {
			return e, err
		}
		switch {
		case !known:
			e = next
			for _, other := range old.Actions { // the same files under another ref are not new
				if other.Tree == e.Tree && other.FirstSeen.Before(e.FirstSeen) {
					e.FirstSeen = other.FirstSeen
				}
			}
		case next.Tree == e.Tree:
			e.Commit, e.From = next.Commit, next.From
		default:
			e = next
		}
	}
	if o.Accept != "" && o.concerns(uses) && l.Now.Before(e.Usable(l.Quarantine)) {
		e.Accepted = &Acceptance{At: l.Now.UTC().Truncate(time.Second), Reason: o.Accept}
	}
	return e, nil
}

// fetch asks for what a reference names now, and gets it.
func (l Locker) fetch(ctx context.Context, r workflow.Reference) (Entry, error) {
	source, err := l.From.Resolve(ctx, r.Repository, r.Ref)
	if err != nil {
		return Entry{}, fmt.Errorf("resolve %s: %w", r.Entry(), err)
	}
	if source.Digest, err = l.From.Keep(ctx, source); err != nil {
		return Entry{}, fmt.Errorf("fetch %s: %w", r.Entry(), err)
	}
	e := Entry{Uses: r.Entry(), From: source.URL, Commit: source.Commit, Tree: source.Digest, FirstSeen: l.Now.UTC().Truncate(time.Second)}
	return e, e.check()
}

func (l Locker) metadata(ctx context.Context, e Entry) (Metadata, error) {
	if _, err := l.From.Keep(ctx, e.Source()); err != nil {
		return nil, err
	}
	tree, err := l.From.Open(ctx, e.Tree)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	m, err := ReadMetadata(tree)
	if m == nil && err == nil {
		m = Metadata{}
	}
	return m, err
}

// changes lists what became of every reference, in order.
func changes(old, lock Lock) []Change {
	var out []Change
	for _, e := range lock.Actions {
		c := Change{Uses: e.Uses, Kind: Added, After: &e}
		if before, ok := old.Find(cut(e.Uses)); ok {
			c.Before = &before
			switch {
			case before.Commit != e.Commit || before.Tree != e.Tree:
				c.Kind = Moved
			case before.Accepted == nil && e.Accepted != nil:
				c.Kind = Accepted
			default:
				c.Kind = Kept
			}
		}
		out = append(out, c)
	}
	for _, e := range old.Actions {
		if _, ok := lock.Find(cut(e.Uses)); !ok {
			out = append(out, Change{Uses: e.Uses, Kind: Removed, Before: &e})
		}
	}
	return out
}

func cut(uses string) (repository, ref string) {
	repository, ref, _ = strings.Cut(uses, "@")
	return repository, ref
}

// States of a reference.
const (
	StateLocked   = "locked"
	StateYoung    = "young"    // in quarantine
	StateMissing  = "missing"  // used and not locked
	StateUnused   = "unused"   // locked and not used
	StateMoved    = "moved"    // the ref names another commit than was locked
	StateAltered  = "altered"  // the commit's files are not those that were locked
	StateVanished = "vanished" // no server has it any more
)

// Status is how a reference stands.
type Status struct {
	Uses   string     `json:"uses"`
	State  string     `json:"state"`
	Entry  *Entry     `json:"entry,omitempty"`
	Usable *time.Time `json:"usable,omitempty"` // from when on it may be used
	Now    string     `json:"now,omitempty"`    // the commit that the ref names now, of a moved one
	Places []string   `json:"places"`           // FILE:LINE:COL, of the repository's own files and of others
}

// List says how every reference stands, without asking what refs name now. What is
// locked and not kept is fetched, to see what it uses itself.
func (l Locker) List(ctx context.Context, lock Lock) ([]Status, Found, error) {
	found, err := Find(ctx, l.Repo, func(ctx context.Context, r workflow.Reference) (Metadata, error) {
		e, ok := lock.Find(r.Repository, r.Ref)
		if !ok {
			return nil, nil
		}
		return l.metadata(ctx, e)
	})
	if err != nil {
		return nil, found, err
	}
	var out []Status
	for _, uses := range found.Entries() {
		s := Status{Uses: uses, State: StateMissing, Places: found.places(uses)}
		if e, ok := lock.Find(cut(uses)); ok {
			from := e.Usable(l.Quarantine)
			s.State, s.Entry, s.Usable = StateLocked, &e, &from
			if l.Now.Before(from) {
				s.State = StateYoung
			}
		}
		out = append(out, s)
	}
	for _, e := range lock.Actions {
		if !slices.ContainsFunc(out, func(s Status) bool { return Compare(s.Uses, e.Uses) == 0 }) {
			out = append(out, Status{Uses: e.Uses, State: StateUnused, Entry: &e, Places: []string{}})
		}
	}
	return out, found, nil
}

// places are where a reference is used.
func (f Found) places(uses string) []string {
	out := []string{}
	for _, u := range f.Uses {
		if Compare(u.Reference.Entry(), uses) == 0 {
			out = append(out, fmt.Sprintf("%s:%d:%d", u.File, u.Pos.Line, u.Pos.Col))
		}
	}
	return out
}

// Verify is List, and asks the servers whether refs and files are still what was
// locked. That a ref has moved changes nothing for whoever has locked it.
func (l Locker) Verify(ctx context.Context, lock Lock) ([]Status, Found, error) {
	list, found, err := l.List(ctx, lock)
	if err != nil {
		return nil, found, err
	}
	for i := range list {
		s := &list[i]
		if s.Entry == nil || s.State == StateUnused {
			continue
		}
		source, err := l.From.Resolve(ctx, s.Entry.Source().Repository, s.Entry.Ref())
		switch {
		case sallyport.ErrorCode(err) == sallyport.CodeNotFound:
			s.State = StateVanished
			continue
		case err != nil:
			return nil, found, err
		case source.Commit != s.Entry.Commit:
			s.State, s.Now = StateMoved, source.Commit
			continue
		}
		tree, err := l.From.Keep(ctx, source) // without a digest: fetched anew
		if err != nil {
			return nil, found, err
		}
		if tree != s.Entry.Tree {
			s.State = StateAltered
		}
	}
	return list, found, nil
}
