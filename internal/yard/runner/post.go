package runner

import (
	"context"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// post is what an action does when the steps of its job have ended.
type post struct {
	of   *step  // whose action it belongs to
	cond string // when it runs; "" is always()
	run  func(ctx context.Context, s *step) error
}

// after has the post run when the job's own steps have ended, the last one that
// was asked for first. It is called while the step runs: a step that was skipped
// leaves nothing to do.
func (j *job) after(p post) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.posts = append(j.posts, p)
}

// runPosts runs what the actions left to do, each as a step of its own. The
// error is not nil when the job cannot go on at all.
func (j *job) runPosts(ctx context.Context) error {
	for {
		j.mu.Lock()
		if len(j.posts) == 0 {
			j.mu.Unlock()
			return nil
		}
		p := j.posts[len(j.posts)-1]
		j.posts = slices.Delete(j.posts, len(j.posts)-1, len(j.posts))
		j.mu.Unlock()
		if err := j.runPost(ctx, p); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

func (j *job) runPost(ctx context.Context, p post) error {
	e := &entry{plan: &sallyport.PlanStep{Name: sallyport.Template{Text: "Post " + strings.TrimPrefix(p.of.top.report.Name, "Pre ")}}}
	j.enlist(e)
	if p.cond == "" {
		p.cond = "always()"
	}
	// The condition asks about the job as a whole, also for an action within a
	// composite one, and its failure is the job's.
	f := *p.of.frame
	f.lane, f.composite, f.immune, f.failed = &j.main, false, false, j.main.root.failed
	s := &step{job: j, frame: &f, top: e.top, number: e.number, key: p.of.key, part: p.run, when: "Post ", plan: &sallyport.PlanStep{
		Pos: p.of.plan.Pos, ID: p.of.plan.ID, Uses: p.of.plan.Uses, With: p.of.plan.With, Env: p.of.plan.Env,
		If:              sallyport.Template{Text: p.cond, Pos: p.of.plan.Pos},
		ContinueOnError: p.of.plan.ContinueOnError, TimeoutMinutes: p.of.plan.TimeoutMinutes,
	}}
	_, err := j.runTop(ctx, s)
	j.main.root.failed = j.main.root.failed || f.failed
	return err
}
