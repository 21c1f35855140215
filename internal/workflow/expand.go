package workflow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Timeouts of jobs. GitHub's default is six hours; longer than the longest
// run that GitHub allows makes no sense.
const (
	defaultTimeout = 360 * time.Minute
	maxTimeout     = 35 * 24 * time.Hour
)

// maxJobName is GitHub's limit of a job's generated name.
const maxJobName = 100

// Cell is one instance of a job: one combination of its matrix, or the only
// one of a job without a matrix.
type Cell struct {
	Index    int // from 0, in the order of the matrix
	Name     string
	Matrix   json.RawMessage // the matrix context: an object, or null
	Tainted  bool            // any value of the matrix is
	Strategy json.RawMessage // the strategy context: an object
	Labels   []string        // runs-on; never empty in a job that runs
	Steered  bool            // an untrusted value is part of runs-on
	Timeout  time.Duration
	// Tolerated marks a job whose failure does not fail the run (continue-on-error).
	Tolerated bool
	Concurrency
}

// Concurrency is an evaluated concurrency setting.
type Concurrency struct {
	Group            string // "" for none
	CancelInProgress bool
	Queue            string // "", single or max
}

// Expansion is what becomes of a plan's job when its needs are complete.
type Expansion struct {
	// Run is the result of the job's if. When it is false the job is skipped
	// and there is one cell, with a name and nothing else.
	Run         bool
	Cells       []Cell
	FailFast    bool
	MaxParallel int // 0: no limit
}

// Expand decides whether a job runs and as what. The scope holds github,
// inputs, vars, needs and the status of the needs; it is not changed. An
// error, of type *EvalError where an expression is its cause, means that the
// job fails without having run.
func Expand(p *sallyport.Plan, j *sallyport.PlanJob, s *Scope) (Expansion, error) {
	x := Expansion{FailFast: true}
	var err error
	if x.Run, err = s.Condition(j.If); err != nil {
		return x, err
	}
	if !x.Run {
		x.Cells = []Cell{{Name: skippedName(j)}}
		return x, nil
	}
	if x.FailFast, err = s.Bool(j.Strategy.FailFast, true); err != nil {
		return x, err
	}
	parallel, err := s.Number(j.Strategy.MaxParallel, 0)
	if err != nil {
		return x, err
	}
	x.MaxParallel = max(0, int(min(parallel, maxCells)))
	cells, err := jobCells(j, s)
	if err != nil {
		return x, err
	}
	for i, c := range cells {
		cs := s.Clone()
		matrixValue := Null
		if c.values != nil {
			matrixValue = c.value()
		}
		limit := len(cells)
		if x.MaxParallel > 0 {
			limit = x.MaxParallel
		}
		strategy := Object(
			Entry{"fail-fast", Bool(x.FailFast)},
			Entry{"job-index", Number(float64(i))},
			Entry{"job-total", Number(float64(len(cells)))},
			Entry{"max-parallel", Number(float64(limit))},
		)
		cs.Set("matrix", matrixValue)
		cs.Set("strategy", strategy)
		out := Cell{Index: i, Tainted: matrixValue.Tainted()}
		out.Matrix, _ = matrixValue.MarshalJSON() // never fails
		out.Strategy, _ = strategy.MarshalJSON()
		if err := out.evaluate(j, c, cs); err != nil {
			return x, err
		}
		x.Cells = append(x.Cells, out)
	}
	if len(p.Only) > 0 {
		x.Cells = narrow(x.Cells, p.Only)
	}
	return x, nil
}

// jobCells returns the cells of a job's matrix, or one without values.
func jobCells(j *sallyport.PlanJob, s *Scope) ([]cell, error) {
	if j.Strategy.Matrix.IsZero() {
		return []cell{{}}, nil
	}
	if !j.Strategy.Dynamic && len(j.Strategy.Cells) == 0 {
		return nil, fmt.Errorf("the plan of job %q has a matrix without cells", j.Key)
	}
	// The tree is evaluated again for a matrix that was known at plan time:
	// unlike the cells of the plan it tells which values name the job.
	return matrixCells(j.Strategy.Matrix, s)
}

func (c *Cell) evaluate(j *sallyport.PlanJob, m cell, s *Scope) error {
	var err error
	if c.Name, err = jobName(j, m, s); err != nil {
		return err
	}
	if j.Call == nil { // the jobs that are called have runners
		if c.Labels, c.Steered, err = labels(j, s); err != nil {
			return err
		}
	}
	minutes, err := s.Number(j.TimeoutMinutes, defaultTimeout.Minutes())
	if err != nil {
		return err
	}
	if !(minutes > 0) {
		return &EvalError{Pos: j.TimeoutMinutes.Pos, Expr: j.TimeoutMinutes.Text, Message: fmt.Sprintf("timeout-minutes must be greater than 0, not %s", formatNumber(minutes))}
	}
	c.Timeout = time.Duration(min(minutes, maxTimeout.Minutes()) * float64(time.Minute))
	if c.Tolerated, err = s.Bool(j.ContinueOnError, false); err != nil {
		return err
	}
	c.Concurrency, err = s.Concurrency(j.Concurrency)
	return err
}

// Concurrency evaluates a concurrency setting; that of none has no group.
func (s *Scope) Concurrency(c *sallyport.PlanConcurrency) (out Concurrency, err error) {
	if c == nil {
		return out, nil
	}
	if out.Group, _, err = s.Text(c.Group); err != nil {
		return out, err
	}
	if out.CancelInProgress, err = s.Bool(c.CancelInProgress, false); err != nil {
		return out, err
	}
	out.Queue = c.Queue
	if !c.QueueExpr.IsZero() {
		if out.Queue, _, err = s.Text(c.QueueExpr); err != nil {
			return out, err
		}
	}
	if out.Queue != "" && !slices.Contains(queueValues, out.Queue) {
		return out, &EvalError{Pos: c.QueueExpr.Pos, Expr: c.QueueExpr.Text, Message: "concurrency.queue must be " + strings.Join(queueValues, " or ") + ", not " + quote(out.Queue)}
	}
	return out, nil
}

// jobName names one instance of a job. A name that is an expression is taken
// as it comes; to another, or the job's id, the matrix values are added.
func jobName(j *sallyport.PlanJob, m cell, s *Scope) (string, error) {
	if isExpr(j.Name.Text) {
		name, _, err := s.Text(j.Name)
		if err != nil || name != "" {
			return shorten(name), err
		}
	}
	name := j.Name.Text
	if name == "" || isExpr(name) {
		name = j.Key
	}
	if m.values != nil {
		if segments := m.segments(); len(segments) > 0 {
			name += " (" + strings.Join(segments, ", ") + ")"
		}
	}
	return shorten(name), nil
}

// skippedName names a job that is skipped before its matrix is known.
func skippedName(j *sallyport.PlanJob) string {
	if j.Name.Text == "" || isExpr(j.Name.Text) {
		return j.Key
	}
	return shorten(j.Name.Text)
}

func shorten(name string) string {
	if utf8.RuneCountInString(name) <= maxJobName {
		return name
	}
	return string([]rune(name)[:maxJobName-len("...")]) + "..."
}

// labels evaluates runs-on: a label, a sequence of labels, or a mapping with
// group and labels. steered says that an untrusted value is among them.
func labels(j *sallyport.PlanJob, s *Scope) (out []string, steered bool, err error) {
	v, err := s.Tree(j.RunsOn)
	if err != nil {
		return nil, false, err
	}
	fail := func(msg string) ([]string, bool, error) {
		return nil, false, &EvalError{Pos: j.RunsOn.Pos, Expr: j.RunsOn.Text, Message: msg}
	}
	if v.Kind() == KindObject {
		if v, _ = v.Get("labels"); v.Kind() == KindNull {
			return fail("runs-on names a group and no labels: runner groups are not supported, add labels")
		}
	}
	items := v.Items()
	if primitive(v) && v.Kind() != KindNull {
		items = []Value{v}
	}
	for _, x := range items {
		if !primitive(x) || strings.TrimSpace(x.String()) == "" {
			return fail(fmt.Sprintf("runs-on must be labels, not %s %s", article(x.Kind()), quote(x.String())))
		}
		out, steered = append(out, x.String()), steered || x.Tainted()
	}
	if len(out) == 0 {
		return fail("runs-on names no runner: its value is empty")
	}
	return out, steered || v.Tainted(), nil
}
