package sqlstore

import "github.com/sallyport-ci/sallyport"

const pushColumns = "id, project, event, action, ref, before_commit, commit_id, actor, tier, key, at, payload, inputs"

const (
	pushInsert  = "INSERT INTO pushes (" + pushColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING"
	pushGet     = "SELECT " + pushColumns + " FROM pushes WHERE id = $1"
	pushBetween = "SELECT " + pushColumns + " FROM pushes WHERE project = $1 AND id > $2 AND id <= $3 AND event = 'push' ORDER BY id DESC LIMIT $4"
	pushByKey   = "SELECT " + pushColumns + " FROM pushes WHERE project = $1 AND key = $2"
)

func scanPush(r scanner) (p sallyport.Push, err error) {
	err = r.Scan(&p.ID, &p.Project, &p.Event, &p.Action, &p.Ref, &p.Before, &p.Commit, fromJSON{&p.Actor}, &p.Tier, &p.Key,
		stamp{&p.At}, &p.Payload, &p.Inputs)
	return p, err
}

func (t pushes) Insert(p sallyport.Push) error {
	return t.insert("push", pushInsert, p.ID, p.Project, p.Event, p.Action, p.Ref, p.Before, p.Commit, asJSON(p.Actor), p.Tier, p.Key,
		micros(p.At), blob(p.Payload), blob(p.Inputs))
}

func (t pushes) Get(id sallyport.PushID) (sallyport.Push, error) {
	return one(t.tx, "push", scanPush, pushGet, id)
}

func (t pushes) ByKey(p sallyport.ProjectID, key string) (sallyport.Push, error) {
	return one(t.tx, "push", scanPush, pushByKey, p, key)
}

func (t pushes) Between(p sallyport.ProjectID, after, upto sallyport.PushID, limit int) ([]sallyport.Push, error) {
	return many(t.tx, scanPush, pushBetween, p, after, upto, limit)
}
