package sqlstore

import "github.com/sallyport-ci/sallyport"

const projectColumns = "id, name, default_branch, created_at"

const (
	projectInsert = "INSERT INTO projects (" + projectColumns + ") VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
	projectGet    = "SELECT " + projectColumns + " FROM projects WHERE id = $1"
	projectByName = "SELECT " + projectColumns + " FROM projects WHERE name = $1"
	projectList   = "SELECT " + projectColumns + " FROM projects ORDER BY name"
	refSet        = "INSERT INTO refs (project, name, commit_id) VALUES ($1, $2, $3) ON CONFLICT (project, name) DO UPDATE SET commit_id = excluded.commit_id"
	refForget     = "DELETE FROM refs WHERE project = $1 AND name = $2"
	refList       = "SELECT name, commit_id FROM refs WHERE project = $1"
	seriesNext    = "INSERT INTO series (project, name, last) VALUES ($1, $2, 1) ON CONFLICT (project, name) DO UPDATE SET last = series.last + 1 RETURNING last"
)

func scanProject(r scanner) (p sallyport.Project, err error) {
	err = r.Scan(&p.ID, &p.Name, &p.DefaultBranch, stamp{&p.CreatedAt})
	return p, err
}

func (t projects) Insert(p sallyport.Project) error {
	return t.insert("project", projectInsert, p.ID, p.Name, p.DefaultBranch, micros(p.CreatedAt))
}

func (t projects) Get(id sallyport.ProjectID) (sallyport.Project, error) {
	return one(t.tx, "project", scanProject, projectGet, id)
}

func (t projects) ByName(name string) (sallyport.Project, error) {
	return one(t.tx, "project", scanProject, projectByName, name)
}

func (t projects) List() ([]sallyport.Project, error) { return many(t.tx, scanProject, projectList) }

func (t projects) SetRef(p sallyport.ProjectID, ref, commit string) error {
	if commit == "" {
		_, err := t.exec(refForget, p, ref)
		return err
	}
	_, err := t.exec(refSet, p, ref, commit)
	return err
}

func (t projects) Refs(p sallyport.ProjectID) (map[string]string, error) {
	type ref struct{ name, commit string }
	list, err := many(t.tx, func(r scanner) (v ref, err error) {
		err = r.Scan(&v.name, &v.commit)
		return v, err
	}, refList, p)
	if err != nil {
		return nil, err
	}
	refs := make(map[string]string, len(list))
	for _, r := range list {
		refs[r.name] = r.commit
	}
	return refs, nil
}

func (t projects) NextNumber(p sallyport.ProjectID, series string) (int64, error) {
	n, err := changed(t.tx, scanInt, seriesNext, p, series)
	if err != nil {
		return 0, err
	}
	return n[0], nil
}
