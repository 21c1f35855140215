package sqlstore

import "github.com/sallyport-ci/sallyport"

const jobColumns = "id, run, key, cell, name, matrix, needs, labels, status, conclusion, cause, attempt, runner, outputs," +
	" expanded, cancel, lent, tolerated, grp, isolation, steps, created_at, started_at, finished_at, tainted"

const (
	jobInsert = "INSERT INTO jobs (" + jobColumns + ", position) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14," +
		" $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, (SELECT COALESCE(MAX(position), -1) + 1 FROM jobs WHERE run = $2)) ON CONFLICT DO NOTHING"
	jobGet    = "SELECT " + jobColumns + " FROM jobs WHERE id = $1"
	jobStatus = "SELECT status FROM jobs WHERE id = $1"
	jobUpdate = "UPDATE jobs SET name = $2, matrix = $3, needs = $4, labels = $5, status = $6, conclusion = $7, cause = $8, attempt = $9, runner = $10," +
		" outputs = $11, expanded = $12, cancel = $13, lent = $14, tolerated = $15, grp = $16, isolation = $17, steps = $18," +
		" started_at = $19, finished_at = $20, tainted = $21 WHERE id = $1"
	jobByRun   = "SELECT " + jobColumns + " FROM jobs WHERE run = $1 ORDER BY position"
	jobInGroup = "SELECT " + jobColumnsOf + " FROM jobs JOIN runs ON runs.id = jobs.run WHERE jobs.grp = $2 AND jobs.grp <> ''" +
		" AND jobs.status <> 'completed' AND runs.project = $1 ORDER BY jobs.created_at, runs.number, jobs.position"
	jobColumnsOf = "jobs.id, jobs.run, jobs.key, jobs.cell, jobs.name, jobs.matrix, jobs.needs, jobs.labels, jobs.status, jobs.conclusion, jobs.cause," +
		" jobs.attempt, jobs.runner, jobs.outputs, jobs.expanded, jobs.cancel, jobs.lent, jobs.tolerated, jobs.grp, jobs.isolation, jobs.steps, jobs.created_at, jobs.started_at, jobs.finished_at, jobs.tainted"
)

func scanJob(r scanner) (j sallyport.Job, err error) {
	err = r.Scan(&j.ID, &j.Run, &j.Key, &j.Index, &j.Name, verbatim{&j.Matrix}, fromJSON{&j.Needs}, fromJSON{&j.Labels}, &j.Status, &j.Conclusion, &j.Cause,
		&j.Attempt, &j.Runner, fromJSON{&j.Outputs}, &j.Expanded, &j.Cancel, &j.Lent, &j.Tolerated, &j.Group, fromJSON{&j.Isolation}, fromJSON{&j.Steps},
		stamp{&j.CreatedAt}, stamp{&j.StartedAt}, stamp{&j.FinishedAt}, fromJSON{&j.Tainted})
	return j, err
}

func (t jobs) Insert(j sallyport.Job) error {
	return t.insert("job", jobInsert, j.ID, j.Run, j.Key, j.Index, j.Name, string(j.Matrix), asJSON(j.Needs), asJSON(j.Labels), j.Status, j.Conclusion, j.Cause,
		j.Attempt, j.Runner, asJSON(j.Outputs), j.Expanded, j.Cancel, j.Lent, j.Tolerated, j.Group, asJSON(j.Isolation), asJSON(j.Steps),
		micros(j.CreatedAt), micros(j.StartedAt), micros(j.FinishedAt), asJSON(j.Tainted))
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
		asJSON(j.Outputs), j.Expanded, j.Cancel, j.Lent, j.Tolerated, j.Group, asJSON(j.Isolation), asJSON(j.Steps), micros(j.StartedAt), micros(j.FinishedAt), asJSON(j.Tainted))
}

func (t jobs) ByRun(id sallyport.RunID) ([]sallyport.Job, error) {
	return many(t.tx, scanJob, jobByRun, id)
}

func (t jobs) InGroup(p sallyport.ProjectID, group string) ([]sallyport.Job, error) {
	return many(t.tx, scanJob, jobInGroup, p, group)
}
