package sallyport

import (
	"encoding/json"
	"strings"
	"time"
)

// Status is where a run, a job or a step stands.
type Status string

const (
	StatusWaiting    Status = "waiting"     // for needs, a concurrency group or an approval
	StatusQueued     Status = "queued"      // for a runner
	StatusInProgress Status = "in_progress" // on a runner
	StatusCollecting Status = "collecting"  // the yard is done; evidence is being made
	StatusCompleted  Status = "completed"   // final; Conclusion is set
)

// Conclusion is how a run, a job or a step ended; "" until it is completed.
type Conclusion string

const (
	Success   Conclusion = "success"
	Failure   Conclusion = "failure"
	Cancelled Conclusion = "cancelled"
	Skipped   Conclusion = "skipped"
)

// statusNext is the state machine of runs and jobs: a status may only be
// followed by those listed. A job may go back to queued when its runner died.
var statusNext = map[Status][]Status{
	"":               {StatusWaiting, StatusQueued},
	StatusWaiting:    {StatusQueued, StatusInProgress, StatusCompleted},
	StatusQueued:     {StatusInProgress, StatusCompleted},
	StatusInProgress: {StatusCollecting, StatusQueued, StatusCompleted},
	StatusCollecting: {StatusCompleted},
}

// CanBecome reports whether a run or job in s may go to next.
func (s Status) CanBecome(next Status) bool {
	for _, n := range statusNext[s] {
		if n == next {
			return true
		}
	}
	return false
}

// Run is one execution of a Plan.
type Run struct {
	ID         RunID      `json:"id"`
	Project    ProjectID  `json:"project"`
	Push       PushID     `json:"push"`
	Number     int64      `json:"number"` // counts up within the project
	Workflow   string     `json:"workflow"`
	Name       string     `json:"name"`
	Title      string     `json:"title"` // run-name, or the commit's subject; untrusted text
	Event      string     `json:"event"`
	Ref        string     `json:"ref"`
	Commit     string     `json:"commit"`
	Tier       Tier       `json:"tier"`
	Actor      string     `json:"actor"`
	PlanDigest Digest     `json:"plan_digest"`
	Status     Status     `json:"status"`
	Conclusion Conclusion `json:"conclusion,omitempty"`
	Cause      string     `json:"cause,omitempty"` // why it did not succeed, one line
	// Cancel says why the run must stop; set once, while it is unfinished.
	Cancel string `json:"cancel,omitempty"`
	// Group is the concurrency group, unique per project; "" for none.
	Group            string    `json:"group,omitempty"`
	CancelInProgress bool      `json:"cancel_in_progress,omitempty"`
	CreatedAt        time.Time `json:"created_at"`
	StartedAt        time.Time `json:"started_at,omitzero"`
	FinishedAt       time.Time `json:"finished_at,omitzero"`
}

// Job is one instance of a plan's job: one cell of its matrix.
type Job struct {
	ID  JobID `json:"id"`
	Run RunID `json:"run"`
	// Parent is the job that called the workflow which this one belongs to; "" for
	// the run's own workflow.
	Parent JobID `json:"parent,omitempty"`
	// Key is the job's id in its workflow, after that of the job which called it
	// and a slash: "release/build".
	Key        string            `json:"key"`
	Index      int               `json:"index"` // cell of the matrix, from 0
	Name       string            `json:"name"`
	Matrix     json.RawMessage   `json:"matrix,omitempty"` // the cell's values, a JSON object
	Needs      []string          `json:"needs,omitempty"`  // keys
	Labels     []string          `json:"labels,omitempty"` // runs-on
	Status     Status            `json:"status"`
	Conclusion Conclusion        `json:"conclusion,omitempty"`
	Cause      string            `json:"cause,omitempty"`
	Attempt    int               `json:"attempt"` // leases taken so far
	Runner     RunnerID          `json:"runner,omitempty"`
	Outputs    map[string]string `json:"outputs,omitempty"`
	// Tainted names the outputs that were derived from untrusted values.
	Tainted []string `json:"tainted,omitempty"`
	// Expanded is set once the job's condition was true and its matrix cell is
	// known; until then the row stands for all cells of its key.
	Expanded bool `json:"expanded,omitempty"`
	// Cancel says why the job must stop; the runner obeys at its next heartbeat.
	Cancel string `json:"cancel,omitempty"`
	// Lent is set when a secret was handed to an attempt: such a job is not tried again.
	Lent bool `json:"lent,omitempty"`
	// Tolerated marks a failure that continue-on-error keeps from failing the run.
	Tolerated bool `json:"tolerated,omitempty"`
	// Uses is the reusable workflow that the job calls instead of having steps, as
	// written. Such a job never meets a runner: its status is that of the jobs called.
	Uses string `json:"uses,omitempty"`
	// Inputs are what a call hands over, a JSON object; TaintedInputs names those
	// that were derived from untrusted values.
	Inputs        json.RawMessage `json:"inputs,omitempty"`
	TaintedInputs []string        `json:"tainted_inputs,omitempty"`
	// Group is the job's concurrency group, CallGroup that of the workflow it calls;
	// both unique per project, "" for none.
	Group     string `json:"group,omitempty"`
	CallGroup string `json:"call_group,omitempty"`
	// ReadyAt is when nothing of its own workflow held the job back any more and it
	// lined up in its groups; Admitted is set when it has its place in all of them.
	ReadyAt     time.Time       `json:"ready_at,omitzero"`
	Admitted    bool            `json:"admitted,omitempty"`
	Environment *JobEnvironment `json:"environment,omitempty"`
	Isolation   *Isolation      `json:"isolation,omitempty"`
	// Trace is the digest of what was seen of the job from outside its room.
	Trace      Digest    `json:"trace,omitempty"`
	Steps      []Step    `json:"steps,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
}

// PlanKey is the job's key in the workflow it belongs to.
func (j Job) PlanKey() string { return j.Key[strings.LastIndexByte(j.Key, '/')+1:] }

// AwaitsApproval reports whether nothing holds the job back any more but the
// approval of its environment; Cause says so in words.
func (j Job) AwaitsApproval() bool { return j.Status == StatusWaiting && j.Admitted }

// JobEnvironment is the environment that a job names.
type JobEnvironment struct {
	Name string `json:"name"`
	URL  string `json:"url,omitempty"` // the job's own word, given at its end
	// Quiet is set by "deployment: false": the job obeys the environment's rules
	// but is no deployment.
	Quiet bool `json:"quiet,omitempty"`
}

// Step is one step of a job as the runner reported it: the job's own word.
type Step struct {
	Number     int        `json:"number"` // from 1, in order of start
	ID         string     `json:"id,omitempty"`
	Name       string     `json:"name"`
	Status     Status     `json:"status"`
	Outcome    Conclusion `json:"outcome,omitempty"`    // before continue-on-error
	Conclusion Conclusion `json:"conclusion,omitempty"` // after it
	ExitCode   int        `json:"exit_code,omitempty"`
	Cause      string     `json:"cause,omitempty"`
	// Annotations are the error, warning and notice commands of the step; bounded by the runner.
	Annotations []Annotation `json:"annotations,omitempty"`
	Summary     string       `json:"summary,omitempty"` // GITHUB_STEP_SUMMARY, Markdown, untrusted
	StartedAt   time.Time    `json:"started_at,omitzero"`
	FinishedAt  time.Time    `json:"finished_at,omitzero"`
}

// Annotation is a message that a step attached to a place in the source.
type Annotation struct {
	Level   string `json:"level"` // error, warning, notice
	Message string `json:"message"`
	Title   string `json:"title,omitempty"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Col     int    `json:"col,omitempty"`
	EndLine int    `json:"end_line,omitempty"`
	EndCol  int    `json:"end_col,omitempty"`
}

// LogLine is one line of a job's log. On disk and on the wire a log is a
// sequence of LogLines as JSON lines; offsets count bytes of that encoding.
type LogLine struct {
	At   int64   `json:"t"`           // Unix milliseconds
	Step int     `json:"s"`           // Step.Number; 0 is the runner itself
	Kind LogKind `json:"k,omitempty"` // how to show it
	Text string  `json:"x"`           // redacted, valid UTF-8, no line end, no control sequence but SGR colours
}

// LogKind tells a line of output from what the workflow commands made of it.
type LogKind string

const (
	LogOutput   LogKind = ""
	LogGroup    LogKind = "group"
	LogEndGroup LogKind = "endgroup"
	LogCommand  LogKind = "command" // the command that a step runs
	LogNotice   LogKind = "notice"
	LogWarning  LogKind = "warning"
	LogError    LogKind = "error"
	LogDebug    LogKind = "debug"
	LogSystem   LogKind = "system" // the runner's own words
)
