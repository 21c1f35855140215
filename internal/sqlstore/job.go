package sqlstore

import "github.com/sallyport-ci/sallyport"

const (
	jobHead = "id, run, parent, key, cell, name, matrix, needs, labels, status, conclusion, cause, attempt, runner, outputs," +
		" expanded, cancel, lent, tolerated, uses, inputs, tainted_inputs, grp, call_grp, ready_at, admitted, environment," +
		" created_at, started_at, finished_at, tainted, trace"
	jobColumns = jobHead + ", isolation, steps"
	jobOutline = jobHead + ", 'null', 'null'"
)

const (
	jobInsert = "INSERT INTO jobs (" + jobColumns + ", position) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14," +
		" $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34," +
		" (SELECT COALESCE(MAX(position), -1) + 1 FROM jobs WHERE run = $2)) ON CONFLICT DO NOTHING"
	jobGet    = "SELECT " + jobColumns + " FROM jobs WHERE id = $1"
	jobStatus = "SELECT status FROM jobs WHERE id = $1"
	jobUpdate = "UPDATE jobs SET name = $2, matrix = $3, needs = $4, labels = $5, status = $6, conclusion = $7, cause = $8, attempt = $9, runner = $10," +
		" outputs = $11, expanded = $12, cancel = $13, lent = $14, tolerated = $15, uses = $16, inputs = $17, tainted_inputs = $18, grp = $19," +
		" call_grp = $20, ready_at = $21, admitted = $22, environment = $23, started_at = $24, finished_at = $25, tainted = $26, trace = $27 WHERE id = $1"
	jobReport     = "UPDATE jobs SET steps = $2, isolation = $3 WHERE id = $1"
	jobByRun      = "SELECT " + jobColumns + " FROM jobs WHERE run = $1 ORDER BY position"
	jobOutlineOf  = "SELECT " + jobOutline + " FROM jobs WHERE run = $1 ORDER BY position"
	jobUnfinished = " AND status <> 'completed' AND run IN (SELECT id FROM runs WHERE project = $1)"
	// Each of the two conditions has an index of its own.
	jobInGroup = "SELECT " + jobOutline + " FROM jobs WHERE (grp = $2 AND grp <> ''" + jobUnfinished + ") OR (call_grp = $2 AND call_grp <> ''" + jobUnfinished + ")" +
		" ORDER BY created_at, (SELECT number FROM runs WHERE runs.id = jobs.run), position"
)

func scanJob(r scanner) (j sallyport.Job, err error) {
	err = r.Scan(&j.ID, &j.Run, &j.Parent, &j.Key, &j.Index, &j.Name, verbatim{&j.Matrix}, fromJSON{&j.Needs}, fromJSON{&j.Labels}, &j.Status, &j.Conclusion,
		&j.Cause, &j.Attempt, &j.Runner, fromJSON{&j.Outputs}, &j.Expanded, &j.Cancel, &j.Lent, &j.Tolerated, &j.Uses, verbatim{&j.Inputs},
		fromJSON{&j.TaintedInputs}, &j.Group, &j.CallGroup, stamp{&j.ReadyAt}, &j.Admitted, fromJSON{&j.Environment},
		stamp{&j.CreatedAt}, stamp{&j.StartedAt}, stamp{&j.FinishedAt}, fromJSON{&j.Tainted}, &j.Trace, fromJSON{&j.Isolation}, fromJSON{&j.Steps})
	return j, err
}

func (t jobs) Insert(j sallyport.Job) error {
	return t.insert("job", jobInsert, j.ID, j.Run, j.Parent, j.Key, j.Index, j.Name, string(j.Matrix), asJSON(j.Needs), asJSON(j.Labels), j.Status, j.Conclusion,
		j.Cause, j.Attempt, j.Runner, asJSON(j.Outputs), j.Expanded, j.Cancel, j.Lent, j.Tolerated, j.Uses, string(j.Inputs),
		asJSON(j.TaintedInputs), j.Group, j.CallGroup, micros(j.ReadyAt), j.Admitted, asJSON(j.Environment),
		micros(j.CreatedAt), micros(j.StartedAt), micros(j.FinishedAt), asJSON(j.Tainted), j.Trace, asJSON(j.Isolation), asJSON(j.Steps))
}

func (t jobs) Get(id sallyport.JobID) (sallyport.Job, error) {
	return one(t.tx, "job", scanJob, jobGet, id)
}

// Save refuses a job whose kept status cannot become the new one: it was
// changed since the caller loaded it.
func (t jobs) Save(j sallyport.Job) error {
	if err := t.mayBecome("job", jobStatus, j.ID, j.Status); err != nil {
		return err
	}
	return t.change("job", jobUpdate, j.ID, j.Name, string(j.Matrix), asJSON(j.Needs), asJSON(j.Labels), j.Status, j.Conclusion, j.Cause, j.Attempt, j.Runner,
		asJSON(j.Outputs), j.Expanded, j.Cancel, j.Lent, j.Tolerated, j.Uses, string(j.Inputs), asJSON(j.TaintedInputs), j.Group,
		j.CallGroup, micros(j.ReadyAt), j.Admitted, asJSON(j.Environment), micros(j.StartedAt), micros(j.FinishedAt), asJSON(j.Tainted), j.Trace)
}

func (t jobs) Report(id sallyport.JobID, steps []sallyport.Step, i *sallyport.Isolation) error {
	return t.change("job", jobReport, id, asJSON(steps), asJSON(i))
}

func (t jobs) ByRun(id sallyport.RunID) ([]sallyport.Job, error) {
	return many(t.tx, scanJob, jobByRun, id)
}

func (t jobs) Outline(id sallyport.RunID) ([]sallyport.Job, error) {
	return many(t.tx, scanJob, jobOutlineOf, id)
}

func (t jobs) InGroup(p sallyport.ProjectID, group string) ([]sallyport.Job, error) {
	return many(t.tx, scanJob, jobInGroup, p, group)
}
