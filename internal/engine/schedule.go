package engine

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// Scheduled workflows are those of the default branch, as on GitHub. Each project
// with one has one piece of work that is due when the soonest of its schedules is;
// doing it starts what is due then and enqueues the next.

// minSchedule is the shortest time between two starts (GitHub: 5 minutes).
const minSchedule = 5 * time.Minute

// scheduled is one cron of one workflow.
type scheduled struct {
	file string
	cron string
	loc  *time.Location
}

// next returns when it is due after t; zero for never.
func (s scheduled) next(t time.Time) time.Time {
	due, err := workflow.NextCron(s.cron, t.In(s.loc))
	if err != nil {
		return time.Time{} // such a workflow does not compile, and its run says so
	}
	return due
}

// schedules reads the crons of the workflows at a commit.
func (e *Engine) schedules(ctx context.Context, p sallyport.ProjectID, commit string) ([]scheduled, error) {
	var out []scheduled
	err := e.eachWorkflow(ctx, p, commit, func(f *workflow.File) {
		for _, t := range f.On {
			for _, s := range t.Schedules {
				loc := time.UTC
				if zone := s.Timezone.Text; zone != "" {
					var err error
					if loc, err = time.LoadLocation(zone); err != nil {
						e.log.WarnContext(ctx, "schedule has an unknown time zone", "workflow", f.Path, "zone", zone)
						continue
					}
				}
				out = append(out, scheduled{f.Path, s.Cron.Text, loc})
			}
		}
	})
	return out, err
}

// eachWorkflow parses the workflows at a commit and hands over those without errors.
func (e *Engine) eachWorkflow(ctx context.Context, p sallyport.ProjectID, commit string, f func(*workflow.File)) error {
	files, err := e.workflowFiles(ctx, sallyport.Push{Project: p, Commit: commit})
	if err != nil {
		return err
	}
	for _, file := range files {
		src, err := e.repos.ReadFile(ctx, p, commit, file, maxWorkflowBytes)
		if err != nil {
			return err
		}
		if parsed, diags := workflow.Parse(file, src); parsed != nil && !(Planned{Diagnostics: diags}).Invalid() {
			f(parsed)
		}
	}
	return nil
}

// soonest returns the next time at which any of them is due after t; zero for never.
func soonest(all []scheduled, t time.Time) time.Time {
	var first time.Time
	for _, s := range all {
		if due := s.next(t); !due.IsZero() && (first.IsZero() || due.Before(first)) {
			first = due
		}
	}
	return first.UTC()
}

// schedule is the stage that starts scheduled workflows. Work that lies further
// back than the installation was away is done once, late; what was missed besides is not
// made up for.
func (e *Engine) schedule(ctx context.Context, w sallyport.Work) error {
	p, commit, err := e.defaultTip(ctx, sallyport.ProjectID(w.Subject))
	if err != nil {
		return err
	}
	var all []scheduled
	if commit != "" {
		if all, err = e.schedules(ctx, p.ID, commit); err != nil {
			return err
		}
	}
	for _, cron := range dueCrons(all, w.RunAt) {
		push := sallyport.Push{
			Project: p.ID, Event: "schedule", Ref: p.DefaultRef(), Commit: commit, Tier: tierOf(p, p.DefaultRef()),
			Payload: mustJSON(map[string]any{"schedule": cron.cron, "repository": e.repositoryPayload(p)}),
			Key:     fmt.Sprintf("schedule/%d/%s", w.RunAt.Unix(), sallyport.DigestOf([]byte(cron.cron+"\n"+cron.loc.String()))),
		}
		if err := e.raise(ctx, push, cron.files); err != nil {
			return err
		}
	}
	next := soonest(all, latest(e.now(), w.RunAt.Add(minSchedule-time.Second)))
	return e.finish(ctx, w, func(c *change) error {
		if next.IsZero() {
			return nil
		}
		return c.enqueueNext(p.ID, next)
	})
}

// enqueueNext plans the next look at a project's schedules. The piece of work in
// hand has the project's key, so that the next one gets the time too.
func (c *change) enqueueNext(p sallyport.ProjectID, at time.Time) error {
	c.Touch(topicWork(sallyport.QueueSchedule))
	return c.Work().Enqueue(sallyport.Work{
		ID: newID[sallyport.WorkID](c), Queue: sallyport.QueueSchedule, Key: fmt.Sprintf("%s/%d", p, at.Unix()), Subject: string(p),
		RunAt: at, MaxAttempts: stageAttempts, CreatedAt: c.now,
	})
}

// dueCron is a cron that is due, with the workflows that have it.
type dueCron struct {
	scheduled
	files []string
}

// dueCrons returns what is due at a time, in the order of the files.
func dueCrons(all []scheduled, at time.Time) []dueCron {
	var out []dueCron
	for _, s := range all {
		// Within the shortest time between two starts the later one gives way.
		if due := s.next(at.Add(-time.Nanosecond)); due.IsZero() || due.After(at) {
			continue
		}
		i := slices.IndexFunc(out, func(d dueCron) bool { return d.cron == s.cron && d.loc.String() == s.loc.String() })
		if i < 0 {
			out = append(out, dueCron{scheduled: s})
			i = len(out) - 1
		}
		if !slices.Contains(out[i].files, s.file) {
			out[i].files = append(out[i].files, s.file)
		}
	}
	return out
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (e *Engine) scheduleFailed(ctx context.Context, w sallyport.Work, cause error) error {
	return e.finish(ctx, w, func(c *change) error {
		if err := c.record("schedule.failed", "project/"+w.Subject, map[string]string{"cause": userText(cause)}); err != nil {
			return err
		}
		// Try the next time: a repository that cannot be read today may be tomorrow.
		return c.enqueueNext(sallyport.ProjectID(w.Subject), c.now.Add(time.Hour))
	})
}

// reschedule reads the schedules of a new head of the default branch.
func (e *Engine) reschedule(ctx context.Context, push sallyport.Push) (at time.Time, concerns bool, err error) {
	p, err := e.project(ctx, push.Project)
	if err != nil || push.Event != "push" || push.Ref != p.DefaultRef() {
		return time.Time{}, false, err
	}
	all, err := e.schedules(ctx, p.ID, push.Commit)
	return soonest(all, e.now()), true, err
}

// defaultTip returns a project and the head of its default branch, "" when it has none.
func (e *Engine) defaultTip(ctx context.Context, id sallyport.ProjectID) (sallyport.Project, string, error) {
	p, err := e.project(ctx, id)
	if err != nil {
		return p, "", err
	}
	refs, err := e.repos.Refs(ctx, id)
	return p, refs[p.DefaultRef()], err
}

// raise plans an event that the house itself raised and starts its runs. It is
// idempotent by the push's key.
func (e *Engine) raise(ctx context.Context, push sallyport.Push, files []string) error {
	var known bool
	if err := e.view(ctx, func(tx sallyport.Tx) error {
		_, err := tx.Pushes().ByKey(push.Project, push.Key)
		known = err == nil
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			return nil
		}
		return err
	}); err != nil || known {
		return err
	}
	push.At = e.now()
	push.ID = sallyport.NewID[sallyport.PushID](push.At)
	push.Actor = sallyport.PrincipalFrom(ctx)
	planned, err := e.Plan(ctx, push, Selection{Workflows: files})
	if err != nil {
		return err
	}
	if _, err = e.startPush(ctx, push, planned); sallyport.ErrorCode(err) == sallyport.CodeConflict {
		return nil // somebody was faster
	}
	return err
}

func (e *Engine) repositoryPayload(p sallyport.Project) map[string]any {
	return repositoryPayload(p, e.fullName(p))
}

func repositoryPayload(p sallyport.Project, full string) map[string]any {
	return map[string]any{
		"name": path.Base(full), "full_name": full, "default_branch": p.DefaultBranch, "owner": map[string]string{"login": ownerOf(full), "name": ownerOf(full)},
	}
}

// shortRef is the name of a branch or tag.
func shortRef(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/")
}
