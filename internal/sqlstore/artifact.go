package sqlstore

import "github.com/sallyport-ci/sallyport"

const artifactColumns = "id, project, run, job, name, filename, media_type, digest, size, tier, created_at, files"

const (
	artifactInsert   = "INSERT INTO artifacts (" + artifactColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING"
	artifactGet      = "SELECT " + artifactColumns + " FROM artifacts WHERE id = $1"
	artifactByRun    = "SELECT " + artifactColumns + " FROM artifacts WHERE run = $1 ORDER BY name"
	artifactFind     = "SELECT " + artifactColumns + " FROM artifacts WHERE run = $1 AND name = $2"
	artifactByDigest = "SELECT " + artifactColumns + " FROM artifacts WHERE project = $1 AND digest = $2 ORDER BY created_at, id"
	artifactList     = "SELECT " + artifactColumns + " FROM artifacts WHERE project = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
	artifactDelete   = "DELETE FROM artifacts WHERE id = $1"
)

func scanArtifact(r scanner) (a sallyport.Artifact, err error) {
	err = r.Scan(&a.ID, &a.Project, &a.Run, &a.Job, &a.Name, &a.Filename, &a.MediaType, &a.Digest, &a.Size, &a.Tier, stamp{&a.CreatedAt}, fromJSON{&a.Files})
	return a, err
}

func (t artifacts) Insert(a sallyport.Artifact) error {
	return t.insert("artifact", artifactInsert, a.ID, a.Project, a.Run, a.Job, a.Name, a.Filename, a.MediaType, a.Digest, a.Size, a.Tier, micros(a.CreatedAt), asJSON(a.Files))
}

func (t artifacts) Get(id sallyport.ArtifactID) (sallyport.Artifact, error) {
	return one(t.tx, "artifact", scanArtifact, artifactGet, id)
}

func (t artifacts) ByRun(id sallyport.RunID) ([]sallyport.Artifact, error) {
	return many(t.tx, scanArtifact, artifactByRun, id)
}

func (t artifacts) Find(run sallyport.RunID, name string) (sallyport.Artifact, error) {
	return one(t.tx, "artifact", scanArtifact, artifactFind, run, name)
}

func (t artifacts) ByDigest(p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Artifact, error) {
	return many(t.tx, scanArtifact, artifactByDigest, p, d)
}

func (t artifacts) List(p sallyport.ProjectID, pg sallyport.Page) ([]sallyport.Artifact, error) {
	before, limit := page(pg)
	return many(t.tx, scanArtifact, artifactList, p, before, limit)
}

func (t artifacts) Delete(id sallyport.ArtifactID) error {
	return t.change("artifact", artifactDelete, id)
}
