package sallyport

import (
	"encoding/json"
	"fmt"
)

// Pos is a place in a workflow or action file; lines and columns count from 1.
type Pos struct {
	Line int `json:"l,omitempty"`
	Col  int `json:"c,omitempty"`
}

// Diagnostic is a remark about a file of the repository: what is wrong, where,
// and how to mend it.
type Diagnostic struct {
	File     string `json:"file"`
	Pos      Pos    `json:"pos"`
	Severity string `json:"severity"` // error, warning, note
	Rule     string `json:"rule,omitempty"`
	Message  string `json:"message"`
}

// String returns "FILE:LINE:COL: message".
func (d Diagnostic) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", d.File, d.Pos.Line, d.Pos.Col, d.Message)
}

// Template is a scalar as the author wrote it: literal text, or text with
// ${{ expressions }} that are evaluated when their contexts are known.
type Template struct {
	Text string `json:"t,omitempty"`
	Pos  Pos    `json:"p,omitzero"`
}

// IsZero reports whether the field was absent or empty.
func (t Template) IsZero() bool { return t.Text == "" }

// TreeKind is the YAML kind of a Tree.
type TreeKind string

const (
	TreeAbsent TreeKind = ""
	TreeNull   TreeKind = "null"
	TreeBool   TreeKind = "bool"
	TreeNumber TreeKind = "number"
	TreeString TreeKind = "string"
	TreeSeq    TreeKind = "seq"
	TreeMap    TreeKind = "map"
)

// Tree is a YAML value that may hold expressions at any scalar: an env block,
// a with block, a matrix. Maps keep the order of the file.
type Tree struct {
	Kind  TreeKind   `json:"k,omitempty"`
	Text  string     `json:"t,omitempty"` // of a scalar, in YAML's canonical form for its kind
	Pos   Pos        `json:"p,omitzero"`
	Items []Tree     `json:"i,omitempty"` // of a sequence
	Pairs []TreePair `json:"m,omitempty"` // of a map
}

// TreePair is one entry of a map; the key may be an expression too.
type TreePair struct {
	Key   Template `json:"k"`
	Value Tree     `json:"v"`
}

// IsZero reports whether the field was absent.
func (t Tree) IsZero() bool { return t.Kind == TreeAbsent }

// Plan is what one workflow file means for one event at one commit: the
// compiled, serialisable, digest-addressed program that the engine and the
// runner interpret. It holds all that came from the repository, so that
// nothing is read from it again.
type Plan struct {
	Version     int                   `json:"version"` // 1
	Workflow    PlanFile              `json:"workflow"`
	Name        string                `json:"name"` // the workflow's name, else its path
	RunName     Template              `json:"run_name,omitzero"`
	Event       string                `json:"event"`
	Inputs      json.RawMessage       `json:"inputs,omitempty"` // typed workflow_dispatch inputs, an object
	Env         Tree                  `json:"env,omitzero"`
	Defaults    PlanDefaults          `json:"defaults,omitzero"`
	Concurrency *PlanConcurrency      `json:"concurrency,omitempty"`
	Permissions Permissions           `json:"permissions"`
	Jobs        []PlanJob             `json:"jobs"`              // every job after those it needs
	Actions     map[string]PlanAction `json:"actions,omitempty"` // by the text after "uses:"
	Rules       *PlanRules            `json:"rules,omitempty"`
	Files       []PlanFile            `json:"files"` // every file the plan was made from
	Warnings    []Diagnostic          `json:"warnings,omitempty"`
	// Only narrows matrices: of a matrix with one of these keys, only the cells with
	// that value run. Somebody who runs a workflow by hand asks for it.
	Only map[string]string `json:"only,omitempty"`
}

// PlanFile is a file of the repository by content.
type PlanFile struct {
	Path   string `json:"path"`
	Digest Digest `json:"digest"`
}

// PlanDefaults are the defaults.run settings.
type PlanDefaults struct {
	Shell            Template `json:"shell,omitzero"`
	WorkingDirectory Template `json:"working_directory,omitzero"`
}

// PlanConcurrency is a concurrency setting before evaluation.
type PlanConcurrency struct {
	Group            Template `json:"group"`
	CancelInProgress Template `json:"cancel_in_progress,omitzero"`
	Queue            string   `json:"queue,omitempty"`
	QueueExpr        Template `json:"queue_expr,omitzero"` // instead of Queue: makes it
}

// Permissions of the job's token: scope to "read", "write" or "none". A scope
// that is not listed is "none": there is no default grant.
type Permissions map[string]string

// PlanJob is one job of the workflow, before its matrix cells become Jobs.
type PlanJob struct {
	Key             string           `json:"key"`
	Pos             Pos              `json:"pos"`
	Name            Template         `json:"name,omitzero"`
	Needs           []string         `json:"needs,omitempty"`
	If              Template         `json:"if,omitzero"` // an expression, with or without ${{ }}
	RunsOn          Tree             `json:"runs_on,omitzero"`
	Strategy        PlanStrategy     `json:"strategy,omitzero"`
	Env             Tree             `json:"env,omitzero"`
	Defaults        PlanDefaults     `json:"defaults,omitzero"`
	Outputs         Tree             `json:"outputs,omitzero"`
	Environment     Tree             `json:"environment,omitzero"`
	Concurrency     *PlanConcurrency `json:"concurrency,omitempty"`
	Permissions     Permissions      `json:"permissions,omitempty"` // nil: the plan's
	TimeoutMinutes  Template         `json:"timeout_minutes,omitzero"`
	ContinueOnError Template         `json:"continue_on_error,omitzero"`
	Container       Tree             `json:"container,omitzero"`
	Services        Tree             `json:"services,omitzero"`
	Steps           []PlanStep       `json:"steps"`
	// Call is the reusable workflow that the job calls instead of having steps.
	Call *PlanCall `json:"call,omitempty"`
	// CancelTimeoutMinutes bounds the steps that run after a cancellation.
	CancelTimeoutMinutes Template `json:"cancel_timeout_minutes,omitzero"`
}

// PlanCall is a reusable workflow as one job calls it. Its jobs are a workflow
// of their own: their needs name each other, their inputs, secrets and env
// contexts hold what the call hands over. Permissions are already narrowed to
// what the caller has.
type PlanCall struct {
	Uses           string           `json:"uses"` // as written
	Workflow       PlanFile         `json:"workflow"`
	Source         *PlanSource      `json:"source,omitempty"` // nil: this repository at the plan's commit
	With           Tree             `json:"with,omitzero"`
	Secrets        Tree             `json:"secrets,omitzero"`
	InheritSecrets bool             `json:"inherit_secrets,omitempty"`
	Inputs         []PlanInput      `json:"inputs,omitempty"`
	SecretInputs   []PlanInput      `json:"secret_inputs,omitempty"`
	Outputs        []PlanOutput     `json:"outputs,omitempty"` // templates over the jobs context
	Env            Tree             `json:"env,omitzero"`
	Defaults       PlanDefaults     `json:"defaults,omitzero"`
	Concurrency    *PlanConcurrency `json:"concurrency,omitempty"`
	Permissions    Permissions      `json:"permissions,omitempty"`
	Jobs           []PlanJob        `json:"jobs"`
}

// PlanSource is another repository that something of the plan came from, resolved
// once by the action lock.
type PlanSource struct {
	Repository string `json:"repository"` // owner/name
	URL        string `json:"url"`        // where it was locked from, for people and provenance
	Ref        string `json:"ref"`        // as written: a tag, a branch, a commit
	Commit     string `json:"commit"`     // what the lock resolved it to
	Digest     Digest `json:"digest"`     // of the tree as the yard gets it
}

// PlanRules are what the protected branch declared when the plan was made: who may
// enter environments, which jobs that name one obey, and what every job may reach.
type PlanRules struct {
	Commit       string                `json:"commit"` // of the protected branch
	Environments []PlanEnvironmentRule `json:"environments,omitempty"`
	// Audiences are those of jobs whose environment names none; nil: nobody declared any.
	Audiences Audiences `json:"audiences,omitzero"`
	// Egress has the installation's level when the project declares none. Nil, in plans of old: none.
	Egress *EgressRules `json:"egress,omitempty"`
	// Broken says why the rules of environments cannot be read; no job may enter one then.
	Broken string `json:"broken,omitempty"`
}

// PlanEnvironmentRule says who may enter an environment.
type PlanEnvironmentRule struct {
	Name string `json:"name"`
	EntryRules
	Audiences Audiences `json:"audiences,omitzero"`
}

// PlanStrategy is a job's strategy. Cells is the matrix expanded (one JSON
// object a cell, keys in the order of the file) when it depends on nothing that is only
// known later; else Dynamic is set and Matrix is expanded when the job's needs
// are complete. No matrix: no cells, not dynamic.
type PlanStrategy struct {
	Matrix      Tree              `json:"matrix,omitzero"`
	Cells       []json.RawMessage `json:"cells,omitempty"`
	Dynamic     bool              `json:"dynamic,omitempty"`
	FailFast    Template          `json:"fail_fast,omitzero"` // default true
	MaxParallel Template          `json:"max_parallel,omitzero"`
}

// PlanStep is one step of a job or of a composite action.
type PlanStep struct {
	Pos              Pos      `json:"pos"`
	ID               string   `json:"id,omitempty"`
	Name             Template `json:"name,omitzero"`
	If               Template `json:"if,omitzero"`
	Uses             string   `json:"uses,omitempty"` // key of Plan.Actions
	With             Tree     `json:"with,omitzero"`
	Run              Template `json:"run,omitzero"`
	Shell            Template `json:"shell,omitzero"`
	WorkingDirectory Template `json:"working_directory,omitzero"`
	Env              Tree     `json:"env,omitzero"`
	ContinueOnError  Template `json:"continue_on_error,omitzero"`
	TimeoutMinutes   Template `json:"timeout_minutes,omitzero"`

	// Steps beside others. Background starts the step and goes on; the other four
	// make the step a join, a stop or a group, which has neither Run nor Uses.
	Background bool       `json:"background,omitempty"`
	Wait       []string   `json:"wait,omitempty"` // ids of background steps
	WaitAll    bool       `json:"wait_all,omitempty"`
	Cancel     string     `json:"cancel,omitempty"`   // id of a background step
	Parallel   []PlanStep `json:"parallel,omitempty"` // all at once, then wait for them
}

// ActionKind says how an action runs.
type ActionKind string

const (
	ActionIntrinsic ActionKind = "intrinsic" // by the runner itself: checkout, upload-artifact, …
	ActionComposite ActionKind = "composite"
	ActionNode      ActionKind = "node"      // JavaScript: Pre, Main, Post
	ActionContainer ActionKind = "container" // a prebuilt image: Image, Entrypoint, Args
	ActionWorkspace ActionKind = "workspace" // none at this commit: what lies at Path in the workspace by then
)

// PlanAction is an action that steps use, as it was at plan time.
type PlanAction struct {
	Kind    ActionKind   `json:"kind"`
	Name    string       `json:"name"`             // of an intrinsic: "actions/checkout"; else the action's name
	Path    string       `json:"path,omitempty"`   // its directory in the repository it came from
	Source  *PlanSource  `json:"source,omitempty"` // nil: this repository
	Digest  Digest       `json:"digest,omitempty"` // of its metadata file
	Inputs  []PlanInput  `json:"inputs,omitempty"`
	Outputs []PlanOutput `json:"outputs,omitempty"`
	Steps   []PlanStep   `json:"steps,omitempty"` // composite

	Using  string `json:"using,omitempty"` // node: node20, node24
	Pre    string `json:"pre,omitempty"`   // files relative to Path
	PreIf  string `json:"pre_if,omitempty"`
	Main   string `json:"main,omitempty"`
	Post   string `json:"post,omitempty"`
	PostIf string `json:"post_if,omitempty"`

	Image          string     `json:"image,omitempty"` // container: a reference without docker://
	Entrypoint     string     `json:"entrypoint,omitempty"`
	PreEntrypoint  string     `json:"pre_entrypoint,omitempty"`
	PostEntrypoint string     `json:"post_entrypoint,omitempty"`
	Args           []Template `json:"args,omitempty"`
	Env            Tree       `json:"env,omitzero"`
}

// PlanInput is an input that an action or a reusable workflow declares.
type PlanInput struct {
	Name       string   `json:"name"`
	Type       string   `json:"type,omitempty"` // of a reusable workflow: string, boolean, number
	Required   bool     `json:"required,omitempty"`
	Default    Template `json:"default,omitzero"`
	Deprecated string   `json:"deprecated,omitempty"` // why it should not be used any more
}

// PlanOutput is an output that a composite action or a reusable workflow declares.
type PlanOutput struct {
	Name  string   `json:"name"`
	Value Template `json:"value"`
}

// Job returns the job with the given key, nil if there is none.
func (p *Plan) Job(key string) *PlanJob {
	for i := range p.Jobs {
		if p.Jobs[i].Key == key {
			return &p.Jobs[i]
		}
	}
	return nil
}

// Encode returns the plan's canonical encoding and its digest.
func (p *Plan) Encode() ([]byte, Digest, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, "", err
	}
	return b, DigestOf(b), nil
}
