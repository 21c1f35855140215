package actions

import (
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Judge says which tree a reference stands for, and whether it may be used.
type Judge struct {
	// Lock decides. On a server it is that of the default branch, whatever branch is built:
	// who may push a branch must not thereby say what runs with its name.
	Lock Lock
	// Proposed is the lock of the commit itself. It decides nothing: with it, a refusal can
	// tell what is missing.
	Proposed Lock
	// Branch is the default branch, "" where Lock is that of the commit itself.
	Branch     string
	Quarantine time.Duration
	Now        time.Time
}

// Find returns the entry of a repository (owner/name) at a ref. Refusals have
// CodeDenied and name the command that mends them.
func (j Judge) Find(repository, ref string) (Entry, error) {
	uses := repository + "@" + ref
	e, ok := j.Lock.Find(repository, ref)
	proposed, also := j.Proposed.Find(repository, ref)
	also = also && j.Branch != ""
	switch {
	case !ok && also:
		return Entry{}, sallyport.Errorf(sallyport.CodeDenied, "%s is locked by this commit but not by %s, whose lock decides", uses, j.Branch).
			WithHint("bring %s into %s first", LockPath, j.Branch)
	case !ok && j.Branch != "":
		return Entry{}, sallyport.Errorf(sallyport.CodeDenied, "%s is not locked by %s", uses, j.Branch).
			WithHint("review and lock it with: sallyport actions lock; then bring %s into %s", LockPath, j.Branch)
	case !ok:
		return Entry{}, sallyport.Errorf(sallyport.CodeDenied, "%s is not locked", uses).
			WithHint("review and lock it with: sallyport actions lock")
	case also && proposed.Tree != e.Tree:
		return Entry{}, sallyport.Errorf(sallyport.CodeDenied, "%s is locked to %s by this commit and to %s by %s, whose lock decides", uses, proposed.Commit[:12], e.Commit[:12], j.Branch).
			WithHint("bring %s into %s first", LockPath, j.Branch)
	}
	if from := e.Usable(j.Quarantine); j.Now.Before(from) {
		return Entry{}, sallyport.Errorf(sallyport.CodeDenied, "%s was first seen %s ago; what is new rests for %s, until %s", uses,
			inWords(j.Now.Sub(e.FirstSeen)), inWords(j.Quarantine), from.UTC().Format("2006-01-02 15:04 MST")).
			WithHint("review it and take it now with: sallyport actions lock --accept-young REASON %s", uses)
	}
	return e, nil
}

// inWords shows a duration in its two largest units.
func inWords(d time.Duration) string {
	if d < time.Minute {
		return "less than a minute"
	}
	var parts []string
	for _, u := range []struct {
		name string
		of   time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		n := d / u.of
		if d -= n * u.of; n > 0 && len(parts) < 2 {
			plural := "s"
			if n == 1 {
				plural = ""
			}
			parts = append(parts, fmt.Sprintf("%d %s%s", n, u.name, plural))
		}
	}
	return strings.Join(parts, " ")
}
