package sqlstore

import "github.com/sallyport-ci/sallyport"

const (
	rotationRulePut = "INSERT INTO rotation_rules (project, environment, name, rule, admin) VALUES ($1, $2, $3, $4, $5) " +
		"ON CONFLICT (project, environment, name) DO UPDATE SET rule = excluded.rule, admin = excluded.admin"
	rotationRuleGet    = "SELECT rule, admin FROM rotation_rules WHERE project = $1 AND environment = $2 AND name = $3"
	rotationRuleList   = "SELECT rule, '' FROM rotation_rules WHERE project = $1 ORDER BY name, environment"
	rotationRuleDelete = "DELETE FROM rotation_rules WHERE project = $1 AND environment = $2 AND name = $3"

	rotationInsert = "INSERT INTO rotations (id, project, environment, name, seq, ended, rotation, old_sealed, new_sealed) VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8) ON CONFLICT DO NOTHING"
	rotationSave   = "UPDATE rotations SET seq = seq + 1, ended = $3, rotation = $4, new_sealed = $5 WHERE id = $1 AND seq = $2"
	rotationWipe   = "UPDATE rotations SET old_sealed = $2, new_sealed = $2 WHERE id = $1"
	rotationLast   = "SELECT seq, rotation, old_sealed, new_sealed FROM rotations WHERE project = $1 AND environment = $2 AND name = $3 ORDER BY ended, id DESC LIMIT 1"
)

type rotationRule struct {
	rule  sallyport.RotationRule
	admin []byte
}

func scanRotationRule(s scanner) (r rotationRule, err error) {
	err = s.Scan(fromJSON{&r.rule}, &r.admin)
	return r, err
}

func (t rotations) PutRule(r sallyport.RotationRule, admin []byte) error {
	_, err := t.exec(rotationRulePut, r.Project, r.Environment, r.Name, asJSON(r), blob(admin))
	return err
}

func (t rotations) Rule(p sallyport.ProjectID, environment, name string) (sallyport.RotationRule, []byte, error) {
	r, err := one(t.tx, "rotation rule", scanRotationRule, rotationRuleGet, p, environment, name)
	return r.rule, r.admin, err
}

func (t rotations) Rules(p sallyport.ProjectID) ([]sallyport.RotationRule, error) {
	return many(t.tx, func(s scanner) (sallyport.RotationRule, error) {
		r, err := scanRotationRule(s)
		return r.rule, err
	}, rotationRuleList, p)
}

func (t rotations) DeleteRule(p sallyport.ProjectID, environment, name string) error {
	return t.change("rotation rule", rotationRuleDelete, p, environment, name)
}

func (t rotations) Insert(r sallyport.Rotation, old []byte) error {
	return t.insert("rotation", rotationInsert, r.ID, r.Project, r.Environment, r.Name, r.State.Ended(), asJSON(r), blob(old), blob(nil))
}

func (t rotations) Save(r *sallyport.Rotation, staged []byte) error {
	n, err := t.exec(rotationSave, r.ID, r.Seq, r.State.Ended(), asJSON(*r), blob(staged))
	if err != nil {
		return err
	}
	if n == 0 {
		return sallyport.Errorf(sallyport.CodeConflict, "the rotation was changed meanwhile")
	}
	r.Seq++
	if r.State.Ended() {
		_, err = t.exec(rotationWipe, r.ID, blob(nil))
	}
	return err
}

func (t rotations) Last(p sallyport.ProjectID, environment, name string) (sallyport.Rotation, []byte, []byte, error) {
	type row struct {
		r           sallyport.Rotation
		old, staged []byte
	}
	got, err := one(t.tx, "rotation", func(s scanner) (v row, err error) {
		err = s.Scan(&v.r.Seq, fromJSON{&v.r}, &v.old, &v.staged)
		return v, err
	}, rotationLast, p, environment, name)
	return got.r, got.old, got.staged, err
}
