package actions

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// LockPath is where a repository keeps its lock.
const LockPath = ".sallyport/actions.lock"

const (
	// MaxLockBytes bounds the file: an entry has about 300 bytes.
	MaxLockBytes = 1 << 20
	// maxEntries bounds the references of a repository. Well-known ones have fewer than 60.
	maxEntries = 2000
	// maxReason bounds why somebody took an action before its time.
	maxReason = 500
	// lockVersion is what this program writes and reads.
	lockVersion = 1
)

// DefaultQuarantine is how long content that was not seen before rests before it
// may be used. What was published by a thief is found and withdrawn within
// days, mostly within hours.
const DefaultQuarantine = 72 * time.Hour

// Lock is what a repository may use of others: each reference with the one tree
// that it stands for. It is a JSON file with exactly one way to write it, so that two
// programs cannot read different things in it: Parse takes what Encode writes and nothing else.
type Lock struct {
	Actions []Entry `json:"actions"` // by Uses, without regard to case
}

// Entry is one reference, with all actions and workflows beneath it.
type Entry struct {
	// Uses is OWNER/REPOSITORY@REF. The repository is compared without regard to case.
	Uses   string           `json:"uses"`
	From   string           `json:"from"`   // the address it was fetched from, for people and provenance
	Commit string           `json:"commit"` // that the ref named
	Tree   sallyport.Digest `json:"tree"`   // of the commit's files as a job gets them
	// FirstSeen is when the tree was locked. It stays when the reference is
	// locked again to the same tree.
	FirstSeen time.Time `json:"first_seen"`
	// Accepted says why the tree may be used before its quarantine is over.
	Accepted *Acceptance `json:"accepted,omitempty"`
}

// Acceptance lifts the quarantine of one tree.
type Acceptance struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

type lockFile struct {
	Version int     `json:"version"`
	Actions []Entry `json:"actions"`
}

// Parse reads a lock. Errors have CodeInvalid and say where.
func Parse(b []byte) (Lock, error) {
	if len(b) > MaxLockBytes {
		return Lock{}, broken(1, "the file has more than %d bytes", MaxLockBytes)
	}
	var f lockFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return Lock{}, broken(lineAt(b, d.InputOffset()), "not a lock: %s", jsonError(err))
	}
	if f.Version != lockVersion {
		return Lock{}, broken(1, "version %d is not known to this program, which knows %d", f.Version, lockVersion)
	}
	l := Lock{Actions: f.Actions}
	if len(l.Actions) > maxEntries {
		return Lock{}, broken(1, "more than %d entries", maxEntries)
	}
	for i, e := range l.Actions {
		if err := e.check(); err != nil {
			return Lock{}, broken(lineOf(b, e.Uses), "%v", err)
		}
		if i > 0 && Compare(l.Actions[i-1].Uses, e.Uses) >= 0 {
			return Lock{}, broken(lineOf(b, e.Uses), "%q is there twice, or not in its place", e.Uses)
		}
	}
	// What decodes to the same may still be written in other ways: keys twice, in
	// another case or order.
	if want := l.Encode(); !bytes.Equal(b, want) {
		return Lock{}, broken(firstDifference(b, want), "not written as sallyport writes it")
	}
	return l, nil
}

func broken(line int, format string, args ...any) error {
	return sallyport.Errorf(sallyport.CodeInvalid, "%s:%d: %s", LockPath, line, fmt.Sprintf(format, args...)).
		WithHint("restore it from the repository's history, then run: sallyport actions lock")
}

// jsonError is what encoding/json says, without Go's names of types.
func jsonError(err error) string {
	if t, ok := err.(*json.UnmarshalTypeError); ok {
		return fmt.Sprintf("%s must not be a %s", t.Field, t.Value)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

func lineAt(b []byte, offset int64) int {
	return 1 + bytes.Count(b[:min(int(offset), len(b))], []byte("\n"))
}

func lineOf(b []byte, uses string) int {
	return lineAt(b, int64(max(0, bytes.Index(b, []byte(uses)))))
}

func firstDifference(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return lineAt(a, int64(n))
}

// Encode returns the file of a lock, whose entries must be sorted and valid.
func (l Lock) Encode() []byte {
	if l.Actions == nil {
		l.Actions = []Entry{}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(lockFile{lockVersion, l.Actions}) // strings and times of valid years always encode
	return b.Bytes()
}

// check refuses an entry that Encode could not write or nobody should follow.
func (e Entry) check() error {
	if r, err := workflow.ParseReference(e.Uses); err != nil {
		return err
	} else if r.Path != "" {
		return fmt.Errorf("%q names a directory: entries are OWNER/REPOSITORY@REF", e.Uses)
	}
	switch {
	case !plainText(e.From, 500):
		return fmt.Errorf("%s: \"from\" must be an address in one line", e.Uses)
	case !isCommit(e.Commit):
		return fmt.Errorf("%s: \"commit\" must be 40 lower-case hex digits", e.Uses)
	case !isTime(e.FirstSeen):
		return fmt.Errorf("%s: \"first_seen\" must be a time in UTC, in whole seconds", e.Uses)
	case e.Accepted != nil && !isTime(e.Accepted.At):
		return fmt.Errorf("%s: \"at\" must be a time in UTC, in whole seconds", e.Uses)
	case e.Accepted != nil && (!plainText(e.Accepted.Reason, maxReason) || strings.TrimSpace(e.Accepted.Reason) == ""):
		return fmt.Errorf("%s: \"reason\" must be a line of at most %d bytes", e.Uses, maxReason)
	}
	if _, err := sallyport.ParseDigest(string(e.Tree)); err != nil {
		return fmt.Errorf("%s: \"tree\" must be sha256: and 64 lower-case hex digits", e.Uses)
	}
	if isCommit(strings.ToLower(e.Ref())) && e.Ref() != e.Commit {
		return fmt.Errorf("%s: the reference names another commit than %s", e.Uses, e.Commit)
	}
	return nil
}

// Ref is what stands after the @.
func (e Entry) Ref() string {
	_, ref, _ := strings.Cut(e.Uses, "@")
	return ref
}

// Source is the entry as a plan carries it.
func (e Entry) Source() sallyport.PlanSource {
	repository, ref, _ := strings.Cut(e.Uses, "@")
	return sallyport.PlanSource{Repository: repository, URL: e.From, Ref: ref, Commit: e.Commit, Digest: e.Tree}
}

// Usable returns from when on the entry may be used.
func (e Entry) Usable(quarantine time.Duration) time.Time {
	if e.Accepted != nil {
		return e.Accepted.At
	}
	return e.FirstSeen.Add(quarantine)
}

// Find returns the entry of a repository (owner/name) at a ref.
func (l Lock) Find(repository, ref string) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(l.Actions, repository+"@"+ref, func(e Entry, uses string) int { return Compare(e.Uses, uses) })
	if !ok {
		return Entry{}, false
	}
	return l.Actions[i], true
}

// put adds an entry, in place of the one of the same reference.
func (l *Lock) put(e Entry) {
	i, ok := slices.BinarySearchFunc(l.Actions, e, func(a, b Entry) int { return Compare(a.Uses, b.Uses) })
	if ok {
		l.Actions[i] = e
		return
	}
	l.Actions = slices.Insert(l.Actions, i, e)
}

// Compare orders references: repositories without regard to case, as their
// servers compare them; refs as they are.
func Compare(a, b string) int {
	ra, fa, _ := strings.Cut(a, "@")
	rb, fb, _ := strings.Cut(b, "@")
	return cmp.Or(strings.Compare(strings.ToLower(ra), strings.ToLower(rb)), strings.Compare(fa, fb))
}

func isCommit(s string) bool {
	return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == ""
}

func isTime(t time.Time) bool {
	return t.Location() == time.UTC && t.Nanosecond() == 0 && t.Year() >= 2000 && t.Year() < 10000
}

// plainText accepts one line that can be shown.
func plainText(s string, limit int) bool {
	return s != "" && len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) && !strings.ContainsRune(s, '\uFFFD')
}
