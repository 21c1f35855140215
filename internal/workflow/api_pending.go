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

// Status is what the status functions ask about.
type Status struct{ Success, Failure, Cancelled bool }

// EvalError is an expression that could not be parsed or evaluated.
type EvalError struct {
	Pos     sallyport.Pos
	Expr    string
	Message string
}

func (e *EvalError) Error() string { return e.Message }

// Scope is what expressions are evaluated in: contexts and status functions.
type Scope struct {
	contexts  map[string]Value
	status    Status
	hashFiles func(patterns []string) (string, error)
}

func NewScope(contexts map[string]json.RawMessage) (*Scope, error) {
	return &Scope{contexts: map[string]Value{}}, nil
}
func (s *Scope) Set(name string, v Value)                                  { s.contexts[foldCase(name)] = v }
func (s *Scope) SetStatus(st Status)                                       { s.status = st }
func (s *Scope) SetHashFiles(f func(patterns []string) (string, error))    { s.hashFiles = f }
func (s *Scope) Clone() *Scope                                             { return s }
func (s *Scope) Text(t sallyport.Template) (string, bool, error)           { return "", false, errPending }
func (s *Scope) Value(t sallyport.Template) (Value, error)                 { return Null, errPending }
func (s *Scope) Tree(t sallyport.Tree) (Value, error)                      { return Null, errPending }
func (s *Scope) Vars(t sallyport.Tree) ([]Var, error)                      { return nil, errPending }
func (s *Scope) Condition(t sallyport.Template) (bool, error)              { return false, errPending }
func (s *Scope) Bool(t sallyport.Template, def bool) (bool, error)         { return def, errPending }
func (s *Scope) Number(t sallyport.Template, def float64) (float64, error) { return def, errPending }

// Eval evaluates one expression, without ${{ }}.
func Eval(expr string, s *Scope) (Value, error) { return Null, errPending }

// FromJSON reads a JSON text as a value.
func FromJSON(raw []byte) (Value, error) { return Null, errPending }

// JSON returns the value as toJSON prints it.
func (v Value) JSON() string { return string(appendJSON(nil, v)) }

// Var is a name with a value: an environment variable, an input, an output.
type Var struct {
	Name, Value string
	Tainted     bool
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

// ParseEnvFile reads a GITHUB_OUTPUT or GITHUB_ENV file.
func ParseEnvFile(src []byte) ([]Var, error) { return nil, errPending }

// Command is a workflow command: a line "::name key=value,…::value".
type Command struct {
	Name  string
	Props []Var // in order, unescaped
	Value string
}

// Prop returns the property with the given name, "" if there is none.
func (c Command) Prop(name string) string { return "" }

func ParseCommand(line string) (cmd Command, ok bool) { return Command{}, false }
