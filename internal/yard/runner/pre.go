package runner

import (
	"context"
	"strconv"

	sallyport "github.com/sallyport-ci/sallyport"
)

// hasPre reports whether an action, or one that it uses, has a part before the
// steps. Those of this repository have none: their files are there only later.
func (j *job) hasPre(uses string, depth int) bool {
	a, ok := j.lease.Plan.Actions[uses]
	if !ok || a.Source == nil || depth > maxDepth {
		return false
	}
	for i := range a.Steps {
		if j.hasPre(a.Steps[i].Uses, depth+1) {
			return true
		}
	}
	return a.Kind == sallyport.ActionNode && a.Pre != ""
}

// listPres gives the job's steps their keys, and lists what their actions do
// before the first of them.
func (j *job) listPres() {
	for i, e := range j.list {
		e.key = strconv.Itoa(i)
		if !j.hasPre(e.plan.Uses, 1) {
			continue
		}
		plan := *e.plan
		plan.Name.Text = "Pre " + stepName(e.plan, e.plan.Name.Text)
		p := &entry{plan: &plan, key: e.key}
		j.enlist(p)
		j.update(func() { p.top.report.ID = "" }) // it is that of the step itself
		j.pres = append(j.pres, p)
	}
}

// runPres runs the parts before the steps, in the order of the steps. The error
// is not nil when the job cannot go on at all.
func (j *job) runPres(ctx context.Context) error {
	for _, e := range j.pres {
		s := j.preStep(j.main.root, e.plan, e.top, e.key)
		if _, err := j.runTop(ctx, s); err != nil || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// preStep is the part of a step before the job's steps, as a step of the frame.
func (j *job) preStep(f *frame, of *sallyport.PlanStep, top *topStep, key string) *step {
	a := j.lease.Plan.Actions[of.Uses]
	cond := "always()"
	if a.PreIf != "" {
		cond = a.PreIf
	}
	return &step{job: j, frame: f, top: top, number: top.report.Number, key: key, when: "Pre ",
		plan: &sallyport.PlanStep{
			Pos: of.Pos, ID: of.ID, Uses: of.Uses, With: of.With, Env: of.Env, If: sallyport.Template{Text: cond, Pos: of.Pos},
			ContinueOnError: of.ContinueOnError, TimeoutMinutes: of.TimeoutMinutes,
		},
		part: func(ctx context.Context, s *step) error {
			if a.Kind == sallyport.ActionNode {
				return s.runPart(ctx, &a, a.Pre)
			}
			return s.preComposite(ctx, &a)
		},
	}
}

// preComposite runs the parts before the steps of what a composite action uses.
func (s *step) preComposite(ctx context.Context, a *sallyport.PlanAction) error {
	f, err := s.compositeFrame(a, false)
	if err != nil {
		return err
	}
	for i := range a.Steps {
		if !s.job.hasPre(a.Steps[i].Uses, f.depth) {
			continue
		}
		if err := s.runInner(ctx, s.job.preStep(f, &a.Steps[i], s.top, innerKey(s.key, i))); err != nil {
			return err
		}
	}
	return s.commands.err
}
