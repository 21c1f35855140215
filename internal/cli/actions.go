package cli

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode"

	"github.com/sallyport-ci/sallyport/internal/actions"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

// actionFlags say where actions of other repositories come from.
type actionFlags struct {
	ActionsURL        []string      `name:"actions-url" help:"Where actions of other repositories are fetched from, in order (repeatable); {owner} and {repo} stand for the parts of their names. Default: https://github.com/{owner}/{repo}." env:"SALLYPORT_ACTIONS_URL" placeholder:"URL"`
	ActionsQuarantine time.Duration `name:"actions-quarantine" help:"How long content of other repositories rests after it was first locked; 0: not at all." default:"72h" env:"SALLYPORT_ACTIONS_QUARANTINE" placeholder:"TIME"`
}

func (f actionFlags) config() daemon.ActionsConfig {
	return daemon.ActionsConfig{Servers: f.ActionsURL, Quarantine: f.ActionsQuarantine}
}

type actionsCmd struct {
	List   actionsListCmd   `cmd:"" help:"List what is used of other repositories, where, and what it is locked to."`
	Lock   actionsLockCmd   `cmd:"" help:"Lock what is used and not locked yet, and drop what is not used any more."`
	Update actionsUpdateCmd `cmd:"" help:"Lock what tags and branches name now."`
	Verify actionsVerifyCmd `cmd:"" help:"Check that all is locked, and that it still is on its servers what was locked."`
	Review actionsReviewCmd `cmd:"" help:"Show what tags and branches name now, and what differs from what is locked."`
}

// inWorkTree are the flags of verbs that work on a directory, without an installation.
type inWorkTree struct {
	output
	actionFlags
	Dir string `short:"C" name:"dir" help:"Repository." default:"." placeholder:"DIR"`
}

// open opens the repository and reads its lock.
func (c inWorkTree) open(e *env) (*daemon.WorkTree, actions.Lock, error) {
	w, err := daemon.OpenWorkTree(e.ctx, c.Dir, c.config(), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, actions.Lock{}, err
	}
	lock, err := w.Lock()
	if err != nil {
		w.Close()
		return nil, lock, err
	}
	return w, lock, nil
}

// warn says which files could not be looked into.
func warnBroken(e *env, found actions.Found) {
	for _, d := range found.Broken {
		fmt.Fprintf(e.stderr, "%s\n", plain(d.String()))
	}
}

type actionsListCmd struct{ inWorkTree }

func (c actionsListCmd) Run(e *env) error {
	w, lock, err := c.open(e)
	if err != nil {
		return err
	}
	defer w.Close()
	list, found, err := w.Locker.List(e.ctx, lock)
	if err != nil {
		return err
	}
	warnBroken(e, found)
	return c.print(e, orEmpty(list), func(out io.Writer) { printStatus(out, list) })
}

func printStatus(out io.Writer, list []actions.Status) {
	if len(list) == 0 {
		fmt.Fprintln(out, "nothing of other repositories is used")
		return
	}
	table(out, "USES\tSTATE\tCOMMIT\tFIRST SEEN\tWHERE", func(line func(...any)) {
		for _, s := range list {
			at, seen, where := "-", "-", "-"
			if s.Entry != nil {
				at, seen = commit(s.Entry.Commit), ago(s.Entry.FirstSeen)
			}
			if s.Now != "" {
				at += " → " + commit(s.Now)
			}
			if len(s.Places) > 0 {
				where = s.Places[0]
			}
			if n := len(s.Places) - 1; n > 0 {
				where += fmt.Sprintf(" and %d more", n)
			}
			line(s.Uses, s.State, at, seen, where)
		}
	})
}

type actionsLockCmd struct {
	inWorkTree
	AcceptYoung string   `name:"accept-young" help:"Use what is new before its quarantine is over; the reason is kept in the lock." placeholder:"REASON"`
	Uses        []string `arg:"" optional:"" help:"OWNER/REPOSITORY@REF to accept; default: all."`
}

func (c actionsLockCmd) Run(e *env) error {
	return c.relock(e, actions.Options{Only: c.Uses, Accept: c.AcceptYoung})
}

type actionsUpdateCmd struct {
	inWorkTree
	AcceptYoung string   `name:"accept-young" help:"Use what is new before its quarantine is over; the reason is kept in the lock." placeholder:"REASON"`
	Uses        []string `arg:"" optional:"" help:"OWNER/REPOSITORY@REF to update; default: all."`
}

func (c actionsUpdateCmd) Run(e *env) error {
	return c.relock(e, actions.Options{Only: c.Uses, Update: true, Accept: c.AcceptYoung})
}

// relock writes the lock anew and shows what is new in it.
func (c inWorkTree) relock(e *env, o actions.Options) error {
	w, old, err := c.open(e)
	if err != nil {
		return err
	}
	defer w.Close()
	lock, changes, found, err := w.Locker.Lock(e.ctx, old, o)
	if err != nil {
		return err
	}
	warnBroken(e, found)
	written, err := w.SetLock(lock)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(changes), func(out io.Writer) {
		kept := 0
		for _, ch := range changes {
			if ch.Kind == actions.Kept {
				kept++
				continue
			}
			printChange(out, ch)
		}
		if kept > 0 {
			fmt.Fprintf(out, "%d locked before\n", kept)
		}
		if written {
			fmt.Fprintf(out, "wrote %s; look through it and commit it\n", actions.LockPath)
		} else {
			fmt.Fprintf(out, "%s is as it was\n", actions.LockPath)
		}
		for _, entry := range lock.Actions {
			if from := entry.Usable(c.ActionsQuarantine); w.Locker.Now.Before(from) {
				fmt.Fprintf(e.stderr, "%s rests until %s; to use it now: sallyport actions lock --accept-young REASON %s\n",
					plain(entry.Uses), from.UTC().Format("2006-01-02 15:04 MST"), plain(entry.Uses))
			}
		}
	})
}

func printChange(out io.Writer, c actions.Change) {
	switch c.Kind {
	case actions.Removed:
		fmt.Fprintf(out, "%s  removed: nothing uses it\n", plain(c.Uses))
	case actions.Moved:
		fmt.Fprintf(out, "%s  moved: %s → %s\n", plain(c.Uses), commit(c.Before.Commit), commit(c.After.Commit))
	case actions.Accepted:
		fmt.Fprintf(out, "%s  accepted: %s\n", plain(c.Uses), plain(c.After.Accepted.Reason))
	default:
		fmt.Fprintf(out, "%s  %s: %s from %s\n", plain(c.Uses), c.Kind, commit(c.After.Commit), plain(c.After.From))
	}
}

type actionsVerifyCmd struct{ inWorkTree }

// Run exits with 1 when a run would be refused, or a server has something else than what was locked.
func (c actionsVerifyCmd) Run(e *env) error {
	w, lock, err := c.open(e)
	if err != nil {
		return err
	}
	defer w.Close()
	list, found, err := w.Locker.Verify(e.ctx, lock)
	if err != nil {
		return err
	}
	warnBroken(e, found)
	if err := c.print(e, orEmpty(list), func(out io.Writer) { printStatus(out, list) }); err != nil {
		return err
	}
	mend := map[string]string{
		actions.StateMissing:  "is not locked: sallyport actions lock",
		actions.StateYoung:    "is in quarantine: wait, or sallyport actions lock --accept-young REASON",
		actions.StateMoved:    "names another commit now; what is locked goes on to be used. Look at it: sallyport actions review",
		actions.StateAltered:  "has other files at the commit that was locked: do not trust its server",
		actions.StateVanished: "is on no server any more",
	}
	bad := len(found.Broken) > 0
	for _, s := range list {
		if why := mend[s.State]; why != "" {
			bad = true
			fmt.Fprintf(e.stderr, "%s %s\n", plain(s.Uses), why)
		}
	}
	if bad {
		return exitError(exitFailed)
	}
	return nil
}

type actionsReviewCmd struct {
	inWorkTree
	Uses []string `arg:"" optional:"" help:"OWNER/REPOSITORY@REF to look at; default: all."`
}

// maxReviewed bounds the files that are listed of one review.
const maxReviewed = 200

func (c actionsReviewCmd) Run(e *env) error {
	w, lock, err := c.open(e)
	if err != nil {
		return err
	}
	defer w.Close()
	list, found, err := w.Locker.Review(e.ctx, lock, c.Uses)
	if err != nil {
		return err
	}
	warnBroken(e, found)
	return c.print(e, orEmpty(list), func(out io.Writer) {
		for _, r := range list {
			printReview(out, r)
		}
	})
}

func printReview(out io.Writer, r actions.Review) {
	switch {
	case r.Before == nil:
		fmt.Fprintf(out, "%s  not locked: %s from %s\n", plain(r.Uses), commit(r.After.Commit), plain(r.After.From))
	case r.Before.Tree == r.After.Tree:
		fmt.Fprintf(out, "%s  as locked: %s\n", plain(r.Uses), commit(r.After.Commit))
	default:
		fmt.Fprintf(out, "%s  moved: %s → %s\n", plain(r.Uses), commit(r.Before.Commit), commit(r.After.Commit))
	}
	for _, line := range r.Runs {
		fmt.Fprintf(out, "  %s\n", plain(line))
	}
	fmt.Fprintf(out, "  %d files, %d bytes\n", r.Count, r.Size)
	for i, f := range r.Files {
		if i == maxReviewed {
			fmt.Fprintf(out, "  … and %d more\n", len(r.Files)-i)
			break
		}
		fmt.Fprintf(out, "  %-8s %s  %d → %d bytes\n", f.Change, plain(f.Path), f.Before, f.After)
	}
	lines := 0
	for _, f := range r.Files {
		for line := range strings.SplitSeq(strings.TrimSuffix(f.Diff, "\n"), "\n") {
			if f.Diff == "" {
				break
			}
			if lines++; lines > maxDiffLines {
				fmt.Fprintf(out, "  … more lines differ: --json has them\n")
				return
			}
			if runes := []rune(line); len(runes) > maxDiffLine {
				line = string(runes[:maxDiffLine]) + " …"
			}
			fmt.Fprintf(out, "  %s\n", visible(line))
		}
	}
}

// Bounds of the lines that a review prints.
const (
	maxDiffLines = 2000
	maxDiffLine  = 500
)

// visible shows characters that a terminal would obey or hide, as those that turn the
// direction of text: a reviewer must see them.
func visible(line string) string {
	var b strings.Builder
	for _, r := range line {
		if r == '\t' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u{%x}", r)
		}
	}
	return b.String()
}
