package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

type runCmd struct {
	output
	Dir        string            `short:"C" name:"dir" help:"Repository to run." default:"." placeholder:"DIR"`
	Workflow   []string          `help:"Only these workflow files (repeatable)." placeholder:"FILE" sep:"none"`
	Event      string            `help:"Event to run for; default: push, or what the workflows have." placeholder:"NAME"`
	Payload    string            `help:"File with the event's payload, as GitHub sends it." placeholder:"FILE"`
	Job        string            `help:"Only this job and those it needs." placeholder:"ID"`
	Input      map[string]string `help:"Inputs of workflow_dispatch (repeatable)." placeholder:"K=V" mapsep:"none"`
	Secret     []string          `help:"Name of an environment variable to lend as a secret (repeatable)." placeholder:"NAME"`
	SecretFile string            `help:"File of NAME=VALUE lines to lend as secrets." placeholder:"FILE"`
	Var        map[string]string `help:"Values of the vars context (repeatable)." placeholder:"K=V" mapsep:"none"`
	Env        map[string]string `help:"Environment variables, as if the workflow's env began with them (repeatable)." placeholder:"K=V" mapsep:"none"`
	Matrix     map[string]string `help:"Only the cells of a matrix with this value (repeatable)." placeholder:"K=V" mapsep:"none"`
	List       bool              `help:"List what would run; with --json print the plan of each workflow, one a line." xor:"mode"`
	Graph      bool              `help:"Draw which jobs wait for which." xor:"mode"`
	Watch      bool              `help:"Run again whenever a file of the repository changes." xor:"mode"`
	Shell      bool              `help:"Open a shell in the room of a job that failed."`
	actionFlags
	egressFlags
	ToolCache string `name:"tool-cache" help:"Tool cache for setup actions; default: the user's own." env:"SALLYPORT_TOOL_CACHE" placeholder:"DIR"`
	Capacity  int    `help:"Jobs at the same time; 0: as many as CPUs." default:"0"`
	Level     string `help:"Isolation of the rooms: standard, or strong where gVisor is there." enum:"standard,strong" default:"standard"`
	Verbose   bool   `short:"v" help:"Say more on stderr."`
}

const maxPayload = 25 << 20 // GitHub's limit of a webhook's payload

// Run runs workflows here. Exit codes: 0 success, 1 failure, also of a workflow that is invalid while
// others ran, 2 usage, or nothing ran because a workflow is invalid.
func (c runCmd) Run(e *env) error {
	config, err := c.config(e)
	if err != nil {
		return err
	}
	switch {
	case c.List || c.Graph:
		return c.show(e, config)
	case c.Watch:
		return c.watch(e, config)
	}
	return c.once(e.ctx, e, config)
}

// once runs what there is to run, until ctx ends.
func (c runCmd) once(ctx context.Context, e *env, config daemon.LocalConfig) error {
	v := &runView{e: e, json: c.JSON, job: c.Job, began: time.Now()}
	if c.Shell {
		config.Visit = v.visit
	}
	// A run lives for seconds: it collects its garbage less often than a server, which lives for months.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	err := daemon.Local(ctx, config, v.watch)
	var invalid *daemon.InvalidWorkflow
	switch {
	case errors.As(err, &invalid):
		return c.invalid(e, invalid.Diagnostics)
	case err != nil:
		return err
	}
	return v.finish()
}

// invalid prints what is wrong with the workflows.
func (c runCmd) invalid(e *env, all []sallyport.Diagnostic) error {
	for _, d := range all {
		if d.Severity == "error" {
			fmt.Fprintln(e.stderr, diagnosticLine(d))
		}
	}
	return exitError(exitUsage)
}

func (c runCmd) config(e *env) (daemon.LocalConfig, error) {
	log := slog.New(slog.DiscardHandler)
	if c.Verbose {
		log = newLogger(e, "text", true)
	}
	config := daemon.LocalConfig{Dir: c.Dir, Workflows: c.Workflow, Event: c.Event, Job: c.Job, Vars: c.Var, Matrix: c.Matrix, Capacity: c.Capacity, Level: c.Level, Actions: c.actionFlags.config(), Egress: c.egressFlags.config(), Log: log}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		config.Env = append(config.Env, sallyport.EnvVar{Name: name, Value: c.Env[name]})
	}
	if c.Shell && (c.JSON || !isTerminal(os.Stdin)) {
		return config, sallyport.Errorf(sallyport.CodeInvalid, "--shell needs a terminal to talk to").WithHint("leave --json out, and run it by hand")
	}
	var err error
	if config.Tools, err = daemon.ToolCache("", c.ToolCache); err != nil {
		return config, err
	}
	if config.Payload, err = readPayload(c.Payload); err != nil {
		return config, err
	}
	if c.Input != nil {
		b, err := json.Marshal(c.Input)
		if err != nil {
			return config, err
		}
		config.Inputs = b
	}
	config.Secrets, err = c.secrets()
	return config, err
}

// readPayload reads the file of an event's payload; nil when none is named.
func readPayload(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the payload cannot be read: %v", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPayload+1))
	if err == nil && len(b) > maxPayload {
		err = sallyport.Errorf(sallyport.CodeInvalid, "%s is larger than %d bytes", file, maxPayload)
	}
	return b, err
}

var secretName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secrets come from the environment or a file, never from the command line,
// which every process of the host can read.
func (c runCmd) secrets() (map[string]string, error) {
	out := make(map[string]string)
	for _, name := range c.Secret {
		if strings.Contains(name, "=") {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "--secret takes a name, not a value").WithHint("put the value into the environment variable and name that")
		}
		value, ok := os.LookupEnv(name)
		if !ok {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "there is no environment variable %s", name).WithHint("set it, or use --secret-file")
		}
		out[name] = value
	}
	if c.SecretFile == "" {
		return out, nil
	}
	b, err := readBounded(c.SecretFile)
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the secrets cannot be read: %v", err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || !secretName.MatchString(name) {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s:%d: not a line NAME=VALUE", c.SecretFile, i+1)
		}
		out[name] = value
	}
	return out, nil
}

// runView shows a local run: its log as it comes, and at the end what became
// of every job, with the cause of failure last.
type runView struct {
	e     *env
	json  bool
	job   string // asked for; "" = all
	began time.Time
	runs  []localRun
	room  sync.Mutex // one shell at a time
}

// localRun is a run that has ended.
type localRun struct {
	sallyport.Run
	jobs  []sallyport.Job
	wrong []sallyport.Diagnostic // why it did not compile
}

func (v *runView) watch(ctx context.Context, s sallyport.Services, runs []sallyport.Run) error {
	if len(runs) == 0 {
		if v.job != "" {
			return sallyport.Errorf(sallyport.CodeInvalid, "no workflow here that is started by this event has a job %q", v.job).
				WithHint("give its key in the workflow; choose another event with --event")
		}
		return sallyport.Errorf(sallyport.CodeInvalid, "no workflow here is started by this event").
			WithHint("workflows lie in .github/workflows of the repository, which -C names; choose another event with --event, or a file with --workflow")
	}
	p := &logPrinter{out: v.e.stdout, json: v.json, color: v.e.color}
	for _, r := range runs {
		if !v.json {
			fmt.Fprintf(v.e.stderr, "%s: %s at %s\n", r.Workflow, r.Event, commit(r.Commit))
		}
		p.workflow = r.Workflow
		done, err := v.see(ctx, s, r, p)
		if err != nil {
			return err
		}
		v.runs = append(v.runs, done)
	}
	return nil
}

// see shows a run to its end, or what is wrong with a workflow that did not compile.
func (v *runView) see(ctx context.Context, s sallyport.Services, r sallyport.Run, p *logPrinter) (localRun, error) {
	if r.Status == sallyport.StatusCompleted { // it was never started: it is invalid, or all of it is skipped
		if done, err := v.seeInvalid(ctx, s, r); err != nil || len(done.wrong) > 0 {
			return done, err
		}
	}
	stop, cancel := context.WithCancel(ctx)
	refused := make(chan map[sallyport.JobID]string, 1)
	go func() { refused <- refuseUnservable(stop, s, r.ID) }()
	err := v.follow(ctx, s, r.ID, p)
	cancel()
	why := <-refused
	if err != nil {
		return localRun{}, err
	}
	done, jobs, err := s.Runs.Run(context.WithoutCancel(ctx), r.ID) // the result of a cancelled run too
	for i := range jobs {
		if cause, ok := why[jobs[i].ID]; ok {
			jobs[i].Cause, done.Cause = cause, cause
		}
	}
	return localRun{Run: done, jobs: jobs}, err
}

// seeInvalid shows what is wrong with a workflow, with every place.
func (v *runView) seeInvalid(ctx context.Context, s sallyport.Services, r sallyport.Run) (localRun, error) {
	plan, err := s.Runs.Plan(context.WithoutCancel(ctx), r.ID)
	if err != nil {
		return localRun{}, err
	}
	out := localRun{Run: r}
	for _, d := range plan.Warnings {
		if d.Severity == "error" {
			out.wrong = append(out.wrong, d)
			fmt.Fprintln(v.e.stderr, plain(d.String()))
		}
	}
	return out, nil
}

// follow prints a run to its end. An interrupt cancels it gracefully first; a second one leaves.
func (v *runView) follow(ctx context.Context, s sallyport.Services, id sallyport.RunID, p *logPrinter) error {
	quiet, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	cancelled := context.AfterFunc(ctx, func() {
		if err := s.Runs.Cancel(quiet, id); err == nil {
			fmt.Fprintln(v.e.stderr, "cancelling …")
		}
	})
	defer cancelled()
	return followRun(quiet, s, id, true, func(sallyport.Job) bool { return true }, func(j sallyport.Job, l sallyport.LogLine) error {
		if !v.json && l.Kind == sallyport.LogDebug {
			return nil
		}
		return p.line(j, l)
	})
}

// refuseUnservable cancels a run once nothing is left but jobs that wait for a
// runner which is not here, or for an approval that nobody can give, and says why of
// each. Jobs that still run after a cancellation have their turn.
func refuseUnservable(ctx context.Context, s sallyport.Services, id sallyport.RunID) map[sallyport.JobID]string {
	refused := make(map[sallyport.JobID]string)
	for ctx.Err() == nil {
		r, jobs, err := s.Runs.Run(ctx, id)
		if err != nil || r.Status == sallyport.StatusCompleted {
			break
		}
		stuck, canGoOn := false, false
		for _, j := range jobs {
			switch {
			case j.Uses != "": // its jobs tell
			case len(daemon.Unservable([]sallyport.Job{j})) > 0:
				stuck, refused[j.ID] = true, fmt.Sprintf("no runner here has the labels %s of job %s", strings.Join(j.Labels, ", "), j.Name)
			case j.AwaitsApproval():
				stuck, refused[j.ID] = true, j.Cause
			case j.Status == sallyport.StatusQueued || j.Status == sallyport.StatusInProgress || j.Status == sallyport.StatusCollecting:
				canGoOn = true
			}
		}
		if stuck && !canGoOn {
			_ = s.Runs.Cancel(ctx, id) // again for those that a first one left; a run that has ended meanwhile is none
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return refused
}

// finish prints the result and returns the exit code.
func (v *runView) finish() error {
	result := v.result()
	if v.json {
		if err := json.NewEncoder(v.e.stdout).Encode(result); err != nil {
			return err
		}
	} else {
		v.report(result)
	}
	if result.Conclusion != sallyport.Success && result.Conclusion != sallyport.Skipped {
		return exitError(exitFailed)
	}
	return nil
}

func (v *runView) report(result runResult) {
	w := v.e.stderr
	fmt.Fprintln(w)
	for _, r := range v.runs {
		if len(r.wrong) > 0 {
			fmt.Fprintf(w, "%-10s %s  invalid\n", r.Conclusion, r.Workflow)
		}
		for _, j := range r.jobs {
			fmt.Fprintf(w, "%-10s %s  %s\n", j.Conclusion, plain(j.Name), took(j.StartedAt, j.FinishedAt))
			said := false
			for _, s := range j.Steps {
				if s.Conclusion == sallyport.Failure || s.Outcome == sallyport.Failure {
					said = said || s.Conclusion == sallyport.Failure
					fmt.Fprintf(w, "  %-8s %s: %s\n", s.Conclusion, plain(s.Name), plain(s.Cause))
				}
			}
			if !said && j.Uses == "" && j.Cause != "" && j.Conclusion != sallyport.Skipped {
				fmt.Fprintf(w, "  %s\n", plain(j.Cause))
			}
		}
	}
	fmt.Fprintf(w, "%s in %s\n", result.Conclusion, took(v.began, time.Now()))
	if result.Cause != "" {
		fmt.Fprintf(w, "because: %s\n", plain(result.Cause))
	}
}
