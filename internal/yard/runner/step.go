package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// maxName bounds the name of a step.
const maxName = 200

// frame is where steps run: the job itself, or one call of a composite action.
type frame struct {
	lane    *lane
	scope   *workflow.Scope
	results []workflow.Entry // of the steps context
	failed  bool             // a step of this frame failed
	names   map[string]int   // of steps without an id, how often each was given

	// Of a composite action only.
	composite bool
	outer     variables // env of the step that called it
	immune    bool      // that step survives a cancellation
	depth     int
}

// step is one step while it runs; inner steps of a composite action share the top step.
type step struct {
	job     *job
	frame   *frame
	plan    *sallyport.PlanStep
	top     *topStep
	number  int
	env     variables // all of it, without what the runner sets
	out     *output
	outputs variables
	size    int  // of the outputs
	tainted bool // what it makes may be derived from untrusted values

	commands commandState
	running  *running // problem matchers

	cleanup bool // it was found to run after a cancel step had ended its lane

	key    string      // its place in the job, through all actions: "2/0" is the first of the third's
	action *javascript // of a JavaScript action: what this use of it keeps
	// part is what an action does before or after the job's own steps, as a step of its own.
	part    func(ctx context.Context, s *step) error
	when    string                                   // before it "Pre ", after them "Post "
	control func(ctx context.Context, s *step) error // of a wait or cancel step: what it does
}

// failure is how a step failed, in words for the log.
type failure struct {
	message, hint string
	exit          int
}

func (f *failure) Error() string { return f.message }

// errTimeout is the cause of the end of a step that ran too long.
type errTimeout struct{ after time.Duration }

func (e errTimeout) Error() string { return fmt.Sprintf("it ran longer than %s", e.after) }

// status is what the status functions answer in the frame.
func (j *job) status(f *frame) workflow.Status {
	j.mu.Lock()
	cancelled, stopped := j.cancelled != "", f.lane.stopped
	j.mu.Unlock()
	goesOn := (!cancelled || f.immune) && !stopped
	return workflow.Status{Success: goesOn && !f.failed, Failure: goesOn && f.failed, Cancelled: cancelled || stopped}
}

// stopped reports whether a cancel step has ended the lane.
func (j *job) stopped(l *lane) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return l.stopped
}

// stepEnd is how a step ended.
type stepEnd struct {
	outcome, conclusion sallyport.Conclusion
	cause               string
}

// runSteps runs the job's own steps in order. The error is not nil when the
// job cannot go on at all. No step runs any more when it returns.
func (j *job) runSteps(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer j.crew.wg.Wait()
	defer stop(errCancelled)
	for _, e := range j.list {
		if err := j.runEntry(ctx, e); err != nil || ctx.Err() != nil {
			return err
		}
	}
	return j.waitForRest(ctx)
}

// runEntry runs a step of the job, or starts it when it is to run beside others.
func (j *job) runEntry(ctx context.Context, e *entry) error {
	s := &step{job: j, frame: j.main.root, plan: e.plan, top: e.top, number: e.number, key: e.key}
	switch {
	case e.plan.Background:
		return j.start(ctx, e)
	case e.joins != nil:
		s.control = func(ctx context.Context, s *step) error { return s.join(ctx, j.crew.among(e.joins), false) }
	case len(e.plan.Wait) > 0:
		s.control = waitFor
	case e.plan.WaitAll:
		s.control = func(ctx context.Context, s *step) error { return s.join(ctx, j.crew.open(), true) }
	case e.plan.Cancel != "":
		s.control = stopOne
	}
	end, err := j.runTop(ctx, s)
	if err == nil && ctx.Err() == nil {
		s.frame.record(s, end)
	}
	return err
}

// runTop runs a step that is reported by itself.
func (j *job) runTop(ctx context.Context, s *step) (stepEnd, error) {
	j.trace.Begin(s.number)
	end, err := j.runStep(ctx, s)
	j.trace.End(s.number)
	j.completed(s.top, end)
	return end, err
}

// completed reports how a step ended.
func (j *job) completed(top *topStep, end stepEnd) {
	j.update(func() {
		r := &top.report
		r.Status, r.Outcome, r.Conclusion, r.Cause = sallyport.StatusCompleted, end.outcome, end.conclusion, end.cause
		if !r.StartedAt.IsZero() {
			r.FinishedAt = j.runner.cfg.Clock()
		}
	})
}

// runStep decides whether a step runs, and runs it. The error is not nil when the
// job cannot go on at all.
func (j *job) runStep(ctx context.Context, s *step) (stepEnd, error) {
	s.out = newOutput(s)
	defer s.out.close()
	run, survives, err := s.prepare()
	return s.finish(ctx, run, survives, err)
}

// finish runs a step that was prepared, and says how it ended.
func (s *step) finish(ctx context.Context, run, survives bool, err error) (stepEnd, error) {
	j := s.job
	switch {
	case err != nil:
		s.begin()
		err = s.fail(err)
	case !run:
		s.rename(sallyport.StatusQueued, time.Time{})
		return stepEnd{outcome: sallyport.Skipped, conclusion: sallyport.Skipped}, nil
	default:
		s.begin()
		err = s.execute(ctx, survives)
	}

	end := stepEnd{outcome: sallyport.Success}
	var failed *failure
	switch {
	case err == nil:
	case errors.Is(err, errCancelled):
		end.outcome = sallyport.Cancelled
		s.out.print(sallyport.LogSystem, "The step was cancelled.")
	case ctx.Err() != nil && !errors.As(context.Cause(ctx), &errTimeout{}):
		// The job's life is over.
		return stepEnd{sallyport.Cancelled, sallyport.Cancelled, context.Cause(ctx).Error()}, nil
	case errors.As(err, &failed):
		end.outcome, end.cause = sallyport.Failure, j.plainText(failed.message, 500)
		s.out.close()
		s.out.print(sallyport.LogError, failed.message)
		if failed.hint != "" {
			s.out.print(sallyport.LogSystem, failed.hint)
		}
		if failed.exit != 0 && !s.frame.composite {
			j.update(func() { s.top.report.ExitCode = failed.exit })
		}
	default:
		return stepEnd{sallyport.Failure, sallyport.Failure, "the runner could not go on"}, err
	}
	end.conclusion = end.outcome
	if end.outcome == sallyport.Failure {
		tolerate, err := s.frame.scope.Bool(s.plan.ContinueOnError, false)
		if err != nil {
			s.out.print(sallyport.LogError, "continue-on-error: "+err.Error())
		}
		if tolerate {
			end.conclusion = sallyport.Success
		} else {
			s.frame.failed = true
		}
	}
	return end, nil
}

// prepare sets the step's part of the scope and evaluates its condition, as it
// is now and as it would be after a cancellation.
func (s *step) prepare() (run, survives bool, err error) {
	j, f := s.job, s.frame
	s.env = f.lane.env.clone()
	for _, name := range f.outer.names {
		s.env.set(f.outer.values[name])
	}
	s.cleanup = j.stopped(f.lane)
	status := j.status(f)
	f.scope.SetStatus(status)
	f.scope.Set("job", withEntries(f.scope.Get("job"), workflow.Entry{Key: "status", Value: workflow.String(statusName(j.status(f.lane.root)))}))
	entries := []workflow.Entry{{Key: "action", Value: workflow.String(j.actionName(s))}}
	if f.composite {
		entries = append(entries, workflow.Entry{Key: "action_status", Value: workflow.String(statusName(status))})
	}
	f.scope.Set("github", withEntries(f.scope.Get("github"), entries...))
	f.scope.Set("env", s.env.context())
	vars, err := f.scope.Vars(s.plan.Env)
	if err != nil {
		return false, false, err
	}
	s.env.setAll(vars)
	s.tainted = s.env.tainted()
	f.scope.Set("env", s.env.context())
	if s.control != nil {
		return true, true, nil // they always run
	}
	if run, err = f.scope.Condition(s.plan.If); err != nil || !run {
		return run, false, err
	}
	if f.immune {
		return true, true, nil
	}
	f.scope.SetStatus(workflow.Status{Cancelled: true})
	survives, err = f.scope.Condition(s.plan.If)
	f.scope.SetStatus(status)
	return true, survives, err
}

// actionName is the name of a step's action, the same in all its parts.
func (j *job) actionName(s *step) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	name, known := j.called[s.key]
	if !known {
		name = s.frame.name(s.plan)
		j.called[s.key] = name
	}
	return name
}

// name is what github.action and GITHUB_ACTION call a step: its id, else what
// it uses, with a number from the second time on.
func (f *frame) name(p *sallyport.PlanStep) string {
	if p.ID != "" {
		return p.ID
	}
	name := "__run"
	switch uses, _, _ := strings.Cut(p.Uses, "@"); {
	case strings.HasPrefix(uses, "./"), strings.HasPrefix(uses, "$/"):
		name = "__self"
	case uses != "":
		name = "__" + strings.ReplaceAll(uses, "/", "_")
	}
	if f.names[name]++; f.names[name] > 1 {
		name = fmt.Sprintf("%s_%d", name, f.names[name])
	}
	return name
}

func statusName(s workflow.Status) string {
	switch {
	case s.Success:
		return "success"
	case s.Cancelled:
		return "cancelled"
	}
	return "failure"
}

// begin reports that the step has started, with its name.
func (s *step) begin() { s.rename(sallyport.StatusInProgress, s.job.runner.cfg.Clock()) }

// rename reports what has become of the step so far, and its name with the values that are known by now.
func (s *step) rename(status sallyport.Status, started time.Time) {
	if s.frame.composite {
		return
	}
	name := ""
	if s.part == nil { // else it has its name from the step that it belongs to
		name = s.job.plainText(s.name(), maxName)
	}
	s.job.update(func() {
		r := &s.top.report
		r.Status, r.StartedAt = status, started
		if name != "" {
			r.Name = name
		}
	})
}

// name is stepName with the expressions in it evaluated, where that is possible.
func (s *step) name() string {
	named := *s.plan
	for _, t := range []*sallyport.Template{&named.Name, &named.Run} {
		if t == &named.Run {
			t.Text = headline(t.Text)
		}
		if text, _, err := s.frame.scope.Text(*t); err == nil {
			t.Text = text
		}
	}
	return stepName(&named, named.Name.Text)
}

func headline(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return first
}

// stepName is what GitHub shows for a step: its name, else what it does.
func stepName(p *sallyport.PlanStep, name string) string {
	if name != "" {
		return name
	}
	switch {
	case p.Uses != "":
		return "Run " + p.Uses
	case len(p.Wait) > 0:
		return "Wait for " + strings.Join(p.Wait, ", ")
	case p.WaitAll:
		return "Wait for all background steps"
	case p.Cancel != "":
		return "Cancel " + p.Cancel
	}
	return "Run " + headline(p.Run.Text)
}

// execute runs the step within its time. The error is a *failure, errCancelled,
// or one with which the job cannot go on.
func (s *step) execute(ctx context.Context, survives bool) error {
	minutes, err := s.frame.scope.Number(s.plan.TimeoutMinutes, 0)
	if err != nil {
		return s.fail(err)
	}
	if minutes > 0 && minutes < 1e6 {
		after := time.Duration(minutes * float64(time.Minute))
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, after, errTimeout{after})
		defer cancel()
	}
	if s.control != nil {
		return s.result(ctx, s.control(ctx, s))
	}
	if s.part != nil {
		ctx, end := s.job.begin(ctx, s, survives)
		defer end()
		return s.result(ctx, s.part(ctx, s))
	}
	if s.plan.Uses == "" {
		ctx, end := s.job.begin(ctx, s, survives)
		defer end()
		return s.result(ctx, s.runScript(ctx))
	}
	action, err := s.used()
	if err != nil {
		return s.fail(err)
	}
	switch action.Kind {
	case sallyport.ActionComposite:
		return s.result(ctx, s.runComposite(ctx, action, survives))
	case sallyport.ActionIntrinsic:
		ctx, end := s.job.begin(ctx, s, survives)
		defer end()
		return s.result(ctx, s.runIntrinsic(ctx, action))
	case sallyport.ActionNode:
		ctx, end := s.job.begin(ctx, s, survives)
		defer end()
		return s.result(ctx, s.runJavaScript(ctx, action))
	case sallyport.ActionContainer:
		ctx, end := s.job.begin(ctx, s, survives)
		defer end()
		return s.result(ctx, s.runContainer(ctx, action))
	}
	return &failure{message: fmt.Sprintf("The action %s is of a kind that this runner does not know: %.40q.", s.plan.Uses, action.Kind)}
}

// result says what an error of the step means, given how its context ended.
func (s *step) result(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return s.fail(err)
	}
	cause := context.Cause(ctx)
	var timeout errTimeout
	switch {
	case err == nil:
		return nil // it ended before it noticed
	case errors.As(cause, &timeout):
		return &failure{message: fmt.Sprintf("The step timed out: %s.", timeout)}
	case errors.Is(cause, errCancelled):
		return errCancelled
	}
	return err
}

// fail turns an error that a user may see into a failure of the step; others
// mean that the job cannot go on.
func (s *step) fail(err error) error {
	var f *failure
	switch {
	case err == nil || errors.As(err, &f) || errors.Is(err, errCancelled):
		return err
	case sallyport.ErrorCode(err) == sallyport.CodeInternal, sallyport.ErrorCode(err) == sallyport.CodeUnavailable:
		return err
	}
	_, hint := sallyport.ErrorMessage(err)
	return &failure{message: sentence(err.Error()), hint: hint}
}

func sentence(s string) string {
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// setOutput sets an output of the step.
func (s *step) setOutput(x workflow.Var) error {
	if s.size += len(x.Name) + len(x.Value); s.size > maxOutputs {
		return sallyport.Errorf(sallyport.CodeInvalid, "the step's outputs have more than %d KiB", maxOutputs>>10).
			WithHint("upload large results as an artifact")
	}
	x.Tainted = x.Tainted || s.tainted
	s.outputs.set(x)
	return nil
}

// record adds a step's end to the steps context.
func (f *frame) record(s *step, end stepEnd) {
	if s.plan.ID == "" {
		return
	}
	outputs := make([]workflow.Entry, 0, len(s.outputs.names))
	for _, name := range s.outputs.names {
		outputs = append(outputs, workflow.Entry{Key: name, Value: stringValue(s.outputs.values[name])})
	}
	f.results = append(f.results, workflow.Entry{Key: s.plan.ID, Value: workflow.Object(
		workflow.Entry{Key: "outputs", Value: workflow.Object(outputs...)},
		workflow.Entry{Key: "outcome", Value: workflow.String(string(end.outcome))},
		workflow.Entry{Key: "conclusion", Value: workflow.String(string(end.conclusion))},
	)})
	f.scope.Set("steps", workflow.Object(f.results...))
}

// plainText returns foreign text as one line without secrets and control
// characters, of at most limit bytes.
func (j *job) plainText(text string, limit int) string {
	text = j.mask.Text(strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " "))
	out, escapes := clean(nil, []byte(text))
	if escapes {
		out = []byte(j.mask.Text(withoutSGR(out)))
	}
	if len(out) > limit {
		out = append(out[:cutAt(out, limit-len("…"))], "…"...)
	}
	return string(out)
}
