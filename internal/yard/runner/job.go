package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/redact"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
	"github.com/sallyport-ci/sallyport/internal/yard/trace"
)

var (
	errLost   = errors.New("the lease is lost")
	errKilled = errors.New("the control plane ordered the job to be killed")
	errBack   = fmt.Errorf("the runner is shutting down; the job is started again elsewhere or later: %w", errLost)
	errGrace  = errors.New("the time for cleaning up after the cancellation is over")
)

// job is one lease while it is worked on. The fields above mu belong to the
// goroutine that runs the job's own steps, or do not change once it has begun.
type job struct {
	runner  *Runner
	lease   *sallyport.Lease
	plan    *sallyport.PlanJob
	layout  *layout
	main    lane // of the job's own steps
	list    []*entry
	crew    crew                        // the background steps
	pres    []*entry                    // what actions do before the first step
	trees   map[sallyport.Digest]string // actions of other repositories, as directories in what is given
	release []func()                    // ends the use of these by the job
	room    sallyport.Room

	container      *container // its image; nil on the host's view
	sidecars       []*sidecar
	sidecarContext workflow.Value
	peers          []sallyport.Peer
	hosts          []string
	toolMu         sync.Mutex
	tools          sallyport.Room // of the host's tools, beside a container
	toolList       []tools.Tool   // of the runner's tool cache, as the job sees it
	actionRooms    atomic.Int64
	door           *jobDoor // nil when the job reaches nothing outside
	releaseRoom    func()   // from the door

	trace    *trace.Recorder // of what the job does; nil until there is something to record
	volume   *os.File        // the file system that it listens to
	services *services       // nil when the job has no use for them
	mask     *redact.Set
	log      *jobLog
	slog     *slog.Logger
	die      context.CancelCauseFunc // ends the job's life: the room goes down at once
	leave    context.CancelCauseFunc // ends the talk with the control plane

	beatNow chan struct{} // asks for a heartbeat at once
	dirty   chan struct{} // a report is due

	mu        sync.Mutex
	steps     []*topStep
	posts     []post                 // what actions do when the steps have ended; the last first
	uses      map[string]*javascript // by key of the step
	called    map[string]string      // names of actions, likewise
	isolation *sallyport.Isolation
	cancelled string             // why the job must stop; "" while it need not
	leaves    map[*leaf]struct{} // what runs at the moment
	grace     *time.Timer
	summaries int // bytes

	matchers atomic.Pointer[[]*matcher] // of problems; changed with mu held

	fetch   sync.Mutex // held while the repository is fetched
	sources map[int]string
}

// topStep is a step of the job as it is reported; guarded by job.mu.
type topStep struct{ report sallyport.Step }

// leaf is a running process or intrinsic action that a cancellation may interrupt.
type leaf struct {
	lane     *lane
	survives bool // its condition holds also after a cancellation
	stop     context.CancelCauseFunc
}

// errCancelled is the cause of a leaf's end by cancellation, errStopped by a cancel step.
var (
	errCancelled = errors.New("the job was cancelled")
	errStopped   = fmt.Errorf("a cancel step ended it: %w", errCancelled)
)

// interrupts tells which ends of a step begin with SIGINT: cancellations and timeouts, as
// GitHub's "Workflow cancellation reference" has it; a cancel step begins with SIGTERM.
func interrupts(cause error) bool {
	return errors.As(cause, &errTimeout{}) || errors.Is(cause, errCancelled) && !errors.Is(cause, errStopped)
}

// do works off a lease. It never fails: what went wrong is the job's result.
func (r *Runner) do(ctx context.Context, lease *sallyport.Lease) {
	talk, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	defer leave(nil)
	life, die := context.WithCancelCause(talk)
	defer die(nil)
	j := &job{
		runner: r, lease: lease, die: die, leave: leave, mask: redact.New(redact.Config{}),
		slog:    r.cfg.Log.With("job", lease.Job.ID, "run", lease.Run.ID),
		beatNow: make(chan struct{}, 1), dirty: make(chan struct{}, 1), sources: map[int]string{}, leaves: map[*leaf]struct{}{},
		uses: map[string]*javascript{}, called: map[string]string{}, trees: map[sallyport.Digest]string{},
	}
	j.log = newJobLog(r.cfg.Yard, lease.Ref, j.mask, r.cfg.MaxLog, r.cfg.Clock, j.slog, j.poke)
	j.slog.InfoContext(ctx, "job was leased", "name", lease.Job.Name)

	var services sync.WaitGroup
	services.Go(func() { j.beat(talk) })
	services.Go(func() { j.sendReports(talk) })
	services.Go(func() { j.log.send(talk) })
	stopWatch := context.AfterFunc(ctx, j.handBack)

	result := j.work(life)

	stopWatch()
	j.mu.Lock()
	if j.grace != nil {
		j.grace.Stop()
	}
	j.mu.Unlock()
	j.handIn(talk, life.Err() != nil, result)
	leave(nil)
	services.Wait()
	for _, release := range j.release {
		release()
	}
	if j.layout != nil {
		if err := j.layout.remove(); err != nil {
			j.slog.ErrorContext(ctx, "job directory was not removed", "err", err)
		}
	}
	j.slog.InfoContext(ctx, "job ended", "conclusion", result.Conclusion)
}

// killedTime is how long a killed job tries to hand in what it has.
const killedTime = 10 * time.Second

// handIn delivers the rest of the log and the result. While the control plane is away
// it waits, as long as the lease may be ours.
func (j *job) handIn(ctx context.Context, killed bool, result sallyport.JobResult) {
	if killed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, killedTime)
		defer cancel()
	}
	record := j.endTrace() // while the workspace is there
	j.door.handIn(ctx)
	end, err := j.log.close(ctx)
	if err != nil {
		j.slog.WarnContext(ctx, "log was not delivered whole", "err", err)
	}
	if ctx.Err() != nil {
		return
	}
	j.mu.Lock()
	result.Steps, result.Isolation, result.LogEnd = j.snapshot(), j.isolation, end
	j.mu.Unlock()
	result.Trace = record
	if err := retry(ctx, func() error { return j.runner.cfg.Yard.Finish(ctx, j.lease.Ref, result) }); err != nil {
		j.slog.ErrorContext(ctx, "result was not handed in", "err", err)
	}
}

// kill destroys the room now. A job whose lease is lost says no more.
func (j *job) kill(cause error) {
	if errors.Is(cause, errLost) {
		j.leave(cause)
	}
	j.die(cause)
}

// work does the job in a room of its own; the room is gone when it returns.
func (j *job) work(life context.Context) (result sallyport.JobResult) {
	defer func() {
		if p := recover(); p != nil {
			j.slog.ErrorContext(life, "runner panicked", "panic", p, "stack", string(debug.Stack()))
			result = j.failed("internal error in the runner; its log has the cause")
		}
		// Not life: a job that was killed is destroyed all the same.
		if err := j.destroyRooms(context.WithoutCancel(life)); err != nil {
			j.slog.ErrorContext(life, "room was not destroyed", "err", err)
		}
		j.endServices(life)
	}()
	f, err := j.setUp(life)
	if err != nil {
		return j.failed(j.tell(life, err))
	}
	if d := j.lease.Timeout; d > 0 {
		timer := time.AfterFunc(d, func() {
			j.cancel(fmt.Sprintf("it ran longer than %s", d), j.cleanupTime())
		})
		defer timer.Stop()
	}
	fatal := j.runPres(life)
	if fatal == nil && life.Err() == nil {
		fatal = j.runSteps(life)
	}
	if fatal == nil && life.Err() == nil {
		fatal = j.runPosts(life)
	}
	if life.Err() != nil {
		j.skipRest()
		return sallyport.JobResult{Conclusion: sallyport.Cancelled, Cause: context.Cause(life).Error()}
	}
	if fatal != nil {
		return j.failed(j.tell(life, fatal))
	}
	result.Outputs, result.Tainted = j.jobOutputs(f)
	result.EnvironmentURL = j.environmentURL(f)
	if j.status(f).Failure && j.runner.cfg.Visit != nil {
		j.visit(life, f)
	}
	switch status := j.status(f); {
	case status.Cancelled:
		j.mu.Lock()
		result.Conclusion, result.Cause = sallyport.Cancelled, j.cancelled
		j.mu.Unlock()
	case status.Failure:
		result.Conclusion = sallyport.Failure
		result.Cause = j.firstFailure()
	default:
		result.Conclusion = sallyport.Success
	}
	return result
}

// failed is the result of a job that could not go on.
func (j *job) failed(cause string) sallyport.JobResult {
	j.skipRest()
	return sallyport.JobResult{Conclusion: sallyport.Failure, Cause: cause}
}

// skipRest completes the steps that were not reached.
func (j *job) skipRest() {
	j.update(func() {
		for _, s := range j.steps {
			if s.report.Status != sallyport.StatusCompleted {
				s.report.Status, s.report.Outcome, s.report.Conclusion = sallyport.StatusCompleted, sallyport.Skipped, sallyport.Skipped
			}
		}
	})
}

// firstFailure names the first step that failed.
func (j *job) firstFailure() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.steps {
		if s.report.Conclusion == sallyport.Failure {
			cause := fmt.Sprintf("step %d (%s) failed", s.report.Number, s.report.Name)
			if s.report.Cause != "" {
				cause += ": " + s.report.Cause
			}
			return cause
		}
	}
	return "a step failed"
}

// tell writes why the job cannot go on to its log and the operator's, and returns it in one line.
func (j *job) tell(ctx context.Context, err error) string {
	message, hint := sallyport.ErrorMessage(err)
	if sallyport.ErrorCode(err) == sallyport.CodeInternal {
		message, hint = "the runner had an internal error", "its log has the cause"
	}
	j.slog.ErrorContext(ctx, "job could not go on", "err", err)
	j.log.say(0, sallyport.LogError, "%s", message)
	if hint != "" {
		j.log.say(0, sallyport.LogSystem, "%s", hint)
	}
	return j.plainText(message, 500)
}

// setUp checks the lease and makes the room and the scope of the job's expressions.
func (j *job) setUp(ctx context.Context) (*frame, error) {
	for name, value := range j.lease.Secrets {
		if err := j.mask.Add(value); errors.Is(err, redact.ErrShort) {
			j.log.say(0, sallyport.LogWarning, "The secret %s is too short to be masked.", name)
		} else if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the secret %s cannot be masked: %v", name, err)
		}
	}
	for _, l := range j.lease.Lent { // the door has them; that the job finds one out is not expected
		if err := j.mask.Add(l.Value); err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the secret %s cannot be masked: %v", l.Secret, err)
		}
	}
	for _, c := range j.lease.Egress.Credentials {
		if c.Expose && j.lease.Secrets[c.Secret] != "" {
			j.log.say(0, sallyport.LogWarning, "The rule %s exposes the secret %s: this job holds its value.", c.Name, c.Secret)
		}
	}
	if j.lease.Plan == nil || j.lease.Plan.Job(j.lease.Job.PlanKey()) == nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the lease holds no plan for job %q", j.lease.Job.Key)
	}
	j.plan = j.lease.Plan.Job(j.lease.Job.PlanKey())
	j.list = listed(j.plan.Steps)
	j.listPres()
	for _, e := range j.list {
		j.enlist(e)
	}
	volume, err := j.sandbox().Volume(ctx, j.runner.cfg.Limits)
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		return nil, fmt.Errorf("make the job's disk: %w", err)
	}
	if j.layout, err = j.runner.layout(j.runner.cfg.WorkDir, j.lease.Project, volume); err != nil {
		return nil, fmt.Errorf("make the job directory: %w", err)
	}
	if err := j.beginTrace(); err != nil {
		return nil, fmt.Errorf("begin to record the job: %w", err)
	}
	if inside, err := j.inContainer(); err != nil {
		return nil, err
	} else if inside {
		j.layout.forContainer()
	}
	if err := j.fetchActions(ctx); err != nil {
		return nil, err
	}
	if err := j.showTools(ctx); err != nil {
		return nil, fmt.Errorf("show the tool cache: %w", err)
	}
	f, err := j.newFrame()
	if err != nil {
		return nil, err
	}
	if err := j.openDoor(ctx); err != nil {
		return nil, err
	}
	if err := j.prepareRooms(ctx, f); err != nil {
		return nil, err
	}
	isolation := j.room.Isolation()
	j.update(func() { j.isolation = &isolation })
	j.log.say(0, sallyport.LogSystem, "Room ready on %s: isolation %s (%s), network %s.", j.runner.cfg.Name, isolation.Level, isolation.Runtime, isolation.Network)
	for _, gap := range isolation.NotEnforced {
		j.log.say(0, sallyport.LogSystem, "Not enforced on this host: %s (%s).", gap.What, gap.Why)
	}
	return f, nil
}

// scope is what is known before the job starts.
func (j *job) scope() (*workflow.Scope, error) {
	scope, err := workflow.NewScope(j.lease.Contexts)
	if err != nil {
		return nil, err
	}
	for _, path := range j.lease.Tainted {
		scope.Taint(path...)
	}
	return scope, nil
}

// newFrame makes the frame of the job's own steps.
func (j *job) newFrame() (*frame, error) {
	scope, err := j.scope()
	if err != nil {
		return nil, err
	}
	var event []byte = []byte("{}")
	if v, ok := scope.Get("github").Get("event"); ok && v.Kind() == workflow.KindObject {
		if event, err = v.MarshalJSON(); err != nil {
			return nil, err
		}
	}
	eventPath, err := j.layout.give("event.json", event)
	if err != nil {
		return nil, err
	}
	scope.Set("github", withEntries(scope.Get("github"),
		workflow.Entry{Key: "job", Value: workflow.String(j.plan.Key)},
		workflow.Entry{Key: "workspace", Value: workflow.String(j.layout.workspace())},
		workflow.Entry{Key: "event_path", Value: workflow.String(eventPath)}))
	scope.Set("runner", j.runnerContext())
	var secrets []workflow.Entry
	for _, name := range slices.Sorted(maps.Keys(j.lease.Secrets)) {
		secrets = append(secrets, workflow.Entry{Key: name, Value: workflow.String(j.lease.Secrets[name])})
	}
	scope.Set("secrets", workflow.Object(secrets...))
	scope.Set("steps", workflow.Object())
	scope.SetHashFiles(j.layout.hashFiles)

	f := &frame{scope: scope, lane: &j.main, names: map[string]int{}}
	j.main.root = f
	for _, tree := range []sallyport.Tree{j.lease.Plan.Env, j.plan.Env} {
		scope.Set("env", j.main.env.context())
		vars, err := scope.Vars(tree)
		if err != nil {
			return nil, err
		}
		j.main.env.setAll(vars)
	}
	return f, j.main.checkSize()
}

// withEntries returns the object with entries added or replaced.
func withEntries(object workflow.Value, entries ...workflow.Entry) workflow.Value {
	return workflow.Object(append(object.Entries(), entries...)...)
}

// jobOutputs evaluates the outputs of the job. What holds a secret is left out,
// since outputs are kept in clear and shown to other jobs.
func (j *job) jobOutputs(f *frame) (outputs map[string]string, tainted []string) {
	f.scope.SetStatus(j.status(f))
	vars, err := f.scope.Vars(j.plan.Outputs)
	if err != nil {
		j.log.say(0, sallyport.LogError, "The job's outputs could not be evaluated: %v", err)
		f.failed = true
		return nil, nil
	}
	outputs = make(map[string]string, len(vars))
	size := 0
	for _, v := range vars {
		size += len(v.Name) + len(v.Value)
		switch {
		case j.mask.Contains(v.Value):
			j.log.say(0, sallyport.LogWarning, "The output %q is left out, since it holds a secret.", v.Name)
			continue
		case size > maxOutputs:
			j.log.say(0, sallyport.LogError, "The job's outputs have more than %d KiB. Upload large results as an artifact.", maxOutputs>>10)
			f.failed = true
			return nil, nil
		}
		outputs[v.Name] = v.Value
		if v.Tainted {
			tainted = append(tainted, v.Name)
		}
	}
	slices.Sort(tainted)
	return outputs, tainted
}

// environmentURL evaluates environment.url, which sees the steps' outputs.
func (j *job) environmentURL(f *frame) string {
	for _, p := range j.plan.Environment.Pairs {
		if p.Key.Text != "url" {
			continue
		}
		v, err := f.scope.Tree(p.Value)
		switch {
		case err != nil:
			j.log.say(0, sallyport.LogWarning, "The environment's url could not be evaluated: %v", err)
		case j.mask.Contains(v.String()):
			j.log.say(0, sallyport.LogWarning, "The environment's url is left out, since it holds a secret.")
		default:
			return v.String()
		}
	}
	return ""
}
