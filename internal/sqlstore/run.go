package sqlstore

import "github.com/sallyport-ci/sallyport"

const runColumns = "id, project, push, number, workflow, name, title, event, ref, commit_id, tier, actor, plan_digest," +
	" status, conclusion, cause, cancel, grp, cancel_in_progress, created_at, started_at, finished_at"

const (
	runInsert = "INSERT INTO runs (" + runColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13," +
		" $14, $15, $16, $17, $18, $19, $20, $21, $22) ON CONFLICT DO NOTHING"
	runGet      = "SELECT " + runColumns + " FROM runs WHERE id = $1"
	runByNumber = "SELECT " + runColumns + " FROM runs WHERE project = $1 AND number = $2"
	runStatus   = "SELECT status FROM runs WHERE id = $1"
	runUpdate   = "UPDATE runs SET workflow = $2, name = $3, title = $4, event = $5, ref = $6, commit_id = $7, tier = $8, actor = $9, plan_digest = $10," +
		" status = $11, conclusion = $12, cause = $13, cancel = $14, grp = $15, cancel_in_progress = $16, started_at = $17, finished_at = $18 WHERE id = $1"
	runList       = "SELECT " + runColumns + " FROM runs"
	runNewest     = " ORDER BY id DESC LIMIT $?"
	runInGroup    = "SELECT " + runColumns + " FROM runs WHERE project = $1 AND grp = $2 AND status <> 'completed' ORDER BY number"
	runUnfinished = "SELECT " + runColumns + " FROM runs WHERE status <> 'completed' ORDER BY created_at, id"
	planInsert    = "INSERT INTO plans (run, plan) VALUES ($1, $2) ON CONFLICT DO NOTHING"
	planGet       = "SELECT plan FROM plans WHERE run = $1"
)

func scanRun(r scanner) (v sallyport.Run, err error) {
	err = r.Scan(&v.ID, &v.Project, &v.Push, &v.Number, &v.Workflow, &v.Name, &v.Title, &v.Event, &v.Ref, &v.Commit, &v.Tier, &v.Actor, &v.PlanDigest,
		&v.Status, &v.Conclusion, &v.Cause, &v.Cancel, &v.Group, &v.CancelInProgress, stamp{&v.CreatedAt}, stamp{&v.StartedAt}, stamp{&v.FinishedAt})
	return v, err
}

func (t runs) Insert(r sallyport.Run, plan []byte) error {
	err := t.insert("run", runInsert, r.ID, r.Project, r.Push, r.Number, r.Workflow, r.Name, r.Title, r.Event, r.Ref, r.Commit, r.Tier, r.Actor, r.PlanDigest,
		r.Status, r.Conclusion, r.Cause, r.Cancel, r.Group, r.CancelInProgress, micros(r.CreatedAt), micros(r.StartedAt), micros(r.FinishedAt))
	if err != nil {
		return err
	}
	return t.insert("plan", planInsert, r.ID, blob(plan))
}

func (t runs) Get(id sallyport.RunID) (sallyport.Run, error) {
	return one(t.tx, "run", scanRun, runGet, id)
}

func (t runs) ByNumber(p sallyport.ProjectID, number int64) (sallyport.Run, error) {
	return one(t.tx, "run", scanRun, runByNumber, p, number)
}

func (t runs) Plan(id sallyport.RunID) ([]byte, error) {
	return one(t.tx, "run", scanBytes, planGet, id)
}

// Save refuses a run whose kept status cannot become the new one: it was
// changed since the caller loaded it.
func (t runs) Save(r sallyport.Run) error {
	if err := t.mayBecome("run", runStatus, r.ID, r.Status); err != nil {
		return err
	}
	return t.change("run", runUpdate, r.ID, r.Workflow, r.Name, r.Title, r.Event, r.Ref, r.Commit, r.Tier, r.Actor, r.PlanDigest,
		r.Status, r.Conclusion, r.Cause, r.Cancel, r.Group, r.CancelInProgress, micros(r.StartedAt), micros(r.FinishedAt))
}

// mayBecome checks the step from the kept status of a run or job to the next.
func (t *tx) mayBecome(what, query string, id any, next sallyport.Status) error {
	kept, err := one(t, what, scanText, query, id)
	if err != nil {
		return err
	}
	if now := sallyport.Status(kept); now != next && !now.CanBecome(next) {
		return sallyport.Errorf(sallyport.CodeConflict, "the %s is %s and cannot become %s", what, now, next)
	}
	return nil
}

func (t runs) List(f sallyport.RunFilter) ([]sallyport.Run, error) {
	before, limit := page(f.Page)
	var w filter
	if f.Project != "" {
		w.and("project = $?", f.Project)
	}
	if f.Push != "" {
		w.and("push = $?", f.Push)
	}
	if f.Status != "" {
		w.and("status = $?", f.Status)
	}
	w.and("id < $?", before)
	query, args := w.query(runList, runNewest, limit)
	return many(t.tx, scanRun, query, args...)
}

func (t runs) InGroup(p sallyport.ProjectID, group string) ([]sallyport.Run, error) {
	return many(t.tx, scanRun, runInGroup, p, group)
}

func (t runs) Unfinished() ([]sallyport.Run, error) { return many(t.tx, scanRun, runUnfinished) }
