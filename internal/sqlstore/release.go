package sqlstore

import "github.com/sallyport-ci/sallyport"

const releaseColumns = "id, project, run, artifact, artifact_id, digest, commit_id, verdict, created_at"

const (
	releaseInsert = "INSERT INTO releases (" + releaseColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"
	releaseGet    = "SELECT " + releaseColumns + " FROM releases WHERE id = $1"
	releaseList   = "SELECT " + releaseColumns + " FROM releases WHERE project = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
)

func scanRelease(r scanner) (v sallyport.Release, err error) {
	err = r.Scan(&v.ID, &v.Project, &v.Run, &v.Artifact, &v.ArtifactID, &v.Digest, &v.Commit, &v.Verdict, stamp{&v.CreatedAt})
	return v, err
}

func (t releases) Insert(r sallyport.Release) error {
	return t.insert("release", releaseInsert, r.ID, r.Project, r.Run, r.Artifact, r.ArtifactID, r.Digest, r.Commit, r.Verdict, micros(r.CreatedAt))
}

func (t releases) Get(id sallyport.ReleaseID) (sallyport.Release, error) {
	return one(t.tx, "release", scanRelease, releaseGet, id)
}

func (t releases) List(p sallyport.ProjectID, pg sallyport.Page) ([]sallyport.Release, error) {
	before, limit := page(pg)
	return many(t.tx, scanRelease, releaseList, p, before, limit)
}

const deploymentColumns = "id, project, environment, release, digest, commit_id, number, state, cause, rollback_of, actor, weight, spec," +
	" created_at, started_at, finished_at"

const (
	deploymentInsert = "INSERT INTO deployments (" + deploymentColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)" +
		" ON CONFLICT DO NOTHING"
	deploymentGet    = "SELECT " + deploymentColumns + " FROM deployments WHERE id = $1"
	deploymentState  = "SELECT state FROM deployments WHERE id = $1"
	deploymentUpdate = "UPDATE deployments SET release = $2, digest = $3, commit_id = $4, state = $5, cause = $6, rollback_of = $7, actor = $8, weight = $9," +
		" spec = $10, started_at = $11, finished_at = $12 WHERE id = $1"
	deploymentList       = "SELECT " + deploymentColumns + " FROM deployments"
	deploymentNewest     = " ORDER BY id DESC LIMIT $?"
	deploymentUnfinished = "SELECT " + deploymentColumns + " FROM deployments WHERE state IN ('pending', 'applying', 'watching') ORDER BY created_at, id"
)

func scanDeployment(r scanner) (d sallyport.Deployment, err error) {
	err = r.Scan(&d.ID, &d.Project, &d.Environment, &d.Release, &d.Digest, &d.Commit, &d.Number, &d.State, &d.Cause, &d.RollbackOf, &d.Actor, &d.Weight,
		fromJSON{&d.Spec}, stamp{&d.CreatedAt}, stamp{&d.StartedAt}, stamp{&d.FinishedAt})
	return d, err
}

func (t deployments) Insert(d sallyport.Deployment) error {
	return t.insert("deployment", deploymentInsert, d.ID, d.Project, d.Environment, d.Release, d.Digest, d.Commit, d.Number, d.State, d.Cause, d.RollbackOf,
		d.Actor, d.Weight, asJSON(d.Spec), micros(d.CreatedAt), micros(d.StartedAt), micros(d.FinishedAt))
}

func (t deployments) Get(id sallyport.DeploymentID) (sallyport.Deployment, error) {
	return one(t.tx, "deployment", scanDeployment, deploymentGet, id)
}

// Save keeps id, project, environment, number and created_at. It refuses a
// deployment whose kept state cannot become the new one: it was changed since
// the caller loaded it.
func (t deployments) Save(d sallyport.Deployment) error {
	kept, err := one(t.tx, "deployment", scanText, deploymentState, d.ID)
	if err != nil {
		return err
	}
	if now := sallyport.DeploymentState(kept); now != d.State && !now.CanBecome(d.State) {
		return sallyport.Errorf(sallyport.CodeConflict, "the deployment is %s and cannot become %s", now, d.State)
	}
	return t.change("deployment", deploymentUpdate, d.ID, d.Release, d.Digest, d.Commit, d.State, d.Cause, d.RollbackOf, d.Actor, d.Weight,
		asJSON(d.Spec), micros(d.StartedAt), micros(d.FinishedAt))
}

func (t deployments) List(p sallyport.ProjectID, environment string, pg sallyport.Page) ([]sallyport.Deployment, error) {
	before, limit := page(pg)
	var w filter
	w.and("project = $?", p)
	if environment != "" {
		w.and("environment = $?", environment)
	}
	w.and("id < $?", before)
	query, args := w.query(deploymentList, deploymentNewest, limit)
	return many(t.tx, scanDeployment, query, args...)
}

func (t deployments) Unfinished() ([]sallyport.Deployment, error) {
	return many(t.tx, scanDeployment, deploymentUnfinished)
}
