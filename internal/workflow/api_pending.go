package workflow

import (
	"encoding/json"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

var errPending = sallyport.Errorf(sallyport.CodeUnavailable, "this part of package workflow is being written")

// File is a workflow file: a typed, ordered syntax tree.
type File struct {
	Path string
	Name sallyport.Template
}

func Parse(path string, src []byte) (*File, []sallyport.Diagnostic) {
	return nil, []sallyport.Diagnostic{{File: path, Severity: "error", Message: errPending.Message}}
}

// Event is what happened to a repository.
type Event struct {
	Name        string   // "push", "pull_request", "workflow_dispatch"
	Action      string   // activity type, e.g. "opened"
	Ref         string   // full name: refs/heads/main
	BaseRef     string   // of a pull request: the branch it goes to
	Changed     []string // paths that differ, for path filters
	ChangedMore bool     // there are more: path filters count as matching
	Payload     json.RawMessage
	Inputs      json.RawMessage // of workflow_dispatch: an object
}

func (f *File) Matches(e Event) (ok bool, why string) { return false, errPending.Message }

// CompileInput is all that Compile needs.
type CompileInput struct {
	File     *File
	Event    Event
	Contexts map[string]json.RawMessage // github, vars
	ReadFile func(path string) ([]byte, error)
}

func Compile(in CompileInput) (*sallyport.Plan, []sallyport.Diagnostic) {
	return nil, []sallyport.Diagnostic{{Severity: "error", Message: errPending.Message}}
}

// Cell is one instance of a job.
type Cell struct {
	Index            int
	Name             string
	Matrix, Strategy json.RawMessage
	Labels           []string
	Timeout          time.Duration // default 360 min
	Tolerated        bool
	Group            string
	CancelInProgress bool
}

// Expansion is a job whose needs are complete.
type Expansion struct {
	Run         bool // the result of if
	Cells       []Cell
	FailFast    bool
	MaxParallel int
}

func Expand(p *sallyport.Plan, j *sallyport.PlanJob, s *Scope) (Expansion, error) {
	return Expansion{}, errPending
}
